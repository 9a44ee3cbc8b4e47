//! Agent servers for tests, and a reader of what they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::{
    AgentServer, AgentServerKind, AgentServerOptions, Event, EventStream, Prompt, READY_TIMEOUT,
    SessionId, create_agent_server,
};
use serde_json::{Value, json};

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Starts an agent server of this kind in `directory`.
pub(crate) async fn start(
    kind: AgentServerKind,
    home: PathBuf,
    directory: &Path,
    config: Value,
    lifecycle: &Lifecycle,
) -> AgentServer {
    let options = options(kind, home, directory, config);
    create_agent_server(options, lifecycle)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// What [`start`] starts with.
pub(crate) fn options(
    kind: AgentServerKind,
    home: PathBuf,
    directory: &Path,
    config: Value,
) -> AgentServerOptions {
    let mut options = AgentServerOptions {
        kind,
        program: program(kind),
        guard: env!("CARGO_BIN_EXE_gastownd").into(),
        home,
        directory: directory.to_owned(),
        config,
        env: BTreeMap::from(
            [
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_AUTHOR_NAME", "Agent"),
                ("GIT_AUTHOR_EMAIL", "agent@localhost"),
                ("GIT_COMMITTER_NAME", "Agent"),
                ("GIT_COMMITTER_EMAIL", "agent@localhost"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        ),
        ready_timeout: READY_TIMEOUT,
    };
    if kind == AgentServerKind::Acp {
        // opencode stands for all that speak the protocol; its own config is its own matter.
        options
            .env
            .extend(acp_env(AgentServerKind::Opencode, &options.config));
        options.config = json!({"command": acp_command(AgentServerKind::Opencode)});
    }
    options
}

/// The command with which a program speaks the Agent Client Protocol.
pub(crate) fn acp_command(kind: AgentServerKind) -> [String; 2] {
    let program = program(kind).expect("it is a program");
    [program.to_string_lossy().into_owned(), "acp".to_owned()]
}

/// The variables by which that program has its own config.
pub(crate) fn acp_env(kind: AgentServerKind, config: &Value) -> BTreeMap<String, String> {
    let prefix = kind.as_str().to_uppercase();
    let variable = |name: &str, value: &str| (format!("{prefix}_{name}"), value.to_owned());
    BTreeMap::from([
        variable("CONFIG_CONTENT", &config.to_string()),
        variable("DISABLE_MODELS_FETCH", "1"),
        variable("DISABLE_AUTOUPDATE", "1"),
        variable("TELEMETRY_LEVEL", "off"),
    ])
}

/// Where `tests/agents/install` puts the pinned program.
pub(crate) fn program(kind: AgentServerKind) -> Option<PathBuf> {
    let name = match kind {
        AgentServerKind::Opencode => "opencode",
        AgentServerKind::Kilo => "kilo",
        AgentServerKind::Acp | AgentServerKind::Rehearsal => return None,
    };
    let cache = std::env::var_os("GASTOWND_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/gastownd")
        });
    let program = cache.join("agents/bin").join(name);
    assert!(
        program.exists(),
        "the agent program {} is missing: run tests/agents/install first",
        program.display()
    );
    Some(program)
}

/// A message for a session, with nothing special.
pub(crate) fn prompt(text: &str) -> Prompt {
    Prompt {
        text: text.to_owned(),
        system: None,
        model: None,
    }
}

/// Reads events and remembers them.
pub(crate) struct Listener {
    stream: EventStream,
    pub(crate) heard: Vec<Event>,
}

impl Listener {
    pub(crate) async fn subscribe(server: &AgentServer) -> Self {
        let stream = server.client().subscribe().await.unwrap();
        Self {
            stream,
            heard: Vec::new(),
        }
    }

    /// Listens until an event of this session satisfies `wanted`; that event's properties.
    pub(crate) async fn hear(
        &mut self,
        session: &SessionId,
        what: &str,
        wanted: impl Fn(&str, &Value) -> bool,
    ) -> Value {
        let from = self.heard.len();
        let hearing = async {
            while let Some(event) = self.stream.next().await {
                let event = event.unwrap();
                let properties: Value = serde_json::from_str(event.properties.get()).unwrap();
                let found = event.session_id.as_deref() == Some(session.as_str())
                    && wanted(&event.event_type, &properties);
                self.heard.push(event);
                if found {
                    return properties;
                }
            }
            panic!(
                "the stream ended before {what}; heard {:?}",
                types(&self.heard[from..])
            );
        };
        match tokio::time::timeout(PATIENCE, hearing).await {
            Ok(properties) => properties,
            Err(_) => panic!("never heard {what}; heard {:?}", types(&self.heard[from..])),
        }
    }

    /// Listens until the session is idle.
    pub(crate) async fn hear_idle(&mut self, session: &SessionId) {
        self.hear(session, "session.idle", |event_type, _| {
            event_type == "session.idle"
        })
        .await;
    }

    /// The properties of all events of this type that were heard.
    pub(crate) fn of_type(&self, event_type: &str) -> Vec<Value> {
        let of_type = self
            .heard
            .iter()
            .filter(|event| event.event_type == event_type);
        of_type
            .map(|event| serde_json::from_str(event.properties.get()).unwrap())
            .collect()
    }
}

fn types(events: &[Event]) -> Vec<&str> {
    let mut types: Vec<_> = events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect();
    types.dedup();
    types
}
