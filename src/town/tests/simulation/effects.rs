//! Effects carried out on the world, and answered as the real runner does.

use std::time::Duration;

use crate::container::git::Approved;
use crate::container::protocol::Tidied;
use crate::container::{AgentReport, ExitKind};
use crate::model::{Agent, AgentId, Approval, AskId, BeadId, Timestamp};
use crate::storage::{AgentKey, ReviewKey, RigKey};
use crate::town::command::Command;
use crate::town::effects::Effect;
use crate::town::{asks, mail, queries};

use super::run::Simulation;
use super::world::{Due, Merging, Run, Stage, failed};

/// How long a stopped run may go on with its turn, in seconds.
const WHEN_IDLE_WITHIN: u64 = 60;

/// Why the container did not do as it was asked.
enum Denied {
    /// There is none, or it ends.
    Away,
    /// It does not know the agent, or does not run it.
    NotRunning,
    AlreadyRuns,
    Broken,
}

impl Simulation<'_> {
    /// Carries out the next effect of a durable batch.
    pub(super) fn run_effect(&mut self) {
        if let Ok(effect) = self.server.effects.try_recv() {
            self.note(format!("{} {effect:?}", self.now().as_millis()));
            if let Some((what, command)) = self.carry_out(&effect) {
                self.tell(what, command);
            }
        }
    }

    pub(super) fn effects_wait(&self) -> bool {
        !self.server.effects.is_empty()
    }

    /// Carries one out while the server dies: nobody hears what came of it.
    pub(super) fn run_effect_unheard(&mut self) -> bool {
        let Ok(effect) = self.server.effects.try_recv() else {
            return false;
        };
        self.note(format!("{effect:?}, unheard"));
        if effect != Effect::WakeContainer {
            self.carry_out(&effect);
        }
        true
    }

    fn carry_out(&mut self, effect: &Effect) -> Option<(&'static str, Command)> {
        match effect {
            Effect::WakeContainer => {
                self.wake_container();
                None
            }
            Effect::DrainContainer => {
                let asked = self.call(|world| {
                    world.drain_container("the server asked it to");
                    Ok(())
                });
                match asked {
                    Ok(()) => None,
                    Err(_) => {
                        let reason = "the container can't be reached".to_owned();
                        Some(("drain failed", Command::DrainFailed(reason)))
                    }
                }
            }
            Effect::StartAgent(agent_id) if self.is_taken_back(*agent_id) => None,
            Effect::StartAgent(agent_id) => match self.call(|world| world.start_agent(*agent_id)) {
                Ok(()) => None,
                Err(Denied::AlreadyRuns) => self.verify(*agent_id),
                Err(Denied::Away) => Some(("start deferred", Command::StartDeferred(*agent_id))),
                Err(_) => {
                    let reason = "the container refused".to_owned();
                    Some(("start failed", Command::StartFailed(*agent_id, reason)))
                }
            },
            Effect::HaltAgent(agent_id) => {
                let halted = self.call(|world| world.halt_agent(*agent_id));
                match halted {
                    Err(Denied::Away | Denied::NotRunning) => {
                        Some(("not running", Command::NotRunning(*agent_id)))
                    }
                    _ => None,
                }
            }
            Effect::Message(agent_id, _) => match self.call(|world| world.message(*agent_id)) {
                Ok(()) => None,
                Err(_) => {
                    let reason = "the container refused".to_owned();
                    Some(("message failed", Command::MessageFailed(*agent_id, reason)))
                }
            },
            Effect::AnswerAsk(ask_id) => self.answer_ask(*ask_id),
            Effect::Notify(bead_id) => {
                let outcome = if self.random.chance(80) {
                    Ok(())
                } else {
                    Err("nobody is there".to_owned())
                };
                Some(("notified", Command::Notified(*bead_id, outcome)))
            }
            Effect::Nudge(agent_id) => {
                let _ = self.call(|world| world.message(*agent_id));
                None
            }
            Effect::StopAgent(agent_id) => match self.call(|world| world.stop_agent(*agent_id)) {
                Err(Denied::Away | Denied::NotRunning) => {
                    Some(("not running", Command::NotRunning(*agent_id)))
                }
                _ => None,
            },
            Effect::DeleteLog(_) => None,
            Effect::RemoveAgent { agent_id, .. } => {
                let outcome = self.call(|world| world.remove_agent(*agent_id));
                let outcome = outcome.map_err(|_| "the container refused".to_owned());
                Some(("removed", Command::Removed(*agent_id, outcome)))
            }
            Effect::TidyDisk => match self.call(Self::tidy_disk) {
                Ok(()) => None,
                Err(_) => {
                    let reason = "the container refused".to_owned();
                    Some(("tidy failed", Command::TidyFailed(reason)))
                }
            },
            Effect::Remind(agent_id) => match self.call(|world| world.message(*agent_id)) {
                Ok(()) => None,
                Err(Denied::Away) => Some(("remind deferred", Command::RemindDeferred(*agent_id))),
                Err(_) => Some(("remind failed", Command::RemindFailed(*agent_id))),
            },
            Effect::Tell(agent_id) => Some(self.tell_agent(*agent_id)),
            Effect::Verify(agent_id) => match self.call(|_| Ok(())) {
                Ok(()) => self.verify(*agent_id),
                Err(_) => {
                    let reason = "the container did not answer".to_owned();
                    Some(("verify failed", Command::VerifyFailed(*agent_id, reason)))
                }
            },
            Effect::Merge(entry_id) => match self.call(|world| world.merge(*entry_id)) {
                Ok(()) => None,
                Err(_) => {
                    let reason = "the container can't be reached".to_owned();
                    Some(("merge failed", Command::MergeFailed(*entry_id, reason)))
                }
            },
        }
    }

    fn agent_row(&self, agent_id: AgentId) -> Option<Agent> {
        self.server.tree.get(&AgentKey { agent_id }).unwrap()
    }

    /// Whether a start is not wanted any more.
    fn is_taken_back(&self, agent_id: AgentId) -> bool {
        let agent = self.agent_row(agent_id);
        agent.is_some_and(|agent| agent.dispatch.requested_at.is_none())
    }

    /// A call of the container, which may break before it is heard or after.
    fn call(&mut self, call: impl FnOnce(&mut Self) -> Result<(), Denied>) -> Result<(), Denied> {
        let breaks = !self.world.kind && self.random.chance(4);
        if breaks && self.random.chance(50) {
            return Err(Denied::Broken);
        }
        let outcome = call(self);
        if breaks { Err(Denied::Broken) } else { outcome }
    }

    fn start_agent(&mut self, agent_id: AgentId) -> Result<(), Denied> {
        let agent = self.agent_row(agent_id).ok_or(Denied::Broken)?;
        let mood = self.world.mood(&mut self.random);
        let pace = self.world.pace(&mut self.random);
        let started_at = self.now();
        let container = self.world.container.as_mut().ok_or(Denied::Away)?;
        if container.draining {
            return Err(Denied::Away);
        }
        if container.run(agent_id).is_some() {
            return Err(Denied::AlreadyRuns);
        }
        let number = container.next_run();
        let session = agent.dispatch.session_id.clone();
        let run = Run {
            number,
            role: agent.role,
            rig_id: agent.rig_id,
            bead_id: agent.hook,
            stage: Stage::Starting,
            mood,
            ending: None,
            done: false,
            session: session.unwrap_or_else(|| format!("session-{number}")),
            started_at,
        };
        let same_bead = container.runs.iter().filter(|(_, other)| {
            other.stage.is_alive() && other.bead_id.is_some() && other.bead_id == run.bead_id
        });
        let others: Vec<AgentId> = same_bead.map(|(other, _)| *other).collect();
        container.runs.insert(agent_id, run);
        for other in others {
            // One that is on its way out may still be there.
            let holder = self.agent_row(other).and_then(|other| other.hook);
            assert!(
                holder.is_none() || holder != agent.hook,
                "{agent_id} and {other} work on one bead"
            );
        }
        let at = started_at.after(pace);
        self.world.plan(at, Due::Agent(agent_id, number));
        // Work takes room.
        if !self.world.kind {
            self.world.disk_bytes += self.random.between(1, 40) << 20;
        }
        self.world.measure(None);
        Ok(())
    }

    fn stop_agent(&mut self, agent_id: AgentId) -> Result<(), Denied> {
        let patience = std::time::Duration::from_secs(WHEN_IDLE_WITHIN);
        let at = self.now().after(patience);
        let container = self.world.container.as_mut().ok_or(Denied::Away)?;
        let number = container.run(agent_id).ok_or(Denied::NotRunning)?.number;
        if container.stop(agent_id, "it was asked to") {
            self.world.plan(at, Due::Abort(agent_id, number));
        }
        Ok(())
    }

    /// A deleted agent's run ends, and its worktree goes.
    fn remove_agent(&mut self, agent_id: AgentId) -> Result<(), Denied> {
        let refuses = !self.world.kind && self.random.chance(20);
        let container = self.world.container.as_mut().ok_or(Denied::Away)?;
        if refuses {
            return Err(Denied::Broken);
        }
        container.finish(agent_id, super::world::stopped("removed"));
        container.runs.remove(&agent_id);
        Ok(())
    }

    /// The container lets go of what it can, fails at it, or never says.
    fn tidy_disk(&mut self) -> Result<(), Denied> {
        let container = self.world.container.as_ref().ok_or(Denied::Away)?;
        if container.draining {
            return Err(Denied::Away);
        }
        let kind = self.world.kind;
        if !kind && self.random.chance(8) {
            return Ok(());
        }
        let before = self.world.disk_bytes;
        if kind {
            self.world.disk_bytes = 0;
        } else if self.random.chance(50) {
            self.world.disk_bytes /= 2;
        }
        let fails = !kind && self.random.chance(20);
        self.world.measure(Some(Tidied {
            freed_bytes: before - self.world.disk_bytes,
            error: fails.then(|| "no remote".to_owned()),
            ..Tidied::default()
        }));
        Ok(())
    }

    /// Stopped in the middle of whatever it does.
    fn halt_agent(&mut self, agent_id: AgentId) -> Result<(), Denied> {
        let container = self.world.container.as_mut().ok_or(Denied::Away)?;
        container.run(agent_id).ok_or(Denied::NotRunning)?;
        container.finish(agent_id, super::world::stopped("it was halted"));
        Ok(())
    }

    /// Something is said to a session; its turn goes on or begins.
    fn message(&mut self, agent_id: AgentId) -> Result<(), Denied> {
        self.agent_row(agent_id).ok_or(Denied::Broken)?;
        let pace = self.world.pace(&mut self.random);
        let container = self.world.container.as_mut().ok_or(Denied::Away)?;
        if container.draining {
            return Err(Denied::Away);
        }
        let run = container.run_mut(agent_id).ok_or(Denied::NotRunning)?;
        if run.stage == Stage::Starting || run.ending.is_some() {
            return Err(Denied::NotRunning);
        }
        if run.stage == Stage::Idle {
            run.stage = Stage::Busy;
            let number = run.number;
            let at = self.now().after(pace);
            self.world.plan(at, Due::Agent(agent_id, number));
        }
        Ok(())
    }

    fn answer_ask(&mut self, ask_id: AskId) -> Option<(&'static str, Command)> {
        let ask = asks::find(&self.server.tree, ask_id).unwrap();
        let failed = |reason: &str| {
            let reason = reason.to_owned();
            Some(("answer failed", Command::AnswerFailed(ask_id, reason)))
        };
        let Some(ask) = ask else {
            return failed("the ask is gone");
        };
        ask.answer.as_ref()?;
        let now = self.now();
        let answered = self.call(|world| {
            let container = world.world.container.as_mut().ok_or(Denied::Away)?;
            let run = container.run(ask.agent_id).ok_or(Denied::NotRunning)?;
            if run.stage != Stage::Waiting(ask.server_id.clone()) {
                return Err(Denied::NotRunning);
            }
            let number = run.number;
            world.world.plan(now, Due::Agent(ask.agent_id, number));
            Ok(())
        });
        match answered {
            Ok(()) => None,
            Err(Denied::NotRunning) => Some(("ask unknown", Command::AskUnknown(ask_id))),
            Err(_) => failed("the container can't be reached"),
        }
    }

    fn tell_agent(&mut self, agent_id: AgentId) -> (&'static str, Command) {
        let Some(agent) = self.agent_row(agent_id) else {
            return ("not told", Command::Told(agent_id, Vec::new(), false));
        };
        let now = self.now();
        let mut mails = queries::undelivered(&self.server.tree, agent_id).unwrap();
        mails.retain(|mail| {
            mail::tells_in_session(mail) && mail::staleness(mail, &agent, now).is_none()
        });
        if !mails.is_empty() && self.call(|world| world.message(agent_id)).is_err() {
            return ("not told", Command::Told(agent_id, Vec::new(), false));
        }
        let told: Vec<_> = mails.into_iter().map(|mail| mail.mail_id).collect();
        self.checks.handed_over(&told);
        ("told", Command::Told(agent_id, told, true))
    }

    fn verify(&mut self, agent_id: AgentId) -> Option<(&'static str, Command)> {
        let requested_at = self.agent_row(agent_id)?.dispatch.requested_at;
        let container = self.world.container.as_ref()?;
        let Some(run) = container.runs.get(&agent_id) else {
            return Some(("not running", Command::NotRunning(agent_id)));
        };
        let is_older = requested_at.is_some_and(|requested_at| run.started_at < requested_at);
        match run.stage {
            Stage::Ended if is_older => Some(("not running", Command::NotRunning(agent_id))),
            Stage::Idle => Some(("found idle", Command::FoundIdle(agent_id))),
            _ => Some(("found at work", Command::FoundAtWork(agent_id))),
        }
    }

    fn merge(&mut self, entry_id: BeadId) -> Result<(), Denied> {
        let review = self.server.tree.get(&ReviewKey { entry_id }).unwrap();
        let review = review.ok_or(Denied::Broken)?;
        let rig_id = review.rig_id;
        let rig = self.server.tree.get(&RigKey { rig_id }).unwrap();
        rig.ok_or(Denied::Broken)?;
        let needed = queries::config_row(&self.server.tree)
            .unwrap()
            .approval_needed();
        let approved = if needed > Approval::None {
            Approved::Only(review.head_sha.filter(|_| review.approval >= needed))
        } else {
            Approved::Any
        };
        let merging = Merging { rig_id, approved };
        let silent = !self.world.kind && self.random.chance(8);
        let pace = self.world.pace(&mut self.random);
        let container = self.world.container.as_mut().ok_or(Denied::Away)?;
        if container.draining {
            return Err(Denied::Away);
        }
        if container.merges.insert(entry_id, merging).is_none() && !silent {
            let at = self.now().after(pace);
            self.world.plan(at, Due::Merge(entry_id));
        }
        Ok(())
    }

    /// A run that was to end when idle was not in time.
    pub(super) fn abort(&mut self, agent_id: AgentId, number: u64) {
        if let Some(container) = &mut self.world.container
            && let Some(run) = container.run(agent_id)
            && run.number == number
            && let Some(reason) = run.ending
        {
            container.report(agent_id, AgentReport::Idle { ends: true });
            container.finish(agent_id, super::world::stopped(reason));
        }
    }

    /// The agent's program ends by itself.
    pub(super) fn die(&mut self, agent_id: AgentId, kind: ExitKind, reason: &str) {
        let mut end = failed(kind, reason);
        if let AgentReport::Failed { retry_at, .. } = &mut end
            && self.random.chance(20)
        {
            let wait = Duration::from_secs(self.random.between(1, 7200));
            *retry_at = Some(self.now().after(wait));
        }
        if let Some(container) = &mut self.world.container {
            container.finish(agent_id, end);
        }
    }

    pub(super) fn later(&mut self) -> Timestamp {
        let pace = self.world.pace(&mut self.random);
        self.now().after(pace)
    }
}
