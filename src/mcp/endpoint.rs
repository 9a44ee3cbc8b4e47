//! One HTTP request in, one whole HTTP response out.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::model::{AgentId, AgentRole};

use super::call::AgentTools;
use super::service::AgentService;

/// Answers a request to `/mcp/<agentId>`. The caller has checked that the request may act for
/// `agent`, and has bounded the size of the body and the origin it may come from.
pub async fn handle<T, B>(
    tools: &Arc<T>,
    agent: AgentId,
    role: AgentRole,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    T: AgentTools,
    B: Body<Data: Send> + Send + 'static,
    B::Error: Display,
{
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
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    Response::from_parts(head, Full::new(bytes))
}
