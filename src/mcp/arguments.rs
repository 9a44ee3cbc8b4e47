//! The arguments of one call, checked against the catalogue.

use rmcp::model::JsonObject;
use serde_json::Value;

use crate::model::{BeadId, BeadStatus, MailType, Priority};

use super::catalogue::{Entry, Kind, names};

/// Arguments that fit their tool: every required one is there and each is of its kind.
pub(super) struct Arguments(JsonObject);

impl Arguments {
    /// Checks them; the error tells the model all that is wrong at once.
    pub(super) fn check(tool: &Entry, mut given: JsonObject) -> Result<Self, String> {
        let mut wrong = Vec::new();
        for name in given.keys() {
            if !tool.arguments.iter().any(|argument| argument.name == name) {
                wrong.push(format!("there is no argument `{name}`"));
            }
        }
        for argument in tool.arguments {
            // Models write null or "" for what they mean to leave out.
            if !argument.required && given.get(argument.name).is_some_and(is_blank) {
                given.remove(argument.name);
            }
            let name = argument.name;
            match given.get(name) {
                None if argument.required => wrong.push(format!("`{name}` is missing")),
                None => {}
                Some(value) => {
                    wrong.extend(
                        misfit(argument.kind, value).map(|rule| format!("`{name}` {rule}")),
                    );
                }
            }
        }
        if wrong.is_empty() {
            return Ok(Self(given));
        }
        Err(format!(
            "The arguments of `{}` are wrong: {}. Its arguments are: {}. Correct them and call it \
             again.",
            tool.name,
            wrong.join("; "),
            known(tool)
        ))
    }

    pub(super) fn text(&mut self, name: &str) -> String {
        self.text_if_any(name).expect("a required text was checked")
    }

    pub(super) fn text_if_any(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn bead(&mut self, name: &str) -> BeadId {
        self.bead_if_any(name).expect("a required id was checked")
    }

    pub(super) fn bead_if_any(&mut self, name: &str) -> Option<BeadId> {
        self.0.get(name).and_then(bead_id)
    }

    pub(super) fn status_if_any(&mut self, name: &str) -> Option<BeadStatus> {
        self.0.get(name)?.as_str()?.trim().parse().ok()
    }

    pub(super) fn priority_if_any(&mut self, name: &str) -> Option<Priority> {
        self.0.get(name)?.as_str()?.trim().parse().ok()
    }

    pub(super) fn mail_type(&mut self, name: &str) -> MailType {
        self.0.get(name).and_then(mail_type).unwrap_or_default()
    }

    pub(super) fn json(&mut self, name: &str) -> Value {
        self.0.remove(name).unwrap_or(Value::Null)
    }
}

fn known(tool: &Entry) -> String {
    let names: Vec<String> = tool
        .arguments
        .iter()
        .map(|argument| {
            let note = if argument.required { "" } else { " (optional)" };
            format!("{}{note}", argument.name)
        })
        .collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// What is wrong with the value, if it is not of that kind.
fn misfit(kind: Kind, value: &Value) -> Option<String> {
    let text = value.as_str().map_or("", str::trim);
    match kind {
        Kind::Json => None,
        Kind::Text => text
            .is_empty()
            .then(|| "must be text that is not empty".to_owned()),
        Kind::BeadId => bead_id(value)
            .is_none()
            .then(|| "must be a bead's id, a UUID as `prime` shows it".to_owned()),
        Kind::Status => text.parse::<BeadStatus>().err().map(|e| e.to_string()),
        Kind::Priority => text.parse::<Priority>().err().map(|e| e.to_string()),
        Kind::MailType => mail_type(value)
            .is_none()
            .then(|| format!("must be one of {}", names(MailType::FREE).join(", "))),
    }
}

fn mail_type(value: &Value) -> Option<MailType> {
    let named = value.as_str()?.trim().parse().ok();
    named.filter(|mail_type| MailType::FREE.contains(mail_type))
}

fn bead_id(value: &Value) -> Option<BeadId> {
    value.as_str()?.trim().parse().ok()
}
