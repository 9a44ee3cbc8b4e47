//! The body of the hidden subcommand `gastownd git-credential`: git's question, put to the container.
//!
//! git starts it, also for the agents' own `git push`, and talks the credential protocol with it.
//! The answer comes from the container's memory; nothing is stored anywhere.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Error;
use super::git::CREDENTIAL_SOCKET_VARIABLE;

/// git's question is a few short lines.
pub(super) const QUESTION_BYTES_MAX: u64 = 8 << 10;

/// The container answers from memory.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// What git wants a credential for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// `https` and so on.
    pub(super) protocol: String,
    /// The host, with its port if there is one.
    pub(super) host: String,
}

impl Question {
    /// Reads `key=value` lines; keys that do not matter here are ignored.
    pub(super) fn parse(text: &str) -> Self {
        let mut question = Self::default();
        for line in text.lines() {
            match line.split_once('=') {
                Some(("protocol", value)) => value.clone_into(&mut question.protocol),
                Some(("host", value)) => value.clone_into(&mut question.host),
                _ => {}
            }
        }
        question
    }
}

/// Answers git on standard output. `args` is what follows `git-credential`: `get`, `store` or
/// `erase`, of which only `get` does anything.
///
/// # Errors
/// The operation is missing, or the container can't be asked; git then goes on without a credential.
pub fn run(args: &[OsString]) -> Result<(), Error> {
    match args.first().and_then(|operation| operation.to_str()) {
        Some("get") => {}
        // The container keeps the town's tokens; git's opinion of them changes nothing.
        Some(_) => return Ok(()),
        None => {
            return Err(Error::CredentialUse {
                needs: "an operation: get, store or erase",
            });
        }
    }
    let socket = std::env::var_os(CREDENTIAL_SOCKET_VARIABLE).ok_or(Error::CredentialUse {
        needs: "the variable GASTOWN_CREDENTIAL_SOCKET",
    })?;
    let question = read_question(io::stdin().lock());
    let answer = question
        .and_then(|question| ask(UnixStream::connect(socket)?, &question))
        .map_err(|source| Error::CredentialSocket { source })?;
    io::stdout()
        .lock()
        .write_all(&answer)
        .map_err(|source| Error::CredentialSocket { source })
}

/// Everything up to the empty line or the end.
fn read_question(from: impl Read) -> io::Result<Vec<u8>> {
    let mut question = Vec::new();
    from.take(QUESTION_BYTES_MAX).read_to_end(&mut question)?;
    Ok(question)
}

fn ask(mut container: UnixStream, question: &[u8]) -> io::Result<Vec<u8>> {
    container.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    container.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    container.write_all(question)?;
    container.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    container
        .take(QUESTION_BYTES_MAX)
        .read_to_end(&mut answer)?;
    Ok(answer)
}
