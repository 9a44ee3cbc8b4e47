//! Effects that find out what became of a run.

use crate::container::protocol::{AgentPhase, AgentState};
use crate::model::AgentId;
use crate::town::command::Command;

use super::{EffectError, Runner};

impl Runner {
    /// The container does not start it. If it runs already, perhaps for long, what it does now is what
    /// counts; if not, another agent of its name is still ending there, and it is its turn soon.
    pub(super) async fn refused_start(&self, agent_id: AgentId) -> Result<(), EffectError> {
        if self
            .surroundings
            .container
            .agent_state(agent_id)
            .await?
            .is_some()
        {
            return self.verify(agent_id).await;
        }
        self.commands
            .deliver(Command::StartDeferred(agent_id))
            .await;
        Ok(())
    }

    /// The container may not have heard of a start, or a reminder may have been lost with the
    /// server that meant to give it.
    pub(super) async fn verify(&self, agent_id: AgentId) -> Result<(), EffectError> {
        let state = self.surroundings.container.agent_state(agent_id).await?;
        let found = match state {
            None => Command::NotRunning(agent_id),
            // What ended is an earlier run, so the container has not heard of this start. The end
            // of this one comes over the link.
            Some(state) if state.status.is_over() && !self.is_wanted_since(&state)? => {
                Command::NotRunning(agent_id)
            }
            Some(state) if state.status == AgentPhase::Running && !state.busy => {
                Command::FoundIdle(agent_id)
            }
            Some(_) => Command::FoundAtWork(agent_id),
        };
        self.commands.deliver(found).await;
        Ok(())
    }

    /// Whether the run that the container tells of began after the town last asked for one.
    fn is_wanted_since(&self, state: &AgentState) -> Result<bool, EffectError> {
        let agent = self.agent(state.agent_id)?;
        let requested_at = agent.dispatch.requested_at;
        Ok(requested_at.is_none_or(|requested_at| requested_at <= state.started_at))
    }
}
