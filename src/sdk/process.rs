//! An agent program as a process: under its guard, its output drained, its end told to all.
//!
//! One supervising task owns the child and the pipe that tells the guard that we live. When the
//! [`Process`] is dropped, or this process ends in any way, that pipe closes and the guard ends
//! everything.
//!
//! A program that is spoken to over its standard streams reads from that same pipe. What it is to read
//! is handed to the task that owns the pipe, so that the pipe can still be closed at any time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};

use super::ServerExit;
use super::guard::{self, exit_from_code};
use super::output::{Output, drain};
use crate::lifecycle::Lifecycle;

/// How long the guard may take to end everything once its pipe is closed; its own limit is 10 s.
const FORCE_LIMIT: Duration = Duration::from_secs(12);

/// How long the last output may take to arrive after the end: it is in the pipe already.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// How many lines may wait for a program to read them: calls are few, and each waits for its answer.
const INPUT_MAX: usize = 64;

/// What to run.
pub(super) struct Launch<'a> {
    pub(super) guard: &'a Path,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) directory: &'a Path,
    pub(super) environment: BTreeMap<OsString, OsString>,
}

/// A running agent program.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    output: Arc<Output>,
    stop_at: watch::Sender<Option<Instant>>,
    exit: watch::Receiver<Option<ServerExit>>,
}

/// The two streams over which a program is spoken to.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Takes whole lines for the program's standard input.
    pub(super) input: mpsc::Sender<String>,
    /// What the program prints; whoever reads it notes in [`Process::output`] what is no answer.
    pub(super) stdout: ChildStdout,
}

struct Spawned {
    child: Child,
    pid: u32,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Process {
    /// Starts a program that is not spoken to over its standard streams.
    pub(super) fn start(launch: Launch<'_>, lifecycle: &Lifecycle) -> io::Result<Self> {
        let spawned = spawn(launch, &[])?;
        let output = Arc::new(Output::default());
        let stdout = lifecycle.spawn_detached("agent server stdout", {
            let (output, stdout) = (Arc::clone(&output), spawned.stdout);
            async move { drain(stdout, |bytes| output.push_stdout(bytes)).await }
        });
        let stderr = drain_stderr(spawned.stderr, &output, lifecycle);
        let (_, nothing_to_read) = mpsc::channel(1);
        let supervised = Supervised {
            child: spawned.child,
            alive: Some(hold(spawned.stdin, nothing_to_read, lifecycle)),
            pid: spawned.pid,
        };
        Ok(supervised.watched(output, vec![stdout, stderr], lifecycle))
    }

    /// Starts a program that is spoken to over its standard streams.
    pub(super) fn converse(
        launch: Launch<'_>,
        lifecycle: &Lifecycle,
    ) -> io::Result<(Self, Conversation)> {
        let spawned = spawn(launch, &[guard::STDIN])?;
        let output = Arc::new(Output::default());
        let stderr = drain_stderr(spawned.stderr, &output, lifecycle);
        let (input, lines) = mpsc::channel(INPUT_MAX);
        let supervised = Supervised {
            child: spawned.child,
            alive: Some(hold(spawned.stdin, lines, lifecycle)),
            pid: spawned.pid,
        };
        let conversation = Conversation {
            input,
            stdout: spawned.stdout,
        };
        let process = supervised.watched(output, vec![stderr], lifecycle);
        Ok((process, conversation))
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) const fn output(&self) -> &Arc<Output> {
        &self.output
    }

    pub(super) async fn exited(&self) -> ServerExit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().expect("waited for it"),
            // The runtime is being shut down and has dropped the supervising task.
            Err(_) => ServerExit {
                code: None,
                signal: None,
                output: self.output.last(),
            },
        }
    }

    /// SIGTERM now, everything ended by force after `grace` (or sooner, if asked for before).
    pub(super) async fn stop(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.stop_at.send_modify(|stop_at| {
            *stop_at = Some(stop_at.map_or(deadline, |earlier| earlier.min(deadline)));
        });
        self.exited().await;
    }
}

