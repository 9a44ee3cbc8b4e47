//! The world becomes kind: everything works from now on, and what was begun must come to an end.

use std::time::Duration;

use crate::model::{
    Agent, AgentId, AgentRole, Bead, BeadId, BeadStatus, BeadType, ReviewStatus, RigId,
};
use crate::storage::{
    AgentKey, BeadKey, ContainerKey, DiskKey, MailKey, MailUndelivered, RemovalKey, ReviewByStatus,
    ReviewKey, RigKey,
};
use crate::town::command::{Command, NewBead};
use crate::town::mayor;

use super::clients;
use super::run::Simulation;
use super::server::SLEEP_AFTER;
use super::world::{Due, Stage};

/// In this time everything that was begun has ended, whatever pauses and tries lie before it.
const TIME_MAX: Duration = Duration::from_secs(72 * 3600);
/// More than any town needs for that.
const STEPS_MAX: u32 = 50_000;

impl Simulation<'_> {
    pub(super) fn everything_ends(&mut self) {
        self.become_kind();
        self.settle();
        self.probe();
        self.settle();
        self.nothing_runs_for_nobody();
        self.sleeps();
        super::whole::check(&self.server.tree);
    }

    fn become_kind(&mut self) {
        self.note("the world becomes kind".to_owned());
        self.world.kind = true;
        clients::resume_everything(self);
        let now = self.now();
        let Some(container) = &mut self.world.container else {
            return;
        };
        let mut due = Vec::new();
        for (agent_id, run) in &container.runs {
            if matches!(run.stage, Stage::Starting | Stage::Busy | Stage::Waiting(_)) {
                due.push(Due::Agent(*agent_id, run.number));
            }
        }
        due.extend(container.merges.keys().copied().map(Due::Merge));
        for due in due {
            self.world.plan(now, due);
        }
    }

    /// Lets time go on until nothing is left to be done.
    fn settle(&mut self) {
        let limit = self.now().after(TIME_MAX);
        for _ in 0..STEPS_MAX {
            self.catch_up();
            let left = self.unfinished();
            if left.is_empty() {
                return;
            }
            assert!(self.now() < limit, "these never end: {left:#?}");
            self.people_come();
            self.go_on();
        }
        panic!("no end in {STEPS_MAX} steps: {:#?}", self.unfinished());
    }

    /// Who is called to a merge request, or to a mayor that failed too often before the world
    /// became kind, comes sooner or later.
    fn people_come(&mut self) {
        let is_given_up = |mayor: &Agent| mayor::is_given_up(mayor, &self.server.actor.settings);
        if self.agents().iter().any(is_given_up) && self.random.chance(10) {
            clients::resume(self);
        }
        let tree = &self.server.tree;
        let rows = tree.scan(&ReviewByStatus::of_status(ReviewStatus::Waiting));
        let waiting: Vec<BeadId> = rows.map(|row| row.unwrap().1.id).collect();
        for entry_id in waiting {
            let review = self.server.tree.get(&ReviewKey { entry_id }).unwrap();
            if let Some(review) = review.filter(|_| self.random.chance(10)) {
                clients::decide(self, review.rig_id, entry_id);
            }
        }
    }

    /// Everything that takes no time.
    fn catch_up(&mut self) {
        loop {
            self.commit(usize::MAX);
            if self.effects_wait() {
                self.run_effect();
            } else if !self.link_is_quiet() && self.is_linked() {
                self.move_link();
            } else if self.hand.pending() == 0 {
                break;
            }
        }
        self.look();
        self.commit(usize::MAX);
    }

    /// What was begun and has not ended.
    fn unfinished(&self) -> Vec<String> {
        let tree = &self.server.tree;
        let mut left = Vec::new();
        if self.effects_wait() {
            left.push("effects".to_owned());
        }
        for row in tree.scan(&RemovalKey::all()) {
            left.push(format!("{:?}", row.unwrap().1));
        }
        let disk = tree.get(&DiskKey {}).unwrap().unwrap_or_default();
        if disk.asked_at.is_some() {
            left.push(format!("{disk:?}"));
        }
        for agent in self.agents() {
            if agent.hook.is_some() {
                left.push(format!("{agent:?}"));
            }
            let to = MailUndelivered::to(agent.agent_id);
            // What only informs waits for something that does more.
            let is_waited_for = tree.scan(&to).any(|row| {
                let MailUndelivered { to_agent_id, seq } = row.unwrap().0;
                let mail = tree.get(&MailKey { to_agent_id, seq }).unwrap();
                mail.is_some_and(|mail| mail.mail_type.wakes())
            });
            if agent.role == AgentRole::Mayor && is_waited_for {
                left.push(format!("mail for {agent:?}"));
            }
        }
        for status in ReviewStatus::UNFINISHED {
            for row in tree.scan(&ReviewByStatus::of_status(*status)) {
                left.push(format!("{status} merge request {}", row.unwrap().1.id));
            }
        }
        let beads = tree.scan(&BeadKey::all()).map(|row| row.unwrap().1);
        left.extend(
            beads
                .filter(|bead| self.is_under_way(bead))
                .map(|bead| format!("{bead:?}")),
        );
        left
    }

    /// In progress, and not because a person said so; or slung, and nothing visible holds it.
    fn is_under_way(&self, bead: &Bead) -> bool {
        if bead.slung && bead.status == BeadStatus::Open {
            return bead.is_ready();
        }
        bead.status == BeadStatus::InProgress
            && bead.bead_type != BeadType::Escalation
            && !self.checks.is_taken_by_hand(bead.bead_id)
    }

    fn agents(&self) -> Vec<Agent> {
        let rows = self.server.tree.scan(&AgentKey::all());
        rows.map(|row| row.unwrap().1).collect()
    }

    /// Gives work to everybody: whatever happened before, they can do it.
    fn probe(&mut self) {
        self.note("everybody is given work".to_owned());
        let rigs: Vec<RigId> = self
            .server
            .tree
            .scan(&RigKey::all())
            .map(|row| row.unwrap().0.rig_id)
            .collect();
        for rig_id in rigs {
            clients::sling_to(self, rig_id);
        }
        for agent in self.agents() {
            let Some(rig_id) = agent.rig_id.filter(|_| agent.hook.is_none()) else {
                continue;
            };
            let new = probe_bead(agent.agent_id);
            self.request("create bead", move |reply| {
                Command::CreateBead(rig_id, new.clone(), reply)
            });
        }
        clients::tell_mayor(self);
        self.commit(usize::MAX);
    }

    /// Runs whose work is done, or was taken away, have ended; only the mayor stays. Of an agent that
    /// was deleted the town knows nothing any more, until its run shows itself.
    fn nothing_runs_for_nobody(&mut self) {
        let limit = self.now().after(Duration::from_secs(3600));
        while self.now() < limit {
            self.go_on();
            self.catch_up();
        }
        let Some(container) = &self.world.container else {
            return;
        };
        for (agent_id, run) in &container.runs {
            let is_quiet = run.stage == Stage::Idle
                && self
                    .agents()
                    .iter()
                    .all(|agent| agent.agent_id != *agent_id);
            assert!(
                run.role == AgentRole::Mayor || !run.stage.is_alive() || is_quiet,
                "{agent_id} runs and has nothing to do: {run:?}"
            );
        }
    }

    /// A container that nobody needs ends, the mayor's session with it. What is told to the mayor
    /// later wakes it once more.
    fn sleeps(&mut self) {
        let limit = self.now().after(SLEEP_AFTER + TIME_MAX);
        while self.world.container.is_some() {
            let life = self.server.tree.get(&ContainerKey {}).unwrap();
            assert!(self.now() < limit, "it runs for nobody: {life:?}");
            self.go_on();
            self.catch_up();
        }
    }
}

fn probe_bead(agent_id: AgentId) -> NewBead {
    NewBead {
        assignee_agent_id: Some(agent_id),
        ..NewBead::of(BeadType::Issue, "a probe".to_owned())
    }
}
