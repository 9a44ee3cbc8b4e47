//! What a town takes of the disk: seen by the API, let go of where it can go, and held against the
//! quota until there is room.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::case::Case;

const MIB: u64 = 1 << 20;

/// Tries and pauses that a test can wait for.
const SOON: &[&str] = &[
    "--dispatch-backoff-min",
    "1s",
    "--dispatch-backoff-max",
    "1s",
];

/// A bead that also tells git which folders are built.
const BEGIN: &str = "rehearse: write .gitignore <<target/";

impl Case {
    async fn disk(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let path = format!("{}/disk", self.town);
        self.server.until(what, &path, done).await
    }

    async fn quota(&self, bytes: u64) {
        let patch = json!({"container": {"disk_bytes_max": bytes}});
        let path = format!("{}/config", self.town);
        self.server.must("PATCH", &path, patch).await;
    }

    async fn merged(&self, title: &str, body: &str) {
        let bead = self.sling(title, body).await;
        self.server
            .until("the bead is merged", &bead.path, |bead| {
                bead["status"] == "closed"
            })
            .await;
    }
}

fn fill(folder: &Path, bytes: u64) {
    std::fs::create_dir_all(folder).unwrap();
    let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    std::fs::write(folder.join("big"), content).unwrap();
}

fn worktree(disk: &Value) -> &Value {
    &disk["rigs"][0]["worktrees"][0]
}

#[tokio::test]
async fn build_folders_go_first_and_then_a_quota_holds_work_until_there_is_room() {
    let mut case = Case::rehearsed(SOON).await;
    case.merged("Begin", BEGIN).await;
    let disk = case
        .disk("it is measured", |disk| worktree(disk)["bytes"].is_u64())
        .await;
    assert!(
        disk["rigs"][0]["repository_bytes"].as_u64().unwrap() > 0,
        "{disk:#}"
    );
    assert_eq!(worktree(&disk)["build_bytes"], 0);
    assert_eq!(
        (&disk["bytes_max"], &disk["held"]),
        (&Value::Null, &Value::Null)
    );
    let folder = worktree(&disk)["folder"].as_str().unwrap().to_owned();

    // What was built goes, and work goes on.
    let target = case
        .rig_folder()
        .join("worktrees")
        .join(&folder)
        .join("target");
    fill(&target, 20 * MIB);
    let most = disk["bytes"].as_u64().unwrap() + 10 * MIB;
    case.quota(most).await;
    case.merged("Go on", "").await;
    let is_built = |fact: &Value| fact["metadata"]["builds"] == 1;
    case.facts.until("disk.tidied", is_built).await;
    assert!(!target.exists());
    // While its agent ran, nothing could go; that may have held work for a moment.
    let has_room = |disk: &Value| disk["bytes"].as_u64() < Some(most) && disk["held"].is_null();
    case.disk("there is room", has_room).await;

    // What can't go holds work back, and people are told.
    let home = case.workspace().join("home").join("cache");
    fill(&home, 20 * MIB);
    case.merged("Once more", "").await;
    let disk = case
        .disk("work is held", |disk| disk["held"].is_string())
        .await;
    let held = disk["held"].as_str().unwrap();
    assert!(held.contains("that the town may take are used"), "{held}");
    case.facts.until("disk.full", |_| true).await;
    let open = format!("{}/escalations?acknowledged=false", case.town);
    let is_told = |open: &Value| open.to_string().contains("disk quota is used up");
    case.server.until("people are called", &open, is_told).await;
    let order = json!({"title": "Wait for room"});
    let slung = case
        .server
        .post(&format!("{}/sling", case.rig), order)
        .await;
    assert_eq!(slung["agent"], Value::Null, "it waits in the queue");
    let bead = format!(
        "{}/beads/{}",
        case.rig,
        slung["bead"]["bead_id"].as_str().unwrap()
    );

    // It goes on by itself.
    std::fs::remove_dir_all(&home).unwrap();
    case.server
        .until("the bead is merged", &bead, |bead| {
            bead["status"] == "closed"
        })
        .await;
    case.facts.until("disk.freed", |_| true).await;
    case.server
        .until("nobody is needed", &open, |open| !is_told(open))
        .await;
    case.end().await;
}

#[tokio::test]
async fn a_merged_worktree_goes_after_its_days_and_one_with_work_stays() {
    let mut case = Case::new(
        SOON,
        json!({"agent_server": "rehearsal", "providers": {"rehearsal": {"pace_ms": 1}},
            "retention": {"worktree_days": 0}}),
    )
    .await;
    case.merged("Begin", BEGIN).await;
    let tidied = case
        .facts
        .until("disk.tidied", |fact| {
            fact["metadata"]["removed"] != json!([]) || fact["metadata"]["kept"] != json!([])
        })
        .await;
    let removed = tidied["metadata"]["removed"].as_array().unwrap();
    assert_eq!(removed.len(), 1, "{tidied:#}");
    let gone = |disk: &Value| disk["rigs"][0]["worktrees"] == json!([]);
    case.disk("the worktree is gone", gone).await;
    // Its agent finds one again.
    case.merged("Go on", "").await;
    case.end().await;
}

#[tokio::test]
async fn a_deleted_agents_worktree_goes_whatever_happens_to_the_server() {
    let mut case = Case::rehearsed(SOON).await;
    let bead = case.sling("Begin", BEGIN).await;
    case.server
        .until("the bead is merged", &bead.path, |bead| {
            bead["status"] == "closed"
        })
        .await;
    let agent = format!("{}/agents/{}", case.rig, bead.agent_id);
    let name = case.server.get(&agent).await["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let folder = case.rig_folder().join("worktrees").join(name);
    case.server.must("DELETE", &agent, json!(null)).await;
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    case.facts.until("agent.removed", own).await;
    assert!(!folder.exists());
    case.end().await;
}
