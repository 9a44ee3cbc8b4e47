//! Every route of the server has one row here; each test takes all rows through one kind of
//! trouble. A route without a row fails [`every_route_has_one_row`].
//!
//! To add a route: a [`Case`] in the file of its topic. It says how to succeed (what must be there
//! before, the body, the answer), which fields its body has, and what it refuses. The rest follows:
//! the shape of the answer, wrong bodies, foreign ids, missing credentials, repeats.

mod agents;
mod answers;
mod attention;
mod beads;
mod bodies;
mod case;
mod escalations;
mod events;
mod foreign;
mod mail;
mod mayor;
mod openapi;
mod refused;
mod repeat;
mod reviews;
mod rigs;
mod scheduler;
mod shape;
mod sweep;
mod system;
mod towns;
mod work;

use std::collections::BTreeSet;

use gastownd::http::ROUTES;

use case::Case;

/// All rows.
fn table() -> Vec<Case> {
    [
        system::rows(),
        towns::rows(),
        rigs::rows(),
        beads::rows(),
        agents::rows(),
        mail::rows(),
        events::rows(),
        reviews::rows(),
        escalations::rows(),
        mayor::rows(),
        attention::rows(),
        work::rows(),
        scheduler::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_route_has_one_row() {
    let mut left: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    for case in table() {
        let name = case.name();
        assert!(left.remove(&name), "{name} has two rows or is no route");
        let has_body = ["POST", "PATCH"].contains(&case.method) && !case.fields.is_empty();
        let needs = case.fields.iter().any(|(name, _)| name.ends_with('!'));
        assert!(case.by_hand.is_some() || !needs || has_body, "{name}");
    }
    assert!(left.is_empty(), "routes without a row: {left:#?}");
}
