//! A model that plays a script: an OpenAI-compatible server that drives real agent programs.
//!
//! What it answers is decided by the conversation alone: the newest message of the user names a
//! scenario (`SCENARIO:polecat`), and the tools called since then say how far it has come.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::loopback::{self, Broken, ChunkBody, Served};

/// What marks a scenario's name.
const MARK: &str = "SCENARIO:";

/// Marks what the scenario `run` runs in its shell first.
const COMMAND: &str = "COMMAND:";

/// How soon the scenario `limited` may be asked again, in seconds.
const LIMITED: u32 = 3;

/// The same of the scenario `exhausted`.
pub(crate) const EXHAUSTED: u32 = 7200;

/// The pause between two words of the scenario `slow`.
const SLOW: Duration = Duration::from_millis(20);

/// The provider's name in [`ScriptedModel::config`].
pub(crate) const PROVIDER: &str = "scripted";

/// The model's name there.
pub(crate) const MODEL: &str = "script";

/// A running scripted model, and what was asked of it.
pub(crate) struct ScriptedModel {
    address: SocketAddr,
    asked: Arc<Asked>,
    served: Served,
}

#[derive(Default)]
struct Asked {
    lifecycle: Lifecycle,
    scenarios: Mutex<Vec<String>>,
}

/// What it does with one request.
#[derive(Clone, Debug, PartialEq)]
enum Turn {
    Text {
        reasoning: &'static str,
        text: String,
    },
    Tool {
        name: &'static str,
        input: Value,
    },
    Slow,
    Stall,
    Close,
    Unfinished,
    Refuse(StatusCode),
    /// Too much was asked; the seconds until it may be asked again.
    Limit(u32),
}

impl ScriptedModel {
    pub(crate) async fn start(lifecycle: &Lifecycle) -> Self {
        let asked = Arc::new(Asked {
            lifecycle: lifecycle.clone(),
            scenarios: Mutex::default(),
        });
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let served = loopback::serve_at(anywhere, lifecycle, Arc::clone(&asked), answer).await;
        Self {
            address: served.address(),
            asked,
            served,
        }
    }

    /// Ends: what it was saying breaks off, and then nobody listens any more.
    pub(crate) fn die(&self) {
        self.served.end();
    }

    /// Listens again where it did.
    pub(crate) async fn revive(&mut self) {
        let lifecycle = self.asked.lifecycle.clone();
        let asked = Arc::clone(&self.asked);
        self.served = loopback::serve_at(self.address, &lifecycle, asked, answer).await;
    }

    /// The config of an agent server that uses this model for everything.
    pub(crate) fn config(&self) -> Value {
        config(self.address)
    }

    /// How often a scenario was asked for, each turn and each attempt counted.
    pub(crate) fn asked_for(&self, scenario: &str) -> usize {
        let scenarios = self.asked.scenarios.lock().unwrap();
        scenarios.iter().filter(|asked| *asked == scenario).count()
    }
}

/// The config of an agent server whose model is at `address`.
pub(crate) fn config(address: SocketAddr) -> Value {
    let model = format!("{PROVIDER}/{MODEL}");
    json!({
        "model": model, "small_model": model, "enabled_providers": [PROVIDER],
        "provider": {PROVIDER: {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": format!("http://{address}/v1"), "apiKey": "none"},
            "models": {MODEL: {
                "tool_call": true, "reasoning": true,
                "limit": {"context": 128_000, "output": 16_000},
                "cost": {"input": 1, "output": 2},
            }},
        }},
        "permission": {"*": "allow"}, "share": "disabled", "autoupdate": false, "lsp": false,
        "formatter": false,
    })
}

