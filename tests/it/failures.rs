//! What goes wrong: each failure ends in a recorded fact with its text, in a bead in the right
//! state, and in an escalation where a person must act; the server stays well and nothing is left.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::main_job::scripted_town;
use crate::support::agent_server;
use crate::support::case::{Case, ONE_TRY, Slung, TRY_SOON, names};
use crate::support::mark::Mark;
use crate::support::scripted_model::{self, MODEL, PROVIDER, ScriptedModel};
use crate::support::server::processes_of;

#[tokio::test]
async fn a_missing_agent_program_is_named_and_a_person_called() {
    let mut case = Case::new(
        &[TRY_SOON, &["--agent-program", "/not/there/opencode"]].concat(),
        json!({"agent_server": "opencode", "default_model": "p/m", "providers": {"p": {}}}),
    )
    .await;
    let bead = case.sling("Greet people", "").await;
    let failed = case.failed_try(&bead, 2).await;
    assert_eq!(failed["kind"], "program_missing");
    assert!(names(&failed["reason"], "/not/there/opencode"), "{failed}");
    case.expect_given_up(&bead, "/not/there/opencode").await;
    case.expect_escalation("the agent program can't be started", "/not/there/opencode")
        .await;
    case.end().await;
}

#[tokio::test]
async fn opencode_without_a_model_endpoint_gives_up() {
    without_a_model_endpoint(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_without_a_model_endpoint_gives_up() {
    without_a_model_endpoint(AgentServerKind::Kilo).await;
}

async fn without_a_model_endpoint(kind: AgentServerKind) {
    // Bound, but nobody listens: connections are refused, and nobody else gets the port.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .unwrap();
    let providers = scripted_model::config(nobody.local_addr().unwrap())["provider"].take();
    let model = format!("{PROVIDER}/{MODEL}");
    let config = json!({
        "agent_server": kind.as_str(), "providers": providers,
        "default_model": model, "small_model": model,
    });
    let program = agent_server::program(kind).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let patience = ["--container-model-wait", "5s"];
    let mut case = Case::new(&[ONE_TRY, &program, &patience].concat(), config).await;
    let bead = case.sling("Greet people", "Write a greeting.").await;
    let failed = case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "model", "{failed}");
    assert!(names(&failed["reason"], "connect"), "{failed}");
    case.expect_given_up(&bead, "connect").await;
    case.expect_escalation("the model can't be used", "connect")
        .await;
    case.end().await;
}

#[tokio::test]
async fn a_model_that_refuses_opencode_is_quoted() {
    refused_by_the_model(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn a_model_that_refuses_kilo_is_quoted() {
    refused_by_the_model(AgentServerKind::Kilo).await;
}

async fn refused_by_the_model(kind: AgentServerKind) {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let mut case = Case::with_program(kind, scripted_town(kind, &model)).await;
    let bead = case.sling("Greet people", "SCENARIO:refuse401").await;
    let failed = case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "model", "{failed}");
    let text = "the scripted model refuses with 401";
    assert!(names(&failed["reason"], text), "{failed}");
    assert_eq!(model.asked_for("refuse401"), 1, "not asked again");
    case.expect_given_up(&bead, text).await;
    case.expect_escalation("the model can't be used", text)
        .await;
    case.end().await;
}

#[tokio::test]
async fn an_unreachable_repository_fails_its_bead_until_it_is_back() {
    let mut case = Case::rehearsed(TRY_SOON).await;
    case.repository.toggle_reachable();
    let bead = case.sling("Greet people", "").await;
    let failed = case.failed_try(&bead, 2).await;
    assert_eq!(failed["kind"], "repository", "{failed}");
    assert!(names(&failed["reason"], "origin.git"), "{failed}");
    case.expect_given_up(&bead, "origin.git").await;
    case.expect_escalation("the repository can't be used", "origin.git")
        .await;

    // What the escalation tells a person to do helps.
    case.repository.toggle_reachable();
    let status = json!({"status": "open", "agent_id": bead.agent_id});
    let status_path = format!("{}/status", bead.path);
    case.server.must("PATCH", &status_path, status).await;
    let hook = format!("{}/agents/{}/hook", case.rig, bead.agent_id);
    case.server
        .post(&hook, json!({"bead_id": bead.bead_id}))
        .await;
    case.expect_closed(&bead).await;
    case.end().await;
}

#[tokio::test]
async fn an_agent_whose_push_is_rejected_says_so_and_its_bead_fails() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    case.repository.refuse_pushes("no pushes on Sundays");
    let bead = case.sling("Greet people", "").await;
    case.expect_escalation("the push failed", "no pushes on Sundays")
        .await;
    case.failed_try(&bead, 1).await;
    case.expect_given_up(&bead, "gt_done").await;
    assert_eq!(
        case.repository.git(&["branch", "--format=%(refname)"]),
        "refs/heads/main\n"
    );
    case.end().await;
}

#[tokio::test]
async fn a_merge_whose_push_is_rejected_fails_with_the_hooks_words() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    case.repository
        .refuse_pushes_to("main", "main is frozen until Monday");
    let bead = case.sling("Greet people", "").await;
    let review = case.review(&bead, "failed").await;
    assert!(names(&review["message"], "main is frozen until Monday"));
    case.expect_failed(&bead, "main is frozen until Monday")
        .await;
    case.expect_escalation("was not merged", "main is frozen until Monday")
        .await;
    // The work is not lost.
    let branch = review["branch"].as_str().unwrap();
    assert!(case.repository.has_branch(branch), "{branch} is kept");
    case.end().await;
}

