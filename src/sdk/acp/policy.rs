//! What an agent may do without asking: the town's permissions, which opencode and Kilo judge
//! themselves, judged for an agent that only asks.
//!
//! An action is `allow`, `ask` or `deny`; permissions are one, or one for each tool, or for a tool one
//! for each pattern of what it is called with. `*` in a name or pattern stands for any text, and of
//! those that fit the longest counts. What leaves the agent's folder is a matter of
//! `external_directory` as well, and the stricter word counts.

use std::path::{Component, Path};

use agent_client_protocol::v1::schema::ToolCall;
use serde_json::{Map, Value};

use super::wire::opencode_tool;

/// The permission for what is outside the agent's folder.
const EXTERNAL: &str = "external_directory";

/// What is to be done about an ask; the later the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Allow,
    Ask,
    Deny,
}

/// What an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The permission's name in the town's config.
    pub(super) permission: String,
    /// What it is for: commands, paths.
    pub(super) patterns: Vec<String>,
}

impl Ask {
    /// What a tool call needs.
    pub(super) fn of(call: &ToolCall) -> Self {
        let input = |name: &str| call.raw_input.as_ref()?.get(name)?.as_str();
        let command = input("command").map(str::to_owned);
        let mut patterns: Vec<String> = command.into_iter().collect();
        if patterns.is_empty() {
            let paths = call.locations.iter();
            patterns.extend(paths.map(|place| place.path.to_string_lossy().into_owned()));
        }
        if patterns.is_empty() && !call.title.is_empty() {
            patterns.push(call.title.clone());
        }
        Self {
            permission: opencode_tool(call),
            patterns,
        }
    }
}

/// What the town's permissions say to a tool call of an agent that works in `directory`.
pub(super) fn judge(permissions: &Value, ask: &Ask, call: &ToolCall, directory: &Path) -> Verdict {
    let own = verdict(permissions, &ask.permission, &ask.patterns);
    let outside: Vec<String> = call
        .locations
        .iter()
        .filter(|place| is_outside(&place.path, directory))
        .map(|place| place.path.to_string_lossy().into_owned())
        .collect();
    if outside.is_empty() {
        own
    } else {
        own.max(verdict(permissions, EXTERNAL, &outside))
    }
}

/// A path that goes up again may lead anywhere.
fn is_outside(path: &Path, directory: &Path) -> bool {
    let inside = path.is_relative() || path.starts_with(directory);
    !inside || path.components().any(|part| part == Component::ParentDir)
}

fn verdict(permissions: &Value, permission: &str, patterns: &[String]) -> Verdict {
    let rule = match permissions {
        Value::Object(rules) => longest_fit(rules, permission),
        rule => Some(rule),
    };
    match rule {
        Some(Value::Object(rules)) => patterns
            .iter()
            .map(|text| action(longest_fit(rules, text)))
            .max()
            .unwrap_or_else(|| action(rules.get("*"))),
        rule => action(rule),
    }
}

/// Where nothing is said, everything is allowed, because the container is the wall. A word that is
/// none of ours is asked about rather than guessed at.
fn action(rule: Option<&Value>) -> Verdict {
    match rule {
        None | Some(Value::Null) => Verdict::Allow,
        Some(rule) => match rule.as_str() {
            Some("allow") => Verdict::Allow,
            Some("deny") => Verdict::Deny,
            _ => Verdict::Ask,
        },
    }
}

fn longest_fit<'a>(rules: &'a Map<String, Value>, text: &str) -> Option<&'a Value> {
    rules
        .iter()
        .filter(|(pattern, _)| fits(pattern, text))
        .max_by_key(|(pattern, _)| pattern.len())
        .map(|(_, rule)| rule)
}

/// Whether `text` is of the pattern, in which `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use agent_client_protocol::v1::schema::{ToolCallLocation, ToolKind};
    use serde_json::json;

    use super::*;

    fn call(kind: ToolKind, command: Option<&str>, path: Option<&str>) -> ToolCall {
        let mut call = ToolCall::new("call_1", "a title").kind(kind);
        call.raw_input = command.map(|command| json!({"command": command}));
        call.locations = path.into_iter().map(ToolCallLocation::new).collect();
        call
    }

    #[track_caller]
    fn check(permissions: &Value, call: &ToolCall, expected: Verdict) {
        let verdict = judge(permissions, &Ask::of(call), call, Path::new("/w/toast"));
        assert_eq!(verdict, expected, "{permissions} {call:?}");
    }

    #[test]
    fn the_longest_rule_that_fits_counts() {
        let run = |command| call(ToolKind::Execute, Some(command), None);
        check(&json!("ask"), &run("ls"), Verdict::Ask);
        check(&json!({"*": "allow"}), &run("ls"), Verdict::Allow);
        check(&json!({}), &run("ls"), Verdict::Allow);
        check(&json!(null), &run("ls"), Verdict::Allow);
        check(
            &json!({"*": "allow", "bash": "deny"}),
            &run("ls"),
            Verdict::Deny,
        );
        let by_pattern =
            json!({"*": "allow", "bash": {"*": "ask", "git *": "allow", "git push*": "deny"}});
        check(&by_pattern, &run("rm x"), Verdict::Ask);
        check(&by_pattern, &run("git status"), Verdict::Allow);
        check(&by_pattern, &run("git push --force"), Verdict::Deny);
        check(
            &json!({"bash": {"git *": "ask"}}),
            &run("ls"),
            Verdict::Allow,
        );
        check(&json!({"bash": "perhaps"}), &run("ls"), Verdict::Ask);
    }

    #[test]
    fn what_leaves_the_folder_is_judged_twice() {
        let edit = |path| call(ToolKind::Edit, None, Some(path));
        let strict = json!({"*": "allow", "external_directory": "ask"});
        check(&strict, &edit("/w/toast/src/a.rs"), Verdict::Allow);
        check(&strict, &edit("/w/maple/src/a.rs"), Verdict::Ask);
        check(&strict, &edit("src/a.rs"), Verdict::Allow);
        check(&strict, &edit("/w/toast/../maple/a.rs"), Verdict::Ask);
        check(&json!({"*": "allow"}), &edit("/etc/passwd"), Verdict::Allow);
        let denied = json!({"edit": "deny", "external_directory": "allow"});
        check(&denied, &edit("/etc/passwd"), Verdict::Deny);
    }

    #[test]
    fn stars_stand_for_any_text() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        };
        check("ls", "ls", true);
        check("ls", "ls -l", false);
        check("*", "", true);
        check("git *", "git", false);
        check("*.env", "/w/.env", true);
        check("a*b*c", "axxbyyc", true);
        check("a*b*c", "axxcyyb", false);
        check("a*a", "a", false);
        check("gt_*", "gt_done", true);
    }
}
