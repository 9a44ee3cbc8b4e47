//! Replaces an agent server whose memory has grown, at a moment when none of its agents is at work.
//!
//! Agent programs never give memory back: each session and each folder adds to it. The limit here is
//! no emergency (that is `memory_max`), so nobody's turn is ended for it. Agents that rest are told
//! to be stopped, which counts as no failure; they are started again in their stored sessions when there
//! is something to do.

use super::actor::Fleet;
use super::agent::Stage;
use crate::container::protocol::{
    AgentExited, AgentSetback, ExitKind, ExitStatus, SetbackCause, message_type,
};
use crate::model::AgentId;

/// The agent server that has grown, and what is told of it.
#[derive(Debug)]
pub(super) struct Grown {
    generation: u64,
    reason: String,
}

impl Fleet {
    /// The agent server's own memory was looked at: all of its processes, without the commands that agents
    /// run.
    pub(super) fn server_measured(&mut self, generation: u64, resident: u64) {
        let limit = self.options.limits.recycle_above;
        if resident > limit {
            let reason = format!(
                "the agent server was replaced: it held {} MiB, more than the {} MiB above which that \
                 is done between turns",
                resident >> 20,
                limit >> 20
            );
            self.grown = Some(Grown { generation, reason });
        }
        self.recycle_if_free();
    }

    /// Whether the agent server of that generation is not to be given to anybody any more. One that
    /// has done nothing yet would only be replaced by its like.
    pub(super) fn is_worn(&self, generation: u64) -> bool {
        let has_grown = (self.grown.as_ref()).is_some_and(|grown| grown.generation == generation);
        has_grown && self.turns_ended > 0
    }

    /// Tells the agent that gets a fresh agent server why.
    pub(super) fn say_recycled(&mut self, agent_id: AgentId) {
        let Some(grown) = self.grown.take() else {
            return;
        };
        let setback = AgentSetback {
            cause: SetbackCause::Recycled,
            reason: grown.reason,
            retry_at: None,
        };
        self.say(Some(agent_id), message_type::AGENT_SETBACK, &setback);
    }

    fn recycle_if_free(&mut self) {
        let Some(server) = self.running_server() else {
            return;
        };
        let generation = server.generation;
        if !self.is_worn(generation) {
            return;
        }
        let users = || {
            let agents = self.agents.iter();
            agents.filter(|(_, agent)| agent.server == Some(generation) && agent.is_alive())
        };
        let is_free = users().all(|(_, agent)| {
            matches!(agent.stage, Stage::Running(_)) && !agent.is_busy() && agent.ending.is_none()
        });
        let Some(grown) = self.grown.as_ref().filter(|_| is_free) else {
            return;
        };
        let exit = AgentExited {
            status: ExitStatus::Stopped,
            reason: grown.reason.clone(),
            kind: ExitKind::Stopped,
            retry_at: None,
        };
        tracing::info!("{}", exit.reason);
        let resting: Vec<AgentId> = users().map(|(agent_id, _)| *agent_id).collect();
        for agent_id in resting {
            self.finish(agent_id, exit.clone());
        }
        self.stop_server(&server, Vec::new());
    }
}
