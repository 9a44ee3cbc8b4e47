//! Asks for permission: judged by the town's permissions, or handed to a person and answered later.

use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::{
    PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest,
    RequestPermissionResponse, SelectedPermissionOutcome, SessionId,
};

use super::client::{Acp, Shared};
use super::policy::{self, Verdict};
use super::sessions::{ASKS_MAX, OpenAsk, Phase};
use crate::sdk::{Error, PermissionReply};

const CALL: &str = "session/request_permission";

/// What an ask is answered with that nobody answers any more.
const WITHDRAWN: &str = "cancelled";

impl Shared {
    /// Takes in an ask. It is answered here if the town's permissions say so, else it waits.
    pub(super) fn on_ask(
        &self,
        request: RequestPermissionRequest,
        responder: Responder<RequestPermissionResponse>,
    ) -> Result<(), agent_client_protocol::Error> {
        let now = self.clock.now();
        let answer = self.change(|state| {
            let full = state.asks.len() >= ASKS_MAX;
            let session = state.sessions.get_mut(&request.session_id);
            // One that is not at work, or not ours, has nobody who would answer.
            let Some(session) = session.filter(|session| session.phase == Phase::Working && !full)
            else {
                return Some((responder, RequestPermissionOutcome::Cancelled));
            };
            let call = session.transcript.updated(request.tool_call);
            let ask = policy::Ask::of(&call);
            let options = request.options;
            match policy::judge(&self.permissions, &ask, &call, &session.directory) {
                Verdict::Allow => Some((responder, chosen(&options, PermissionReply::Once))),
                Verdict::Deny => Some((responder, chosen(&options, PermissionReply::Reject))),
                Verdict::Ask => {
                    let (id, event) = session.transcript.asked(&ask, &call, now);
                    state.events.push_back(event);
                    let open = OpenAsk {
                        session: request.session_id,
                        options,
                        responder,
                    };
                    state.asks.insert(id, open);
                    None
                }
            }
        });
        match answer {
            Some((responder, outcome)) => {
                responder.respond(RequestPermissionResponse::new(outcome))
            }
            None => Ok(()),
        }
    }

    /// Takes back what a session still asks: its turn is over.
    pub(super) fn withdraw_asks(&self, session: &SessionId) {
        let asks = self.change(|state| {
            let asks = state.take_asks(session);
            for (id, _) in &asks {
                state.tell_replied(session, id, WITHDRAWN);
            }
            asks
        });
        for (_, ask) in asks {
            let answer = RequestPermissionResponse::new(RequestPermissionOutcome::Cancelled);
            // An agent that is gone waits for nothing.
            let _ = ask.responder.respond(answer);
        }
    }
}

impl Acp {
    /// Answers an ask.
    pub(in crate::sdk) fn reply_permission(
        &self,
        ask_id: &str,
        reply: PermissionReply,
    ) -> Result<(), Error> {
        let ask = self.shared.change(|state| {
            let ask = state.asks.remove(ask_id)?;
            state.tell_replied(&ask.session, ask_id, reply.as_str());
            Some(ask)
        });
        let Some(ask) = ask else {
            return Err(Error::Refused {
                call: CALL.to_owned(),
                status: 404,
                body: format!("nothing is asked under {ask_id}"),
            });
        };
        let outcome = chosen(&ask.options, reply);
        ask.responder
            .respond(RequestPermissionResponse::new(outcome))
            .map_err(|error| self.failure(CALL, &error))
    }
}

/// The agent's own option that says the same. An agent that offers none is not answered in its words.
fn chosen(options: &[PermissionOption], reply: PermissionReply) -> RequestPermissionOutcome {
    use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
    let kinds = match reply {
        PermissionReply::Once => [AllowOnce, AllowAlways],
        PermissionReply::Always => [AllowAlways, AllowOnce],
        PermissionReply::Reject => [RejectOnce, RejectAlways],
    };
    kinds
        .iter()
        .find_map(|kind| options.iter().find(|option| option.kind == *kind))
        .map_or(RequestPermissionOutcome::Cancelled, |option| {
            let selected = SelectedPermissionOutcome::new(option.option_id.clone());
            RequestPermissionOutcome::Selected(selected)
        })
}
