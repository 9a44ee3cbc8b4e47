//! A run of a real server, recorded, comes to the same decisions when it is replayed.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::repository::Repository;
use crate::support::server::Server;

fn replay(record: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gastownd"))
        .arg("replay")
        .arg(record)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_is_replayed_to_the_same_actions() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("looks.jsonl");
    let repository = Repository::new();
    let server = Server::start(&["--reconcile-record", &record.to_string_lossy()]);
    let town = server
        .town(json!({"agent_server": "rehearsal", "providers": {"rehearsal": {"pace_ms": 1}}}))
        .await;
    let rig = server.rig(&town, &repository.origin()).await;
    let order = json!({"title": "Greet people", "body": "Write a greeting."});
    let slung = server.post(&format!("{rig}/sling"), order).await;
    let bead = format!("{rig}/beads/{}", slung["bead"]["bead_id"].as_str().unwrap());
    let is_closed = |bead: &Value| bead["status"] == "closed";
    server.until("the bead is merged", &bead, is_closed).await;
    // Its end writes down what waits.
    drop(server);

    let text = std::fs::read_to_string(&record).unwrap();
    let looks: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let done: Vec<&str> = looks
        .iter()
        .flat_map(|look| look["plan"]["actions"].as_array().unwrap())
        .map(|planned| planned["action"]["do"].as_str().unwrap())
        .collect();
    for expected in ["wake_container", "dispatch", "merge"] {
        assert!(done.contains(&expected), "{done:?}");
    }
    let same = replay(&record);
    assert!(same.status.success(), "{same:?}");
    let said = String::from_utf8(same.stdout).unwrap();
    let expected = format!(
        "{} looks, {} actions, 0 looks differ\n",
        looks.len(),
        done.len()
    );
    assert_eq!(said, expected);

    // A look from which something else follows.
    let mut other = looks;
    let changed = other
        .iter_mut()
        .find(|look| look["plan"]["actions"] != json!([]))
        .unwrap();
    changed["plan"]["actions"] = json!([]);
    let lines: Vec<String> = other.iter().map(Value::to_string).collect();
    std::fs::write(&record, lines.join("\n") + "\n").unwrap();
    let different = replay(&record);
    assert_eq!(different.status.code(), Some(1), "{different:?}");
    let said = String::from_utf8(different.stdout).unwrap();
    assert!(said.ends_with("1 looks differ\n"), "{said}");

    std::fs::write(&record, "not a look\n").unwrap();
    let unreadable = replay(&record);
    assert_eq!(unreadable.status.code(), Some(1));
    let said = String::from_utf8(unreadable.stderr).unwrap();
    assert!(said.contains("line 1 of the record"), "{said}");
}
