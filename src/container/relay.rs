//! The relay: a container's WebSocket into the agents' logs and to the town.
//!
//! Messages are taken in groups. A group's events go into the logs, its reports to the town, and
//! only when all of that is durable is the group acknowledged, so that a crash at any moment makes
//! the container send again what may be missing; what was taken over already is dropped by its
//! place in the stream.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Cursor;
use std::pin::Pin;
use std::time::Duration;

use fastwebsockets::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent_log::{AppendError, Logs, NewEvent};
use crate::model::{AgentId, BeadId, Epoch, ReviewStatus};
use crate::storage::LinkPosition;
use crate::stream::{Message, MessageError, MessageReader, STALL_TIMEOUT, client_text_frame};

use super::client::Link;
use super::wire::{ReadHalf, WriteHalf};
use super::protocol::{
    AgentExited, AgentIdle, AgentLimited, AgentMerge, AgentResumed, AgentStarted, AgentWaiting,
    ContainerMessage, ExitKind, ExitStatus, LinkResumed, MESSAGE_BYTES_MAX, MergeStatus,
    ServerFrame, message_type,
};

/// Messages taken over together: one commit for what gathered during the last one.
const GROUP_LEN_MAX: usize = 512;
/// How long to wait before an overloaded log is tried again.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(50);

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
    },
    /// Its turn ended.
    Idle {
        /// With an error; its exit follows.
        failed: bool,
    },
    /// It asked a person something.
    Waiting {
        /// The ask.
        ask_id: String,
        /// In one line.
        title: String,
    },
    /// Its commands were over a limit and were ended.
    Limited {
        /// Which limit, and by how much.
        reason: String,
    },
    /// The ask was answered or withdrawn.
    Resumed {
        /// The ask.
        ask_id: String,
    },
}

