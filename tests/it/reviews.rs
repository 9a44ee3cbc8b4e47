//! From a finished branch to the target: gates, the refinery's review, a person's word, and the way
//! back to the polecat, with a real server, a real repository and rehearsed agents.

use serde_json::{Value, json};

use crate::support::case::{Case, ONE_TRY, Slung, names, rehearsal};

/// A town whose refinery config is this.
async fn town_with(refinery: Value) -> Case {
    let mut config = rehearsal();
    config["refinery"] = refinery;
    Case::new(ONE_TRY, config).await
}

/// The merge request of a bead, as the review queue shows it.
async fn entry_of(case: &mut Case, bead: &Slung) -> String {
    let own = |fact: &Value| fact["metadata"]["source_bead_id"] == bead.bead_id.as_str();
    case.facts.until("review.submitted", own).await;
    let requests = format!("{}/beads?type=merge_request", case.rig);
    let requests = case.server.get(&requests).await;
    let own = |entry: &&Value| entry["metadata"]["source_bead_id"] == bead.bead_id.as_str();
    let entry = requests.as_array().unwrap().iter().find(own).unwrap();
    format!(
        "{}/review-queue/{}",
        case.rig,
        entry["bead_id"].as_str().unwrap()
    )
}

async fn mailbox(case: &Case, agent_id: &str) -> Vec<Value> {
    let path = format!("{}/agents/{agent_id}/mailbox", case.rig);
    case.server.get(&path).await.as_array().unwrap().clone()
}