#[tokio::test]
async fn of_two_beads_that_change_one_line_the_second_is_sent_back_and_mended() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    case.repository.hold_pushes_of("Second");
    let body = "rehearse: write README.md <<# Two\nrehearse: rework write README.md <<# Both";
    let second = case.sling("Second", body).await;
    // It has its worktree, from a main that does not have the first one's work yet.
    case.started(&second).await;
    let first = case
        .sling("First", "rehearse: write README.md <<# One")
        .await;
    case.expect_closed(&first).await;
    case.repository.let_go();
    let own = |fact: &Value| fact["bead_id"] == second.bead_id.as_str();
    let sent_back = case.facts.until("review.rework", own).await;
    assert_eq!(sent_back["metadata"]["cause"], "conflict", "{sent_back}");
    assert!(names(&sent_back["metadata"]["reason"], "README.md"));
    assert_eq!(sent_back["agent_id"], second.agent_id.as_str());
    case.expect_closed(&second).await;
    let review = case.review(&second, "merged").await;
    assert_eq!(case.repository.pushed("main", "README.md").trim(), "# Both");
    let log = case.repository.git(&["log", "--format=%s", "main"]);
    for work in ["First", "Second"] {
        assert!(log.lines().any(|line| line == work), "{work} in {log}");
    }
    let branch = review["branch"].as_str().unwrap();
    assert!(!case.repository.has_branch(branch), "{branch} is merged");
    case.end().await;
}

#[tokio::test]
async fn an_agent_that_stops_too_early_is_reminded_and_then_fails() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let bead = case.sling("Greet people", "rehearse: no-done").await;
    let failed = case.failed_try(&bead, 1).await;
    assert!(
        names(&failed["reason"], "without calling gt_done"),
        "{failed}"
    );
    let reminded = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    assert_eq!(case.facts.count("agent.reminded", reminded), 3);
    case.expect_given_up(&bead, "without calling gt_done").await;
    case.end().await;
}

#[tokio::test]
async fn an_agent_that_asks_waits_and_holds_up_nobody() {
    let arguments = [ONE_TRY, &["--asks-escalate-after", "1s"]].concat();
    let mut case = Case::rehearsed(&arguments).await;
    let asking = case
        .sling(
            "Paint the bridge",
            "rehearse: ask question Which colour? | Red | Blue",
        )
        .await;
    let waiting = case
        .facts
        .until("agent.waiting", |fact| {
            fact["agent_id"] == asking.agent_id.as_str()
        })
        .await;
    assert!(names(&waiting["metadata"]["title"], "Which colour?"));
    let agent = format!("{}/agents/{}", case.rig, asking.agent_id);
    case.server
        .until("the agent waits", &agent, |agent| {
            agent["status"] == "waiting"
        })
        .await;
    case.expect_escalation("waits for an answer", "Which colour?")
        .await;

    let other = case.sling("Greet people", "").await;
    assert_ne!(other.agent_id, asking.agent_id);
    case.expect_closed(&other).await;
    let bead = case.server.get(&asking.path).await;
    assert_eq!(bead["status"], "in_progress", "it still waits");

    // Whoever takes the work back ends the wait.
    let close = json!({"agent_id": asking.agent_id});
    case.server
        .post(&format!("{}/close", asking.path), close)
        .await;
    case.server
        .until("the agent is free", &agent, |agent| {
            agent["status"] == "idle"
        })
        .await;
    case.end().await;
}

