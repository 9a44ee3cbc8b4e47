//! Whoever uses more than the container may is ended, with the reason, and everybody else goes on.

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;

use crate::main_job::scripted_town;
use crate::support::agent_server;
use crate::support::case::{Case, ONE_TRY, Slung, names, rehearsal};
use crate::support::scripted_model::ScriptedModel;

/// Runs a shell's command as git does it for its aliases, and then does some work.
fn run(command: &str) -> String {
    format!("rehearse: run git -c \"alias.x=!{command}\" x\nrehearse: write done.md <<Done.")
}

async fn expect_limited(case: &mut Case, bead: &Slung, limit: &str) {
    let limited = case
        .facts
        .until("agent.limited", |fact| {
            fact["agent_id"] == bead.agent_id.as_str()
        })
        .await;
    let reason = &limited["metadata"]["reason"];
    assert!(names(reason, limit), "{limited}");
    assert!(names(reason, "its commands were ended"), "{limited}");
}

#[tokio::test]
async fn a_command_that_takes_too_much_memory_is_ended_and_its_agent_goes_on() {
    let limit = ["--container-memory-max", "300MiB"];
    let mut case = Case::new(&[ONE_TRY, &limit].concat(), rehearsal()).await;
    // `tail` has to keep all of it, and nobody ever reads what it says.
    let hog = run("head -c 600M /dev/zero | tail | sleep 600");
    let greedy = case.sling("Hold much", &hog).await;
    let modest = case.sling("Greet people", "").await;
    expect_limited(&mut case, &greedy, "300 MiB are allowed").await;
    case.expect_closed(&greedy).await;
    case.expect_closed(&modest).await;
    case.end().await;
}

#[tokio::test]
async fn commands_that_multiply_are_ended_and_their_agent_goes_on() {
    let limit = ["--container-processes-max", "64"];
    let mut case = Case::new(&[ONE_TRY, &limit].concat(), rehearsal()).await;
    let crowd = run("i=0; while test $i -lt 100; do sleep 600 & i=$((i+1)); done; wait");
    let greedy = case.sling("Multiply", &crowd).await;
    let modest = case.sling("Greet people", "").await;
    expect_limited(&mut case, &greedy, "64 are allowed").await;
    case.expect_closed(&greedy).await;
    case.expect_closed(&modest).await;
    case.end().await;
}

/// The real program holds some 300 MiB at rest.
#[tokio::test]
async fn an_agent_program_that_takes_too_much_memory_is_ended_and_says_why() {
    let kind = AgentServerKind::Opencode;
    let model = ScriptedModel::start(&Lifecycle::new()).await;
    let program = agent_server::program(kind).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let limit = ["--container-memory-max", "128MiB"];
    let arguments = [ONE_TRY, &limit, &program].concat();
    let mut case = Case::new(&arguments, scripted_town(kind, &model)).await;
    let bead = case.sling("Greet people", "SCENARIO:polecat").await;
    case.expect_given_up(&bead, "because of a limit on memory")
        .await;
    case.end().await;
}
