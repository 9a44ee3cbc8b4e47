//! A town on a real server in which nothing happens by itself: its repository accepts connections
//! and never answers, so whatever is dispatched or merged is under way for as long as the test.

use std::cell::Cell;
use std::net::TcpListener;

use serde_json::{Value, json};

use super::server::Server;

/// A town and its server.
pub(crate) struct World {
    // Dropped first, so that what waits for an answer fails and ends.
    hole: TcpListener,
    pub(crate) server: Server,
    pub(crate) town: String,
    pub(crate) rig: String,
    names: Cell<u32>,
}

/// What a request may name.
#[derive(Clone, Default)]
pub(crate) struct Ids {
    pub(crate) town: String,
    pub(crate) rig: String,
    pub(crate) agent: String,
    pub(crate) other_agent: String,
    pub(crate) bead: String,
    pub(crate) entry: String,
    pub(crate) escalation: String,
    pub(crate) ask: String,
    pub(crate) token: String,
    /// What the bead follows.
    pub(crate) dependency: String,
    pub(crate) convoy: String,
    /// A bead of that convoy; it has steps.
    pub(crate) part: String,
    pub(crate) molecule: String,
    /// A name that nothing has.
    pub(crate) fresh: String,
}

impl Ids {
    /// The path with its parameters filled in.
    pub(crate) fn fill(&self, template: &str) -> String {
        let mut path = template
            .replace("{user}", "u")
            .replace("{*path}", "style.css");
        for (name, id) in self.all() {
            path = path.replace(&format!("{{{name}}}"), id);
        }
        path
    }

    /// Names another rig, and its town.
    pub(crate) fn go_to(&mut self, rig: &str) {
        let mut parts = rig.split('/').skip(3);
        self.town = parts.next().unwrap().to_owned();
        self.rig = parts.nth(1).unwrap().to_owned();
    }

    /// The parameters of paths and their values.
    pub(crate) fn all(&self) -> [(&'static str, &String); 11] {
        [
            ("town", &self.town),
            ("rig", &self.rig),
            ("agent", &self.agent),
            ("bead", &self.bead),
            ("entry", &self.entry),
            ("escalation", &self.escalation),
            ("ask", &self.ask),
            ("token", &self.token),
            ("dependency", &self.dependency),
            ("convoy", &self.convoy),
            ("molecule", &self.molecule),
        ]
    }
}

impl World {
    /// A town with a rig, on a server of its own. Nobody has to log in.
    pub(crate) async fn open() -> Self {
        let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
        // As a folder that was used with login before.
        std::fs::write(data.path().join("admin.token"), "a".repeat(64)).unwrap();
        Self::on(Server::start_on(data, &[])).await
    }

    /// The same with login.
    pub(crate) async fn with_login() -> Self {
        Self::on(Server::with_login(&[])).await
    }

    async fn on(server: Server) -> Self {
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut world = Self {
            hole,
            server,
            town: String::new(),
            rig: String::new(),
            names: Cell::new(0),
        };
        (world.town, world.rig) = world.town_with_rig().await;
        world
    }

    /// Another town with a rig: their paths.
    pub(crate) async fn town_with_rig(&self) -> (String, String) {
        let town = self
            .server
            .town(json!({"agent_server": "rehearsal", "max_polecats_per_rig": 20}))
            .await;
        let rig = self.rig_of(&town).await;
        (town, rig)
    }

    /// Another rig of a town.
    pub(crate) async fn rig_of(&self, town: &str) -> String {
        let url = format!("https://{}/r.git", self.hole.local_addr().unwrap());
        let body = json!({"town_id": last(town), "name": self.fresh(), "git_url": url});
        let rig = self.server.post("/api/users/u/rigs", body).await;
        format!("{town}/rigs/{}", rig["id"].as_str().unwrap())
    }

    /// A name that nothing has.
    pub(crate) fn fresh(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("fresh-{}", self.names.get())
    }

