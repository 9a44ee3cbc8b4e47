//! From what a client sent to sound values, or to everything that is wrong with it.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::config::Issue;
use crate::model::{Json, UnknownVariant};

use super::describe::{self, Notes};
use super::error::ApiError;

/// Characters of a bead's title or a mail's subject: a line, if a long one.
pub(super) const TITLE: RangeInclusive<usize> = 1..=1000;
/// Characters of a message that must say something.
pub(super) const MESSAGE: RangeInclusive<usize> = 1..=usize::MAX;
/// Characters of a name.
pub(super) const NAME: RangeInclusive<usize> = 1..=64;
/// Characters of a reference: a branch, an identity, an url.
pub(super) const REFERENCE: RangeInclusive<usize> = 1..=2048;
/// Characters of a text; the body's own limit is what counts.
pub(super) const TEXT: RangeInclusive<usize> = 0..=usize::MAX;
/// Labels of one list.
pub(super) const LABELS_MAX: usize = 100;
/// Questions of an ask, and answers to one of them.
const ANSWERS_MAX: usize = 100;
/// Levels of JSON that a client stores in a row. Rows are shown inside other JSON, and readers of
/// JSON commonly stop at 128 levels.
const NESTING_MAX: usize = 100;

/// A JSON object's fields, read one by one; what is wrong is collected, so that a client learns
/// everything at once. Fields that nobody asks for are ignored.
pub(super) struct Fields<'a> {
    fields: HashMap<String, &'a RawValue>,
    issues: Vec<Issue>,
    /// Where it is noted what is asked for, if that is all that is wanted.
    notes: Option<Notes>,
}

