//! Answers to what agents asked.

use super::actor::{Fleet, answer};
use super::agent::Session;
use super::command::{Denied, Reply};
use crate::container::Error;
use crate::container::protocol::{AnswerQuestion, AskKind, PermissionAnswer};
use crate::model::AgentId;
use crate::sdk::{self, PermissionReply};

type Answered = Reply<Result<(), Denied>>;

impl Fleet {
    pub(super) fn answer_permission(
        &self,
        agent: AgentId,
        ask_id: String,
        permission: PermissionAnswer,
        reply: Answered,
    ) {
        let asked = match self.asked(agent, &ask_id, AskKind::Permission) {
            Ok(asked) => asked,
            Err(denied) => return answer(reply, Err(denied)),
        };
        let permission = match permission {
            PermissionAnswer::Once => PermissionReply::Once,
            PermissionAnswer::Always => PermissionReply::Always,
            PermissionAnswer::Reject => PermissionReply::Reject,
        };
        self.options
            .lifecycle
            .spawn_detached("answer a permission ask", async move {
                let client = asked.server.client();
                let done = client
                    .reply_permission(&asked.session.directory, &ask_id, permission)
                    .await;
                answer(reply, done.map_err(denied));
            });
    }

    pub(super) fn answer_question(
        &self,
        agent: AgentId,
        ask_id: String,
        question: AnswerQuestion,
        reply: Answered,
    ) {
        let asked = match self.asked(agent, &ask_id, AskKind::Question) {
            Ok(asked) => asked,
            Err(denied) => return answer(reply, Err(denied)),
        };
        self.options
            .lifecycle
            .spawn_detached("answer a question", async move {
                let (client, directory) = (asked.server.client(), &asked.session.directory);
                let done = if question.reject {
                    client.reject_question(directory, &ask_id).await
                } else {
                    client
                        .reply_question(directory, &ask_id, &question.answers)
                        .await
                };
                answer(reply, done.map_err(denied));
            });
    }

    fn asked(&self, agent_id: AgentId, ask_id: &str, kind: AskKind) -> Result<Asked, Denied> {
        let agent = self
            .agents
            .get(&agent_id)
            .ok_or(Denied::UnknownAgent(agent_id))?;
        let session = agent
            .session()
            .cloned()
            .ok_or(Denied::NotStarted(agent_id))?;
        let server = self.running_server().ok_or(Denied::NotStarted(agent_id))?;
        match agent.asks.get(ask_id) {
            Some(ask) if ask.kind == kind => Ok(Asked { session, server }),
            _ => Err(Denied::UnknownAsk(ask_id.to_owned())),
        }
    }
}

/// Who is to be answered.
struct Asked {
    session: Session,
    server: std::sync::Arc<super::server::RunningServer>,
}

fn denied(error: sdk::Error) -> Denied {
    Denied::AgentServer(Error::from(error).story())
}
