//! A town with one rig on a real server, told of as people see it: facts, beads, escalations.

use std::path::{Path, PathBuf};
use std::time::Instant;

use gastownd::sdk::AgentServerKind;
use serde_json::{Value, json};

use super::agent_server;
use super::facts::Facts;
use super::repository::Repository;
use super::server::{PATIENCE, Server};
use super::world::last;

/// One try and no more: the first failure is the last.
pub(crate) const ONE_TRY: &[&str] = &["--dispatch-attempts-max", "1"];

/// A second try soon after the first.
pub(crate) const TRY_SOON: &[&str] = &[
    "--dispatch-backoff-min",
    "1s",
    "--dispatch-attempts-max",
    "2",
];

pub(crate) fn names(text: &Value, wanted: &str) -> bool {
    text.as_str().is_some_and(|text| text.contains(wanted))
}

/// A bead on its way.
#[derive(Clone)]
pub(crate) struct Slung {
    pub(crate) bead_id: String,
    pub(crate) agent_id: String,
    pub(crate) path: String,
}

/// A server with a town and a rig.
pub(crate) struct Case {
    pub(crate) server: Server,
    pub(crate) repository: Repository,
    pub(crate) town: String,
    pub(crate) rig: String,
    pub(crate) facts: Facts,
}

impl Case {
    /// Where the town has its files.
    pub(crate) fn workspace(&self) -> PathBuf {
        let towns = self.server.data.path().join("towns");
        towns.join(last(&self.town))
    }

    /// Where the rig has its repository and its worktrees.
    pub(crate) fn rig_folder(&self) -> PathBuf {
        self.workspace().join("rigs").join(last(&self.rig))
    }

    pub(crate) async fn new(arguments: &[&str], config: Value) -> Self {
        let repository = Repository::new();
        let url = repository.origin();
        Self::on(repository, &url.to_string_lossy(), arguments, config).await
    }

    /// On a repository that the town reaches at `url`.
    pub(crate) async fn on(
        repository: Repository,
        url: &str,
        arguments: &[&str],
        config: Value,
    ) -> Self {
        let arguments = [arguments, &["--container-stop-on-exit"]].concat();
        let server = Server::start(&arguments);
        Self::at(server, repository, url, config).await
    }

    /// At a server that runs.
    pub(crate) async fn at(
        server: Server,
        repository: Repository,
        url: &str,
        config: Value,
    ) -> Self {
        let town = server.town(config).await;
        let facts = Facts::of(&server, &town).await;
        let rig = server.rig(&town, Path::new(url)).await;
        Self {
            server,
            repository,
            town,
            rig,
            facts,
        }
    }

    pub(crate) async fn rehearsed(arguments: &[&str]) -> Self {
        Self::new(arguments, rehearsal()).await
    }

    /// Reads the facts anew, after a time in which nobody read them: whoever answers no ping is cut off.
    pub(crate) async fn read_anew(&mut self) {
        self.facts = Facts::of(&self.server, &self.town).await;
    }

    /// With a real agent program and one try.
    pub(crate) async fn with_program(kind: AgentServerKind, config: Value) -> Self {
        let program = agent_server::program(kind).unwrap();
        let arguments = ["--agent-program", &program.to_string_lossy()];
        Self::new(&[ONE_TRY, &arguments].concat(), config).await
    }

    pub(crate) async fn sling(&self, title: &str, body: &str) -> Slung {
        self.sling_in(&self.rig, title, body).await
    }

    /// Slings in another rig.
    pub(crate) async fn sling_in(&self, rig: &str, title: &str, body: &str) -> Slung {
        let order = json!({"title": title, "body": body});
        let slung = self.server.post(&format!("{rig}/sling"), order).await;
        let bead_id = slung["bead"]["bead_id"].as_str().unwrap().to_owned();
        Slung {
            path: format!("{rig}/beads/{bead_id}"),
            agent_id: slung["agent"]["id"].as_str().unwrap().to_owned(),
            bead_id,
        }
    }

    pub(crate) async fn started(&mut self, bead: &Slung) {
        let own = |fact: &Value| fact["agent_id"] == bead.agent_id.as_str();
        self.facts.until("agent.started", own).await;
    }

