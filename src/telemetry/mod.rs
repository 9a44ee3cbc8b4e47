//! What the process says about itself: structured logs on stderr.
//!
//! Ground: every room logs by `tracing`, and only this file decides where that goes. stdout belongs
//! to a command's data, so logs never go there.
//!
//! Absent on purpose: log files and rotation (systemd's journal or whoever started us keeps
//! stderr), and colour anywhere but on a terminal.

mod chain;
pub mod metrics;

pub use chain::chain;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Libraries that tell at level info what only their authors want to know: rmcp logs three lines
/// per call of a tool. A filter that names the target itself covers this.
const QUIET: &str = "rmcp=warn";

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
    tracing_subscriber::fmt()
        .with_env_filter(parsed(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|_| Error::AlreadyBegun)
}

fn parsed(filter: &str) -> Result<EnvFilter, Error> {
    let parse = |text: &str| EnvFilter::builder().parse(text);
    // By itself first, so that an error tells of what the person wrote.
    parse(filter)
        .and_then(|_| parse(&format!("{QUIET},{filter}")))
        .map_err(|source| Error::Filter {
            filter: filter.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::{Error, parsed};

    #[test]
    fn a_wrong_filter_is_named() {
        let error = parsed("gastownd=loud").expect_err("no such level");
        assert!(matches!(error, Error::Filter { .. }));
        assert!(error.to_string().contains("gastownd=loud"));
    }

    #[test]
    fn a_library_is_quiet_unless_it_is_named() {
        for (filter, directives) in [
            ("info", ["info", "rmcp=warn"]),
            ("debug", ["debug", "rmcp=warn"]),
            ("info,rmcp=trace", ["info", "rmcp=trace"]),
        ] {
            let shown = parsed(filter).expect("a sound filter").to_string();
            let mut found: Vec<&str> = shown.split(',').collect();
            found.sort_unstable();
            assert_eq!(found, directives, "{filter}");
        }
    }
}
