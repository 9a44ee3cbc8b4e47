//! The server's hold on one town's container: adopt it, start it, keep its link.
//!
//! A container is a process of its own that outlives the server. At start the supervisor looks for
//! a live socket and adopts what answers there; otherwise it waits until it is woken, launches the
//! process and connects. A container counts as gone only when nobody listens on its socket or its
//! process has ended, never because it was slow.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::agent_log::Logs;
use crate::config::ResolvedTownConfig;
use crate::lifecycle::Lifecycle;
use crate::model::{AgentId, TownId};
use crate::storage::LinkPosition;
use crate::telemetry;

use super::client::{CallError, Client};
use super::isolation::{self, Isolation, LaunchPaths};
use super::protocol::{Health, MergeBranch, MessageAgent, RemoveAgent, StartAgent, StopAgent};
use super::relay::{self, LinkState, LinkTarget};

/// How long a container process may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const START_POLL: Duration = Duration::from_millis(10);
/// A broken link to a live container is tried again this often.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// The end of a container's own log that goes into the reason of its failure.
const LAST_WORDS_BYTES: u64 = 2 << 10;
/// A container's own log is begun anew beyond this size.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// The longest path a unix socket can have (`sun_path`, less the final zero).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// How a town's container is launched.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// The town.
    pub town_id: TownId,
    /// The gastownd program.
    pub program: PathBuf,
    /// The folder of its socket, mode 0700.
    pub run_dir: PathBuf,
    /// The folder it works in.
    pub workspace: PathBuf,
    /// How it is shut off from the rest of the machine.
    pub isolation: Isolation,
    /// How long it goes on without a server.
    pub linger: Duration,
    /// The agent program, if not the one on `PATH`.
    pub agent_program: Option<PathBuf>,
    /// Whether paths of this machine are git urls.
    pub allow_local_repos: bool,
    /// The log filter of the process.
    pub log: String,
}

/// A town's container; cheap to clone.
#[derive(Clone, Debug)]
pub struct ContainerHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    wake: Notify,
    up: watch::Sender<bool>,
}

impl ContainerHandle {
    /// Takes care of a town's container until the lifecycle stops.
    #[must_use]
    pub fn start<T: LinkTarget>(
        options: LaunchOptions,
        logs: Logs,
        target: T,
        lifecycle: &Lifecycle,
    ) -> Self {
        let client = Client::new(&socket_path(&options.run_dir), lifecycle.clone());
        let up = watch::Sender::new(false);
        let handle = Self(Arc::new(Inner {
            client,
            wake: Notify::new(),
            up,
        }));
        let supervisor = Supervisor {
            options,
            logs,
            target,
            handle: handle.clone(),
            known: None,
            child: None,
        };
        let life = lifecycle.clone();
        lifecycle.spawn("container supervisor", async move {
            let mut supervisor = supervisor;
            tokio::select! {
                () = supervisor.run() => {}
                () = life.stopping() => {}
            }
        });
        handle
    }

