//! JSON that a client owns and the town only keeps.

use std::fmt;

/// Compact JSON text of a value that the town stores and returns but does not interpret, for
/// example a bead's `metadata`. Whoever makes one guarantees that the text is valid JSON.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(String);

impl Json {
    /// Takes text that is known to be valid JSON.
    #[must_use]
    pub fn from_valid(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The empty object.
    #[must_use]
    pub fn empty_object() -> Self {
        Self("{}".to_owned())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
