//! One HTTP request in, one whole HTTP response out.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ErrorCode};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};

use crate::model::{AgentId, AgentRole};

use super::call::AgentTools;
use super::service::AgentService;

/// Answers a request to `/mcp/<agentId>`. The caller has checked that the request may act for
/// `agent`, has read the body within its own limit, and has checked the origin it comes from.
pub async fn handle<T: AgentTools>(
    tools: &Arc<T>,
    agent: AgentId,
    role: AgentRole,
    request: Request<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = bytes_of(body).await;
    if head.method == Method::POST
        && let Some(refusal) = refusal_of(&body)
    {
        return refusal;
    }
    let request = Request::from_parts(head, Full::new(body));
    let tools = Arc::clone(tools);
    let service = StreamableHttpService::new(
        move || {
            Ok(AgentService {
                tools: Arc::clone(&tools),
                agent,
                role,
            })
        },
        Arc::new(NeverSessionManager::default()),
        stateless(),
    );
    whole(service.handle(request).await).await
}

fn stateless() -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_keep_alive(None)
        // Agents reach the server by its public name, and the caller has checked their token.
        .disable_allowed_hosts()
        // The caller has read the body within its own limit.
        .with_max_request_body_bytes(usize::MAX)
}

/// What a body that is no message is answered with; rmcp would say 415, as if it were no JSON.
fn refusal_of(body: &[u8]) -> Option<Response<Full<Bytes>>> {
    let fault = serde_json::from_slice::<ClientJsonRpcMessage>(body).err()?;
    let (code, id) = match serde_json::from_slice::<Value>(body) {
        Ok(message) => (
            ErrorCode::INVALID_REQUEST,
            message.get("id").cloned().unwrap_or_default(),
        ),
        Err(_) => (ErrorCode::PARSE_ERROR, Value::Null),
    };
    let answer = json!({
        "jsonrpc": "2.0",
        "id": id,
        "error": {"code": code, "message": format!("the body is no message: {fault}")},
    });
    let mut refusal = Response::new(Full::from(answer.to_string()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    let json = HeaderValue::from_static("application/json");
    refusal.headers_mut().insert(CONTENT_TYPE, json);
    Some(refusal)
}

async fn whole<B>(response: Response<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes, Error = Infallible>,
{
    let (head, body) = response.into_parts();
    if head.headers.get(CONTENT_TYPE) == Some(&HeaderValue::from_static("text/event-stream")) {
        // A stream might never end, and no request that this server knows needs one.
        let mut refusal = Response::new(Full::from("this server answers with single JSON bodies"));
        *refusal.status_mut() = StatusCode::NOT_IMPLEMENTED;
        return refusal;
    }
    let bytes = bytes_of(body).await;
    Response::from_parts(head, Full::new(bytes))
}

async fn bytes_of<B>(body: B) -> Bytes
where
    B: Body<Data = Bytes, Error = Infallible>,
{
    match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    }
}