    /// Starts the container if it is not running. Returns at once; the town is told the outcome.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Whether messages flow.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.0.up.borrow()
    }

    /// Starts an agent; the outcome comes over the link.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn start_agent(
        &self,
        config: &ResolvedTownConfig,
        start: &StartAgent,
    ) -> Result<(), CallError> {
        self.post("/agents/start", config, start).await
    }

    /// Stops an agent; its exit comes over the link.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stop_agent(
        &self,
        config: &ResolvedTownConfig,
        agent_id: AgentId,
        stop: &StopAgent,
    ) -> Result<(), CallError> {
        self.post(&format!("/agents/{agent_id}/stop"), config, stop)
            .await
    }

    /// Archives and removes a deleted agent's worktree.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn remove_agent(
        &self,
        config: &ResolvedTownConfig,
        agent_id: AgentId,
        remove: &RemoveAgent,
    ) -> Result<(), CallError> {
        self.post(&format!("/agents/{agent_id}/remove"), config, remove)
            .await
    }

    /// Says something to an agent's session.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn message_agent(
        &self,
        config: &ResolvedTownConfig,
        agent_id: AgentId,
        message: &MessageAgent,
    ) -> Result<(), CallError> {
        self.post(&format!("/agents/{agent_id}/message"), config, message)
            .await
    }

    /// Whether the container runs the agent or has its end still to tell.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn knows_agent(&self, agent_id: AgentId) -> Result<bool, CallError> {
        let path = format!("/agents/{agent_id}/status");
        match self
            .0
            .client
            .call(Method::GET, &path, None, Vec::new())
            .await
        {
            Ok(_) => Ok(true),
            Err(CallError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Merges a branch; the outcome comes over the link.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn merge(
        &self,
        config: &ResolvedTownConfig,
        merge: &MergeBranch,
    ) -> Result<(), CallError> {
        self.post("/git/merge", config, merge).await
    }

    /// How the container is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn health(&self) -> Result<Health, CallError> {
        let answer = self
            .0
            .client
            .call(Method::GET, "/health", None, Vec::new())
            .await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::Broken(error.into()))
    }

    /// Ends the container's process if no agent works in it, or, if `even_working`, after its
    /// agents saved their work. Resolves when it is gone, or after `grace`.
    pub async fn end(&self, even_working: bool, grace: Duration) {
        let Ok(health) = self.health().await else {
            return;
        };
        let path = match (health.agents, even_working) {
            (0, _) => "/shutdown",
            (_, true) => "/drain",
            (_, false) => return,
        };
        if let Err(error) = self
            .0
            .client
            .call(Method::POST, path, None, Vec::new())
            .await
        {
            tracing::warn!(%error, "a container could not be asked to end");
            return;
        }
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if matches!(self.health().await, Err(CallError::Asleep)) {
                return;
            }
            tokio::time::sleep(START_POLL).await;
        }
        tracing::warn!("a container did not end in time and is left to itself");
    }

    async fn post(
        &self,
        path: &str,
        config: &ResolvedTownConfig,
        body: &impl Serialize,
    ) -> Result<(), CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Broken(error.into()))?;
        self.0
            .client
            .call(Method::POST, path, Some(config), body)
            .await
            .map(drop)
    }
}

fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

fn log_path(run_dir: &Path) -> PathBuf {
    run_dir.join("container.log")
}

struct Supervisor<T> {
    options: LaunchOptions,
    logs: Logs,
    target: T,
    handle: ContainerHandle,
    /// What the links so far acknowledged.
    known: Option<LinkPosition>,
    child: Option<Child>,
}

impl<T: LinkTarget> Supervisor<T> {
    async fn run(&mut self) {
        let mut adopted = self.handle.health().await.is_ok();
        loop {
            if !adopted {
                self.handle.0.wake.notified().await;
                if let Err(reason) = self.launch().await {
                    tracing::warn!(town = %self.options.town_id, reason, "the container did not start");
                    self.target.link(LinkState::StartFailed { reason }).await;
                    continue;
                }
            }
            adopted = false;
            let reason = self.keep_link().await;
            tracing::warn!(town = %self.options.town_id, reason, "the container is gone");
            self.target.link(LinkState::Down { reason }).await;
        }
    }

