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
use crate::model::{AgentId, AskKind, BeadId, Epoch, Json, ReviewStatus, Timestamp, Usage};
use crate::storage::{self, LinkPosition};
use crate::stream::{Message, MessageError, MessageReader, STALL_TIMEOUT, client_text_frame};

use super::client::Link;
use super::protocol::{
    self, AgentExited, AgentIdle, AgentLimited, AgentMerge, AgentResumed, AgentSetback,
    AgentStarted, AgentWaiting, ContainerMessage, ExitKind, ExitStatus, GatesReport, LinkResumed,
    MESSAGE_BYTES_MAX, MergeStatus, ServerFrame, message_type,
};
use super::reading::{self, MESSAGE_UPDATED};
use super::wire::{ReadHalf, WriteHalf};

/// Messages taken over together: one commit for what gathered during the last one. With a fleet of
/// 64 busy agents a group fills a segment of each.
const GROUP_LEN_MAX: usize = 4096;
/// And bytes of them, beyond which nothing more is read.
const GROUP_BYTES_MAX: usize = 4 << 20;
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

/// Messages that came one after another, and how that ended, if it did.
#[derive(Default)]
struct Group {
    messages: Vec<String>,
    bytes: usize,
    ended: Option<LinkEnd>,
}

impl Group {
    fn has_room(&self) -> bool {
        self.ended.is_none() && self.messages.len() < GROUP_LEN_MAX && self.bytes < GROUP_BYTES_MAX
    }

    /// Waits for a message, if there is none yet, and takes what else is there already. Nothing is
    /// lost if it is cut off.
    async fn gather(&mut self, reading: &mut Reading) {
        while self.has_room() {
            let waits = self.messages.is_empty();
            tokio::select! {
                biased;
                () = self.take_one(reading) => {}
                () = std::future::ready(()), if !waits => return,
            }
        }
    }

    /// Takes messages until there is no room. It must not return before: whoever awaits it beside
    /// something else would ask again and again, and leave no time for the others to run.
    async fn fill(&mut self, reading: &mut Reading) {
        while self.has_room() {
            self.take_one(reading).await;
        }
    }

    async fn take_one(&mut self, reading: &mut Reading) {
        let (reader, message) = (&mut *reading).await;
        *reading = read(reader);
        match message {
            Ok(Message::Text(text)) => {
                self.bytes += text.len();
                self.messages.push(text);
            }
            Ok(Message::Close) => self.ended = Some(LinkEnd::Closed),
            Ok(_) => {}
            Err(error) => self.ended = Some(LinkEnd::Broken(error)),
        }
    }
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
        let mut group = Group::default();
        loop {
            group.gather(&mut reading).await;
            // While the disk is at work on this group, the next one comes in.
            let Group {
                messages, ended, ..
            } = std::mem::take(&mut group);
            let next = &mut group;
            let mut taking = std::pin::pin!(self.take_over(&messages));
            loop {
                tokio::select! {
                    biased;
                    taken = &mut taking => {
                        taken?;
                        break;
                    }
                    () = next.fill(&mut reading), if ended.is_none() && next.has_room() => {}
                }
            }
            if let Some(end) = ended {
                return Err(end);
            }
        }
    }

    async fn take_over(&mut self, group: &[String]) -> Result<(), LinkEnd> {
        // `None` for agents that the town does not know.
        let mut events: BTreeMap<AgentId, Option<Vec<NewEvent>>> = BTreeMap::new();
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
            let Some(agent_id) = message.agent_id else {
                continue;
            };
            let known = events
                .entry(agent_id)
                .or_insert_with(|| self.target.knows(agent_id).then(Vec::new));
            if let Some(known) = known {
                if reading::shows_life(&message.message_type, message.data.get()) {
                    self.target.active(agent_id);
                }
                known.push(NewEvent {
                    event_type: message.message_type.into_owned(),
                    data: message.data.get().into(),
                    timestamp: message.timestamp,
                    link: Some(place),
                });
            }
        }
        let known = events.into_iter();
        self.store(known.filter_map(|(agent_id, events)| Some((agent_id, events?))))
            .await?;
        for (place, report) in without_repeats(reports) {
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
    async fn store(
        &mut self,
        events: impl Iterator<Item = (AgentId, Vec<NewEvent>)>,
    ) -> Result<(), LinkEnd> {
        let mut outcomes = Vec::new();
        for (agent_id, mut events) in events {
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

/// Leaves out what a message of an agent had used before it used more: only the last word counts.
fn without_repeats(reports: Vec<(LinkPosition, Report)>) -> Vec<(LinkPosition, Report)> {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<_> = reports
        .into_iter()
        .rev()
        .filter(|(_, report)| match report {
            Report::Agent(agent_id, AgentReport::Used { message_id, .. }) => {
                seen.insert((*agent_id, message_id.clone()))
            }
            _ => true,
        })
        .collect();
    kept.reverse();
    kept
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
            gates,
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
            gates,
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
                retry_at,
            } = serde_json::from_str(data)?;
            match status {
                ExitStatus::Stopped | ExitStatus::Drained => AgentReport::Stopped { reason },
                ExitStatus::Failed => AgentReport::Failed {
                    kind,
                    reason,
                    retry_at,
                },
            }
        }
        message_type::AGENT_IDLE => {
            let AgentIdle { error, ending } = serde_json::from_str(data)?;
            AgentReport::Idle {
                ends: ending || error.is_some(),
            }
        }
        message_type::AGENT_WAITING => {
            let AgentWaiting {
                ask_id,
                kind,
                title,
                detail,
            } = serde_json::from_str(data)?;
            AgentReport::Waiting(Asked {
                ask_id,
                kind: match kind {
                    protocol::AskKind::Permission => AskKind::Permission,
                    protocol::AskKind::Question => AskKind::Question,
                },
                title,
                detail: Json::from_valid(detail.get()),
            })
        }
        message_type::AGENT_LIMITED => {
            let AgentLimited { reason } = serde_json::from_str(data)?;
            AgentReport::Limited { reason }
        }
        message_type::AGENT_SETBACK => AgentReport::Setback(serde_json::from_str(data)?),
        message_type::AGENT_RECOVERED => AgentReport::Recovered,
        message_type::AGENT_RESUMED => {
            let AgentResumed { ask_id } = serde_json::from_str(data)?;
            AgentReport::Resumed { ask_id }
        }
        MESSAGE_UPDATED => match reading::used(data) {
            Some((message_id, usage)) => AgentReport::Used { message_id, usage },
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Report::Agent(agent_id, report)))
}
