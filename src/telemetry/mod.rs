//! What the process says about itself: structured logs on stderr.
//!
//! Ground: every room logs by `tracing`, and only this file decides where that goes. stdout belongs
//! to a command's data, so logs never go there.
//!
//! Absent on purpose: log files and rotation (systemd's journal or whoever started us keeps
//! stderr), and colour anywhere but on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Why logging can't begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("use the log filter `{filter}`")]
    Filter {
        /// As given.
        filter: String,
        /// Where it is wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something in this process already receives the logs.
    #[error("begin logging a second time")]
    AlreadyBegun,
}

/// Begins to log to stderr what `filter` lets through, for the rest of the process.
///
/// # Errors
/// If the filter can't be parsed, or logging has begun already.
pub fn begin(filter: &str) -> Result<(), Error> {
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| Error::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|_| Error::AlreadyBegun)
}

#[cfg(test)]
mod tests {
    use super::{Error, begin};

    #[test]
    fn a_wrong_filter_is_named() {
        let error = begin("gastownd=loud").expect_err("no such level");
        assert!(matches!(error, Error::Filter { .. }));
        assert!(error.to_string().contains("gastownd=loud"));
    }
}
