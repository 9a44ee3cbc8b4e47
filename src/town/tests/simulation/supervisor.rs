//! The server's hold on the container, as the real supervisor and relay behave, and the faults of
//! both sides.

use std::collections::HashMap;
use std::time::Duration;

use crate::container::{AgentReport, ContainerReport, LinkState};
use crate::model::{AgentId, Timestamp};
use crate::storage::LinkPosition;
use crate::town::actor::ACTIVITY_INTERVAL;
use crate::town::command::Command;

use super::run::{Answer, Simulation};
use super::world::{Container, Due, Message, Stage, stopped};

const LAUNCH_TIME: Duration = Duration::from_millis(800);
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long a draining container takes to save its agents' work.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Lost when the server dies.
#[derive(Default)]
pub(super) struct Supervisor {
    link: Link,
    /// Somebody asked for the container; kept until it is heard.
    wake: bool,
    /// What the links so far acknowledged.
    known: Option<LinkPosition>,
    /// When each agent's activity was last told.
    active: HashMap<AgentId, Timestamp>,
}

#[derive(Default)]
enum Link {
    /// There is no container as far as the supervisor knows.
    #[default]
    Absent,
    Launching,
    Broken,
    Up(Option<Outstanding>),
}

/// A message that was given to the town and is not acknowledged.
struct Outstanding {
    seq: u64,
    answer: Box<dyn FnMut() -> Answer>,
}

