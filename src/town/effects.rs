//! Side effects: what is asked of the container once the batch that decided it is durable.
//!
//! One task per town carries them out in order. Every call is bounded; what fails comes back to
//! the actor as a command, and what is lost in a crash is noticed when the link is up again.

mod attention;
mod conversation;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::agent_log::Logs;
use crate::clock::Clock;
use crate::config::TownConfig;
use crate::container::prompts::{self, PromptMail, ReviewPrompt, ReworkPrompt, RolePrompt};
use crate::container::protocol::{
    AgentPhase, AgentState, MergeBranch, MessageAgent, RemoveAgent, StartAgent, StopAgent,
};
use crate::container::{CallError, ContainerHandle};
use crate::lifecycle::Lifecycle;
use crate::model::{
    Agent, AgentId, AgentRole, Approval, AskId, Bead, BeadId, BeadType, Mail, Review, ReviewStatus,
    RigId, Town, TownId,
};
use crate::notify::Notifier;
use crate::storage::{self, AgentKey, BeadKey, ReviewBySource, ReviewKey, RigKey, TownKey, Tree};
use crate::telemetry;

use super::command::Command;
use super::handle::CommandSender;
use super::mail::{USER, staleness, tells_in_session};
use super::rework::REWORKS_MAX;
use super::{queries, work_reads};

/// How long a session may take to end its turn after its work is done, before it is aborted.
const WHEN_IDLE_WITHIN_MS: u64 = 60_000;

/// What an agent is told that ended its turn with work still on its hook.
const REMINDER: &str = "Your hook still holds this bead. If the work is finished, commit it, push \
    your branch and call gt_done. If it is not, go on with it. If you can't, call gt_escalate and \
    say what is in the way.";

/// What an agent is told that has been silent for long.
const NUDGE: &str = "You have been silent for long, and mail waits for you. Call gt_prime, then go on \
    with the bead on your hook; if you can't, call gt_escalate and say what is in the way.";

/// Something to be asked of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    WakeContainer,
    /// The container is to save its agents' work and to end.
    DrainContainer,
    StartAgent(AgentId),
    /// Let the agent end its turn, then stop it.
    StopAgent(AgentId),
    /// Stop the agent at once.
    HaltAgent(AgentId),
    /// Say to a silent agent that mail waits for it.
    Nudge(AgentId),
    /// A deleted agent: its worktree and its events go.
    RemoveAgent {
        agent_id: AgentId,
        rig_id: Option<RigId>,
        name: String,
    },
    /// Tell an agent that stopped too early to go on.
    Remind(AgentId),
    /// Put the mail that waits for an agent into its session.
    Tell(AgentId),
    /// Ask whether the container knows an agent that it was asked to start.
    Verify(AgentId),
    Merge(BeadId),
    /// Put a person's prompt to an agent's session.
    Message(AgentId, String),
    /// Tell the agent server what was answered.
    AnswerAsk(AskId),
    /// Run the notification hook for an escalation.
    Notify(BeadId),
}

/// Makes the token with which an agent's tools authenticate.
pub type AgentTokens = Arc<dyn Fn(TownId, &Agent) -> String + Send + Sync>;

/// What effects need besides the town's rows.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) container: ContainerHandle,
    pub(super) logs: Logs,
    pub(super) api_url: Arc<str>,
    pub(super) tokens: AgentTokens,
    pub(super) clock: Clock,
    pub(super) notifier: Notifier,
    pub(super) lifecycle: Lifecycle,
}

