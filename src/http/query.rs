//! A query string's parameters, read like a body's fields.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::model::UnknownVariant;
use crate::town::Page;

use super::describe::{self, Notes};
use super::error::ApiError;
use super::extract::allowed;

/// A query string's parameters.
#[derive(Debug, Default)]
pub(super) struct Query {
    parameters: Vec<(String, String)>,
    /// Where it is noted what is asked for, if that is all that is wanted.
    notes: Option<Notes>,
}

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let query = query.unwrap_or_default().as_bytes();
        Self {
            parameters: form_urlencoded::parse(query).into_owned().collect(),
            notes: None,
        }
    }

    /// No parameters; what is asked for is noted.
    pub(super) fn noting(notes: Notes) -> Self {
        Self {
            parameters: Vec::new(),
            notes: Some(notes),
        }
    }

    fn note(&self, name: &str, schema: impl FnOnce() -> Value) {
        if let Some(notes) = &self.notes {
            notes.query(name, schema());
        }
    }

    /// A parameter's text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.note(name, || describe::text(0, usize::MAX));
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// An enum's name; missing or empty is `None`.
    pub(super) fn choice<T: FromStr<Err = UnknownVariant>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        self.note(name, || describe::choice(allowed::<T>()));
        let Some(text) = self.find(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error: UnknownVariant| ApiError::invalid_field(name, error.to_string()))
    }

    /// An id; missing or empty is `None`.
    pub(super) fn id<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.note(name, describe::id);
        let Some(text) = self.find(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::invalid_field(name, "must be a UUID"))
    }

    /// `true` or `false`; missing or empty is `None`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.note(name, || json!({"type": "boolean"}));
        match self.find(name) {
            None | Some("") => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::invalid_field(name, "must be true or false")),
        }
    }

    /// Which part of a list is wanted.
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        let limit = self.number("limit", 100, 1..=1000)?;
        let offset = self.number("offset", 0, 0..=u64::from(u32::MAX))?;
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Page {
            limit: size(limit),
            offset: size(offset),
        })
    }

    /// A number within bounds.
    pub(super) fn number(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ApiError> {
        self.note(name, || describe::number(*range.start(), *range.end()));
        let Some(text) = self.find(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                ApiError::invalid_field(name, format!("must be a number from {least} to {most}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_survive_anything() {
        let query = Query::parse(Some("a=1&b=%41+c&b=2&&=x&c&d=%zz&e=%ff"));
        let values = ["a", "b", "c", "d", "e", "f"].map(|name| query.get(name));
        assert_eq!(
            values,
            [
                Some("1"),
                Some("A c"),
                Some(""),
                Some("%zz"),
                Some("\u{fffd}"),
                None
            ]
        );
        assert_eq!(query.number("a", 5, 0..=9).ok(), Some(1));
        assert!(query.number("b", 5, 0..=9).is_err());
        assert_eq!(query.number("f", 5, 0..=9).ok(), Some(5));
    }
}
