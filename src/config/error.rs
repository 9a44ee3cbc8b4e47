//! Why the settings could not be had.

use std::path::PathBuf;

use super::layers::Source;

/// Every variant is for a person to correct; the text names the place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was named can't be read.
    #[error("read the config file {}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("read the config file {}: line {line}: {reason}", path.display())]
    FileNotToml {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The file has a key that is no setting.
    #[error(
        "read the config file {}: unknown key `{key}`; the nearest valid one is `{nearest}`",
        path.display()
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as written.
        key: String,
        /// The setting whose name is most like it.
        nearest: &'static str,
    },
    /// A setting's value can't be used.
    #[error("use `{value}` as setting `{key}` ({from}): {reason}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// The value as written.
        value: String,
        /// Which layer it came from.
        from: Source,
        /// What would be right.
        reason: String,
    },
    /// Two settings that are fine by themselves can't stand together.
    #[error("combine the settings: {reason}")]
    Conflict {
        /// Which, and what to do.
        reason: &'static str,
    },
}
