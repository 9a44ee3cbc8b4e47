//! One turn after another of one session: busy, the play, idle.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::casting::play;
use super::player::{Failure, Player};
use super::record::Record;
use super::stage::{Durability, Stage, UserMessage};

/// Plays every message that waits in the session.
pub(super) async fn perform(stage: &Arc<Stage>, session_id: &str) {
    let directory = stage.session(session_id, |session| session.directory.clone());
    let directory = directory.unwrap_or_default();
    while let Some((message, abort)) = stage.next_turn(session_id) {
        turn(stage, session_id, &directory, &message, abort).await;
    }
}

async fn turn(
    stage: &Stage,
    session_id: &str,
    directory: &str,
    message: &UserMessage,
    mut abort: watch::Receiver<bool>,
) {
    let record = Record::begin(stage, session_id, directory, message).await;
    let status = |status: &str| json!({"sessionID": session_id, "status": {"type": status}});
    record
        .tell("session.status", &status("busy"), Durability::Transient)
        .await;
    let mut player = Player::new(stage, session_id, directory, record);
    let played = tokio::select! {
        biased;
        _ = abort.wait_for(|aborted| *aborted) => Err(Failure::Aborted),
        played = play(&mut player, message) => played,
    };
    let mut record = player.into_record();
    let error = match played {
        Ok(()) => None,
        Err(Failure::Aborted) => Some(error("MessageAbortedError", "Aborted")),
        Err(Failure::Model(text)) => Some(error("APIError", &text)),
    };
    let idle = json!({"sessionID": session_id});
    if let Some(error) = error {
        let told = json!({"sessionID": session_id, "error": error});
        record
            .tell("session.error", &told, Durability::Transient)
            .await;
        record.fail(&error).await;
        // As with opencode, an error makes it idle twice.
        record
            .tell("session.status", &status("idle"), Durability::Transient)
            .await;
        record
            .tell("session.idle", &idle, Durability::Transient)
            .await;
    }
    record
        .tell("session.status", &status("idle"), Durability::Transient)
        .await;
    record
        .tell("session.idle", &idle, Durability::Transient)
        .await;
}

fn error(name: &str, message: &str) -> Value {
    json!({"name": name, "data": {"message": message}})
}
