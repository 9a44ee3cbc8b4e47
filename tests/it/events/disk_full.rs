//! A disk that is full: writes are refused, nothing else, until there is room. A disk that fails: the
//! server ends rather than guess, and the next one has all that was acknowledged.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::kills::{agents, remote_rig};
use crate::support::program::Program;
use crate::support::server::{Server, Stream, exchange};

const MIB: u64 = 1 << 20;

/// A small file system of its own over a data folder, which only processes of its namespace see.
struct SmallDisk {
    holder: Program,
    folder: PathBuf,
}

impl SmallDisk {
    fn over(folder: &std::path::Path, mib: u64) -> Self {
        let mount = format!(
            "mount -t tmpfs -o size={mib}m none '{}' && echo mounted: yes && exec sleep 1000",
            folder.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &mount]);
        let holder = Program::start(&mut command);
        holder.told_after("mounted:");
        Self {
            holder,
            folder: folder.to_owned(),
        }
    }

    /// The command by which a program sees it.
    fn inside(&self) -> Vec<String> {
        let pid = self.holder.pid().to_string();
        let words = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", &pid];
        words.map(str::to_owned).to_vec()
    }

    fn seen_from_here(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(self.folder.strip_prefix("/").unwrap())
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.seen_from_here()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Somebody else takes what is free but for so many bytes.
    fn fill(&self, leave: u64) {
        let mut filler = File::create(self.seen_from_here().join("filler")).unwrap();
        let page = [7u8; 4096];
        while self.free() > leave {
            if filler.write_all(&page).is_err() {
                return;
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.seen_from_here().join("filler")).unwrap();
    }
}

struct Case {
    disk: SmallDisk,
    server: Server,
    town: String,
    rig: String,
    agent_id: String,
}

impl Case {
    async fn new(mib: u64, reserve: &str) -> Self {
        let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
        let disk = SmallDisk::over(data.path(), mib);
        let prefix = disk.inside();
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let server = Server::start_by(&prefix, data, &["--storage-reserve", reserve]);
        let town = server.town(json!({})).await;
        let rig = remote_rig(&server, &town).await;
        let agent_id = agents(&server, &rig, 1).await.remove(0);
        Self {
            disk,
            server,
            town,
            rig,
            agent_id,
        }
    }

    async fn append(&self, size: usize) -> (StatusCode, Option<String>, Value) {
        let event = json!({
            "agent_id": self.agent_id, "event_type": "note", "data": "x".repeat(size),
        });
        self.post("agent-events", event).await
    }

    async fn post(&self, what: &str, body: Value) -> (StatusCode, Option<String>, Value) {
        let path = format!("{}/{what}", self.rig);
        let body = body.to_string().into_bytes();
        let (status, headers, answer) =
            exchange(self.server.address(), "POST", &path, &[], body).await;
        let retry = headers.get("retry-after");
        let retry = retry.map(|value| value.to_str().unwrap().to_owned());
        (status, retry, serde_json::from_slice(&answer).unwrap())
    }

    async fn events(&self) -> usize {
        let path = format!("{}/agents/{}/events?limit=1000", self.rig, self.agent_id);
        self.server.get(&path).await.as_array().unwrap().len()
    }

    async fn is_full(&self) {
        for (status, retry, answer) in [
            self.append(300).await,
            self.post("beads", json!({"type": "issue", "title": "x"}))
                .await,
            self.post("sling", json!({"title": "x"})).await,
        ] {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
            assert_eq!(answer["code"], "storage_full", "{answer}");
            assert!(retry.is_some(), "it says when to come back");
        }
        let (status, ready) = self.server.call("GET", "/ready", Value::Null).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready["reason"], "storage_full", "{ready}");
    }

    async fn stream(&self) -> Stream {
        let mut stream = self.server.stream(&self.town).await;
        stream.subscribe(&self.agent_id, 0).await;
        assert_eq!(stream.next().await.unwrap()["type"], "subscribed");
        stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let case = Case::new(64, "16MiB").await;
    assert_eq!(case.append(300).await.0, StatusCode::CREATED);
    let mut stream = case.stream().await;
    assert_eq!(stream.event().await.unwrap()["id"], 1);
    case.disk.fill(8 * MIB);
    // What was admitted at the last look is still taken; a stride later it is over.
    let mut stored = 1;
    while case.append(20_000).await.0 == StatusCode::CREATED {
        stored += 1;
    }
    case.is_full().await;
    assert_eq!(case.events().await, stored, "reads go on");
    for id in 2..=stored {
        assert_eq!(stream.event().await.unwrap()["id"], id);
    }
    stream.say(json!({"type": "ping", "id": 1})).await;
    assert_eq!(
        stream.next().await.unwrap()["type"],
        "pong",
        "no frame for what was refused"
    );
    let beads = case.server.get(&format!("{}/beads", case.rig)).await;
    assert_eq!(beads, json!([]), "nothing was half stored");

    case.disk.make_room();
    let (status, _, answer) = case.append(300).await;
    assert_eq!(
        status,
        StatusCode::CREATED,
        "it goes on by itself: {answer}"
    );
    assert_eq!(answer["data"]["id"], stored + 1, "no id was used up");
    assert_eq!(stream.event().await.unwrap()["id"], stored + 1);
    let slung = case
        .server
        .post(&format!("{}/sling", case.rig), json!({"title": "x"}))
        .await;
    assert_eq!(slung["bead"]["title"], "x");
    case.server.get("/ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_ends_the_server_and_the_next_one_has_all_that_was_acknowledged() {
    let mut case = Case::new(48, "4MiB").await;
    assert_eq!(case.append(300).await.0, StatusCode::CREATED);
    let mut stream = case.stream().await;
    assert_eq!(stream.event().await.unwrap()["id"], 1);
    // The disk is filled to the last byte within one stride of the watch, so the engine meets it.
    let mut stored = 1;
    let refused = loop {
        case.disk.fill(0);
        let path = format!("{}/agent-events", case.rig);
        let event = json!({
            "agent_id": case.agent_id, "event_type": "note", "data": "x".repeat(20_000),
        });
        let connection = tokio::net::TcpStream::connect(case.server.address()).await;
        let Ok(connection) = connection else {
            break None;
        };
        let body = event.to_string().into_bytes();
        let answer = crate::support::server::exchange_on(
            connection,
            case.server.address(),
            "POST",
            &path,
            &[],
            body,
        );
        match answer.await {
            Ok((StatusCode::CREATED, _, _)) => stored += 1,
            Ok((status, _, answer)) => break Some((status, answer)),
            Err(_) => break None,
        }
    };
    if let Some((status, answer)) = refused {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["code"], "storage_failed", "{answer}");
    }
    assert!(!case.server.ended().success(), "it says that it failed");
    // Still full: the ballast lets the next one open the database.
    case.server.restart();
    case.is_full().await;
    let events = case.events().await;
    assert!(
        (stored..=stored + 1).contains(&events),
        "{events} of {stored}"
    );
    case.disk.make_room();
    let (status, _, answer) = case.append(300).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["data"]["id"], events + 1);
}
