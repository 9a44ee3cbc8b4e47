//! However an agent is told to end, what it has not committed is saved on `gastown/wip/<agent>`.

use std::time::Instant;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::failures::{container_pid, send};
use crate::main_job::scripted_town;
use crate::support::agent_server;
use crate::support::case::{Case, Slung, names, rehearsal};
use crate::support::repository::Repository;
use crate::support::scripted_model::ScriptedModel;
use crate::support::server::PATIENCE;

/// A change and a new file, uncommitted, of an agent that answers nobody any more.
const HANGS: &str = "rehearse: write README.md <<Changed.\nrehearse: write docs/new.md <<New.\n\
    rehearse: say ready\nrehearse: hang";

/// The shortest time that agents can be given.
const CUT_OFF_SOON: &[&str] = &["--container-drain-time", "1s"];

/// A bead whose agent has files that it has not committed, and answers nobody.
struct Stuck {
    case: Case,
    bead: Slung,
    name: String,
}

impl Stuck {
    async fn new(arguments: &[&str]) -> Self {
        let arguments = [CUT_OFF_SOON, arguments].concat();
        Self::in_case(Case::rehearsed(&arguments).await, HANGS).await
    }

    async fn in_case(mut case: Case, body: &str) -> Self {
        let bead = case.sling("Never end", body).await;
        case.started(&bead).await;
        let agent = format!("{}/agents/{}", case.rig, bead.agent_id);
        let agent = case.server.get(&agent).await;
        let name = agent["name"].as_str().unwrap().to_owned();
        let stuck = Self { case, bead, name };
        let new = stuck.case.rig_folder().join("worktrees").join(&stuck.name);
        stuck
            .until("its file is there", || new.join("docs/new.md").exists())
            .await;
        stuck
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < limit, "never came true: {what}");
            tokio::task::yield_now().await;
        }
    }

    /// What the reference holds of a file; `None` if there is no such reference.
    fn saved(&self, reference: &str, file: &str) -> Option<String> {
        let shown = std::process::Command::new("git")
            .arg("-C")
            .arg(self.case.rig_folder().join("repo.git"))
            .args(["show", &format!("{reference}:{file}")])
            .output()
            .unwrap();
        let text = String::from_utf8(shown.stdout).unwrap();
        shown.status.success().then_some(text)
    }

    #[track_caller]
    fn expect_saved_in(&self, reference: &str) {
        let saved = |file| self.saved(reference, file);
        assert_eq!(
            saved("docs/new.md").as_deref(),
            Some("New.\n"),
            "{reference}"
        );
        assert_eq!(
            saved("README.md").as_deref(),
            Some("Changed.\n"),
            "{reference}"
        );
    }

    /// Its run ended because it was told to, and its work is saved.
    async fn expect_saved(mut self) -> Self {
        let own = |fact: &Value| fact["agent_id"] == self.bead.agent_id.as_str();
        let exited = self.case.facts.until("agent.exited", own).await;
        assert_eq!(exited["metadata"]["status"], "stopped", "{exited}");
        self.expect_saved_in(&format!("gastown/wip/{}", self.name));
        self
    }

    async fn post(&self, path: &str) {
        self.case.server.post(path, json!({})).await;
    }
}

#[tokio::test]
async fn stop_all_saves_and_so_the_container_may_sleep() {
    let sleep = ["--container-sleep-after", "1s"];
    let stuck = Stuck::new(&sleep).await;
    stuck.post(&format!("{}/stop-all", stuck.case.town)).await;
    let mut stuck = stuck.expect_saved().await;
    // Its bead is still on its hook, but a person holds the town: nothing needs the container.
    stuck.case.facts.until("container.asleep", |_| true).await;
    stuck.expect_saved_in(&format!("gastown/wip/{}", stuck.name));
    stuck.case.end().await;
}

#[tokio::test]
async fn stopping_an_agent_saves_and_what_is_saved_twice_is_saved_once() {
    let stuck = Stuck::new(&[]).await;
    let agent = format!("{}/agents/{}", stuck.case.rig, stuck.bead.agent_id);
    stuck.post(&format!("{agent}/stop")).await;
    let mut stuck = stuck.expect_saved().await;
    stuck.case.end().await;
}

#[tokio::test]
async fn a_container_that_is_told_to_end_cuts_off_who_does_not_answer_and_saves() {
    let stuck = Stuck::new(&[]).await;
    send(container_pid(&stuck.case).await, Signal::TERM);
    let mut stuck = stuck.expect_saved().await;
    stuck.case.end().await;
}

