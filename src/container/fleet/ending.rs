//! How an agent ends: let finish, aborted, saved, and told of once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::actor::{Fleet, SETTLE_TIME};
use super::agent::{EndStep, Ending, Session, Stage, Turn, failed};
use super::command::{Command, Failure};
use super::start::Place;
use crate::container::protocol::{
    AgentExited, AgentResumed, AgentWaiting, ExitStatus, message_type,
};
use crate::model::AgentId;

impl Fleet {
    /// Ends an agent once its session is idle, aborting it after `patience`.
    pub(super) fn begin_end(&mut self, agent_id: AgentId, exit: AgentExited, patience: Duration) {
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        match &agent.stage {
            Stage::Ended(_) => {}
            Stage::Starting(task) => {
                task.abort();
                self.finish(agent_id, exit);
            }
            // Its work is being saved, and its exit follows.
            Stage::Running(_)
                if agent
                    .ending
                    .as_ref()
                    .is_some_and(|ending| ending.step == EndStep::Saving) => {}
            Stage::Running(_) if !agent.is_busy() => self.finish_saved(agent_id, exit),
            // It is on its way out already.
            Stage::Running(_)
                if agent
                    .ending
                    .as_ref()
                    .is_some_and(|ending| ending.step != EndStep::WhenIdle) => {}
            // One that waits for an answer won't become idle by itself.
            Stage::Running(_) if patience.is_zero() || !agent.asks.is_empty() => {
                self.abort(agent_id, exit);
            }
            Stage::Running(_) => {
                // Asking again does not put it off.
                let asked_before = agent.deadline.filter(|_| agent.ending.is_some());
                let deadline = Instant::now() + patience;
                agent.deadline = Some(asked_before.map_or(deadline, |before| before.min(deadline)));
                agent.ending = Some(Ending {
                    exit,
                    step: EndStep::WhenIdle,
                });
            }
        }
    }

    /// Aborts the session; the agent ends when that shows, or after a while without.
    pub(super) fn abort(&mut self, agent_id: AgentId, exit: AgentExited) {
        let server = self.running_server();
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        agent.prompts.clear();
        agent.ending = Some(Ending {
            exit,
            step: EndStep::Aborted,
        });
        agent.deadline = Some(Instant::now() + SETTLE_TIME);
        if let (Some(server), Some(Session { id, directory })) = (server, agent.session().cloned())
        {
            self.options
                .lifecycle
                .spawn_detached("abort a session", async move {
                    if let Err(error) = server.client().session().abort(&directory, &id).await {
                        tracing::warn!(session = %id, "failed to abort: {error}");
                    }
                });
        }
    }

    /// Finishes; the uncommitted work of an agent that was told to end is saved first. What failed
    /// leaves its worktree as it is, and its next run goes on there.
    pub(super) fn finish_saved(&mut self, agent_id: AgentId, exit: AgentExited) {
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        let Place::Worktree(repository, _) = agent.place.clone() else {
            return self.finish(agent_id, exit);
        };
        // Removing a worktree saves what is in it.
        if exit.status == ExitStatus::Failed || agent.removal.is_some() {
            return self.finish(agent_id, exit);
        }
        agent.turn = Turn::Idle;
        agent.ending = Some(Ending {
            exit: exit.clone(),
            step: EndStep::Saving,
        });
        agent.deadline = Some(Instant::now() + super::drain::SAVE_TIME);
        let (run, name, commands) = (
            (agent_id, agent.run),
            agent.start.name.clone(),
            self.commands.clone(),
        );
        self.options
            .lifecycle
            .spawn_detached("save work", async move {
                if let Err(error) = Box::pin(repository.save_work(agent_id, &name)).await {
                    tracing::warn!(agent = %agent_id, "failed to save work: {}", error.story());
                }
                // Nobody listens any more only when the fleet has ended.
                let _ = commands.send(Command::Saved(run, exit)).await;
            });
    }

    /// Ends the agent now and tells so. The one place where `agent.exited` is said.
    pub(super) fn finish(&mut self, agent_id: AgentId, exit: AgentExited) {
        let Some(agent) = self
            .agents
            .get_mut(&agent_id)
            .filter(|agent| agent.is_alive())
        else {
            return;
        };
        let removal = agent.removal.take();
        let asks = std::mem::take(&mut agent.asks);
        agent.end(exit.clone());
        self.sessions.retain(|_, owner| *owner != agent_id);
        self.say_resumed(agent_id, asks);
        self.say(Some(agent_id), message_type::AGENT_EXITED, &exit);
        if let Some(reply) = removal {
            self.remove_ended(agent_id, reply);
        }
    }

    /// Nobody waits for these answers any more.
    pub(super) fn say_resumed(&self, agent_id: AgentId, asks: BTreeMap<String, AgentWaiting>) {
        for ask_id in asks.into_keys() {
            let resumed = AgentResumed { ask_id };
            self.say(Some(agent_id), message_type::AGENT_RESUMED, &resumed);
        }
    }

    pub(super) fn fail(&mut self, agent_id: AgentId, failure: Failure) {
        self.finish(agent_id, failed(failure.kind, failure.reason));
    }
}
