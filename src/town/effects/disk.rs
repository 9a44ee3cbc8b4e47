//! Effects that make room in the container's workspace.

use crate::container::CallError;
use crate::container::protocol::{RemoveAgent, TidyDisk, TidyRig, TidyWorktree};
use crate::model::{AgentId, RigId};
use crate::storage::{AgentKey, DiskKey, RigKey};
use crate::telemetry;
use crate::town::command::Command;
use crate::town::reconcile::{in_review, unused_from};
use crate::town::{disk, queries};

use super::{EffectError, Runner};

impl Runner {
    /// What the container may let go of: with a quota that is used up everything that nobody works
    /// in, and else worktrees that have been unused for long.
    pub(super) async fn tidy_disk(&self) -> Result<(), EffectError> {
        let town = queries::config_row(&self.tree)?;
        let measured = self.tree.get(&DiskKey {})?.unwrap_or_default();
        let is_over = disk::over(&measured, &town).is_some();
        let now = self.surroundings.clock.now();
        let in_review = in_review(&self.tree)?;
        let mut tidy = TidyDisk {
            bytes_max: town.container.disk_bytes_max.filter(|_| is_over),
            rigs: Vec::new(),
        };
        for measured in measured.rigs {
            let rig_id = measured.rig_id;
            // Of a rig that was deleted nobody knows any more where its work had to go.
            let Some(rig) = self.tree.get(&RigKey { rig_id })? else {
                continue;
            };
            let mut unused = Vec::new();
            let owners = measured
                .worktrees
                .into_iter()
                .filter_map(|own| own.agent_id);
            for agent_id in owners.filter(|agent_id| !in_review.contains(agent_id)) {
                let agent = self.tree.get(&AgentKey { agent_id })?;
                let Some(agent) = agent.filter(|agent| agent.rig_id == Some(rig_id)) else {
                    continue;
                };
                if let Some(from) = unused_from(&agent, &town)
                    && (is_over || from <= now)
                {
                    unused.push((from, agent_id, agent.name));
                }
            }
            unused.sort_unstable();
            let worktrees = unused.into_iter();
            tidy.rigs.push(TidyRig {
                rig_id,
                git_url: rig.git_url,
                target_branch: rig.default_branch,
                worktrees: worktrees
                    .map(|(_, agent_id, name)| TidyWorktree { agent_id, name })
                    .collect(),
            });
        }
        let config = self.config(None)?;
        Ok(self.surroundings.container.tidy(&config, &tidy).await?)
    }

    /// Takes as long as the agent's end and the removal of its files do, so nothing else waits for it.
    pub(super) fn remove_agent(
        &self,
        agent_id: AgentId,
        rig_id: Option<RigId>,
        name: &str,
    ) -> Result<(), EffectError> {
        let config = self.config(rig_id)?;
        let remove = RemoveAgent {
            rig_id,
            name: name.to_owned(),
        };
        let (container, logs) = (
            self.surroundings.container.clone(),
            self.surroundings.logs.clone(),
        );
        let commands = self.commands.clone();
        let removing = async move {
            let removed = match container.remove_agent(&config, agent_id, &remove).await {
                Ok(()) | Err(CallError::Refused { status: 404, .. }) => {
                    // Again, for the server may have ended before it came to that.
                    logs.delete(agent_id).await.map_err(EffectError::from)
                }
                Err(error) => Err(error.into()),
            };
            let outcome = removed.map_err(|error| telemetry::chain(&error));
            commands.deliver(Command::Removed(agent_id, outcome)).await;
        };
        self.surroundings
            .lifecycle
            .spawn_detached("remove a deleted agent", removing);
        Ok(())
    }
}
