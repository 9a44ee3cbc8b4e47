//! Holding work back, letting it go on, and what it costs, on a real server with the rehearsal.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::case::{Case, ONE_TRY, rehearsal};

/// Work that goes on until it is stopped.
const HANGS: &str = "rehearse: hang";

impl Case {
    /// Slings; the path of the bead and the agent's id, if it has one at once.
    async fn order(&self, title: &str, body: &str) -> (String, Option<String>) {
        let order = json!({"title": title, "body": body});
        let slung = self
            .server
            .post(&format!("{}/sling", self.rig), order)
            .await;
        let bead_id = slung["bead"]["bead_id"].as_str().unwrap();
        let agent_id = slung["agent"]["id"].as_str().map(str::to_owned);
        (format!("{}/beads/{bead_id}", self.rig), agent_id)
    }

    async fn act(&self, path: &str) -> Value {
        self.server.post(path, Value::Null).await
    }

    async fn until_status(&self, bead: &str, status: &str) -> Value {
        let is = |bead: &Value| bead["status"] == status;
        self.server.until(status, bead, is).await
    }

    async fn plan(&self) -> Value {
        let path = format!("{}/reconcile?dry_run=1", self.town);
        self.server.get(&path).await
    }

    async fn refused(&self, method: &str, path: &str) -> (u16, String) {
        let (status, answer) = self.server.call(method, path, Value::Null).await;
        let code = answer["code"].as_str().unwrap().to_owned();
        (status.as_u16(), code)
    }
}

#[tokio::test]
async fn a_paused_town_starts_nothing_until_it_is_resumed() {
    let mut case = Case::rehearsed(&[]).await;
    for held in [case.town.clone(), case.rig.clone()] {
        assert_eq!(case.act(&format!("{held}/pause")).await["paused"], true);
        let (bead, agent) = case.order("Wait for it", "").await;
        assert_eq!(agent, None);
        let plan = case.plan().await;
        assert_eq!(plan["actions"], json!([]), "{plan:#}");
        assert_eq!(plan["view"]["queues"].as_array().unwrap().len(), 1);
        assert_eq!(case.server.get(&bead).await["status"], "open");
        assert_eq!(case.act(&format!("{held}/resume")).await["paused"], false);
        case.until_status(&bead, "closed").await;
    }
    let towns = case.server.get("/api/users/u/towns").await;
    assert_eq!(towns[0]["paused"], false);
    case.end().await;
}

#[tokio::test]
async fn slings_beyond_the_cap_are_done_one_after_another() {
    let mut config = rehearsal();
    config["max_polecats_per_rig"] = 1.into();
    let mut case = Case::new(&[], config).await;
    let mut beads = Vec::new();
    for number in 0..3 {
        let (bead, agent) = case.order(&format!("Note {number}"), "").await;
        assert_eq!(agent.is_some(), number == 0);
        beads.push(bead);
    }
    for bead in &beads {
        case.until_status(bead, "closed").await;
    }
    let agents = case.server.get(&format!("{}/agents", case.rig)).await;
    assert_eq!(agents.as_array().unwrap().len(), 1, "{agents:#}");
    case.end().await;
}

#[tokio::test]
async fn stop_all_keeps_the_hooks_and_stopping_one_agent_gives_its_bead_back() {
    let mut case = Case::rehearsed(&[]).await;
    let (bead, agent) = case.order("Hang about", HANGS).await;
    let agent = format!("{}/agents/{}", case.rig, agent.unwrap());
    case.facts.until("agent.started", |_| true).await;
    let stopped = case.act(&format!("{}/stop-all", case.town)).await;
    assert_eq!(stopped, json!({"paused": true, "stopped": 1}));
    case.facts
        .until("agent.exited", |fact| {
            fact["metadata"]["status"] == "stopped"
        })
        .await;
    let held = case
        .server
        .until("it is idle", &agent, |agent| agent["status"] == "idle")
        .await;
    assert!(bead.ends_with(held["current_hook_bead_id"].as_str().unwrap()));
    assert_eq!(held["dispatch_attempts"], 0);
    // That the container is not needed any more is noted once; then there is nothing to do.
    let plan = format!("{}/reconcile?dry_run=1", case.town);
    let rests = |plan: &Value| plan["actions"] == json!([]);
    case.server.until("nothing is planned", &plan, rests).await;

    case.act(&format!("{}/resume", case.town)).await;
    case.facts
        .until("agent.started", |fact| fact["metadata"]["resumed"] == true)
        .await;
    let stopped = case.act(&format!("{agent}/stop")).await;
    assert_eq!(stopped["stopped"], true);
    assert!(bead.ends_with(stopped["bead_id"].as_str().unwrap()));
    assert_eq!(case.server.get(&bead).await["status"], "open");
    let free = |agent: &Value| agent["status"] == "idle" && agent["current_hook_bead_id"].is_null();
    case.server.until("it is free", &agent, free).await;
    assert_eq!(
        case.act(&format!("{agent}/stop")).await["bead_id"],
        json!(null)
    );
    case.end().await;
}

