//! The part of the refinery: look at a branch and come to a verdict.

use serde_json::json;

use super::casting::{Work, perform_all};
use super::player::{Failure, Player};
use super::polecat::arguments;
use super::script::Script;

/// Reviews the branch on the hook; it was sent back `reworks` times before.
pub(super) async fn review(
    player: &mut Player<'_>,
    work: &Work,
    script: &Script,
    reworks: usize,
) -> Result<(), Failure> {
    player
        .think(&format!("{}: I look at what it changes.", work.title))
        .await;
    player.git(&arguments(&["fetch", "origin"])).await;
    let log = ["log", "--oneline", "--all", "--max-count=10"];
    player.git(&arguments(&log)).await;
    perform_all(player, &script.review).await?;
    if let Some(changes) = script.objections.get(reworks) {
        player
            .call("review_request_changes", json!({"changes": changes}))
            .await;
        player.say("I have sent it back.").await;
    } else {
        let summary = "Rehearsed: read the difference; it does what the bead asks.";
        player
            .call("review_approve", json!({"summary": summary}))
            .await;
        player.say("It is sound, and I have said so.").await;
    }
    Ok(())
}
