//! Who may open a data folder, and how a server lets go of it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use gastownd::storage::{Batch, Database, Format, FormatKey, OpenOptions, TreeName};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::program::output_of;
use crate::support::repository::Repository;
use crate::support::server::Server;

fn serve(data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gastownd"));
    command
        .args([
            "serve",
            "--no-auth",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(data)
        .stdin(Stdio::null());
    output_of(&mut command)
}

/// It ends with code 1 and says each of `words` on the last line of its standard error.
#[track_caller]
fn refused(data: &Path, words: &[&str]) {
    let output = serve(data);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap_or_default();
    assert!(last.starts_with("gastownd: failed to "), "{told}");
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
    assert!(output.stdout.is_empty(), "it never said that it listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_and_the_first_goes_on() {
    let server = Server::start(&[]);
    let holder = format!("in use by another gastownd (process {})", server.pid());
    refused(
        server.data.path(),
        &[&holder, &server.data.path().to_string_lossy()],
    );
    server.town(json!({})).await;
}

#[test]
fn a_newer_format_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        cache_bytes: 8 << 20,
    };
    let database = Database::open(data.path(), options).unwrap();
    let mut batch = Batch::new();
    let (program, version) = ("gastownd".to_owned(), 4711);
    batch.put(&FormatKey {}, &Format { program, version });
    let (done, durable) = std::sync::mpsc::channel();
    let meta = database.tree(TreeName::Meta).unwrap();
    meta.commit(batch, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    durable.recv().unwrap().unwrap();
    database.close();
    drop((meta, database));
    refused(
        data.path(),
        &["has format 4711", "reads up to 5", "newer release"],
    );
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("database");
    std::fs::create_dir(&folder).unwrap();
    let text = "Somebody's own notes. ".repeat(1000);
    std::fs::write(folder.join("db"), &text).unwrap();
    refused(data.path(), &["database"]);
    assert_eq!(std::fs::read_to_string(folder.join("db")).unwrap(), text);

    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("database"), "a file, not a folder").unwrap();
    refused(data.path(), &["database"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_under_way() {
    ends_well(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_finishes_what_is_under_way() {
    ends_well(Signal::INT).await;
}

async fn ends_well(signal: Signal) {
    let mut server = Server::start(&[]);
    let town = server.town(json!({"agent_server": "rehearsal"})).await;
    let rig = server.rig(&town, &Repository::new().origin()).await;
    let mut watcher = server.stream(&town).await;

    // A request whose second half comes when the server is already ending.
    let body = json!({"type": "issue", "title": "The last one"}).to_string();
    let (first, second) = body.split_at(10);
    let mut request = TcpStream::connect(server.address()).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST {rig}/beads HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\
         expect: 100-continue\r\n\r\n"
    );
    request.write_all(head.as_bytes()).await.unwrap();
    // The answer to `expect` shows that the request is being read.
    let mut go_on = [0; 25];
    request.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"));
    request.write_all(first.as_bytes()).await.unwrap();

    let ending = tokio::task::spawn_blocking(move || (server.signal(signal), server));
    let code = loop {
        if let Err(code) = watcher.next_or_end().await {
            break code;
        }
    };
    assert_eq!(code, Some(1001), "the watcher is told to come back");
    request.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let (status, mut server) = ending.await.unwrap();
    assert_eq!(status.code(), Some(0));

    server.restart();
    let (_, bead) = answer.split_once("\r\n\r\n").unwrap();
    let bead: Value = serde_json::from_str(bead).unwrap();
    let bead_id = bead["data"]["bead_id"].as_str().unwrap();
    let kept = server.get(&format!("{rig}/beads/{bead_id}")).await;
    assert_eq!(kept["title"], "The last one");
}
