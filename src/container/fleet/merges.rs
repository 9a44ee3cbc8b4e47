//! Merges that the server asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::actor::Fleet;
use super::command::{Command, Denied};
use crate::config::ResolvedTownConfig;
use crate::container::git::{Approved, BranchName, Gates, GitUrl, MergeTask};
use crate::container::protocol::{AgentMerge, MergeBranch, message_type};

impl Fleet {
    /// Begins a merge unless the same one runs. One that ended is simply begun again: what is merged
    /// already is found on the target, so the outcome is told again and nothing is done twice.
    pub(super) fn merge(
        &mut self,
        merge: MergeBranch,
        config: Option<&ResolvedTownConfig>,
    ) -> Result<(), Denied> {
        if self.drain.is_some() {
            return Err(Denied::Draining);
        }
        let invalid = |error: crate::container::Error| Denied::Invalid(error.to_string());
        let task = MergeTask {
            url: GitUrl::parse(&merge.git_url, self.options.git.allowed()).map_err(invalid)?,
            entry_id: merge.entry_id,
            branch: BranchName::parse(&merge.branch).map_err(invalid)?,
            target: BranchName::parse(&merge.target_branch).map_err(invalid)?,
            message: merge.message,
            gates: Gates {
                commands: merge.gates,
                time_max: Duration::from_millis(merge.gate_timeout_ms),
                environment: self
                    .options
                    .git
                    .for_gates(&config.map_or_else(BTreeMap::new, |own| own.env_vars.clone())),
            },
            settle_white_space: merge.settle_white_space,
            approved: if merge.needs_approval {
                Approved::Only(merge.approved_commit)
            } else {
                Approved::Any
            },
        };
        if !self.merges.insert(merge.entry_id) {
            return Ok(());
        }
        let repository = self.repository(merge.rig_id);
        let (entry_id, commands) = (merge.entry_id, self.commands.clone());
        self.options.lifecycle.spawn_detached("merge", async move {
            let outcome = Box::pin(repository.merge(&task)).await;
            let merged = AgentMerge {
                entry_id,
                status: outcome.status,
                message: outcome.message,
                commit_sha: outcome.commit_sha,
                retryable: outcome.retryable,
                gates: outcome.gates,
            };
            // Nobody listens any more only when the fleet has ended.
            let _ = commands.send(Command::Merged(merged)).await;
        });
        Ok(())
    }

    pub(super) fn merged(&mut self, merged: &AgentMerge) {
        self.merges.remove(&merged.entry_id);
        self.say(None, message_type::AGENT_MERGE, merged);
    }
}
