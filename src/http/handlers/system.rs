//! How the server is.

use hyper::StatusCode;
use serde_json::json;

use crate::http::context::{Context, Reply, ok};
use crate::http::{openapi, wire};

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
    let stopping = context.state()?.lifecycle.is_stopping();
    let writable = context.state()?.database.is_writable();
    let ready = !stopping && writable;
    if ready {
        return ok(json!({"ready": true}));
    }
    let body = json!({
        "success": false,
        "error": if stopping { "the server is stopping" } else { "the database takes no writes" },
        "code": "not_ready",
    });
    Ok(wire::json_response(
        StatusCode::SERVICE_UNAVAILABLE,
        body.to_string().into_bytes(),
    ))
}
