//! The command line: what a person, a unit file or the program itself can ask of `gastownd`.
//!
//! [`run`] parses, gathers the settings, begins logging, builds the runtime that the command needs
//! and returns the exit code; `main` alone ends the process. stdout is data only, logs and errors go
//! to stderr. The hidden commands are for the program's own processes: their arguments may change
//! with any release, and server and container are always of the same one.
//!
//! Absent on purpose: commands that talk to a running server (that is what the API is for).

mod arguments;
mod config_command;
mod demo;
mod error;
mod replay_command;
mod run;
mod serve;
mod settings_flags;

pub use arguments::Arguments;
pub use error::Error;
pub use run::run;

#[cfg(test)]
mod tests;
