//! A town's container, played: the server finds it on the socket where a container would be, takes
//! it for one that it launched, and follows its link. The only agent that lives in it is the mayor,
//! who has nothing to do; what others say is what the benchmark makes up, and every acknowledgement
//! is timed.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gastownd::agent_log::text_frame;
use gastownd::clock::Clock;
use gastownd::container::protocol::{AgentStarted, Health, ServerFrame, StartAgent, message_type};
use gastownd::model::{AgentId, Epoch};
use rustix::fs::{FlockOperation, flock};

use super::error::{During, Result, fail};
use super::frames::{Carry, FrameBuffer, OP_TEXT, Taken};
use super::histogram::Histogram;
use super::system::nanos;

/// How long the server may take to open the link.
const LINK_TIMEOUT: Duration = Duration::from_secs(20);
/// Messages that may be on their way at once, so that each one's time is kept.
pub(crate) const IN_FLIGHT_MAX: u64 = 1 << 16;

/// A container that the server is linked with.
#[derive(Debug)]
pub(crate) struct PlayedContainer {
    path: PathBuf,
    shared: Arc<Shared>,
    /// Keeps a real container from taking the socket.
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    epoch: Epoch,
    closed: AtomicBool,
    /// When each message on its way was sent, by its sequence.
    sent_at: Vec<AtomicU64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    link: Option<UnixStream>,
    acked: u64,
    /// Agents that the server asked to start.
    starts: Vec<AgentId>,
    /// How many messages each acknowledgement stood for: the groups that became durable together.
    groups: Vec<u64>,
    latency: Histogram,
    broken: bool,
}