async fn answer(asked: Arc<Asked>, request: Request<Bytes>) -> Response<ChunkBody> {
    let request: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let messages = request["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let scenario = scenario(messages).unwrap_or_else(|| "say".to_owned());
    let turn = if request["tools"].as_array().is_none_or(Vec::is_empty) {
        Turn::Text {
            reasoning: "",
            text: "A short title".to_owned(),
        }
    } else {
        let mut scenarios = asked.scenarios.lock().unwrap();
        let is_first = !scenarios.contains(&scenario);
        scenarios.push(scenario.clone());
        match scenario.as_str() {
            "limited" if is_first => Turn::Limit(LIMITED),
            "exhausted" if is_first => Turn::Limit(EXHAUSTED),
            "limited" | "exhausted" => turn("polecat", messages),
            other => turn(other, messages),
        }
    };
    match turn {
        Turn::Refuse(status) => refusal(status, 1),
        Turn::Limit(seconds) => refusal(StatusCode::TOO_MANY_REQUESTS, seconds),
        turn => {
            let (sender, receiver) = mpsc::channel(64);
            asked
                .lifecycle
                .spawn_detached("scripted model", async move {
                    // Whoever asked may have gone away; then there is nothing left to say.
                    let _ = say(turn, &sender).await;
                });
            Response::builder()
                .header(CONTENT_TYPE, "text/event-stream")
                .body(ChunkBody(receiver))
                .unwrap()
        }
    }
}

/// The scenario that the newest message of the user to name one names.
fn scenario(messages: &[Value]) -> Option<String> {
    let (_, name) = newest_order(messages)?;
    Some(name)
}

fn newest_order(messages: &[Value]) -> Option<(usize, String)> {
    messages
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, message)| {
            let text = message["content"].to_string();
            let (_, after) = text
                .rsplit_once(MARK)
                .filter(|_| message["role"] == "user")?;
            let name = after.split(|end: char| !end.is_alphanumeric()).next()?;
            Some((index, name.to_owned()))
        })
}

/// The next turn of a scenario: as far on as tools were called since it was asked for.
fn turn(scenario: &str, messages: &[Value]) -> Turn {
    let since = newest_order(messages).map_or(0, |(index, _)| index);
    let results: Vec<_> = messages[since..]
        .iter()
        .filter(|message| message["role"] == "tool")
        .collect();
    match (scenario, results.len()) {
        ("polecat", 0) => tool("gt_prime", json!({})),
        // The first time it works until it is ended, with children that do not end by themselves.
        ("linger", 0) => tool(
            "bash",
            json!({
                "command": "if mkdir ~/lingered; then sleep 6000 & setsid sleep 6001 & wait; fi",
                "description": "Linger",
            }),
        ),
        // Files that it has not committed, and then nothing that ends by itself.
        ("draft", 0) => tool(
            "bash",
            json!({
                "command": "echo Changed. > README.md && mkdir -p docs && echo New. > docs/new.md \
                    && sleep 6000",
                "description": "Write and wait",
            }),
        ),
        ("run", 0) => tool(
            "bash",
            json!({"command": command(messages), "description": "Run what the order says"}),
        ),
        ("pause", 0) => tool(
            "bash",
            json!({"command": command(messages), "description": "Run what the order says"}),
        ),
        ("polecat" | "linger" | "run", 1) => tool(
            "write",
            json!({"filePath": "docs/greeting.md", "content": "# Hello\n\nWelcome.\n"}),
        ),
        ("polecat" | "linger" | "run", 2) => tool(
            "bash",
            json!({
                "command": "git add -A && git commit -q -m 'Greet people' \
                    && git push -q -u origin HEAD && git rev-parse --abbrev-ref HEAD",
                "description": "Commit and push",
            }),
        ),
        ("polecat" | "linger" | "run", 3) => {
            let branch = last_line(results[2]);
            tool(
                "gt_done",
                json!({"branch": branch, "summary": "Greeted people"}),
            )
        }
        ("bash", 0) => tool(
            "bash",
            json!({"command": "echo asked > asked.txt", "description": "Write"}),
        ),
        ("ask", 0) => {
            let options = [
                json!({"label": "Red", "description": "r"}),
                json!({"label": "Blue", "description": "b"}),
            ];
            let question =
                json!({"question": "Which colour?", "header": "Colour", "options": options});
            tool("question", json!({"questions": [question]}))
        }
        ("slow", _) => Turn::Slow,
        ("stall", _) => Turn::Stall,
        ("close", _) => Turn::Close,
        ("unfinished", _) => Turn::Unfinished,
        ("refuse400", _) => Turn::Refuse(StatusCode::BAD_REQUEST),
        ("refuse401", _) => Turn::Refuse(StatusCode::UNAUTHORIZED),
        ("refuse429", _) => Turn::Refuse(StatusCode::TOO_MANY_REQUESTS),
        ("refuse500", _) => Turn::Refuse(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Turn::Text {
            reasoning: "I think about it.",
            text: format!("The scenario {scenario} is over."),
        },
    }
}

/// The rest of the line behind [`COMMAND`] in the newest message that has one.
fn command(messages: &[Value]) -> String {
    let line = messages.iter().rev().find_map(|message| {
        let texts = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                let texts = parts.iter().filter_map(|part| part["text"].as_str());
                texts.collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        };
        let (_, after) = texts.rsplit_once(COMMAND)?;
        after.lines().next().map(str::to_owned)
    });
    line.unwrap_or_default()
}

