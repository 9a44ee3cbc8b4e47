//! Work under bubblewrap, the default: the container sees what it needs, and does the whole job.

use std::path::Path;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use serde_json::{Value, json};

use crate::acp;
use crate::main_job::scripted_town;
use crate::support::agent_server;
use crate::support::case::{Case, ONE_TRY, names, rehearsal};
use crate::support::repository::Repository;
use crate::support::scripted_model::ScriptedModel;
use crate::support::server::Server;

const WALLED: &[&str] = &["--isolation", "bubblewrap"];

#[tokio::test]
async fn a_bead_is_rehearsed_behind_walls() {
    let mut case = Case::new(&[ONE_TRY, WALLED].concat(), rehearsal()).await;
    let bead = case.sling("Greet people", "").await;
    case.expect_closed(&bead).await;
    assert_walled(&case);
    case.end().await;
}

#[tokio::test]
async fn opencode_does_a_bead_behind_walls() {
    does_a_bead_behind_walls(scripted_town).await;
}

#[tokio::test]
async fn opencode_over_acp_does_a_bead_behind_walls() {
    does_a_bead_behind_walls(acp::town).await;
}

async fn does_a_bead_behind_walls(config: impl Fn(AgentServerKind, &ScriptedModel) -> Value) {
    let kind = AgentServerKind::Opencode;
    let model = ScriptedModel::start(&Lifecycle::new()).await;
    // It lies in no system folder, so this is what shows it to the container.
    let program = agent_server::program(kind).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let arguments = [ONE_TRY, WALLED, &program].concat();
    let mut case = Case::new(&arguments, config(kind, &model)).await;
    let bead = case.sling("Greet people", "SCENARIO:polecat").await;
    case.expect_closed(&bead).await;
    assert_eq!(
        case.repository.pushed("main", "docs/greeting.md"),
        "# Hello\n\nWelcome.\n"
    );
    assert_walled(&case);
    case.end().await;
}

#[tokio::test]
async fn a_missing_agent_program_is_named_behind_walls_too() {
    let arguments = [ONE_TRY, WALLED, &["--agent-program", "/not/there/opencode"]].concat();
    let config =
        json!({"agent_server": "opencode", "default_model": "p/m", "providers": {"p": {}}});
    let mut case = Case::new(&arguments, config).await;
    let bead = case.sling("Greet people", "").await;
    let failed = case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "program_missing", "{failed}");
    assert!(names(&failed["reason"], "/not/there/opencode"), "{failed}");
    case.end().await;
}

/// A local repository that comes while the container runs is not in its sight at first.
#[tokio::test]
async fn a_local_repository_may_come_later() {
    let mut case = Case::new(&[ONE_TRY, WALLED].concat(), rehearsal()).await;
    let asking = "rehearse: ask question May I? | Yes";
    let waiting = case.sling("Wait for an answer", asking).await;
    let own = |fact: &Value| fact["agent_id"] == waiting.agent_id.as_str();
    case.facts.until("agent.waiting", own).await;

    let second = Repository::new();
    let rig = case
        .server
        .rig_named("second", &case.town, &second.origin())
        .await;
    let bead = case.sling_in(&rig, "Greet people", "").await;
    case.expect_closed(&bead).await;
    assert!(
        second
            .git(&["log", "--format=%s", "main"])
            .contains("Greet people")
    );

    // Who was at work goes on, with nothing counted against it.
    let stopped = |fact: &Value| own(fact) && fact["metadata"]["status"] == "stopped";
    case.facts.until("agent.exited", stopped).await;
    let agent = format!("{}/agents/{}", case.rig, waiting.agent_id);
    case.server
        .until("it asks again", &agent, |agent| {
            agent["status"] == "waiting"
        })
        .await;
    assert_eq!(
        case.facts
            .count("agent.exited", |fact| fact["metadata"]["status"]
                == "failed"),
        0
    );
    let status = case.server.get(&waiting.path).await["status"].clone();
    assert_eq!(status, "in_progress");
    case.end().await;
}

/// An agent's shell tries to get out, with what a real agent program lets it do.
#[tokio::test]
async fn an_agents_shell_finds_no_way_out() {
    let kind = AgentServerKind::Opencode;
    let model = ScriptedModel::start(&Lifecycle::new()).await;
    let program = agent_server::program(kind).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let arguments = [ONE_TRY, WALLED, &program, &["--container-stop-on-exit"]].concat();
    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let folder = data.path().to_owned();
    let secret = "a-secret-of-the-server";
    let server = Server::start_in(data, &arguments, &[("SOME_TOKEN", secret)]);
    let repository = Repository::new();
    let script = include_str!("../support/attempt.sh");
    repository.commit("attempt.sh", script);
    let url = repository.origin();
    let config = scripted_town(kind, &model);
    let mut case = Case::at(server, repository, &url.to_string_lossy(), config).await;
    // A second town, whose container runs as well.
    let other = case.server.town(rehearsal()).await;
    let others = Repository::new();
    let other_rig = case.server.rig(&other, &others.origin()).await;
    let order = json!({"title": "Be there", "body": "rehearse: hang"});
    case.server.post(&format!("{other_rig}/sling"), order).await;

    let command = format!(
        "sh attempt.sh {} {} {} {secret} > attempts.txt 2>&1; true",
        folder.display(),
        case.server.pid(),
        std::process::id()
    );
    let bead = case
        .sling("Get out", &format!("SCENARIO:run\nCOMMAND:{command}\n"))
        .await;
    case.expect_closed(&bead).await;
    let attempts = case.repository.pushed("main", "attempts.txt");
    assert!(!attempts.contains("BROKEN"), "{attempts}");
    let tried = script.matches("\nmust_fail \"").count() + script.matches("\nmust_work \"").count();
    assert_eq!(attempts.lines().count(), tried, "{attempts}");
    assert!(!folder.join("escaped").exists());
    case.end().await;
}

/// The container runs in namespaces of its own.
fn assert_walled(case: &Case) {
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let apart = case.server.leftovers().into_iter().filter(|pid| {
        let namespace = Path::new("/proc").join(pid.to_string()).join("ns/pid");
        std::fs::read_link(namespace).is_ok_and(|namespace| namespace != own)
    });
    assert!(
        apart.count() > 0,
        "the container is in a namespace of its own"
    );
}