fn spawn(launch: Launch<'_>, guard_options: &[&str]) -> io::Result<Spawned> {
    let mut child = Command::new(launch.guard)
        .arg("guard")
        .args(guard_options)
        .arg("--")
        .arg(launch.program)
        .args(launch.args)
        .current_dir(launch.directory)
        .env_clear()
        .envs(launch.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    match (
        child.id(),
        child.stdin.take(),
        child.stdout.take(),
        child.stderr.take(),
    ) {
        (Some(pid), Some(stdin), Some(stdout), Some(stderr)) => Ok(Spawned {
            child,
            pid,
            stdin,
            stdout,
            stderr,
        }),
        _ => unreachable!("the child is new and its streams are pipes"),
    }
}

fn drain_stderr(
    stderr: ChildStderr,
    output: &Arc<Output>,
    lifecycle: &Lifecycle,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    lifecycle.spawn_detached("agent server stderr", async move {
        drain(stderr, |bytes| output.push_stderr(bytes)).await;
    })
}

fn hold(stdin: ChildStdin, lines: mpsc::Receiver<String>, lifecycle: &Lifecycle) -> Alive {
    let holder = lifecycle.spawn_detached("agent server stdin", write_lines(stdin, lines));
    Alive(holder.abort_handle())
}

/// Writes lines until the program reads no more, and then holds the pipe open: it tells of our life.
async fn write_lines(mut stdin: ChildStdin, mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    // From now on whoever speaks is told that nobody listens.
    drop(lines);
    std::future::pending::<()>().await;
}

/// The task that holds the pipe which tells the guard that we live. Dropping this is the order to end
/// everything at once.
struct Alive(AbortHandle);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Supervised {
    child: Child,
    alive: Option<Alive>,
    pid: u32,
}

impl Supervised {
    /// The process that this is, with a task that knows when it ends. `drains` have its last output.
    fn watched(
        self,
        output: Arc<Output>,
        drains: Vec<JoinHandle<()>>,
        lifecycle: &Lifecycle,
    ) -> Process {
        let pid = self.pid;
        let (stop_at, stop_asked) = watch::channel(None);
        let (exit_sender, exit) = watch::channel(None);
        let last_output = Arc::clone(&output);
        lifecycle.spawn_detached("agent server supervisor", async move {
            let status = self.run(stop_asked).await;
            let _ = timeout(LAST_OUTPUT_LIMIT, async {
                for task in drains {
                    let _ = task.await;
                }
            })
            .await;
            exit_sender.send_replace(Some(server_exit(status, last_output.last())));
        });
        Process {
            pid,
            output,
            stop_at,
            exit,
        }
    }

    async fn run(
        mut self,
        mut stop_asked: watch::Receiver<Option<Instant>>,
    ) -> io::Result<ExitStatus> {
        let mut deadline = None;
        loop {
            let force = deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                status = self.child.wait() => return status,
                changed = stop_asked.changed() => {
                    if changed.is_err() {
                        return self.end_by_force().await;
                    }
                    if deadline.is_none() {
                        self.ask_to_end();
                    }
                    deadline = *stop_asked.borrow_and_update();
                }
                () = sleep_until(force), if deadline.is_some() => {
                    return self.end_by_force().await;
                }
            }
        }
    }

    fn ask_to_end(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // Not yet waited for, so the id is still this child's even if it has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    async fn end_by_force(&mut self) -> io::Result<ExitStatus> {
        drop(self.alive.take());
        match timeout(FORCE_LIMIT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.child.start_kill()?;
                self.child.wait().await
            }
        }
    }
}

fn server_exit(status: io::Result<ExitStatus>, output: String) -> ServerExit {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match status.code() {
            Some(code) => exit_from_code(code, output),
            None => ServerExit {
                code: None,
                signal: status.signal(),
                output,
            },
        },
        Err(_) => ServerExit {
            code: None,
            signal: None,
            output,
        },
    }
}
