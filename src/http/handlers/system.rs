//! How the server is.

use hyper::StatusCode;
use serde_json::json;

use crate::http::context::{Context, Reply, ok};
use crate::http::{openapi, wire};
use crate::storage;

/// Whether the process runs; the one answer without an envelope.
pub(in crate::http) async fn health(_: Context) -> Reply {
    Ok(wire::json_response(
        StatusCode::OK,
        br#"{"status":"ok"}"#.to_vec(),
    ))
}

/// What can be asked here, for programs.
pub(in crate::http) async fn openapi(context: Context) -> Reply {
    // Not while it is being made: the description asks every handler what it reads.
    context.state()?;
    Ok(wire::json_response(StatusCode::OK, openapi::text()))
}

/// Whether requests will be carried out.
pub(in crate::http) async fn ready(context: Context) -> Reply {
    let (problem, reason) = if context.state()?.lifecycle.is_stopping() {
        ("the server is stopping", "stopping")
    } else {
        match context.state()?.database.writable() {
            Ok(()) => return ok(json!({"ready": true})),
            Err(storage::Error::Full { .. }) => (
                "the disk is full: reads are answered, writes are not",
                "storage_full",
            ),
            Err(_) => ("the database takes no writes", "storage_failed"),
        }
    };
    let body = json!({
        "success": false,
        "error": problem,
        "code": "not_ready",
        "reason": reason,
    });
    Ok(wire::json_response(
        StatusCode::SERVICE_UNAVAILABLE,
        body.to_string().into_bytes(),
    ))
}
