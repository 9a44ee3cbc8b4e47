//! Effects that answer or call people: what was replied to an ask, and the notification hook.

use serde_json::json;

use crate::container::CallError;
use crate::model::{AskId, BeadId, Town};
use crate::notify::Error as NotifyError;
use crate::storage::{BeadKey, RaisedKey, TownKey};
use crate::telemetry;
use crate::town::asks;
use crate::town::command::Command;

use super::{EffectError, Runner};

impl Runner {
    /// Tells the agent server what was answered. That the ask is gone comes over the link.
    pub(super) async fn answer_ask(&self, ask_id: AskId) -> Result<(), EffectError> {
        let ask = asks::find(&self.tree, ask_id)?.ok_or(EffectError::Gone("the ask"))?;
        let Some(answer) = &ask.answer else {
            return Ok(());
        };
        let config = self.config(self.agent(ask.agent_id)?.rig_id)?;
        let container = &self.surroundings.container;
        match container
            .answer_ask(&config, ask.agent_id, ask.kind, &ask.server_id, answer)
            .await
        {
            Err(CallError::Refused { status: 404, .. }) => {
                self.commands.deliver(Command::AskUnknown(ask_id)).await;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Hands an escalation to the notification hook, which may take its time.
    pub(super) fn notify(&self, bead_id: BeadId) -> Result<(), EffectError> {
        let json = self.notice(bead_id)?;
        let (notifier, commands) = (self.surroundings.notifier.clone(), self.commands.clone());
        self.surroundings
            .lifecycle
            .spawn_detached("notification", async move {
                let outcome = match notifier.notify(json).await {
                    Ok(()) => Ok(()),
                    // It is given after the restart.
                    Err(NotifyError::Stopping) => return,
                    Err(error) => {
                        let reason = telemetry::chain(&error);
                        tracing::warn!(escalation = %bead_id, reason, "nobody could be notified");
                        Err(reason)
                    }
                };
                commands.deliver(Command::Notified(bead_id, outcome)).await;
            });
        Ok(())
    }

    /// What the hook reads.
    fn notice(&self, bead_id: BeadId) -> Result<String, EffectError> {
        let town: Town = self
            .tree
            .get(&TownKey {})?
            .ok_or(EffectError::Gone("the town"))?;
        let bead = self
            .tree
            .get(&BeadKey { bead_id })?
            .ok_or(EffectError::Gone("the escalation"))?;
        let raised = self.tree.get(&RaisedKey { bead_id })?;
        let notice = json!({
            "town_id": town.town_id.to_string(),
            "town_name": town.name,
            "id": bead_id.to_string(),
            "title": bead.title,
            "body": bead.body,
            "severity": bead.priority.as_str(),
            "rig_id": bead.rig_id.map(|rig_id| rig_id.to_string()),
            "created_at": bead.created_at.to_string(),
            "raised_again": raised.map_or(0, |raised| raised.again),
        });
        Ok(notice.to_string())
    }
}
