//! A session's turns: prompts, one after the other, until none waits.
//!
//! The protocol answers a prompt when its turn is over, and what an agent does with a second prompt
//! meanwhile is its own affair. So the second waits here, and the turn that everybody sees goes on with
//! it: it is idle when none is left, as with the other agent servers.

use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, PromptRequest, PromptResponse, SessionId as AcpSession,
    SetSessionConfigOptionRequest, StopReason,
};

use super::calls::{CALL_LIMIT, explained};
use super::client::Acp;
use super::models::Models;
use super::sessions::{PROMPTS_MAX, Phase, Session};
use super::wire::Spent;
use crate::model::Timestamp;
use crate::sdk::{Error, Event, Prompt, SessionId};

const PROMPT: &str = "session/prompt";

/// What a turn fails with that did nothing at all. Agents end their turn like that when their model
/// can't be reached and they have no word for it.
const NOTHING_DONE: &str = "the agent ended its turn without having said or done anything";

impl Acp {
    /// Asks a session to do something, as soon as it has done what it was asked before.
    pub(in crate::sdk) fn prompt(&self, session: &SessionId, prompt: &Prompt) -> Result<(), Error> {
        let refused = |status, body: &str| Error::Refused {
            call: PROMPT.to_owned(),
            status,
            body: body.to_owned(),
        };
        let id = AcpSession::new(session.as_str());
        let begins = self.shared.change(|state| {
            let Some(known) = state.sessions.get_mut(&id) else {
                return Err(refused(404, "there is no such session"));
            };
            if known.prompts.len() >= PROMPTS_MAX {
                return Err(refused(429, "too many prompts wait for this session"));
            }
            known.prompts.push_back(prompt.clone());
            let begins = !known.is_in_turn();
            if begins {
                known.phase = Phase::Working;
                state.events.push_back(known.transcript.busy());
            }
            Ok(begins)
        })?;
        if begins {
            let acp = self.clone();
            self.shared
                .lifecycle
                .spawn_detached("turn of a session", async move { acp.turn(id).await });
        }
        Ok(())
    }

    /// Ends what a session is doing; an idle session stays as it is.
    pub(in crate::sdk) fn abort(&self, session: &SessionId) -> Result<(), Error> {
        let id = AcpSession::new(session.as_str());
        let works = self.shared.change(|state| {
            let known = state.sessions.get_mut(&id);
            let known = known.filter(|known| known.is_in_turn());
            known.is_some_and(|known| {
                known.prompts.clear();
                known.phase = Phase::Cancelled;
                true
            })
        });
        if works {
            self.connection
                .send_notification(CancelNotification::new(id.clone()))
                .map_err(|error| self.failure("session/cancel", &error))?;
            self.shared.withdraw_asks(&id);
        }
        Ok(())
    }

    /// Whether a session works on something.
    pub(in crate::sdk) fn is_busy(&self, session: &SessionId) -> bool {
        let id = AcpSession::new(session.as_str());
        self.shared.change(|state| {
            let known = state.sessions.get(&id);
            known.is_some_and(super::sessions::Session::is_in_turn)
        })
    }

    async fn turn(self, id: AcpSession) {
        while let Some(prompt) = self.next_prompt(&id) {
            self.choose_model(&id, &prompt).await;
            let request = PromptRequest::new(id.clone(), self.begin(&id, prompt));
            let answer = self.connection.send_request(request).block_task().await;
            if self.shared.is_closed() {
                // Whoever owns the program learns that it ended, and that is the reason.
                return;
            }
            self.shared.withdraw_asks(&id);
            let now = self.shared.clock.now();
            self.shared.tell_of(&id, |session| match &answer {
                Ok(answer) => ended(session, answer, now),
                Err(error) => failed(session, &format!("{PROMPT}: {}", explained(error)), now),
            });
        }
    }

    /// The next prompt of a turn. With none left the turn is over, in the same moment.
    fn next_prompt(&self, id: &AcpSession) -> Option<Prompt> {
        self.shared.change(|state| {
            let session = state.sessions.get_mut(id)?;
            let prompt = session.prompts.pop_front();
            if prompt.is_some() {
                session.phase = Phase::Working;
            } else {
                session.phase = Phase::Idle;
                state.events.push_back(session.transcript.idle());
            }
            prompt
        })
    }

    /// Tells of a prompt; what is to be sent.
    fn begin(&self, id: &AcpSession, prompt: Prompt) -> Vec<ContentBlock> {
        let now = self.shared.clock.now();
        let mut blocks = Vec::new();
        self.shared.tell_of(id, |session| {
            // The protocol has no field for instructions, so they come before the first prompt, and
            // again when they have changed.
            if prompt.system != session.instructed {
                blocks.extend(prompt.system.clone().map(ContentBlock::from));
                session.instructed.clone_from(&prompt.system);
            }
            session.transcript.prompted(&prompt.text, now)
        });
        blocks.push(ContentBlock::from(prompt.text));
        blocks
    }

    /// Sets the session's model, if the agent lets us and offers it.
    async fn choose_model(&self, id: &AcpSession, prompt: &Prompt) {
        let Some(model) = &prompt.model else {
            return;
        };
        let change = self.shared.change(|state| {
            let models = state.sessions.get(id)?.models.as_ref()?;
            let value = models.change_to(&model.model_id)?;
            Some((models.option.clone(), value))
        });
        let Some((option, value)) = change else {
            return;
        };
        let request = SetSessionConfigOptionRequest::new(id.clone(), option, value);
        match self
            .call("session/set_config_option", request, CALL_LIMIT)
            .await
        {
            Ok(answer) => self.shared.change(|state| {
                if let Some(session) = state.sessions.get_mut(id) {
                    session.models = Models::among(&answer.config_options);
                }
            }),
            Err(error) => tracing::warn!(session = %id.0, "failed to choose a model: {error}"),
        }
    }
}

/// What a prompt that was answered tells.
fn ended(session: &mut Session, answer: &PromptResponse, now: Timestamp) -> Vec<Event> {
    // There are agents that end a turn as if by themselves when they were told to.
    if session.phase == Phase::Cancelled || answer.stop_reason == StopReason::Cancelled {
        return session.transcript.aborted(now);
    }
    let spent = answer.usage.as_ref().map(Spent::of);
    let (reason, failure) = match answer.stop_reason {
        StopReason::MaxTokens => (
            "max_tokens",
            Some("the turn was ended at the model's limit of tokens"),
        ),
        StopReason::Refusal => ("refusal", Some("the model refused to go on")),
        // Not done, but not broken either: the next prompt goes on with it.
        StopReason::MaxTurnRequests => ("max_turn_requests", None),
        _ if !session.transcript.has_stirred() => ("end_turn", Some(NOTHING_DONE)),
        _ => ("end_turn", None),
    };
    let mut events = session.transcript.answered(reason, spent, now);
    if let Some(text) = failure {
        events.extend(failed(session, text, now));
    }
    events
}

fn failed(session: &mut Session, text: &str, now: Timestamp) -> Vec<Event> {
    if session.phase == Phase::Cancelled {
        return session.transcript.aborted(now);
    }
    session.prompts.clear();
    session.transcript.failed(text, now)
}