fn tool(name: &'static str, input: Value) -> Turn {
    Turn::Tool { name, input }
}

fn last_line(result: &Value) -> String {
    let text = match &result["content"] {
        Value::String(text) => text.clone(),
        parts => parts[0]["text"].as_str().unwrap_or_default().to_owned(),
    };
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Streams a turn; an error means that nobody listens any more.
async fn say(turn: Turn, listener: &Listener) -> Result<(), Gone> {
    match turn {
        Turn::Text { reasoning, text } => {
            words(reasoning, "reasoning_content", Duration::ZERO, listener).await?;
            words(&text, "content", Duration::ZERO, listener).await?;
            finish("stop", listener).await
        }
        Turn::Tool { name, input } => {
            words("I use a tool.", "content", Duration::ZERO, listener).await?;
            let function = json!({"name": name, "arguments": input.to_string()});
            let call = json!({
                "index": 0, "id": format!("call_{}", uuid::Uuid::new_v4().simple()),
                "type": "function", "function": function,
            });
            chunk(json!({"tool_calls": [call]}), Value::Null, listener).await?;
            finish("tool_calls", listener).await
        }
        Turn::Slow => {
            let text = "word ".repeat(3000);
            words(&text, "content", SLOW, listener).await?;
            finish("stop", listener).await
        }
        Turn::Stall => {
            words("I begin and", "content", Duration::ZERO, listener).await?;
            listener.closed().await;
            Err(Gone)
        }
        Turn::Close => {
            words("I begin and", "content", Duration::ZERO, listener).await?;
            listener.send(Err(Broken)).await.map_err(|_| Gone)
        }
        Turn::Unfinished => {
            words("I begin and", "content", Duration::ZERO, listener).await?;
            data("[DONE]", listener).await
        }
        Turn::Refuse(_) | Turn::Limit(_) => Ok(()),
    }
}

async fn words(text: &str, field: &str, pace: Duration, listener: &Listener) -> Result<(), Gone> {
    for word in text.split_inclusive(' ') {
        chunk(json!({field: word}), Value::Null, listener).await?;
        if !pace.is_zero() {
            sleep(pace).await;
        }
    }
    Ok(())
}

async fn finish(reason: &str, listener: &Listener) -> Result<(), Gone> {
    chunk(json!({}), reason.into(), listener).await?;
    let usage = json!({
        "id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": [],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020},
    });
    data(&usage.to_string(), listener).await?;
    data("[DONE]", listener).await
}

async fn chunk(delta: Value, finish_reason: Value, listener: &Listener) -> Result<(), Gone> {
    let chunk = json!({
        "id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    });
    data(&chunk.to_string(), listener).await
}

async fn data(text: &str, listener: &Listener) -> Result<(), Gone> {
    listener
        .send(Ok(format!("data: {text}\n\n").into()))
        .await
        .map_err(|_| Gone)
}

fn refusal(status: StatusCode, retry_after: u32) -> Response<ChunkBody> {
    let (sender, receiver) = mpsc::channel(1);
    let message = format!("the scripted model refuses with {}", status.as_u16());
    let body = json!({"error": {"message": message, "type": "scripted"}}).to_string();
    sender.try_send(Ok(body.into())).unwrap();
    let mut response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json");
    if status == StatusCode::TOO_MANY_REQUESTS {
        response = response.header(RETRY_AFTER, retry_after);
    }
    response.body(ChunkBody(receiver)).unwrap()
}

type Listener = mpsc::Sender<Result<Bytes, Broken>>;

struct Gone;
