//! Agents of the Agent Client Protocol: the real `opencode acp` and `kilo acp`, from a bead to its
//! merge, asked and answered, killed and gone on with, and programs that do not speak the protocol.

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::{AgentServerKind, AgentServerOptions, Error, create_agent_server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::main_job::until_exited;
use crate::support::agent_server::{self, acp_command, acp_env};
use crate::support::case::{Case, ONE_TRY, TRY_SOON, names};
use crate::support::facts::Facts;
use crate::support::mark::Mark;
use crate::support::scripted_model::ScriptedModel;

/// A town whose agents speak the protocol and use a scripted model.
pub(crate) fn town(kind: AgentServerKind, model: &ScriptedModel) -> Value {
    json!({
        "agent_server": "acp",
        "acp": {"command": acp_command(kind)},
        "env_vars": acp_env(kind, &model.config()),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_over_acp_does_a_bead() {
    does_a_bead(AgentServerKind::Opencode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kilo_over_acp_does_a_bead() {
    does_a_bead(AgentServerKind::Kilo).await;
}

async fn does_a_bead(kind: AgentServerKind) {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let mut case = Case::new(ONE_TRY, town(kind, &model)).await;
    let bead = case.sling("Greet people", "SCENARIO:polecat").await;
    case.expect_closed(&bead).await;
    assert_eq!(
        case.repository.pushed("main", "docs/greeting.md"),
        "# Hello\n\nWelcome.\n"
    );
    // What the page and other clients know of an agent server is what they get.
    let agent = format!("{}/agents/{}", case.rig, bead.agent_id);
    let events = until_exited(&case.server, &agent).await;
    let of_type = |event_type: &str| {
        let of_type = events
            .iter()
            .filter(|event| event["event_type"] == event_type);
        of_type.map(|event| &event["data"]).collect::<Vec<_>>()
    };
    assert!(!of_type("message.part.delta").is_empty());
    let tools: Vec<&Value> = of_type("message.part.updated")
        .into_iter()
        .map(|data| &data["part"])
        .filter(|part| part["type"] == "tool" && part["state"]["status"] == "completed")
        .collect();
    for wanted in ["gt_prime", "gt_done"] {
        assert!(
            tools.iter().any(|part| part["tool"] == wanted),
            "{wanted}: {tools:#?}"
        );
    }
    let said = of_type("message.part.updated");
    let said = said.iter().map(|data| &data["part"]["text"]);
    assert!(said.into_iter().any(|text| names(text, "is over.")));
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_asks_reaches_a_person_and_the_answer_the_agent() {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let mut config = town(AgentServerKind::Opencode, &model);
    let mut own = model.config();
    own["permission"] = json!({"*": "allow", "bash": "ask"});
    config["env_vars"] = json!(acp_env(AgentServerKind::Opencode, &own));
    config["permissions"] = json!({"bash": "ask"});
    let mut case = Case::new(ONE_TRY, config).await;
    let bead = case.sling("Ask first", "SCENARIO:bash").await;
    let waits = |fact: &Value| fact["metadata"]["kind"] == "permission";
    let fact = case.facts.until("agent.waiting", waits).await;
    let ask_id = fact["metadata"]["ask_id"].as_str().unwrap().to_owned();
    let asks = case.server.get(&format!("{}/asks", case.town)).await;
    assert!(names(&asks[0]["title"], "bash"), "{asks:#}");
    let reply = format!("{}/asks/{ask_id}/reply", case.town);
    let (status, answer) = case
        .server
        .call("POST", &reply, json!({"reply": "once"}))
        .await;
    assert_eq!(status.as_u16(), 200, "{answer}");
    let worktree = format!("{}/agents/{}", case.rig, bead.agent_id);
    let events = case
        .server
        .until(
            "the answer arrived",
            &format!("{worktree}/events?limit=1000"),
            |events| {
                let mut events = events.as_array().unwrap().iter();
                events.any(|event| {
                    event["data"]["part"]["tool"] == "bash"
                        && event["data"]["part"]["state"]["status"] == "completed"
                })
            },
        )
        .await;
    let events = events.as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["event_type"] == "permission.replied")
    );
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_town_allows_nobody_is_asked_about() {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let mut config = town(AgentServerKind::Opencode, &model);
    let mut own = model.config();
    own["permission"] = json!("ask");
    config["env_vars"] = json!(acp_env(AgentServerKind::Opencode, &own));
    let mut case = Case::new(ONE_TRY, config).await;
    let bead = case.sling("Greet people", "SCENARIO:polecat").await;
    case.expect_closed(&bead).await;
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_it_is_told_of_and_its_session_gone_on_with() {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let mark = Mark::new();
    let mut config = town(AgentServerKind::Opencode, &model);
    let (name, value) = mark.pair();
    config["env_vars"][name] = json!(value);
    let mut case = Case::new(TRY_SOON, config).await;
    let bead = case.sling("Take your time", "SCENARIO:slow").await;
    let agent = format!("{}/agents/{}", case.rig, bead.agent_id);
    let path = format!("{agent}/events?limit=1000");
    case.server
        .until("it says something", &path, |events| {
            let mut events = events.as_array().unwrap().iter();
            events.any(|event| event["event_type"] == "message.part.delta")
        })
        .await;
    let [program, _] = acp_command(AgentServerKind::Opencode);
    let processes = mark.processes();
    let agent = processes.iter().find(|pid| runs(**pid, &program)).unwrap();
    kill_process(Pid::from_raw(*agent).unwrap(), Signal::KILL).unwrap();
    // A listener who does not listen for so long is disconnected.
    case.facts = Facts::of(&case.server, &case.town).await;
    let failed = case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "agent_server", "{failed}");
    assert!(names(&failed["reason"], "signal 9"), "{failed}");
    case.server
        .until("it goes on", &path, |events| {
            let mut events = events.as_array().unwrap().iter();
            events.any(|event| {
                event["event_type"] == "agent.started" && event["data"]["resumed"] == true
            })
        })
        .await;
    case.end().await;
}

/// Whether a process is the program itself, not one that was told its name.
fn runs(pid: i32, program: &str) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.starts_with(program.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there_is_named_and_a_person_called() {
    let config = json!({"agent_server": "acp", "acp": {"command": ["/not/there/agent", "acp"]}});
    let mut case = Case::new(ONE_TRY, config).await;
    let bead = case.sling("Greet people", "").await;
    let failed = case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "program_missing");
    assert!(names(&failed["reason"], "/not/there/agent"), "{failed}");
    case.expect_given_up(&bead, "/not/there/agent").await;
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_speak_something_else_are_told_by_what_they_do() {
    let check = async |script: &str, expected: &str| {
        let error = started(script).await.expect_err("it does not speak ACP");
        let story = story(&error);
        assert!(story.contains(expected), "{script}: {story}");
    };
    check(
        "echo hello; exit 3",
        "it ended with code 3; its last output: hello",
    )
    .await;
    check(
        "echo hello >&2; exec sleep 60",
        "not so after 3s; its last output: hello",
    )
    .await;
    // It sends back what it was sent.
    check("exec cat", "makes no sense").await;
    check(
        "read line; echo '{\"jsonrpc\":\"2.0\",\"id\":0}'; sleep 60",
        "not so after",
    )
    .await;
}

/// An error with what it came of.
fn story(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", story(source)),
        None => error.to_string(),
    }
}

async fn started(script: &str) -> Result<(), Error> {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let options = AgentServerOptions {
        config: json!({"command": ["sh", "-c", script]}),
        ready_timeout: std::time::Duration::from_secs(3),
        ..agent_server::options(
            AgentServerKind::Rehearsal,
            folder.path().join("home"),
            folder.path(),
            json!({}),
        )
    };
    let options = AgentServerOptions {
        kind: AgentServerKind::Acp,
        ..options
    };
    create_agent_server(options, &lifecycle).await.map(|_| ())
}
