//! No reply and no frame leaves before `fdatasync`: the server under strace.

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::repository::Repository;
use crate::support::server::{PATIENCE, Server, exchange_on};
use crate::support::system_trace::{Claim, Shown, Trace, strace};

/// Clients at the same time, so that commits are shared, and what each does one after another.
const CLIENTS: usize = 6;
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_before_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let prefix = strace(&file);
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let mut server = Server::start_by(&prefix, data, &[]);
    let repository = Repository::new();
    let town = server.town(json!({"agent_server": "rehearsal"})).await;
    let rig = server.rig(&town, &repository.origin()).await;
    let witness = json!({"role": "witness"});
    let agent = server
        .post(&format!("{rig}/agents/get-or-create"), witness)
        .await;
    let agent_id = agent["id"].as_str().unwrap().to_owned();

    let mut watcher = server.stream(&town).await;
    watcher
        .say(json!({"type": "subscribe", "topic": "town"}))
        .await;
    watcher.subscribe(&agent_id, 0).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (address, rig, agent_id) = (server.address().to_owned(), rig.clone(), agent_id.clone());
        clients.spawn(async move { act(client, &address, &rig, &agent_id).await });
    }
    let mut claims: Vec<Claim> = clients.join_all().await.into_iter().flatten().collect();

    // Each was announced: a bead made, its status changed, an agent's event.
    let mut shown = [0; 3];
    while shown.iter().any(|count| *count < CLIENTS * ROUNDS) {
        let event = watcher.event().await.expect("the stream goes on");
        let kinds = ["bead.created", "bead.status_changed", "marked"];
        if let Some(kind) = kinds.iter().position(|kind| event["type"] == *kind) {
            shown[kind] += 1;
        }
        let whose = match event.get("agentId") {
            Some(agent) => format!(r#""agentId":{agent}"#),
            None => r#""topic":"town""#.to_owned(),
        };
        // As strace prints it.
        let text = format!(r#"{{{whose},"id":{},"#, event["id"]).replace('"', "\\\"");
        claims.push(Claim {
            written: text.clone(),
            shown: Shown::Carrying(text),
        });
    }

    let pid = server.pid();
    assert!(server.terminate().success());
    let trace = Trace::read(&finished(&file, pid).await);
    let database = server.data.path().join("database");
    let files = [database.join("db"), database.join("journal")];
    let early: Vec<String> = claims
        .iter()
        .filter_map(|claim| trace.check(&files, claim).err())
        .collect();
    assert!(
        early.is_empty(),
        "{} of {}: {early:#?}",
        early.len(),
        claims.len()
    );
    assert!(claims.len() >= 6 * CLIENTS * ROUNDS);
}

/// Does some of each kind of write; what must hold of each reply.
async fn act(client: usize, address: &str, rig: &str, agent_id: &str) -> Vec<Claim> {
    let mut claims = Vec::new();
    for round in 0..ROUNDS {
        let mark = format!("mark-{client}-{round}-bead");
        let bead = json!({"type": "issue", "title": mark});
        let (port, bead) = send(address, "POST", &format!("{rig}/beads"), bead).await;
        claims.push(claim(&mark, port));
        let shown = Shown::Carrying(mark.clone());
        claims.push(Claim {
            written: mark,
            shown,
        });

        let mark = format!("mark-{client}-{round}-event");
        let event = json!({"agent_id": agent_id, "event_type": "marked", "data": mark});
        let (port, _) = send(address, "POST", &format!("{rig}/agent-events"), event).await;
        claims.push(claim(&mark, port));

        // Before the fact of this change no other says both of the bead.
        let bead_id = bead["bead_id"].as_str().unwrap();
        let path = format!("{rig}/beads/{bead_id}/status");
        let change = json!({"status": "closed", "agent_id": "somebody"});
        let (port, _) = send(address, "PATCH", &path, change).await;
        let fact = format!(
            r#"\"type\":\"bead.status_changed\",\"data\":{{\"bead_id\":\"{bead_id}\",\"agent_id\":null"#
        );
        claims.push(claim(&fact, port));
    }
    claims
}

fn claim(written: &str, port: u16) -> Claim {
    Claim {
        written: written.to_owned(),
        shown: Shown::ToPort(port),
    }
}

/// A request on a connection of its own: the port it came from, and the answer's data.
async fn send(address: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let stream = TcpStream::connect(address).await.unwrap();
    let port = stream.local_addr().unwrap().port();
    let body = body.to_string().into_bytes();
    let answer = exchange_on(stream, address, method, path, &[], body).await;
    let (status, _, body) = answer.unwrap();
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    assert!(status.is_success(), "{method} {path}: {answer}");
    (port, answer["data"].take())
}

/// The trace once the tracer has written the end of the server.
async fn finished(file: &Path, pid: u32) -> String {
    let limit = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        let ended =
            |line: &str| line.starts_with(&format!("{pid} ")) && line.contains("+++ exited");
        if text.lines().rev().any(ended) {
            return text;
        }
        assert!(Instant::now() < limit, "the trace never ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A disk that fails once, and says of the next sync that all is well: what it lost stays lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, log) = (folder.path().join("trace"), folder.path().join("log"));
    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let mut prefix = vec!["sh", "-c", r#"exec 2>"$0"; exec "$@""#];
    let log_name = log.to_string_lossy().into_owned();
    prefix.push(&log_name);
    let mut traced = strace(&trace);
    // The call after this many of the committer's fails, and only that one.
    traced.splice(
        1..1,
        ["-e", "inject=fdatasync:error=EIO:when=40"].map(ToOwned::to_owned),
    );
    prefix.extend(traced.iter().map(String::as_str));
    let mut server = Server::start_by(&prefix, data, &[]);
    let repository = Repository::new();
    let town = server.town(json!({"agent_server": "rehearsal"})).await;
    let rig = server.rig(&town, &repository.origin()).await;

    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (address, rig) = (server.address().to_owned(), rig.clone());
        clients.spawn(async move { make_beads(client, &address, &rig).await });
    }
    let made: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    assert!(!made.is_empty());
    assert_eq!(server.ended().code(), Some(1));
    let log = std::fs::read_to_string(log).unwrap();
    for words in [
        "the database stops taking writes",
        "Input/output error",
        "gastownd: failed to serve: the database stopped taking writes",
    ] {
        assert!(log.contains(words), "{words:?} is not in\n{log}");
    }

    server.prefix.clear();
    server.restart();
    for bead_id in made {
        server.get(&format!("{rig}/beads/{bead_id}")).await;
    }
    assert!(server.terminate().success());
}

/// Makes beads until that fails; those that were acknowledged.
async fn make_beads(client: usize, address: &str, rig: &str) -> Vec<String> {
    let mut made = Vec::new();
    loop {
        let bead = json!({"type": "issue", "title": format!("{client}-{}", made.len())});
        let Ok(stream) = TcpStream::connect(address).await else {
            return made;
        };
        let (path, body) = (format!("{rig}/beads"), bead.to_string().into_bytes());
        match exchange_on(stream, address, "POST", &path, &[], body).await {
            Ok((StatusCode::CREATED, _, body)) => {
                let answer: Value = serde_json::from_slice(&body).unwrap();
                made.push(answer["data"]["bead_id"].as_str().unwrap().to_owned());
            }
            Ok((status, ..)) => {
                assert!(status.is_server_error(), "{status}");
                return made;
            }
            Err(_) => return made,
        }
    }
}
