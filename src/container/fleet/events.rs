//! What the agent server's events do to the fleet.

use std::time::Duration;

use tokio::time::Instant;

use super::actor::Fleet;
use super::agent::{Consequence, EndStep, Ending, Session, failed};
use super::command::StreamItem;
use super::observation::Observation;
use crate::container::protocol::{AgentExited, AgentIdle, AgentResumed, ExitKind, message_type};
use crate::model::AgentId;
use crate::sdk::Event;

/// After an error the session says within moments that it is idle; if not, that is not waited for.
const IDLE_AFTER_ERROR: Duration = Duration::from_secs(10);

/// How long after the first idle event of an aborted or failed turn the second is waited for; it was
/// seen after 40 to 100 ms, and in some cases it never comes.
const QUIET_TIME: Duration = Duration::from_secs(1);

impl Fleet {
    pub(super) fn on_stream(&mut self, generation: u64, item: StreamItem) {
        if self
            .running_server()
            .is_none_or(|server| server.generation != generation)
        {
            return;
        }
        match item {
            StreamItem::Event(event) => self.on_event(&event),
            StreamItem::Reopened(broken) => self.stream_cut(generation, &broken),
        }
    }

    fn on_event(&mut self, event: &Event) {
        let observation = Observation::of(event);
        let Some(agent_id) = self.owner_of(event, &observation) else {
            return;
        };
        self.heard_at = Instant::now();
        let now = self.now();
        self.options.spool.append(
            Some(agent_id),
            &event.event_type,
            event.properties.get(),
            now,
        );
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        agent.silence.end();
        let own_session = match (agent.session(), &event.session_id) {
            (Some(session), Some(session_id)) => session.id.as_str() == session_id,
            _ => false,
        };
        if let Some(consequence) = agent.observe(observation, own_session, now) {
            self.follow(agent_id, consequence);
        }
    }

    /// Whose event it is: by session, and without one by directory.
    fn owner_of(&mut self, event: &Event, observation: &Observation) -> Option<AgentId> {
        if let Some(session) = &event.session_id {
            if let Some(owner) = self.sessions.get(session) {
                return Some(*owner);
            }
            let Observation::ChildSession { parent } = observation else {
                return None;
            };
            let owner = *self.sessions.get(parent)?;
            self.sessions.insert(session.clone(), owner);
            return Some(owner);
        }
        let directory = event.directory.as_deref()?;
        let works_there = |session: &Session| session.directory.as_os_str() == directory;
        self.agents
            .iter()
            .find(|(_, agent)| agent.session().is_some_and(works_there))
            .map(|(agent_id, _)| *agent_id)
    }

    pub(super) fn follow(&mut self, agent_id: AgentId, consequence: Consequence) {
        match consequence {
            Consequence::Waiting(ask) => {
                self.say(Some(agent_id), message_type::AGENT_WAITING, &ask);
            }
            Consequence::Resumed(ask_id) => {
                self.say(
                    Some(agent_id),
                    message_type::AGENT_RESUMED,
                    &AgentResumed { ask_id },
                );
            }
            Consequence::Idle(error) => self.went_idle(agent_id, error),
            Consequence::Quiet => self.finish_ending(agent_id),
            Consequence::ModelFailed {
                text,
                still_trying,
                retry_at,
            } => {
                let exit = AgentExited {
                    retry_at,
                    ..failed(ExitKind::Model, text)
                };
                self.model_failed(agent_id, exit, still_trying);
            }
            Consequence::Setback(setback) => {
                self.say(Some(agent_id), message_type::AGENT_SETBACK, &setback);
            }
            Consequence::Recovered => {
                let nothing = serde_json::json!({});
                self.say(Some(agent_id), message_type::AGENT_RECOVERED, &nothing);
            }
        }
    }

    fn went_idle(&mut self, agent_id: AgentId, error: Option<String>) {
        self.turns_ended += 1;
        // An aborted turn does not say that it waits no more.
        let agent = self.agents.get_mut(&agent_id);
        let asks = agent.map(|agent| std::mem::take(&mut agent.asks));
        self.say_resumed(agent_id, asks.unwrap_or_default());
        let ending = self
            .agents
            .get(&agent_id)
            .is_some_and(|agent| agent.ending.is_some());
        self.say(
            Some(agent_id),
            message_type::AGENT_IDLE,
            &AgentIdle { error, ending },
        );
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        match &agent.ending {
            // After an abort or an error the session tells a second time that it is idle, and what
            // it is asked before that is lost. So the agent is not free for a new start yet.
            Some(Ending {
                step: EndStep::Aborted,
                ..
            }) => {
                agent.deadline = Some(Instant::now() + QUIET_TIME);
            }
            // A prompt that is still to be taken goes on with the turn.
            Some(Ending {
                step: EndStep::WhenIdle,
                ..
            }) if !agent.is_busy() => self.finish_ending(agent_id),
            _ => {}
        }
    }

    fn finish_ending(&mut self, agent_id: AgentId) {
        let ending = self
            .agents
            .get(&agent_id)
            .and_then(|agent| agent.ending.clone());
        if let Some(Ending { exit, .. }) = ending {
            self.finish_saved(agent_id, exit);
        }
    }

    fn model_failed(&mut self, agent_id: AgentId, failed: AgentExited, still_trying: bool) {
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        // An agent that ends anyway ends for the reason it was told to.
        let exit = match agent.ending.take() {
            Some(ending) => ending.exit,
            None => failed,
        };
        if still_trying {
            self.abort(agent_id, exit);
        } else {
            agent.prompts.clear();
            agent.ending = Some(Ending {
                exit,
                step: EndStep::Aborted,
            });
            agent.deadline = Some(Instant::now() + IDLE_AFTER_ERROR);
        }
    }
}
