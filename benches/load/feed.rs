//! Ways to give events to what is measured.

use std::io::Write;
use std::net::TcpStream;

use serde_json::value::RawValue;

use super::api::{Address, Api};
use super::error::{During, Error, Result};
use super::floor::Floor;
use super::frames;
use super::place::Place;
use super::played_container::Speaker;
use super::recording::Recorded;
use super::server::Server;

/// The most events that the server takes in one batch.
pub(crate) const BATCH_LEN_MAX: usize = 1000;
/// A batch's body stays below the server's smallest usual bound of 1 MiB.
const BATCH_BYTES_MAX: usize = 900 << 10;

/// Takes events of agents, in order.
pub(crate) trait Feed: Send {
    /// Gives these events of this agent, together.
    fn give(&mut self, agent: usize, events: &[&Recorded]) -> Result<()>;

    /// Nothing more will come: what was kept to go out together goes now.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The way in that fits this server: the container's link where we play it, HTTP otherwise.
pub(crate) fn of_server(server: &Server, place: &Place) -> Result<(Box<dyn Feed>, &'static str)> {
    match &place.container {
        Some(container) => {
            let feed = LinkFeed {
                speaker: container.speaker()?,
                agents: place.agents.clone(),
            };
            Ok((Box::new(feed), "through the container's link"))
        }
        None => Ok((Box::new(HttpFeed::new(server, place)?), "over HTTP")),
    }
}

/// Over a container's link.
struct LinkFeed {
    speaker: Speaker,
    agents: Vec<String>,
}

impl Feed for LinkFeed {
    fn give(&mut self, agent: usize, events: &[&Recorded]) -> Result<()> {
        for event in events {
            self.speaker.push(&self.agents[agent], &event.content);
        }
        self.speaker.flush()
    }
}

/// Over HTTP: one event alone, several as batches.
pub(crate) struct HttpFeed {
    api: Api,
    requests: Requests,
}

impl HttpFeed {
    pub(crate) fn new(server: &Server, place: &Place) -> Result<Self> {
        Ok(Self {
            api: Api::connect(&server.address)?,
            requests: Requests::new(&server.address, place),
        })
    }

    fn send(&mut self, request: &[u8]) -> Result<()> {
        let (status, body) = self.api.exchange(request)?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        Err(Error(format!("an append was answered {status}: {text}")))
    }
}

impl Feed for HttpFeed {
    fn give(&mut self, agent: usize, events: &[&Recorded]) -> Result<()> {
        if let [event] = events {
            let request = self.requests.append(agent, event);
            return self.send(&request);
        }
        let mut from = 0;
        while from < events.len() {
            let mut bytes = 0;
            let fit = events[from..]
                .iter()
                .take(BATCH_LEN_MAX)
                .take_while(|event| {
                    bytes += event.content.len() + 100;
                    bytes < BATCH_BYTES_MAX
                });
            let count = fit.count().max(1);
            let request = self.requests.batch(agent, &events[from..from + count]);
            self.send(&request)?;
            from += count;
        }
        Ok(())
    }
}

/// Finished requests that append.
#[derive(Clone)]
pub(crate) struct Requests {
    address: Address,
    rig: String,
    agents: Vec<String>,
}

impl Requests {
    pub(crate) fn new(address: &Address, place: &Place) -> Self {
        Self {
            address: address.clone(),
            rig: place.rig.clone(),
            agents: place.agents.clone(),
        }
    }

    pub(crate) fn append(&self, agent: usize, event: &Recorded) -> Vec<u8> {
        let path = format!("{}/agent-events", self.rig);
        let body = self.body(agent, event);
        self.address.request("POST", &path, &body)
    }

    pub(crate) fn batch(&self, agent: usize, events: &[&Recorded]) -> Vec<u8> {
        let path = format!("{}/agent-events/batch", self.rig);
        let bodies: Vec<String> = events.iter().map(|event| self.body(agent, event)).collect();
        let body = format!(r#"{{"events":[{}]}}"#, bodies.join(","));
        self.address.request("POST", &path, &body)
    }

    fn body(&self, agent: usize, event: &Recorded) -> String {
        let (id, data) = (&self.agents[agent], &event.data);
        let event_type = serde_json::Value::from(event.event_type.as_str());
        format!(r#"{{"agent_id":"{id}","event_type":{event_type},"data":{data}}}"#)
    }
}

/// To a floor: finished frames, each behind the number of its agent.
pub(crate) struct FloorFeed {
    stream: TcpStream,
    agents: Vec<(String, u64)>,
    bytes: Vec<u8>,
}

impl FloorFeed {
    pub(crate) fn new(floor: &Floor, agents: usize) -> Result<Self> {
        let stream = TcpStream::connect(floor.socket).during("connect to a floor")?;
        stream.set_nodelay(true).during("connect to a floor")?;
        let id = |agent| format!("00000000-0000-4000-8000-{agent:012}");
        Ok(Self {
            stream,
            agents: (0..agents).map(|agent| (id(agent), 0)).collect(),
            bytes: Vec::new(),
        })
    }
}

impl Feed for FloorFeed {
    fn give(&mut self, agent: usize, events: &[&Recorded]) -> Result<()> {
        let number = u16::try_from(agent).during("number an agent")?;
        let (id, last) = &mut self.agents[agent];
        self.bytes.clear();
        for event in events {
            *last += 1;
            self.bytes.extend_from_slice(&number.to_le_bytes());
            frames::push_event(&mut self.bytes, id, *last, &event.content);
        }
        self.stream.write_all(&self.bytes).during("feed a floor")
    }

    fn finish(&mut self) -> Result<()> {
        let end = std::net::Shutdown::Write;
        self.stream.shutdown(end).during("feed a floor")
    }
}

/// An event whose data is text of so many bytes.
pub(crate) fn plain_event(len: usize) -> Recorded {
    let data = serde_json::Value::from("x".repeat(len.saturating_sub(2))).to_string();
    debug_assert!(serde_json::from_str::<&RawValue>(&data).is_ok());
    Recorded::new("message.part.delta", &data)
}
