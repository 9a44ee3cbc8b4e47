//! Transitions of the patrol: an agent with work that shows no life is asked, and if it stays
//! silent a person is called. It is never stopped for its silence: a long build is silent, too.

use serde_json::json;

use crate::model::{AgentId, AgentStatus, MailType, Priority};

use super::draft::Draft;
use super::effects::Effect;
use super::refusal::Error;
use super::{agents, escalations, mail};

/// The subject of the mail that asks; older clients look for it.
const CHECK_SUBJECT: &str = "GUPP_CHECK";

/// Asks a silent agent whether it still works: a mail and a nudge, once for a silence.
pub(super) fn check(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let mut agent = draft.agent(agent_id)?;
    let Some(bead_id) = agent.hook else {
        return Ok(());
    };
    agent.dispatch.checked_at = Some(draft.now);
    agents::record(draft, "agent.checked", &agent, json!({}));
    draft.set_agent(agent)?;
    mail::send_system(
        draft,
        agent_id,
        MailType::GuppCheck,
        CHECK_SUBJECT,
        format!(
            "Bead {bead_id} is on your hook and you have been silent for long. If you work on it, \
             go on. If something is in the way, call gt_escalate and say what."
        ),
    )?;
    draft.effect(Effect::Nudge(agent_id));
    Ok(())
}

/// It stayed silent after it was asked.
pub(super) fn stall(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let agent = draft.agent(agent_id)?;
    let (rig_id, name) = (agent.rig_id, agent.name.clone());
    let last = agent.last_activity_at;
    agents::set_status(draft, agent, AgentStatus::Stalled, Some("silent"))?;
    let since = last.map_or_else(|| "its start".to_owned(), |last| last.to_string());
    escalations::raise_own(
        draft,
        rig_id,
        Priority::High,
        matter(agent_id),
        format!("{name} is silent"),
        format!(
            "Agent {name} has work on its hook and has shown no life since {since}, not even when \
             it was asked. It is left as it is: look at it, and stop it if it hangs."
        ),
    )
}

/// It shows life again, or its run has ended: nobody need look any more.
pub(super) fn is_well(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    escalations::settle(draft, &matter(agent_id))
}

fn matter(agent_id: AgentId) -> String {
    format!("stalled:{agent_id}")
}
