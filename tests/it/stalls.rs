//! An agent server that is deaf, hangs, forgets or grows: noticed by what it shows, told with its
//! words, and the work goes on. One that works is left alone, however silent it is.

use std::path::PathBuf;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::failures::{Lingering, container_pid, send, until};
use crate::main_job::{all_events, scripted_town};
use crate::support::agent_server;
use crate::support::case::{Case, ONE_TRY, Slung, TRY_SOON, names};
use crate::support::middleman::{Fault, Middleman};
use crate::support::scripted_model::ScriptedModel;

/// Soon enough for a test. The program was seen to answer nothing for 15 s on a busy machine while it
/// started; and a third of this is longer than between two heartbeats, so that they alone keep the
/// program from being asked whether it is there.
const HUNG_SOON: &[&str] = &["--container-hung-after", "45s"];

/// A town whose agent program is reached by way of a middleman.
struct Reached {
    case: Case,
    middleman: Middleman,
    _model: ScriptedModel,
}

impl Reached {
    async fn new(arguments: &[&str]) -> Self {
        let kind = AgentServerKind::Opencode;
        let model = ScriptedModel::start(&Lifecycle::new()).await;
        let middleman = Middleman::new(kind).await;
        let program = ["--agent-program", &middleman.program.to_string_lossy()];
        let arguments = [arguments, HUNG_SOON, &program].concat();
        let case = Case::new(&arguments, scripted_town(kind, &model)).await;
        Self {
            case,
            middleman,
            _model: model,
        }
    }

    fn starts(&self) -> usize {
        self.case.facts.count("agent.started", |_| true)
    }

    fn setbacks(&self, cause: &str) -> usize {
        let of_cause = |fact: &Value| fact["metadata"]["cause"] == cause;
        self.case.facts.count("agent.setback", of_cause)
    }
}

async fn setback(case: &mut Case, bead: &Slung, cause: &str) -> Value {
    let own = |fact: &Value| {
        fact["agent_id"] == bead.agent_id.as_str() && fact["metadata"]["cause"] == cause
    };
    case.facts.until("agent.setback", own).await["metadata"].clone()
}

/// An agent's shell command that goes on when the file is there, and the file.
fn waits_for_file(case: &Case) -> (String, PathBuf) {
    let file = case.server.data.path().join("go-on");
    let order = format!(
        "SCENARIO:run\nCOMMAND:until test -e {}; do sleep 0.1; done",
        file.display()
    );
    (order, file)
}

async fn at_its_command(case: &mut Case, bead: &Slung) {
    let run = format!("{}/container/agents/{}/status", case.town, bead.agent_id);
    case.started(bead).await;
    case.server
        .until("its command runs", &run, |run| {
            run["activeTools"] == json!(["bash"])
        })
        .await;
    case.read_anew().await;
}

#[tokio::test]
async fn a_cut_event_stream_is_opened_again_and_the_turn_goes_on() {
    let mut town = Reached::new(ONE_TRY).await;
    let (order, file) = waits_for_file(&town.case);
    let bead = town.case.sling("Greet people", &order).await;
    at_its_command(&mut town.case, &bead).await;
    town.middleman.cut();
    let told = setback(&mut town.case, &bead, "stream").await;
    assert!(names(&told["reason"], "opened again"), "{told}");
    std::fs::write(file, "").unwrap();
    town.case.expect_closed(&bead).await;
    assert_eq!((town.starts(), town.setbacks("turn")), (1, 0));
    town.case.end().await;
}

/// The end of the turn is never told, and the town is to hear of it all the same.
#[tokio::test]
async fn a_turn_that_ends_unheard_is_found_over() {
    let mut town = Reached::new(ONE_TRY).await;
    let (order, file) = waits_for_file(&town.case);
    let order = order.replace("SCENARIO:run", "SCENARIO:pause");
    let bead = town.case.sling("Greet people", &order).await;
    at_its_command(&mut town.case, &bead).await;
    town.middleman.set(Fault::Deaf);
    std::fs::write(file, "").unwrap();
    let told = setback(&mut town.case, &bead, "turn").await;
    assert!(names(&told["reason"], "no event had told"), "{told}");
    town.middleman.set(Fault::None);
    // It stopped without being done, and is reminded of that like everybody.
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    town.case.facts.until("agent.reminded", own).await;
    assert_eq!(town.starts(), 1);
    let words = "without calling gt_done";
    town.case.expect_given_up(&bead, words).await;
    town.case.end().await;
}

/// Nothing but heartbeats comes, and the session is at work.
#[tokio::test]
async fn a_silent_agent_at_work_is_left_alone() {
    let mut town = Reached::new(ONE_TRY).await;
    let (order, file) = waits_for_file(&town.case);
    let bead = town.case.sling("Greet people", &order).await;
    at_its_command(&mut town.case, &bead).await;
    let asked = town.middleman.statuses();
    let enough = || town.middleman.statuses() >= asked + 3;
    until("it was asked about", enough).await;
    town.case.read_anew().await;
    assert_eq!(town.setbacks("turn"), 0);
    std::fs::write(file, "").unwrap();
    town.case.expect_closed(&bead).await;
    assert_eq!(town.starts(), 1);
    town.case.end().await;
}

