//! SIGKILL in the middle of a run, a stop or an upgrade, and a start on the same folder: nothing that
//! anybody was shown or told is lost, and the work goes on as if nothing had been.

use std::time::{Duration, Instant};

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use hyper::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::watcher::Watcher;
use crate::main_job::{all_events, scripted_town};
use crate::support::agent_server;
use crate::support::repository::Repository;
use crate::support::scripted_model::ScriptedModel;
use crate::support::server::{PATIENCE, Server, exchange_on};

/// When the server is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// As soon as the sling was answered.
    Slung,
    /// While the agent speaks.
    Speaking,
    /// While its branch is being merged.
    Merging,
}

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    Stopped,
    /// SIGTERM, and another copy of the program takes the place of the one that ran.
    Upgraded,
}

#[tokio::test(flavor = "multi_thread")]
async fn right_after_a_sling() {
    Run::rehearsed().await.killed_at(&[Moment::Slung]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_agent_speaks() {
    Run::rehearsed().await.killed_at(&[Moment::Speaking]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_done_and_merged() {
    Run::rehearsed().await.killed_at(&[Moment::Merging]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn again_and_again() {
    let moments = [Moment::Slung, Moment::Speaking, Moment::Merging];
    Run::rehearsed().await.killed_at(&moments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_while_an_agent_speaks() {
    let mut run = Run::rehearsed().await;
    run.way = Way::Stopped;
    run.killed_at(&[Moment::Speaking]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_while_an_agent_speaks_and_while_its_branch_is_merged() {
    let mut run = Run::rehearsed().await;
    run.way = Way::Upgraded;
    run.killed_at(&[Moment::Speaking, Moment::Merging]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_while_the_real_opencode_works() {
    let (mut run, _model) = Run::opencode().await;
    run.way = Way::Upgraded;
    run.killed_at(&[Moment::Speaking, Moment::Merging]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_real_opencode_works() {
    let (run, _model) = Run::opencode().await;
    run.killed_at(&[Moment::Speaking, Moment::Merging]).await;
}

/// A town with a bead to be slung, and what everybody was shown and told so far.
struct Run {
    server: Server,
    way: Way,
    /// Where programs are installed.
    programs: TempDir,
    repository: Repository,
    town: String,
    rig: String,
    agent_id: String,
    body: String,
    agent: Watcher,
    feed: Watcher,
    acknowledged: Acknowledged,
}

impl Run {
    async fn rehearsed() -> Self {
        let words = "word ".repeat(150);
        let body = format!(
            "rehearse: slow 10ms\nrehearse: say {words}\nrehearse: slow 0ms\n\
             rehearse: write docs/new.md <<New"
        );
        Self::new(&[], json!({"agent_server": "rehearsal"}), &body).await
    }

    async fn opencode() -> (Self, ScriptedModel) {
        let model = ScriptedModel::start(&Lifecycle::new()).await;
        let kind = AgentServerKind::Opencode;
        let program = agent_server::program(kind).expect("tests/agents/install has been run");
        let arguments = ["--agent-program", &program.to_string_lossy()];
        let body = "Write a greeting. SCENARIO:polecat";
        let run = Self::new(&arguments, scripted_town(kind, &model), body).await;
        (run, model)
    }

    async fn new(arguments: &[&str], config: Value, body: &str) -> Self {
        let server = Server::start(arguments);
        let repository = Repository::new();
        // Merges wait until they are let through, so that one can be met half-way.
        repository.hold_merges();
        let town = server.town(config).await;
        let rig = server.rig(&town, &repository.origin()).await;
        let get_or_create = format!("{rig}/agents/get-or-create");
        let polecat = server
            .post(&get_or_create, json!({"role": "polecat"}))
            .await;
        let agent_id = polecat["id"].as_str().unwrap().to_owned();
        let agent = Watcher::begin(&server, &town, json!({"agentId": agent_id})).await;
        let feed = Watcher::begin(&server, &town, json!({"topic": "town"})).await;
        let acknowledged = Acknowledged::of_each_kind(&server, &rig).await;
        Self {
            server,
            way: Way::Killed,
            programs: TempDir::new().unwrap(),
            repository,
            town,
            rig,
            agent_id,
            body: body.to_owned(),
            agent,
            feed,
            acknowledged,
        }
    }

    async fn killed_at(mut self, moments: &[Moment]) {
        let order = json!({"title": "Do it once", "body": self.body});
        let slung = self
            .server
            .post(&format!("{}/sling", self.rig), order)
            .await;
        assert_eq!(slung["agent"]["id"], self.agent_id.as_str());
        let bead_id = slung["bead"]["bead_id"].as_str().unwrap().to_owned();
        for moment in moments {
            self.reach(*moment).await;
            self.end_and_start(*moment).await;
        }
        self.repository.let_merges_through();
        let bead_path = format!("{}/beads/{bead_id}", self.rig);
        let closed = |bead: &Value| {
            assert_ne!(bead["status"], "failed", "{bead:#}");
            bead["status"] == "closed"
        };
        self.server
            .until("the bead is closed", &bead_path, closed)
            .await;
        let agent_path = format!("{}/agents/{}", self.rig, self.agent_id);
        let idle = |agent: &Value| agent["status"] == "idle";
        self.server
            .until("the polecat is free", &agent_path, idle)
            .await;

        // Until its session has ended the container has work, and outlives the server on purpose.
        self.agent.until_seen("agent.exited").await;
        let subjects = self.repository.git(&["log", "--format=%s", "main"]);
        let times = subjects.matches("Do it once").count();
        assert!(times >= 1, "it reached main: {subjects}");
        let files = self
            .repository
            .git(&["log", "--format=", "--name-only", "main", "--", "docs"]);
        assert_eq!(files.lines().count(), 1, "once: {files}");
        self.acknowledged.still_hold(&self.server, &self.rig).await;
        self.feed.until_seen("agent.exited").await;
        self.agent_was_left_alone(moments);
        self.all_is_still_there(&agent_path).await;
        self.ends_without_a_trace().await;
    }

    /// Waits for the moment, with everybody watching.
    async fn reach(&mut self, moment: Moment) {
        match moment {
            Moment::Slung => {}
            Moment::Speaking => {
                self.agent.until_types(&["message.part.delta"; 5]).await;
            }
            Moment::Merging => {
                self.feed.until_types(&["review.started"]).await;
                self.repository.merge_is_held().await;
            }
        }
    }

    /// One run, and that from its start to its end: it was never asked for again, and the tools that
    /// it called last took the token that it was given at first.
    fn agent_was_left_alone(&self, moments: &[Moment]) {
        if moments.contains(&Moment::Slung) {
            // Its start may not have been asked for before the end.
            return;
        }
        let count = |event_type: &str| {
            let facts = self.feed.seen.iter();
            let of_type = facts.filter(|fact| fact["type"] == event_type);
            of_type
                .filter(|fact| fact["data"]["agent_id"] == self.agent_id.as_str())
                .count()
        };
        for once in ["agent.dispatched", "agent.started", "agent.done"] {
            assert_eq!(count(once), 1, "{once}");
        }
    }

    /// Ends the server while clients write, starts it again, and lets everybody come back.
    #[expect(
        clippy::print_stdout,
        reason = "how long an adoption takes is a figure"
    )]
    async fn end_and_start(&mut self, moment: Moment) {
        let containers = self.containers();
        if moment != Moment::Slung {
            assert_eq!(containers.len(), 1);
        }
        let writer = write_on(&self.server, &self.rig, &self.agent_id);
        if moment != Moment::Slung {
            // Some of it acknowledged.
            self.feed.until_types(&["bead.created"; 3]).await;
        }
        match self.way {
            Way::Killed => self.server.kill(),
            Way::Stopped => assert!(self.server.terminate().success()),
            Way::Upgraded => {
                assert!(self.server.terminate().success());
                self.server.install(self.programs.path());
            }
        }
        self.acknowledged.beads.extend(writer.await.unwrap());
        self.agent.until_gone().await;
        self.feed.until_gone().await;
        let begin = Instant::now();
        self.server.restart();
        let answers = begin.elapsed();
        self.until_adopted(moment).await;
        println!(
            "{:?} at {moment:?}: answers after {answers:?}, adopted after {:?}",
            self.way,
            begin.elapsed()
        );
        self.agent.resume(&self.server, &self.town).await;
        self.feed.resume(&self.server, &self.town).await;
        let again = self.containers();
        if moment == Moment::Slung {
            assert!(again.len() <= 1, "{again:?}");
        } else {
            assert_eq!(again, containers, "the container was adopted");
        }
    }

    /// Waits until the new server speaks with the container.
    async fn until_adopted(&self, moment: Moment) {
        if moment == Moment::Slung {
            return;
        }
        let dry_run = format!("{}/reconcile?dry_run=1", self.town);
        let is_linked = |look: &Value| look["view"]["up_since"].is_string();
        self.server.until("the link", &dry_run, is_linked).await;
    }

    /// The container processes of the town.
    fn containers(&self) -> Vec<u32> {
        let is_container = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"container")
        };
        let mut pids = self.server.leftovers();
        pids.retain(is_container);
        pids.sort_unstable();
        pids
    }

    /// What was shown before and after each kill is what a new client is shown now.
    async fn all_is_still_there(&mut self, agent_path: &str) {
        let over_http = all_events(&self.server, agent_path).await;
        let over_http: Vec<Value> = over_http.iter().map(of_http).collect();
        ids_have_no_gap(&over_http);
        let last = over_http.len();
        self.agent.until_id(last as u64).await;
        assert_eq!(self.agent.seen[..last], over_http, "over HTTP");
        for watcher in [&self.agent, &self.feed] {
            ids_have_no_gap(&watcher.seen);
            let mut fresh = Watcher::begin(&self.server, &self.town, watcher.subject.clone()).await;
            fresh.until_id(watcher.seen.len() as u64).await;
            assert_eq!(fresh.epoch, watcher.epoch);
            assert_eq!(
                fresh.seen[..watcher.seen.len()],
                watcher.seen,
                "from the start"
            );
        }
    }

    async fn ends_without_a_trace(mut self) {
        assert!(self.server.terminate().success());
        let limit = Instant::now() + PATIENCE;
        while !self.server.leftovers().is_empty() {
            assert!(
                Instant::now() < limit,
                "left: {:?}",
                self.server.leftovers()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What the server said that it had done.
struct Acknowledged {
    beads: Vec<String>,
    closed: String,
    reader: String,
}

impl Acknowledged {
    /// A bead, a change of one, a mail and a checkpoint.
    async fn of_each_kind(server: &Server, rig: &str) -> Self {
        let bead = json!({"type": "issue", "title": "Before"});
        let bead = server.post(&format!("{rig}/beads"), bead).await;
        let closed = bead["bead_id"].as_str().unwrap().to_owned();
        let close = json!({"agent_id": "somebody"});
        server
            .post(&format!("{rig}/beads/{closed}/close"), close)
            .await;
        let witness = json!({"role": "witness"});
        let reader = server
            .post(&format!("{rig}/agents/get-or-create"), witness)
            .await;
        let reader = reader["id"].as_str().unwrap().to_owned();
        let mail = json!({
            "from_agent_id": "somebody", "to_agent_id": reader,
            "subject": "Keep this", "body": "To the end.",
        });
        server.post(&format!("{rig}/mail"), mail).await;
        let checkpoint = json!({"data": {"place": 7}});
        server
            .post(&format!("{rig}/agents/{reader}/checkpoint"), checkpoint)
            .await;
        Self {
            beads: Vec::new(),
            closed,
            reader,
        }
    }

    async fn still_hold(&self, server: &Server, rig: &str) {
        for bead_id in &self.beads {
            server.get(&format!("{rig}/beads/{bead_id}")).await;
        }
        let bead = server.get(&format!("{rig}/beads/{}", self.closed)).await;
        assert_eq!(bead["status"], "closed");
        let reader = format!("{rig}/agents/{}", self.reader);
        assert_eq!(server.get(&reader).await["checkpoint"], json!({"place": 7}));
        let mail = server.get(&format!("{reader}/mail")).await;
        assert_eq!(mail[0]["subject"], "Keep this", "{mail}");
        // Whatever follows tells the witness of work that polecats handed in.
        let mut others = mail.as_array().unwrap().iter().skip(1);
        assert!(
            others.all(|mail| mail["mail_type"] == "POLECAT_DONE"),
            "{mail}"
        );
    }
}

/// Makes beads and appends events, one after the other, until the server is gone; the beads whose
/// making was acknowledged.
#[expect(clippy::disallowed_methods, reason = "its outcome is awaited here")]
fn write_on(server: &Server, rig: &str, agent_id: &str) -> JoinHandle<Vec<String>> {
    let (address, rig) = (server.address().to_owned(), rig.to_owned());
    let event = json!({"agent_id": agent_id, "event_type": "note", "data": "x".repeat(300)});
    let bead = json!({"type": "issue", "title": "Meanwhile"});
    let requests = [
        (format!("{rig}/beads"), bead.to_string()),
        (format!("{rig}/agent-events"), event.to_string()),
    ];
    tokio::spawn(async move {
        let mut made = Vec::new();
        for (path, body) in requests.iter().cycle() {
            let Ok(stream) = TcpStream::connect(&address).await else {
                break;
            };
            let body = body.clone().into_bytes();
            let Ok((status, _, answer)) =
                exchange_on(stream, &address, "POST", path, &[], body).await
            else {
                break;
            };
            if status == StatusCode::SERVICE_UNAVAILABLE {
                // It stops, and has said so.
                break;
            }
            assert_eq!(status, StatusCode::CREATED);
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            made.extend(answer["data"]["bead_id"].as_str().map(ToOwned::to_owned));
        }
        made
    })
}

#[track_caller]
fn ids_have_no_gap(events: &[Value]) {
    for (event, id) in events.iter().zip(1u64..) {
        assert_eq!(event["id"], id, "{event}");
    }
}

/// An event of the HTTP route as the WebSocket shows it.
fn of_http(event: &Value) -> Value {
    json!({
        "agentId": event["agent_id"], "id": event["id"], "type": event["event_type"],
        "data": event["data"], "timestamp": event["created_at"],
    })
}
