//! A database of the first release is opened by this one, with everything in it, and work goes on.
//!
//! `fixtures/database-v1.tar.gz` was made by that release: a town whose work is done (three beads
//! that rehearsed agents did and merged, mail, escalations, events of every size), one whose work
//! can't go on (its repository is out of reach), and an empty one. `expected.json` in it holds what
//! that release answered to the same requests.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::facts::Facts;
use crate::support::repository::Repository;
use crate::support::server::{Server, request};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/database-v1.tar.gz"
);

fn unpacked() -> (TempDir, Value) {
    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let tar = Command::new("tar")
        .args(["-xzf", FIXTURE, "-C"])
        .arg(data.path())
        .status();
    assert!(tar.unwrap().success());
    let expected = std::fs::read_to_string(data.path().join("expected.json")).unwrap();
    (data, serde_json::from_str(&expected).unwrap())
}

/// What of the old answer is not in the new one; newer fields may be there.
fn lost(old: &Value, new: &Value, at: &str, lost_here: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let found = new.get(name).unwrap_or(&Value::Null);
                lost(value, found, &format!("{at}.{name}"), lost_here);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                lost(old, new, &format!("{at}[{index}]"), lost_here);
            }
        }
        _ if old == new => {}
        _ => lost_here.push(format!("{at}: {old:.200} is now {new:.200}")),
    }
}

async fn compare(server: &Server, expected: &Value) {
    let mut wrong = Vec::new();
    for answer in expected["answers"].as_array().unwrap() {
        let path = answer[0].as_str().unwrap();
        lost(&answer[1], &server.get(path).await, path, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_release_is_whole_and_work_goes_on_in_it() {
    let (data, expected) = unpacked();
    let mut server = Server::start_on(data, &[]);
    compare(&server, &expected).await;
    // Killed and opened again: what was converted stays so.
    server.kill();
    server.restart();
    compare(&server, &expected).await;

    // What was on a hook still is.
    let busy = expected["busy_rig"].as_str().unwrap();
    let id = |name: &str| expected[name].as_str().unwrap().to_owned();
    let bead = server
        .get(&format!("{busy}/beads/{}", id("hooked_bead")))
        .await;
    assert_eq!(bead["assignee_agent_bead_id"], expected["hooked_agent"]);
    assert_eq!(bead["status"], "in_progress");

    // The facts are a sequence from the first on, and mail that waited is handed over once.
    let (town, rig) = (id("town"), id("rig"));
    let mut facts = Facts::of(&server, &town).await;
    facts
        .until("bead.created", |fact| {
            fact["metadata"].to_string().contains("By hand")
        })
        .await;
    let mail = format!("{rig}/agents/{}/mail", id("waiting_mail_of"));
    let mails = server.get(&mail).await;
    assert_eq!(
        (&mails[0]["subject"], &mails[1]),
        (&json!("waits"), &Value::Null)
    );
    assert_eq!(server.get(&mail).await, json!([]));

    // What happened to beads is found by the bead, by the rig and in the whole town.
    let parent = server.get(&format!("{rig}/beads?limit=1000")).await;
    let of_title = |bead: &&Value| bead["title"] == "Parent";
    let parent = parent.as_array().unwrap().iter().find(of_title).unwrap();
    let of_town = format!(
        "/api/users/u/towns/{}/events",
        town.rsplit('/').next().unwrap()
    );
    for ledger in [format!("{rig}/events"), of_town] {
        let all = server.get(&format!("{ledger}?limit=1000")).await;
        let about = |event: &&Value| event["bead_id"] == parent["bead_id"];
        let found: Vec<_> = all.as_array().unwrap().iter().filter(about).collect();
        assert_eq!(found[0]["event_type"], "created", "{all:.300}");
        let by_bead = format!("{ledger}?bead_id={}", parent["bead_id"].as_str().unwrap());
        assert_eq!(
            server.get(&by_bead).await.as_array().unwrap().len(),
            found.len()
        );
    }

    // Work in the old town, beside the old rig, and on old rows.
    let repository = Repository::new();
    let new = server
        .rig_named("beside", &town, &repository.origin())
        .await;
    let order = json!({"title": "After the upgrade"});
    let slung = server.post(&format!("{new}/sling"), order).await;
    let bead_id = slung["bead"]["bead_id"].clone();
    facts
        .until("bead.closed", |fact| fact["bead_id"] == bead_id)
        .await;
    let body = json!({"type": "issue", "title": "Another"});
    let another = server.post(&format!("{rig}/beads"), body).await;
    let listed = server.get(&format!("{rig}/beads?limit=1")).await;
    assert_eq!(listed[0]["bead_id"], another["bead_id"], "the newest first");
    let user = format!(
        "/api/users/v/towns/{}",
        id("busy_town").rsplit('/').next().unwrap()
    );
    let (status, _) = request(server.address(), "DELETE", &user, &[], vec![]).await;
    assert_eq!(status, 200);
}
