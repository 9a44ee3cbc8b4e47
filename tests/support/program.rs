//! A program that a test starts, reads and ends; it does not outlive the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Program {
    name: String,
    pid: u32,
    lines: Receiver<String>,
    ended: Receiver<ExitStatus>,
    has_ended: bool,
}

impl Program {
    /// Starts it with its standard output read line by line.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{:?}", command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; tests/run installs what is missing"));
        let pid = child.id();
        let lines = read_lines(&mut child);
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(child.wait().unwrap()));
        Self {
            name,
            pid,
            lines,
            ended,
            has_ended: false,
        }
    }

    /// What stands after `mark` on the first line of its output that has it.
    pub(crate) fn told_after(&self, mark: &str) -> String {
        self.told_within(PATIENCE, mark)
    }

    /// The same, where there is a bound on how long it may take.
    pub(crate) fn told_within(&self, bound: Duration, mark: &str) -> String {
        let limit = Instant::now() + bound;
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line =
                line.unwrap_or_else(|error| panic!("{} never said {mark}: {error}", self.name));
            if let Some((_, told)) = line.split_once(mark) {
                return told.to_owned();
            }
        }
    }

    /// Asks it to end and waits until it did.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.ended.recv_timeout(PATIENCE);
        self.has_ended = status.is_ok();
        status.unwrap_or_else(|error| panic!("{} did not end: {error}", self.name))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.has_ended = true;
        self.ended.recv_timeout(PATIENCE).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        if kill_process(pid, signal) == Err(rustix::io::Errno::PERM) {
            // It was started by way of sudo.
            let _ = Command::new("sudo")
                .args([
                    "-n",
                    "kill",
                    &format!("-{}", signal.as_raw()),
                    &self.pid.to_string(),
                ])
                .status();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Not after it was reaped: its number may belong to somebody else by then.
        if !self.has_ended && self.ended.try_recv().is_err() {
            self.signal(Signal::KILL);
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Everything that a program says until it ends by itself.
pub(crate) fn output_of(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    ended.recv_timeout(PATIENCE).unwrap_or_else(|error| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("it did not end: {error}")
    })
}
