//! What a session does, told as the events that all agent servers have. Plain data: no I/O.
//!
//! ACP has one kind of message, the update. The events have messages, made of parts: a part is
//! announced, grows by deltas, and is told whole at its end; a tool's part is told whole whenever it
//! changes. The protocol's ids are not used for ours: ours rise, which others rely on.

use std::collections::VecDeque;
use std::path::Path;

use agent_client_protocol::v1::schema::{
    CompactionStatus, ContentBlock, ContentChunk, MessageId, PlanEntry, SessionUpdate, ToolCall,
    ToolCallId, ToolCallStatus, ToolCallUpdate, UsageUpdate,
};
use serde_json::{Value, json};

use super::policy;
use super::wire::{
    Spent, opencode_tool, plan_status, text_of, tool_input, tool_output, tool_status,
};
use crate::model::Timestamp;
use crate::sdk::Event;
use crate::sdk::identifiers::Identifiers;

/// After this much text a part ends and another one goes on, so that each fits an event.
const PART_TEXT_MAX: usize = 256 * 1024;

/// Tool calls of one turn that can still change. Agents run a few at a time.
const TOOLS_MAX: usize = 128;

/// A session's story.
#[derive(Debug)]
pub(super) struct Transcript {
    session_id: String,
    directory: String,
    identifiers: Identifiers,
    message: Option<Message>,
    part: Option<Part>,
    tools: VecDeque<Tool>,
    /// Whether the agent has said or done anything in this turn.
    stirred: bool,
    /// What the whole session had used when that was last counted.
    counted: Spent,
    /// The same for its cost; unknown for a session that is older than the program's process.
    cost: Option<f64>,
}

/// The agent's message that is being told.
#[derive(Debug)]
struct Message {
    id: String,
    theirs: Option<MessageId>,
    begun: Timestamp,
    cost: f64,
}

/// The text that is being told.
#[derive(Debug)]
struct Part {
    id: String,
    kind: &'static str,
    text: String,
    begun: Timestamp,
}

#[derive(Debug)]
struct Tool {
    part_id: String,
    message_id: String,
    call: ToolCall,
    begun: Timestamp,
}

impl Transcript {
    /// The story of a session that begins, or that goes on after `resumed`.
    pub(super) fn new(session_id: &str, directory: &Path, resumed: bool) -> Self {
        Self {
            session_id: session_id.to_owned(),
            directory: directory.to_string_lossy().into_owned(),
            identifiers: Identifiers::default(),
            message: None,
            part: None,
            tools: VecDeque::new(),
            stirred: false,
            counted: Spent::default(),
            cost: (!resumed).then_some(0.0),
        }
    }

    // ---- the turn -------------------------------------------------------------------------

    /// The session works.
    pub(super) fn busy(&self) -> Event {
        self.event("session.status", json!({"status": {"type": "busy"}}))
    }

    /// The session's turn is over.
    pub(super) fn idle(&self) -> Event {
        self.event("session.idle", json!({}))
    }

    /// The session is asked to do something.
    pub(super) fn prompted(&mut self, text: &str, now: Timestamp) -> Vec<Event> {
        self.stirred = false;
        self.tools.clear();
        let id = self.identifiers.next("msg", now);
        let part_id = self.identifiers.next("prt", now);
        let info = json!({
            "id": id, "sessionID": self.session_id, "role": "user",
            "time": {"created": now.as_millis()},
        });
        let part = json!({
            "id": part_id, "messageID": id, "sessionID": self.session_id, "type": "text",
            "text": text,
        });
        vec![
            self.event("message.updated", json!({"info": info})),
            self.event("message.part.updated", json!({"part": part})),
        ]
    }

    /// A prompt was answered; `reason` is the protocol's word for why the turn ended.
    pub(super) fn answered(
        &mut self,
        reason: &str,
        spent: Option<Spent>,
        now: Timestamp,
    ) -> Vec<Event> {
        let mut events = Vec::from_iter(self.end_part(now));
        let spent = spent.map(|total| {
            let more = total.since(self.counted);
            self.counted = total;
            more
        });
        if spent.is_some() && self.message.is_none() {
            events.extend(self.begin_message(None, now));
        }
        events.extend(self.end_message(Some(reason), spent, now));
        events
    }

    /// Whether the agent has said or done anything since it was prompted.
    pub(super) const fn has_stirred(&self) -> bool {
        self.stirred
    }

    /// The turn failed.
    pub(super) fn failed(&mut self, text: &str, now: Timestamp) -> Vec<Event> {
        self.broken("AgentError", text, now)
    }

    /// The turn was ended because we asked for it.
    pub(super) fn aborted(&mut self, now: Timestamp) -> Vec<Event> {
        self.broken("MessageAbortedError", "it was stopped", now)
    }

    fn broken(&mut self, name: &str, text: &str, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::from_iter(self.end_part(now));
        events.extend(self.end_message(None, None, now));
        let error = json!({"name": name, "data": {"message": text}});
        events.push(self.event("session.error", json!({"error": error})));
        events
    }

