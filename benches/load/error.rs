//! Why a benchmark could not go on, in words for the person who started it.

/// One line that says what is wrong and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds what was tried to an error of the system or of a library.
pub(crate) trait During<T> {
    fn during(self, what: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> During<T> for std::result::Result<T, E> {
    fn during(self, what: &str) -> Result<T> {
        self.map_err(|error| Error(format!("failed to {what}: {error}")))
    }
}

/// An error of these words.
pub(crate) fn fail<T>(words: impl Into<String>) -> Result<T> {
    Err(Error(words.into()))
}
