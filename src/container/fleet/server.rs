//! The one agent server of the fleet: started, listened to, watched.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::command::{Command, Failure, StreamItem};
use crate::container::Error;
use crate::container::agent_config::ServerSettings;
use crate::container::control_server::Spool;
use crate::container::protocol::ExitKind;
use crate::lifecycle::Lifecycle;
use crate::sdk::{
    AgentServer, AgentServerKind, AgentServerOptions, Client, EventStream, READY_TIMEOUT,
    create_agent_server,
};

/// The agent server sends a heartbeat every 10 s; after three missing ones the stream is opened anew.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Between two questions whether an agent server is there.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);

/// How long an agent server may take to end by itself: 1.5 s were seen.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);

/// A running agent server.
#[derive(Debug)]
pub(crate) struct RunningServer {
    /// Tells it from the one before.
    pub(super) generation: u64,
    pub(super) kind: AgentServerKind,
    /// What it was started with, to see whether the config moved on.
    pub(super) settings: ServerSettings,
    server: AgentServer,
}

impl RunningServer {
    pub(super) fn client(&self) -> &Client {
        self.server.client()
    }

    /// The process that stands for it, if it is one.
    pub(super) const fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Ends it; idempotent.
    pub(super) async fn stop(&self) {
        self.server.stop(STOP_GRACE).await;
    }
}

/// An event stream that broke.
struct Broken {
    reason: String,
    /// When something came over it for the last time.
    heard_at: Instant,
}

/// What every agent server of this container is started with.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) program: Option<PathBuf>,
    pub(super) guard: PathBuf,
    pub(super) home: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: mpsc::Sender<(u64, StreamItem)>,
    pub(super) hung_after: Duration,
    pub(super) silence: Duration,
    pub(super) spool: Spool,
    pub(super) lifecycle: Lifecycle,
}

impl Launch {
    /// Starts an agent server in a task; the result comes as [`Command::ServerStarted`].
    pub(super) fn begin(&self, generation: u64, settings: ServerSettings) -> AbortHandle {
        let launch = self.clone();
        let task = async move {
            let started = launch.start(generation, settings).await.map_err(|error| {
                let error = Error::from(error);
                Failure {
                    kind: error.exit_kind(ExitKind::NotReady),
                    reason: error.story(),
                }
            });
            launch
                .tell(Command::ServerStarted(generation, started))
                .await;
        };
        self.lifecycle
            .spawn_detached("start the agent server", task)
            .abort_handle()
    }

    async fn start(
        &self,
        generation: u64,
        settings: ServerSettings,
    ) -> Result<Arc<RunningServer>, crate::sdk::Error> {
        let options = AgentServerOptions {
            kind: settings.kind,
            program: self.program.clone(),
            guard: self.guard.clone(),
            home: self.home.clone(),
            directory: self.directory.clone(),
            config: settings.config.clone(),
            env: settings.env.clone(),
            ready_timeout: READY_TIMEOUT,
        };
        let server = create_agent_server(options, &self.lifecycle).await?;
        // Listening before the first session is made, so that no event is missed.
        let stream = server.client().subscribe().await?;
        let running = Arc::new(RunningServer {
            generation,
            kind: settings.kind,
            settings,
            server,
        });
        self.watch(running.clone(), stream);
        Ok(running)
    }

    fn watch(&self, running: Arc<RunningServer>, stream: EventStream) {
        let launch = self.clone();
        self.lifecycle
            .spawn_detached("listen to the agent server", async move {
                // Who ends a hanging program tells why, not how it ended.
                let reason = tokio::select! {
                    exit = running.server.exited() => exit.to_string(),
                    reason = launch.listen(&running, stream) => {
                        running.server.stop(Duration::ZERO).await;
                        reason
                    }
                };
                launch
                    .tell(Command::ServerEnded(running.generation, reason))
                    .await;
            });
    }

    /// Hands events on until the agent server is beyond hope; says why.
    async fn listen(&self, running: &RunningServer, mut stream: EventStream) -> String {
        loop {
            let Broken { reason, heard_at } = self.hand_on(running, &mut stream).await;
            tracing::warn!("the agent server's event stream is opened again: {reason}");
            stream = match self.reopen(running.client(), heard_at).await {
                Ok(stream) => stream,
                Err(error) => {
                    let silent = heard_at.elapsed().as_secs();
                    let error = Error::from(error).story();
                    return format!("it hangs, {reason}, and no answer for {silent} s: {error}");
                }
            };
            let reopened = (running.generation, StreamItem::Reopened(reason));
            if self.events.send(reopened).await.is_err() {
                return "the fleet ended".to_owned();
            }
        }
    }

    /// Hands events on until the stream breaks; says why. Reads no further while the spool is full.
    async fn hand_on(&self, running: &RunningServer, stream: &mut EventStream) -> Broken {
        let mut heard_at = Instant::now();
        loop {
            let waited = Instant::now();
            self.spool.room().await;
            heard_at += waited.elapsed();
            let reason =
                match tokio::time::timeout(self.silence.min(SILENCE_MAX), stream.next()).await {
                    Ok(Some(Ok(event))) => {
                        heard_at = Instant::now();
                        let item = (running.generation, StreamItem::Event(event));
                        if self.events.send(item).await.is_ok() {
                            continue;
                        }
                        "the fleet ended".to_owned()
                    }
                    Ok(Some(Err(error))) => Error::from(error).story(),
                    Ok(None) => "it ended".to_owned(),
                    Err(_) if heard_at.elapsed() >= SILENCE_MAX => {
                        format!("no event within {} s", SILENCE_MAX.as_secs())
                    }
                    // The next heartbeat may be still to come.
                    Err(_) => match running.client().answers_within(self.silence).await {
                        Ok(()) => continue,
                        Err(error) => Error::from(error).story(),
                    },
                };
            return Broken { reason, heard_at };
        }
    }

    /// Opens the stream anew, unless nothing has been heard of the agent server for too long.
    async fn reopen(
        &self,
        client: &Client,
        heard_at: Instant,
    ) -> Result<EventStream, crate::sdk::Error> {
        loop {
            let opened = match client.answers_within(self.silence).await {
                Ok(()) => client.subscribe().await,
                Err(error) => Err(error),
            };
            match opened {
                Err(error) if heard_at.elapsed() >= self.hung_after => return Err(error),
                Err(_) => tokio::time::sleep(HEALTH_PAUSE).await,
                Ok(stream) => return Ok(stream),
            }
        }
    }

    async fn tell(&self, command: Command) {
        // Nobody listens any more only when the fleet has ended.
        let _ = self.commands.send(command).await;
    }
}