#[tokio::test]
async fn a_server_that_stops_its_containers_leaves_the_work_saved() {
    // The case's server ends its containers with itself.
    let mut stuck = Stuck::new(&["--shutdown-grace", "60s"]).await;
    stuck.case.end().await;
    stuck.expect_saved_in(&format!("gastown/wip/{}", stuck.name));
}

#[tokio::test]
async fn a_container_with_other_walls_takes_over_with_the_work_saved() {
    let walls = ["--isolation", "bubblewrap"];
    let stuck = Stuck::new(&walls).await;
    let (other, next) = (Repository::new(), "Look around");
    let rig = stuck
        .case
        .server
        .rig_named("other", &stuck.case.town, &other.origin())
        .await;
    // The container can't see that repository: another one with other walls follows it.
    let bead = stuck.case.sling_in(&rig, next, "").await;
    let mut stuck = stuck.expect_saved().await;
    stuck.case.expect_closed(&bead).await;
    stuck.case.end().await;
}

#[tokio::test]
async fn deleting_an_agent_archives_what_it_had() {
    let mut stuck = Stuck::new(&[]).await;
    let agent = format!("{}/agents/{}", stuck.case.rig, stuck.bead.agent_id);
    stuck.case.server.must("DELETE", &agent, Value::Null).await;
    let archive = format!("refs/gastown/archive/{}/wip", stuck.bead.agent_id);
    stuck
        .until("it is archived", || {
            stuck.saved(&archive, "docs/new.md").is_some()
        })
        .await;
    stuck.expect_saved_in(&archive);
    stuck.case.end().await;
}

#[tokio::test]
async fn an_agent_that_waits_for_a_person_is_saved_as_well() {
    let case = Case::new(CUT_OFF_SOON, rehearsal()).await;
    let asks = HANGS.replace(
        "rehearse: hang",
        "rehearse: ask question Which colour? | Red",
    );
    let mut stuck = Stuck::in_case(case, &asks).await;
    let own = |fact: &Value| fact["agent_id"] == stuck.bead.agent_id.as_str();
    stuck.case.facts.until("agent.waiting", own).await;
    stuck.post(&format!("{}/stop-all", stuck.case.town)).await;
    let mut stuck = stuck.expect_saved().await;
    stuck.case.end().await;
}

/// Who hears that the machine is shut down commits by itself, and nothing is left to be saved.
#[tokio::test]
async fn an_agent_that_answers_commits_itself_and_no_reminder_is_spent() {
    let words = "word ".repeat(40);
    let body = format!(
        "rehearse: write docs/new.md <<New.\nrehearse: slow 50ms\nrehearse: say {words}\n\
         rehearse: no-done"
    );
    let case = Case::rehearsed(&["--container-drain-time", "60s"]).await;
    let mut stuck = Stuck::in_case(case, &body).await;
    send(container_pid(&stuck.case).await, Signal::TERM);
    let own = |fact: &Value| fact["agent_id"] == stuck.bead.agent_id.as_str();
    let exited = stuck.case.facts.until("agent.exited", own).await;
    assert!(names(&exited["metadata"]["reason"], "drained"), "{exited}");
    assert_eq!(stuck.case.facts.count("agent.reminded", own), 0);
    let wip = format!("gastown/wip/{}", stuck.name);
    assert_eq!(stuck.saved(&wip, "docs/new.md"), None, "nothing was left");
    let branch = format!(
        "gt/{}-{}",
        stuck.name.to_lowercase(),
        &stuck.bead.bead_id[..8]
    );
    assert_eq!(
        stuck.saved(&branch, "docs/new.md").as_deref(),
        Some("New.\n")
    );
    stuck.case.end().await;
}

#[tokio::test]
async fn the_real_opencode_is_cut_off_and_its_work_saved() {
    let kind = AgentServerKind::Opencode;
    let model = ScriptedModel::start(&Lifecycle::new()).await;
    let program = agent_server::program(kind).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let arguments = [CUT_OFF_SOON, &program].concat();
    let case = Case::new(&arguments, scripted_town(kind, &model)).await;
    let stuck = Stuck::in_case(case, "SCENARIO:draft").await;
    send(container_pid(&stuck.case).await, Signal::TERM);
    let mut stuck = stuck.expect_saved().await;
    stuck.case.end().await;
}