impl Simulation<'_> {
    /// The supervisor's first act: a container that lives is taken over; that there is none is
    /// told.
    pub(super) fn adopt(&mut self) {
        self.connect();
    }

    pub(super) fn wake_container(&mut self) {
        self.supervisor.wake = true;
        self.launch_if_wanted();
    }

    fn launch_if_wanted(&mut self) {
        if self.supervisor.wake && matches!(self.supervisor.link, Link::Absent) {
            self.supervisor.wake = false;
            self.supervisor.link = Link::Launching;
            let at = self.now().after(LAUNCH_TIME);
            self.world.plan(at, Due::Launched);
        }
    }

    pub(super) fn launched(&mut self) {
        if !self.world.kind && self.random.chance(15) {
            self.supervisor.link = Link::Absent;
            let reason = "no such program".to_owned();
            self.tell(
                "container did not start",
                Command::Link(LinkState::StartFailed { reason }),
            );
            self.launch_if_wanted();
            return;
        }
        if self.world.container.is_none() {
            self.world.container = Some(Container::new());
        }
        self.connect();
    }

    /// A link comes up; the container forgets what the server knows and sends the rest again.
    pub(super) fn connect(&mut self) {
        let known = self.supervisor.known;
        let Some(container) = &mut self.world.container else {
            return self.container_gone();
        };
        let epoch = container.epoch;
        if let Some(known) = known.filter(|known| known.epoch == epoch) {
            container.spool.retain(|(seq, _)| *seq > known.seq);
        }
        self.supervisor.link = Link::Up(None);
        self.tell("link up", Command::Link(LinkState::Up { epoch }));
    }

    fn container_gone(&mut self) {
        self.supervisor.link = Link::Absent;
        let reason = "killed".to_owned();
        self.tell("link down", Command::Link(LinkState::Down { reason }));
        self.launch_if_wanted();
    }

    /// Takes the container's next message over, or notes that the last one is.
    pub(super) fn move_link(&mut self) {
        let Some(container) = &mut self.world.container else {
            return;
        };
        let epoch = container.epoch;
        let seq = match &mut self.supervisor.link {
            Link::Up(Some(outstanding)) => match (outstanding.answer)() {
                Answer::Waiting => return,
                Answer::Granted => {
                    let seq = outstanding.seq;
                    self.supervisor.known = Some(LinkPosition { epoch, seq });
                    self.supervisor.link = Link::Up(None);
                    // An acknowledgement may be lost with the link that carries it.
                    if self.random.chance(90) {
                        container.spool.retain(|(held, _)| *held > seq);
                    } else {
                        self.break_link();
                    }
                    return;
                }
                Answer::Lost | Answer::Refused => {
                    panic!("message {} of the container was refused", outstanding.seq)
                }
            },
            Link::Up(None) => self.supervisor.known,
            Link::Absent | Link::Launching | Link::Broken => return,
        };
        let after = seq
            .filter(|known| known.epoch == epoch)
            .map_or(0, |known| known.seq);
        let next = container.spool.iter().find(|(seq, _)| *seq > after);
        let Some((seq, message)) = next.cloned() else {
            return;
        };
        let place = LinkPosition { epoch, seq };
        let answer = match message {
            Message::Agent(agent_id, report) => {
                self.active(agent_id);
                let what = name(&report);
                self.note(format!("message {seq} of {}", agent_id.short()));
                self.ask(what, |reply| {
                    Command::Report(place, vec![(agent_id, report)], reply)
                })
            }
            Message::Container(report) => {
                self.note(format!("message {seq}: {report:?}"));
                self.ask("container told", |reply| {
                    Command::ContainerTold(place, report, reply)
                })
            }
            Message::Merge(report) => {
                self.note(format!(
                    "message {seq} of {} {}",
                    report.entry_id.short(),
                    report.status
                ));
                self.ask("merged", |reply| Command::Merged(place, report, reply))
            }
        };
        if let Link::Up(outstanding) = &mut self.supervisor.link {
            *outstanding = Some(Outstanding { seq, answer });
        }
    }

    /// Whether nothing waits on the link.
    pub(super) fn link_is_quiet(&self) -> bool {
        let spooled = self
            .world
            .container
            .as_ref()
            .is_some_and(|container| !container.spool.is_empty());
        !spooled && !matches!(self.supervisor.link, Link::Up(Some(_)))
    }

    pub(super) fn is_linked(&self) -> bool {
        matches!(self.supervisor.link, Link::Up(_))
    }

    /// An agent's event came over the link.
    pub(super) fn active(&mut self, agent_id: AgentId) {
        if !matches!(self.supervisor.link, Link::Up(_)) {
            return;
        }
        let now = self.now();
        let last = self.supervisor.active.entry(agent_id).or_default();
        if now.since(*last) >= ACTIVITY_INTERVAL {
            *last = now;
            self.tell("activity", Command::Activity(agent_id));
        }
    }

    // ---- faults ---------------------------------------------------------------------------

    pub(super) fn break_link(&mut self) {
        if matches!(self.supervisor.link, Link::Up(_)) {
            self.note("the link breaks".to_owned());
            self.supervisor.link = Link::Broken;
            let at = self.now().after(RECONNECT_PAUSE);
            self.world.plan(at, Due::Reconnect);
        }
    }

    /// The container's process dies.
    pub(super) fn lose_container(&mut self) {
        if self.world.container.is_none() {
            return;
        }
        self.note("the container dies".to_owned());
        self.world.end_container();
        if matches!(self.supervisor.link, Link::Up(_)) {
            self.container_gone();
        }
    }

    /// The container is told to save its agents' work and to end.
    pub(super) fn drain_container(&mut self, reason: &str) {
        let at = self.now().after(DRAIN_TIME);
        let Some(container) = &mut self.world.container else {
            return;
        };
        if container.draining {
            return;
        }
        container.draining = true;
        container.say(Message::Container(ContainerReport::Draining {
            reason: reason.to_owned(),
        }));
        let epoch = container.epoch;
        let ids: Vec<AgentId> = container.runs.keys().copied().collect();
        for agent_id in ids {
            let busy = container
                .run(agent_id)
                .is_some_and(|run| run.stage == Stage::Busy);
            if busy {
                container.report(agent_id, AgentReport::Idle { ends: true });
            }
            container.finish(agent_id, stopped("drained"));
        }
        self.note("the container drains".to_owned());
        self.world.plan(at, Due::Ended(epoch));
    }

    /// A drained container's process ends.
    pub(super) fn container_ended(&mut self, heard: bool) {
        self.world.end_container();
        if heard && matches!(self.supervisor.link, Link::Up(_)) {
            self.container_gone();
        }
    }
}

fn name(report: &AgentReport) -> &'static str {
    match report {
        AgentReport::Started { .. } => "agent started",
        AgentReport::Stopped { .. } => "agent stopped",
        AgentReport::Failed { .. } => "agent failed",
        AgentReport::Idle { .. } => "agent idle",
        AgentReport::Used { .. } => "agent used",
        AgentReport::Waiting(_) => "agent waits",
        AgentReport::Resumed { .. } => "agent resumed",
        AgentReport::Limited { .. } => "agent limited",
        AgentReport::Setback(_) => "agent set back",
        AgentReport::Recovered => "agent recovered",
    }
}
