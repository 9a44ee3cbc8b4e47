//! Many subscribers in one thread: one epoll, one buffer, and hardly any work per frame, because
//! they share the processors with the server that is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gastownd::stream::client_text_frame;
use rustix::event::epoll;

use super::api::{Address, parse_head};
use super::error::{During, Error, Result, fail};
use super::frames::{self, Carry, FrameBuffer, OP_CLOSE, OP_PING, OP_TEXT, Taken};
use super::histogram::Histogram;
use super::system::nanos;

/// Sockets told of by one call.
const EVENTS_MAX: usize = 1024;
/// How often the end is looked for when nothing comes.
const PATIENCE_STEP: Duration = Duration::from_millis(20);

/// When each event was given to the server, by agent and by place; zero where it was not yet.
#[derive(Debug)]
pub(crate) struct Stamps(Vec<Vec<AtomicU64>>);

impl Stamps {
    pub(crate) fn new(agents: usize, events: usize) -> Self {
        let of_agent = || (0..events).map(|_| AtomicU64::new(0)).collect();
        Self((0..agents).map(|_| of_agent()).collect())
    }

    /// The event of this place, from 0, is given away at this moment.
    pub(crate) fn set(&self, agent: usize, place: u64, nanos: u64) {
        if let Some(slot) = self.slot(agent, place) {
            slot.store(nanos, Ordering::Release);
        }
    }

    fn get(&self, agent: usize, place: u64) -> Option<u64> {
        let at = self.slot(agent, place)?.load(Ordering::Acquire);
        (at > 0).then_some(at)
    }

    fn slot(&self, agent: usize, place: u64) -> Option<&AtomicU64> {
        self.0.get(agent)?.get(usize::try_from(place).ok()?)
    }
}

/// What the crowd and whoever feeds the server tell each other.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Events received by all.
    pub(crate) delivered: AtomicU64,
    /// Set when nothing more will come, or nobody waits for it any more.
    pub(crate) stop: AtomicBool,
}

/// What every event must carry, by agent and by place: fingerprints of what was given.
pub(crate) type Expected = Arc<Vec<Vec<u64>>>;

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Member {
    stream: TcpStream,
    carry: Carry,
    /// Which of the agents it follows, and the agent's id.
    agent: (usize, String),
    /// The id before the first that it was to get; `None` until the server has told.
    origin: Option<u64>,
    /// Behind which id it asked to begin.
    after: Option<u64>,
    /// The last id that it got.
    pub(crate) last: u64,
    pub(crate) received: u64,
    /// When it asked.
    pub(crate) begun: u64,
    /// When the first event came.
    pub(crate) first_at: Option<u64>,
    /// When it was told that it has caught up.
    pub(crate) live_at: Option<u64>,
    pub(crate) closed: bool,
}

/// All subscribers.
#[derive(Debug)]
pub(crate) struct Crowd {
    epoll: OwnedFd,
    members: Vec<Member>,
    buffer: FrameBuffer,
    pub(crate) latency: Histogram,
    stamps: Option<Arc<Stamps>>,
    expected: Option<Expected>,
    progress: Arc<Progress>,
}

impl Crowd {
    pub(crate) fn new(stamps: Option<Arc<Stamps>>, progress: Arc<Progress>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("make an epoll")?;
        Ok(Self {
            epoll,
            members: Vec::new(),
            buffer: FrameBuffer::default(),
            latency: Histogram::default(),
            stamps,
            expected: None,
            progress,
        })
    }

