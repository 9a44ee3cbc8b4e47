//! An agent program as a process: under its guard, its output drained, its end told to all.
//!
//! One supervising task owns the child and the pipe that tells the guard that we live. When the
//! [`Process`] is dropped, or this process ends in any way, that pipe closes and the guard ends
//! everything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::ServerExit;
use super::guard::exit_from_code;
use super::output::{Output, drain};
use crate::lifecycle::Lifecycle;

/// How long the guard may take to end everything once its pipe is closed; its own limit is 10 s.
const FORCE_LIMIT: Duration = Duration::from_secs(12);

/// How long the last output may take to arrive after the end: it is in the pipe already.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_secs(1);

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

impl Process {
    pub(super) fn start(launch: Launch<'_>, lifecycle: &Lifecycle) -> io::Result<Self> {
        let mut child = Command::new(launch.guard)
            .arg("guard")
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
        let (pid, alive, stdout, stderr) = match (
            child.id(),
            child.stdin.take(),
            child.stdout.take(),
            child.stderr.take(),
        ) {
            (Some(pid), Some(stdin), Some(stdout), Some(stderr)) => (pid, stdin, stdout, stderr),
            _ => unreachable!("the child is new and its streams are pipes"),
        };
        let output = Arc::new(Output::default());
        let drains = [
            lifecycle.spawn_detached("agent server stdout", {
                let output = Arc::clone(&output);
                async move { drain(stdout, |bytes| output.push_stdout(bytes)).await }
            }),
            lifecycle.spawn_detached("agent server stderr", {
                let output = Arc::clone(&output);
                async move { drain(stderr, |bytes| output.push_stderr(bytes)).await }
            }),
        ];
        let (stop_at, stop_asked) = watch::channel(None);
        let (exit_sender, exit) = watch::channel(None);
        let last_output = Arc::clone(&output);
        lifecycle.spawn_detached("agent server supervisor", async move {
            let status = Supervised {
                child,
                alive: Some(alive),
                pid,
            }
            .run(stop_asked)
            .await;
            let _ = timeout(LAST_OUTPUT_LIMIT, async {
                for task in drains {
                    let _ = task.await;
                }
            })
            .await;
            exit_sender.send_replace(Some(server_exit(status, last_output.last())));
        });
        Ok(Self {
            pid,
            output,
            stop_at,
            exit,
        })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn output(&self) -> &Output {
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

struct Supervised {
    child: Child,
    /// The guard's pipe; dropping it is the order to end everything at once.
    alive: Option<ChildStdin>,
    pid: u32,
}

impl Supervised {
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