#[tokio::test]
async fn an_agent_server_with_nothing_but_heartbeats_is_replaced() {
    let mut town = Reached::new(TRY_SOON).await;
    let bead = town.case.sling("Greet people", "SCENARIO:linger").await;
    at_its_command(&mut town.case, &bead).await;
    town.middleman.set(Fault::Mute);
    let failed = town.case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "agent_server", "{failed}");
    assert!(
        names(&failed["reason"], "nothing but heartbeats"),
        "{failed}"
    );
    expect_resumed(&mut town.case, &bead).await;
    town.case.expect_closed(&bead).await;
    town.case.end().await;
}

#[tokio::test]
async fn a_stopped_agent_server_is_replaced_and_its_work_goes_on() {
    let mut case = Lingering::new(&[TRY_SOON, HUNG_SOON].concat()).await;
    send(case.agent_server(), Signal::STOP);
    let failed = case.work_goes_on().await;
    assert_eq!(failed["kind"], "agent_server", "{failed}");
    assert!(names(&failed["reason"], "hangs"), "{failed}");
}

async fn expect_resumed(case: &mut Case, bead: &Slung) {
    let resumed = |fact: &Value| {
        fact["agent_id"] == bead.agent_id.as_str() && fact["metadata"]["resumed"] == true
    };
    case.facts.until("agent.started", resumed).await;
}

/// The agent goes on with its checkpoint and what was said, though its session is gone.
#[tokio::test]
async fn an_agent_whose_session_is_lost_goes_on_with_the_conversation() {
    let arguments = [
        "--dispatch-backoff-min",
        "5s",
        "--dispatch-attempts-max",
        "2",
    ];
    let mut case = Lingering::new(&arguments).await;
    let agent = format!("{}/agents/{}", case.case.rig, case.bead.agent_id);
    let note = json!({"data": {"step": "halfway"}});
    let server = &case.case.server;
    server.post(&format!("{agent}/checkpoint"), note).await;
    send(container_pid(&case.case).await, Signal::KILL);
    let home = case.case.workspace().join("home");
    std::fs::remove_dir_all(home.join(".local/share/opencode")).unwrap();
    let bead = case.bead.clone();
    let told = setback(&mut case.case, &bead, "session").await;
    assert!(names(&told["reason"], "the conversation so far"), "{told}");
    let events = all_events(&case.case.server, &agent).await;
    let prompt = events.iter().rev().find_map(|event| {
        let text = event["data"]["part"]["text"].as_str()?;
        text.contains("## The conversation so far").then_some(text)
    });
    let prompt = match prompt {
        Some(prompt) => prompt.to_owned(),
        None => until_prompted(&case.case, &agent).await,
    };
    for part in [
        "\"step\":\"halfway\"",
        "You: I use a tool.",
        "SCENARIO:linger",
    ] {
        assert!(prompt.contains(part), "{part}: {prompt}");
    }
    case.work_goes_on().await;
}

async fn until_prompted(case: &Case, agent: &str) -> String {
    loop {
        for event in all_events(&case.server, agent).await {
            if let Some(text) = event["data"]["part"]["text"].as_str()
                && text.contains("## The conversation so far")
            {
                return text.to_owned();
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The real program holds some 300 MiB at rest, so it has grown too much after every bead.
#[tokio::test]
async fn an_agent_server_that_has_grown_is_replaced_between_two_beads() {
    let kind = AgentServerKind::Opencode;
    let model = ScriptedModel::start(&Lifecycle::new()).await;
    let program = agent_server::program(kind).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let limit = ["--container-recycle-above", "64MiB"];
    let arguments = [ONE_TRY, &limit, &program].concat();
    let mut case = Case::new(&arguments, scripted_town(kind, &model)).await;
    let first = case.sling("Greet people", "SCENARIO:polecat").await;
    case.expect_closed(&first).await;
    let health = format!("{}/container/health", case.town);
    let ended = |health: &Value| health["servers"] == 0;
    case.server
        .until("the agent server is gone", &health, ended)
        .await;
    let second = case.sling("Greet again", "SCENARIO:say").await;
    let told = setback(&mut case, &second, "recycled").await;
    assert!(names(&told["reason"], "more than the 64 MiB"), "{told}");
    let failed = |fact: &Value| fact["metadata"]["kind"] == "agent_server";
    assert_eq!(case.facts.count("agent.exited", failed), 0);
    let close = json!({"agent_id": second.agent_id});
    let path = format!("{}/close", second.path);
    case.server.post(&path, close).await;
    case.expect_closed(&second).await;
    case.end().await;
}
