//! Runs one git command: bounded in time and output, and gone with everything it started.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::GitEnvironment;
use crate::container::Error;

/// Cloning a large repository over a slow line.
pub(super) const CLONE_TIME_MAX: Duration = Duration::from_secs(600);

/// Every other call. A push waits for the remote's hooks.
const CALL_TIME_MAX: Duration = Duration::from_secs(120);

/// The longest output that is used is a list of changed files.
const STDOUT_BYTES_MAX: usize = 4 << 20;

/// Enough for what a person reads; the end of it tells why.
const STDERR_BYTES_MAX: usize = 8 << 10;

/// Agents run git beside us; a lock of theirs is held for milliseconds.
const LOCK_TRIES: u32 = 5;

/// Between two tries at a held lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Commands that wait for a remote, or for filters and credential helpers of the repository's, and
/// so may run on for long. The others ask questions that git answers at once from its own files.
const LASTING_COMMANDS: &[&str] = &["fetch", "push", "clone", "checkout", "merge", "worktree"];

/// Runs git in one environment.
#[derive(Clone, Debug)]
pub struct Git {
    environment: Arc<BTreeMap<String, String>>,
    /// The program that ends a lasting command with everything it started when we end.
    guard: Option<Arc<Path>>,
}

/// What a git command said.
#[derive(Debug)]
pub(super) struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    pub(super) fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// The exit code; `None` if a signal ended it.
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output without the last line's end.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Everything it said, for a person: standard error, or standard output if there is none.
    pub(super) fn complaint(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        if !stderr.is_empty() {
            stderr
        } else if self.stdout.is_empty() {
            format!("no output, {}", self.status)
        } else {
            let stdout = self.text();
            let start = stdout.len().saturating_sub(STDERR_BYTES_MAX);
            stdout.get(start..).unwrap_or(&stdout).to_owned()
        }
    }

    fn met_a_lock(&self) -> bool {
        let stderr = String::from_utf8_lossy(&self.stderr);
        stderr.contains("cannot lock ref")
            || (stderr.contains("Unable to create") && stderr.contains(".lock': File exists"))
    }
}

impl Git {
    /// git as the container itself runs it.
    #[must_use]
    pub fn new(environment: &GitEnvironment) -> Self {
        Self {
            environment: Arc::new(environment.for_container()),
            guard: None,
        }
    }

    /// The same, and no lasting command goes on when this process is gone, however it ended.
    #[must_use]
    pub fn guarded(environment: &GitEnvironment) -> Self {
        Self {
            guard: Some(environment.guard().into()),
            ..Self::new(environment)
        }
    }

    /// The same with one more variable.
    pub(super) fn with(&self, name: &str, value: &Path) -> Self {
        let mut environment = (*self.environment).clone();
        environment.insert(name.to_owned(), value.to_string_lossy().into_owned());
        Self {
            environment: Arc::new(environment),
            guard: self.guard.clone(),
        }
    }

    /// Runs `git <command> <arguments>` in `directory` and gives its output if it succeeded.
    pub(super) async fn run(
        &self,
        directory: &Path,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<String, Error> {
        let output = self.output(directory, command, arguments).await?;
        if output.succeeded() {
            Ok(output.text())
        } else {
            Err(Error::Git {
                command,
                text: output.complaint(),
            })
        }
    }

    /// Runs it and gives whatever came of it.
    pub(super) async fn output(
        &self,
        directory: &Path,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<Output, Error> {
        let mut tries = 1;
        loop {
            let output = self
                .limited(directory, command, arguments, CALL_TIME_MAX)
                .await?;
            if output.succeeded() || tries >= LOCK_TRIES || !output.met_a_lock() {
                return Ok(output);
            }
            tries += 1;
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Runs it once with a limit of its own.
    pub(super) async fn limited(
        &self,
        directory: &Path,
        command: &'static str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<Output, Error> {
        let mut child = self
            .program(command)
            .arg(command)
            .args(arguments.iter().map(OsStr::new))
            .current_dir(directory)
            .env_clear()
            .envs(self.environment.iter())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::GitMissing { source })?;
        let mut group = Group::of(&child);
        // Where there is a guard, this is how it knows that we live.
        let _alive = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let whole = async {
            tokio::join!(
                child.wait(),
                first_bytes(stdout, STDOUT_BYTES_MAX),
                last_bytes(stderr, STDERR_BYTES_MAX),
            )
        };
        match tokio::time::timeout(limit, whole).await {
            Ok((status, stdout, stderr)) => {
                group.ended();
                let status = status.map_err(|source| Error::GitMissing { source })?;
                Ok(Output {
                    status,
                    stdout,
                    stderr,
                })
            }
            // Dropping `group` ends whatever git started as well.
            Err(_) => Err(Error::GitTimedOut { command, limit }),
        }
    }

    fn program(&self, command: &str) -> tokio::process::Command {
        if LASTING_COMMANDS.contains(&command) {
            self.lasting("git")
        } else {
            below(None, "git")
        }
    }

    /// A program that may run on for long: below the guard, where there is one.
    pub(in crate::container) fn lasting(&self, program: &str) -> tokio::process::Command {
        below(self.guard.as_deref(), program)
    }

    pub(super) fn has_guard(&self) -> bool {
        self.guard.is_some()
    }
}

/// The process group of a running git: killed unless it ended first, also when nobody waits any
/// more.
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn of(child: &tokio::process::Child) -> Self {
        let raw = child.id().and_then(|id| i32::try_from(id).ok());
        Self(raw.and_then(Pid::from_raw))
    }

    fn ended(&mut self) {
        self.0 = None;
    }

    /// Ends whatever is left of it.
    pub(super) fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // It fails only if the group is gone already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts `program` below the guard, if there is one.
fn below(guard: Option<&Path>, program: &str) -> tokio::process::Command {
    match guard {
        Some(guard) => {
            let mut guarded = tokio::process::Command::new(guard);
            guarded.args(["guard", "--", program]).stdin(Stdio::piped());
            guarded
        }
        None => {
            let mut bare = tokio::process::Command::new(program);
            bare.stdin(Stdio::null());
            bare
        }
    }
}

/// Reads to the end and keeps the beginning.
async fn first_bytes(mut from: impl AsyncRead + Unpin, max: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let room = max.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
    kept
}

/// Reads to the end and keeps the end.
async fn last_bytes(mut from: impl AsyncRead + Unpin, max: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > 2 * max {
            kept.drain(..kept.len() - max);
        }
    }
    kept.drain(..kept.len().saturating_sub(max));
    kept
}

/// Whether git's words mean that the remote could not be reached, which may pass by itself.
pub(crate) fn is_unreachable(text: &str) -> bool {
    const NEEDS_A_PERSON: &[&str] = &[
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "Permission denied",
        "Host key verification failed",
        "returned error: 401",
        "returned error: 403",
        "returned error: 404",
        "Repository not found",
    ];
    const MAY_PASS: &[&str] = &[
        "Could not resolve host",
        "Could not read from remote repository",
        "unable to access",
        "does not appear to be a git repository",
        "Connection refused",
        "Connection reset",
        "Connection timed out",
        "Connection closed",
        "Operation timed out",
        "the remote end hung up",
        "early EOF",
        "cannot lock ref",
    ];
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    !any(NEEDS_A_PERSON) && any(MAY_PASS)
}
