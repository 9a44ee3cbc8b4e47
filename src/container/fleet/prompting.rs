//! What a session is told: its first prompt once it stands, and then whatever waits.

use super::actor::Fleet;
use super::agent::{Session, Stage, Turn, failed};
use super::command::{Command, Failure, Prepared, Run};
use super::start::session_failure;
use crate::container::agent_config;
use crate::container::prompts;
use crate::container::protocol::{
    AgentSetback, AgentStarted, ExitKind, SetbackCause, message_type,
};
use crate::model::AgentId;
use crate::sdk::Prompt;

impl Fleet {
    pub(super) fn prepared(&mut self, run: Run, result: Result<Prepared, Failure>) {
        if !self.is_current(run) {
            return;
        }
        let Prepared {
            session,
            resumed,
            branch,
        } = match result {
            Ok(prepared) => prepared,
            Err(failure) => return self.fail(run.0, failure),
        };
        let Some(agent) = self.agents.get_mut(&run.0) else {
            return;
        };
        let started = AgentStarted {
            session_id: session.id.to_string(),
            resumed,
            branch,
            worktree: session.directory.to_string_lossy().into_owned(),
        };
        self.sessions.insert(session.id.to_string(), run.0);
        agent.stage = Stage::Running(session);
        let mut prompt = std::mem::take(&mut agent.start.prompt);
        let conversation = agent.start.conversation.take().filter(|_| !resumed);
        let lost = agent.start.session_id.clone().filter(|_| !resumed);
        if let (Some(conversation), false) = (&conversation, prompt.is_empty()) {
            prompt = prompts::with_conversation(&prompt, conversation);
        }
        if !prompt.is_empty() {
            agent.prompts.push_back(prompt);
        }
        self.say(Some(run.0), message_type::AGENT_STARTED, &started);
        if let Some(session_id) = lost {
            self.say_session_lost(run.0, &session_id, conversation.is_some());
        }
        self.next_prompt(run.0);
    }

    fn say_session_lost(&self, agent_id: AgentId, session_id: &str, knows: bool) {
        let how = if knows {
            "with the conversation so far"
        } else {
            "from the beginning"
        };
        let setback = AgentSetback {
            cause: SetbackCause::Session,
            reason: format!(
                "the agent server no longer has the session {session_id}; a new one goes on {how}"
            ),
            retry_at: None,
        };
        self.say(Some(agent_id), message_type::AGENT_SETBACK, &setback);
    }

    /// Hands the next waiting prompt to the session, one at a time so that they stay in order.
    pub(super) fn next_prompt(&mut self, agent_id: AgentId) {
        let Some(server) = self.running_server() else {
            return;
        };
        let Some(agent) = self.agents.get_mut(&agent_id) else {
            return;
        };
        let Some(Session { id, directory }) = agent.session().cloned() else {
            return;
        };
        if agent.prompting {
            return;
        }
        let Some(text) = agent.prompts.pop_front() else {
            return;
        };
        let model = agent_config::model_for(
            &agent.config,
            agent.start.role,
            agent.start.model.as_deref(),
        );
        let model = match model {
            Ok(model) => model,
            Err(error) => {
                return self.finish(agent_id, failed(ExitKind::Config, error.story()));
            }
        };
        let system = Some(agent.start.system_prompt.clone()).filter(|system| !system.is_empty());
        agent.prompting = true;
        agent.silence.end();
        if agent.turn == Turn::Idle {
            agent.turn = Turn::Prompted;
        }
        let (run, commands) = ((agent_id, agent.run), self.commands.clone());
        self.options
            .lifecycle
            .spawn_detached("prompt a session", async move {
                let prompt = Prompt {
                    text,
                    system,
                    model: Some(model),
                };
                let result = server
                    .client()
                    .session()
                    .prompt(&directory, &id, &prompt)
                    .await;
                // Nobody listens any more only when the fleet has ended.
                let _ = commands
                    .send(Command::Prompted(run, result.map_err(session_failure)))
                    .await;
            });
    }

    pub(super) fn prompted(&mut self, run: Run, result: Result<(), Failure>) {
        if !self.is_current(run) {
            return;
        }
        if let Some(agent) = self.agents.get_mut(&run.0) {
            agent.prompting = false;
            agent.silence.end();
        }
        match result {
            Ok(()) => self.next_prompt(run.0),
            Err(failure) => self.fail(run.0, failure),
        }
    }
}
