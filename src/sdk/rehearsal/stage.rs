//! What all turns share: the sessions, who waits for an answer, the tool servers, the audience.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::event_body::{Audience, EventBody};
use super::server::Settings;
use super::tool_server::ToolServer;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::sdk::ServerExit;
use crate::sdk::identifiers::Identifiers;

/// How many messages may wait while a session is busy.
const PROMPTS_MAX: usize = 32;

/// Whether an event is told twice, as itself and as a `sync` copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    Durable,
    Transient,
}

/// A message of the user, as the protocol has it.
#[derive(Clone, Debug)]
pub(super) struct UserMessage {
    pub(super) text: String,
    pub(super) system: String,
    pub(super) model: Value,
}

/// An answer to an ask: `Err` turns it down.
pub(super) type AskAnswer = Result<Vec<Vec<String>>, ()>;

/// A session, and what it says of itself.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) info: Value,
    pub(super) directory: String,
    messages: Vec<Message>,
    waiting: VecDeque<UserMessage>,
    /// There while a turn runs; `true` ends it.
    abort: Option<watch::Sender<bool>>,
}

#[derive(Debug)]
struct Message {
    info: Value,
    parts: Vec<Value>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    asks: HashMap<String, oneshot::Sender<AskAnswer>>,
    tool_servers: HashMap<String, BTreeMap<String, ToolServer>>,
}

/// The shared state of one rehearsal.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) lifecycle: Lifecycle,
    pub(super) over: watch::Sender<Option<ServerExit>>,
    identifiers: Identifiers,
    audience: Audience,
    state: Mutex<State>,
}

/// What a session does with a new message.
#[derive(Debug)]
pub(super) enum Enqueued {
    /// It was idle: a turn must be started.
    Start,
    /// It is busy: the running turn goes on with it.
    Waits,
    /// Too many wait already.
    Full,
    /// There is no such session.
    Unknown,
}

