//! Who gets the agent server, and what its coming and going does to the fleet.

use std::sync::Arc;

use super::actor::{Fleet, ServerState, Waiter, answer};
use super::agent::Stage;
use super::command::{Failure, Reply, Run};
use super::server::RunningServer;
use crate::config::ResolvedTownConfig;
use crate::container::agent_config::{self, ServerSettings};
use crate::container::protocol::ExitKind;
use crate::model::AgentId;

impl Fleet {
    pub(super) fn need_server(
        &mut self,
        run: Run,
        config: &ResolvedTownConfig,
        reply: Reply<Result<Arc<RunningServer>, Failure>>,
    ) {
        let Some(agent) = self.agents.get(&run.0).filter(|agent| agent.run == run.1) else {
            return;
        };
        let settings = ServerSettings::of(config, &self.options.git.for_agents()).and_then(|own| {
            agent_config::model_for(config, agent.start.role, agent.start.model.as_deref())?;
            Ok(own.with_env(&agent.start.env_vars))
        });
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => {
                return answer(
                    reply,
                    Err(Failure {
                        kind: ExitKind::Config,
                        reason: error.story(),
                    }),
                );
            }
        };
        let waiter = Waiter {
            run,
            settings,
            reply,
        };
        match &mut self.server {
            ServerState::Absent => self.begin_server(vec![waiter]),
            ServerState::Starting { waiters, .. } | ServerState::Stopping { waiters, .. } => {
                waiters.push(waiter);
            }
            ServerState::Running(server) => {
                let server = server.clone();
                let is_good =
                    server.settings == waiter.settings && !self.is_worn(server.generation);
                if is_good || self.is_in_use(server.generation) {
                    self.grant(waiter, &server);
                } else {
                    self.stop_server(&server, vec![waiter]);
                }
            }
        }
    }

    pub(super) fn begin_server(&mut self, waiters: Vec<Waiter>) {
        let Some(first) = waiters.first() else {
            self.server = ServerState::Absent;
            return;
        };
        self.last_generation += 1;
        self.launch
            .begin(self.last_generation, first.settings.clone());
        self.server = ServerState::Starting {
            generation: self.last_generation,
            waiters,
        };
    }

    /// Whether any agent works on the agent server of that generation.
    pub(super) fn is_in_use(&self, generation: u64) -> bool {
        self.agents
            .values()
            .any(|agent| agent.server == Some(generation))
    }

    pub(super) fn grant(&mut self, waiter: Waiter, server: &Arc<RunningServer>) {
        if let Some(agent) = self.agents.get_mut(&waiter.run.0)
            && agent.run == waiter.run.1
            && agent.is_alive()
        {
            agent.server = Some(server.generation);
            answer(waiter.reply, Ok(server.clone()));
        }
    }

    pub(super) fn stop_server(&mut self, server: &Arc<RunningServer>, waiters: Vec<Waiter>) {
        self.server = ServerState::Stopping {
            generation: server.generation,
            waiters,
        };
        let server = server.clone();
        // Its end is told by the task that watches it.
        self.options
            .lifecycle
            .spawn_detached("stop the agent server", async move { server.stop().await });
    }

    pub(super) fn server_started(
        &mut self,
        generation: u64,
        result: Result<Arc<RunningServer>, Failure>,
    ) {
        let state = std::mem::replace(&mut self.server, ServerState::Absent);
        let waiters = match state {
            ServerState::Starting {
                generation: expected,
                waiters,
            } if expected == generation => waiters,
            other => {
                self.server = other;
                return;
            }
        };
        match result {
            Ok(server) => {
                tracing::info!(kind = %server.kind, generation, "the agent server is up");
                self.server = ServerState::Running(server.clone());
                self.turns_ended = 0;
                if let Some(first) = waiters.first() {
                    self.say_recycled(first.run.0);
                }
                for waiter in waiters {
                    self.grant(waiter, &server);
                }
            }
            Err(failure) => {
                for waiter in waiters {
                    answer(waiter.reply, Err(failure.clone()));
                }
            }
        }
    }

    pub(super) fn server_ended(&mut self, generation: u64, reason: &str) {
        let current = match &self.server {
            ServerState::Running(server) => server.generation,
            ServerState::Stopping { generation, .. } => *generation,
            ServerState::Starting { .. } | ServerState::Absent => return,
        };
        if current != generation {
            return;
        }
        // What it said before it ended comes first.
        while let Ok((generation, item)) = self.events.try_recv() {
            self.on_stream(generation, item);
        }
        let state = std::mem::replace(&mut self.server, ServerState::Absent);
        self.fail_users(generation, &format!("the agent server is gone: {reason}"));
        if let ServerState::Stopping { waiters, .. } = state {
            self.begin_server(waiters);
        }
    }

    /// Fails every agent on the agent server of that generation.
    fn fail_users(&mut self, generation: u64, reason: &str) {
        let users: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.server == Some(generation))
            .map(|(agent_id, _)| *agent_id)
            .collect();
        for agent_id in users {
            if let Some(Stage::Starting(task)) =
                self.agents.get(&agent_id).map(|agent| &agent.stage)
            {
                task.abort();
            }
            self.fail(
                agent_id,
                Failure {
                    kind: ExitKind::AgentServer,
                    reason: reason.to_owned(),
                },
            );
        }
    }

    /// Ends the agent server because of `reason`, which is told of its agents.
    pub(super) fn end_server(&mut self, server: &Arc<RunningServer>, reason: &str) {
        self.fail_users(server.generation, reason);
        self.stop_server(server, Vec::new());
    }

    /// The agent server, if one runs.
    pub(super) fn running_server(&self) -> Option<Arc<RunningServer>> {
        match &self.server {
            ServerState::Running(server) => Some(server.clone()),
            _ => None,
        }
    }
}
