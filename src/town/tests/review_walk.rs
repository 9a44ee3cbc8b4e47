//! Random walks through the review queue: whatever happens in whichever order, nothing is merged
//! without its approvals and gates, nothing goes back more often than it may, and everything ends or
//! waits for somebody who is named.

use proptest::prelude::*;
use serde_json::json;

use super::bench::Bench;
use crate::container::protocol::GatesReport;
use crate::container::{ExitKind, MergeReport};
use crate::model::{AgentId, AgentRole, Approval, BeadId, BeadStatus, Review, ReviewStatus};
use crate::town::command::{AgentDone, BeadActor, Judgement, ReviewOutcome, Verdict};
use crate::town::effects::Effect;
use crate::town::{agents, beads, dispatch, link, refinery, reviews, rework};

/// Beads of one walk.
const BEADS_MAX: usize = 4;

struct Walk {
    town: Bench,
    beads: Vec<BeadId>,
    entries: Vec<BeadId>,
    effects_seen: usize,
}

impl Walk {
    fn new(kind: u8) -> Self {
        let mut town = Bench::new();
        let refinery = match kind % 4 {
            0 => json!({}),
            1 => json!({"gates": ["make"]}),
            2 => json!({"auto_merge": false}),
            _ => json!({"gates": ["make"], "auto_merge": false}),
        };
        town.configure(&json!({"refinery": refinery, "max_polecats_per_rig": 2}));
        Self {
            town,
            beads: Vec::new(),
            entries: Vec::new(),
            effects_seen: 0,
        }
    }

    fn review(&mut self, entry_id: BeadId) -> Option<Review> {
        self.town.act(|draft| draft.find_review(entry_id)).unwrap()
    }

    fn pick(&self, among: &[BeadId], which: u8) -> Option<BeadId> {
        among.get(usize::from(which) % among.len().max(1)).copied()
    }

    /// Who has the bead on its hook.
    fn holder(&mut self, bead_id: BeadId) -> Option<AgentId> {
        self.town
            .act(|draft| match draft.find_bead(bead_id)? {
                Some(bead) => beads::holder(draft, &bead),
                None => Ok(None),
            })
            .unwrap()
    }

    fn step(&mut self, what: u8, which: u8) {
        let rig_id = self.town.rig_id;
        let bead = self.pick(&self.beads.clone(), which);
        let entry = self.pick(&self.entries.clone(), which);
        match what % 18 {
            0 if self.beads.len() < BEADS_MAX => self.hand_in_a_new_one(),
            1..=4 => self.tick(),
            5 => self.town.later(std::time::Duration::from_secs(90)),
            6 => self.town.later(std::time::Duration::from_secs(3600)),
            7 => self.finish_work(bead),
            8 => self.judge(entry, Verdict::Approve),
            9 => self.judge(entry, Verdict::RequestChanges),
            10 | 11 => self.merge_ends(entry, which / 8),
            12 => self.run_fails(entry),
            13 => self.run_fails(bead),
            14 => {
                let statuses = [
                    ReviewStatus::Merged,
                    ReviewStatus::Conflict,
                    ReviewStatus::Failed,
                ];
                let status = statuses[usize::from(which / 8) % 3];
                self.decide(entry, status);
            }
            15 => {
                if let Some(agent_id) = entry.or(bead).and_then(|id| self.holder(id)) {
                    let _ = self
                        .town
                        .act(|draft| agents::unhook(draft, rig_id, agent_id));
                }
            }
            16 => {
                let target = if which.is_multiple_of(2) { bead } else { entry };
                if let Some(bead_id) = target {
                    let status = BeadStatus::Closed;
                    let _ = self.town.set_status(bead_id, status, BeadActor::User(None));
                }
            }
            17 => {
                let target = if which.is_multiple_of(2) { bead } else { entry };
                if let Some(bead_id) = target.filter(|_| which > 200) {
                    let _ = self.town.act(|draft| beads::delete(draft, rig_id, bead_id));
                } else if let Some(agent_id) = target.and_then(|id| self.holder(id)) {
                    let _ = self
                        .town
                        .act(|draft| agents::delete(draft, rig_id, agent_id));
                }
            }
            _ => {}
        }
        self.check();
    }

    fn hand_in_a_new_one(&mut self) {
        let rig_id = self.town.rig_id;
        let polecat = self
            .town
            .act(|draft| agents::get_or_create(draft, rig_id, AgentRole::Polecat));
        let Ok(polecat) = polecat else { return };
        let bead_id = self.town.open_bead();
        self.town.hook(polecat.agent_id, bead_id).unwrap();
        self.beads.push(bead_id);
        self.finish_work(Some(bead_id));
    }

