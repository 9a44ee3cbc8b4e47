//! From bytes to requests and from outcomes to answers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::container::fleet::Denied;
use crate::container::protocol::{BODY_BYTES_MAX, DRAINING_CODE, Refusal};

/// How long a body may take to arrive from the same machine.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) type Answer = Response<Full<Bytes>>;

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) error: String,
}

impl Rejection {
    pub(super) fn bad_request(code: &'static str, error: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            error: error.into(),
        }
    }

    pub(super) fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "unknown_route",
            error: "there is no such route".to_owned(),
        }
    }

    pub(super) fn answer(self) -> Answer {
        json(
            self.status,
            &Refusal {
                error: self.error,
                code: self.code.to_owned(),
            },
        )
    }
}

/// The one table of refusals.
impl From<Denied> for Rejection {
    fn from(denied: Denied) -> Self {
        let (status, code) = match &denied {
            Denied::UnknownAgent(_) => (StatusCode::NOT_FOUND, "unknown_agent"),
            Denied::UnknownAsk(_) => (StatusCode::NOT_FOUND, "unknown_ask"),
            Denied::AlreadyStarted(_) => (StatusCode::CONFLICT, "already_started"),
            Denied::NotStarted(_) => (StatusCode::CONFLICT, "not_started"),
            Denied::NameTaken(_) => (StatusCode::CONFLICT, "name_taken"),
            Denied::Draining => (StatusCode::SERVICE_UNAVAILABLE, DRAINING_CODE),
            Denied::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Denied::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Denied::AgentServer(_) => (StatusCode::BAD_GATEWAY, "agent_server"),
            Denied::Repository(_) => (StatusCode::BAD_GATEWAY, "repository"),
        };
        Self {
            status,
            code,
            error: denied.to_string(),
        }
    }
}

/// Reads a JSON body; an empty one is an empty object.
pub(super) async fn read_body<T: DeserializeOwned>(body: Incoming) -> Result<T, Rejection> {
    let whole = tokio::time::timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect());
    let bytes = match whole.await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) => return Err(Rejection::bad_request("unreadable_body", error.to_string())),
        Err(_) => {
            return Err(Rejection::bad_request(
                "unreadable_body",
                "the body came too slowly",
            ));
        }
    };
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| Rejection::bad_request("invalid_body", error.to_string()))
}

/// An answer of JSON.
pub(super) fn json(status: StatusCode, content: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(content).expect("our own answers are always JSON");
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
