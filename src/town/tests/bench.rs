//! A town without an actor: transitions are run and committed one by one.

use std::time::Duration;

use crate::model::{
    Agent, AgentId, AgentRole, Bead, BeadId, BeadStatus, BeadType, Json, Priority, RigId,
    Timestamp, Town, TownId, UserId,
};
use crate::storage::{Database, OpenOptions, Tree, TreeName};
use crate::town::command::{
    BeadActor, Escalation, NewAgent, NewBead, NewMail, NewReview, NewRig, StatusChange,
};
use crate::town::draft::Draft;
use crate::town::effects::Effect;
use crate::town::refusal::{Error, Refusal};
use crate::town::settings::TownSettings;
use crate::town::{agents, beads, reviews, rigs};

pub(super) const BACKOFF_MIN: Duration = Duration::from_secs(30);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(600);
pub(super) const ATTEMPTS_MAX: u32 = 5;
pub(super) const ASK_PATIENCE: Duration = Duration::from_secs(300);
pub(super) const FAILURES_MAX: u32 = 20;
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(600);

pub(super) struct Bench {
    pub(super) tree: Tree,
    town_id: TownId,
    settings: TownSettings,
    next_fact: u64,
    next_name: u32,
    pub(super) now: Timestamp,
    pub(super) rig_id: RigId,
    pub(super) other_rig_id: RigId,
    /// Types of all facts so far.
    pub(super) facts: Vec<String>,
    /// All effects so far.
    pub(super) effects: Vec<Effect>,
    _database: Database,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A town with two rigs.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache_bytes = 8 << 20;
        let database = Database::open(folder.path(), OpenOptions { cache_bytes }).unwrap();
        let town_id = TownId::random();
        let mut bench = Self {
            tree: database.tree(TreeName::Town(town_id)).unwrap(),
            town_id,
            settings: TownSettings {
                backoff_min: BACKOFF_MIN,
                backoff_max: BACKOFF_MAX,
                attempts_max: ATTEMPTS_MAX,
                failures_max: FAILURES_MAX,
                failures_window: Duration::from_secs(30 * 60),
                probe_after: PROBE_AFTER,
                patrol_after: Duration::from_secs(30 * 60),
                allow_local_repos: false,
                allow_http_repos: false,
                ask_patience: ASK_PATIENCE,
                notifies: true,
                sleep_after: Duration::from_secs(30 * 60),
                on_demand: true,
            },
            next_fact: 1,
            next_name: 0,
            now: Timestamp::from_millis(1_000_000_000),
            rig_id: RigId::random(),
            other_rig_id: RigId::random(),
            facts: Vec::new(),
            effects: Vec::new(),
            _database: database,
            _folder: folder,
        };
        let town = Town {
            town_id,
            name: "town".to_owned(),
            owner_user_id: UserId::parse("u").unwrap(),
            created_at: bench.now,
            updated_at: bench.now,
            paused: false,
        };
        bench
            .act(|draft| {
                draft.set_town(town);
                Ok(())
            })
            .unwrap();
        bench.rig_id = bench.rig("one");
        bench.other_rig_id = bench.rig("two");
        bench
    }

    fn rig(&mut self, name: &str) -> RigId {
        let new = NewRig {
            name: name.to_owned(),
            git_url: "https://git.invalid/o/r.git".to_owned(),
            default_branch: "main".to_owned(),
            platform_integration_id: None,
            kilocode_token: None,
        };
        self.act(|draft| rigs::create(draft, new)).unwrap().rig_id
    }

    /// Runs a transition; what it leaves is durable when this returns. A refused one leaves nothing.
    pub(super) fn act<T>(
        &mut self,
        transition: impl FnOnce(&mut Draft<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut draft = Draft::new(&self.tree, self.town_id, self.now, &self.settings);
        let answer = transition(&mut draft)?;
        let staged = draft.stage(self.next_fact);
        self.next_fact += staged.facts.len() as u64;
        self.facts
            .extend(staged.facts.into_iter().map(|fact| fact.event_type));
        self.effects.extend(staged.effects);
        let (done, outcome) = std::sync::mpsc::channel();
        self.tree
            .commit(
                staged.batch,
                Box::new(move |result| done.send(result).unwrap()),
            )
            .unwrap();
        outcome.recv().unwrap().unwrap();
        Ok(answer)
    }

    /// Runs a transition that must be refused; the refusal's name.
    #[track_caller]
    pub(super) fn refused<T: std::fmt::Debug>(
        &mut self,
        transition: impl FnOnce(&mut Draft<'_>) -> Result<T, Error>,
    ) -> String {
        match self.act(transition) {
            Err(Error::Refused(refusal)) => name(&refusal),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(super) fn later(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    pub(super) fn agent(&mut self, agent_id: AgentId) -> Agent {
        self.act(|draft| draft.agent(agent_id)).unwrap()
    }

    pub(super) fn bead(&mut self, bead_id: BeadId) -> Bead {
        self.act(|draft| draft.bead(bead_id)).unwrap()
    }

    pub(super) fn new_agent(&mut self, rig_id: RigId, role: AgentRole) -> Result<AgentId, Error> {
        self.next_name += 1;
        let name = format!("agent-{}", self.next_name);
        let new = NewAgent {
            role,
            identity: format!("{name}@here"),
            name,
        };
        let agent = self.act(|draft| agents::create(draft, rig_id, new))?;
        Ok(agent.agent_id)
    }

    pub(super) fn polecat(&mut self) -> AgentId {
        let rig_id = self.rig_id;
        self.new_agent(rig_id, AgentRole::Polecat).unwrap()
    }

    pub(super) fn new_bead(&mut self, rig_id: RigId) -> BeadId {
        let new = NewBead::of(BeadType::Issue, "work".to_owned());
        self.act(|draft| beads::create(draft, Some(rig_id), new))
            .unwrap()
            .bead_id
    }

    pub(super) fn open_bead(&mut self) -> BeadId {
        let rig_id = self.rig_id;
        self.new_bead(rig_id)
    }

    pub(super) fn set_status(
        &mut self,
        bead_id: BeadId,
        status: BeadStatus,
        actor: BeadActor,
    ) -> Result<Bead, Error> {
        let (rig_id, change) = (self.rig_id, StatusChange { status, actor });
        self.act(|draft| beads::set_status(draft, rig_id, bead_id, change))
    }

    pub(super) fn hook(&mut self, agent_id: AgentId, bead_id: BeadId) -> Result<(), Error> {
        let rig_id = self.rig_id;
        self.act(|draft| agents::hook(draft, rig_id, agent_id, bead_id))
    }

    /// A polecat with a bead on its hook.
    pub(super) fn hooked(&mut self) -> (AgentId, BeadId) {
        let (agent_id, bead_id) = (self.polecat(), self.open_bead());
        self.hook(agent_id, bead_id).unwrap();
        (agent_id, bead_id)
    }

    /// A bead whose branch waits in the review queue: the bead and the entry.
    pub(super) fn in_review(&mut self) -> (BeadId, BeadId) {
        let (agent_id, bead_id) = self.hooked();
        let rig_id = self.rig_id;
        let done = crate::town::AgentDone {
            branch: "gt/x".to_owned(),
            pr_url: None,
            summary: None,
        };
        self.act(|draft| agents::done(draft, rig_id, agent_id, done))
            .unwrap();
        let entry_id = self
            .act(|draft| reviews::unfinished(draft, bead_id))
            .unwrap()
            .unwrap()
            .entry_id;
        (bead_id, entry_id)
    }

    /// Changes the town's config.
    pub(super) fn configure(&mut self, patch: &serde_json::Value) {
        self.act(|draft| crate::town::settings::patch_config(draft, patch))
            .unwrap();
    }

    /// What an agent has sent and received, newest first.
    pub(super) fn mailbox(&self, agent_id: AgentId) -> Vec<crate::model::Mail> {
        let page = crate::town::Page {
            limit: 100,
            offset: 0,
        };
        crate::town::queries::mailbox(&self.tree, agent_id, page).unwrap()
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn settings(&self) -> &TownSettings {
        &self.settings
    }

    /// Escalations of the town, newest first.
    pub(super) fn escalations(&self) -> Vec<Bead> {
        let page = crate::town::Page {
            limit: 100,
            offset: 0,
        };
        crate::town::queries::escalations(&self.tree, None, page).unwrap()
    }
}

/// The name of a refusal.
pub(super) fn name(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    text.split(['(', ' ']).next().unwrap().to_owned()
}

pub(super) fn mail(to_agent_id: AgentId, from: &str) -> NewMail {
    NewMail {
        from_agent_id: from.to_owned(),
        to_agent_id,
        subject: "s".to_owned(),
        body: "b".to_owned(),
        mail_type: crate::model::MailType::Message,
    }
}

pub(super) fn review(agent_id: AgentId, bead_id: BeadId) -> NewReview {
    NewReview {
        agent_id,
        bead_id,
        branch: "gt/x".to_owned(),
        pr_url: None,
        summary: None,
    }
}

pub(super) fn escalation(matter: Option<&str>) -> Escalation {
    Escalation {
        title: "look".to_owned(),
        body: None,
        priority: Priority::High,
        metadata: Json::empty_object(),
        created_by: None,
        matter: matter.map(str::to_owned),
    }
}