impl PlayedContainer {
    /// Listens where the server looks for this town's container.
    pub(crate) fn open(data: &Path, town_id: &str) -> Result<Self> {
        let short = town_id.split('-').next().unwrap_or_default();
        let folder = data.join("run").join(short);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .during("make the container's folder")?;
        let path = folder.join("control.sock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("control.sock.lock"))
            .during("make the container's lock")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .during("take the container's lock")?;
        let listener = UnixListener::bind(&path).during("listen as a container")?;
        let shared = Arc::new(Shared {
            epoch: Epoch::random(),
            closed: AtomicBool::new(false),
            sent_at: (0..IN_FLIGHT_MAX).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = shared.clone();
        std::thread::Builder::new()
            .name("played container".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    if serving.closed.load(Ordering::Acquire) {
                        return;
                    }
                    let serving = serving.clone();
                    // Requests come one at a time and end at once; the link stays.
                    std::thread::spawn(move || serving.serve(stream));
                }
            })
            .during("start the container")?;
        Ok(Self {
            path,
            shared,
            _lock: lock,
        })
    }

    /// Waits until the server has opened the link and asked for the mayor, and lets the mayor be at
    /// rest, so that the town wants nothing more of its container.
    pub(crate) fn settle(&self) -> Result<()> {
        self.wait_for_link()?;
        let asked = |state: &State| !state.starts.is_empty();
        self.shared
            .wait("the server asks for the mayor", LINK_TIMEOUT, asked)?;
        let mut speaker = self.speaker()?;
        let mayor = self.shared.lock().starts[0].to_string();
        let started = AgentStarted {
            session_id: "bench".to_owned(),
            resumed: false,
            branch: None,
            worktree: "/".to_owned(),
        };
        let started = serde_json::to_string(&started).during("say that the mayor is there")?;
        for (kind, data) in [
            (message_type::AGENT_STARTED, started.as_str()),
            (message_type::AGENT_IDLE, "{}"),
        ] {
            speaker.push(&mayor, &format!(r#""type":"{kind}","data":{data}"#));
        }
        speaker.flush()?;
        speaker.wait_acked(speaker.last_seq(), LINK_TIMEOUT)
    }

    fn wait_for_link(&self) -> Result<()> {
        self.shared.wait(
            "the server links with the container",
            LINK_TIMEOUT,
            |state| state.link.is_some(),
        )
    }

    /// Speaks on the link, behind what was said before.
    pub(crate) fn speaker(&self) -> Result<Speaker> {
        self.wait_for_link()?;
        let state = self.shared.lock();
        let Some(link) = state.link.as_ref() else {
            return fail("the link is gone");
        };
        Ok(Speaker {
            stream: link.try_clone().during("share the link")?,
            shared: self.shared.clone(),
            next_seq: state.acked + 1,
            buffer: Vec::new(),
            text: String::new(),
            timestamp: Clock::system().now().to_string(),
        })
    }

    /// Begins to measure anew.
    pub(crate) fn reset(&self) {
        let mut state = self.shared.lock();
        state.groups.clear();
        state.latency = Histogram::default();
    }

    /// The sizes of the groups that became durable, and the times until they were acknowledged.
    pub(crate) fn measured(&self) -> (Vec<u64>, Histogram) {
        let state = self.shared.lock();
        (state.groups.clone(), state.latency.clone())
    }
}

impl Drop for PlayedContainer {
    fn drop(&mut self) {
        self.shared.close();
        // A server that asks from now on finds nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Sends messages.
#[derive(Debug)]
pub(crate) struct Speaker {
    stream: UnixStream,
    shared: Arc<Shared>,
    next_seq: u64,
    buffer: Vec<u8>,
    text: String,
    timestamp: String,
}

impl Speaker {
    /// Prepares a message; [`Speaker::flush`] sends it. Its sequence.
    pub(crate) fn push(&mut self, agent_id: &str, content: &str) -> u64 {
        let (seq, timestamp) = (self.next_seq, &self.timestamp);
        self.next_seq += 1;
        self.text.clear();
        let _ = write!(
            self.text,
            r#"{{"seq":{seq},"agentId":"{agent_id}",{content},"timestamp":"{timestamp}"}}"#
        );
        self.buffer.extend_from_slice(&text_frame(&self.text));
        self.shared.slot(seq).store(nanos(), Ordering::Release);
        seq
    }

    /// The last sequence that was prepared.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stream
            .write_all(&self.buffer)
            .during("speak on the link")?;
        self.buffer.clear();
        Ok(())
    }

    /// The last sequence that the server has on disk.
    pub(crate) fn acked(&self) -> u64 {
        self.shared.lock().acked
    }

    /// Waits until that sequence is on disk.
    pub(crate) fn wait_acked(&self, seq: u64, patience: Duration) -> Result<()> {
        self.shared
            .wait("the server acknowledges", patience, |state| {
                state.acked >= seq
            })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, seq: u64) -> &AtomicU64 {
        let index = usize::try_from(seq % IN_FLIGHT_MAX).unwrap_or(0);
        &self.sent_at[index]
    }

    fn wait(&self, what: &str, patience: Duration, done: impl Fn(&State) -> bool) -> Result<()> {
        let waiting = |state: &mut State| !done(state) && !state.broken;
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return fail(format!(
                "it took longer than {} s until {what}",
                patience.as_secs()
            ));
        }
        if done(&state) {
            return Ok(());
        }
        fail("the server broke the link with the container; its log says why")
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(link) = self.lock().link.take() {
            let _ = link.shutdown(std::net::Shutdown::Both);
        }
    }

    /// One connection of the server: a request, or the link.
    fn serve(&self, stream: UnixStream) {
        let Ok(mut writer) = stream.try_clone() else {
            return;
        };
        let mut reader = BufReader::new(stream);
        let Some((path, body_len)) = read_request(&mut reader) else {
            return;
        };
        let mut body = vec![0; body_len];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if path == "/ws" {
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                upgrade: websocket\r\n\r\n";
            if writer.write_all(answer).is_ok() {
                self.link(reader, &writer);
            }
            return;
        }
        if path == "/agents/start"
            && let Ok(start) = serde_json::from_slice::<StartAgent>(&body)
        {
            self.lock().starts.push(start.agent_id);
            self.changed.notify_all();
        }
        let (status, answer) = self.answer(&path);
        let length = answer.len();
        let _ = write!(
            writer,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{answer}"
        );
        if matches!(path.as_str(), "/shutdown" | "/drain") {
            self.close();
        }
    }

    fn answer(&self, path: &str) -> (&'static str, String) {
        if path == "/health" {
            let health = Health {
                status: "ok".to_owned(),
                agents: 0,
                resting: 0,
                merges: 0,
                servers: 0,
                uptime: 0,
                epoch: self.epoch,
                drain: false,
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                stats: None,
            };
            return ("200 OK", serde_json::to_string(&health).unwrap_or_default());
        }
        if path.ends_with("/status") {
            let refusal = r#"{"error":"nobody lives here","code":"unknown_agent"}"#;
            return ("404 Not Found", refusal.to_owned());
        }
        ("202 Accepted", r#"{"accepted":true}"#.to_owned())
    }

    /// Reads what the server says on the link until it ends.
    fn link(&self, mut reader: BufReader<UnixStream>, writer: &UnixStream) {
        let (mut frames, mut carry) = (FrameBuffer::default(), Carry::new());
        loop {
            let mut said = Vec::new();
            let taken = frames.take(&mut reader, &mut carry, |op, payload| {
                if op == OP_TEXT
                    && let Ok(frame) = serde_json::from_slice::<ServerFrame>(payload)
                {
                    said.push(frame);
                }
            });
            for frame in said {
                match frame {
                    ServerFrame::Resume { epoch, after_seq } => {
                        self.resume(writer, epoch == Some(self.epoch), after_seq);
                    }
                    ServerFrame::Ack { seq } => self.acknowledge(seq),
                }
            }
            if !matches!(taken, Ok(Taken::Bytes(_) | Taken::Nothing)) {
                break;
            }
        }
        let mut state = self.lock();
        // A link that was asked to end is not broken.
        state.broken = state.link.take().is_some();
        drop(state);
        self.changed.notify_all();
    }

    fn resume(&self, writer: &UnixStream, recovered: bool, after_seq: u64) {
        let mut state = self.lock();
        if recovered {
            state.acked = after_seq;
        }
        let (epoch, next, now) = (self.epoch, state.acked + 1, Clock::system().now());
        let hello = format!(
            r#"{{"seq":0,"type":"link.resumed","data":{{"epoch":"{epoch}","nextSeq":{next},"recovered":{recovered}}},"timestamp":"{now}"}}"#
        );
        let mut stream = writer;
        if stream.write_all(&text_frame(&hello)).is_ok() {
            state.link = writer.try_clone().ok();
            state.broken = false;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn acknowledge(&self, seq: u64) {
        let now = nanos();
        let mut state = self.lock();
        let before = state.acked;
        if seq <= before {
            return;
        }
        for done in before + 1..=seq {
            let sent = self.slot(done).load(Ordering::Acquire);
            state.latency.record(now.saturating_sub(sent));
        }
        state.acked = seq;
        state.groups.push(seq - before);
        drop(state);
        self.changed.notify_all();
    }
}

/// The path of a request and how long its body is.
fn read_request(reader: &mut impl BufRead) -> Option<(String, usize)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut body_len = 0;
    loop {
        // The town's config in a header is not always text that we could read.
        let mut header = Vec::new();
        if reader.read_until(b'\n', &mut header).ok()? == 0 {
            return None;
        }
        let header = String::from_utf8_lossy(&header).to_ascii_lowercase();
        if header.trim().is_empty() {
            return Some((path, body_len));
        }
        if let Some(length) = header.strip_prefix("content-length:") {
            body_len = length.trim().parse().ok()?;
        }
    }
}