impl<'a> Fields<'a> {
    /// Reads a body that must be a JSON object; an empty one counts as `{}`.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, ApiError> {
        let fields = if body.iter().all(u8::is_ascii_whitespace) {
            HashMap::new()
        } else {
            serde_json::from_slice(body).map_err(|error| {
                let message = format!("the body must be a JSON object: {error}");
                ApiError::invalid(vec![Issue {
                    path: Vec::new(),
                    message,
                }])
            })?
        };
        Ok(Self::of(fields))
    }

    fn of(fields: HashMap<String, &'a RawValue>) -> Self {
        Self {
            fields,
            issues: Vec::new(),
            notes: None,
        }
    }

    /// No fields; what is asked for is noted.
    pub(super) fn noting(notes: Notes) -> Self {
        Self {
            notes: Some(notes),
            ..Self::of(HashMap::new())
        }
    }

    fn note(&self, field: &str, schema: impl FnOnce() -> Value) {
        if let Some(notes) = &self.notes {
            notes.field(field, schema());
        }
    }

    /// Ends the reading: an error if anything was wrong.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        if self.issues.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(self.issues))
        }
    }

    pub(super) fn issue(&mut self, field: &str, message: impl Into<String>) {
        self.issues.push(Issue {
            path: vec![field.to_owned()],
            message: message.into(),
        });
    }

    /// The field's JSON; `None` if it is missing or null.
    fn raw(&self, field: &str) -> Option<&'a RawValue> {
        self.fields
            .get(field)
            .copied()
            .filter(|raw| raw.get() != "null")
    }

    fn parse<T: Deserialize<'a>>(&mut self, field: &str, expected: &str) -> Option<T> {
        let raw = self.raw(field)?;
        let value = serde_json::from_str(raw.get()).ok();
        if value.is_none() {
            self.issue(field, format!("must be {expected}"));
        }
        value
    }

    /// Text of so many characters; missing or null is `None`.
    pub(super) fn text(&mut self, field: &str, chars: RangeInclusive<usize>) -> Option<String> {
        self.note(field, || describe::text(*chars.start(), *chars.end()));
        let text: String = self.parse(field, "a string")?;
        let count = text.chars().count();
        if chars.contains(&count) {
            return Some(text);
        }
        let (least, most) = (chars.start(), chars.end());
        self.issue(
            field,
            format!("must be {least} to {most} characters, not {count}"),
        );
        None
    }

    /// Text that must be there.
    pub(super) fn required_text(&mut self, field: &str, chars: RangeInclusive<usize>) -> String {
        self.required(field, |fields| fields.text(field, chars))
            .unwrap_or_default()
    }

    fn required<T>(&mut self, field: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if let Some(notes) = self.notes.clone() {
            let value = read(self);
            notes.require(field);
            return value;
        }
        if self.raw(field).is_none() {
            self.issue(field, "is required");
            return None;
        }
        read(self)
    }

    /// A whole number; missing or null is `None`.
    pub(super) fn whole(&mut self, field: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.note(field, || describe::number(*allowed.start(), *allowed.end()));
        let number: u64 = self.parse(field, "a whole number")?;
        if allowed.contains(&number) {
            return Some(number);
        }
        let (least, most) = (allowed.start(), allowed.end());
        self.issue(field, format!("must be {least} to {most}"));
        None
    }

    /// One of an enum's names; missing or null is `None`.
    pub(super) fn choice<T: FromStr<Err = UnknownVariant>>(&mut self, field: &str) -> Option<T> {
        self.note(field, || describe::choice(allowed::<T>()));
        let text: String = self.parse(field, "a string")?;
        text.parse()
            .map_err(|error: UnknownVariant| self.issue(field, error.to_string()))
            .ok()
    }

    /// One of an enum's names that must be there.
    pub(super) fn required_choice<T: FromStr<Err = UnknownVariant>>(
        &mut self,
        field: &str,
    ) -> Option<T> {
        self.required(field, |fields| fields.choice(field))
    }

    /// One of these names, for what it stands; it must be there.
    pub(super) fn required_one_of<T: Copy>(
        &mut self,
        field: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let allowed = names.join(", ");
        self.required(field, |fields| {
            fields.note(field, || describe::choice(&allowed));
            let text: String = fields.parse(field, "a string")?;
            let chosen = choices.iter().find(|(name, _)| *name == text);
            if chosen.is_none() {
                fields.issue(field, format!("must be one of {allowed}"));
            }
            chosen.map(|(_, value)| *value)
        })
    }

    /// An id; missing or null is `None`.
    pub(super) fn id<T: FromStr>(&mut self, field: &str) -> Option<T> {
        self.note(field, describe::id);
        let text: String = self.parse(field, "a string")?;
        let id = text.parse().ok();
        if id.is_none() {
            self.issue(field, "must be a UUID");
        }
        id
    }

    /// An id that must be there.
    pub(super) fn required_id<T: FromStr>(&mut self, field: &str) -> Option<T> {
        self.required(field, |fields| fields.id(field))
    }

    /// A JSON object that is kept as it is; missing or null is the empty one.
    pub(super) fn object(&mut self, field: &str) -> Json {
        self.note(field, describe::object);
        let Some(raw) = self.raw(field) else {
            return Json::empty_object();
        };
        if !raw.get().starts_with('{') {
            self.issue(field, "must be an object");
        }
        self.nesting(field, raw);
        Json::from_valid(raw.get())
    }

    /// Any JSON value; `None` only if the field is missing.
    pub(super) fn json(&mut self, field: &str) -> Option<Json> {
        self.note(field, || json!({}));
        let raw = self.fields.get(field).copied()?;
        self.nesting(field, raw);
        Some(Json::from_valid(raw.get()))
    }

    /// Any JSON value, null included, that must be there.
    pub(super) fn required_json(&mut self, field: &str) -> Json {
        if let Some(json) = self.json(field) {
            return json;
        }
        if let Some(notes) = &self.notes {
            notes.require(field);
        }
        self.issue(field, "is required");
        Json::empty_object()
    }

    fn nesting(&mut self, field: &str, raw: &RawValue) {
        if nesting(raw.get()) > NESTING_MAX {
            self.issue(field, format!("must be at most {NESTING_MAX} levels deep"));
        }
    }

    /// Any JSON value of a bounded length; `null` if the field is missing.
    pub(super) fn sized_json(&self, field: &str, bytes_max: usize) -> Result<Json, ApiError> {
        self.note(field, || json!({}));
        let raw = self.fields.get(field).map_or("null", |raw| raw.get());
        if raw.len() > bytes_max {
            return Err(ApiError::too_large(field, bytes_max));
        }
        Ok(Json::from_valid(raw))
    }

    /// Short texts; missing or null is none.
    pub(super) fn labels(&mut self, field: &str) -> Vec<String> {
        self.note(field, describe::labels);
        let labels: Vec<String> = self.parse(field, "an array of strings").unwrap_or_default();
        let sound = labels.len() <= LABELS_MAX
            && labels
                .iter()
                .all(|label| NAME.contains(&label.chars().count()));
        if !sound {
            let most = NAME.end();
            self.issue(
                field,
                format!("must be at most {LABELS_MAX} labels of 1 to {most} characters"),
            );
        }
        labels
    }

    /// A number within bounds; missing or null is `None`.
    pub(super) fn number(&mut self, field: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.note(
            field,
            || json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}),
        );
        let (least, most) = (range.start(), range.end());
        let expected = format!("a whole number from {least} to {most}");
        let number: u64 = self.parse(field, &expected)?;
        if range.contains(&number) {
            return Some(number);
        }
        self.issue(field, format!("must be {expected}"));
        None
    }

    /// `true` or `false`; missing or null is `None`.
    pub(super) fn flag(&mut self, field: &str) -> Option<bool> {
        self.note(field, || json!({"type": "boolean"}));
        self.parse(field, "true or false")
    }

    /// Answers to questions, a list for each; missing or null is `None`.
    pub(super) fn answers(&mut self, field: &str) -> Option<Vec<Vec<String>>> {
        self.note(
            field,
            || json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}),
        );
        let answers: Vec<Vec<String>> = self.parse(field, "an array of arrays of strings")?;
        let sound = answers.len() <= ANSWERS_MAX
            && answers.iter().all(|chosen| chosen.len() <= ANSWERS_MAX);
        if !sound {
            self.issue(
                field,
                format!("must be at most {ANSWERS_MAX} by {ANSWERS_MAX}"),
            );
        }
        Some(answers)
    }

    /// The objects of an array that has at least one.
    pub(super) fn objects(&mut self, field: &str) -> Vec<Fields<'a>> {
        self.note(field, || json!({"type": "array"}));
        let objects: Option<Vec<HashMap<String, &'a RawValue>>> =
            self.required(field, |fields| fields.parse(field, "an array of objects"));
        if self.notes.is_some() {
            // One, to see what its fields are.
            return vec![Fields::noting(Notes::default())];
        }
        if objects.as_ref().is_some_and(Vec::is_empty) {
            self.issue(field, "must have at least one");
        }
        let objects = objects.unwrap_or_default().into_iter();
        objects.map(Fields::of).collect()
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.issues.is_empty()
    }

    /// An object that must be there, read by `read`; what is wrong in it is named by its path.
    pub(super) fn part<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Fields<'a>) -> T,
    ) -> Option<T> {
        if let Some(notes) = &self.notes {
            let inner = Notes::default();
            let value = read(&mut Fields::noting(inner.clone()));
            notes.field(field, describe::object_of(&inner.asked().fields));
            notes.require(field);
            return Some(value);
        }
        let fields: HashMap<String, &'a RawValue> =
            self.required(field, |fields| fields.parse(field, "an object"))?;
        let mut part = Fields::of(fields);
        let value = read(&mut part);
        for mut issue in part.issues {
            issue.path.insert(0, field.to_owned());
            self.issues.push(issue);
        }
        Some(value)
    }

    /// Ids; missing or null is none.
    pub(super) fn ids<T: FromStr>(&mut self, field: &str, most: usize) -> Vec<T> {
        self.note(field, || describe::ids(most));
        let texts: Vec<String> = self.parse(field, "an array of UUIDs").unwrap_or_default();
        let ids: Vec<T> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        if ids.len() < texts.len() || ids.len() > most {
            self.issue(field, format!("must be at most {most} UUIDs"));
        }
        ids
    }

    /// Takes over what was wrong with a part.
    pub(super) fn absorb(&mut self, field: &str, index: usize, part: Fields<'_>) {
        if let Some(notes) = &part.notes {
            let items = describe::object_of(&notes.asked().fields);
            self.note(field, || json!({"type": "array", "items": items}));
        }
        for mut issue in part.issues {
            issue
                .path
                .splice(0..0, [field.to_owned(), index.to_string()]);
            self.issues.push(issue);
        }
    }
}

