//! What stops dispatch for the whole town: the breaker and the budget.

use std::time::Duration;

use serde_json::json;

use super::bench::{Bench, FAILURES_MAX, PROBE_AFTER};
use crate::container::ExitKind;
use crate::model::{AgentId, BeadStatus, Usage};
use crate::town::reconcile::Action;
use crate::town::{budget, dispatch, link, pause, settings, usage};

impl Bench {
    fn fails(&mut self, agent_id: AgentId) {
        self.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
        self.act(|draft| dispatch::failed_try(draft, agent_id, ExitKind::Session, "no"))
            .unwrap();
    }

    /// A town whose breaker has just opened, with a hooked agent that is due.
    fn broken(&mut self) -> AgentId {
        for _ in 0..FAILURES_MAX {
            let (agent_id, bead_id) = self.hooked();
            self.fails(agent_id);
            self.set_status(
                bead_id,
                BeadStatus::Closed,
                crate::town::BeadActor::User(None),
            )
            .unwrap();
        }
        self.hooked().0
    }

    fn spends(&mut self, agent_id: AgentId, message_id: &str, tokens: u64) {
        let usage = Usage {
            output: tokens,
            cost_nanos: tokens * 1_000_000,
            ..Usage::default()
        };
        self.act(|draft| usage::count(draft, agent_id, message_id, usage))
            .unwrap();
    }

    fn set_budget(&mut self, budget: &serde_json::Value) {
        let patch = json!({"budget": budget});
        self.act(|draft| settings::patch_config(draft, &patch))
            .unwrap();
    }
}

#[test]
fn too_many_failures_stop_the_town_until_a_probe_works() {
    let mut town = Bench::new();
    let agent_id = town.broken();
    assert!(town.facts.contains(&"breaker.opened".to_owned()));
    let escalation = town.escalations()[0].clone();
    assert!(escalation.title.contains("too much failed"));
    assert_eq!(town.planned(), []);
    let (other, _) = town.hooked();
    town.later(PROBE_AFTER);
    assert_eq!(town.planned(), [Action::Probe { agent_id }], "one alone");
    town.act(|draft| crate::town::breaker::probe(draft, agent_id))
        .unwrap();
    town.fails(agent_id);
    assert_eq!(town.planned(), [], "it failed: another quiet time");
    town.later(PROBE_AFTER);
    assert_eq!(town.planned(), [Action::Probe { agent_id }]);
    town.act(|draft| crate::town::breaker::probe(draft, agent_id))
        .unwrap();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    assert_eq!(town.planned(), [], "nobody else while it is tried");
    town.act(|draft| dispatch::idle(draft, agent_id)).unwrap();
    assert!(town.facts.contains(&"breaker.closed".to_owned()));
    assert_eq!(town.planned(), [Action::Dispatch { agent_id: other }]);
    let escalation = town.bead(escalation.bead_id);
    assert_eq!(escalation.status, BeadStatus::Closed);
}

#[test]
fn a_probe_that_is_stopped_shows_nothing_and_another_is_tried() {
    let mut town = Bench::new();
    let agent_id = town.broken();
    town.later(PROBE_AFTER);
    town.act(|draft| crate::town::breaker::probe(draft, agent_id))
        .unwrap();
    town.act(|draft| dispatch::request(draft, agent_id))
        .unwrap();
    town.act(|draft| dispatch::stopped(draft, agent_id, "drained"))
        .unwrap();
    assert_eq!(town.planned(), [Action::Probe { agent_id }]);
}

#[test]
fn a_person_closes_the_breaker_by_resuming() {
    let mut town = Bench::new();
    let agent_id = town.broken();
    town.act(|draft| pause::set_town(draft, false)).unwrap();
    assert_eq!(town.planned(), [Action::Dispatch { agent_id }]);
}

#[test]
fn failures_count_within_the_window_and_one_cause_counts_once() {
    let mut town = Bench::new();
    let (agent_id, _) = town.hooked();
    for _ in 0..3 * FAILURES_MAX {
        let failed =
            town.act(|draft| dispatch::failed_try(draft, agent_id, ExitKind::Session, "no"));
        failed.unwrap();
        town.later(Duration::from_secs(2 * 60));
    }
    for _ in 0..FAILURES_MAX {
        let (agent_id, _) = town.hooked();
        town.act(|draft| dispatch::request(draft, agent_id))
            .unwrap();
    }
    town.act(|draft| link::down(draft, "the machine slept"))
        .unwrap();
    assert!(!town.facts.contains(&"breaker.opened".to_owned()));
}

#[test]
fn a_day_s_budget_stops_dispatch_and_the_next_day_goes_on() {
    let mut town = Bench::new();
    town.set_budget(&json!({"tokens_per_day": 100}));
    let (agent_id, _) = town.hooked();
    let dispatched = [Action::Dispatch { agent_id }];
    town.spends(agent_id, "a", 99);
    assert_eq!(town.planned(), dispatched);
    // The same message again, a little longer.
    town.spends(agent_id, "a", 99);
    town.spends(agent_id, "a", 100);
    assert_eq!(town.planned(), [Action::TellBudget]);
    for _ in 0..2 {
        town.act(budget::tell).unwrap();
    }
    assert_eq!(town.planned(), []);
    let escalations = town.escalations();
    assert_eq!(escalations.len(), 1);
    town.set_budget(&json!({"tokens_per_day": 200}));
    assert_eq!(
        town.planned(),
        [Action::FreeBudget, dispatched[0].clone()],
        "a raised budget goes on at once"
    );
    town.act(budget::free).unwrap();
    let closed = town.bead(escalations[0].bead_id);
    assert_eq!(closed.status, BeadStatus::Closed);
    town.spends(agent_id, "b", 100);
    assert_eq!(town.planned(), [Action::TellBudget]);
    town.act(budget::tell).unwrap();
    town.now = budget::begin_of(budget::day_of(town.now) + 1);
    assert_eq!(town.planned(), [Action::FreeBudget, dispatched[0].clone()]);
}

#[test]
fn a_cost_cap_holds_as_well() {
    let mut town = Bench::new();
    town.set_budget(&json!({"cost_per_day": 0.5}));
    let (agent_id, _) = town.hooked();
    town.spends(agent_id, "a", 499);
    assert_eq!(town.planned(), [Action::Dispatch { agent_id }]);
    town.spends(agent_id, "b", 1);
    assert_eq!(town.planned(), [Action::TellBudget]);
}

#[test]
fn usage_is_told_by_day_agent_and_bead() {
    let mut town = Bench::new();
    let (first, bead) = town.hooked();
    let (second, _) = town.hooked();
    town.spends(first, "a", 10);
    town.spends(second, "a", 5);
    let yesterday = budget::day_of(town.now);
    town.later(Duration::from_secs(24 * 60 * 60));
    town.spends(first, "a", 12);
    let report = usage::report(town.tree(), 2, town.now).unwrap();
    assert_eq!(report.total.tokens(), 17);
    assert_eq!(report.today.tokens(), 2);
    assert_eq!(report.agents[&first].tokens(), 12);
    assert_eq!(report.beads[&Some(bead)].tokens(), 12);
    assert_eq!(report.days[&yesterday].tokens(), 15);
    let today = usage::report(town.tree(), 1, town.now).unwrap();
    assert_eq!(today.total.tokens(), 2);
}
