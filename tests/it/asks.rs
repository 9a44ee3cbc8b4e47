//! What agents ask: people see it at once, their answer reaches the agent, and what nobody answers
//! is escalated.

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use serde_json::{Value, json};

use crate::main_job::scripted_town;
use crate::support::case::{Case, ONE_TRY, Slung};
use crate::support::scripted_model::ScriptedModel;

/// The one ask of that kind that is open.
async fn asked(case: &mut Case, kind: &str) -> Value {
    let waits = |fact: &Value| fact["metadata"]["kind"] == kind;
    let fact = case.facts.until("agent.waiting", waits).await;
    let ask_id = fact["metadata"]["ask_id"].as_str().unwrap().to_owned();
    let path = format!(
        "{}/asks?agent_id={}",
        case.town,
        fact["agent_id"].as_str().unwrap()
    );
    let asks = case.server.get(&path).await;
    let mut asks = asks.as_array().unwrap().iter();
    let ask = asks.find(|ask| ask["id"] == ask_id.as_str()).unwrap();
    assert_eq!(ask["kind"], kind);
    ask.clone()
}

async fn reply(case: &Case, ask: &Value, body: Value) -> (u16, Value) {
    let path = format!("{}/asks/{}/reply", case.town, ask["id"].as_str().unwrap());
    let (status, answer) = case.server.call("POST", &path, body).await;
    (status.as_u16(), answer)
}

async fn agent_status(case: &Case, bead: &Slung, status: &str) {
    let path = format!("{}/agents/{}", case.rig, bead.agent_id);
    let what = format!("the agent is {status}");
    case.server
        .until(&what, &path, |agent| agent["status"] == status)
        .await;
}