/// The names of an enum, joined by commas. No variant has the empty name.
pub(super) fn allowed<T: FromStr<Err = UnknownVariant>>() -> &'static str {
    "".parse::<T>().err().map_or("", |unknown| unknown.allowed)
}

/// How deep the arrays and objects of a JSON text lie in each other.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BeadId, Priority};

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let body =
            br#"{"title": 7, "priority": "huge", "parent": "x", "metadata": [], "labels": "a"}"#;
        let mut fields = Fields::of_body(body).ok().unwrap();
        fields.required_text("title", TITLE);
        fields.required_text("missing", TITLE);
        assert_eq!(fields.choice::<Priority>("priority"), None);
        assert_eq!(fields.id::<BeadId>("parent"), None);
        fields.object("metadata");
        fields.labels("labels");
        let names: Vec<String> = fields
            .issues
            .iter()
            .map(|issue| issue.path.join("."))
            .collect();
        assert_eq!(
            names,
            [
                "title", "missing", "priority", "parent", "metadata", "labels"
            ]
        );
    }

    #[test]
    fn json_is_kept_to_the_letter() {
        let body = br#"{"data": {"n": 12345678901234567890123, "x": 1.0}, "null": null}"#;
        let mut fields = Fields::of_body(body).ok().unwrap();
        let data = fields.json("data").unwrap();
        assert_eq!(data.as_str(), r#"{"n": 12345678901234567890123, "x": 1.0}"#);
        assert_eq!(fields.json("null").unwrap().as_str(), "null");
        assert!(fields.json("absent").is_none());
    }

    #[test]
    fn what_no_reader_could_read_back_is_refused() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let cases = [
            (nested(NESTING_MAX), true),
            (nested(NESTING_MAX + 1), false),
            (format!("{:?}", nested(NESTING_MAX + 1)), true),
            (format!(r#""\"{}""#, nested(NESTING_MAX + 1)), true),
            (format!(r#"["\\",{}]"#, nested(NESTING_MAX)), false),
        ];
        for (json, is_sound) in cases {
            let body = format!(r#"{{"data":{json}}}"#);
            let mut fields = Fields::of_body(body.as_bytes()).ok().unwrap();
            fields.json("data");
            assert_eq!(fields.finish().is_ok(), is_sound, "{json}");
        }
    }

    #[test]
    fn bodies_that_are_not_objects_are_refused() {
        for body in ["[]", "1", "\"x\"", "{", "null", "{} {}", "\u{0}"] {
            assert!(Fields::of_body(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::of_body(b" \n").is_ok());
    }
}