/// How a merge ended, for the town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeReport {
    /// The merge request.
    pub entry_id: BeadId,
    /// `Merged`, `Conflict` or `Failed`.
    pub status: ReviewStatus,
    /// What happened.
    pub message: String,
    /// The commit on the target branch.
    pub commit_sha: Option<String>,
    /// Whether it may succeed later by itself.
    pub retryable: bool,
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
    /// An agent's run has come to something; true once that is durable.
    fn report(
        &self,
        place: LinkPosition,
        agent_id: AgentId,
        report: AgentReport,
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

type Reader = tokio::io::Chain<Cursor<bytes::Bytes>, ReadHalf>;
type Reading =
    Pin<Box<dyn Future<Output = (MessageReader<Reader>, Result<Message, MessageError>)> + Send>>;

/// Carries one link until it ends. `known` is what earlier links acknowledged, and is kept up to
/// date.
pub(super) async fn run<T: LinkTarget>(
    link: Link,
    known: &mut Option<LinkPosition>,
    logs: &Logs,
    target: &T,
) -> LinkEnd {
    let reader = Cursor::new(link.read_ahead).chain(link.reader);
    let mut relay = Relay {
        writer: link.writer,
        logs,
        target,
        epoch: None,
        known,
    };
    let reading = read(MessageReader::new(reader, Role::Client, MESSAGE_BYTES_MAX));
    match relay.run(reading).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

fn read(reader: MessageReader<Reader>) -> Reading {
    Box::pin(reader.next())
}

struct Relay<'a, T> {
    writer: WriteHalf,
    logs: &'a Logs,
    target: &'a T,
    epoch: Option<Epoch>,
    known: &'a mut Option<LinkPosition>,
}

enum Report {
    Agent(AgentId, AgentReport),
    Merge(MergeReport),
}

impl<T: LinkTarget> Relay<'_, T> {
    async fn run(&mut self, mut reading: Reading) -> Result<std::convert::Infallible, LinkEnd> {
        let resume = ServerFrame::Resume {
            epoch: self.known.map(|known| known.epoch),
            after_seq: self.known.map_or(0, |known| known.seq),
        };
        self.say(&resume).await?;
        loop {
            let mut group = Vec::new();
            let ended = self.gather(&mut reading, &mut group).await;
            self.take_over(&group).await?;
            if let Some(end) = ended {
                return Err(end);
            }
        }
    }

    /// Waits for a message and takes what else is there already.
    async fn gather(&mut self, reading: &mut Reading, group: &mut Vec<String>) -> Option<LinkEnd> {
        loop {
            let message = tokio::select! {
                biased;
                (reader, message) = &mut *reading => {
                    *reading = read(reader);
                    message
                }
                () = std::future::ready(()), if !group.is_empty() => return None,
            };
            match message {
                Ok(Message::Text(text)) => group.push(text),
                Ok(Message::Close) => return Some(LinkEnd::Closed),
                Ok(_) => {}
                Err(error) => return Some(LinkEnd::Broken(error)),
            }
            if group.len() >= GROUP_LEN_MAX {
                return None;
            }
        }
    }

    async fn take_over(&mut self, group: &[String]) -> Result<(), LinkEnd> {
        let mut events: BTreeMap<AgentId, Vec<NewEvent>> = BTreeMap::new();
        let mut reports = Vec::new();
        let mut last = None;
        for text in group {
            let message: ContainerMessage<'_> =
                serde_json::from_str(text).map_err(LinkEnd::Invalid)?;
            if message.message_type == message_type::LINK_RESUMED {
                self.resumed(&message).await?;
                continue;
            }
            let epoch = self
                .epoch
                .ok_or_else(|| LinkEnd::Unexpected(message.message_type.to_string()))?;
            let place = LinkPosition {
                epoch,
                seq: message.seq,
            };
            last = Some(place);
            if let Some(report) = report(&message).map_err(LinkEnd::Invalid)? {
                reports.push((place, report));
            }
            if let Some(agent_id) = message.agent_id.filter(|agent| self.target.knows(*agent)) {
                events.entry(agent_id).or_default().push(NewEvent {
                    event_type: message.message_type.into_owned(),
                    data: message.data.get().into(),
                    timestamp: message.timestamp,
                    link: Some(place),
                });
            }
        }
        self.store(events).await?;
        for (place, report) in reports {
            let stored = match report {
                Report::Agent(agent_id, report) => {
                    self.target.report(place, agent_id, report).await
                }
                Report::Merge(report) => self.target.merged(place, report).await,
            };
            if !stored {
                return Err(LinkEnd::NotStored);
            }
        }
        if let Some(place) = last {
            *self.known = Some(place);
            self.say(&ServerFrame::Ack { seq: place.seq }).await?;
        }
        Ok(())
    }

    async fn resumed(&mut self, message: &ContainerMessage<'_>) -> Result<(), LinkEnd> {
        let resumed: LinkResumed =
            serde_json::from_str(message.data.get()).map_err(LinkEnd::Invalid)?;
        tracing::info!(epoch = %resumed.epoch, next_seq = resumed.next_seq, recovered = resumed.recovered, "the container's link is up");
        self.epoch = Some(resumed.epoch);
        self.target
            .link(LinkState::Up {
                epoch: resumed.epoch,
            })
            .await;
        Ok(())
    }

    /// Appends every agent's events; all logs commit together.
    async fn store(&mut self, events: BTreeMap<AgentId, Vec<NewEvent>>) -> Result<(), LinkEnd> {
        let mut outcomes = Vec::with_capacity(events.len());
        for (agent_id, events) in events {
            self.target.active(agent_id);
            let log = self
                .logs
                .open(agent_id)
                .await
                .map_err(|_| LinkEnd::NotStored)?;
            loop {
                match log.begin_append(events.clone()) {
                    Ok(outcome) => {
                        outcomes.push((log, outcome));
                        break;
                    }
                    Err(AppendError::Overloaded) => tokio::time::sleep(OVERLOAD_PAUSE).await,
                    // Deleted in this moment: nobody wants them any more.
                    Err(AppendError::Ended) => break,
                    Err(AppendError::Storage(_) | AppendError::KeyReused) => {
                        return Err(LinkEnd::NotStored);
                    }
                }
            }
        }
        for (log, outcome) in outcomes {
            match outcome.await.unwrap_or_else(|_| Err(log.dropped())) {
                Ok(_) | Err(AppendError::Ended) => {}
                Err(_) => return Err(LinkEnd::NotStored),
            }
        }
        Ok(())
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

/// What a message means to the town, if it means anything.
fn report(message: &ContainerMessage<'_>) -> Result<Option<Report>, serde_json::Error> {
    let data = message.data.get();
    if message.message_type == message_type::AGENT_MERGE {
        let AgentMerge {
            entry_id,
            status,
            message,
            commit_sha,
            retryable,
        } = serde_json::from_str(data)?;
        let status = match status {
            MergeStatus::Merged => ReviewStatus::Merged,
            MergeStatus::Conflict => ReviewStatus::Conflict,
            MergeStatus::Failed => ReviewStatus::Failed,
        };
        let report = MergeReport {
            entry_id,
            status,
            message,
            commit_sha,
            retryable,
        };
        return Ok(Some(Report::Merge(report)));
    }
    let Some(agent_id) = message.agent_id else {
        return Ok(None);
    };
    let report = match message.message_type.as_ref() {
        message_type::AGENT_STARTED => {
            let AgentStarted {
                session_id,
                resumed,
                ..
            } = serde_json::from_str(data)?;
            AgentReport::Started {
                session_id,
                resumed,
            }
        }
        message_type::AGENT_EXITED => {
            let AgentExited {
                status,
                reason,
                kind,
            } = serde_json::from_str(data)?;
            match status {
                ExitStatus::Stopped | ExitStatus::Drained => AgentReport::Stopped { reason },
                ExitStatus::Failed => AgentReport::Failed { kind, reason },
            }
        }
        message_type::AGENT_IDLE => {
            let AgentIdle { error } = serde_json::from_str(data)?;
            AgentReport::Idle {
                failed: error.is_some(),
            }
        }
        message_type::AGENT_WAITING => {
            let AgentWaiting { ask_id, title, .. } = serde_json::from_str(data)?;
            AgentReport::Waiting { ask_id, title }
        }
        message_type::AGENT_LIMITED => {
            let AgentLimited { reason } = serde_json::from_str(data)?;
            AgentReport::Limited { reason }
        }
        message_type::AGENT_RESUMED => {
            let AgentResumed { ask_id } = serde_json::from_str(data)?;
            AgentReport::Resumed { ask_id }
        }
        _ => return Ok(None),
    };
    Ok(Some(Report::Agent(agent_id, report)))
}