async fn no_asks(case: &Case) {
    let path = format!("{}/asks", case.town);
    case.server
        .until("no asks are left", &path, |asks| *asks == json!([]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_reach_the_agent_which_then_works_on() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let asking =
        "rehearse: ask question Which colour? | Red | Blue\nrehearse: ask permission ls -l";
    let bead = case.sling("Paint the bridge", asking).await;
    let question = asked(&mut case, "question").await;
    assert_eq!(question["title"], "Which colour?");
    assert_eq!(question["bead_id"], bead.bead_id.as_str());
    assert_eq!(
        question["detail"]["questions"][0]["options"][1]["label"],
        "Blue"
    );
    agent_status(&case, &bead, "waiting").await;

    // What does not fit is refused with the field named, and changes nothing.
    for (body, field) in [
        (json!({}), "reply"),
        (json!({"reply": "maybe"}), "reply"),
        (json!({"reply": "once"}), "answers"),
        (json!({"answers": "Blue"}), "answers"),
        (json!({"answers": [["Blue"], ["Red"]]}), "answers"),
        (json!({"reject": "yes"}), "reject"),
    ] {
        let (status, answer) = reply(&case, &question, body.clone()).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert_eq!(answer["issues"][0]["path"], json!([field]), "{answer}");
    }
    let (status, answer) = reply(&case, &question, json!({"answers": [["Blue"]]})).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["data"]["answered_at"].is_string(), "{answer}");

    let permission = asked(&mut case, "permission").await;
    let (status, answer) = reply(&case, &permission, json!({"answers": [["x"]]})).await;
    assert_eq!(
        (status, &answer["issues"][0]["path"]),
        (400, &json!(["reply"]))
    );
    let (status, answer) = reply(&case, &permission, json!({"reply": "once"})).await;
    assert_eq!(status, 200, "{answer}");
    case.expect_closed(&bead).await;
    no_asks(&case).await;
    let (status, answer) = reply(&case, &permission, json!({"reply": "once"})).await;
    assert_eq!((status, &answer["code"]), (404, &json!("ask_not_found")));
    let events = format!("{}/agents/{}/events?limit=1000", case.rig, bead.agent_id);
    let events = case.server.get(&events).await.to_string();
    assert!(events.contains("Blue"), "the agent was told");
    assert_eq!(case.facts.count("escalation.created", |_| true), 0);
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_is_escalated_and_can_still_be_answered() {
    let arguments = [ONE_TRY, &["--asks-escalate-after", "1s"]].concat();
    let mut case = Case::rehearsed(&arguments).await;
    let bead = case
        .sling(
            "Paint the bridge",
            "rehearse: ask question Which colour? | Red",
        )
        .await;
    case.expect_escalation("waits for an answer: Which colour?", "Which colour?")
        .await;
    let ask = asked(&mut case, "question").await;
    let escalation = ask["escalation_id"].as_str().unwrap().to_owned();
    // The mayor hears of it.
    let told = |fact: &Value| {
        fact["metadata"]["subject"]
            .as_str()
            .is_some_and(|subject| subject.contains("Which colour?"))
    };
    case.facts.until("mail.sent", told).await;

    let (status, answer) = reply(&case, &ask, json!({"answers": [["Red"]]})).await;
    assert_eq!(status, 200, "{answer}");
    case.expect_closed(&bead).await;
    no_asks(&case).await;
    let escalation = format!("{}/beads/{escalation}", case.rig);
    assert_eq!(case.server.get(&escalation).await["status"], "closed");
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_outlives_the_server_and_not_its_agent() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let bead = case
        .sling("Paint the bridge", "rehearse: ask permission rm x")
        .await;
    let ask = asked(&mut case, "permission").await;
    case.server.kill();
    case.server.restart();
    let path = format!("{}/asks", case.town);
    let kept = case.server.get(&path).await;
    assert_eq!(kept[0]["id"], ask["id"]);
    // Whoever takes the work back ends the wait.
    let close = format!("{}/close", bead.path);
    case.server.post(&close, json!({})).await;
    no_asks(&case).await;
    agent_status(&case, &bead, "idle").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_is_answered() {
    with_real_program(AgentServerKind::Opencode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kilo_is_answered() {
    with_real_program(AgentServerKind::Kilo).await;
}

/// A question and a request for permission of a real agent program, answered over HTTP.
async fn with_real_program(kind: AgentServerKind) {
    let model = ScriptedModel::start(&Lifecycle::new()).await;
    let mut config = scripted_town(kind, &model);
    config["permissions"] = json!({"*": "allow", "bash": "ask"});
    let mut case = Case::with_program(kind, config).await;
    let bead = case.sling("Write it down", "SCENARIO:bash").await;
    let ask = asked(&mut case, "permission").await;
    assert!(ask["detail"]["patterns"].is_array(), "{ask}");
    let (status, answer) = reply(&case, &ask, json!({"reply": "once"})).await;
    assert_eq!(status, 200, "{answer}");
    let own = |fact: &Value| fact["metadata"]["ask_id"] == ask["id"];
    case.facts.until("ask.closed", own).await;
    // Its turn ends without done; it is reminded and, in the scenario's words, is over.
    let path = format!("{}/close", bead.path);
    case.server.post(&path, json!({})).await;
    agent_status(&case, &bead, "idle").await;

    let bead = case.sling("Paint it", "SCENARIO:ask").await;
    let ask = asked(&mut case, "question").await;
    assert_eq!(ask["title"], "Which colour?");
    let (status, answer) = reply(&case, &ask, json!({"answers": [["Blue"]]})).await;
    assert_eq!(status, 200, "{answer}");
    let own = |fact: &Value| fact["metadata"]["ask_id"] == ask["id"];
    case.facts.until("ask.closed", own).await;
    let events = format!("{}/agents/{}/events?limit=1000", case.rig, bead.agent_id);
    case.server
        .until("the agent has the answer", &events, |events| {
            let mut events = events.as_array().unwrap().iter();
            events.any(|event| {
                event["event_type"] == "question.replied" && event.to_string().contains("Blue")
            })
        })
        .await;
    case.server
        .post(&format!("{}/close", bead.path), json!({}))
        .await;
    case.end().await;
}