    /// Checks what every event carries.
    pub(crate) fn expecting(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Connects one more to a server's WebSocket and lets it follow an agent: live, or behind an id.
    pub(crate) fn subscribe(
        &mut self,
        address: &Address,
        path: &str,
        agent: (usize, &str),
        after: Option<u64>,
    ) -> Result<()> {
        self.open(address, path, agent)?;
        self.ask(self.members.len() - 1, after)
    }

    /// Connects one more to a server's WebSocket, to ask later.
    pub(crate) fn open(
        &mut self,
        address: &Address,
        path: &str,
        agent: (usize, &str),
    ) -> Result<()> {
        let (stream, carry) = open_socket(address, path)?;
        self.add(stream, carry, agent, None)
    }

    /// Connects one more to a plain socket that sends the same frames, from the id 1 on.
    pub(crate) fn connect(&mut self, address: SocketAddr, agent: usize) -> Result<()> {
        let stream = TcpStream::connect(address).during("connect a reader")?;
        self.add(stream, Carry::new(), (agent, ""), Some(0))
    }

    /// Connects one more to a WebSocket that asks for no subscription.
    pub(crate) fn connect_web(&mut self, address: &Address, agent: usize) -> Result<()> {
        let (stream, carry) = open_socket(address, &format!("/{agent}"))?;
        self.add(stream, carry, (agent, ""), Some(0))
    }

    fn add(
        &mut self,
        stream: TcpStream,
        carry: Carry,
        agent: (usize, &str),
        origin: Option<u64>,
    ) -> Result<()> {
        self.members.push(Member {
            stream,
            carry,
            agent: (agent.0, agent.1.to_owned()),
            origin,
            after: None,
            last: 0,
            received: 0,
            begun: nanos(),
            first_at: None,
            live_at: origin.map(|_| 0),
            closed: false,
        });
        self.listen_to(self.members.len() - 1)
    }

    /// Lets a member ask for its agent's events: live, or behind an id.
    pub(crate) fn ask(&mut self, index: usize, after: Option<u64>) -> Result<()> {
        let member = &mut self.members[index];
        let agent_id = &member.agent.1;
        let behind = after.map_or(String::new(), |after| format!(r#","afterEventId":{after}"#));
        let text = format!(r#"{{"type":"subscribe","agentId":"{agent_id}"{behind}}}"#);
        (member.after, member.begun) = (after, nanos());
        (&member.stream)
            .write_all(&client_text_frame(&text))
            .during("subscribe")
    }

    /// Reads what a member gets from now on.
    pub(crate) fn listen_to(&mut self, index: usize) -> Result<()> {
        let stream = &self.members[index].stream;
        stream.set_nonblocking(true).during("set up a socket")?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, stream, data, epoll::EventFlags::IN).during("watch a socket")
    }

    /// Lets a member read nothing until [`Crowd::listen_to`].
    pub(crate) fn stall(&mut self, index: usize) {
        let _ = epoll::delete(&self.epoll, &self.members[index].stream);
    }

    /// Drops a member's socket, whatever is in it, and lets it go on behind the last event that it
    /// got, on a new one.
    pub(crate) fn resume(&mut self, index: usize, address: &Address, path: &str) -> Result<()> {
        self.stall(index);
        let (stream, carry) = open_socket(address, path)?;
        let member = &mut self.members[index];
        (member.stream, member.carry, member.closed) = (stream, carry, false);
        let after = member.origin.map(|_| member.last);
        self.listen_to(index)?;
        self.ask(index, after)
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Reads until all have caught up with the past.
    pub(crate) fn until_live(&mut self, patience: Duration) -> Result<()> {
        let all = |crowd: &Self| crowd.members.iter().all(|member| member.live_at.is_some());
        self.read_until("all subscribers are live", patience, all)
    }

    /// Reads until so many events were received in all, or the feeder says stop.
    pub(crate) fn until_delivered(&mut self, wanted: u64, patience: Duration) -> Result<()> {
        let enough = |crowd: &Self| {
            let progress = &crowd.progress;
            progress.delivered.load(Ordering::Relaxed) >= wanted
                || progress.stop.load(Ordering::Relaxed)
        };
        self.read_until("all events are there", patience, enough)
    }

    pub(crate) fn read_until(
        &mut self,
        what: &str,
        patience: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let limit = Instant::now() + patience;
        while !done(self) {
            if Instant::now() > limit {
                let seconds = patience.as_secs();
                let delivered = self.progress.delivered.load(Ordering::Relaxed);
                return fail(format!(
                    "it took longer than {seconds} s until {what}; {delivered} events came"
                ));
            }
            self.turn(PATIENCE_STEP)?;
        }
        Ok(())
    }

    /// Takes in what is there, one read for each socket that has something.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<()> {
        let wait = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut ready = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; EVENTS_MAX];
        let count = match epoll::wait(&self.epoll, &mut ready[..], Some(&wait)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error).during("wait for events"),
        };
        for event in &ready[..count] {
            let index = usize::try_from(event.data.u64()).during("name a socket")?;
            self.take(index)?;
        }
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let (agent, after) = (member.agent.0, member.after);
        let (mut origin, mut last, mut count) = (member.origin, member.last, 0);
        let (stamps, expected, latency) = (&self.stamps, &self.expected, &mut self.latency);
        let mut problem = None;
        let mut others = Vec::new();
        let mut carry = std::mem::take(&mut member.carry);
        let taken = self
            .buffer
            .take(&mut &member.stream, &mut carry, |op, payload| {
                let event = (op == OP_TEXT).then(|| frames::event(payload)).flatten();
                let (Some(event), Some(origin)) = (event, origin) else {
                    if let Some(position) = subscribed(payload, after) {
                        if origin.is_some() && position != last {
                            problem = Some(format!("it went on behind {position}, not {last}"));
                        }
                        origin = origin.or(Some(position));
                        last = position;
                    }
                    others.push((op, payload.to_vec()));
                    return;
                };
                if event.id != last + 1 {
                    problem = Some(format!("event {} came behind event {last}", event.id));
                }
                last = event.id;
                count += 1;
                let place = event.id.saturating_sub(origin + 1);
                if let Some(at) = stamps.as_ref().and_then(|stamps| stamps.get(agent, place)) {
                    latency.record(nanos().saturating_sub(at));
                }
                if let Some(expected) = expected
                    && print_of(expected, agent, place) != Some(frames::fingerprint(event.content))
                {
                    problem = Some(format!("event {} is not what was given", event.id));
                }
            });
        let taken = taken.map_err(Error)?;
        (member.carry, member.origin, member.last) = (carry, origin, last);
        if count > 0 {
            member.received += count;
            member.first_at.get_or_insert_with(nanos);
            self.progress.delivered.fetch_add(count, Ordering::Relaxed);
        }
        if let Some(problem) = problem {
            return fail(format!("subscriber {index} of agent {agent}: {problem}"));
        }
        for (op, payload) in others {
            answer(member, op, &payload)?;
        }
        if taken == Taken::Ended {
            let _ = epoll::delete(&self.epoll, &member.stream);
            member.closed = true;
        }
        Ok(())
    }
}

fn print_of(expected: &Expected, agent: usize, place: u64) -> Option<u64> {
    let prints = expected.get(agent)?;
    prints.get(usize::try_from(place).ok()?).copied()
}

/// What a message that is no event asks of a subscriber.
fn answer(member: &mut Member, op: u8, payload: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(payload);
    match op {
        OP_TEXT if text.starts_with(r#"{"type":"live""#) => {
            member.live_at.get_or_insert_with(nanos);
        }
        OP_TEXT if text.starts_with(r#"{"type":"error""#) => return fail(text),
        OP_PING => {
            // A pong of ours is masked with zeros; should it not fit, the next one will.
            let _ = (&member.stream).write(&[0x8A, 0x80, 0, 0, 0, 0]);
        }
        OP_CLOSE => member.closed = true,
        _ => {}
    }
    Ok(())
}

/// The id before the first that will be sent, if this is the answer to a subscription.
fn subscribed(payload: &[u8], after: Option<u64>) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    text.strip_prefix(r#"{"type":"subscribed""#)?;
    let number = |name: &str| -> Option<u64> {
        let rest = text.split_once(name)?.1;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    };
    match after {
        None => number(r#""lastEventId":"#),
        Some(after) if text.contains(r#""recovered":true"#) => Some(after),
        Some(_) => Some(number(r#""firstEventId":"#)?.saturating_sub(1)),
    }
}

/// Opens a WebSocket; what came behind the handshake already is given back, too.
pub(crate) fn open_socket(address: &Address, path: &str) -> Result<(TcpStream, Carry)> {
    let mut stream = address.connect()?;
    stream
        .write_all(&address.upgrade(path))
        .during("open a WebSocket")?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some((head, body)) = parse_head(&bytes) {
            return match head.status {
                101 => Ok((stream, bytes.split_off(body))),
                401 | 403 => fail(format!(
                    "the server does not let us in ({}): give the administrator's token with --token",
                    head.status
                )),
                status => fail(format!("the server refused a WebSocket with {status}")),
            };
        }
        match stream.read(&mut piece).during("open a WebSocket")? {
            0 => return fail("the server closed a connection instead of making it a WebSocket"),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