    // ---- what the agent does --------------------------------------------------------------

    /// The events of an update.
    pub(super) fn update(&mut self, update: SessionUpdate, now: Timestamp) -> Vec<Event> {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => self.chunk("text", chunk, now),
            SessionUpdate::AgentThoughtChunk(chunk) => self.chunk("reasoning", chunk, now),
            SessionUpdate::ToolCall(call) => self.tool(call, now),
            SessionUpdate::ToolCallUpdate(update) => {
                let call = self.updated(update);
                self.tool(call, now)
            }
            SessionUpdate::Plan(plan) => vec![self.plan(&plan.entries)],
            SessionUpdate::UsageUpdate(usage) => {
                self.spent(&usage);
                Vec::new()
            }
            SessionUpdate::CompactionUpdate(update)
                if update.status == CompactionStatus::Completed =>
            {
                vec![self.event("session.compacted", json!({}))]
            }
            // What we said ourselves, and what is offered but nobody here can choose.
            _ => Vec::new(),
        }
    }

    /// Takes in an update of the history that a session is loaded with. It was told before.
    pub(super) fn replayed(&mut self, update: &SessionUpdate) {
        if let SessionUpdate::UsageUpdate(usage) = update {
            self.cost = usage
                .cost
                .as_ref()
                .map_or(self.cost, |cost| Some(cost.amount));
        }
    }

    /// The tool call as it is known after an update; one that is new to us begins with it.
    pub(super) fn updated(&self, update: ToolCallUpdate) -> ToolCall {
        let known = self.tools.iter().rev();
        let mut call = known
            .map(|tool| &tool.call)
            .find(|call| call.tool_call_id == update.tool_call_id)
            .cloned()
            .unwrap_or_else(|| ToolCall::new(update.tool_call_id, ""));
        call.update(update.fields);
        call
    }

    fn chunk(&mut self, kind: &'static str, chunk: ContentChunk, now: Timestamp) -> Vec<Event> {
        let text = content_text(&chunk.content);
        if text.is_empty() {
            return Vec::new();
        }
        self.stirred = true;
        let mut events = Vec::new();
        let other_message = self.message.as_ref().is_some_and(|message| {
            chunk.message_id.is_some()
                && message.theirs.is_some()
                && message.theirs != chunk.message_id
        });
        if other_message {
            events.extend(self.end_part(now));
            events.extend(self.end_message(None, None, now));
        }
        let other_part = self
            .part
            .as_ref()
            .is_some_and(|part| part.kind != kind || part.text.len() > PART_TEXT_MAX);
        if other_part {
            events.extend(self.end_part(now));
        }
        if self.message.is_none() {
            events.extend(self.begin_message(chunk.message_id, now));
        }
        if self.part.is_none() {
            events.push(self.begin_part(kind, now));
        }
        if let (Some(message), Some(part)) = (&self.message, &mut self.part) {
            part.text.push_str(&text);
            let delta = json!({
                "messageID": message.id, "partID": part.id, "field": "text", "delta": text,
            });
            events.push(self.event("message.part.delta", delta));
        }
        events
    }

    fn tool(&mut self, call: ToolCall, now: Timestamp) -> Vec<Event> {
        self.stirred = true;
        let mut events = Vec::from_iter(self.end_part(now));
        let known = self
            .tools
            .iter_mut()
            .rev()
            .find(|tool| tool.call.tool_call_id == call.tool_call_id);
        if let Some(tool) = known {
            tool.call = call.clone();
        } else {
            if self.message.is_none() {
                events.extend(self.begin_message(None, now));
            }
            let part_id = self.identifiers.next("prt", now);
            let message_id = self.message.as_ref().map(|message| message.id.clone());
            if self.tools.len() >= TOOLS_MAX {
                self.tools.pop_front();
            }
            self.tools.push_back(Tool {
                part_id,
                message_id: message_id.unwrap_or_default(),
                call: call.clone(),
                begun: now,
            });
        }
        events.extend(self.tool_part(&call.tool_call_id, now));
        events
    }

    fn tool_part(&self, id: &ToolCallId, now: Timestamp) -> Option<Event> {
        let mut newest_first = self.tools.iter().rev();
        let tool = newest_first.find(|tool| tool.call.tool_call_id == *id)?;
        let call = &tool.call;
        let mut time = json!({"start": tool.begun.as_millis()});
        if matches!(
            call.status,
            ToolCallStatus::Completed | ToolCallStatus::Failed
        ) {
            time["end"] = json!(now.as_millis());
        }
        let output = tool_output(call);
        let said = if call.status == ToolCallStatus::Failed {
            "error"
        } else {
            "output"
        };
        let state = json!({
            "status": tool_status(call.status),
            "title": call.title,
            "input": tool_input(call),
            said: output,
            "metadata": {},
            "time": time,
        });
        let part = json!({
            "id": tool.part_id, "messageID": tool.message_id, "sessionID": self.session_id,
            "type": "tool", "callID": id.0, "tool": opencode_tool(call), "state": state,
        });
        Some(self.event("message.part.updated", json!({"part": part})))
    }

    /// An ask for permission, and the id under which it is answered.
    pub(super) fn asked(
        &mut self,
        ask: &policy::Ask,
        call: &ToolCall,
        now: Timestamp,
    ) -> (String, Event) {
        self.stirred = true;
        let tool = self
            .tools
            .iter()
            .rev()
            .find(|tool| tool.call.tool_call_id == call.tool_call_id)
            .map(|tool| json!({"messageID": tool.message_id, "callID": call.tool_call_id.0}));
        let id = self.identifiers.next("per", now);
        let asked = json!({
            "id": id,
            "permission": ask.permission,
            "patterns": ask.patterns,
            "always": [],
            "metadata": {"title": call.title, "input": tool_input(call)},
            "tool": tool,
        });
        let event = self.event("permission.asked", asked);
        (id, event)
    }

    /// An ask was answered, or taken back.
    pub(super) fn replied(&self, ask_id: &str, reply: &str) -> Event {
        self.event(
            "permission.replied",
            json!({"requestID": ask_id, "reply": reply}),
        )
    }

    fn plan(&mut self, entries: &[PlanEntry]) -> Event {
        self.stirred = true;
        let todos: Vec<Value> = entries
            .iter()
            .map(|entry| {
                json!({
                    "content": entry.content,
                    "status": plan_status(&entry.status),
                    "priority": entry.priority,
                })
            })
            .collect();
        self.event("todo.updated", json!({"todos": todos}))
    }

    /// The protocol tells what the session has cost so far; the message bears what is new.
    fn spent(&mut self, usage: &UsageUpdate) {
        let Some(cost) = &usage.cost else {
            return;
        };
        if let Some(message) = &mut self.message {
            let before = self.cost.unwrap_or(cost.amount);
            message.cost += (cost.amount - before).max(0.0);
            self.cost = Some(cost.amount);
        }
    }

    // ---- messages and parts ---------------------------------------------------------------

    fn begin_message(&mut self, theirs: Option<MessageId>, now: Timestamp) -> Option<Event> {
        self.message = Some(Message {
            id: self.identifiers.next("msg", now),
            theirs,
            begun: now,
            cost: 0.0,
        });
        self.message_updated(None, None, None)
    }

    fn end_message(
        &mut self,
        reason: Option<&str>,
        spent: Option<Spent>,
        now: Timestamp,
    ) -> Option<Event> {
        let event = self.message_updated(Some(now), reason, spent);
        self.message = None;
        event
    }

    fn message_updated(
        &self,
        completed: Option<Timestamp>,
        reason: Option<&str>,
        spent: Option<Spent>,
    ) -> Option<Event> {
        let message = self.message.as_ref()?;
        let mut time = json!({"created": message.begun.as_millis()});
        if let Some(completed) = completed {
            time["completed"] = json!(completed.as_millis());
        }
        let mut info = json!({
            "id": message.id, "sessionID": self.session_id, "role": "assistant", "time": time,
            "cost": message.cost, "tokens": spent.unwrap_or_default().to_json(),
        });
        if let Some(reason) = reason {
            info["finish"] = json!(reason);
        }
        Some(self.event("message.updated", json!({"info": info})))
    }

    fn begin_part(&mut self, kind: &'static str, now: Timestamp) -> Event {
        let part = Part {
            id: self.identifiers.next("prt", now),
            kind,
            text: String::new(),
            begun: now,
        };
        let event = self.part_updated(&part, None);
        self.part = Some(part);
        event
    }

    fn end_part(&mut self, now: Timestamp) -> Option<Event> {
        let part = self.part.take()?;
        Some(self.part_updated(&part, Some(now)))
    }

    fn part_updated(&self, part: &Part, end: Option<Timestamp>) -> Event {
        let mut time = json!({"start": part.begun.as_millis()});
        if let Some(end) = end {
            time["end"] = json!(end.as_millis());
        }
        let message_id = self.message.as_ref().map(|message| &message.id);
        let part = json!({
            "id": part.id, "messageID": message_id, "sessionID": self.session_id,
            "type": part.kind, "text": part.text, "time": time,
        });
        self.event("message.part.updated", json!({"part": part}))
    }

    fn event(&self, event_type: &str, mut properties: Value) -> Event {
        properties["sessionID"] = json!(self.session_id);
        Event {
            directory: Some(self.directory.clone()),
            session_id: Some(self.session_id.clone()),
            event_type: event_type.to_owned(),
            properties: serde_json::value::to_raw_value(&properties)
                .expect("a JSON value can be written"),
        }
    }
}

fn content_text(content: &ContentBlock) -> String {
    text_of(content).unwrap_or_default()
}