/// Why an effect did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum EffectError {
    #[error("the container refused")]
    Call(#[from] CallError),
    #[error("the database failed")]
    Storage(#[from] storage::Error),
    #[error("{0} is gone")]
    Gone(&'static str),
}

pub(super) async fn run(
    tree: Tree,
    surroundings: Surroundings,
    commands: CommandSender,
    mut effects: mpsc::UnboundedReceiver<Effect>,
) {
    let runner = Runner {
        tree,
        surroundings,
        commands,
    };
    while let Some(effect) = effects.recv().await {
        tracing::debug!(?effect, "carrying out");
        if let Err(error) = runner.carry_out(&effect).await {
            let reason = telemetry::chain(&error);
            tracing::warn!(?effect, reason, "an effect failed");
            runner.report_failure(effect, reason).await;
        }
    }
}

pub(super) struct Runner {
    tree: Tree,
    surroundings: Surroundings,
    commands: CommandSender,
}

impl Runner {
    async fn carry_out(&self, effect: &Effect) -> Result<(), EffectError> {
        match effect {
            Effect::WakeContainer => {
                self.surroundings.container.wake();
                Ok(())
            }
            Effect::DrainContainer => self.drain_container().await,
            Effect::StartAgent(agent_id) => self.start_agent(*agent_id).await,
            Effect::StopAgent(agent_id) => self.stop_agent(*agent_id, WHEN_IDLE_WITHIN_MS).await,
            Effect::HaltAgent(agent_id) => self.stop_agent(*agent_id, 0).await,
            Effect::Nudge(agent_id) => self.message(*agent_id, NUDGE).await,
            Effect::RemoveAgent {
                agent_id,
                rig_id,
                name,
            } => self.remove_agent(*agent_id, *rig_id, name).await,
            Effect::Remind(agent_id) => self.remind(*agent_id).await,
            Effect::Tell(agent_id) => self.tell(*agent_id).await,
            Effect::Verify(agent_id) => self.verify(*agent_id).await,
            Effect::Merge(entry_id) => self.merge(*entry_id).await,
            Effect::Message(agent_id, prompt) => self.message(*agent_id, prompt).await,
            Effect::AnswerAsk(ask_id) => self.answer_ask(*ask_id).await,
            Effect::Notify(bead_id) => self.notify(*bead_id),
        }
    }

    async fn report_failure(&self, effect: Effect, reason: String) {
        let command = match effect {
            Effect::DrainContainer => Command::DrainFailed(reason),
            Effect::StartAgent(agent_id) => Command::StartFailed(agent_id, reason),
            Effect::Tell(agent_id) => Command::Told(agent_id, Vec::new(), false),
            Effect::Merge(entry_id) => Command::MergeFailed(entry_id, reason),
            Effect::Remind(agent_id) => Command::RemindFailed(agent_id),
            Effect::Message(agent_id, _) => Command::MessageFailed(agent_id, reason),
            Effect::AnswerAsk(ask_id) => Command::AnswerFailed(ask_id, reason),
            Effect::Notify(bead_id) => Command::Notified(bead_id, Err(reason)),
            // The others are asked again when the state still wants them, or have nothing to undo.
            Effect::WakeContainer
            | Effect::StopAgent(_)
            | Effect::HaltAgent(_)
            | Effect::Nudge(_)
            | Effect::RemoveAgent { .. }
            | Effect::Verify(_) => return,
        };
        self.commands.deliver(command).await;
    }

    fn agent(&self, agent_id: AgentId) -> Result<Agent, EffectError> {
        self.tree
            .get(&AgentKey { agent_id })?
            .ok_or(EffectError::Gone("the agent"))
    }

    /// The newest config, resolved for a rig.
    fn config(
        &self,
        rig_id: Option<RigId>,
    ) -> Result<crate::config::ResolvedTownConfig, EffectError> {
        let api_url = &self.surroundings.api_url;
        Ok(queries::resolved_config(&self.tree, rig_id, api_url)?)
    }

    async fn start_agent(&self, agent_id: AgentId) -> Result<(), EffectError> {
        let agent = self.agent(agent_id)?;
        if agent.dispatch.requested_at.is_none() {
            // Taken back meanwhile, for example by the end of the container that was meant.
            return Ok(());
        }
        let mut start = self.start_request(&agent)?;
        if let Some(session_id) = &start.session_id {
            start.conversation = self.conversation(agent_id, session_id).await;
        }
        let config = self.config(agent.rig_id)?;
        match self
            .surroundings
            .container
            .start_agent(&config, &start)
            .await
        {
            Ok(()) => Ok(()),
            // It runs already, perhaps for long: what it does now is what counts.
            Err(CallError::Refused { status: 409, .. }) => self.verify(agent_id).await,
            // It ends, or has ended: nothing is wrong with the work, and the town hears of it over
            // the link in a moment.
            Err(CallError::Draining | CallError::Asleep | CallError::Broken(_)) => {
                self.commands
                    .deliver(Command::StartDeferred(agent_id))
                    .await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn start_request(&self, agent: &Agent) -> Result<StartAgent, EffectError> {
        let town: Town = self
            .tree
            .get(&TownKey {})?
            .ok_or(EffectError::Gone("the town"))?;
        let rig = match agent.rig_id {
            Some(rig_id) => self.tree.get(&RigKey { rig_id })?,
            None => None,
        };
        let bead = match agent.hook {
            Some(bead_id) => self.tree.get(&BeadKey { bead_id })?,
            None => None,
        };
        let rework = match &bead {
            Some(bead) => self.rework_of(bead.bead_id)?,
            None => None,
        };
        let branch = bead.as_ref().map(|bead| match &rework {
            // The author goes on where it was.
            Some(review) if review.agent_id == agent.agent_id => review.branch.clone(),
            _ => branch_name(agent, bead.bead_id),
        });
        let config = queries::config_row(&self.tree)?;
        let system_prompt = prompts::system_prompt(&RolePrompt {
            role: agent.role,
            agent_name: &agent.name,
            identity: &agent.identity,
            town_name: &town.name,
            rig_name: rig.as_ref().map(|rig| rig.name.as_str()),
            branch: branch.as_deref(),
            default_branch: rig.as_ref().map(|rig| rig.default_branch.as_str()),
            custom_instructions: config.custom_instructions.get(agent.role),
        });
        let checkpoint = agent.checkpoint.as_ref().map(crate::model::Json::as_str);
        let target = rig.as_ref().map_or("main", |rig| &rig.default_branch);
        let mut prompt = match &bead {
            None => String::new(),
            Some(entry) if entry.bead_type == BeadType::MergeRequest => {
                self.review_prompt(entry, target, &config)?
            }
            Some(bead) => {
                let prompt =
                    prompts::bead_prompt(&bead.title, bead.body.as_deref(), checkpoint, &[]);
                match &rework {
                    None => prompt,
                    Some(review) => prompts::with_rework(
                        &prompt,
                        &ReworkPrompt {
                            branch: &review.branch,
                            is_own: review.agent_id == agent.agent_id,
                            target,
                            what: review.message.as_deref().unwrap_or_default(),
                            round: review.reworks,
                            rounds_max: REWORKS_MAX,
                        },
                    ),
                }
            }
        };
        if let Some(bead) = &bead
            && let Some(molecule) = work_reads::molecule_of(&self.tree, bead)?
        {
            let steps: Vec<(&str, &str)> = (molecule.steps.iter())
                .map(|step| (step.title.as_str(), step.instructions.as_str()))
                .collect();
            let current = usize::try_from(molecule.current_step).unwrap_or(usize::MAX);
            prompt.push_str(&prompts::steps_prompt(&steps, current));
        }
        Ok(StartAgent {
            agent_id: agent.agent_id,
            rig_id: agent.rig_id,
            town_id: town.town_id,
            role: agent.role,
            name: agent.name.clone(),
            identity: agent.identity.clone(),
            prompt,
            system_prompt,
            model: None,
            git_url: rig.as_ref().map(|rig| rig.git_url.clone()),
            branch,
            default_branch: rig.map(|rig| rig.default_branch),
            session_id: agent.dispatch.session_id.clone(),
            conversation: None,
            agent_token: (self.surroundings.tokens)(town.town_id, agent),
            env_vars: std::collections::BTreeMap::new(),
        })
    }

    /// The merge request that was sent back to whoever has this bead.
    fn rework_of(&self, source_bead_id: BeadId) -> Result<Option<Review>, EffectError> {
        let Some(pointer) = self.tree.get(&ReviewBySource { source_bead_id })? else {
            return Ok(None);
        };
        let entry_id = pointer.id;
        let review = self.tree.get(&ReviewKey { entry_id })?;
        Ok(review.filter(|review| review.status == ReviewStatus::Rework))
    }

    fn review_prompt(
        &self,
        entry: &Bead,
        target: &str,
        config: &TownConfig,
    ) -> Result<String, EffectError> {
        let entry_id = entry.bead_id;
        let Some(review) = self.tree.get(&ReviewKey { entry_id })? else {
            return Ok(prompts::bead_prompt(
                &entry.title,
                entry.body.as_deref(),
                None,
                &[],
            ));
        };
        let source = self.tree.get(&BeadKey {
            bead_id: review.source_bead_id,
        })?;
        let source = source.as_ref();
        Ok(prompts::review_prompt(&ReviewPrompt {
            branch: &review.branch,
            head: review.head_sha.as_deref(),
            target,
            title: source.map_or("", |bead| &bead.title),
            body: source.and_then(|bead| bead.body.as_deref()),
            summary: review.summary.as_deref(),
            pr_url: review.pr_url.as_deref(),
            gates: &config.refinery.gates,
            reworks: review.reworks,
        }))
    }

    async fn stop_agent(
        &self,
        agent_id: AgentId,
        when_idle_within_ms: u64,
    ) -> Result<(), EffectError> {
        let rig_id = self.agent(agent_id).ok().and_then(|agent| agent.rig_id);
        let stop = StopAgent {
            when_idle_within_ms,
        };
        let config = self.config(rig_id)?;
        match self
            .surroundings
            .container
            .stop_agent(&config, agent_id, &stop)
            .await
        {
            // Not running is what was wanted; the actor may not have heard of it yet.
            Err(
                CallError::Refused {
                    status: 404 | 409, ..
                }
                | CallError::Asleep,
            ) => {
                self.commands.deliver(Command::NotRunning(agent_id)).await;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn remove_agent(
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
        let removed = self
            .surroundings
            .container
            .remove_agent(&config, agent_id, &remove)
            .await;
        self.surroundings.logs.delete(agent_id).await?;
        match removed {
            Ok(()) | Err(CallError::Refused { status: 404, .. } | CallError::Asleep) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn drain_container(&self) -> Result<(), EffectError> {
        match self.surroundings.container.drain().await {
            // Its end is told in a moment.
            Ok(()) | Err(CallError::Asleep) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn remind(&self, agent_id: AgentId) -> Result<(), EffectError> {
        match self.message(agent_id, REMINDER).await {
            Err(EffectError::Call(CallError::Draining | CallError::Asleep)) => {
                let command = Command::RemindDeferred(agent_id);
                self.commands.deliver(command).await;
                Ok(())
            }
            other => other,
        }
    }

    async fn message(&self, agent_id: AgentId, prompt: &str) -> Result<(), EffectError> {
        let agent = self.agent(agent_id)?;
        let config = self.config(agent.rig_id)?;
        let message = MessageAgent {
            prompt: prompt.to_owned(),
            system_prompt: None,
        };
        Ok(self
            .surroundings
            .container
            .message_agent(&config, agent_id, &message)
            .await?)
    }

    /// What waits becomes one prompt; it counts as delivered once the session took it.
    async fn tell(&self, agent_id: AgentId) -> Result<(), EffectError> {
        let agent = self.agent(agent_id)?;
        let now = self.surroundings.clock.now();
        let mut mails = queries::undelivered(&self.tree, agent_id)?;
        // Looked at once more: what was worth something a while ago may be worth nothing now.
        mails.retain(|mail| tells_in_session(mail) && staleness(mail, &agent, now).is_none());
        let told: Vec<PromptMail<'_>> = mails.iter().map(prompt_mail).collect();
        let works_on = agent.hook.is_some();
        if !told.is_empty() {
            self.message(agent_id, &prompts::news(&told, works_on))
                .await?;
        }
        let told = mails.into_iter().map(|mail| mail.mail_id).collect();
        self.commands
            .deliver(Command::Told(agent_id, told, true))
            .await;
        Ok(())
    }

    /// The container may not have heard of a start, or a reminder may have been lost with the
    /// server that meant to give it.
    async fn verify(&self, agent_id: AgentId) -> Result<(), EffectError> {
        match self.surroundings.container.agent_state(agent_id).await? {
            None => self.commands.deliver(Command::NotRunning(agent_id)).await,
            // What ended is an earlier run, so the container has not heard of this start. The end
            // of this one comes over the link.
            Some(state) if state.status.is_over() && !self.is_wanted_since(&state)? => {
                self.commands.deliver(Command::NotRunning(agent_id)).await;
            }
            Some(state) if state.status == AgentPhase::Running && !state.busy => {
                self.commands.deliver(Command::FoundIdle(agent_id)).await;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether the run that the container tells of began after the town last asked for one.
    fn is_wanted_since(&self, state: &AgentState) -> Result<bool, EffectError> {
        let agent = self.agent(state.agent_id)?;
        let requested_at = agent.dispatch.requested_at;
        Ok(requested_at.is_none_or(|requested_at| requested_at <= state.started_at))
    }

    async fn merge(&self, entry_id: BeadId) -> Result<(), EffectError> {
        let review = self
            .tree
            .get(&ReviewKey { entry_id })?
            .ok_or(EffectError::Gone("the merge request"))?;
        let rig = self
            .tree
            .get(&RigKey {
                rig_id: review.rig_id,
            })?
            .ok_or(EffectError::Gone("the rig"))?;
        let source = self.tree.get(&BeadKey {
            bead_id: review.source_bead_id,
        })?;
        let title = source.map_or_else(|| review.branch.clone(), |bead| bead.title);
        let town = queries::config_row(&self.tree)?;
        let merge = MergeBranch {
            rig_id: review.rig_id,
            message: format!("Merge {}: {title}", review.branch),
            branch: review.branch,
            target_branch: rig.default_branch,
            git_url: rig.git_url,
            entry_id,
            needs_approval: town.approval_needed() > Approval::None,
            // Who has not approved all that is needed has approved nothing.
            approved_commit: review
                .head_sha
                .filter(|_| review.approval >= town.approval_needed()),
            gate_timeout_ms: u64::try_from(town.gate_timeout().as_millis()).unwrap_or(u64::MAX),
            settle_white_space: !town.requires_clean_merge(),
            gates: town.refinery.gates,
        };
        let config = self.config(Some(review.rig_id))?;
        Ok(self.surroundings.container.merge(&config, &merge).await?)
    }
}

/// What people say is said as it is; of others the agent must know who they are.
fn prompt_mail(mail: &Mail) -> PromptMail<'_> {
    PromptMail {
        from: Some(mail.from_agent_id.as_str()).filter(|from| *from != USER),
        subject: &mail.subject,
        body: &mail.body,
    }
}

/// The branch of an agent's work on a bead: readable, and never the same for two.
fn branch_name(agent: &Agent, bead_id: BeadId) -> String {
    let name: String = agent
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let prefix = if agent.role == AgentRole::Polecat {
        "gt"
    } else {
        agent.role.as_str()
    };
    format!("{prefix}/{}-{}", name.trim_matches('-'), bead_id.short())
}
