//! Duty: people are told when the day's budget holds the work, and when it no longer does.

use crate::town::budget;

use super::{Action, Planner, View};

pub(super) fn plan(view: &View, planner: &mut Planner) {
    let today = budget::day_of(planner.now);
    let told = view.holds.budget.told;
    match view.holds.budget_reached(planner.now) {
        Some(why) => {
            // At midnight it goes on.
            planner.is_due(budget::begin_of(today + 1));
            if told != Some(today) {
                planner.act(Action::TellBudget, why);
            }
        }
        None if told.is_some() => planner.act(Action::FreeBudget, "there is budget again"),
        None => {}
    }
}
