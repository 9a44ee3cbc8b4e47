//! The server's hold on one town's container: adopt it, start it, keep its link.
//!
//! A container is a process of its own that outlives the server. At start the supervisor looks for
//! a live socket and adopts what answers there; otherwise it waits until it is woken, launches the
//! process and connects. A container counts as gone only when nobody listens where it did or its
//! process has ended, never because it was slow. One on a machine that can't be reached counts as gone
//! when it must have ended by itself, because no server came.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;
use tokio::process::Child;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::agent_log::Logs;
use crate::config::ResolvedTownConfig;
use crate::lifecycle::Lifecycle;
use crate::model::{AgentId, AskKind, Json};
use crate::storage::LinkPosition;
use crate::telemetry;

use super::client::{CallError, Client};
use super::launch::{self, LaunchOptions, log_path};
use super::protocol::{
    AgentState, Health, MergeBranch, MessageAgent, RemoveAgent, StartAgent, StopAgent, TidyDisk,
};
use super::relay::{self, LinkState, LinkTarget};

/// How long a container process may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for one that a launcher starts, which may have an image to fetch first.
const LAUNCHER_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is asked meanwhile.
const START_POLL: Duration = Duration::from_millis(10);
/// A broken link to a live container is tried again this often.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long a container may take to save its agents' work, once they were given their time, before
/// one with other walls follows it.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(45);

/// What a container answers to one who does not show its token.
const UNAUTHORIZED: u16 = StatusCode::UNAUTHORIZED.as_u16();

/// What is escaped in a part of a path that an agent server chose.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');

/// A town's container; cheap to clone.
#[derive(Clone, Debug)]
pub struct ContainerHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    wake: Notify,
    up: watch::Sender<bool>,
    /// How often the town was told that its container is gone.
    downs: watch::Sender<u64>,
    gate: watch::Sender<Gate>,
    options: LaunchOptions,
}

