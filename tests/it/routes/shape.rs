//! Whether an answer has the shape of a recorded one.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::samples;

/// Names of fields that are null in some recording, and so may be.
static NULLABLE: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if value.is_null() {
                        names.insert(name.clone());
                    }
                    collect(value, names);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    for sample in samples::all() {
        collect(&sample.response, &mut names);
    }
    names
});

/// What of `expected` is not in `found`; more may be there.
pub(super) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare(expected, found, "answer", &mut differences);
    differences
}

fn compare(expected: &Value, found: &Value, at: &str, differences: &mut Vec<String>) {
    let name = at.rsplit(['.', '[']).next().unwrap_or(at);
    match (expected, found) {
        (Value::Null, _) => {}
        (_, Value::Null) if NULLABLE.contains(name) => {}
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                match found.get(name) {
                    Some(other) => compare(value, other, &format!("{at}.{name}"), differences),
                    None => differences.push(format!("{at}.{name} is missing")),
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if let Some(one) = expected.first() {
                if found.is_empty() {
                    differences.push(format!("{at} is empty"));
                }
                for (index, other) in found.iter().enumerate() {
                    compare(one, other, &format!("{at}[{index}"), differences);
                }
            }
        }
        (Value::String(expected), Value::String(found)) => {
            for (kind, is) in [("a time", is_time as fn(&str) -> bool), ("a UUID", is_uuid)] {
                // A session that has begun has the agent server's own id.
                if is(expected) && !is(found) && name != "sessionId" {
                    differences.push(format!("{at} is {found:?}, not {kind}"));
                }
            }
        }
        (Value::Bool(_), Value::Bool(_)) => {}
        (Value::Number(expected), Value::Number(found)) if expected.is_u64() == found.is_u64() => {}
        _ => differences.push(format!("{at} is {found}, recorded was {expected}")),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::parse_str(text).is_ok()
}

/// RFC 3339 with milliseconds and `Z`.
fn is_time(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00.000Z";
    let fits = |(a, b): (char, char)| if b == '0' { a.is_ascii_digit() } else { a == b };
    text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits)
}
