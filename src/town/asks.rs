//! Transitions of asks: what agents want to know, and what they are told.
//!
//! An ask is there from the moment the container tells of it until it says that it is gone: the
//! answer was taken, the turn ended or the agent did. An answer is kept in the row until then, so
//! that it is given again if the server ended before the container had it.

use serde_json::{Value, json};

use crate::container::Asked;
use crate::container::protocol::{AnswerPermission, AnswerQuestion, PermissionAnswer};
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, Ask, AskId, AskKind, BeadStatus, Json, Priority,
    Timestamp,
};
use crate::storage::{self, AskKey, Tree};

use super::draft::Draft;
use super::effects::Effect;
use super::escalations;
use super::queries::AskView;
use super::refusal::{Error, Refusal};
use super::{agents, beads, dispatch};

/// Asks of one agent that are kept. A turn waits for one; the sessions it began for others may have
/// one each.
const ASKS_PER_AGENT_MAX: usize = 64;
/// Bytes of an ask as it was told: a permission may bring a whole diff, and people get a list of
/// these.
const DETAIL_BYTES_MAX: usize = 32 << 10;
/// Bytes of an ask's id at the agent server; they stand in a key.
const SERVER_ID_BYTES_MAX: usize = 256;

/// An answer, as a person gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskReply {
    /// To a request for permission.
    Permission(PermissionAnswer),
    /// To a question: one list of chosen answers for each of its parts.
    Answers(Vec<Vec<String>>),
    /// No answer to a question.
    NoAnswer,
}

