//! Starting, stopping and speaking to an agent's run by hand. What runs is still the scheduler's
//! choice: a start only calls it, and a stop takes the work away that it would start again for.

use serde_json::json;

use crate::container::CallError;
use crate::container::protocol::AgentState;
use crate::model::{Agent, AgentId, AgentRole};

use super::draft::Draft;
use super::effects::Effect;
use super::handle::TownHandle;
use super::refusal::{Error, Refusal};
use super::{agents, container, pause};

/// The agent is to be started now, whatever pause it is in.
pub(super) fn start(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<Agent, Error> {
    let mut agent = draft.agent(agent_id)?;
    if agent.dispatch.requested_at.is_some() {
        return Err(Refusal::AgentRunning(agent_id).into());
    }
    let has_mail = agent.role == AgentRole::Mayor && !draft.undelivered(agent_id)?.is_empty();
    if agent.hook.is_none() && !has_mail {
        return Err(Refusal::HookEmpty(agent_id).into());
    }
    agent.dispatch.due_at = draft.now;
    container::asked_for(draft)?;
    if agent.hook.is_none() {
        agent.dispatch.attempts = 0;
    }
    agents::record(draft, "agent.start_requested", &agent, json!({}));
    draft.set_agent(agent.clone())?;
    Ok(agent)
}

/// The agent's run ends. A bead on its hook goes back, or the scheduler would start it again.
pub(super) fn stop(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<Agent, Error> {
    let agent = draft.agent(agent_id)?;
    match agent.rig_id {
        Some(rig_id) => {
            pause::stop_agent(draft, rig_id, agent_id)?;
        }
        None if agent.dispatch.requested_at.is_some() => {
            agents::record(draft, "agent.stopped", &agent, json!({"by": "user"}));
            draft.effect(Effect::HaltAgent(agent_id));
        }
        None => {}
    }
    draft.agent(agent_id)
}

/// A prompt is to be put to the session of an agent that runs.
pub(super) fn message(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    prompt: String,
) -> Result<Agent, Error> {
    let agent = draft.agent(agent_id)?;
    if agent.dispatch.requested_at.is_none() {
        return Err(Refusal::AgentNotRunning(agent_id).into());
    }
    agents::record(draft, "agent.message_sent", &agent, json!({}));
    draft.effect(Effect::Message(agent_id, prompt));
    Ok(agent)
}

/// The session did not take it.
pub(super) fn message_failed(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    reason: &str,
) -> Result<(), Error> {
    if let Some(agent) = draft.find_agent(agent_id)? {
        let metadata = json!({"error": reason});
        agents::record(draft, "agent.message_failed", &agent, metadata);
    }
    Ok(())
}

impl TownHandle {
    /// Puts a prompt to the session of an agent that runs.
    ///
    /// # Errors
    /// See [`Error`]; [`Refusal::AgentNotRunning`] if there is no session to put it to.
    pub async fn message_agent(&self, agent_id: AgentId, prompt: String) -> Result<Agent, Error> {
        let agent = self.any_agent(agent_id).await?;
        if agent.dispatch.requested_at.is_some() && !self.container().is_up() {
            return Err(CallError::Asleep.into());
        }
        self.message_running(agent_id, prompt).await
    }

    /// What the container knows of an agent's run.
    ///
    /// # Errors
    /// See [`Error`]; [`Refusal::AgentNotFound`] if the container never heard of it.
    pub async fn agent_run(&self, agent_id: AgentId) -> Result<AgentState, Error> {
        self.any_agent(agent_id).await?;
        let state = self.container().agent_state(agent_id).await?;
        Ok(state.ok_or(Refusal::AgentNotFound(agent_id))?)
    }
}
