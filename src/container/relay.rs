//! The relay: a container's WebSocket into the agents' logs and to the town.
//!
//! Messages are taken in groups. A group's events go into the logs, its reports to the town, and
//! only when all of that is durable is the group acknowledged, so that a crash at any moment makes
//! the container send again what may be missing; what was taken over already is dropped by its
//! place in the stream.

mod group;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::agent_log::{AppendError, Logs};
use crate::model::{AgentId, AskKind, BeadId, Epoch, Json, ReviewStatus, Timestamp, Usage};
use crate::storage::{self, LinkPosition};
use crate::stream::{MessageError, STALL_TIMEOUT, client_text_frame};

use super::client::Link;
use super::protocol::{
    AgentSetback, ContainerDisk, ContainerStats, ExitKind, GatesReport, ServerFrame,
};
use super::wire::WriteHalf;

use group::{Group, Intake, Report, Said, condensed};

/// How long to wait before an overloaded log is tried again.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(50);
/// How long to wait before a full disk is tried again. The container keeps what is not
/// acknowledged meanwhile.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// What an agent's run has come to, for the town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentReport {
    /// It has its session.
    Started {
        /// To be given back at the next start.
        session_id: String,
        /// Whether that is the session the start asked for.
        resumed: bool,
    },
    /// It was asked to stop, or the container drained.
    Stopped {
        /// In words.
        reason: String,
    },
    /// Something went wrong.
    Failed {
        /// For programs.
        kind: ExitKind,
        /// For people.
        reason: String,
        /// Another try before this would fail as well.
        retry_at: Option<Timestamp>,
    },
    /// Its turn ended.
    Idle {
        /// The run ends with it, by an error or because it is to: its exit follows.
        ends: bool,
    },
    /// A message of its session has used so much by now.
    Used {
        /// The agent server's id of the message.
        message_id: String,
        /// All of the message, not only what is new.
        usage: Usage,
    },
    /// It asked a person something.
    Waiting(Asked),
    /// Its commands were over a limit and were ended.
    Limited {
        /// Which limit, and by how much.
        reason: String,
    },
    /// Something went wrong around it, and it goes on.
    Setback(AgentSetback),
    /// Its model answers again.
    Recovered,
    /// The ask was answered or withdrawn.
    Resumed {
        /// The ask.
        ask_id: String,
    },
}

/// What an agent asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The ask, as the agent server names it.
    pub ask_id: String,
    /// What is wanted.
    pub kind: AskKind,
    /// In one line.
    pub title: String,
    /// The whole ask as the agent server told it.
    pub detail: Json,
}

/// What the container says of itself, for the town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerReport {
    /// It takes nothing new, saves its agents' work and ends.
    Draining {
        /// Who wanted it, in words.
        reason: String,
    },
    /// What it uses.
    Stats(ContainerStats),
    /// What lies in its workspace.
    Disk(ContainerDisk),
}

/// How a merge ended, for the town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeReport {
    /// The merge request.
    pub entry_id: BeadId,
    /// `Merged`, `Conflict` or `Failed`; `Pending` if the branch was only looked at, for its commit
    /// is not the approved one.
    pub status: ReviewStatus,
    /// What happened.
    pub message: String,
    /// The commit on the target branch; of one that was only looked at, the branch's own.
    pub commit_sha: Option<String>,
    /// Whether it may succeed later by itself.
    pub retryable: bool,
    /// What the gates said, if any ran.
    pub gates: Option<GatesReport>,
}

/// What the supervisor knows of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Messages flow.
    Up {
        /// The container's life.
        epoch: Epoch,
    },
    /// The container's process is gone.
    Down {
        /// Its last words.
        reason: String,
    },
    /// The container could not be started.
    StartFailed {
        /// Why.
        reason: String,
    },
}

