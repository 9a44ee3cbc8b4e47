//! HTTP requests over many connections by one thread: on each connection the next request goes out
//! when the answer to the last one is there.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::api::{Address, parse_head};
use super::error::{During, Error, Result, fail};
use super::histogram::Histogram;
use super::system::nanos;

/// Far above what any request takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) count: u64,
    pub(crate) took: Duration,
    pub(crate) latency: Histogram,
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    begun: u64,
    busy: bool,
    /// Whether it is watched for room to write.
    waits_for_room: bool,
}

/// Sends requests on `connections` connections for a time, then waits for the last answers. `make`
/// is asked for the next request of a connection; every answer must be a success.
pub(crate) fn run(
    address: &Address,
    connections: usize,
    time: Duration,
    mut make: impl FnMut(usize) -> Vec<u8>,
) -> Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("make an epoll")?;
    let mut all = Vec::new();
    for index in 0..connections {
        let stream = address.connect()?;
        stream.set_nonblocking(true).during("set up a socket")?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).during("watch a socket")?;
        all.push(Connection {
            stream,
            out: Vec::new(),
            written: 0,
            answer: Vec::new(),
            begun: 0,
            busy: false,
            waits_for_room: false,
        });
    }
    let begin = Instant::now();
    let mut outcome = Outcome {
        count: 0,
        took: Duration::ZERO,
        latency: Histogram::default(),
    };
    let mut busy = connections;
    for (index, connection) in all.iter_mut().enumerate() {
        connection.begin(make(index))?;
        connection.watch(&epoll, index)?;
    }
    let mut piece = vec![0; 64 << 10];
    let mut ready = vec![
        epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        connections
    ];
    while busy > 0 {
        if begin.elapsed() > time + PATIENCE {
            return fail("the server stopped answering");
        }
        let wait = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let count = match epoll::wait(&epoll, &mut ready[..], Some(&wait)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error).during("wait for answers"),
        };
        for event in &ready[..count] {
            let index = usize::try_from(event.data.u64()).during("name a socket")?;
            let connection = &mut all[index];
            connection.write()?;
            if connection.read(&mut piece)? {
                outcome.count += 1;
                outcome
                    .latency
                    .record(nanos().saturating_sub(connection.begun));
                if begin.elapsed() < time {
                    connection.begin(make(index))?;
                } else {
                    connection.busy = false;
                    busy -= 1;
                }
            }
            connection.watch(&epoll, index)?;
        }
    }
    outcome.took = begin.elapsed();
    Ok(outcome)
}

impl Connection {
    fn begin(&mut self, request: Vec<u8>) -> Result<()> {
        (self.out, self.written, self.begun, self.busy) = (request, 0, nanos(), true);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).during("send a request"),
            }
        }
        Ok(())
    }

    /// Asks to be told of room to write only while some is needed.
    fn watch(&mut self, epoll: &std::os::fd::OwnedFd, index: usize) -> Result<()> {
        let needs = self.written < self.out.len();
        if needs == self.waits_for_room {
            return Ok(());
        }
        self.waits_for_room = needs;
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, needs);
        let data = epoll::EventData::new_u64(index as u64);
        epoll::modify(epoll, &self.stream, data, flags).during("watch a socket")
    }

    /// Whether an answer is whole now.
    fn read(&mut self, piece: &mut [u8]) -> Result<bool> {
        match self.stream.read(piece) {
            Ok(0) if self.busy => return fail("the server closed a connection"),
            Ok(read) => self.answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error).during("read an answer"),
        }
        let Some((head, body)) = parse_head(&self.answer) else {
            return Ok(false);
        };
        if self.answer.len() < body + head.body_len {
            return Ok(false);
        }
        if !(200..300).contains(&head.status) {
            let text = String::from_utf8_lossy(&self.answer[body..]);
            return Err(Error(format!(
                "a request was answered {}: {text}",
                head.status
            )));
        }
        self.answer.clear();
        Ok(true)
    }
}
