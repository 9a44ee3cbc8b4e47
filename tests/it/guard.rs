//! The guard leaves nothing behind, whoever is killed: real processes, real SIGKILL.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::mark::Mark;

/// Five sleepers: a child, one in a session of its own, and a twice forked orphan with a child.
const BROOD: &str = "sleep 1000 & setsid sleep 1000 & \
    (setsid sh -c 'sleep 1000 & sleep 1000 & wait' &) ; echo $$; wait";
/// Two guards, the shell, its two sleepers, and the orphaned shell with two more.
const BROOD_SIZE: usize = 2 + 1 + 2 + 3;

struct Guarded {
    guard: Child,
    /// The parent's end of the pipe: closing it is what the parent's end looks like.
    parent_lives: Option<ChildStdin>,
    program: i32,
    mark: Mark,
}

impl Guarded {
    fn brood() -> Self {
        let mark = Mark::new();
        let (name, value) = mark.pair();
        let mut guard = guard_command(&["sh", "-c", BROOD])
            .env(name, value)
            .spawn()
            .unwrap();
        let parent_lives = guard.stdin.take();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let program = line.trim().parse().unwrap();
        mark.wait_until("the whole brood runs", |running| {
            running.len() == BROOD_SIZE
        });
        Self {
            guard,
            parent_lives,
            program,
            mark,
        }
    }

    fn outer(&self) -> i32 {
        i32::try_from(self.guard.id()).unwrap()
    }

    fn inner(&self) -> i32 {
        parent_of(self.program)
    }

    #[track_caller]
    fn everything_ends(mut self) -> ExitStatus {
        let status = self.guard.wait().unwrap();
        self.mark.wait_until("nothing is left", BTreeSet::is_empty);
        drop(self.parent_lives.take());
        status
    }
}

fn guard_command(program: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gastownd"));
    command
        .args(["guard", "--"])
        .args(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    parent.trim().parse().unwrap()
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn the_parent_ends_and_nothing_is_left() {
    let mut brood = Guarded::brood();
    drop(brood.parent_lives.take());
    brood.everything_ends();
}

#[test]
fn a_parent_killed_by_sigkill_leaves_nothing() {
    let mark = Mark::new();
    let (name, value) = mark.pair();
    // `cat` stands for a parent that holds the pipe in another process; the shell is the parent.
    let guard = env!("CARGO_BIN_EXE_gastownd");
    let mut parent = Command::new("sh")
        .args([
            "-c",
            "tail -f /dev/null | \"$0\" guard -- sh -c \"$1\"",
            guard,
            BROOD,
        ])
        .env(name, value)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    mark.wait_until("parent, tail and the brood run", |running| {
        running.len() == BROOD_SIZE + 2
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    // The pipe is still held by `tail`, so this is the parent-death signal's work.
    mark.wait_until("only tail is left", |running| running.len() <= 1);
}

#[test]
fn killing_the_outer_guard_leaves_nothing() {
    let brood = Guarded::brood();
    signal(brood.outer(), Signal::KILL);
    assert_eq!(brood.everything_ends().signal(), Some(9));
}

#[test]
fn killing_the_inner_guard_leaves_nothing() {
    let brood = Guarded::brood();
    signal(brood.inner(), Signal::KILL);
    assert_eq!(brood.everything_ends().code(), Some(137));
}

#[test]
fn killing_the_program_leaves_nothing() {
    let brood = Guarded::brood();
    signal(brood.program, Signal::KILL);
    assert_eq!(brood.everything_ends().code(), Some(137));
}

#[test]
fn a_request_to_end_reaches_the_program() {
    let brood = Guarded::brood();
    signal(brood.outer(), Signal::TERM);
    assert_eq!(brood.everything_ends().code(), Some(143));
}

#[test]
fn killing_both_guards_at_once_ends_the_program() {
    let brood = Guarded::brood();
    // Stopped first, so that neither can act on the other's end.
    signal(brood.outer(), Signal::STOP);
    signal(brood.inner(), Signal::STOP);
    signal(brood.inner(), Signal::KILL);
    signal(brood.outer(), Signal::KILL);
    let program = brood.program;
    brood.mark.wait_until("the program has ended", |running| {
        !running.contains(&program)
    });
}

#[test]
fn the_exit_code_is_the_programs() {
    let mut guard = guard_command(&["sh", "-c", "exit 7"]).spawn().unwrap();
    let _parent_lives = guard.stdin.take();
    assert_eq!(guard.wait().unwrap().code(), Some(7));
}

#[test]
fn a_missing_program_is_named() {
    let mut command = guard_command(&["no-such-program-anywhere"]);
    let mut guard = command.stderr(Stdio::piped()).spawn().unwrap();
    let _parent_lives = guard.stdin.take();
    let output = guard.wait_with_output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no-such-program-anywhere"), "{text}");
}