/// Who is told what comes over the link. The container room never names the town.
pub trait LinkTarget: Clone + Send + Sync + 'static {
    /// Whether the agent exists; events of others are dropped.
    fn knows(&self, agent_id: AgentId) -> bool;
    /// Repositories of this machine that the container has to reach.
    fn local_repositories(&self) -> Vec<std::path::PathBuf>;
    /// The agent has shown life.
    fn active(&self, agent_id: AgentId);
    /// The link came up or went down.
    fn link(&self, state: LinkState) -> impl Future<Output = ()> + Send;
    /// Agents' runs have come to something; true once that is durable. Several are of different agents.
    fn report(
        &self,
        place: LinkPosition,
        reports: Vec<(AgentId, AgentReport)>,
    ) -> impl Future<Output = bool> + Send;
    /// The container says something of itself; true once that is durable.
    fn told(
        &self,
        place: LinkPosition,
        report: ContainerReport,
    ) -> impl Future<Output = bool> + Send;
    /// A merge ended; true once that is durable.
    fn merged(&self, place: LinkPosition, report: MergeReport)
    -> impl Future<Output = bool> + Send;
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("the container closed the link")]
    Closed,
    #[error("the link broke")]
    Broken(#[source] MessageError),
    #[error("the link takes no more data")]
    Stuck(#[source] std::io::Error),
    #[error("a message of the container is not valid")]
    Invalid(#[source] serde_json::Error),
    #[error("the container sent {0} before it said who it is")]
    Unexpected(String),
    #[error("what the container sent could not be stored")]
    NotStored,
}

/// Carries one link until it ends. `known` is what earlier links acknowledged, and is kept up to
/// date.
pub(super) async fn run<T: LinkTarget>(
    link: Link,
    known: &mut Option<LinkPosition>,
    logs: &Logs,
    target: &T,
) -> LinkEnd {
    let intake = Intake::new(link.read_ahead, link.reader, target);
    let mut relay = Relay {
        writer: link.writer,
        logs,
        target,
        known,
    };
    match relay.run(intake).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

struct Relay<'a, T> {
    writer: WriteHalf,
    logs: &'a Logs,
    target: &'a T,
    known: &'a mut Option<LinkPosition>,
}

impl<T: LinkTarget> Relay<'_, T> {
    async fn run(
        &mut self,
        mut intake: Intake<'_, T>,
    ) -> Result<std::convert::Infallible, LinkEnd> {
        let resume = ServerFrame::Resume {
            epoch: self.known.map(|known| known.epoch),
            after_seq: self.known.map_or(0, |known| known.seq),
        };
        self.say(&resume).await?;
        let mut group = Group::default();
        loop {
            intake.gather(&mut group).await;
            // While the disk is at work on this group, the next one comes in.
            let mut taken = std::mem::take(&mut group);
            let ended = taken.ended.take();
            let next = &mut group;
            let mut taking = std::pin::pin!(self.take_over(taken));
            loop {
                tokio::select! {
                    biased;
                    taken = &mut taking => {
                        taken?;
                        break;
                    }
                    () = intake.fill(next), if ended.is_none() && next.has_room() => {}
                }
            }
            if let Some(end) = ended {
                return Err(end);
            }
        }
    }

    async fn take_over(&mut self, group: Group) -> Result<(), LinkEnd> {
        if let Some(epoch) = group.resumed {
            self.target.link(LinkState::Up { epoch }).await;
        }
        self.store(group.said).await?;
        for (place, report) in condensed(group.reports) {
            let stored = match report {
                Report::Agents(reports) => self.target.report(place, reports).await,
                Report::Merge(report) => self.target.merged(place, report).await,
                Report::Container(report) => self.target.told(place, report).await,
            };
            if !stored {
                return Err(LinkEnd::NotStored);
            }
        }
        if let Some(place) = group.last {
            *self.known = Some(place);
            self.say(&ServerFrame::Ack { seq: place.seq }).await?;
        }
        Ok(())
    }

    /// Appends every agent's events; all logs commit together.
    async fn store(&mut self, said: BTreeMap<AgentId, Option<Said>>) -> Result<(), LinkEnd> {
        let mut outcomes = Vec::new();
        let known = said.into_iter().filter_map(|(id, said)| Some((id, said?)));
        for (agent_id, Said { mut events, .. }) in known {
            let log = match self.logs.open(agent_id).await {
                Ok(log) => log,
                // Deleted in this moment: nobody wants them any more.
                Err(storage::Error::Removed { .. }) => continue,
                Err(error) => return Err(self.not_stored(&error).await),
            };
            loop {
                match log.begin_append_from(&mut events) {
                    Ok(outcome) => {
                        outcomes.push((log, outcome));
                        break;
                    }
                    Err(AppendError::Overloaded) => tokio::time::sleep(OVERLOAD_PAUSE).await,
                    Err(AppendError::Ended) => break,
                    Err(AppendError::Storage(error)) => return Err(self.not_stored(&error).await),
                    Err(AppendError::KeyReused) => return Err(LinkEnd::NotStored),
                }
            }
        }
        for (log, outcome) in outcomes {
            match outcome.await.unwrap_or_else(|_| Err(log.dropped())) {
                Ok(_) | Err(AppendError::Ended) => {}
                Err(AppendError::Storage(error)) => return Err(self.not_stored(&error).await),
                Err(AppendError::Overloaded | AppendError::KeyReused) => {
                    return Err(LinkEnd::NotStored);
                }
            }
        }
        Ok(())
    }

    /// The link begins anew behind what was acknowledged: what is missing is sent again, what was
    /// stored is recognised. On a full disk there is no haste.
    async fn not_stored(&self, error: &storage::Error) -> LinkEnd {
        if matches!(error, storage::Error::Full { .. }) {
            tokio::time::sleep(FULL_PAUSE).await;
        }
        LinkEnd::NotStored
    }

    async fn say(&mut self, frame: &ServerFrame) -> Result<(), LinkEnd> {
        let text = serde_json::to_string(frame).map_err(LinkEnd::Invalid)?;
        let frame = client_text_frame(&text);
        tokio::time::timeout(STALL_TIMEOUT, self.writer.write_all(&frame))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(LinkEnd::Stuck)
    }
}
