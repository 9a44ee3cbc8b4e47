//! The three stages of the guard, told apart by their arguments.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::watch::watch;
use crate::sdk::Error;

/// This very program, even if its file has been replaced by an upgrade.
const SELF: &str = "/proc/self/exe";
const INNER: &str = "--inner";
const PROGRAM: &str = "--program-of=";

/// The body of the hidden subcommand `gastownd guard -- PROGRAM ARGS...`: runs PROGRAM until it or
/// our parent ends, ends everything it started, and returns the exit code to end with.
///
/// `args` is all that follows `guard`. Call it from the main thread, before any other thread is
/// started, with the parent's pipe as standard input.
pub fn run(args: Vec<OsString>) -> Result<i32, Error> {
    let (stage, command_line) = Stage::parse(args)?;
    match stage {
        Stage::Outer => watch(next_stage(OsStr::new(INNER), &command_line, Stdio::piped())),
        Stage::Inner => {
            let program_of = format!("{PROGRAM}{}", getpid().as_raw_nonzero());
            watch(next_stage(
                OsStr::new(&program_of),
                &command_line,
                Stdio::null(),
            ))
        }
        Stage::Program { guard } => Err(become_program(guard, &command_line)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Outer,
    Inner,
    Program { guard: i32 },
}

/// PROGRAM and its arguments; never empty.
#[derive(Debug, PartialEq, Eq)]
struct CommandLine {
    program: OsString,
    args: Vec<OsString>,
}

impl Stage {
    /// A missing `--` is fine: some argument parsers take it away.
    fn parse(args: Vec<OsString>) -> Result<(Self, CommandLine), Error> {
        let mut args = args.into_iter().peekable();
        let mut stage = Self::Outer;
        if let Some(first) = args.peek().and_then(|first| first.to_str()) {
            if first == INNER {
                stage = Self::Inner;
                args.next();
            } else if let Some(guard) = first.strip_prefix(PROGRAM) {
                let guard = guard.parse().map_err(|_| Error::GuardUsage)?;
                stage = Self::Program { guard };
                args.next();
            }
        }
        args.next_if(|separator| separator == "--");
        let program = args.next().ok_or(Error::GuardUsage)?;
        Ok((
            stage,
            CommandLine {
                program,
                args: args.collect(),
            },
        ))
    }
}

fn next_stage(stage: &OsStr, command_line: &CommandLine, stdin: Stdio) -> Command {
    let mut command = Command::new(SELF);
    command
        .arg0("gastownd")
        .arg("guard")
        .arg(stage)
        .arg("--")
        .arg(&command_line.program)
        .args(&command_line.args)
        .stdin(stdin)
        // A group of its own: signals from a terminal reach it only through its guard.
        .process_group(0);
    command
}

/// Replaces this process by PROGRAM; returns only if that fails.
fn become_program(guard: i32, command_line: &CommandLine) -> Error {
    let failed = |source| Error::Guard {
        program: PathBuf::from(&command_line.program),
        source,
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return failed(error.into());
    }
    // The guard may have ended before the kernel was asked to watch it.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(guard) {
        return failed(io::Error::other("the guard is gone"));
    }
    failed(
        Command::new(&command_line.program)
            .args(&command_line.args)
            .exec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], stage: Stage, command_line: &[&str]) {
        let (got_stage, got) = Stage::parse(args.iter().map(OsString::from).collect()).unwrap();
        assert_eq!(got_stage, stage);
        assert_eq!(got.program, command_line[0]);
        assert_eq!(got.args, &command_line[1..]);
    }

    #[test]
    fn arguments_tell_the_stage() {
        check(&["--", "sleep", "1"], Stage::Outer, &["sleep", "1"]);
        check(&["sleep", "--", "1"], Stage::Outer, &["sleep", "--", "1"]);
        check(
            &["--inner", "--", "sleep", "1"],
            Stage::Inner,
            &["sleep", "1"],
        );
        check(
            &["--program-of=7", "--", "sleep"],
            Stage::Program { guard: 7 },
            &["sleep"],
        );
        check(&["--", "--inner"], Stage::Outer, &["--inner"]);
    }

    #[test]
    fn nothing_to_run_is_refused() {
        for args in [
            vec![],
            vec!["--"],
            vec!["--inner", "--"],
            vec!["--program-of=x", "--", "a"],
        ] {
            let args = args.into_iter().map(OsString::from).collect();
            assert!(matches!(Stage::parse(args), Err(Error::GuardUsage)));
        }
    }
}