    /// What is recorded of that try's failure.
    pub(crate) async fn failed_try(&mut self, bead: &Slung, attempt: u64) -> Value {
        let fact = self
            .facts
            .until("agent.exited", |fact| {
                fact["agent_id"] == bead.agent_id.as_str()
                    && fact["metadata"]["status"] == "failed"
                    && fact["metadata"]["attempt"] == attempt
            })
            .await;
        fact["metadata"].clone()
    }

    /// How the bead's merge ended.
    pub(crate) async fn review(&mut self, bead: &Slung, status: &str) -> Value {
        let own = |fact: &Value| fact["bead_id"] == bead.bead_id.as_str();
        let submitted = self.facts.until("review.submitted", own).await;
        let completed = self.facts.until("review.completed", own).await;
        let mut review = completed["metadata"].clone();
        assert_eq!(review["status"], status, "{review}");
        review["branch"] = submitted["metadata"]["branch"].clone();
        review
    }

    pub(crate) async fn expect_closed(&mut self, bead: &Slung) {
        let own = |fact: &Value| fact["bead_id"] == bead.bead_id.as_str();
        self.facts.until("bead.closed", own).await;
        assert_eq!(self.server.get(&bead.path).await["status"], "closed");
    }

    pub(crate) async fn expect_failed(&mut self, bead: &Slung, reason: &str) {
        let changed = self
            .facts
            .until("bead.status_changed", |fact| {
                fact["bead_id"] == bead.bead_id.as_str() && fact["new_value"] == "failed"
            })
            .await;
        assert!(names(&changed["metadata"]["reason"], reason), "{changed}");
        let failed = self.server.get(&bead.path).await;
        assert_eq!(failed["status"], "failed");
        assert!(names(&failed["failure_reason"], reason), "{failed}");
        let agent = format!("{}/agents/{}", self.rig, bead.agent_id);
        self.server
            .until("the agent is free", &agent, |agent| {
                agent["status"] == "idle"
            })
            .await;
    }

    /// The last try failed, and a person is told.
    pub(crate) async fn expect_given_up(&mut self, bead: &Slung, reason: &str) {
        self.expect_failed(bead, reason).await;
        self.expect_escalation("gave up on: ", reason).await;
    }

    /// The container could not be started, for this reason, and a person is called; all work waits.
    pub(crate) async fn expect_no_container(&mut self, reason: &str) {
        let last = |fact: &Value| fact["metadata"]["retry_at"].is_null();
        let failed = self.facts.until("container.failed", last).await;
        assert!(names(&failed["metadata"]["reason"], reason), "{failed}");
        let raised = |fact: &Value| names(&fact["metadata"]["title"], "container can't be started");
        self.facts.until("escalation.created", raised).await;
    }

    /// An open escalation with these words in its title and its body.
    pub(crate) async fn expect_escalation(&mut self, title: &str, text: &str) {
        let raised = |fact: &Value| names(&fact["metadata"]["title"], title);
        self.facts.until("escalation.created", raised).await;
        let path = format!("{}/beads?type=escalation&status=open", self.rig);
        let open = self.server.get(&path).await;
        let found = open
            .as_array()
            .unwrap()
            .iter()
            .find(|escalation| names(&escalation["title"], title));
        let found = found.unwrap_or_else(|| panic!("no {title:?} in {open:#}"));
        assert!(names(&found["body"], text), "{found:#}");
    }

    /// The server is well, ends when asked to, and nothing of it is left.
    pub(crate) async fn end(&mut self) {
        let (status, _) = self.server.call("GET", "/health", Value::Null).await;
        assert!(status.is_success());
        assert!(self.server.terminate().success());
        // The container's socket is closed by now; the process itself may still be ending.
        let limit = Instant::now() + PATIENCE;
        while !self.server.leftovers().is_empty() {
            let left = self.server.leftovers();
            assert!(Instant::now() < limit, "left running: {left:?}");
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn rehearsal() -> Value {
    json!({
        "agent_server": "rehearsal", "default_model": "play/one",
        "providers": {"rehearsal": {"pace_ms": 0}},
    })
}