impl Stage {
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            lifecycle: Lifecycle::new(),
            over: watch::Sender::new(None),
            identifiers: Identifiers::default(),
            audience: Audience::default(),
            state: Mutex::default(),
        }
    }

    /// Milliseconds, as the protocol has them.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    pub(super) fn new_id(&self, kind: &str) -> String {
        self.identifiers.next(kind, self.clock.now())
    }

    /// Ends the whole rehearsal; the first word counts.
    pub(super) fn end(&self, exit: ServerExit) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            if first {
                *over = Some(exit);
            }
            first
        });
        self.lifecycle.stop();
    }

    pub(super) fn subscribe(&self) -> EventBody {
        let greeting = json!({"payload": self.payload("server.connected", &json!({}))});
        self.audience.join(&greeting.to_string())
    }

    pub(super) fn heartbeat(&self) {
        let heartbeat = json!({"payload": self.payload("server.heartbeat", &json!({}))});
        self.audience.tell_idle(&heartbeat.to_string());
    }

    /// Tells an event about `directory` to everyone, and waits until everyone has taken it.
    pub(super) async fn publish(
        &self,
        directory: &str,
        event_type: &str,
        properties: &Value,
        durability: Durability,
    ) {
        let payload = self.payload(event_type, properties);
        if durability == Durability::Durable {
            let copy = json!({
                "type": "sync",
                "syncEvent": {"type": format!("{event_type}.1"), "data": properties},
                "id": payload["id"],
            });
            self.tell(directory, &payload).await;
            self.tell(directory, &copy).await;
        } else {
            self.tell(directory, &payload).await;
        }
    }

    async fn tell(&self, directory: &str, payload: &Value) {
        let event = json!({"directory": directory, "project": "rehearsal", "payload": payload});
        self.audience.tell(&event.to_string()).await;
    }

    fn payload(&self, event_type: &str, properties: &Value) -> Value {
        json!({"id": self.new_id("evt"), "type": event_type, "properties": properties})
    }

    pub(super) fn add_session(&self, directory: &str, title: &str) -> Value {
        let now = self.now();
        let id = self.new_id("ses");
        let info = json!({
            "id": id, "slug": "rehearsal", "version": env!("CARGO_PKG_VERSION"),
            "projectID": "rehearsal", "directory": directory, "path": "", "title": title,
            "cost": 0, "tokens": no_tokens(), "time": {"created": now, "updated": now},
        });
        let session = Session {
            info: info.clone(),
            directory: directory.to_owned(),
            messages: Vec::new(),
            waiting: VecDeque::new(),
            abort: None,
        };
        self.state().sessions.insert(id, session);
        info
    }

    /// Looks at a session.
    pub(super) fn session<T>(&self, id: &str, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.state().sessions.get(id).map(look)
    }

    /// The sessions of a directory that are in a turn.
    pub(super) fn busy_sessions(&self, directory: &str) -> Value {
        let state = self.state();
        let busy = state
            .sessions
            .iter()
            .filter(|(_, session)| session.directory == directory && session.abort.is_some());
        busy.map(|(id, _)| (id.clone(), json!({"type": "busy"})))
            .collect()
    }

    pub(super) fn enqueue(&self, id: &str, message: UserMessage) -> Enqueued {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(id) else {
            return Enqueued::Unknown;
        };
        if session.waiting.len() >= PROMPTS_MAX {
            return Enqueued::Full;
        }
        session.waiting.push_back(message);
        if session.abort.is_some() {
            return Enqueued::Waits;
        }
        session.abort = Some(watch::Sender::new(false));
        Enqueued::Start
    }

    /// The next message of a busy session and what aborts it; the session is idle after `None`.
    pub(super) fn next_turn(&self, id: &str) -> Option<(UserMessage, watch::Receiver<bool>)> {
        let mut state = self.state();
        let session = state.sessions.get_mut(id)?;
        let Some(message) = session.waiting.pop_front() else {
            session.abort = None;
            return None;
        };
        let abort = session
            .abort
            .get_or_insert_with(|| watch::Sender::new(false));
        abort.send_replace(false);
        Some((message, abort.subscribe()))
    }

    /// Ends the running turn and forgets what waits. `false`: there is no such session.
    pub(super) fn abort(&self, id: &str) -> bool {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(id) else {
            return false;
        };
        session.waiting.clear();
        if let Some(abort) = &session.abort {
            abort.send_replace(true);
        }
        true
    }

    /// Adds a message or replaces what is known of it.
    pub(super) fn put_message(&self, session_id: &str, info: Value) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(session_id) else {
            return;
        };
        match session
            .messages
            .iter_mut()
            .rfind(|message| message.info["id"] == info["id"])
        {
            Some(message) => message.info = info,
            None => session.messages.push(Message {
                info,
                parts: Vec::new(),
            }),
        }
    }

    /// Adds a part to its message or replaces what is known of it.
    pub(super) fn put_part(&self, session_id: &str, part: Value) {
        let mut state = self.state();
        let message = state.sessions.get_mut(session_id).and_then(|session| {
            session
                .messages
                .iter_mut()
                .rfind(|message| message.info["id"] == part["messageID"])
        });
        let Some(message) = message else {
            return;
        };
        match message
            .parts
            .iter_mut()
            .find(|known| known["id"] == part["id"])
        {
            Some(known) => *known = part,
            None => message.parts.push(part),
        }
    }

    pub(super) fn ask(&self, id: &str) -> oneshot::Receiver<AskAnswer> {
        let (sender, receiver) = oneshot::channel();
        self.state().asks.insert(id.to_owned(), sender);
        receiver
    }

    /// Answers an ask. `false`: nobody asks that, or no more.
    pub(super) fn answer(&self, id: &str, answer: AskAnswer) -> bool {
        let asked = self.state().asks.remove(id);
        asked.is_some_and(|ask| ask.send(answer).is_ok())
    }

    pub(super) fn add_tool_server(&self, directory: &str, name: &str, server: ToolServer) {
        let mut state = self.state();
        state
            .tool_servers
            .entry(directory.to_owned())
            .or_default()
            .insert(name.to_owned(), server);
    }

    /// The tool server of `directory` that has `tool`, with the name it was registered under.
    pub(super) fn tool_server(&self, directory: &str, tool: &str) -> Option<(String, ToolServer)> {
        let state = self.state();
        let servers = state.tool_servers.get(directory)?;
        servers
            .iter()
            .find(|(_, server)| server.has(tool))
            .map(|(name, server)| (name.clone(), server.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds the state")
    }
}

impl Session {
    /// All messages, oldest first.
    pub(super) fn messages(&self) -> Value {
        let message = |message: &Message| json!({"info": message.info, "parts": message.parts});
        self.messages.iter().map(message).collect()
    }
}

/// The usage of something that has not used anything yet.
pub(super) fn no_tokens() -> Value {
    json!({"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}})
}
