//! Messages that come one after another, read while the group before them becomes durable.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io::Cursor;
use std::pin::Pin;

use bytes::Bytes;
use fastwebsockets::Role;
use tokio::io::AsyncReadExt;

use crate::agent_log::NewEvent;
use crate::container::protocol::{
    self, AgentExited, AgentIdle, AgentLimited, AgentMerge, AgentResumed, AgentStarted,
    AgentWaiting, ContainerDraining, ContainerMessage, ExitStatus, LinkResumed, MESSAGE_BYTES_MAX,
    MergeStatus, message_type,
};
use crate::container::reading::{self, MESSAGE_UPDATED};
use crate::container::wire::ReadHalf;
use crate::model::{AgentId, AskKind, Epoch, Json, ReviewStatus};
use crate::storage::LinkPosition;
use crate::stream::{Message, MessageError, MessageReader};

use super::{AgentReport, Asked, ContainerReport, LinkEnd, LinkTarget, MergeReport};

/// Messages taken over together: one commit for what gathered during the last one. With a fleet of
/// 64 busy agents a group fills a segment of each.
const GROUP_LEN_MAX: usize = 4096;
/// And bytes of them, beyond which nothing more is read.
const GROUP_BYTES_MAX: usize = 4 << 20;

type Reader = tokio::io::Chain<Cursor<Bytes>, ReadHalf>;
type Reading =
    Pin<Box<dyn Future<Output = (MessageReader<Reader>, Result<Message, MessageError>)> + Send>>;

/// What a group of messages comes to, and how the link ended behind it, if it did.
#[derive(Default)]
pub(super) struct Group {
    /// The container has said which life of it this is.
    pub(super) resumed: Option<Epoch>,
    /// Each agent's, in order; `None` for agents that the town does not know.
    pub(super) said: BTreeMap<AgentId, Option<Said>>,
    /// What the town is to know.
    pub(super) reports: Vec<(LinkPosition, Report)>,
    /// The place of the last message.
    pub(super) last: Option<LinkPosition>,
    pub(super) ended: Option<LinkEnd>,
    messages: usize,
    bytes: usize,
}

/// What one agent said.
#[derive(Default)]
pub(super) struct Said {
    pub(super) events: Vec<NewEvent>,
    /// Whether any of it shows life: the town need not hear that twice.
    alive: bool,
}

pub(super) enum Report {
    /// Several are of different agents.
    Agents(Vec<(AgentId, AgentReport)>),
    Merge(MergeReport),
    Container(ContainerReport),
}

impl Report {
    /// The agent and its message, if all it tells is what that has used.
    fn used(&self) -> Option<(AgentId, &str)> {
        match self {
            Self::Agents(reports) => match &reports[..] {
                [(agent_id, AgentReport::Used { message_id, .. })] => Some((*agent_id, message_id)),
                _ => None,
            },
            Self::Merge(_) | Self::Container(_) => None,
        }
    }
}

impl Group {
    pub(super) fn has_room(&self) -> bool {
        self.ended.is_none() && self.messages < GROUP_LEN_MAX && self.bytes < GROUP_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.messages == 0 && self.ended.is_none()
    }
}

/// Reads a link's messages into groups.
pub(super) struct Intake<'a, T> {
    reading: Reading,
    target: &'a T,
    epoch: Option<Epoch>,
}

fn read(reader: MessageReader<Reader>) -> Reading {
    Box::pin(reader.next())
}

impl<'a, T: LinkTarget> Intake<'a, T> {
    /// Reads `read_ahead` and then from `link`.
    pub(super) fn new(read_ahead: Bytes, link: ReadHalf, target: &'a T) -> Self {
        let reader = Cursor::new(read_ahead).chain(link);
        Self {
            reading: read(MessageReader::new(reader, Role::Client, MESSAGE_BYTES_MAX)),
            target,
            epoch: None,
        }
    }

    /// Waits for a message, if there is none yet, and takes what else is there already. Nothing is
    /// lost if it is cut off.
    pub(super) async fn gather(&mut self, group: &mut Group) {
        while group.has_room() {
            let waits = group.is_empty();
            tokio::select! {
                biased;
                () = self.take_one(group) => {}
                () = std::future::ready(()), if !waits => return,
            }
        }
    }

    /// Takes messages until there is no room. It must not return before: whoever awaits it beside
    /// something else would ask again and again, and leave no time for the others to run.
    pub(super) async fn fill(&mut self, group: &mut Group) {
        while group.has_room() {
            self.take_one(group).await;
        }
    }

