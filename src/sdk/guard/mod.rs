//! The guard: a process that ends an agent program together with everything it ever started.

use std::ffi::OsString;

use super::Error;

/// The body of the hidden subcommand `gastownd guard -- PROGRAM ARGS...`: returns the exit code.
pub fn run(args: Vec<OsString>) -> Result<i32, Error> {
    drop(args);
    Err(Error::GuardUsage)
}
