//! The three stages of the guard, told apart by their arguments.

use std::ffi::{OsStr, OsString};
use std::fs::File;
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

/// Says that PROGRAM is to read what our parent writes into the pipe that tells of its life.
pub(in crate::sdk) const STDIN: &str = "--stdin";
const STDIN_OF: &str = "--stdin-of=";

/// The body of the hidden subcommand `gastownd guard [--stdin] -- PROGRAM ARGS...`: runs PROGRAM until
/// it or our parent ends, ends everything it started, and returns the exit code to end with. With
/// `--stdin`, PROGRAM reads our standard input; else it has none.
///
/// `args` is all that follows `guard`. Call it from the main thread, before any other thread is
/// started, with the parent's pipe as standard input.
pub fn run(args: Vec<OsString>) -> Result<i32, Error> {
    let (stage, command_line) = Stage::parse(args)?;
    match stage {
        Stage::Outer { stdin } => {
            let reader = stdin.then(|| format!("{STDIN_OF}{}", getpid().as_raw_nonzero()));
            let inner = [INNER.to_owned()].into_iter().chain(reader);
            watch(next_stage(inner, &command_line, Stdio::piped()))
        }
        Stage::Inner { stdin_of } => {
            let program_of = format!("{PROGRAM}{}", getpid().as_raw_nonzero());
            let stdin = stdin_of.map_or_else(|| Ok(Stdio::null()), stdin_of_guard)?;
            watch(next_stage([program_of], &command_line, stdin))
        }
        Stage::Program { guard } => Err(become_program(guard, &command_line)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Whether the program reads our standard input.
    Outer {
        stdin: bool,
    },
    /// The guard whose standard input the program reads, if any.
    Inner {
        stdin_of: Option<i32>,
    },
    Program {
        guard: i32,
    },
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
        let mut stage = Self::Outer { stdin: false };
        while let Some(next) = args.peek().and_then(|next| next.to_str()) {
            stage = match (stage, next) {
                (Self::Outer { stdin: false }, STDIN) => Self::Outer { stdin: true },
                (Self::Outer { stdin: false }, INNER) => Self::Inner { stdin_of: None },
                (Self::Outer { stdin: false }, next) if next.starts_with(PROGRAM) => {
                    let guard = pid_in(next, PROGRAM)?;
                    Self::Program { guard }
                }
                (Self::Inner { stdin_of: None }, next) if next.starts_with(STDIN_OF) => {
                    let stdin_of = Some(pid_in(next, STDIN_OF)?);
                    Self::Inner { stdin_of }
                }
                (stage, _) => {
                    return Self::with_command_line(stage, args);
                }
            };
            args.next();
        }
        Self::with_command_line(stage, args)
    }

    fn with_command_line(
        stage: Self,
        mut args: std::iter::Peekable<impl Iterator<Item = OsString>>,
    ) -> Result<(Self, CommandLine), Error> {
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

fn pid_in(argument: &str, prefix: &str) -> Result<i32, Error> {
    argument
        .strip_prefix(prefix)
        .and_then(|pid| pid.parse().ok())
        .ok_or(Error::GuardUsage)
}

/// The outer guard's standard input, opened anew. Our own is the pipe that tells of the outer guard's
/// life, and a guard that copied would wait for a program that does not read.
fn stdin_of_guard(guard: i32) -> Result<Stdio, Error> {
    let path = PathBuf::from(format!("/proc/{guard}/fd/0"));
    match File::open(&path) {
        Ok(pipe) => Ok(pipe.into()),
        Err(source) => Err(Error::Guard {
            program: path,
            source,
        }),
    }
}

fn next_stage(
    stage: impl IntoIterator<Item = impl AsRef<OsStr>>,
    command_line: &CommandLine,
    stdin: Stdio,
) -> Command {
    let mut command = Command::new(SELF);
    command
        .arg0("gastownd")
        .arg("guard")
        .args(stage)
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
        let outer = || Stage::Outer { stdin: false };
        check(&["--", "sleep", "1"], outer(), &["sleep", "1"]);
        check(&["sleep", "--", "1"], outer(), &["sleep", "--", "1"]);
        check(
            &["--stdin", "--", "cat"],
            Stage::Outer { stdin: true },
            &["cat"],
        );
        check(
            &["--inner", "--", "sleep", "1"],
            Stage::Inner { stdin_of: None },
            &["sleep", "1"],
        );
        check(
            &["--inner", "--stdin-of=5", "--", "cat"],
            Stage::Inner { stdin_of: Some(5) },
            &["cat"],
        );
        check(
            &["--program-of=7", "--", "sleep"],
            Stage::Program { guard: 7 },
            &["sleep"],
        );
        check(&["--", "--inner"], outer(), &["--inner"]);
    }

    #[test]
    fn nothing_to_run_is_refused() {
        for args in [
            vec![],
            vec!["--"],
            vec!["--inner", "--"],
            vec!["--program-of=x", "--", "a"],
            vec!["--inner", "--stdin-of=", "--", "a"],
        ] {
            let args = args.into_iter().map(OsString::from).collect();
            assert!(matches!(Stage::parse(args), Err(Error::GuardUsage)));
        }
    }
}
