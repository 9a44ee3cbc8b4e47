//! The agents that several duties look at: those with something to do or something running.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{Agent, AgentId, AgentRole, AgentStatus, BeadId, RigId, Timestamp};
use crate::storage::{AgentActive, AgentByRole, AgentKey, MailUndelivered, Tree};
use crate::town::mayor;
use crate::town::refusal::Error;
use crate::town::settings::TownSettings;

/// What the reconciler sees of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::town) struct AgentSeen {
    #[serde(with = "text")]
    pub(in crate::town) agent_id: AgentId,
    #[serde(with = "text::option")]
    pub(in crate::town) rig_id: Option<RigId>,
    #[serde(with = "text")]
    pub(in crate::town) role: AgentRole,
    #[serde(with = "text")]
    pub(in crate::town) status: AgentStatus,
    /// The bead on its hook.
    #[serde(with = "text::option")]
    pub(in crate::town) hook: Option<BeadId>,
    /// Whether it is a mayor whose session is wanted before anybody speaks to it.
    #[serde(default)]
    pub(in crate::town) is_summoned: bool,
    /// Whether mail waits for it.
    pub(in crate::town) has_mail: bool,
    /// Not to be started, or told anything, before this moment.
    #[serde(with = "text")]
    pub(in crate::town) due_at: Timestamp,
    /// When the container was asked to run it; `None` while nothing runs for it.
    #[serde(with = "text::option")]
    pub(in crate::town) requested_at: Option<Timestamp>,
    /// The bead that what runs for it was started for.
    #[serde(with = "text::option")]
    pub(in crate::town) runs_for: Option<BeadId>,
    /// When it last showed life.
    #[serde(with = "text::option")]
    pub(in crate::town) last_activity_at: Option<Timestamp>,
    /// When the patrol last asked it.
    #[serde(with = "text::option")]
    pub(in crate::town) checked_at: Option<Timestamp>,
}

impl AgentSeen {
    pub(in crate::town) fn of(agent: &Agent, has_mail: bool) -> Self {
        Self {
            agent_id: agent.agent_id,
            rig_id: agent.rig_id,
            role: agent.role,
            status: agent.status,
            hook: agent.hook,
            is_summoned: false,
            has_mail,
            due_at: agent.dispatch.due_at,
            requested_at: agent.dispatch.requested_at,
            runs_for: agent.dispatch.session_bead_id,
            last_activity_at: agent.last_activity_at,
            checked_at: agent.dispatch.checked_at,
        }
    }

    /// Whether something runs for it, or is about to.
    pub(super) fn runs(&self) -> bool {
        self.requested_at.is_some()
    }

    /// Whether it is the mayor and a session of it is wanted.
    pub(super) fn is_called(&self) -> bool {
        self.role == AgentRole::Mayor && (self.has_mail || self.is_summoned)
    }
}

/// `summoned`: whether the mayor is wanted although nobody speaks to it.
pub(super) fn observe(
    tree: &Tree,
    settings: &TownSettings,
    summoned: bool,
) -> Result<Vec<AgentSeen>, Error> {
    let mut seen = Vec::new();
    // The mayor may be wanted although it has nothing to do yet.
    for row in tree.scan(&AgentByRole::of_role(AgentRole::Mayor)) {
        let agent_id = row?.1.id;
        let Some(mayor) = tree.get(&AgentKey { agent_id })? else {
            continue;
        };
        let is_idle = mayor.hook.is_none() && mayor.dispatch.requested_at.is_none();
        if !is_idle || mayor::is_given_up(&mayor, settings) {
            continue;
        }
        let has_mail = mayor::is_called_by_mail(tree, &mayor)?;
        if has_mail || summoned {
            seen.push(AgentSeen {
                is_summoned: summoned,
                ..AgentSeen::of(&mayor, has_mail)
            });
        }
    }
    for row in tree.scan(&AgentActive::all()) {
        let agent_id = row?.1.id;
        if let Some(agent) = tree.get(&AgentKey { agent_id })? {
            let has_mail = if agent.role == AgentRole::Mayor {
                mayor::is_called_by_mail(tree, &agent)?
            } else {
                has_mail(tree, agent_id)?
            };
            seen.push(AgentSeen::of(&agent, has_mail));
        }
    }
    Ok(seen)
}

fn has_mail(tree: &Tree, agent_id: AgentId) -> Result<bool, Error> {
    let first = tree.scan(&MailUndelivered::to(agent_id)).next();
    Ok(first.transpose()?.is_some())
}
