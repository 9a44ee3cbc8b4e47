//! Writing a turn down: messages and their parts, kept in the session and told as events.
//!
//! The order and the shapes are those of opencode: an assistant message is told when it begins,
//! its parts as they grow, and the message again, with usage, when it is complete.

use serde_json::{Value, json};

use super::stage::{Durability, Stage, UserMessage, no_tokens};

/// What the pretended model costs per token; so that budgets have something to count.
const COST_PER_INPUT_TOKEN: f64 = 0.000_000_25;
const COST_PER_OUTPUT_TOKEN: f64 = 0.000_002;

/// How many characters are counted as one token.
const CHARACTERS_PER_TOKEN: usize = 4;

/// The record of one session's turn.
#[derive(Debug)]
pub(super) struct Record<'a> {
    stage: &'a Stage,
    session_id: &'a str,
    directory: &'a str,
    user_id: String,
    model: Value,
    /// The assistant's message that is being written.
    open: Option<OpenMessage>,
    input_characters: usize,
}

#[derive(Debug)]
struct OpenMessage {
    info: Value,
    id: String,
    output_characters: usize,
}

/// How an assistant message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    ToolCalls,
    Stop,
}

impl Finish {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ToolCalls => "tool-calls",
            Self::Stop => "stop",
        }
    }
}

impl<'a> Record<'a> {
    /// Begins the record with the user's message.
    pub(super) async fn begin(
        stage: &'a Stage,
        session_id: &'a str,
        directory: &'a str,
        message: &UserMessage,
    ) -> Self {
        let user_id = stage.new_id("msg");
        let record = Self {
            stage,
            session_id,
            directory,
            user_id: user_id.clone(),
            model: message.model.clone(),
            open: None,
            input_characters: message.text.len() + message.system.len(),
        };
        let info = json!({
            "id": user_id, "role": "user", "sessionID": session_id,
            "time": {"created": stage.now()}, "agent": "build", "model": message.model,
        });
        record.put_message(info).await;
        let part = json!({
            "type": "text", "text": message.text, "messageID": user_id,
            "sessionID": session_id, "id": stage.new_id("prt"),
        });
        record.put_part(part).await;
        let session = stage
            .session(session_id, |session| session.info.clone())
            .unwrap_or_default();
        let updated = json!({"sessionID": session_id, "info": session});
        record
            .tell("session.updated", &updated, Durability::Durable)
            .await;
        record
    }

    /// Begins a part of the open assistant message, and that message first if there is none.
    pub(super) async fn new_part(&mut self, part: Value) -> Value {
        let message_id = match &self.open {
            Some(open) => open.id.clone(),
            None => self.open_message().await,
        };
        let part = self.in_message(part, &message_id);
        self.put_part(part.clone()).await;
        part
    }

    /// Tells a piece of a text or reasoning part as it grows.
    pub(super) async fn delta(&mut self, part: &Value, delta: &str) {
        if let Some(open) = &mut self.open {
            open.output_characters += delta.len();
        }
        let properties = json!({
            "sessionID": self.session_id, "messageID": part["messageID"], "partID": part["id"],
            "field": "text", "delta": delta,
        });
        self.tell("message.part.delta", &properties, Durability::Transient)
            .await;
    }

    /// Keeps and tells a part as it is now.
    pub(super) async fn put_part(&self, part: Value) {
        self.stage.put_part(self.session_id, part.clone());
        let properties =
            json!({"sessionID": self.session_id, "part": part, "time": self.stage.now()});
        self.tell("message.part.updated", &properties, Durability::Durable)
            .await;
    }

    /// Counts what a tool gave the model to read.
    pub(super) fn read(&mut self, text: &str) {
        self.input_characters += text.len();
    }

    /// Completes the open assistant message, if there is one.
    pub(super) async fn finish(&mut self, finish: Finish) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let (tokens, cost) = self.usage(open.output_characters);
        let part = json!({
            "type": "step-finish", "id": self.stage.new_id("prt"), "reason": finish.as_str(),
            "tokens": tokens, "cost": cost,
        });
        self.put_part(self.in_message(part, &open.id)).await;
        self.input_characters += open.output_characters;
        open.info["tokens"] = tokens;
        open.info["cost"] = cost;
        open.info["finish"] = finish.as_str().into();
        open.info["time"]["completed"] = self.stage.now().into();
        self.put_message(open.info).await;
    }

    /// Completes the open assistant message with an error.
    pub(super) async fn fail(&mut self, error: &Value) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.info["error"] = error.clone();
        open.info["time"]["completed"] = self.stage.now().into();
        self.put_message(open.info).await;
    }

    /// Tells an event about this session's directory.
    pub(super) async fn tell(&self, event_type: &str, properties: &Value, durability: Durability) {
        self.stage
            .publish(self.directory, event_type, properties, durability)
            .await;
    }

    async fn open_message(&mut self) -> String {
        let id = self.stage.new_id("msg");
        let info = json!({
            "id": id, "parentID": self.user_id, "role": "assistant", "mode": "build",
            "agent": "build", "path": {"cwd": self.directory, "root": self.directory},
            "cost": 0, "tokens": no_tokens(), "modelID": self.model["modelID"],
            "providerID": self.model["providerID"], "time": {"created": self.stage.now()},
            "sessionID": self.session_id,
        });
        self.open = Some(OpenMessage {
            info: info.clone(),
            id: id.clone(),
            output_characters: 0,
        });
        self.put_message(info).await;
        let part = json!({"type": "step-start", "id": self.stage.new_id("prt")});
        self.put_part(self.in_message(part, &id)).await;
        id
    }

    fn in_message(&self, mut part: Value, message_id: &str) -> Value {
        if part["id"].is_null() {
            part["id"] = self.stage.new_id("prt").into();
        }
        part["messageID"] = message_id.into();
        part["sessionID"] = self.session_id.into();
        part
    }

    async fn put_message(&self, info: Value) {
        self.stage.put_message(self.session_id, info.clone());
        let properties = json!({"sessionID": self.session_id, "info": info});
        self.tell("message.updated", &properties, Durability::Durable)
            .await;
    }

    fn usage(&self, output_characters: usize) -> (Value, Value) {
        let input = u32::try_from(self.input_characters / CHARACTERS_PER_TOKEN).unwrap_or(u32::MAX);
        let output = u32::try_from(output_characters / CHARACTERS_PER_TOKEN).unwrap_or(u32::MAX);
        let tokens = json!({
            "total": u64::from(input) + u64::from(output), "input": input, "output": output,
            "reasoning": 0, "cache": {"read": 0, "write": 0},
        });
        let cost =
            f64::from(input) * COST_PER_INPUT_TOKEN + f64::from(output) * COST_PER_OUTPUT_TOKEN;
        (tokens, cost.into())
    }
}
