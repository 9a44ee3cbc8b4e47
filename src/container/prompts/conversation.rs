//! A session's conversation as text, for the case that the agent server no longer has the session.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;

/// How much of a conversation is told: some pages, of which the newest count.
const BYTES_MAX: usize = 16 << 10;

/// How much of one text or one tool's output.
const PART_CHARS_MAX: usize = 1200;

/// A session's conversation, taken from its events one after another.
#[derive(Debug)]
pub struct Conversation {
    session_id: String,
    roles: HashMap<String, String>,
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    part_id: String,
    message_id: String,
    text: String,
}

#[derive(Deserialize)]
struct MessageUpdated {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    id: String,
    #[serde(rename = "sessionID")]
    session_id: String,
    role: String,
}

#[derive(Deserialize)]
struct PartUpdated {
    part: PartSeen,
}

#[derive(Deserialize)]
struct PartSeen {
    id: String,
    #[serde(rename = "messageID")]
    message_id: String,
    #[serde(rename = "sessionID")]
    session_id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    tool: String,
    state: Option<ToolState>,
}

#[derive(Deserialize)]
struct ToolState {
    #[serde(default)]
    input: serde_json::Value,
    #[serde(default)]
    output: String,
    #[serde(default)]
    error: String,
}

impl Conversation {
    /// Nothing yet of this session.
    #[must_use]
    pub fn of(session_id: &str) -> Self {
        Self {
            session_id: session_id.to_owned(),
            roles: HashMap::new(),
            parts: VecDeque::new(),
        }
    }

    /// Takes in one event of the agent; those that are not about what was said are ignored.
    pub fn take_in(&mut self, event_type: &str, data: &str) {
        match event_type {
            "message.updated" => {
                if let Ok(MessageUpdated { info }) = serde_json::from_str(data)
                    && info.session_id == self.session_id
                {
                    self.roles.insert(info.id, info.role);
                }
            }
            "message.part.updated" => {
                if let Ok(PartUpdated { part }) = serde_json::from_str(data)
                    && part.session_id == self.session_id
                {
                    self.take_in_part(part);
                }
            }
            _ => {}
        }
    }

    fn take_in_part(&mut self, part: PartSeen) {
        let text = match (part.kind.as_str(), part.state) {
            ("text", _) => shortened(&part.text),
            ("tool", Some(state)) => {
                let outcome = if state.error.is_empty() {
                    state.output
                } else {
                    format!("failed: {}", state.error)
                };
                let input = shortened(&state.input.to_string());
                format!("[{} {input}]\n{}", part.tool, shortened(&outcome))
            }
            _ => return,
        };
        // A part grows: what is told of it last counts.
        if let Some(known) = self.parts.iter_mut().find(|known| known.part_id == part.id) {
            known.text = text;
            return;
        }
        self.parts.push_back(Part {
            part_id: part.id,
            message_id: part.message_id,
            text,
        });
        let mut bytes: usize = self.parts.iter().map(|part| part.text.len()).sum();
        while bytes > BYTES_MAX {
            bytes -= self.parts.pop_front().map_or(bytes, |part| part.text.len());
        }
    }

    /// What was said, oldest first; `None` if nothing was.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for part in self
            .parts
            .iter()
            .filter(|part| !part.text.trim().is_empty())
        {
            let is_own = self.roles.get(&part.message_id).map(String::as_str) == Some("assistant");
            let who = if is_own { "You" } else { "To you" };
            text.push_str(&format!("{who}: {}\n\n", part.text.trim()));
        }
        (!text.is_empty()).then(|| text.trim_end().to_owned())
    }
}

/// A prompt that goes on with a conversation which its session does not know.
#[must_use]
pub fn with_conversation(prompt: &str, conversation: &str) -> String {
    format!(
        "{prompt}\n\n## The conversation so far\nYou worked on this before, in a session that is lost. \
         This is the end of what was said there (\"You\" is you; what was long is cut). Look at the state \
         of the worktree and go on from there.\n\n{conversation}"
    )
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(PART_CHARS_MAX).collect();
    if chars.next().is_some() {
        short.push_str(" ...");
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: &str, role: &str) -> String {
        json!({"info": {"id": id, "sessionID": "ses_1", "role": role}}).to_string()
    }

    fn text(part: &str, message: &str, session: &str, text: &str) -> String {
        json!({"part": {"id": part, "messageID": message, "sessionID": session, "type": "text",
            "text": text}})
        .to_string()
    }

    #[test]
    fn what_was_said_is_told_in_order_and_once() {
        let mut conversation = Conversation::of("ses_1");
        assert_eq!(conversation.text(), None);
        let tool = json!({"part": {"id": "p3", "messageID": "m2", "sessionID": "ses_1",
            "type": "tool", "tool": "bash", "state": {"status": "completed",
            "input": {"command": "ls"}, "output": "README.md"}}});
        for (event_type, data) in [
            ("message.updated", message("m1", "user")),
            (
                "message.part.updated",
                text("p1", "m1", "ses_1", "Paint it"),
            ),
            ("message.updated", message("m2", "assistant")),
            ("message.part.updated", text("p2", "m2", "ses_1", "I")),
            ("message.part.updated", text("p2", "m2", "ses_1", "I look")),
            ("message.part.updated", tool.to_string()),
            (
                "message.part.updated",
                text("p9", "m9", "ses_2", "elsewhere"),
            ),
            ("message.part.delta", "{}".to_owned()),
            ("message.part.updated", "[]".to_owned()),
        ] {
            conversation.take_in(event_type, &data);
        }
        let told = conversation.text().unwrap();
        assert_eq!(
            told,
            "To you: Paint it\n\nYou: I look\n\nYou: [bash {\"command\":\"ls\"}]\nREADME.md"
        );
        let prompt = with_conversation("Go on.", &told);
        assert!(prompt.starts_with("Go on.") && prompt.ends_with("README.md"));
    }

    #[test]
    fn of_a_long_conversation_the_end_is_told() {
        let mut conversation = Conversation::of("ses_1");
        for number in 0..100 {
            let words = format!("{number} {}", "word ".repeat(1000));
            let data = text(&format!("p{number}"), "m", "ses_1", &words);
            conversation.take_in("message.part.updated", &data);
        }
        let told = conversation.text().unwrap();
        assert!(told.len() < 2 * BYTES_MAX, "{}", told.len());
        assert!(told.contains(": 99 word") && !told.contains(": 10 word"));
    }
}
