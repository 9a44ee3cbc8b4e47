//! Floors: the same work done by next to nothing. Each is a process of its own, so that its
//! processor time is told apart from the load's, as the server's is.

pub(crate) mod baseline;
pub(crate) mod disk;
pub(crate) mod empty_http;
pub(crate) mod file_reader;
pub(crate) mod plain_sockets;

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::api::Address;
use super::cleanup;
use super::error::{During, Error, Result, fail};
use super::process::Process;

/// The line that a floor prints when it can be connected to.
const READY: &str = "listening on ";

/// A floor's process; ends with this value.
#[derive(Debug)]
pub(crate) struct Floor {
    child: Child,
    pub(crate) socket: SocketAddr,
}

impl Floor {
    /// Starts this very program as a floor.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let own = std::env::current_exe().during("find this program")?;
        let mut child = Command::new(own)
            .arg("floor")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .during("start a floor")?;
        cleanup::child(child.id());
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .during("read what a floor says")?;
        }
        let socket = line
            .trim()
            .strip_prefix(READY)
            .and_then(|text| text.parse().ok());
        let Some(socket) = socket else {
            let _ = child.kill();
            return fail("a floor did not start");
        };
        Ok(Self { child, socket })
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub(crate) fn address(&self) -> Result<Address> {
        Address::parse(&format!("http://{}", self.socket), None)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        cleanup::child_ended(self.child.id());
    }
}

/// In the floor's process: listens and says where.
fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").during("listen")?;
    let address = listener.local_addr().during("listen")?;
    let mut out = std::io::stdout();
    writeln!(out, "{READY}{address}")
        .and_then(|()| out.flush())
        .during("say where")?;
    Ok(listener)
}

/// In the floor's process: takes the events that the load sends on its first connection, each a
/// number of its agent (two bytes, little-endian) and a frame, and calls `each` for every one.
fn take_events(
    mut source: impl std::io::Read,
    mut each: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = source.read(&mut piece).during("take events")?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&piece[..read]);
        let mut at = 0;
        while let Some(agent) = bytes.get(at..at + 2) {
            let Some(head) = super::frames::head(&bytes[at + 2..]) else {
                break;
            };
            let Some(frame) = bytes.get(at + 2..at + 2 + head.len) else {
                break;
            };
            each(usize::from(u16::from_le_bytes([agent[0], agent[1]])), frame)?;
            at += 2 + head.len;
        }
        bytes.drain(..at);
    }
}

/// Runs the floor that the first argument names, in a process started by [`Floor::start`].
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let number = |index: usize| -> Result<usize> {
        arguments
            .get(index)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error(format!("argument {index} must be a number")))
    };
    match arguments.first().map(String::as_str) {
        Some("plain-sockets") => plain_sockets::serve(number(1)?, number(2)?, number(3)?),
        Some("baseline") => baseline::serve(number(1)?, number(2)?),
        Some("empty-http") => empty_http::serve(),
        Some("file-reader") => match arguments.get(1) {
            Some(path) => file_reader::serve(path.as_ref()),
            None => fail("which file?"),
        },
        other => fail(format!("there is no floor {other:?}")),
    }
}
