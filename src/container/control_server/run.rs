//! Puts the control server together and runs it to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::credentials;
use super::link::{LinkContext, Links};
use super::listener::Listener;
use super::routes::Routes;
use super::socket::{Socket, beside};
use super::spool::Spool;
use super::ssh::Ssh;
use super::town_config::TownConfigSlot;
use crate::clock::Clock;
use crate::container::fleet::{Fleet, FleetHandle, FleetOptions};
use crate::container::git::{AllowedRepositories, Git, GitEnvironment};
use crate::container::wire::Token;
use crate::container::{Error, Limits, workspace};
use crate::lifecycle::Lifecycle;
use crate::model::TownId;

/// What a container process is started with.
#[derive(Clone, Debug)]
pub struct ContainerOptions {
    /// The town it is for.
    pub town_id: TownId,
    /// The control socket. A folder that has to be made for it is private. At most 100 bytes long,
    /// because of the system.
    pub socket: PathBuf,
    /// Where to listen on TCP instead of on the control socket, for servers that show the token.
    pub tcp: Option<TcpOptions>,
    /// Where repositories, worktrees and the agent server's home are.
    pub workspace: PathBuf,
    /// The agent server's program, instead of the one on `PATH`.
    pub agent_program: Option<PathBuf>,
    /// The `gastownd` program itself, which guards the agent server and helps git with credentials.
    pub guard: PathBuf,
    /// How long to go on without a server before draining and ending.
    pub linger: Duration,
    /// How long a working agent may take to commit and push once it was asked to.
    pub drain_time: Duration,
    /// What it and all that it starts may use of the machine.
    pub limits: Limits,
    /// Which repositories may be used besides the usual ones.
    pub allowed: AllowedRepositories,
}

/// A container that is reached over TCP.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the server reaches it, if that is not the address.
    pub announce: Option<String>,
    /// The file with what every request has to show. It is read once, before anything is announced.
    pub token_file: PathBuf,
}

/// Runs a container's control server until it is drained, shut down or left alone for too long.
/// SIGTERM and SIGINT drain it.
///
/// # Errors
/// The workspace or the sockets can't be had; nothing runs then.
pub async fn run(
    options: ContainerOptions,
    clock: Clock,
    lifecycle: Lifecycle,
) -> Result<(), Error> {
    let home = options.workspace.join("home");
    workspace::make_folder(&home).await?;
    workspace::write_git_identity(&home).await?;
    if let Some(folder) = options.socket.parent() {
        workspace::make_folder(folder).await?;
    }
    let token = match &options.tcp {
        None => None,
        Some(tcp) => Some(read_token(&tcp.token_file)?),
    };
    let control = Listener::bind(&options).await?;
    let credential_path = beside(&options.socket, "cred");
    let credential = Socket::bind(&credential_path)?;
    let signals = Signals::new().map_err(|source| Error::Socket {
        path: options.socket.clone(),
        source,
    })?;

    let git = GitEnvironment::new(&options.guard, &credential_path, &home, options.allowed);
    let ssh = Ssh::start(
        git.ssh_files(),
        beside(&options.socket, "ssh"),
        Git::guarded(&git),
        &lifecycle,
    )
    .await?;
    let (spool, links, town_config) = (Spool::new(), Links::new(), TownConfigSlot::default());
    let (fleet, handle) = Fleet::new(FleetOptions {
        git,
        workspace: options.workspace,
        agent_program: options.agent_program,
        guard: options.guard,
        linger: options.linger,
        drain_time: options.drain_time,
        limits: options.limits,
        spool: spool.clone(),
        links: links.clone(),
        clock: clock.clone(),
        lifecycle: lifecycle.clone(),
    });
    let link = LinkContext {
        spool,
        links,
        fleet: handle.clone(),
        clock,
    };
    let routes = Arc::new(Routes {
        town_id: options.town_id,
        token,
        ssh,
        fleet: handle.clone(),
        town_config: town_config.clone(),
        link,
        lifecycle: lifecycle.clone(),
    });

    control.tell();
    tracing::info!(town = %options.town_id, socket = %options.socket.display(), "the container is up");
    tokio::select! {
        () = Box::pin(fleet.run()) => {}
        () = control.serve_all(&routes) => {}
        () = credentials::answer_all(&credential.listener, &town_config, &lifecycle) => {}
        () = drain_on_signal(signals, &handle, &lifecycle) => {}
    }
    lifecycle.stop();
    Ok(())
}

/// The signals that drain.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Drains at the first signal and returns at the second.
async fn drain_on_signal(mut signals: Signals, fleet: &FleetHandle, lifecycle: &Lifecycle) {
    tokio::select! {
        () = signals.next() => {}
        () = lifecycle.stopping() => {}
    }
    tracing::info!("draining");
    fleet.drain("a signal ended it").await;
    signals.next().await;
}

fn read_token(path: &Path) -> Result<Token, Error> {
    Token::read(path).map_err(|source| Error::TokenFile {
        path: path.to_owned(),
        source,
    })
}
