//! Transitions by which a person holds a town or a rig, stops runs, and lets things go on.

use serde_json::json;

use crate::model::{AgentId, RigId};

use super::command::StoppedRun;
use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::refusal::Error;
use super::{agents, breaker, container, mayor};

/// Holds or releases a whole town: nothing new is started or merged; what runs goes on. Releasing
/// also closes the breaker: a person has looked.
pub(super) fn set_town(draft: &mut Draft<'_>, paused: bool) -> Result<(), Error> {
    let mut town = draft.town()?;
    if town.paused != paused {
        town.paused = paused;
        town.updated_at = draft.now;
        draft.set_town(town);
        let what = if paused {
            "town.paused"
        } else {
            "town.resumed"
        };
        draft.fact(what, Fact::default());
    }
    if paused {
        return Ok(());
    }
    container::asked_for(draft)?;
    mayor::try_again(draft)?;
    breaker::close(draft, "the town was resumed")
}

/// Holds or releases one rig.
pub(super) fn set_rig(draft: &mut Draft<'_>, rig_id: RigId, paused: bool) -> Result<(), Error> {
    let mut rig = draft.rig(rig_id)?;
    if rig.paused == paused {
        return Ok(());
    }
    rig.paused = paused;
    rig.updated_at = draft.now;
    draft.set_rig(rig)?;
    let what = if paused { "rig.paused" } else { "rig.resumed" };
    draft.fact(
        what,
        Fact {
            rig_id: Some(rig_id),
            ..Fact::default()
        },
    );
    Ok(())
}

/// Holds the town and stops every run at once; each agent keeps its hook. Says who is stopped.
pub(super) fn stop_all(draft: &mut Draft<'_>) -> Result<Vec<AgentId>, Error> {
    set_town(draft, true)?;
    let mut stopped = Vec::new();
    for agent in draft.active_agents()? {
        if agent.dispatch.requested_at.is_some() {
            agents::record(draft, "agent.stopped", &agent, json!({"by": "stop-all"}));
            draft.effect(Effect::HaltAgent(agent.agent_id));
            stopped.push(agent.agent_id);
        }
    }
    Ok(stopped)
}

/// Stops an agent's run at once; its bead goes back to open, and nobody is found for it by itself.
pub(super) fn stop_agent(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
) -> Result<StoppedRun, Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    if agent.hook.is_none() && agent.dispatch.requested_at.is_none() {
        return Ok(StoppedRun {
            agent_id,
            bead_id: None,
        });
    }
    agents::record(draft, "agent.stopped", &agent, json!({"by": "user"}));
    draft.effect(Effect::HaltAgent(agent_id));
    agents::unhook(draft, rig_id, agent_id)?;
    Ok(StoppedRun {
        agent_id,
        bead_id: agent.hook,
    })
}