    pub(crate) async fn agent(&self, rig: &str, role: &str) -> String {
        let (name, identity) = (self.fresh(), self.fresh());
        let body = json!({"role": role, "name": name, "identity": identity});
        let agent = self.server.post(&format!("{rig}/agents"), body).await;
        agent["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn bead(&self, rig: &str, bead_type: &str) -> String {
        let body = json!({
            "type": bead_type, "title": "A bead", "body": "Its text.", "labels": ["a", "b"],
            "metadata": {"k": {"n": [1]}},
        });
        let bead = self.server.post(&format!("{rig}/beads"), body).await;
        bead["bead_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn entry(&self, rig: &str) -> String {
        let agent = self.agent(rig, "polecat").await;
        let bead = self.bead(rig, "issue").await;
        let body = json!({"agent_id": agent, "bead_id": bead, "branch": "gt/x"});
        let submitted = self.server.post(&format!("{rig}/review-queue"), body).await;
        submitted["entry_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn escalation(&self, rig: &str) -> String {
        // Of a low one only people hear; the mayor, told of others, would be started.
        let body = json!({"title": "Look here", "priority": "low"});
        let bead = self.server.post(&format!("{rig}/escalations"), body).await;
        bead["bead_id"].as_str().unwrap().to_owned()
    }

    async fn convoy_of(&self, rig: &str, bead: &str) -> String {
        let town = rig.split("/rigs/").next().unwrap();
        let member = json!({"bead_id": bead, "rig_id": last(rig)});
        let body = json!({"title": "A convoy", "beads": [member]});
        let convoy = self.server.post(&format!("{town}/convoys"), body).await;
        convoy["id"].as_str().unwrap().to_owned()
    }

    async fn molecule_of(&self, rig: &str, bead: &str) -> String {
        let steps = json!([{"title": "one", "instructions": "i1"}, {"title": "two"}]);
        let body = json!({"bead_id": bead, "formula": {"steps": steps}});
        let molecule = self.server.post(&format!("{rig}/molecules"), body).await;
        molecule["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn hook(&self, ids: &Ids) {
        let path = ids.fill("/api/towns/{town}/rigs/{rig}/agents/{agent}/hook");
        self.server.post(&path, json!({"bead_id": ids.bead})).await;
    }

    /// New things of a rig; nothing is on a hook or under way, and the entry is finished.
    pub(crate) async fn ids(&self, rig: &str) -> Ids {
        let entry = self.entry(rig).await;
        // Withdrawn: of one that fails the mayor would be told, and started for that.
        let path = format!("{rig}/beads/{entry}/close");
        self.server.post(&path, json!({})).await;
        Ids {
            entry,
            ..self.idle_ids(rig).await
        }
    }

    /// The same without an entry.
    pub(crate) async fn idle_ids(&self, rig: &str) -> Ids {
        let town = rig.split('/').nth(3).unwrap();
        let (bead, dependency) = (self.bead(rig, "issue").await, self.bead(rig, "issue").await);
        let path = format!("{rig}/beads/{bead}/dependencies");
        let body = json!({"depends_on_bead_id": dependency, "type": "tracks"});
        self.server.post(&path, body).await;
        let part = self.bead(rig, "issue").await;
        Ids {
            town: town.to_owned(),
            rig: last(rig).to_owned(),
            agent: self.agent(rig, "polecat").await,
            other_agent: self.agent(rig, "polecat").await,
            bead,
            dependency,
            convoy: self.convoy_of(rig, &part).await,
            molecule: self.molecule_of(rig, &part).await,
            part,
            // Of nothing: an entry that waits would be under way.
            entry: uuid::Uuid::new_v4().to_string(),
            escalation: self.escalation(rig).await,
            // Of nothing: an ask needs an agent that runs.
            ask: uuid::Uuid::new_v4().to_string(),
            token: uuid::Uuid::new_v4().to_string(),
            fresh: self.fresh(),
        }
    }

    /// Everything that a request could have changed in a town, and the number of its facts.
    pub(crate) async fn snapshot(&self, town: &str, rig: &str) -> Value {
        let mut stream = self.server.stream(town).await;
        stream
            .say(json!({"type": "subscribe", "topic": "town"}))
            .await;
        let facts = stream.next().await.unwrap()["lastEventId"].take();
        let mut rows = vec![facts];
        let rigs = format!("/api/users/u/towns/{}/rigs", last(town));
        let lists = [
            "/api/users/u/towns".to_owned(),
            rigs,
            format!("{town}/config"),
            format!("{town}/escalations?limit=1000"),
            format!("{town}/mayor/status"),
            format!("{rig}/beads?limit=1000"),
            format!("{rig}/agents"),
        ];
        for path in lists {
            rows.push(self.server.get(&path).await);
        }
        rows.into()
    }
}

/// What a town does by itself, in its own time.
const OWN_FACTS: [&str; 20] = [
    "agent.dispatched",
    "agent.exited",
    "agent.message_failed",
    "agent.reminded",
    "agent.started",
    "agent.status_changed",
    "agent.told",
    "agent.waiting",
    "mail.delivered",
    "nudge.dropped",
    "ask.closed",
    "container.asleep",
    "container.draining",
    "container.failed",
    "container.ready",
    "container.starting",
    "container.stats",
    "escalation.repeated",
    "review.requeued",
    "review.started",
];

impl World {
    /// Like [`World::snapshot`], but only what requests do: it stays the same while what was asked
    /// for before is being done.
    pub(crate) async fn deeds(&self, town: &str, rig: &str) -> Value {
        let mut stream = self.server.stream(town).await;
        stream
            .say(json!({"type": "subscribe", "topic": "town", "afterEventId": 0}))
            .await;
        let mut deeds = Vec::new();
        loop {
            let message = stream.next().await.unwrap();
            match message["type"].as_str().unwrap() {
                "live" => break,
                "subscribed" => {}
                own if OWN_FACTS.contains(&own) => {}
                _ => deeds.push(message),
            }
        }
        let names = |rows: Value, field: &str| -> Value {
            let rows = rows.as_array().unwrap().iter();
            rows.map(|row| row[field].clone()).collect()
        };
        let towns = self.server.get("/api/users/u/towns").await;
        deeds.push(names(towns, "id"));
        deeds.push(self.server.get(&format!("{town}/config")).await);
        for (list, field) in [("beads?limit=1000", "id"), ("agents", "id")] {
            let rows = self.server.get(&format!("{rig}/{list}")).await;
            deeds.push(names(rows, field));
        }
        deeds.into()
    }
}

/// The last part of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// The token that an agent's tools send.
pub(crate) fn agent_token(server: &Server, ids: &Ids) -> String {
    use gastownd::model::{Agent, AgentRole, AgentStatus, Dispatch, Timestamp};
    let authority = gastownd::http::auth::Authority::load(server.data.path(), false).unwrap();
    let agent = Agent {
        agent_id: ids.agent.parse().unwrap(),
        seq: 0,
        rig_id: Some(ids.rig.parse().unwrap()),
        role: AgentRole::Polecat,
        name: String::new(),
        identity: String::new(),
        status: AgentStatus::Idle,
        hook: None,
        dispatch: Dispatch::default(),
        last_activity_at: None,
        checkpoint: None,
        created_at: Timestamp::default(),
    };
    authority.agent_token(ids.town.parse().unwrap(), &agent)
}
