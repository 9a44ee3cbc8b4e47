//! What must be true when all is left in peace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::{Client, PAUSE};
use super::follower::{FEED, Seen};
use super::mischief::words_of;
use super::slinger::{Slung, has_ended};
use super::{Town, say};
use crate::support::server::{PATIENCE, Server};

/// How long the work may take that was under way at the end: each bead has several tries left.
const WORK_ENDS_WITHIN: Duration = Duration::from_mins(10);

/// Every bead is closed, or failed with a reason; and most are closed.
pub(super) async fn all_have_ended(client: &Client, slung: &[Slung]) {
    let limit = Instant::now() + WORK_ENDS_WITHIN;
    let mut closed = 0;
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    for slung in slung {
        let bead = loop {
            let bead = client.get(&slung.path()).await;
            if has_ended(&bead) {
                break bead;
            }
            assert!(Instant::now() < limit, "it never ends: {bead:#}");
            tokio::time::sleep(PAUSE).await;
        };
        if bead["status"] == "closed" {
            closed += 1;
            continue;
        }
        let reason = bead["failure_reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "failed without a reason: {bead:#}");
        *failed.entry(reason.to_owned()).or_default() += 1;
    }
    let all = slung.len();
    say(format!(
        "chaos: {all} beads, {closed} closed; failed: {failed:#?}"
    ));
    let failed = failed.values().sum::<usize>();
    assert!(closed > failed, "{closed} closed, {failed} failed");
}

/// Nobody works any more, and nothing is to be merged.
pub(super) async fn is_quiet(client: &Client, town: &Town) {
    let limit = Instant::now() + PATIENCE;
    loop {
        let agents = client
            .list(&format!("{}/agents?role=polecat", town.rig))
            .await;
        let busy = agents.iter().find(|agent| agent["status"] != "idle");
        let reviews = format!("{}/beads?type=merge_request&status=open", town.rig);
        let waiting = client.list(&reviews).await;
        if busy.is_none() && waiting.is_empty() {
            return;
        }
        assert!(
            Instant::now() < limit,
            "{}: {busy:#?} {waiting:#?}",
            town.name
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was merged is on main, by commit and by content, and every acknowledged order is one bead.
pub(super) async fn work_is_where_it_is_said_to_be(client: &Client, town: &Town, slung: &[Slung]) {
    let own: Vec<_> = slung.iter().filter(|slung| slung.rig == town.rig).collect();
    let beads = client.list(&format!("{}/beads?type=issue", town.rig)).await;
    let mut titles: Vec<_> = beads
        .iter()
        .filter_map(|bead| bead["title"].as_str())
        .collect();
    titles.retain(|title| title.starts_with("Work "));
    titles.sort_unstable();
    let mut wanted: Vec<_> = own.iter().map(|slung| slung.title.as_str()).collect();
    wanted.sort_unstable();
    assert_eq!(titles, wanted, "{}", town.name);

    let files = town
        .repository
        .git(&["ls-tree", "-r", "--name-only", "main"]);
    let files: Vec<_> = files.lines().collect();
    let mut closed = 0;
    for slung in own {
        let bead = client.get(&slung.path()).await;
        if bead["status"] == "closed" {
            closed += 1;
            let file = slung.file.as_deref().expect("nothing can close this one");
            assert!(
                files.contains(&file),
                "{}: {file} is not on main: {bead:#}",
                town.name
            );
        }
    }
    let commits = town.repository.git(&["rev-list", "main"]);
    let requests = format!("{}/beads?type=merge_request", town.rig);
    let mut merged = 0;
    for request in client.list(&requests).await {
        let entry_id = request["bead_id"].as_str().unwrap();
        let review = client
            .get(&format!("{}/review-queue/{entry_id}", town.rig))
            .await;
        if review["status"] == "merged" {
            merged += 1;
            let commit = review["commit_sha"].as_str().expect("merged as a commit");
            assert!(
                commits.contains(commit),
                "{}: {commit} is not on main: {review:#}",
                town.name
            );
        }
    }
    assert!(
        merged >= closed,
        "{}: {closed} closed, {merged} merged",
        town.name
    );
    say(format!(
        "chaos: {}: {closed} closed, {merged} merged",
        town.name
    ));
}

/// Over HTTP there are the events that the stream has shown: all of them, once, in order.
pub(super) async fn log_is_as_it_was_shown(client: &Client, seen: &Seen) {
    let mut events = 0;
    let agents = client.list(&format!("{}/agents?", seen.rig)).await;
    for (log, shown) in &seen.logs {
        // The mayor is the town's and of no rig, so it has no list of events.
        if !agents.iter().any(|agent| agent["id"] == log.as_str()) {
            continue;
        }
        let mut last = 0;
        loop {
            let path = format!(
                "{}/agents/{log}/events?after_id={last}&limit=1000",
                seen.rig
            );
            let page = client.get(&path).await;
            let page = page.as_array().unwrap();
            for event in page {
                last += 1;
                assert_eq!(event["id"], last, "no gap and no repeat: {event}");
            }
            if page.is_empty() {
                break;
            }
        }
        // A session that ends may have said something since.
        assert!(last >= shown.last, "agent {log}: {last} of {}", shown.last);
        events += last;
    }
    let facts = seen.logs[FEED].last;
    say(format!(
        "chaos: {} logs with {events} events, {facts} facts",
        seen.logs.len()
    ));
}

/// Nothing is left of a server that ends in peace: no process and no mount.
pub(super) async fn ends_without_a_trace(mut server: Server) {
    assert!(server.terminate().success());
    let limit = Instant::now() + PATIENCE;
    while !server.leftovers().is_empty() {
        assert!(Instant::now() < limit, "left: {:#?}", left(&server));
        tokio::time::sleep(PAUSE).await;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = server.data.path().to_string_lossy();
    assert!(!mounts.contains(folder.as_ref()), "{mounts}");
}

fn left(server: &Server) -> Vec<String> {
    let pids = server.leftovers().into_iter();
    pids.map(|pid| format!("{pid}: {}", words_of(pid).join(" ")))
        .collect()
}
