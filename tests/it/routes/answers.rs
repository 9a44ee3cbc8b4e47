//! Every route succeeds, and its answer has the recorded shape.

use serde_json::Value;

use super::case::Case;
use super::shape;
use super::table;
use crate::support::world::{Ids, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_in_the_shape_of_the_contract() {
    let world = World::open().await;
    let mut wrong = Vec::new();
    for case in table() {
        if let Some(by_hand) = &case.by_hand {
            let mut ids = world.idle_ids(&world.rig).await;
            by_hand.run(&world, &mut ids).await;
            continue;
        }
        for (query, status, expected) in expected(&case) {
            let ids = ready(&world, &case).await;
            let path = ids.fill(case.path) + &query;
            let body = case.sound_body(&world, &ids);
            let (found, answer) = world.server.call(case.method, &path, body).await;
            if found.as_u16() != status {
                wrong.push(format!("{}: {found}, not {status}: {answer}", case.name()));
                continue;
            }
            let mut differences = shape::differences(&expected, &answer);
            differences.extend(case.exact.iter().filter_map(|pointer| {
                let differs = expected.pointer(pointer) != answer.pointer(pointer);
                differs.then(|| format!("{pointer} differs in {answer}"))
            }));
            let named = differences
                .iter()
                .map(|text| format!("{}: {text}", case.name()));
            wrong.extend(named);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Query, status and answer of each success.
fn expected(case: &Case) -> Vec<(String, u16, Value)> {
    let recorded = case.samples.iter();
    let mut all: Vec<_> = recorded
        .map(|sample| (sample.query.clone(), sample.status, sample.response.clone()))
        .collect();
    if let Some((status, answer)) = &case.answer {
        all.push((String::new(), *status, answer.clone()));
    }
    assert!(
        !all.is_empty(),
        "{} has neither a recording nor `answers` nor `by_hand`",
        case.name()
    );
    all
}

/// New ids of the world's rig, and what the route presupposes.
pub(super) async fn ready(world: &World, case: &Case) -> Ids {
    let mut ids = world.idle_ids(&world.rig).await;
    if let Some(prepare) = &case.prepare {
        prepare.run(world, &mut ids).await;
    }
    ids
}
