//! How a container ends: agents are asked to finish, their work is saved, the spool is handed over.

use std::time::Duration;

use tokio::time::Instant;

use super::actor::{Fleet, SETTLE_TIME, ServerState, answer};
use super::agent::{Agent, Stage, drained, stopped};
use super::command::{Denied, Reply};
use super::start::Place;
use crate::container::protocol::{ContainerDraining, RemoveAgent, message_type};
use crate::container::{Error, workspace};
use crate::model::AgentId;

/// How long saving uncommitted work may take. It waits for other git work on the repository.
pub(super) const SAVE_TIME: Duration = Duration::from_secs(60);

/// How long running merges may take to end.
const MERGE_TIME: Duration = Duration::from_secs(150);

/// How long the server may take to acknowledge what was said last.
const HAND_OVER_TIME: Duration = Duration::from_secs(30);

/// The same where the container is to end at once.
const HAND_OVER_TIME_SHORT: Duration = Duration::from_secs(2);

/// What a working agent is told.
const FINISH_PROMPT: &str = "This machine is about to be shut down. Stop what you are doing now: \
    commit everything that is worth keeping with a message that says what is still missing, push \
    your branch, and end your turn. Do not call gt_done. You will be started again later and can go \
    on from there.";

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    until: Instant,
    hand_over: Duration,
}

impl Drain {
    /// When it ends whatever still runs.
    pub(super) fn deadline(&self) -> Instant {
        self.until
    }
}

impl Fleet {
    pub(super) fn begin_drain(&mut self, reason: &str) {
        if self.drain.is_some() {
            return;
        }
        let finish_time = self.options.drain_time;
        let until = Instant::now() + finish_time + SETTLE_TIME + SAVE_TIME + MERGE_TIME;
        self.drain = Some(Drain {
            until,
            hand_over: HAND_OVER_TIME,
        });
        let draining = ContainerDraining {
            reason: reason.to_owned(),
        };
        self.say(None, message_type::CONTAINER_DRAINING, &draining);
        let agents: Vec<AgentId> = self.agents.keys().copied().collect();
        for agent_id in agents {
            let patience = if self.ask_to_finish(agent_id) {
                finish_time
            } else {
                Duration::ZERO
            };
            self.begin_end(agent_id, drained(), patience);
        }
    }

    /// Asks an agent that is at work in a repository; whether it was asked.
    fn ask_to_finish(&mut self, agent_id: AgentId) -> bool {
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return false;
        };
        let at_work = matches!(agent.stage, Stage::Running(_))
            && matches!(agent.place, Place::Worktree(..))
            && agent.is_busy()
            && agent.ending.is_none()
            // One that waits for a person can't hear it.
            && agent.asks.is_empty();
        if at_work {
            agent.prompts.clear();
            agent.prompts.push_back(FINISH_PROMPT.to_owned());
            self.next_prompt(agent_id);
        }
        at_work
    }

    pub(super) fn shut_down(&mut self) {
        let agents: Vec<AgentId> = self.agents.keys().copied().collect();
        for agent_id in agents {
            if let Some(Stage::Starting(task)) =
                self.agents.get(&agent_id).map(|agent| &agent.stage)
            {
                task.abort();
            }
            self.finish(agent_id, stopped());
        }
        self.drain = Some(Drain {
            until: Instant::now(),
            hand_over: HAND_OVER_TIME_SHORT,
        });
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_drained(&self, now: Instant) -> bool {
        self.drain.is_some_and(|drain| {
            now >= drain.until || (self.alive() == 0 && self.merges.is_empty())
        })
    }

    /// The last steps: every agent has its exit, the agent server is gone, the server has it all.
    pub(super) async fn close(&mut self) {
        self.refuse_all();
        let agents: Vec<AgentId> = self.agents.keys().copied().collect();
        for agent_id in agents {
            self.finish(agent_id, drained());
        }
        match std::mem::replace(&mut self.server, ServerState::Absent) {
            ServerState::Running(server) => server.stop().await,
            // A start or stop under way ends with the process: the guard sees to that.
            ServerState::Starting { .. } | ServerState::Stopping { .. } | ServerState::Absent => {}
        }
        let hand_over = self
            .drain
            .map_or(HAND_OVER_TIME_SHORT, |drain| drain.hand_over);
        if tokio::time::timeout(hand_over, self.options.spool.emptied())
            .await
            .is_err()
        {
            tracing::warn!("the server did not take what was said last");
        }
    }

    // ---- removing an agent ----------------------------------------------------------------

    pub(super) fn remove(
        &mut self,
        agent_id: AgentId,
        remove: &RemoveAgent,
        reply: Reply<Result<(), Denied>>,
    ) {
        match self.agents.get_mut(&agent_id) {
            Some(agent) if agent.is_alive() => {
                if agent.removal.is_some() {
                    return answer(reply, Err(Denied::Overloaded));
                }
                agent.removal = Some(reply);
                self.begin_end(agent_id, stopped(), Duration::ZERO);
            }
            Some(_) => self.remove_ended(agent_id, reply),
            None => match remove.rig_id {
                Some(rig) if !remove.name.is_empty() => {
                    let repository = self.repository(rig);
                    let name = remove.name.clone();
                    self.options
                        .lifecycle
                        .spawn_detached("remove a worktree", async move {
                            let done = Box::pin(repository.remove_worktree(agent_id, &name)).await;
                            answer(
                                reply,
                                done.map_err(|error| Denied::Repository(error.story())),
                            );
                        });
                }
                _ => answer(reply, Err(Denied::UnknownAgent(agent_id))),
            },
        }
    }

    /// Removes an agent that has ended: its place is archived, then forgotten.
    pub(super) fn remove_ended(&mut self, agent_id: AgentId, reply: Reply<Result<(), Denied>>) {
        let Some(Agent { place, start, .. }) = self.agents.remove(&agent_id) else {
            return answer(reply, Err(Denied::UnknownAgent(agent_id)));
        };
        let archive = self
            .options
            .workspace
            .join("archive")
            .join(agent_id.to_string());
        self.options
            .lifecycle
            .spawn_detached("remove an agent", async move {
                let done: Result<(), Error> = match place {
                    Place::Worktree(repository, _) => {
                        Box::pin(repository.remove_worktree(agent_id, &start.name)).await
                    }
                    Place::Directory(path) => workspace::move_folder(&path, &archive).await,
                };
                answer(
                    reply,
                    done.map_err(|error| Denied::Repository(error.story())),
                );
            });
    }
}
