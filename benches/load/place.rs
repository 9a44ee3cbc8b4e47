//! A town with a rig and agents on the server, made for one benchmark and removed after it.

use serde_json::{Value, json};

use super::api::Api;
use super::cleanup::{self, TownGuard};
use super::error::{Error, Result};
use super::played_container::PlayedContainer;
use super::server::Server;

const USER: &str = "/api/users/gastownd-bench";

/// Where a benchmark takes place.
#[derive(Debug)]
pub(crate) struct Place {
    /// `/api/towns/{id}`.
    pub(crate) town: String,
    /// `/api/towns/{id}/rigs/{id}`.
    pub(crate) rig: String,
    /// Their ids.
    pub(crate) agents: Vec<String>,
    /// The town's container, played by us; on a server of our own only.
    pub(crate) container: Option<PlayedContainer>,
    _guard: TownGuard,
}

impl Place {
    /// A new town with so many agents.
    pub(crate) fn new(server: &Server, agents: usize) -> Result<Self> {
        let mut api = Api::connect(&server.address)?;
        let name = json!({"name": "gastownd-bench"});
        let town = api.must("POST", &format!("{USER}/towns"), &name)?;
        let town_id = text(&town["id"])?;
        let guard = TownGuard(format!("{USER}/towns/{town_id}"));
        cleanup::town(&server.address, &guard.0);
        let town = format!("/api/towns/{town_id}");
        // Whatever the server is set to, no model is asked anything, and nothing is thrown away
        // before it was read.
        let config = json!({
            "agent_server": "rehearsal",
            "retention": {"events_max": 1_000_000_000, "bytes_max": 1u64 << 40},
        });
        let (status, answer) = api.call("PATCH", &format!("{town}/config"), &config)?;
        if !(200..300).contains(&status) {
            return Err(Error(format!("the town's config was refused: {answer}")));
        }
        let container = match server.data() {
            Some(data) => Some(PlayedContainer::open(data, &town_id)?),
            None => None,
        };
        let rig = json!({
            "town_id": town_id,
            "name": "bench",
            "git_url": "https://git.invalid/bench.git",
        });
        let rig = api.must("POST", &format!("{USER}/rigs"), &rig)?;
        let mut place = Self {
            rig: format!("{town}/rigs/{}", text(&rig["id"])?),
            town,
            agents: Vec::new(),
            container,
            _guard: guard,
        };
        if let Some(container) = &place.container {
            // The mayor is what a town starts its container for.
            let message = json!({"message": "Nothing to do."});
            let path = format!("{}/mayor/message", place.town);
            api.must("POST", &path, &message)?;
            container.settle()?;
        }
        place.add_agents(&mut api, agents)?;
        Ok(place)
    }

    /// So many more agents.
    pub(crate) fn add_agents(&mut self, api: &mut Api, count: usize) -> Result<()> {
        for _ in 0..count {
            let name = format!("bench-{}", self.agents.len());
            let agent = json!({"role": "polecat", "name": name, "identity": name});
            let agent = api.must("POST", &format!("{}/agents", self.rig), &agent)?;
            self.agents.push(text(&agent["id"])?);
        }
        Ok(())
    }

    /// The path of the town's WebSocket.
    pub(crate) fn socket(&self) -> String {
        format!("{}/ws", self.town)
    }
}

fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error(format!("the server answered {value} where an id should be")))
}
