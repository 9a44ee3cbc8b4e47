//! The gates of a merge: commands that must succeed on the merged tree before it is pushed.
//!
//! They run what agents wrote, so they get no credential of git's, and whatever they start ends
//! with them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use super::Git;
use super::command::Group;
use crate::container::protocol::GatesReport;

/// How much of what the gates print is kept: the end, where it says what is wrong.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// What a gate that was stopped, or whose shell has ended, may still take to let go of its output.
const END_GRACE: Duration = Duration::from_secs(5);

/// The gates of a merge.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// Command lines for `sh`, in order; none means that the merge has no gates.
    pub commands: Vec<String>,
    /// How long each may run.
    pub time_max: Duration,
    /// Their whole environment.
    pub environment: BTreeMap<String, String>,
}

/// How one gate ended.
enum Ending {
    Exited(ExitStatus),
    TimedOut,
    NotStarted(std::io::Error),
}

impl Git {
    /// Runs the gates one after another until one fails.
    pub(super) async fn run_gates(&self, folder: &Path, gates: &Gates) -> GatesReport {
        let mut output = Tail::new(OUTPUT_BYTES_MAX);
        for command in &gates.commands {
            output.push(format!("$ {command}\n").as_bytes());
            let begun = Instant::now();
            let ending = self.run_gate(folder, gates, command, &mut output).await;
            let seconds = begun.elapsed().as_secs();
            let (passed, words) = match ending {
                Ending::Exited(status) => (status.success(), format!("{status}, {seconds} s")),
                Ending::TimedOut => (
                    false,
                    format!("stopped: not finished after {} s", gates.time_max.as_secs()),
                ),
                Ending::NotStarted(error) => (false, format!("could not be started: {error}")),
            };
            output.end_line();
            output.push(format!("[{words}]\n").as_bytes());
            if !passed {
                return GatesReport {
                    passed,
                    output: output.text(),
                };
            }
        }
        GatesReport {
            passed: true,
            output: output.text(),
        }
    }

    async fn run_gate(
        &self,
        folder: &Path,
        gates: &Gates,
        command: &str,
        output: &mut Tail,
    ) -> Ending {
        // One pipe for both, so that what was printed stays in its order.
        let script = format!("exec 2>&1\n{command}");
        let mut child = match self
            .lasting("sh")
            .args(["-c", &script])
            .current_dir(folder)
            .env_clear()
            .envs(&gates.environment)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
        {
            Ok(child) => child,
            Err(error) => return Ending::NotStarted(error),
        };
        let mut group = Group::of(&child);
        // Where there is a guard, this is how it knows that we live.
        let alive = child.stdin.take();
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let run = tokio::time::timeout(gates.time_max, ended(&mut child, &mut stdout, output));
        if let Ok(status) = run.await {
            drop(group);
            let rest = tokio::time::timeout(END_GRACE, output.read_all(&mut stdout));
            // What holds on to the pipe after all that is outside our reach.
            let _ = rest.await;
            return status.map_or_else(Ending::NotStarted, Ending::Exited);
        }
        // The guard ends everything below it, even what left the group.
        drop(alive);
        if self.has_guard() {
            let _ = tokio::time::timeout(END_GRACE, child.wait()).await;
        }
        group.kill();
        Ending::TimedOut
    }
}

/// Reads along until the command has ended.
async fn ended(
    child: &mut Child,
    stdout: &mut (impl AsyncRead + Unpin),
    output: &mut Tail,
) -> std::io::Result<ExitStatus> {
    let mut chunk = vec![0; 4096];
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            read = stdout.read(&mut chunk), if is_open => match read {
                Ok(count @ 1..) => output.push(&chunk[..count]),
                _ => is_open = false,
            },
            status = child.wait() => return status,
        }
    }
}

/// The end of what was printed.
struct Tail {
    bytes: Vec<u8>,
    max: usize,
}

impl Tail {
    fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            max,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * self.max {
            self.bytes.drain(..self.bytes.len() - self.max);
        }
    }

    async fn read_all(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut chunk = vec![0; 4096];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            self.push(&chunk[..count]);
        }
    }

    fn end_line(&mut self) {
        if self.bytes.last().is_some_and(|byte| *byte != b'\n') {
            self.bytes.push(b'\n');
        }
    }

    fn text(&self) -> String {
        let start = self.bytes.len().saturating_sub(self.max);
        String::from_utf8_lossy(&self.bytes[start..]).into_owned()
    }
}
