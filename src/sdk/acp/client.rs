//! The connection to an agent: begun, listened to, ended.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, Implementation, InitializeRequest, InitializeResponse,
    RequestPermissionRequest, SessionId, SessionNotification, SessionUpdate,
};
use agent_client_protocol::{Agent, Client, Lines, on_receive_notification, on_receive_request};
use futures_util::{sink, stream};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::calls::explained;
use super::models::Models;
use super::sessions::{Phase, Session, State};
use super::wire::Settings;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::sdk::output::Output;
use crate::sdk::process::{Conversation, Launch, Process};
use crate::sdk::{AgentServerKind, Error, Event};

/// Events that may wait to be heard; behind them the agent waits with what it prints.
const EVENTS_MAX: usize = 512;

/// Lines that may wait to be understood.
const LINES_MAX: usize = 16;

/// The longest message of an agent: a tool's output with a file in it.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How often it is told that the agent is still there. The protocol has nothing for it: that the
/// program runs and has its streams open is all that can be seen.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a program that closed its output may take to end.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// The call with which a conversation begins.
const CALL: &str = "initialize";

/// Talks to one agent program. Cheap to clone.
#[derive(Clone)]
pub(in crate::sdk) struct Acp {
    pub(super) connection: ConnectionTo<Agent>,
    pub(super) capabilities: Arc<AgentCapabilities>,
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Acp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it has been told holds tokens.
        f.debug_struct("Acp").finish_non_exhaustive()
    }
}

/// What the connection's tasks have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    told: Notify,
    heard: Notify,
    /// Why there is nobody to talk to any more.
    closed: watch::Sender<Option<String>>,
    pub(super) permissions: Value,
    pub(super) clock: Clock,
    pub(super) lifecycle: Lifecycle,
}

impl Acp {
    /// Starts the program and agrees with it on the protocol.
    pub(in crate::sdk) async fn start(
        launch: Launch<'_>,
        settings: &Settings,
        ready_timeout: Duration,
        lifecycle: &Lifecycle,
    ) -> Result<(Process, Self), Error> {
        let kind = AgentServerKind::Acp;
        let guard = launch.guard.to_owned();
        let (process, conversation) =
            Process::converse(launch, lifecycle).map_err(|source| Error::Guard {
                program: guard,
                source,
            })?;
        let shared = Arc::new(Shared::new(settings.permission.clone(), lifecycle));
        let connected = agree(&shared, conversation, process.output().clone());
        match tokio::time::timeout(ready_timeout, connected).await {
            Ok(Ok((connection, capabilities))) => {
                let acp = Self {
                    connection,
                    capabilities: Arc::new(capabilities),
                    shared,
                };
                Ok((process, acp))
            }
            Ok(Err(error)) => Err(not_agreed(error, &process).await),
            Err(_) => {
                process.stop(Duration::ZERO).await;
                let (waited, output) = (ready_timeout, process.output().last());
                Err(Error::NotReady {
                    kind,
                    waited,
                    output,
                })
            }
        }
    }

    /// The events of all sessions.
    pub(in crate::sdk) fn subscribe(&self) -> Result<Events, Error> {
        self.health()?;
        Ok(Events {
            shared: self.shared.clone(),
        })
    }

    /// Whether the agent can still be talked to.
    pub(in crate::sdk) fn health(&self) -> Result<(), Error> {
        match self.shared.closed() {
            None => Ok(()),
            Some(reason) => Err(gone("its events", reason)),
        }
    }
}

/// The events of an agent's sessions. They are queued from the start, for one listener.
pub(in crate::sdk) struct Events {
    shared: Arc<Shared>,
}

impl Events {
    /// The next event; `None` once the agent is gone and all is told.
    pub(in crate::sdk) async fn next(&mut self) -> Option<Event> {
        let mut closed = self.shared.closed.subscribe();
        let heartbeat = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(heartbeat);
        loop {
            if let Some(event) = self.shared.hear() {
                return Some(event);
            }
            tokio::select! {
                () = self.shared.told.notified() => {}
                // A sender that is gone can't be: it is in what we hold.
                _ = closed.wait_for(Option::is_some) => return self.shared.hear(),
                () = &mut heartbeat => return Some(still_there()),
            }
        }
    }
}

impl Shared {
    fn new(permissions: Value, lifecycle: &Lifecycle) -> Self {
        Self {
            state: Mutex::default(),
            told: Notify::new(),
            heard: Notify::new(),
            closed: watch::Sender::new(None),
            permissions,
            clock: Clock::system(),
            lifecycle: lifecycle.clone(),
        }
    }