    /// Whoever has the bead says that it is done.
    fn finish_work(&mut self, bead: Option<BeadId>) {
        let rig_id = self.town.rig_id;
        let Some(bead_id) = bead else { return };
        let Some(agent_id) = self.holder(bead_id) else {
            return;
        };
        let done = AgentDone {
            branch: format!("gt/{}", bead_id.short()),
            pr_url: None,
            summary: None,
        };
        self.town
            .act(|draft| agents::done(draft, rig_id, agent_id, done))
            .unwrap();
        let review = self.town.act(|draft| reviews::unfinished(draft, bead_id));
        let entry_id = review.unwrap().expect("it is in the queue").entry_id;
        if !self.entries.contains(&entry_id) {
            self.entries.push(entry_id);
        }
    }

    fn judge(&mut self, entry: Option<BeadId>, verdict: Verdict) {
        let rig_id = self.town.rig_id;
        let Some(entry_id) = entry else { return };
        if let Some(agent_id) = self.holder(entry_id) {
            self.town
                .act(|draft| refinery::judge(draft, rig_id, agent_id, None, judgement(verdict)))
                .unwrap();
        } else if let Some(refinery) = self.refinery() {
            // One that does not have it has no say.
            let refused = self.town.refused(|draft| {
                refinery::judge(draft, rig_id, refinery, Some(entry_id), judgement(verdict))
            });
            assert!(
                ["ReviewNotHeld", "ReviewFinished", "ReviewNotFound"].contains(&refused.as_str()),
                "{refused}"
            );
        }
    }

    fn refinery(&mut self) -> Option<AgentId> {
        let rig_id = self.town.rig_id;
        let agents = self.town.act(|draft| draft.agents_of(rig_id)).unwrap();
        let refinery = agents
            .into_iter()
            .find(|agent| agent.role == AgentRole::Refinery);
        refinery.map(|agent| agent.agent_id)
    }

    fn decide(&mut self, entry: Option<BeadId>, status: ReviewStatus) {
        let rig_id = self.town.rig_id;
        let Some(entry_id) = entry else { return };
        let outcome = ReviewOutcome {
            status,
            message: "a person's word".to_owned(),
            commit_sha: None,
        };
        let _ = self
            .town
            .act(|draft| reviews::decide(draft, rig_id, entry_id, outcome, None));
    }

    /// What the container says of a merge, asked for or not.
    fn merge_ends(&mut self, entry: Option<BeadId>, how: u8) {
        let Some(entry_id) = entry else { return };
        let before = self.review(entry_id);
        let mut report = merge_report(entry_id, how);
        let needed = self.town.act(|draft| draft.config()).unwrap();
        if let Some(review) = &before
            && needed.approval_needed() > Approval::None
        {
            // Somebody pushed once more.
            let head = if how > 240 { "two" } else { "one" };
            let is_approved = review.approval >= needed.approval_needed()
                && review.head_sha.as_deref() == Some(head);
            if !is_approved {
                report.status = ReviewStatus::Pending;
                report.commit_sha = Some(head.to_owned());
                report.gates = None;
            }
        }
        let is_merged = report.status == ReviewStatus::Merged;
        self.town.act(|draft| link::merged(draft, report)).unwrap();
        let after = self.review(entry_id);
        let (Some(before), Some(after)) = (before, after) else {
            return;
        };
        if before.status != ReviewStatus::Merged && after.status == ReviewStatus::Merged {
            assert!(is_merged, "merged without git's word");
            assert!(before.attempts > 0, "merged without being asked for");
        }
    }

    /// The run of whoever has it fails until its tries are used up.
    fn run_fails(&mut self, id: Option<BeadId>) {
        let Some(agent_id) = id.and_then(|id| self.holder(id)) else {
            return;
        };
        for _ in 0..super::bench::ATTEMPTS_MAX {
            let hook = self.town.agent(agent_id).hook;
            if hook != id {
                return;
            }
            self.town
                .act(|draft| dispatch::request(draft, agent_id))
                .unwrap();
            self.town
                .act(|draft| dispatch::failed(draft, agent_id, ExitKind::Session, "it broke"))
                .unwrap();
        }
    }

