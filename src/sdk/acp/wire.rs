//! Between the protocol's words and those that the events and the town's config have.

use agent_client_protocol::v1::schema::{
    ContentBlock, EmbeddedResourceResource, PlanEntryStatus, ToolCall, ToolCallContent,
    ToolCallStatus, ToolKind, Usage,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// How much of a tool's output is told. An event must fit its limit, and nobody reads more.
const OUTPUT_MAX: usize = 256 * 1024;

/// What an agent of this protocol is started with: the config that the container makes of a town's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::sdk) struct Settings {
    /// The program and its arguments.
    pub(in crate::sdk) command: Vec<String>,
    /// The town's permissions: an action, or an object by tool.
    pub(in crate::sdk) permission: Value,
}

impl Settings {
    /// Reads the config; what it lacks is empty.
    pub(in crate::sdk) fn of(config: &Value) -> Self {
        serde_json::from_value(config.clone()).unwrap_or_default()
    }
}

/// Tokens of a session so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    input: u64,
    output: u64,
    reasoning: u64,
    cache_read: u64,
    cache_write: u64,
}

impl Spent {
    pub(super) fn of(usage: &Usage) -> Self {
        Self {
            input: usage.input_tokens,
            output: usage.output_tokens,
            reasoning: usage.thought_tokens.unwrap_or_default(),
            cache_read: usage.cached_read_tokens.unwrap_or_default(),
            cache_write: usage.cached_write_tokens.unwrap_or_default(),
        }
    }

    /// What is new since `before`. The protocol counts for the whole session, but there are agents
    /// that count for each turn: a count that fell is such a one, and is new as a whole.
    pub(super) fn since(self, before: Self) -> Self {
        let rose = self.input >= before.input && self.output >= before.output;
        let before = if rose { before } else { Self::default() };
        Self {
            input: self.input - before.input,
            output: self.output - before.output,
            reasoning: self.reasoning.saturating_sub(before.reasoning),
            cache_read: self.cache_read.saturating_sub(before.cache_read),
            cache_write: self.cache_write.saturating_sub(before.cache_write),
        }
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "input": self.input, "output": self.output, "reasoning": self.reasoning,
            "cache": {"read": self.cache_read, "write": self.cache_write},
        })
    }
}

/// The text of a block, or a word for what is none.
pub(super) fn text_of(content: &ContentBlock) -> Option<String> {
    match content {
        ContentBlock::Text(text) => Some(text.text.clone()),
        ContentBlock::ResourceLink(link) => Some(link.uri.clone()),
        ContentBlock::Resource(resource) => match &resource.resource {
            EmbeddedResourceResource::TextResourceContents(text) => Some(text.text.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// The tool's name as the town's permissions and the page know it.
pub(super) fn opencode_tool(call: &ToolCall) -> String {
    if let Some(name) = &call.name {
        return name.clone();
    }
    match call.kind {
        ToolKind::Read => "read",
        ToolKind::Edit | ToolKind::Delete | ToolKind::Move => "edit",
        ToolKind::Search => "grep",
        ToolKind::Execute => "bash",
        ToolKind::Fetch => "webfetch",
        // A title that is one word is the tool's name; tools of a tool server have no other.
        _ if !call.title.is_empty() && !call.title.contains(char::is_whitespace) => &call.title,
        ToolKind::Think => "think",
        _ => "tool",
    }
    .to_owned()
}

pub(super) const fn tool_status(status: ToolCallStatus) -> &'static str {
    match status {
        ToolCallStatus::InProgress => "running",
        ToolCallStatus::Completed => "completed",
        ToolCallStatus::Failed => "error",
        _ => "pending",
    }
}

pub(super) const fn plan_status(status: &PlanEntryStatus) -> &'static str {
    match status {
        PlanEntryStatus::InProgress => "in_progress",
        PlanEntryStatus::Completed => "completed",
        _ => "pending",
    }
}

/// What a tool was called with, as an object.
pub(super) fn tool_input(call: &ToolCall) -> Value {
    match &call.raw_input {
        Some(input @ Value::Object(_)) => input.clone(),
        Some(input) if !input.is_null() => json!({"input": input}),
        _ => json!({}),
    }
}

/// What a tool has put out: its content as text, or else whatever the agent calls its output.
pub(super) fn tool_output(call: &ToolCall) -> String {
    let mut text = String::new();
    for content in &call.content {
        let more = match content {
            ToolCallContent::Content(content) => text_of(&content.content),
            ToolCallContent::Diff(diff) => Some(diff.path.to_string_lossy().into_owned()),
            _ => None,
        };
        if let Some(more) = more {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&more);
        }
    }
    if text.is_empty() {
        text = match &call.raw_output {
            Some(Value::String(output)) => output.clone(),
            Some(Value::Object(fields)) if fields.get("output").is_some_and(Value::is_string) => {
                fields["output"].as_str().unwrap_or_default().to_owned()
            }
            Some(output) if !output.is_null() => output.to_string(),
            _ => text,
        };
    }
    shortened(text)
}

fn shortened(mut text: String) -> String {
    if text.len() > OUTPUT_MAX {
        let end = text.floor_char_boundary(OUTPUT_MAX);
        text.truncate(end);
        text.push_str("\n...");
    }
    text
}
