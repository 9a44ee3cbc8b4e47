//! From arguments to the room that does the work.

use std::ffi::OsString;

use clap::Parser;

use crate::sdk;

use super::arguments::{Arguments, Command};
use super::config_command;
use super::error::Error;

/// Does what the arguments ask and returns the exit code.
///
/// # Errors
/// If it could not be done; a request for help or the version counts as one (with exit code 0),
/// because then nothing else is done.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<u8, Error> {
    let arguments = Arguments::try_parse_from(arguments).map_err(Error::Arguments)?;
    match arguments.command {
        Command::Config { action } => config_command::run(action).map(|()| SUCCESS),
        Command::Guard { arguments } => {
            let code = sdk::guard::run(arguments)?;
            // An exit code is a byte; anything else means the program ended in no ordinary way.
            Ok(u8::try_from(code).unwrap_or(UNUSUAL_END))
        }
    }
}

const SUCCESS: u8 = 0;
const UNUSUAL_END: u8 = 255;