    fn tick(&mut self) {
        for action in self.town.planned() {
            use crate::town::reconcile::Action;
            let done = match action {
                Action::Merge { entry_id } => {
                    self.town.act(|draft| reviews::start(draft, entry_id))
                }
                Action::Review { entry_id } => {
                    self.town.act(|draft| refinery::begin(draft, entry_id))
                }
                Action::AwaitPerson { entry_id } => self
                    .town
                    .act(|draft| refinery::await_person(draft, entry_id)),
                Action::Rework { entry_id } => {
                    self.town.act(|draft| rework::hand_out(draft, entry_id))
                }
                Action::RequeueStuck { entry_id } => self
                    .town
                    .act(|draft| reviews::running_failed(draft, entry_id, "stuck")),
                _ => Ok(()),
            };
            done.expect("what the reconciler wants can be done");
        }
    }

    fn check(&mut self) {
        let needed = self
            .town
            .act(|draft| draft.config())
            .unwrap()
            .approval_needed();
        for effect in self
            .town
            .effects
            .clone()
            .into_iter()
            .skip(self.effects_seen)
        {
            if let Effect::Merge(entry_id) = effect {
                let review = self.review(entry_id).expect("it is merged by its row");
                assert!(
                    review.approval >= needed || review.head_sha.is_none(),
                    "merged without approval: {review:?}"
                );
            }
        }
        self.effects_seen = self.town.effects.len();
        let mut running = 0;
        for entry_id in self.entries.clone() {
            let Some(review) = self.review(entry_id) else {
                continue;
            };
            assert!(review.reworks <= rework::REWORKS_MAX, "{review:?}");
            let entry = self.town.bead(entry_id);
            assert_eq!(
                review.status.is_finished(),
                entry.status.is_terminal(),
                "{review:?} {entry:?}"
            );
            assert_eq!(
                review.status == ReviewStatus::InReview,
                self.holder(entry_id).is_some(),
                "{review:?}"
            );
            running += usize::from(review.status == ReviewStatus::Running);
            if review.status == ReviewStatus::Waiting {
                let matter = refinery::matter(entry_id);
                let called = self.town.act(|draft| draft.escalation_about(&matter));
                assert!(called.unwrap().is_some(), "nobody is called: {review:?}");
            }
            if review.status == ReviewStatus::Rework {
                let source = self.town.bead(review.source_bead_id);
                assert_eq!(source.status, BeadStatus::InProgress, "{review:?}");
            }
        }
        assert!(running <= 1, "one merge per rig");
    }

    /// From here on everybody does what is theirs to do.
    fn comes_to_an_end(&mut self) {
        for _ in 0..60 {
            self.town.later(std::time::Duration::from_secs(700));
            self.tick();
            self.check();
            for entry_id in self.entries.clone() {
                let Some(review) = self.review(entry_id) else {
                    continue;
                };
                match review.status {
                    ReviewStatus::InReview => self.judge(Some(entry_id), Verdict::Approve),
                    ReviewStatus::Waiting => self.decide(Some(entry_id), ReviewStatus::Merged),
                    ReviewStatus::Rework => self.finish_work(Some(review.source_bead_id)),
                    ReviewStatus::Running => self.merge_ends(Some(entry_id), 0),
                    _ => {}
                }
                self.check();
            }
        }
        for entry_id in self.entries.clone() {
            if let Some(review) = self.review(entry_id) {
                assert!(review.status.is_finished(), "it hangs: {review:?}");
            }
        }
    }
}

fn judgement(verdict: Verdict) -> Judgement {
    Judgement {
        verdict,
        text: "said so".to_owned(),
        head_sha: None,
    }
}

fn merge_report(entry_id: BeadId, how: u8) -> MergeReport {
    let gates = |passed| {
        Some(GatesReport {
            passed,
            output: "$ make\n".to_owned(),
        })
    };
    let (status, retryable, gates) = match how % 6 {
        0 => (ReviewStatus::Merged, false, gates(true)),
        1 => (ReviewStatus::Merged, false, None),
        2 => (ReviewStatus::Conflict, false, None),
        3 => (ReviewStatus::Failed, false, gates(false)),
        4 => (ReviewStatus::Failed, true, None),
        _ => (ReviewStatus::Failed, false, None),
    };
    MergeReport {
        entry_id,
        status,
        message: "as it went".to_owned(),
        commit_sha: None,
        retryable,
        gates,
    }
}

/// Every step is a commit to a disk. `PROPTEST_CASES` asks for more walks.
const WALKS: u32 = 12;

fn walks() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = WALKS;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(walks())]

    #[test]
    fn no_walk_breaks_the_rules_and_every_walk_can_end(
        kind: u8,
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 1..80),
    ) {
        let mut walk = Walk::new(kind);
        walk.hand_in_a_new_one();
        for (what, which) in steps {
            walk.step(what, which);
        }
        walk.comes_to_an_end();
    }
}