    async fn take_one(&mut self, group: &mut Group) {
        let (reader, message) = (&mut self.reading).await;
        self.reading = read(reader);
        let taken = match message {
            Ok(Message::Text(text)) => self.take(group, &text),
            Ok(Message::Close) => Err(LinkEnd::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(LinkEnd::Broken(error)),
        };
        group.ended = taken.err();
    }

    fn take(&mut self, group: &mut Group, text: &str) -> Result<(), LinkEnd> {
        let message: ContainerMessage<'_> = serde_json::from_str(text).map_err(LinkEnd::Invalid)?;
        group.messages += 1;
        group.bytes += text.len();
        if message.message_type == message_type::LINK_RESUMED {
            group.resumed = Some(self.resumed(&message)?);
            return Ok(());
        }
        let epoch = self
            .epoch
            .ok_or_else(|| LinkEnd::Unexpected(message.message_type.to_string()))?;
        let place = LinkPosition {
            epoch,
            seq: message.seq,
        };
        if let Some(report) = report(&message).map_err(LinkEnd::Invalid)? {
            group.reports.push((place, report));
        }
        group.last = Some(place);
        if let Some(agent_id) = message.agent_id {
            self.take_event(group, agent_id, place, message);
        }
        Ok(())
    }

    fn take_event(
        &self,
        group: &mut Group,
        agent_id: AgentId,
        place: LinkPosition,
        message: ContainerMessage<'_>,
    ) {
        let said = match group.said.entry(agent_id) {
            Entry::Occupied(said) => said.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(self.target.knows(agent_id).then(Said::default)),
        };
        let Some(said) = said else { return };
        if !said.alive && reading::shows_life(&message.message_type, message.data.get()) {
            said.alive = true;
            self.target.active(agent_id);
        }
        said.events.push(NewEvent {
            event_type: message.message_type.into_owned(),
            data: message.data.get().into(),
            timestamp: message.timestamp,
            link: Some(place),
        });
    }

    fn resumed(&mut self, message: &ContainerMessage<'_>) -> Result<Epoch, LinkEnd> {
        let resumed: LinkResumed =
            serde_json::from_str(message.data.get()).map_err(LinkEnd::Invalid)?;
        tracing::info!(epoch = %resumed.epoch, next_seq = resumed.next_seq, recovered = resumed.recovered, "the container's link is up");
        self.epoch = Some(resumed.epoch);
        Ok(resumed.epoch)
    }
}

/// Leaves out what a message of an agent had used before it used more: only the last word counts. What
/// several agents used one after another is told at once: with many at work it is most of the
/// reports, and each alone is a commit.
pub(super) fn condensed(reports: Vec<(LinkPosition, Report)>) -> Vec<(LinkPosition, Report)> {
    let mut seen = HashSet::new();
    let mut kept: Vec<_> = reports
        .into_iter()
        .rev()
        .filter(|(_, report)| match report.used() {
            Some((agent_id, message_id)) => seen.insert((agent_id, message_id.to_owned())),
            None => true,
        })
        .collect();
    kept.reverse();
    let mut condensed: Vec<(LinkPosition, Report)> = Vec::with_capacity(kept.len());
    for (place, report) in kept {
        match (condensed.last_mut(), report) {
            (Some((last_place, Report::Agents(last))), Report::Agents(more))
                if goes_with(last, &more) =>
            {
                *last_place = place;
                last.extend(more);
            }
            (_, report) => condensed.push((place, report)),
        }
    }
    condensed
}

/// Whether both only tell what was used, by different agents.
fn goes_with(before: &[(AgentId, AgentReport)], more: &[(AgentId, AgentReport)]) -> bool {
    let only_used = |reports: &[(AgentId, AgentReport)]| {
        (reports.iter()).all(|(_, report)| matches!(report, AgentReport::Used { .. }))
    };
    let same = |(agent_id, _): &(AgentId, AgentReport)| more.iter().any(|(id, _)| id == agent_id);
    only_used(before) && only_used(more) && !before.iter().any(same)
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
            MergeStatus::Found => ReviewStatus::Pending,
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
        return container_report(message).map(|report| report.map(Report::Container));
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
    Ok(Some(Report::Agents(vec![(agent_id, report)])))
}

/// What a message that is no agent's says of the container.
fn container_report(
    message: &ContainerMessage<'_>,
) -> Result<Option<ContainerReport>, serde_json::Error> {
    let data = message.data.get();
    Ok(match message.message_type.as_ref() {
        message_type::CONTAINER_DRAINING => {
            let ContainerDraining { reason } = serde_json::from_str(data)?;
            Some(ContainerReport::Draining { reason })
        }
        message_type::CONTAINER_STATS => Some(ContainerReport::Stats(serde_json::from_str(data)?)),
        message_type::CONTAINER_DISK => Some(ContainerReport::Disk(serde_json::from_str(data)?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usage;

    #[test]
    fn what_was_used_is_told_at_once_and_nothing_is_told_early() {
        let epoch = Epoch::random();
        let [one, two] = [AgentId::random(), AgentId::random()];
        let used = |agent_id, message_id: &str, output| {
            let usage = Usage {
                output,
                ..Usage::default()
            };
            let message_id = message_id.to_owned();
            Report::Agents(vec![(agent_id, AgentReport::Used { message_id, usage })])
        };
        let recovered = |agent_id| Report::Agents(vec![(agent_id, AgentReport::Recovered)]);
        let reports = [
            used(one, "a", 1),
            used(one, "a", 2),
            used(two, "a", 3),
            // Of an agent that has told something in this group already.
            used(one, "b", 4),
            recovered(two),
            used(two, "b", 5),
            recovered(one),
            recovered(two),
        ];
        let places = (1..).map(|seq| LinkPosition { epoch, seq });
        let told: Vec<String> = condensed(places.zip(reports).collect())
            .into_iter()
            .map(|(place, report)| {
                let Report::Agents(reports) = report else {
                    panic!("all are of agents");
                };
                let words = reports.iter().map(|(agent_id, report)| {
                    let agent = if *agent_id == one { "one" } else { "two" };
                    match report {
                        AgentReport::Used { usage, .. } => format!("{agent} {}", usage.output),
                        _ => format!("{agent} recovered"),
                    }
                });
                format!("{}: {}", place.seq, words.collect::<Vec<_>>().join(", "))
            })
            .collect();
        let expected = [
            "3: one 2, two 3",
            "4: one 4",
            "5: two recovered",
            "6: two 5",
            "7: one recovered",
            "8: two recovered",
        ];
        assert_eq!(told, expected);
    }
}