#[tokio::test]
async fn a_failed_bead_is_tried_again_on_demand() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let (bead, agent) = case.order("Fail", "rehearse: error no such luck").await;
    assert!(agent.is_some());
    case.until_status(&bead, "failed").await;
    let retried = case.act(&format!("{bead}/retry")).await;
    assert_eq!(retried["status"], "open");
    assert_eq!(retried["failure_reason"], json!(null));
    let failed = |case: &Case| {
        case.facts
            .count("bead.status_changed", |fact| fact["new_value"] == "failed")
    };
    case.until_status(&bead, "failed").await;
    case.facts.until("bead.retried", |_| true).await;
    case.facts
        .until("agent.exited", |fact| {
            fact["metadata"]["status"] == "failed"
        })
        .await;
    assert!(failed(&case) >= 1);
    let (open, _) = case.order("Another", HANGS).await;
    let refused = case.refused("POST", &format!("{open}/retry")).await;
    assert_eq!(refused, (409, "bead_not_failed".to_owned()));
    case.end().await;
}

#[tokio::test]
async fn a_used_up_budget_holds_work_until_it_is_raised() {
    let mut config = rehearsal();
    config["budget"] = json!({"tokens_per_day": 1});
    let mut case = Case::new(&[], config).await;
    let (first, agent) = case.order("Spend it", "").await;
    case.until_status(&first, "closed").await;
    case.facts.until("budget.reached", |_| true).await;
    let (second, none) = case.order("Wait", "").await;
    assert_eq!(none, None);
    let escalations = case.server.get(&format!("{}/escalations", case.town)).await;
    let about_it = escalations.as_array().unwrap().iter();
    let about_it = about_it.filter(|bead| bead["title"] == "the day's budget is used up");
    assert_eq!(about_it.count(), 1, "{escalations:#}");
    assert_eq!(case.server.get(&second).await["status"], "open");

    let config = format!("{}/config", case.town);
    let raised = json!({"budget": {"tokens_per_day": 1_000_000_000}});
    case.server.must("PATCH", &config, raised).await;
    case.until_status(&second, "closed").await;
    case.facts.until("budget.freed", |_| true).await;
    expect_exact_usage(&case, &agent.unwrap()).await;
    case.end().await;
}

/// What is told of the usage is the sum of what each message said last.
async fn expect_exact_usage(case: &Case, agent_id: &str) {
    let agent = format!("{}/agents/{agent_id}", case.rig);
    case.server
        .until("it is free", &agent, |agent| agent["status"] == "idle")
        .await;
    let events = format!("{agent}/events?limit=1000");
    let events = case.server.get(&events).await;
    let mut last = BTreeMap::new();
    for event in events.as_array().unwrap() {
        let info = &event["data"]["info"];
        if event["event_type"] == "message.updated" && info["role"] == "assistant" {
            let id = info["id"].as_str().unwrap().to_owned();
            let tokens = info["tokens"]["input"].as_u64().unwrap()
                + info["tokens"]["output"].as_u64().unwrap();
            last.insert(id, (tokens, info["cost"].as_f64().unwrap()));
        }
    }
    let tokens: u64 = last.values().map(|(tokens, _)| tokens).sum();
    let cost: f64 = last.values().map(|(_, cost)| cost).sum();
    assert!(tokens > 0);
    let usage = case.server.get(&format!("{}/usage", case.town)).await;
    // The mayor, who is told of the budget, has used something as well.
    let agents = usage["by_agent"].as_array().unwrap();
    let own = agents.iter().find(|own| own["agent_id"] == agent_id);
    let own = own.unwrap_or_else(|| panic!("{usage:#}"));
    assert_eq!(own["tokens"]["total"], tokens, "{usage:#}");
    assert!((own["cost"].as_f64().unwrap() - cost).abs() < 1e-6);
    let sum: u64 = agents.iter().map(total).sum();
    for whole in [&usage["total"], &usage["by_day"][0]] {
        assert_eq!(total(whole), sum, "{usage:#}");
    }
    let beads = usage["by_bead"].as_array().unwrap();
    let of_beads = beads.iter().filter(|bead| !bead["bead_id"].is_null());
    let of_beads = of_beads.map(total);
    assert_eq!(of_beads.sum::<u64>(), tokens);
}

fn total(of: &Value) -> u64 {
    of["tokens"]["total"].as_u64().unwrap()
}

#[tokio::test]
async fn what_can_t_be_done_is_refused() {
    let mut case = Case::rehearsed(&[]).await;
    let nobody = uuid::Uuid::new_v4();
    let (town, rig) = (&case.town, &case.rig);
    let cases = [
        (
            "POST",
            format!("/api/towns/{nobody}/pause"),
            404,
            "town_not_found",
        ),
        (
            "POST",
            format!("{town}/rigs/{nobody}/pause"),
            404,
            "rig_not_found",
        ),
        (
            "POST",
            format!("{rig}/beads/{nobody}/retry"),
            404,
            "bead_not_found",
        ),
        (
            "POST",
            format!("{rig}/agents/{nobody}/stop"),
            404,
            "agent_not_found",
        ),
        (
            "GET",
            format!("{town}/usage?days=0"),
            400,
            "invalid_request",
        ),
        (
            "GET",
            format!("{town}/usage?days=x"),
            400,
            "invalid_request",
        ),
        ("GET", format!("{town}/reconcile"), 400, "invalid_request"),
        (
            "GET",
            format!("{town}/reconcile?dry_run=0"),
            400,
            "invalid_request",
        ),
    ];
    for (method, path, status, code) in cases {
        let refused = case.refused(method, &path).await;
        assert_eq!(refused, (status, code.to_owned()), "{path}");
    }
    case.end().await;
}