    /// Connects again and again until the container is gone; says how it ended.
    async fn keep_link(&mut self) -> String {
        loop {
            match self.handle.0.client.link().await {
                Ok(link) => {
                    self.handle.0.up.send_replace(true);
                    let end = relay::run(link, &mut self.known, &self.logs, &self.target).await;
                    self.handle.0.up.send_replace(false);
                    tracing::info!(town = %self.options.town_id, %end, "the container's link ended");
                }
                Err(CallError::Asleep) => return self.last_words().await,
                Err(error) => {
                    tracing::warn!(town = %self.options.town_id, %error, "the container can't be reached");
                }
            }
            if self.has_exited() {
                return self.last_words().await;
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Launches the process and waits until it answers.
    async fn launch(&mut self) -> Result<(), String> {
        let child = self.spawn().map_err(|error| telemetry::chain(&error))?;
        self.child = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.handle.health().await.is_ok() {
                return Ok(());
            }
            if self.has_exited() {
                return Err(self.last_words().await);
            }
            if Instant::now() > deadline {
                if let Some(child) = &mut self.child {
                    let _ = child.kill().await;
                }
                let words = self.last_words().await;
                return Err(format!(
                    "no answer within {} s: {words}",
                    START_TIMEOUT.as_secs()
                ));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn spawn(&self) -> Result<Child, super::Error> {
        let options = &self.options;
        private_dir(&options.run_dir)?;
        private_dir(&options.workspace)?;
        let socket = socket_path(&options.run_dir);
        if socket.as_os_str().len() > SOCKET_PATH_LEN_MAX {
            return Err(super::Error::Socket {
                path: socket,
                source: io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "longer than {SOCKET_PATH_LEN_MAX} bytes: use a data folder with a shorter path"
                    ),
                ),
            });
        }
        let log = open_log(&log_path(&options.run_dir))?;
        let paths = LaunchPaths {
            program: options.program.clone(),
            run_dir: options.run_dir.clone(),
            workspace: options.workspace.clone(),
            extra_read_only: options.agent_program.iter().cloned().collect(),
            extra_writable: self.target.local_repositories(),
        };
        let launch =
            isolation::launch_command(options.isolation, &paths, &container_arguments(options))?;
        let errors = log
            .try_clone()
            .map_err(|source| workspace_error(&options.run_dir, source))?;
        Command::new(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(launch.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .current_dir(&options.workspace)
            // Apart from the server's terminal and from signals to its group: it outlives it.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(|source| super::Error::Workspace {
                path: launch.program,
                source,
            })
    }

    fn has_exited(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// How the process ended and what it said last.
    async fn last_words(&mut self) -> String {
        let status = match self.child.take() {
            Some(mut child) => {
                // Nobody listens any more, so it is about to end; what hangs is ended.
                match tokio::time::timeout(START_TIMEOUT, child.wait()).await {
                    Ok(Ok(status)) => status.to_string(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => {
                        let _ = child.kill().await;
                        "it closed its socket and hung".to_owned()
                    }
                }
            }
            None => "nobody listens on its socket".to_owned(),
        };
        let words = last_lines(&log_path(&self.options.run_dir)).unwrap_or_default();
        if words.is_empty() {
            format!("the container ended ({status})")
        } else {
            format!("the container ended ({status}): {words}")
        }
    }
}

fn container_arguments(options: &LaunchOptions) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = vec![
        "container".into(),
        "--town-id".into(),
        options.town_id.to_string().into(),
        "--socket".into(),
        socket_path(&options.run_dir).into(),
        "--workspace".into(),
        options.workspace.clone().into(),
        "--linger".into(),
        format!("{}s", options.linger.as_secs()).into(),
        "--log".into(),
        options.log.clone().into(),
    ];
    if let Some(program) = &options.agent_program {
        arguments.extend(["--agent-program".into(), program.into()]);
    }
    if options.allow_local_repos {
        arguments.push("--allow-local-repos".into());
    }
    arguments
}

fn private_dir(path: &Path) -> Result<(), super::Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| workspace_error(path, source))
}

fn open_log(path: &Path) -> Result<File, super::Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let large = std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    if large {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    options
        .open(path)
        .map_err(|source| workspace_error(path, source))
}

fn last_lines(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LAST_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    Ok(lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
}

fn workspace_error(path: &Path, source: io::Error) -> super::Error {
    super::Error::Workspace {
        path: path.to_owned(),
        source,
    }
}
