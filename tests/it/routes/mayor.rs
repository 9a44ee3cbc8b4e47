//! The mayor.

use serde_json::json;

use super::case::Case;
use super::case::Field::LongText;

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("POST", "/api/towns/{town}/mayor/message").fields(&[("message!", LongText)]),
        Case::of("GET", "/api/towns/{town}/mayor/status").prepare(async |world, _| {
            let path = format!("{}/mayor/message", world.town);
            world.server.post(&path, json!({"message": "hello"})).await;
        }),
    ]
}