/// Whether the container may be launched.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    launching: bool,
    closed: bool,
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
        let client = Client::new(launch::endpoint(&options), lifecycle.clone());
        let up = watch::Sender::new(false);
        let handle = Self(Arc::new(Inner {
            client,
            wake: Notify::new(),
            up,
            downs: watch::Sender::new(0),
            gate: watch::Sender::default(),
            options: options.clone(),
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

    /// Makes sure that a running container has these repositories of this machine in sight. Walls
    /// can't be moved: one that lacks any saves its agents' work and ends, and the next one goes
    /// on with it. Resolves when the town has been told.
    pub async fn show(&self, repositories: &[PathBuf]) {
        if launch::has_in_sight(&self.0.options, repositories) || self.health().await.is_err() {
            return;
        }
        let mut downs = self.0.downs.subscribe();
        let time_max = self.0.options.drain_time + RENEWAL_TIME_MAX;
        self.end(true, time_max).await;
        // The handle itself holds the sender, so only the time can run out.
        let _ = tokio::time::timeout(time_max, downs.changed()).await;
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

    /// Lets the container let go of what is not needed; what came of it comes over the link.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn tidy(
        &self,
        config: &ResolvedTownConfig,
        tidy: &TidyDisk,
    ) -> Result<(), CallError> {
        self.post("/disk/tidy", config, tidy).await
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

    /// Answers what an agent asked. `answer` is the protocol's body for that kind.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn answer_ask(
        &self,
        config: &ResolvedTownConfig,
        agent_id: AgentId,
        kind: AskKind,
        server_id: &str,
        answer: &Json,
    ) -> Result<(), CallError> {
        let kind = match kind {
            AskKind::Permission => "permissions",
            AskKind::Question => "questions",
        };
        let ask = percent_encoding::utf8_percent_encode(server_id, SEGMENT);
        let path = format!("/agents/{agent_id}/{kind}/{ask}");
        let body = answer.as_str().as_bytes().to_vec();
        self.0
            .client
            .call(Method::POST, &path, Some(config), body)
            .await
            .map(drop)
    }

    /// What the container knows of an agent; `None` if nothing.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn agent_state(&self, agent_id: AgentId) -> Result<Option<AgentState>, CallError> {
        let path = format!("/agents/{agent_id}/status");
        match self
            .0
            .client
            .call(Method::GET, &path, None, Vec::new())
            .await
        {
            Ok(answer) => serde_json::from_slice(&answer)
                .map(Some)
                .map_err(|error| CallError::Broken(error.into())),
            Err(CallError::Refused { status: 404, .. }) => Ok(None),
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

    /// Asks the container to save its agents' work and to end; its end comes over the link.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drain(&self) -> Result<(), CallError> {
        self.0
            .client
            .call(Method::POST, "/drain", None, Vec::new())
            .await
            .map(drop)
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

    /// As [`ContainerHandle::end`], and it is never launched again. A launch under way is waited for,
    /// so that no process comes to be behind the back of a server that is leaving.
    pub async fn close(&self, even_working: bool, grace: Duration) {
        self.0.gate.send_modify(|gate| gate.closed = true);
        let mut gate = self.0.gate.subscribe();
        // The handle itself holds the sender, so only the time can run out.
        let _ = tokio::time::timeout(grace, gate.wait_for(|gate| !gate.launching)).await;
        self.end(even_working, grace).await;
    }

    /// Whether a launch may begin now; if so, it has.
    fn may_launch(&self) -> bool {
        let mut may = false;
        self.0.gate.send_modify(|gate| {
            may = !gate.closed;
            gate.launching = may;
        });
        may
    }

    /// Ends the container's process if no agent and no merge is at work in it, or, if `even_working`, after its
    /// agents saved their work. Resolves when it is gone, or after `grace`.
    pub async fn end(&self, even_working: bool, grace: Duration) {
        if !self.ask_to_end(even_working).await {
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

    /// Whether it was asked to.
    async fn ask_to_end(&self, even_working: bool) -> bool {
        let Ok(health) = self.health().await else {
            return false;
        };
        let working = health.agents.saturating_sub(health.resting) + health.merges;
        let path = match (health.agents, working, even_working) {
            (0, 0, _) => "/shutdown",
            (_, 0, _) | (_, _, true) => "/drain",
            (_, _, false) => return false,
        };
        let asked = self
            .0
            .client
            .call(Method::POST, path, None, Vec::new())
            .await;
        if let Err(error) = &asked {
            tracing::warn!(%error, "a container could not be asked to end");
        }
        asked.is_ok()
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
        if adopted {
            // The server before may have ended between its launch and this.
            launch::hide_token(&self.options.run_dir);
        } else {
            // It may have ended while there was no server to hear of it.
            let reason = "no container was found".to_owned();
            self.target.link(LinkState::Down { reason }).await;
        }
        loop {
            if !adopted {
                self.handle.0.wake.notified().await;
                if !self.handle.may_launch() {
                    continue;
                }
                let launched = self.launch().await;
                self.handle
                    .0
                    .gate
                    .send_modify(|gate| gate.launching = false);
                if let Err(reason) = launched {
                    tracing::warn!(town = %self.options.town_id, reason, "the container did not start");
                    self.target.link(LinkState::StartFailed { reason }).await;
                    continue;
                }
            }
            adopted = false;
            // A rig may have come while it was launched, or while there was no server.
            if !launch::has_in_sight(&self.options, &self.target.local_repositories()) {
                self.handle.ask_to_end(true).await;
            }
            let reason = self.keep_link().await;
            tracing::warn!(town = %self.options.town_id, reason, "the container is gone");
            self.target.link(LinkState::Down { reason }).await;
            self.handle.0.downs.send_modify(|downs| *downs += 1);
        }
    }

    /// Connects again and again until the container is gone; says how it ended.
    async fn keep_link(&mut self) -> String {
        let gone_after = self.options.linger + self.options.drain_time + RENEWAL_TIME_MAX;
        let (mut seen, mut told) = (Instant::now(), false);
        loop {
            match self.handle.0.client.link().await {
                Ok(link) => {
                    self.handle.0.up.send_replace(true);
                    let end = relay::run(link, &mut self.known, &self.logs, &self.target).await;
                    self.handle.0.up.send_replace(false);
                    (seen, told) = (Instant::now(), false);
                    tracing::info!(town = %self.options.town_id, %end, "the container's link ended");
                }
                Err(CallError::Asleep) => return self.last_words().await,
                // Another one took its address: this one has ended.
                Err(CallError::Refused { status, .. }) if status == UNAUTHORIZED => {
                    return self.last_words().await;
                }
                // On another machine. By itself it has ended by now.
                Err(error) if self.options.listen.is_some() && seen.elapsed() > gone_after => {
                    let error = telemetry::chain(&error);
                    return format!("{error}; {}", self.last_words().await);
                }
                Err(error) if !told => {
                    told = true;
                    let error = telemetry::chain(&error);
                    tracing::warn!(town = %self.options.town_id, error, "the container can't be reached, and is tried again");
                }
                Err(_) => {}
            }
            if self.has_exited() {
                return self.last_words().await;
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Launches the process and waits until it answers.
    async fn launch(&mut self) -> Result<(), String> {
        let launched = launch::spawn(&self.options, &self.target.local_repositories())
            .map_err(|error| telemetry::chain(&error))?;
        self.child = Some(launched.child);
        let patience = match self.options.launcher {
            None => START_TIMEOUT,
            Some(_) => LAUNCHER_TIMEOUT,
        };
        let deadline = Instant::now() + patience;
        let mut found = self.options.listen.is_none();
        loop {
            if !found {
                found = launch::note_address(&self.options.run_dir, launched.log_begin)
                    .map_err(|error| telemetry::chain(&error))?;
            }
            if found && self.handle.health().await.is_ok() {
                launch::hide_token(&self.options.run_dir);
                return Ok(());
            }
            if self.has_exited() {
                return Err(self.last_words().await);
            }
            if Instant::now() > deadline {
                if let Some(child) = &mut self.child {
                    launch::kill(child).await;
                }
                let words = self.last_words().await;
                return Err(format!(
                    "no answer within {} s: {words}",
                    patience.as_secs()
                ));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn has_exited(&mut self) -> bool {
        let status = match &mut self.child {
            Some(child) => child.try_wait(),
            None => return false,
        };
        match status {
            Ok(None) => false,
            Ok(Some(status)) if status.success() && self.options.launcher.is_some() => {
                // It handed the container over to somebody else, such as a scheduler.
                self.child = None;
                false
            }
            _ => true,
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
                        launch::kill(&mut child).await;
                        "it took no more connections and hung".to_owned()
                    }
                }
            }
            None => "nobody listens where it did".to_owned(),
        };
        let words = launch::last_lines(&log_path(&self.options.run_dir)).unwrap_or_default();
        if words.is_empty() {
            format!("the container ended ({status})")
        } else {
            format!("the container ended ({status}): {words}")
        }
    }
}
