//! What a row says that it refuses is refused with that code, and nothing is done.

use super::table;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_forbids_is_refused_and_changes_nothing() {
    let world = World::open().await;
    let mut wrong = Vec::new();
    for case in table() {
        for refusal in &case.refusals {
            let mut ids = world.idle_ids(&world.rig).await;
            let body = refusal.body.run(&world, &mut ids).await;
            let town = format!("/api/towns/{}", ids.town);
            let rig = format!("{town}/rigs/{}", ids.rig);
            let before = world.deeds(&town, &rig).await;
            let path = ids.fill(case.path);
            let (status, answer) = world.server.call(case.method, &path, body.clone()).await;
            let name = format!("{} {body}: {status} {answer}", case.name());
            if (status.as_u16(), answer["code"].as_str()) != (refusal.status, Some(refusal.code)) {
                wrong.push(format!("{name}, not {} {}", refusal.status, refusal.code));
            }
            if world.deeds(&town, &rig).await != before {
                wrong.push(format!("{name} has changed something"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
