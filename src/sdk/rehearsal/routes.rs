//! The HTTP of the rehearsal: those of opencode's endpoints that our client uses.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::http::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::event_body::EventBody;
use super::performance::perform;
use super::stage::{Enqueued, Stage, UserMessage};
use super::tool_server::ToolServer;

/// The largest request: a prompt with a long bead in it is far smaller.
const REQUEST_MAX: usize = 16 * 1024 * 1024;

type Answer = Response<Either<Full<Bytes>, EventBody>>;

/// Answers one request.
pub(super) async fn answer(
    stage: &Arc<Stage>,
    authorization: &str,
    request: Request<Incoming>,
) -> Answer {
    let authorized = request.headers().get(AUTHORIZATION);
    if authorized.is_none_or(|sent| sent.as_bytes() != authorization.as_bytes()) {
        let mut answer = refusal(StatusCode::UNAUTHORIZED, "Unauthorized");
        answer
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        return answer;
    }
    let (head, body) = request.into_parts();
    let directory = directory_in(head.uri.query().unwrap_or_default());
    let Ok(body) = Limited::new(body, REQUEST_MAX).collect().await else {
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large or broken off",
        );
    };
    let body = body.to_bytes();
    let body = if body.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice(&body)
    };
    let Ok(body) = body else {
        return refusal(StatusCode::BAD_REQUEST, "the body is no JSON");
    };
    let segments: Vec<_> = head
        .uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(unescape)
        .collect();
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    route(stage, &head.method, &segments, &directory, &body).await
}

async fn route(
    stage: &Arc<Stage>,
    method: &Method,
    segments: &[&str],
    directory: &str,
    body: &Value,
) -> Answer {
    match (method.as_str(), segments) {
        ("GET", ["global", "health"]) => {
            ok(&json!({"healthy": true, "version": env!("CARGO_PKG_VERSION")}))
        }
        ("GET", ["global", "event"]) => events(stage.subscribe()),
        ("POST", ["session"]) => create_session(stage, directory, body).await,
        ("GET", ["session", "status"]) => ok(&stage.busy_sessions(directory)),
        ("GET", ["session", id]) => found(id, stage.session(id, |session| session.info.clone())),
        ("GET", ["session", id, "message"]) => {
            found(id, stage.session(id, super::stage::Session::messages))
        }
        ("POST", ["session", id, "prompt_async"]) => prompt(stage, id, body),
        ("POST", ["session", id, "abort"]) => {
            if stage.abort(id) {
                ok(&json!(true))
            } else {
                unknown_session(id)
            }
        }
        ("POST", ["permission", id, "reply"]) => match body["reply"].as_str() {
            Some("once" | "always") => answered(stage.answer(id, Ok(Vec::new()))),
            Some("reject") => answered(stage.answer(id, Err(()))),
            _ => refusal(StatusCode::BAD_REQUEST, "reply is once, always or reject"),
        },
        ("POST", ["question", id, "reply"]) => {
            match serde_json::from_value(body["answers"].clone()) {
                Ok(answers) => answered(stage.answer(id, Ok(answers))),
                Err(_) => refusal(StatusCode::BAD_REQUEST, "answers are lists of labels"),
            }
        }
        ("POST", ["question", id, "reject"]) => answered(stage.answer(id, Err(()))),
        ("POST", ["mcp"]) => add_tool_server(stage, directory, body).await,
        _ => refusal(StatusCode::NOT_FOUND, "there is no such endpoint"),
    }
}

async fn create_session(stage: &Stage, directory: &str, body: &Value) -> Answer {
    let title = body["title"].as_str().unwrap_or("New session");
    let info = stage.add_session(directory, title);
    let created = json!({"sessionID": info["id"], "info": info});
    stage
        .publish(
            directory,
            "session.created",
            &created,
            super::stage::Durability::Durable,
        )
        .await;
    ok(&info)
}

fn prompt(stage: &Arc<Stage>, id: &str, body: &Value) -> Answer {
    let parts = body["parts"].as_array().into_iter().flatten();
    let texts: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
    if texts.is_empty() {
        return refusal(StatusCode::BAD_REQUEST, "parts: expected at least one text");
    }
    let model = if body["model"].is_object() {
        body["model"].clone()
    } else {
        json!({"providerID": "rehearsal", "modelID": "script"})
    };
    let system = body["system"].as_str().unwrap_or_default().to_owned();
    match stage.enqueue(
        id,
        UserMessage {
            text: texts.join("\n"),
            system,
            model,
        },
    ) {
        Enqueued::Start => {
            let (performed, id) = (Arc::clone(stage), id.to_owned());
            stage.lifecycle.spawn("rehearsal turn", async move {
                tokio::select! {
                    () = performed.lifecycle.stopping() => {}
                    () = perform(&performed, &id) => {}
                }
            });
            no_content()
        }
        Enqueued::Waits => no_content(),
        Enqueued::Full => refusal(StatusCode::SERVICE_UNAVAILABLE, "too many messages wait"),
        Enqueued::Unknown => unknown_session(id),
    }
}

async fn add_tool_server(stage: &Stage, directory: &str, body: &Value) -> Answer {
    let (Some(name), Some(url)) = (body["name"].as_str(), body["config"]["url"].as_str()) else {
        return refusal(StatusCode::BAD_REQUEST, "expected name and config.url");
    };
    let authorization = body["config"]["headers"]["Authorization"]
        .as_str()
        .unwrap_or_default();
    let status = match ToolServer::connect(url, authorization, &stage.lifecycle).await {
        Ok(server) => {
            stage.add_tool_server(directory, name, server);
            json!({"status": "connected"})
        }
        Err(error) => json!({"status": "failed", "error": error}),
    };
    ok(&json!({name: status}))
}

fn ok(body: &Value) -> Answer {
    with_status(StatusCode::OK, body)
}

fn no_content() -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn events(body: EventBody) -> Answer {
    let mut answer = Response::new(Either::Right(body));
    let stream = HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert(CONTENT_TYPE, stream);
    answer
}

fn found(id: &str, body: Option<Value>) -> Answer {
    body.map_or_else(|| unknown_session(id), |body| ok(&body))
}

fn unknown_session(id: &str) -> Answer {
    refusal(StatusCode::NOT_FOUND, &format!("Session not found: {id}"))
}

fn answered(taken: bool) -> Answer {
    if taken {
        ok(&json!(true))
    } else {
        refusal(StatusCode::NOT_FOUND, "nobody asks that")
    }
}

fn refusal(status: StatusCode, message: &str) -> Answer {
    with_status(
        status,
        &json!({"name": "Refused", "data": {"message": message}}),
    )
}

fn with_status(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(body.to_string())));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn directory_in(query: &str) -> String {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("directory="))
        .map(unescape)
        .unwrap_or_default()
}

/// Undoes percent-escapes; what is none stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let digits = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_unescaped() {
        assert_eq!(
            directory_in("a=b&directory=%2Fsrv%2Fa%20town%2F%C3%A9"),
            "/srv/a town/é"
        );
        assert_eq!(directory_in("directory=%2"), "%2");
        assert_eq!(directory_in(""), "");
    }
}