/// An agent asked a person something. People see it at once; it escalates when nobody answers.
pub(super) fn opened(draft: &mut Draft<'_>, agent_id: AgentId, asked: Asked) -> Result<(), Error> {
    let Some(agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    if agent.dispatch.requested_at.is_some() && !dispatch::runs_for_hook(&agent) {
        // Nobody need answer what was started for work that was taken away.
        draft.effect(Effect::StopAgent(agent_id));
        return Ok(());
    }
    let known = of_agent(draft.tree, agent_id)?;
    let title = asked.title.clone();
    if known.len() >= ASKS_PER_AGENT_MAX || asked.ask_id.len() > SERVER_ID_BYTES_MAX {
        // It still waits, and its panel shows what for.
        agents::record(draft, "agent.waiting", &agent, json!({"title": title}));
        return agents::set_status(draft, agent, AgentStatus::Waiting, Some(&title));
    }
    let ask = Ask {
        ask_id: AskId::random(),
        agent_id,
        server_id: asked.ask_id,
        kind: asked.kind,
        title: asked.title,
        detail: bounded(asked.detail),
        asked_at: draft.now,
        escalation: None,
        answer: None,
        answered_at: None,
        last_error: None,
    };
    agents::record(draft, "agent.waiting", &agent, facts_of(&ask));
    draft.put(&key(&ask), &ask);
    agents::set_status(draft, agent, AgentStatus::Waiting, Some(&title))
}

/// A person answers. The agent server is told when this is durable.
pub(super) fn reply(
    draft: &mut Draft<'_>,
    ask_id: AskId,
    reply: AskReply,
) -> Result<AskView, Error> {
    let mut ask = find(draft.tree, ask_id)?.ok_or(Refusal::AskNotFound(ask_id))?;
    if ask.answer.is_some() {
        return Err(Refusal::AskAnswered(ask_id).into());
    }
    ask.answer = Some(answer_of(&ask, reply)?);
    ask.answered_at = Some(draft.now);
    ask.last_error = None;
    let agent = draft.agent(ask.agent_id)?;
    agents::record(draft, "ask.answered", &agent, facts_of(&ask));
    draft.put(&key(&ask), &ask);
    draft.effect(Effect::AnswerAsk(ask.ask_id));
    Ok(AskView { ask, agent })
}

/// The answer as the container takes it, if it fits what was asked.
fn answer_of(ask: &Ask, reply: AskReply) -> Result<Json, Refusal> {
    let body = match (ask.kind, reply) {
        (AskKind::Permission, AskReply::Permission(reply)) => {
            serde_json::to_string(&AnswerPermission { reply })
        }
        (AskKind::Question, AskReply::NoAnswer) => serde_json::to_string(&AnswerQuestion {
            reject: true,
            answers: Vec::new(),
        }),
        (AskKind::Question, AskReply::Answers(answers)) => {
            let wanted = questions(&ask.detail);
            if wanted.is_some_and(|wanted| wanted != answers.len()) {
                let message = format!(
                    "must be one list of answers for each of the {} questions",
                    wanted.unwrap_or_default()
                );
                return Err(Refusal::invalid("answers", message));
            }
            serde_json::to_string(&AnswerQuestion {
                reject: false,
                answers,
            })
        }
        (AskKind::Permission, _) => {
            let message = "this is a request for permission: send once, always or reject";
            return Err(Refusal::invalid("reply", message));
        }
        (AskKind::Question, AskReply::Permission(_)) => {
            let message = "this is a question: send answers, or reject as true";
            return Err(Refusal::invalid("answers", message));
        }
    };
    Ok(Json::from_valid(
        body.expect("plain texts can be written as JSON"),
    ))
}

/// How many questions the ask has, if it says.
fn questions(detail: &Json) -> Option<usize> {
    let detail: Value = serde_json::from_str(detail.as_str()).ok()?;
    Some(detail.get("questions")?.as_array()?.len())
}

/// The answer did not get there: the ask is open again, and people see why.
pub(super) fn reply_failed(
    draft: &mut Draft<'_>,
    ask_id: AskId,
    reason: &str,
) -> Result<(), Error> {
    let Some(mut ask) = find(draft.tree, ask_id)? else {
        return Ok(());
    };
    ask.answer = None;
    ask.answered_at = None;
    ask.last_error = Some(reason.to_owned());
    if let Some(agent) = draft.find_agent(ask.agent_id)? {
        let mut metadata = facts_of(&ask);
        metadata["error"] = reason.into();
        agents::record(draft, "ask.reply_failed", &agent, metadata);
    }
    draft.put(&key(&ask), &ask);
    Ok(())
}

/// The container knows no such ask: it is gone, however that came.
pub(super) fn unknown(draft: &mut Draft<'_>, ask_id: AskId) -> Result<(), Error> {
    match find(draft.tree, ask_id)? {
        Some(ask) => closed(draft, ask.agent_id, &ask.server_id),
        None => Ok(()),
    }
}

/// The ask was answered or withdrawn. The agent works on when it waits for nothing else.
pub(super) fn closed(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    server_id: &str,
) -> Result<(), Error> {
    let asks = of_agent(draft.tree, agent_id)?;
    let (gone, left): (Vec<Ask>, Vec<Ask>) =
        asks.into_iter().partition(|ask| ask.server_id == server_id);
    for ask in gone {
        remove(draft, ask)?;
    }
    match draft.find_agent(agent_id)? {
        Some(agent) if agent.status == AgentStatus::Waiting && left.is_empty() => {
            let works = agent.hook.is_some() || agent.role == AgentRole::Mayor;
            let status = if works {
                AgentStatus::Working
            } else {
                AgentStatus::Idle
            };
            agents::set_status(draft, agent, status, None)
        }
        _ => Ok(()),
    }
}

/// Nobody waits for the answers any more: the agent's turn or the agent itself ended.
pub(super) fn forget(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    for ask in of_agent(draft.tree, agent_id)? {
        remove(draft, ask)?;
    }
    Ok(())
}

fn remove(draft: &mut Draft<'_>, ask: Ask) -> Result<(), Error> {
    draft.remove(&key(&ask));
    if let Some(agent) = draft.find_agent(ask.agent_id)? {
        agents::record(draft, "ask.closed", &agent, facts_of(&ask));
    }
    let Some(bead_id) = ask.escalation else {
        return Ok(());
    };
    if draft.find_bead(bead_id)?.is_some() {
        beads::finish(draft, bead_id, BeadStatus::Closed, None, None)?;
    }
    Ok(())
}

/// Nobody answered in time: people are called.
pub(super) fn escalate(draft: &mut Draft<'_>, ask_id: AskId) -> Result<(), Error> {
    let Some(mut ask) = find(draft.tree, ask_id)? else {
        return Ok(());
    };
    if ask.escalation.is_some() {
        return Ok(());
    }
    let Some(Agent { rig_id, name, .. }) = draft.find_agent(ask.agent_id)? else {
        return Ok(());
    };
    let bead = escalations::raise_about(
        draft,
        rig_id,
        Priority::High,
        format!("ask:{ask_id}"),
        format!("{name} waits for an answer: {}", ask.title),
        format!(
            "Agent {name} asked and nobody has answered yet: {}",
            ask.title
        ),
    )?;
    ask.escalation = Some(bead.bead_id);
    draft.put(&key(&ask), &ask);
    Ok(())
}

/// Answers that may not have reached a container that is there again.
pub(super) fn answer_again(draft: &mut Draft<'_>) -> Result<(), Error> {
    for ask in all(draft.tree)? {
        if ask.answer.is_some() {
            draft.effect(Effect::AnswerAsk(ask.ask_id));
        }
    }
    Ok(())
}

/// When an ask is to become an escalation; `None` if it is one, or is answered.
pub(super) fn escalates_at(ask: &Ask, patience: std::time::Duration) -> Option<Timestamp> {
    let open = ask.escalation.is_none() && ask.answer.is_none();
    open.then(|| ask.asked_at.after(patience))
}

fn key(ask: &Ask) -> AskKey {
    AskKey {
        agent_id: ask.agent_id,
        server_id: ask.server_id.clone(),
    }
}

fn facts_of(ask: &Ask) -> Value {
    json!({"ask_id": ask.ask_id.to_string(), "kind": ask.kind.as_str(), "title": ask.title})
}

/// An ask without what makes it too long: what a tool attached goes first.
fn bounded(detail: Json) -> Json {
    if detail.as_str().len() <= DETAIL_BYTES_MAX {
        return detail;
    }
    let mut value: Value = serde_json::from_str(detail.as_str()).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("metadata");
    }
    let text = value.to_string();
    if text.len() <= DETAIL_BYTES_MAX {
        Json::from_valid(text)
    } else {
        Json::empty_object()
    }
}

/// All asks of a town; there are as many as agents wait.
pub(super) fn all(tree: &Tree) -> Result<Vec<Ask>, storage::Error> {
    let mut asks = tree
        .scan(&AskKey::all())
        .map(|row| row.map(|(_, ask)| ask))
        .collect::<Result<Vec<_>, _>>()?;
    asks.sort_by_key(|ask| (ask.asked_at, ask.ask_id));
    Ok(asks)
}

/// An agent's asks.
pub(super) fn of_agent(tree: &Tree, agent_id: AgentId) -> Result<Vec<Ask>, storage::Error> {
    tree.scan(&AskKey::of_agent(agent_id))
        .map(|row| row.map(|(_, ask)| ask))
        .collect()
}

pub(super) fn find(tree: &Tree, ask_id: AskId) -> Result<Option<Ask>, storage::Error> {
    Ok(all(tree)?.into_iter().find(|ask| ask.ask_id == ask_id))
}
