//! The loop of a guard: wait until the child or the parent ends, then end everything below.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::descendants;
use crate::sdk::{Error, ServerExit};

/// What the exit code of a process that a signal ended begins at, as in shells.
const SIGNAL_EXIT_BASE: i32 = 128;

/// Starts `command` and stays until it or our parent has ended and nothing below us runs.
pub(super) fn watch(command: Command) -> Result<i32, Error> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| Error::Guard { program, source };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Err(failed(error)),
    };
    runtime.block_on(watch_child(command)).map_err(failed)
}

async fn watch_child(mut command: Command) -> io::Result<i32> {
    set_child_subreaper(Some(getpid()))?;
    let mut child_ended = signal(SignalKind::child())?;
    let mut signals = EndSignals::new()?;
    let mut parent = Parent::new()?;
    // Held, not waited on: it ends by `reap`. Its `stdin` is the pipe that tells it we live.
    let child = command.spawn()?;
    let child_pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id is a positive i32");
    let exit_code = loop {
        tokio::select! {
            _ = child_ended.recv() => {
                if let Some(code) = reap(child_pid)? {
                    break code;
                }
            }
            () = parent.gone() => break SIGNAL_EXIT_BASE + Signal::KILL.as_raw(),
            () = signals.received() => {
                // It may have ended just now; then there is nobody to tell.
                let _ = kill_process_group(child_pid, Signal::TERM);
            }
        }
    };
    let _ = kill_process_group(child_pid, Signal::KILL);
    descendants::end_all(&mut child_ended).await;
    Ok(exit_code)
}

/// Takes note of every child that ended, our own and adopted ones; the exit code if ours did.
fn reap(child: Pid) -> io::Result<Option<i32>> {
    let mut exit_code = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => exit_code = Some(code_of(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(exit_code),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn code_of(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => SIGNAL_EXIT_BASE + signal,
        (None, None) => SIGNAL_EXIT_BASE,
    }
}

/// What the exit code of a guard says about how its program ended.
pub(in crate::sdk) fn exit_from_code(code: i32, output: String) -> ServerExit {
    if code > SIGNAL_EXIT_BASE {
        ServerExit {
            code: None,
            signal: Some(code - SIGNAL_EXIT_BASE),
            output,
        }
    } else {
        ServerExit {
            code: Some(code),
            signal: None,
            output,
        }
    }
}

/// The signals by which people and service managers ask a process to end.
struct EndSignals {
    terminate: SignalStream,
    interrupt: SignalStream,
    hangup: SignalStream,
}

impl EndSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Whether our parent still lives.
struct Parent {
    pipe: pipe::Receiver,
    pid: Option<Pid>,
    death: SignalStream,
}

impl Parent {
    fn new() -> io::Result<Self> {
        let pid = getppid();
        // The signal comes also when only the *thread* that started us ends: hence the look at
        // the parent's id when it comes, and hence a signal that nobody else sends.
        let death = signal(SignalKind::user_defined1())?;
        set_parent_process_death_signal(Some(Signal::USR1))?;
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let pipe = pipe::Receiver::from_file(File::from(stdin)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("standard input is not the parent's pipe: {error}"),
            )
        })?;
        Ok(Self { pipe, pid, death })
    }

    /// Resolves when the parent has ended. What is in the pipe may be for the program, so it is never
    /// read here: that the other end is closed is told whatever is asked for, and a pipe has no
    /// priority of its own.
    async fn gone(&mut self) {
        loop {
            tokio::select! {
                // Ready means closed, and an error means that it can't be watched any more.
                _ = self.pipe.ready(Interest::PRIORITY) => return,
                _ = self.death.recv() => if getppid() != self.pid {
                    return;
                },
            }
        }
    }
}