    /// Changes what is known, and tells of it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.told.notify_one();
        changed
    }

    /// Tells what `events` makes of a session.
    pub(super) fn tell_of(&self, id: &SessionId, events: impl FnOnce(&mut Session) -> Vec<Event>) {
        self.change(|state| {
            if let Some(session) = state.sessions.get_mut(id) {
                let events = events(session);
                state.events.extend(events);
            }
        });
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    pub(super) fn closed(&self) -> Option<String> {
        self.closed.borrow().clone()
    }

    fn close(&self, reason: String) {
        self.closed.send_modify(|closed| {
            closed.get_or_insert(reason);
        });
    }

    fn hear(&self) -> Option<Event> {
        let event = self.lock().events.pop_front();
        self.heard.notify_one();
        event
    }

    /// Resolves when not too much waits to be heard.
    async fn room(&self) {
        while self.lock().events.len() >= EVENTS_MAX && !self.is_closed() {
            self.heard.notified().await;
        }
    }

    fn on_update(&self, notification: SessionNotification) {
        let SessionNotification {
            session_id, update, ..
        } = notification;
        let now = self.clock.now();
        self.tell_of(&session_id, |session| {
            if let SessionUpdate::ConfigOptionUpdate(update) = &update {
                session.models = Models::among(&update.config_options);
            }
            if session.phase == Phase::Loading {
                session.transcript.replayed(&update);
                return Vec::new();
            }
            session.transcript.update(update, now)
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is known stays sound: a change that panicked has at worst not told everything.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, and agrees on the protocol.
async fn agree(
    shared: &Arc<Shared>,
    conversation: Conversation,
    output: Arc<Output>,
) -> Result<(ConnectionTo<Agent>, AgentCapabilities), Error> {
    let connection = connect(shared, conversation, output).await?;
    let us = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let request = InitializeRequest::new(ProtocolVersion::V1).client_info(us);
    let answer = connection.send_request(request).block_task().await;
    let bad = |reason: String| Error::BadAnswer {
        call: CALL.to_owned(),
        reason,
    };
    let answer: InitializeResponse = match (answer, shared.closed()) {
        (Ok(answer), _) => answer,
        (Err(_), Some(reason)) => return Err(gone(CALL, reason)),
        (Err(error), None) => return Err(bad(explained(&error))),
    };
    if answer.protocol_version != ProtocolVersion::V1 {
        let version = answer.protocol_version;
        return Err(bad(format!(
            "it speaks version {version} of the protocol, not 1"
        )));
    }
    Ok((connection, answer.agent_capabilities))
}

/// Runs the connection in tasks of its own, until the program's output ends.
async fn connect(
    shared: &Arc<Shared>,
    conversation: Conversation,
    output: Arc<Output>,
) -> Result<ConnectionTo<Agent>, Error> {
    let Conversation { input, stdout } = conversation;
    let (line, lines) = mpsc::channel(LINES_MAX);
    let reader = shared.clone();
    shared
        .lifecycle
        .spawn_detached("agent server stdout", async move {
            let reason = read_lines(stdout, &line, &output, &reader).await;
            reader.close(reason);
        });
    let outgoing = sink::unfold(input, async |input: mpsc::Sender<String>, line| {
        input.send(line).await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(input)
    });
    let incoming = stream::unfold(lines, async |mut lines: mpsc::Receiver<String>| {
        let line = lines.recv().await?;
        Some((Ok::<_, io::Error>(line), lines))
    });
    let (updates, asks, life) = (shared.clone(), shared.clone(), shared.clone());
    let (ready, connected) = oneshot::channel();
    let served = async move {
        let mut closed = life.closed.subscribe();
        let ended = Client
            .v1()
            .on_receive_notification(
                async move |notification: SessionNotification, _| {
                    updates.on_update(notification);
                    Ok(())
                },
                on_receive_notification!(),
            )
            .on_receive_request(
                async move |request: RequestPermissionRequest, responder, _| {
                    asks.on_ask(request, responder)
                },
                on_receive_request!(),
            )
            .connect_with(
                Lines::new(Box::pin(outgoing), Box::pin(incoming)),
                async move |connection| {
                    // One that does not wait any more has given up.
                    let _ = ready.send(connection);
                    let _ = closed.wait_for(Option::is_some).await;
                    Ok(())
                },
            )
            .await;
        if let Err(error) = ended {
            life.close(explained(&error));
        }
    };
    shared
        .lifecycle
        .spawn_detached("agent server connection", served);
    connected
        .await
        .map_err(|_| gone(CALL, "the connection ended at once".to_owned()))
}

/// Hands on what the program prints, line by line; why that ended. Reads no further while nobody hears.
async fn read_lines(
    stdout: ChildStdout,
    lines: &mpsc::Sender<String>,
    output: &Output,
    shared: &Shared,
) -> String {
    let mut stdout = BufReader::new(stdout);
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    loop {
        shared.room().await;
        let mut line = Vec::new();
        match (&mut stdout).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) => return "it closed its output".to_owned(),
            Ok(_) => {}
            Err(error) => return format!("its output can't be read: {error}"),
        }
        if line.len() >= LINE_BYTES_MAX {
            return format!("it sent a message of more than {LINE_BYTES_MAX} bytes");
        }
        // Agents are seen to print words as well, which belong elsewhere.
        match String::from_utf8(line) {
            Ok(line) if line.trim_start().starts_with('{') => {
                if lines.send(line).await.is_err() {
                    return "the connection ended".to_owned();
                }
            }
            Ok(words) => output.push_stdout(words.as_bytes()),
            Err(words) => output.push_stdout(words.as_bytes()),
        }
    }
}

/// Why there is no agent to talk to: that its program ended says more than that it closed its output.
async fn not_agreed(error: Error, process: &Process) -> Error {
    if matches!(error, Error::Unreachable { .. })
        && let Ok(exit) = tokio::time::timeout(EXIT_LIMIT, process.exited()).await
    {
        let kind = AgentServerKind::Acp;
        return Error::Exited { kind, exit };
    }
    process.stop(Duration::ZERO).await;
    error
}

fn gone(call: &str, reason: String) -> Error {
    Error::Unreachable {
        call: call.to_owned(),
        source: io::Error::other(reason),
    }
}

fn still_there() -> Event {
    Event {
        directory: None,
        session_id: None,
        event_type: "server.heartbeat".to_owned(),
        properties: RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"),
    }
}