fn types(mails: &[Value]) -> Vec<&str> {
    mails
        .iter()
        .map(|mail| mail["mail_type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_branch_is_reviewed_gated_and_merged() {
    let mut case = town_with(json!({"gates": ["echo looking at it", "grep -q Hello a.txt"]})).await;
    let bead = case
        .sling("Greet people", "rehearse: write a.txt <<Hello")
        .await;
    case.expect_closed(&bead).await;
    let entry = entry_of(&mut case, &bead).await;
    let review = case.server.get(&entry).await;
    assert_eq!(review["status"], "merged", "{review}");
    assert_eq!(
        (&review["approval"], &review["reworks"]),
        (&json!("refinery"), &json!(0))
    );
    assert!(names(&review["approval_note"], "does what the bead asks"));
    let output = &review["gate_output"];
    assert!(
        names(output, "$ echo looking at it\nlooking at it\n"),
        "{output}"
    );
    assert!(
        names(output, "$ grep -q Hello a.txt\n[exit status: 0"),
        "{output}"
    );
    assert_eq!(case.repository.pushed("main", "a.txt"), "Hello\n");
    assert_eq!(case.facts.count("review.approved", |_| true), 1);
    assert_eq!(types(&mailbox(&case, &bead.agent_id).await), ["MERGED"]);
    let path = format!("{}/agents?role=refinery", case.rig);
    let refinery = case.server.get(&path).await;
    let mails = mailbox(&case, refinery[0]["id"].as_str().unwrap()).await;
    assert_eq!(types(&mails), ["MERGE_READY"]);
    let queue = format!("{}/review-queue", case.rig);
    assert_eq!(case.server.get(&queue).await, json!([]), "nothing waits");
    let merged = case.server.get(&format!("{queue}?status=merged")).await;
    assert_eq!(merged[0]["entry_id"], review["entry_id"]);
    case.end().await;
}

#[tokio::test]
async fn a_red_gate_sends_the_branch_back_and_it_is_mended() {
    let mut case = town_with(json!({"gates": ["cat a.txt; grep -q sound a.txt"]})).await;
    let body = "rehearse: write a.txt <<broken\nrehearse: rework write a.txt <<sound";
    let bead = case.sling("Greet people", body).await;
    case.expect_closed(&bead).await;
    let entry = entry_of(&mut case, &bead).await;
    let review = case.server.get(&entry).await;
    assert_eq!(
        (&review["status"], &review["reworks"]),
        (&json!("merged"), &json!(1))
    );
    let sent_back = case.facts.until("review.rework", |_| true).await;
    assert_eq!(sent_back["metadata"]["cause"], "gate", "{sent_back}");
    assert!(names(&sent_back["metadata"]["reason"], "broken"));
    assert_eq!(case.repository.pushed("main", "a.txt"), "sound\n");
    assert_eq!(
        case.facts.count("review.approved", |_| true),
        2,
        "what was mended is looked at again"
    );
    let mails = mailbox(&case, &bead.agent_id).await;
    assert_eq!(types(&mails), ["MERGED", "REWORK_REQUEST"]);
    assert_eq!(mails[1]["delivered"], true, "{mails:#?}");
    assert!(names(&mails[1]["body"], "a gate failed"));
    case.end().await;
}

#[tokio::test]
async fn a_gate_that_never_ends_is_stopped_and_after_three_reworks_a_person_is_called() {
    let refinery = json!({"gates": ["echo begun; sleep 600"], "gate_timeout_seconds": 1});
    let mut case = town_with(refinery).await;
    let bead = case.sling("Greet people", "").await;
    case.expect_failed(&bead, "sent back 3 times").await;
    case.expect_escalation("was not merged: Greet people", "not finished after 1 s")
        .await;
    let entry = entry_of(&mut case, &bead).await;
    let review = case.server.get(&entry).await;
    assert_eq!(
        (&review["status"], &review["reworks"]),
        (&json!("failed"), &json!(3))
    );
    assert!(names(&review["gate_output"], "begun\n[stopped"), "{review}");
    assert_eq!(case.facts.count("review.rework", |_| true), 3);
    assert_eq!(
        types(&mailbox(&case, &bead.agent_id).await)[0],
        "MERGE_FAILED"
    );
    case.end().await;
}

#[tokio::test]
async fn the_refinery_asks_for_changes_and_gets_them() {
    let mut case = town_with(json!({"gates": ["true"]})).await;
    let body = "rehearse: write a.txt <<hello\nrehearse: object Say it louder.\n\
                rehearse: rework write a.txt <<HELLO";
    let bead = case.sling("Greet people", body).await;
    case.expect_closed(&bead).await;
    let sent_back = case.facts.until("review.rework", |_| true).await;
    assert_eq!(sent_back["metadata"]["cause"], "changes_requested");
    assert_eq!(sent_back["metadata"]["reason"], "Say it louder.");
    assert_eq!(case.repository.pushed("main", "a.txt"), "HELLO\n");
    case.end().await;
}

#[tokio::test]
async fn a_refinery_that_fails_leaves_the_branch_to_a_person() {
    let mut case = town_with(json!({"gates": ["true"]})).await;
    let bead = case
        .sling("Greet people", "rehearse: review error no credit left")
        .await;
    case.expect_escalation("waits for a person's approval", "no credit left")
        .await;
    let entry = entry_of(&mut case, &bead).await;
    let review = case.server.get(&entry).await;
    assert_eq!(review["status"], "waiting", "{review}");
    let word = json!({"status": "merged", "message": "I have read it"});
    case.server.post(&format!("{entry}/complete"), word).await;
    case.expect_closed(&bead).await;
    let review = case.server.get(&entry).await;
    assert_eq!(
        (&review["status"], &review["approval"]),
        (&json!("merged"), &json!("person"))
    );
    assert_eq!(review["approval_note"], "I have read it");
    let calls = format!("{}/beads?type=escalation&status=open", case.rig);
    let open = case.server.get(&calls).await.to_string();
    assert!(!open.contains("waits for a person's approval"), "{open}");
    case.end().await;
}

#[tokio::test]
async fn without_auto_merge_a_person_sends_back_or_approves() {
    let mut case = town_with(json!({"auto_merge": false})).await;
    let body = "rehearse: write a.txt <<one\nrehearse: rework write a.txt <<two";
    let bead = case.sling("Greet people", body).await;
    let entry = entry_of(&mut case, &bead).await;
    let waits = |review: &Value| review["status"] == "waiting";
    case.server
        .until("it waits for a person", &entry, waits)
        .await;
    let complete = format!("{entry}/complete");
    let word = json!({"status": "conflict", "message": "Write two."});
    case.server.post(&complete, word).await;
    let mended = |review: &Value| waits(review) && review["reworks"] == 1;
    case.server.until("it waits again", &entry, mended).await;
    assert_ne!(case.server.get(&bead.path).await["status"], "closed");
    case.server
        .post(&complete, json!({"status": "merged"}))
        .await;
    case.expect_closed(&bead).await;
    assert_eq!(case.repository.pushed("main", "a.txt"), "two\n");
    let (status, answer) = case
        .server
        .call("POST", &complete, json!({"status": "merged"}))
        .await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (409, &json!("review_finished"))
    );
    case.end().await;
}

/// Every request to the container carries the config as it is then.
#[tokio::test]
async fn the_next_request_uses_the_config_as_it_is_now() {
    let mut config = rehearsal();
    config["refinery"] = json!({"gates": ["echo the colour is $COLOUR"], "auto_merge": false});
    config["env_vars"] = json!({"COLOUR": "red"});
    let mut case = Case::new(ONE_TRY, config).await;
    let bead = case.sling("Greet people", "").await;
    let entry = entry_of(&mut case, &bead).await;
    let waits = |review: &Value| review["status"] == "waiting";
    case.server.until("it waits", &entry, waits).await;
    let patch = json!({"env_vars": {"COLOUR": "blue"}});
    let path = format!("{}/config", case.town);
    case.server.must("PATCH", &path, patch).await;
    let word = json!({"status": "merged"});
    case.server.post(&format!("{entry}/complete"), word).await;
    case.expect_closed(&bead).await;
    let output = &case.server.get(&entry).await["gate_output"];
    assert!(names(output, "the colour is blue\n"), "{output}");
    case.end().await;
}

#[tokio::test]
async fn what_is_pushed_after_the_approval_is_not_merged_without_another() {
    let mut case = town_with(json!({"auto_merge": false})).await;
    let bead = case
        .sling("Greet people", "rehearse: write a.txt <<one")
        .await;
    let entry = entry_of(&mut case, &bead).await;
    let waits = |review: &Value| review["status"] == "waiting";
    let review = case.server.until("it waits", &entry, waits).await;
    let branch = review["branch"].as_str().unwrap();
    let known = review["head_sha"].as_str().unwrap();
    let head = case.repository.git(&["rev-parse", branch]);
    assert_eq!(head.trim(), known);
    // Held, so that somebody can push between the approval and the merge.
    let path = format!("{}/pause", case.town);
    case.server.post(&path, Value::Null).await;
    let complete = format!("{entry}/complete");
    let word = json!({"status": "merged", "head_sha": known});
    case.server.post(&complete, word.clone()).await;
    case.repository.commit_to(branch, "b.txt", "more\n");
    let path = format!("{}/resume", case.town);
    case.server.post(&path, Value::Null).await;
    let moved = case.facts.until("review.moved", |_| true).await;
    assert_eq!(moved["metadata"]["before"], known);
    let review = case.server.until("it waits again", &entry, waits).await;
    assert_eq!(review["approval"], "none");
    let (status, answer) = case.server.call("POST", &complete, word).await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (409, &json!("review_moved"))
    );
    let word = json!({"status": "merged", "head_sha": review["head_sha"]});
    case.server.post(&complete, word).await;
    case.expect_closed(&bead).await;
    assert_eq!(case.repository.pushed("main", "b.txt"), "more\n");
    case.end().await;
}