#[tokio::test]
async fn a_killed_container_leaves_nothing_running_and_its_work_goes_on() {
    let mut case = Lingering::new(TRY_SOON).await;
    send(container_pid(&case.case).await, Signal::KILL);
    let failed = case.work_goes_on().await;
    assert!(names(&failed["reason"], "SIGKILL"), "{failed}");
}

#[tokio::test]
async fn a_killed_agent_server_leaves_nothing_running_and_its_work_goes_on() {
    let mut case = Lingering::new(TRY_SOON).await;
    send(case.agent_server(), Signal::KILL);
    let failed = case.work_goes_on().await;
    assert_eq!(failed["kind"], "agent_server", "{failed}");
    assert!(names(&failed["reason"], "agent server"), "{failed}");
}

#[tokio::test]
async fn a_killed_container_ends_the_git_that_it_runs_and_merges_again() {
    let mut case = Case::rehearsed(TRY_SOON).await;
    let origin = case.repository.origin();
    case.repository.hold_pushes_of("Merge ");
    let bead = case.sling("Greet people", "").await;
    until("the merge's push waits", || {
        !processes_of(&origin).is_empty()
    })
    .await;
    let waiting = processes_of(&origin);
    send(container_pid(&case).await, Signal::KILL);
    until("that push has ended", || {
        let now = processes_of(&origin);
        waiting.iter().all(|pid| !now.contains(pid))
    })
    .await;
    case.repository.let_go();
    case.expect_closed(&bead).await;
    case.end().await;
}

pub(crate) async fn container_pid(case: &Case) -> i32 {
    let health = format!("{}/container/health", case.town);
    let pid = case.server.get(&health).await["pid"].as_i64().unwrap();
    i32::try_from(pid).unwrap()
}

/// A bead that the real opencode works at with children that do not end by themselves.
pub(crate) struct Lingering {
    pub(crate) case: Case,
    pub(crate) bead: Slung,
    mark: Mark,
    running: Vec<i32>,
    _model: ScriptedModel,
}

impl Lingering {
    pub(crate) async fn new(arguments: &[&str]) -> Self {
        let kind = AgentServerKind::Opencode;
        let model = ScriptedModel::start(&Lifecycle::new()).await;
        let mark = Mark::new();
        let (name, value) = mark.pair();
        let mut config = scripted_town(kind, &model);
        config["env_vars"] = json!({name: value});
        let program = agent_server::program(kind).unwrap();
        let program = ["--agent-program", &program.to_string_lossy()];
        let mut case = Case::new(&[arguments, &program].concat(), config).await;
        let bead = case.sling("Greet people", "SCENARIO:linger").await;
        case.started(&bead).await;
        let sleepers = |processes: &std::collections::BTreeSet<i32>| {
            let command = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            let sleeps = processes.iter().filter(|pid| {
                command(pid).is_ok_and(|command| command.starts_with("sleep\x00600"))
            });
            sleeps.count() == 2
        };
        until("its children sleep", || sleepers(&mark.processes())).await;
        case.read_anew().await;
        let running = mark.processes().into_iter().collect();
        Self {
            case,
            bead,
            mark,
            running,
            _model: model,
        }
    }

    /// The agent program's process.
    pub(crate) fn agent_server(&self) -> i32 {
        let program = agent_server::program(AgentServerKind::Opencode).unwrap();
        let program = program.to_string_lossy();
        let is_server = |pid: &&i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(program.as_bytes())
        };
        self.running.iter().find(is_server).copied().unwrap()
    }

    /// Expects that all of it ended and the bead reaches main; the failed try's fact.
    pub(crate) async fn work_goes_on(&mut self) -> Value {
        until("all that ran has ended", || {
            let now = self.mark.processes();
            self.running.iter().all(|pid| !now.contains(pid))
        })
        .await;
        self.case.read_anew().await;
        let failed = self.case.failed_try(&self.bead, 1).await;
        self.case.expect_closed(&self.bead).await;
        assert_eq!(
            self.case.repository.pushed("main", "docs/greeting.md"),
            "# Hello\n\nWelcome.\n"
        );
        self.case.end().await;
        assert_eq!(self.mark.processes().len(), 0, "nothing is left");
        failed
    }
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + agent_server::PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
