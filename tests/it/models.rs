//! A model that limits its rate, dies or never comes to an end: told with its words and its time,
//! waited for so long and no longer, and the work goes on.

use gastownd::clock::Clock;
use gastownd::lifecycle::Lifecycle;
use gastownd::model::Timestamp;
use gastownd::sdk::AgentServerKind;
use serde_json::{Value, json};

use crate::main_job::scripted_town;
use crate::support::agent_server;
use crate::support::case::{Case, ONE_TRY, Slung, TRY_SOON, names};
use crate::support::scripted_model::{EXHAUSTED, ScriptedModel};

/// A town whose agents are the real program with a scripted model.
struct Modelled {
    case: Case,
    model: ScriptedModel,
}

impl Modelled {
    async fn new(kind: AgentServerKind, arguments: &[&str]) -> Self {
        let model = ScriptedModel::start(&Lifecycle::new()).await;
        let program = agent_server::program(kind).unwrap();
        let program = ["--agent-program", &program.to_string_lossy()];
        let config = scripted_town(kind, &model);
        let case = Case::new(&[arguments, &program].concat(), config).await;
        Self { case, model }
    }

    async fn expect_setback(&mut self, bead: &Slung, cause: &str) -> Value {
        let own = |fact: &Value| {
            fact["agent_id"] == bead.agent_id.as_str() && fact["metadata"]["cause"] == cause
        };
        let fact = self.case.facts.until("agent.setback", own).await;
        assert_eq!(fact["bead_id"], bead.bead_id.as_str());
        fact["metadata"].clone()
    }

    fn failed_tries(&self) -> usize {
        let failed = |fact: &Value| fact["metadata"]["status"] == "failed";
        self.case.facts.count("agent.exited", failed)
    }
}

#[tokio::test]
async fn opencode_waits_for_a_model_that_limits_its_rate() {
    waits_for_a_limited_model(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_waits_for_a_model_that_limits_its_rate() {
    waits_for_a_limited_model(AgentServerKind::Kilo).await;
}

async fn waits_for_a_limited_model(kind: AgentServerKind) {
    let mut town = Modelled::new(kind, ONE_TRY).await;
    let bead = town.case.sling("Greet people", "SCENARIO:limited").await;
    let setback = town.expect_setback(&bead, "model").await;
    let words = "the scripted model refuses with 429";
    assert!(names(&setback["reason"], words), "{setback}");
    let retry_at = Timestamp::parse(setback["retry_at"].as_str().unwrap());
    assert!(retry_at.is_some(), "{setback}");
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    town.case.facts.until("agent.recovered", own).await;
    town.case.expect_closed(&bead).await;
    assert_eq!(town.failed_tries(), 0);
    town.case.end().await;
}

#[tokio::test]
async fn a_bead_whose_model_is_exhausted_is_held_back_until_the_model_may_be_asked() {
    let mut town = Modelled::new(AgentServerKind::Opencode, TRY_SOON).await;
    let begun = Clock::system().now();
    let bead = town.case.sling("Greet people", "SCENARIO:exhausted").await;
    let failed = town.case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "model", "{failed}");
    let words = "the scripted model refuses with 429";
    assert!(names(&failed["reason"], words), "{failed}");
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    let held_back = town.case.facts.until("agent.held_back", own).await;
    let until = held_back["metadata"]["until"].as_str();
    let until = Timestamp::parse(until.unwrap()).unwrap();
    let waits = until.since(begun).as_secs();
    assert!(waits >= u64::from(EXHAUSTED), "{held_back}");
    assert_eq!(town.model.asked_for("exhausted"), 1, "not asked again");
    let path = format!("{}/agents/{}", town.case.rig, bead.agent_id);
    let agent = town.case.server.get(&path).await;
    assert_eq!(agent["current_hook_bead_id"], bead.bead_id.as_str());
    assert!(names(&agent["last_error"], words), "{agent}");

    // A person who knows better starts it, and it goes on in its session.
    let start = format!("{}/container/agents/start", town.case.town);
    let order = json!({"agentId": bead.agent_id, "rigId": town.case.rig.rsplit('/').next()});
    town.case.server.post(&start, order).await;
    let resumed = |fact: &Value| own(fact) && fact["metadata"]["resumed"] == true;
    town.case.facts.until("agent.started", resumed).await;
    town.case.expect_closed(&bead).await;
    town.case.end().await;
}

#[tokio::test]
async fn a_model_that_dies_is_shown_at_its_agent_and_waited_for() {
    let mut town = Modelled::new(AgentServerKind::Opencode, ONE_TRY).await;
    town.model.die();
    let bead = town.case.sling("Greet people", "SCENARIO:polecat").await;
    let setback = town.expect_setback(&bead, "model").await;
    assert!(names(&setback["reason"], "connect"), "{setback}");
    let agent = format!("{}/agents/{}", town.case.rig, bead.agent_id);
    let shown = town.case.server.get(&agent).await;
    assert_eq!(shown["status"], "working");
    assert!(names(&shown["last_error"], "connect"), "{shown}");
    let run = format!(
        "{}/container/agents/{}/status",
        town.case.town, bead.agent_id
    );
    let run = town.case.server.get(&run).await;
    assert_eq!(run["setback"]["cause"], "model", "{run}");
    assert_eq!(run["busy"], true, "{run}");

    town.model.revive().await;
    town.case.expect_closed(&bead).await;
    let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
    assert_eq!(town.case.facts.count("agent.recovered", own), 1);
    assert_eq!(town.failed_tries(), 0);
    town.case.end().await;
}

/// opencode asks such a model again some times a second, and would do so for ever.
#[tokio::test]
async fn answers_without_an_end_are_not_asked_for_for_ever() {
    let mut town = Modelled::new(AgentServerKind::Opencode, ONE_TRY).await;
    let bead = town.case.sling("Greet people", "SCENARIO:unfinished").await;
    let failed = town.case.failed_try(&bead, 1).await;
    assert_eq!(failed["kind"], "model", "{failed}");
    let words = "without a reason to finish";
    assert!(names(&failed["reason"], words), "{failed}");
    town.case.expect_given_up(&bead, words).await;
    let asked = town.model.asked_for("unfinished");
    town.case.end().await;
    assert_eq!(town.model.asked_for("unfinished"), asked);
}
