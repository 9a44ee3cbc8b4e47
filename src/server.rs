//! Assembly: the one file that knows every room.
//!
//! Bind first, so that a wrong address fails before anything else; then the database, the towns,
//! the listener. At the end the other way round: towns act no more, containers without work end,
//! connections are finished, and storage is last.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent_log::{Logs, TailLimits};
use crate::clock::Clock;
use crate::config::Settings;
use crate::http::auth::{Authority, SecretError};
use crate::http::{self, Listener, State};
use crate::lifecycle::Lifecycle;
use crate::model::Agent;
use crate::notify::Notifier;
use crate::storage::{self, Database, OpenOptions, TreeName};
use crate::stream::Fanout;
use crate::town::{self, AgentTokens, Towns, TownsOptions};

/// Towns have at least this long to finish what they are at, even if connections used up the grace
/// period: a command takes milliseconds.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the server could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The data folder can't be made.
    #[error("cannot make data folder {}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database can't be opened.
    #[error("cannot open the database")]
    Storage(#[from] storage::Error),
    /// The secrets can't be read.
    #[error("cannot read the secrets")]
    Secrets(#[from] SecretError),
    /// A town can't be opened.
    #[error("cannot open the towns")]
    Towns(#[from] town::Error),
    /// The database stopped taking writes while the server ran.
    #[error("the database stopped taking writes; the log says why")]
    Poisoned,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    new_admin_token: Option<String>,
    settings: Arc<Settings>,
    towns: Towns,
    database: Database,
    /// The listener and the connections: they end first, while the towns still answer.
    connections: Lifecycle,
    lifecycle: Lifecycle,
}

impl Server {
    /// Starts everything; when it returns, the server answers. `program` is the gastownd program,
    /// which containers are launched with.
    ///
    /// # Errors
    /// See [`Error`]; then nothing runs.
    pub async fn start(
        settings: Settings,
        program: PathBuf,
        lifecycle: Lifecycle,
    ) -> Result<Self, Error> {
        let settings = Arc::new(settings);
        let clock = Clock::system();
        let listen = |source| Error::Listen {
            address: settings.listen,
            source,
        };
        let listener = Listener::bind(settings.listen).await.map_err(listen)?;
        private_dir(&settings)?;
        let cache_bytes = settings.storage.cache;
        let database = Database::open_reserving(
            &settings.data_dir,
            OpenOptions { cache_bytes },
            settings.storage.reserve,
        )?;
        let authority = Authority::load(&settings.data_dir, settings.no_auth)?;
        let meta = database.tree(TreeName::Meta)?;
        let authority = Arc::new(authority.with_tokens(meta, clock.clone())?);
        let address = listener.address();
        let tails = TailLimits {
            per_log: settings.stream.tail_per_agent,
            total: settings.stream.tail_total,
        };
        let logs = Logs::within(database.clone(), tails);
        let options = TownsOptions {
            settings: settings.clone(),
            program,
            api_url: api_url(&settings, address).into(),
            tokens: agent_tokens(authority.clone()),
            notifier: Notifier::start(settings.notify_command.clone(), &lifecycle),
        };
        let towns = Towns::open(
            database.clone(),
            logs,
            clock.clone(),
            options,
            lifecycle.clone(),
        )
        .await?;
        towns.start_upkeep();
        let new_admin_token = authority.new_admin_token().map(str::to_owned);
        let connections = Lifecycle::new();
        let state = Arc::new(State {
            towns: towns.clone(),
            authority,
            database: database.clone(),
            clock,
            lifecycle: connections.clone(),
            body_max: settings.http.body_max,
            fanout: Fanout::start(settings.stream.join_interval, &connections),
            is_https: is_https(&settings),
        });
        connections.spawn(
            "listener",
            http::serve(listener, state, settings.http.connections_max),
        );
        tracing::info!(%address, data_dir = %settings.data_dir.display(), "serving");
        Ok(Self {
            address,
            new_admin_token,
            settings,
            towns,
            database,
            connections,
            lifecycle,
        })
    }

    /// The address it answers on, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's token, if this start made it.
    #[must_use]
    pub fn new_admin_token(&self) -> Option<&str> {
        self.new_admin_token.as_deref()
    }

    /// Its towns.
    #[must_use]
    pub fn towns(&self) -> &Towns {
        &self.towns
    }

    /// Resolves when the database has stopped taking writes: the server is of no more use.
    pub async fn failed(&self) {
        self.database.poisoned().await;
    }

    /// Ends everything in order; what is under way has the grace period to finish. Containers in
    /// which agents work go on, unless the settings say otherwise.
    pub async fn stop(self) {
        let grace = self.settings.shutdown_grace;
        self.towns.quiesce().await;
        self.towns
            .end_containers(self.settings.container.stop_on_exit, grace)
            .await;
        let deadline = Instant::now() + grace;
        drain("connections", &self.connections, deadline).await;
        self.towns.close();
        let deadline = deadline.max(Instant::now() + LAST_WORDS);
        drain("work", &self.lifecycle, deadline).await;
        self.database.close();
        tracing::info!("stopped");
    }
}

async fn drain(what: &'static str, life: &Lifecycle, deadline: Instant) {
    life.stop();
    let drained = tokio::time::timeout_at(deadline, life.drained());
    if drained.await.is_err() {
        tracing::warn!(what, "not everything finished within the grace period");
    }
}

fn private_dir(settings: &Settings) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let path = &settings.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::DataDir {
            path: path.clone(),
            source,
        })
}

/// Where agents reach the server.
fn api_url(settings: &Settings, address: SocketAddr) -> String {
    let told = settings.container.server_url.as_ref();
    let told = told.or(settings.public_url.as_ref());
    told.cloned().unwrap_or_else(|| {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, address.port()))
    })
}

/// Whether people reach the server by https, behind a proxy that speaks it.
fn is_https(settings: &Settings) -> bool {
    let url = settings.public_url.as_deref().unwrap_or_default();
    url.get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

fn agent_tokens(authority: Arc<Authority>) -> AgentTokens {
    Arc::new(move |town_id, agent: &Agent| authority.agent_token(town_id, agent))
}

/// SIGTERM and SIGINT, caught from the moment this is made.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to catch them; before this they end the process at once.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves at the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
