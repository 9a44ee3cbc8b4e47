//! The mayor: a person's message reaches its session, whatever happens on the way.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::repository::Repository;
use crate::support::server::{Server, Stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_starts_the_mayor_and_the_next_finds_it_awake() {
    let repository = Repository::new();
    let server = Server::start(&[]);
    let town = server
        .town(json!({"agent_server": "rehearsal", "providers": {"rehearsal": {"pace_ms": 1}}}))
        .await;
    server.rig(&town, &repository.origin()).await;
    let status = server.get(&format!("{town}/mayor/status")).await;
    assert_eq!(status["configured"], true, "it came with the first rig");
    assert_eq!(status["session"]["status"], "idle");
    let came = status["session"]["agentId"].clone();

    let told = tell(&server, &town, "What is on the board?").await;
    assert_eq!(told["sessionStatus"], "starting");
    let mayor = told["agentId"].as_str().unwrap().to_owned();
    assert_eq!(came, mayor.as_str());
    let mut stream = server.stream(&town).await;
    stream.subscribe(&mayor, 0).await;
    let first = turn(&mut stream, "What is on the board?").await;

    let idle = |status: &Value| status["session"]["status"] == "idle";
    let status = server
        .until("the mayor is idle", &format!("{town}/mayor/status"), idle)
        .await;
    assert_eq!(status["session"]["agentId"], mayor.as_str());
    let told = tell(&server, &town, "And tomorrow?").await;
    assert_eq!(
        (&told["agentId"], &told["sessionStatus"]),
        (&json!(mayor), &json!("idle"))
    );
    assert_eq!(
        turn(&mut stream, "And tomorrow?").await,
        first,
        "the same session goes on"
    );
}

/// The container dies with the message under way, or before the session has it: the message is
/// kept until a session took it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_survives_the_end_of_the_container() {
    let repository = Repository::new();
    let server = Server::start(&["--dispatch-backoff-min", "1s"]);
    let town = server
        .town(json!({"agent_server": "rehearsal", "providers": {"rehearsal": {"pace_ms": 1}}}))
        .await;
    server.rig(&town, &repository.origin()).await;
    let told = tell(&server, &town, "Good morning").await;
    let mut stream = server.stream(&town).await;
    stream.subscribe(told["agentId"].as_str().unwrap(), 0).await;
    turn(&mut stream, "Good morning").await;
    for pid in server.leftovers() {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
    }
    tell(&server, &town, "Still there?").await;
    turn(&mut stream, "Still there?").await;
}

async fn tell(server: &Server, town: &str, message: &str) -> Value {
    server
        .post(
            &format!("{town}/mayor/message"),
            json!({"message": message}),
        )
        .await
}

/// Follows the mayor until it has answered this message; the session it did so in.
async fn turn(stream: &mut Stream, message: &str) -> String {
    let mut asked = None;
    loop {
        let event = stream.event().await.unwrap();
        let part = &event["data"]["part"];
        if part["text"]
            .as_str()
            .is_some_and(|text| text.contains(message))
        {
            asked = Some(part["sessionID"].as_str().unwrap().to_owned());
        }
        if let Some(session) = &asked
            && event["type"] == "agent.idle"
        {
            return session.clone();
        }
    }
}
