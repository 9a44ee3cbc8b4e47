//! The server that is measured: one of our own in a temporary folder, or one that runs already.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::api::{Address, Api};
use super::cleanup;
use super::error::{During, Error, Result, fail};
use super::process::Process;
use super::system::listener_of;

/// How long a server may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// More than any benchmark opens.
const CONNECTIONS_MAX: &str = "20000";

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: Address,
    /// Its process, if it runs on this machine.
    pub(crate) process: Option<Process>,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    program: PathBuf,
    data: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// One that runs already. Asks it whether it is a gastownd and lets us in.
    pub(crate) fn running(url: &str, token: Option<String>) -> Result<Self> {
        let address = Address::parse(url, token)?;
        let mut api = Api::connect(&address)?;
        api.must("GET", "/api/towns", &serde_json::Value::Null)?;
        let process = address
            .socket
            .ip()
            .is_loopback()
            .then(|| listener_of(address.socket.port()))
            .flatten();
        Ok(Self {
            address,
            process,
            own: None,
        })
    }

    /// Starts one on this data folder and a free port.
    pub(crate) fn start(program: &Path, data: &Path, arguments: &[&str]) -> Result<Self> {
        let own = Own {
            program: program.to_owned(),
            data: data.to_owned(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            child: None,
        };
        let mut server = Self {
            address: Address::parse("http://127.0.0.1:1", None)?,
            process: None,
            own: Some(own),
        };
        server.launch()?;
        Ok(server)
    }

    /// The data folder of a server of ours.
    pub(crate) fn data(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.data.as_path())
    }

    /// Starts a server of ours again; how long it took until it answered.
    pub(crate) fn launch(&mut self) -> Result<Duration> {
        let Some(own) = &mut self.own else {
            return fail("only a server of our own can be started");
        };
        let log = std::fs::File::create(own.data.join("bench-server.log"));
        let log = log.during("make the server's log")?;
        let begin = Instant::now();
        let mut child = Command::new(&own.program)
            .args(["serve", "--no-auth", "--isolation", "none", "--listen"])
            .args([
                "127.0.0.1:0",
                "--container-stop-on-exit",
                "--container-on-demand",
            ])
            .args(["--http-connections-max", CONNECTIONS_MAX, "--data-dir"])
            .arg(&own.data)
            .args(&own.arguments)
            .env(
                "GASTOWND_LOG",
                std::env::var_os("GASTOWND_LOG").unwrap_or("warn".into()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| {
                let program = own.program.display();
                Error(format!(
                    "cannot start {program}: {error}; name it with --server"
                ))
            })?;
        cleanup::child(child.id());
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .during("read what the server says")?;
        }
        let took = begin.elapsed();
        self.process = Some(Process(child.id()));
        own.child = Some(child);
        let Some(url) = line.trim().strip_prefix("gastownd listening on ") else {
            let log = std::fs::read_to_string(own.data.join("bench-server.log"));
            return fail(format!(
                "the server {} did not start: {}",
                own.program.display(),
                log.unwrap_or_default().trim()
            ));
        };
        self.address = Address::parse(url, None)?;
        Ok(took)
    }

    /// Ends a server of ours in order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends a server of ours as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.own.as_mut().and_then(|own| own.child.take()) else {
            return Ok(());
        };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
        let limit = Instant::now() + END_TIMEOUT;
        while child.try_wait().during("wait for the server")?.is_none() {
            if Instant::now() > limit {
                let _ = child.kill();
                let _ = child.wait();
                return fail("the server did not end in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        cleanup::child_ended(child.id());
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The `gastownd` beside this program.
pub(crate) fn beside_us() -> Result<PathBuf> {
    let own = std::env::current_exe().during("find this program")?;
    let program = own.with_file_name("gastownd");
    if program.exists() {
        return Ok(program);
    }
    fail(format!(
        "there is no {}: name the server's program with --server, or a running server with --url",
        program.display()
    ))
}

/// Whether a server's program knows a flag of `serve`.
pub(crate) fn knows_flag(program: &Path, flag: &str) -> bool {
    Command::new(program)
        .args(["serve", "--help"])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(flag))
}