#[tokio::test]
async fn mail_reaches_a_working_agent_when_its_turn_ends() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    case.repository.hold_pushes_of("Greet");
    let bead = case.sling("Greet people", "rehearse: no-done").await;
    case.started(&bead).await;
    // It has primed and is in the middle of its turn.
    case.server
        .until(
            "its push is held",
            &format!("{}/agents/{}/events?limit=1000", case.rig, bead.agent_id),
            |events| events.to_string().contains("push -u origin HEAD"),
        )
        .await;
    let mail = json!({
        "from_agent_id": "user", "to_agent_id": bead.agent_id,
        "subject": "colour", "body": "Paint it green, please.",
    });
    case.server.post(&format!("{}/mail", case.rig), mail).await;
    assert_eq!(mailbox(&case, &bead.agent_id).await[0]["delivered"], false);
    case.repository.let_go();
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    case.facts.until("agent.told", own).await;
    let delivered = case.facts.until("mail.delivered", own).await;
    assert_eq!(delivered["metadata"]["subject"], "colour");
    case.server
        .until(
            "its session has it",
            &format!("{}/agents/{}/events?limit=1000", case.rig, bead.agent_id),
            |events| events.to_string().contains("Paint it green, please."),
        )
        .await;
    assert_eq!(mailbox(&case, &bead.agent_id).await[0]["delivered"], true);
    let close = json!({"agent_id": bead.agent_id});
    case.server
        .post(&format!("{}/close", bead.path), close)
        .await;
    case.end().await;
}

#[tokio::test]
async fn a_nudge_that_nobody_takes_in_time_is_dropped_and_recorded() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let body = json!({"role": "polecat", "name": "Nux", "identity": "Nux@here"});
    let agent = case
        .server
        .post(&format!("{}/agents", case.rig), body)
        .await;
    let agent_id = agent["id"].as_str().unwrap();
    let path = format!("{}/agents/{agent_id}/nudge", case.rig);
    let body = json!({"message": "Still there?", "ttl_seconds": 1});
    let sent = case.server.post(&path, body).await;
    assert_eq!(sent["mail_type"], "NUDGE");
    let own = |fact: &Value| fact["agent_id"] == agent_id;
    let dropped = case.facts.until("nudge.dropped", own).await;
    assert_eq!(dropped["metadata"]["mail_id"], sent["id"]);
    let mails = mailbox(&case, agent_id).await;
    assert!(names(&mails[0]["dropped"], "too late"), "{mails:?}");
    let unread = format!("{}/agents/{agent_id}/mail", case.rig);
    assert_eq!(case.server.get(&unread).await, json!([]));
    case.end().await;
}
