//! The world around the server: the container with its agents and merges, and what will happen
//! there. It lives on when the server dies.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::container::git::Approved;
use crate::container::{AgentReport, ContainerReport, ExitKind, MergeReport};
use crate::model::{AgentId, AgentRole, BeadId, Epoch, RigId, Timestamp};

use super::random::Random;

/// Everything outside the server.
#[derive(Default)]
pub(super) struct World {
    pub(super) container: Option<Container>,
    /// What happens later, by its moment and then by the order in which it was planned.
    agenda: BTreeMap<(Timestamp, u64), Due>,
    planned: u64,
    /// Whether everything works from now on.
    pub(super) kind: bool,
    /// Branches that are on the target, by merge request.
    pub(super) merged: Vec<BeadId>,
    /// How often each merge request's branch was pushed to after it was handed in.
    pub(super) pushed: BTreeMap<BeadId, u32>,
}

/// Something that happens at its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The container that is launched answers, or does not.
    Launched,
    /// A broken link is tried again.
    Reconnect,
    /// An agent's run goes on.
    Agent(AgentId, u64),
    /// A run that was to end when idle is aborted.
    Abort(AgentId, u64),
    /// A merge ends.
    Merge(BeadId),
    /// The container's process ends, having drained.
    Ended(Epoch),
}

/// One life of the container.
pub(super) struct Container {
    pub(super) epoch: Epoch,
    pub(super) next_seq: u64,
    /// What was not acknowledged.
    pub(super) spool: VecDeque<(u64, Message)>,
    pub(super) runs: BTreeMap<AgentId, Run>,
    pub(super) merges: BTreeMap<BeadId, Merging>,
    pub(super) draining: bool,
    last_run: u64,
}

/// A merge under way.
#[derive(Clone, Debug)]
pub(super) struct Merging {
    pub(super) rig_id: RigId,
    pub(super) approved: Approved,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Agent(AgentId, AgentReport),
    Merge(MergeReport),
    Container(ContainerReport),
}

/// One run of an agent.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) role: AgentRole,
    pub(super) rig_id: Option<RigId>,
    /// What it was prompted for.
    pub(super) bead_id: Option<BeadId>,
    pub(super) stage: Stage,
    pub(super) mood: Mood,
    /// How it ends as soon as it is idle.
    pub(super) ending: Option<&'static str>,
    /// Whether it has called done in this run.
    pub(super) done: bool,
    pub(super) session: String,
    pub(super) started_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Starting,
    Busy,
    Idle,
    Waiting(String),
    Ended,
}

/// What a run makes of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Works, calls done, ends its turn.
    Diligent,
    /// Does not get as far as a session.
    Unready,
    /// Dies somewhere in between.
    Mortal,
    /// Falls silent.
    Silent,
    /// Ends its turn without calling done.
    Lazy,
    /// Asks a person.
    Curious,
    /// Does anything at any time, twice or late.
    Erratic,
}

impl Stage {
    pub(super) fn is_alive(&self) -> bool {
        *self != Self::Ended
    }
}

impl World {
    pub(super) fn plan(&mut self, at: Timestamp, due: Due) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), due);
    }

    /// The moment of what comes next.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn take_next(&mut self) -> Option<Due> {
        self.agenda.pop_first().map(|(_, due)| due)
    }

    /// Forgets what was planned and `drop` says of.
    pub(super) fn forget(&mut self, drop: impl Fn(&Due) -> bool) {
        self.agenda.retain(|_, due| !drop(due));
    }

    pub(super) fn mood(&self, random: &mut Random) -> Mood {
        if self.kind {
            return Mood::Diligent;
        }
        random.weighted(&[
            (40, Mood::Diligent),
            (8, Mood::Unready),
            (10, Mood::Mortal),
            (8, Mood::Silent),
            (12, Mood::Lazy),
            (8, Mood::Curious),
            (14, Mood::Erratic),
        ])
    }

    /// How long until an agent's next step.
    pub(super) fn pace(&self, random: &mut Random) -> Duration {
        if self.kind {
            return Duration::from_secs(20);
        }
        Duration::from_millis(random.weighted(&[(5, 400), (5, 5_000), (4, 60_000), (1, 900_000)]))
    }

    /// The process is gone with everything in it.
    pub(super) fn end_container(&mut self) {
        self.container = None;
        self.forget(|due| !matches!(due, Due::Launched | Due::Reconnect));
    }
}

impl Container {
    pub(super) fn new() -> Self {
        Self {
            epoch: Epoch::random(),
            next_seq: 1,
            spool: VecDeque::new(),
            runs: BTreeMap::new(),
            merges: BTreeMap::new(),
            draining: false,
            last_run: 0,
        }
    }

    pub(super) fn say(&mut self, message: Message) {
        self.spool.push_back((self.next_seq, message));
        self.next_seq += 1;
    }

    pub(super) fn report(&mut self, agent_id: AgentId, report: AgentReport) {
        self.say(Message::Agent(agent_id, report));
    }

    pub(super) fn next_run(&mut self) -> u64 {
        self.last_run += 1;
        self.last_run
    }

    pub(super) fn run(&self, agent_id: AgentId) -> Option<&Run> {
        self.runs.get(&agent_id).filter(|run| run.stage.is_alive())
    }

    pub(super) fn run_mut(&mut self, agent_id: AgentId) -> Option<&mut Run> {
        let run = self.runs.get_mut(&agent_id);
        run.filter(|run| run.stage.is_alive())
    }

    /// Ends a run and says so, once, whatever it was doing.
    pub(super) fn finish(&mut self, agent_id: AgentId, exit: AgentReport) {
        let Some(run) = self.run_mut(agent_id) else {
            return;
        };
        let stage = std::mem::replace(&mut run.stage, Stage::Ended);
        if let Stage::Waiting(ask_id) = stage {
            self.report(agent_id, AgentReport::Resumed { ask_id });
        }
        self.report(agent_id, exit);
    }

    /// A stop: at once, unless the run is in the middle of a turn; then true.
    pub(super) fn stop(&mut self, agent_id: AgentId, reason: &'static str) -> bool {
        let Some(run) = self.run_mut(agent_id) else {
            return false;
        };
        match run.stage {
            Stage::Busy | Stage::Waiting(_) => {
                run.ending = Some(reason);
                true
            }
            Stage::Starting | Stage::Idle | Stage::Ended => {
                self.finish(agent_id, stopped(reason));
                false
            }
        }
    }
}

pub(super) fn stopped(reason: &str) -> AgentReport {
    AgentReport::Stopped {
        reason: reason.to_owned(),
    }
}

pub(super) fn failed(kind: ExitKind, reason: &str) -> AgentReport {
    AgentReport::Failed {
        kind,
        reason: reason.to_owned(),
        retry_at: None,
    }
}
