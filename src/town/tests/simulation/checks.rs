//! Those who watch: what must hold after every batch, of whatever it changed.

use std::collections::{HashSet, VecDeque};

use crate::agent_log::{EventView, Log};
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, Ask, Bead, BeadId, BeadStatus, BeadType, ContainerLife,
    ContainerState, Mail, MailId, Review, ReviewStatus, Rig, RigId,
};
use crate::storage::by_hand::{self, ByHand, Change};
use crate::storage::{
    AgentKey, AskKey, BeadKey, ContainerKey, Key, MailKey, ReviewByStatus, ReviewKey, RigKey,
    SegmentHead, SegmentKey, Tree,
};

use crate::town::command::{BeadActor, Command};
use crate::town::queries;
use crate::town::reviews::MERGE_ATTEMPTS_MAX;
use crate::town::rework::REWORKS_MAX;

use super::clients::{Known, remember};
use super::limits::{FactView, Limits};
use super::server::ATTEMPTS_MAX;
use super::whole;

/// Batches between two looks at everything.
const WHOLE_EVERY: u64 = 400;

#[derive(Default)]
pub(super) struct Checks {
    /// Batches seen that are not durable.
    seen: usize,
    /// The facts of each of them.
    facts: VecDeque<Vec<FactView>>,
    limits: Limits,
    /// The bead that the command under way may reopen.
    reopens: Option<BeadId>,
    /// Beads that somebody set to in progress without a hook: nothing will end them.
    by_hand: HashSet<BeadId>,
    /// Mail that a session was given.
    handed_over: HashSet<MailId>,
    /// The last fact that was published.
    last_fact: u64,
    batches: u64,
    /// Rows written and deleted so far.
    writes: u64,
}

impl Checks {
    /// Notes what the command that is carried out next may do and others may not.
    pub(super) fn expect(&mut self, command: &Command) {
        self.reopens = reopened_by(command);
    }

    /// The same where the alarm rings.
    pub(super) fn expect_nothing(&mut self) {
        self.reopens = None;
    }

    pub(super) fn taken_by_hand(&mut self, bead_id: BeadId) {
        self.by_hand.insert(bead_id);
    }

    pub(super) fn is_taken_by_hand(&self, bead_id: BeadId) -> bool {
        self.by_hand.contains(&bead_id)
    }

    pub(super) fn handed_over(&mut self, mails: &[MailId]) {
        self.handed_over.extend(mails);
    }

    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    /// Looks at what the last command's batches changed.
    pub(super) fn observe(
        &mut self,
        what: &'static str,
        hand: &ByHand,
        tree: &Tree,
        known: &mut Known,
    ) {
        for batch in hand.changes(self.seen) {
            self.seen += 1;
            self.batches += 1;
            self.writes += batch.len() as u64;
            let mut facts = Vec::new();
            for change in batch.iter() {
                self.look_at(what, change, tree, known, &mut facts);
            }
            self.facts.push_back(facts);
            if self.batches.is_multiple_of(WHOLE_EVERY) {
                whole::check(tree);
            }
        }
    }

    /// The oldest `count` batches are durable: their facts are published, no others.
    pub(super) fn durable(&mut self, count: usize, feed: &Log) {
        self.seen -= count;
        for facts in self.facts.drain(..count) {
            for fact in facts {
                assert_eq!(fact.id, self.last_fact + 1, "facts are contiguous");
                self.last_fact = fact.id;
                self.limits.take(&fact);
            }
        }
        assert_eq!(feed.position().last_id, self.last_fact, "all is published");
    }

    pub(super) fn crashed(&mut self) {
        self.seen = 0;
        self.facts.clear();
    }

    /// What the world was shown is still there, and nothing else.
    pub(super) fn reopened(&mut self, feed: &Log, tree: &Tree) {
        assert_eq!(
            feed.position().last_id,
            self.last_fact,
            "facts survive as they were shown"
        );
        whole::check(tree);
    }

    fn look_at(
        &self,
        what: &'static str,
        change: &Change,
        tree: &Tree,
        known: &mut Known,
        facts: &mut Vec<FactView>,
    ) {
        let key = change.key.as_slice();
        match key[0] {
            RIG => {
                if let (None, Some(rig)) = rows::<Rig>(change) {
                    remember(&mut known.rigs, rig.rig_id);
                }
                if change.after.is_none() {
                    let gone = RigKey::decode(key).unwrap().rig_id;
                    rig_is_empty(tree, gone);
                }
            }
            AGENT => {
                let (before, after) = rows::<Agent>(change);
                if let (None, Some(agent)) = (&before, &after) {
                    remember(&mut known.agents, (agent.rig_id, agent.agent_id));
                }
                if let (Some(before), Some(after)) = (&before, &after) {
                    one_check_per_silence(before, after);
                }
                if let Some(agent) = after {
                    agent_is_sound(what, &agent, tree);
                } else {
                    let gone = AgentKey::decode(key).unwrap().agent_id;
                    nobody_is_assigned(tree, gone);
                }
            }
            CONTAINER => {
                let (before, after) = rows::<ContainerLife>(change);
                container_is_sound(what, &before.unwrap_or_default(), &after.unwrap(), tree);
            }
            BEAD => {
                let (before, after) = rows::<Bead>(change);
                if let (None, Some(bead)) = (&before, &after) {
                    remember(&mut known.beads, (bead.rig_id, bead.bead_id));
                    if bead.bead_type == BeadType::Convoy {
                        remember(&mut known.convoys, bead.bead_id);
                    }
                }
                self.bead_is_sound(what, before.as_ref(), after.as_ref(), tree);
            }
            REVIEW => {
                let (before, after) = rows::<Review>(change);
                if let (None, Some(review)) = (&before, &after) {
                    remember(&mut known.reviews, (review.rig_id, review.entry_id));
                }
                if let Some(review) = after {
                    review_is_sound(what, before.as_ref(), &review, tree);
                }
            }
            MAIL => {
                if let (Some(before), Some(after)) = rows::<Mail>(change) {
                    let handed_over = before.delivered_at.is_none() && after.delivered_at.is_some();
                    let by_session = self.handed_over.contains(&after.mail_id);
                    let asked_for = what == "prime" || what == "check mail";
                    assert!(
                        !handed_over || by_session || asked_for,
                        "{what} says of a mail that it was handed over: {after:?}"
                    );
                    assert!(
                        before.delivered_at.is_none() || before == after,
                        "{after:?}"
                    );
                }
            }
            ASK => {
                if let (None, Some(ask)) = rows::<Ask>(change) {
                    remember(&mut known.asks, ask.ask_id);
                }
            }
            SEGMENT => facts_of(change, facts),
            _ => {}
        }
    }

    fn bead_is_sound(
        &self,
        what: &'static str,
        before: Option<&Bead>,
        after: Option<&Bead>,
        tree: &Tree,
    ) {
        if let Some(before) = before
            && before.status.is_terminal()
            && let Some(after) = after
            && after.status != before.status
        {
            assert!(
                after.status == BeadStatus::Open && self.reopens == Some(after.bead_id),
                "{what} changed a terminal bead: {before:?} -> {after:?}"
            );
        }
        if let Some(bead) = after {
            assert!(
                bead.status != BeadStatus::Failed || bead.failure.is_some(),
                "{what} failed a bead without a reason: {bead:?}"
            );
            assert_eq!(
                bead.status == BeadStatus::Closed,
                bead.closed_at.is_some(),
                "{what}: {bead:?}"
            );
        }
        // Whoever had it on the hook before or has it now: hook and bead agree.
        let gone = after.is_none_or(|bead| bead.status.is_terminal());
        let holders = [before, after].into_iter().flatten();
        for agent_id in holders.filter_map(|bead| bead.assignee_agent_id) {
            let holder = tree.get(&AgentKey { agent_id }).unwrap();
            let bead_id = before.or(after).map(|bead| bead.bead_id);
            let holds = holder.is_some_and(|agent| agent.hook == bead_id);
            let assigned = after.and_then(|bead| bead.assignee_agent_id) == Some(agent_id);
            assert!(
                !holds || assigned && !gone,
                "{what}: {agent_id} still has on its hook what it may not have: {after:?}"
            );
        }
    }
}

/// The bead that a person wants to be open again.
fn reopened_by(command: &Command) -> Option<BeadId> {
    match command {
        Command::Once(_, command) => reopened_by(command),
        Command::Retry(_, bead_id, ..) => Some(*bead_id),
        Command::SetBeadStatus(_, bead_id, change, _) => {
            let by_person = matches!(change.actor, BeadActor::User(_));
            (by_person && change.status == BeadStatus::Open).then_some(*bead_id)
        }
        _ => None,
    }
}

/// A container changes from one state only to those that can follow, and is told to end only while
/// nobody works in it.
fn container_is_sound(what: &str, before: &ContainerLife, after: &ContainerLife, tree: &Tree) {
    use ContainerState::{Asleep, Draining, Failed, Ready, Starting};
    let follows: &[ContainerState] = match before.state {
        // That a container lives is found out by a server that has just begun.
        Asleep => &[Starting, Ready],
        Starting => &[Ready, Failed, Asleep],
        Ready => &[Draining, Asleep],
        Draining => &[Asleep, Ready],
        Failed => &[Starting, Ready, Asleep],
    };
    let same = before.state == after.state;
    assert!(
        same || follows.contains(&after.state),
        "{what}: {before:?} -> {after:?}"
    );
    assert!(after.attempts <= ATTEMPTS_MAX, "{what}: {after:?}");
    if same || after.state != Draining || what != "a tick" {
        return;
    }
    for row in tree.scan(&AgentKey::all()) {
        let agent = row.unwrap().1;
        let works = agent.dispatch.requested_at.is_some() && agent.status != AgentStatus::Idle;
        assert!(!works, "the container is to end, and {agent:?} works");
    }
    let running = tree.scan(&ReviewByStatus::of_status(ReviewStatus::Running));
    assert_eq!(
        running.count(),
        0,
        "the container is to end while it merges"
    );
}

/// Both sides of a change.
fn rows<R: crate::storage::Record>(change: &Change) -> (Option<R>, Option<R>) {
    let row = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(by_hand::row);
    (row(&change.before), row(&change.after))
}

pub(super) fn agent_is_sound(what: &str, agent: &Agent, tree: &Tree) {
    // A later batch of the same tick may have changed it again; that one is looked at, too.
    let agent_id = agent.agent_id;
    if tree.get(&AgentKey { agent_id }).unwrap().as_ref() != Some(agent) {
        return;
    }
    assert!(
        agent.dispatch.attempts <= ATTEMPTS_MAX,
        "{what}: too many tries: {agent:?}"
    );
    assert!(
        agent.status != AgentStatus::Working
            || agent.hook.is_some()
            || agent.role == AgentRole::Mayor,
        "{what}: works without a hook: {agent:?}"
    );
    let Some(bead_id) = agent.hook else { return };
    let bead = tree.get(&BeadKey { bead_id }).unwrap();
    let Some(bead) = bead else {
        panic!("{what}: a bead on a hook is gone: {agent:?}");
    };
    assert!(
        bead.assignee_agent_id == Some(agent_id) && !bead.status.is_terminal(),
        "{what}: hook and bead disagree: {agent:?} {bead:?}"
    );
    assert_eq!(bead.rig_id, agent.rig_id, "{what}: {agent:?} {bead:?}");
}

/// The patrol asks again only an agent that has shown life since.
fn one_check_per_silence(before: &Agent, after: &Agent) {
    let (old, new) = (before.dispatch.checked_at, after.dispatch.checked_at);
    if let (Some(old), Some(new)) = (old, new) {
        let spoke = after.last_activity_at.is_some_and(|at| at > old);
        assert!(old == new || spoke, "asked twice: {before:?} {after:?}");
    }
}

fn review_is_sound(what: &str, before: Option<&Review>, review: &Review, tree: &Tree) {
    let waits = |review: &Review| !review.status.is_finished();
    if let Some(before) = before {
        assert!(
            waits(before) || before.status == review.status,
            "{what} changed a finished review: {before:?} -> {review:?}"
        );
    }
    let is_newest = |seen: &Review| {
        let entry_id = seen.entry_id;
        tree.get(&ReviewKey { entry_id }).unwrap().as_ref() == Some(seen)
    };
    // A later batch of the same tick may have changed it again; that one is looked at, too.
    if is_newest(review) {
        let entry = review.entry_id;
        let held = tree
            .scan(&AgentKey::all())
            .any(|row| row.unwrap().1.hook == Some(entry));
        assert_eq!(
            review.status == ReviewStatus::InReview,
            held,
            "{what}: {review:?}"
        );
        assert!(review.reworks <= REWORKS_MAX, "{what}: {review:?}");
    }
    if let Some(before) = before
        && before.status != ReviewStatus::Merged
        && review.status == ReviewStatus::Merged
    {
        assert_eq!(
            what, "merged",
            "only git's word makes it merged: {review:?}"
        );
        assert!(
            before.attempts > 0,
            "{what}: it was never asked for: {before:?}"
        );
    }
    assert!(
        review.attempts <= MERGE_ATTEMPTS_MAX,
        "{what}: too many tries: {review:?}"
    );
    if review.status == ReviewStatus::Running {
        let begins = before.is_none_or(|before| before.status != ReviewStatus::Running);
        let needed = queries::config_row(tree).unwrap().approval_needed();
        assert!(
            !begins || review.approval >= needed || review.head_sha.is_none(),
            "{what}: merged without approval: {review:?}"
        );
        let running = tree.scan(&ReviewByStatus::of_status(ReviewStatus::Running));
        let same_rig = running
            .filter_map(|row| {
                let entry_id = row.unwrap().1.id;
                tree.get(&ReviewKey { entry_id }).unwrap()
            })
            .filter(|other| other.rig_id == review.rig_id);
        assert!(same_rig.count() <= 1, "{what}: two merges in one rig");
    }
    let bead_id = review.entry_id;
    let entry = tree.get(&BeadKey { bead_id }).unwrap();
    if let Some(entry) = entry {
        assert_eq!(
            waits(review),
            !entry.status.is_terminal(),
            "{what}: a merge request and its bead disagree: {review:?} {entry:?}"
        );
    }
}

fn rig_is_empty(tree: &Tree, rig_id: RigId) {
    let agents = tree.scan(&AgentKey::all());
    let beads = tree.scan(&BeadKey::all());
    let left = agents
        .filter(|row| row.as_ref().unwrap().1.rig_id == Some(rig_id))
        .count()
        + beads
            .filter(|row| row.as_ref().unwrap().1.rig_id == Some(rig_id))
            .count();
    assert_eq!(left, 0, "rows of a deleted rig are left");
}

fn nobody_is_assigned(tree: &Tree, agent_id: AgentId) {
    for row in tree.scan(&BeadKey::all()) {
        let bead = row.unwrap().1;
        assert_ne!(bead.assignee_agent_id, Some(agent_id), "{bead:?}");
    }
    let mails = tree.scan(&MailKey::to(agent_id)).count();
    assert_eq!(mails, 0, "mail of a deleted agent is left");
}

fn facts_of(change: &Change, facts: &mut Vec<FactView>) {
    let Some(bytes) = &change.after else { return };
    let first_id = SegmentKey::decode(&change.key).unwrap().first_id;
    let (head, frames): (SegmentHead, _) = by_hand::tailed(bytes);
    let ends = head.offsets.iter().skip(1).map(|at| *at as usize);
    let ends = ends.chain([frames.len()]);
    for ((start, end), id) in head.offsets.iter().zip(ends).zip(first_id..) {
        let event = EventView::of_frame(&frames[*start as usize..end]).unwrap();
        assert_eq!(event.id, id, "a fact knows its own place");
        facts.push(FactView::of(&event));
    }
}

/// The tags of the rows that are looked at one by one; a test compares them with their keys.
const RIG: u8 = 0x02;
const AGENT: u8 = 0x03;
const BEAD: u8 = 0x04;
const MAIL: u8 = 0x0C;
const REVIEW: u8 = 0x0E;
const SEGMENT: u8 = 0x10;
const ASK: u8 = 0x32;
const CONTAINER: u8 = 0x3A;

#[test]
fn tags_are_those_of_their_keys() {
    let (rig_id, agent_id) = (RigId::from_bytes([0; 16]), AgentId::from_bytes([0; 16]));
    let bead_id = BeadId::from_bytes([0; 16]);
    let mail = MailKey {
        to_agent_id: agent_id,
        seq: 0,
    };
    let ask = AskKey {
        agent_id,
        server_id: String::new(),
    };
    let review = ReviewKey { entry_id: bead_id };
    let tags = [
        (RIG, RigKey { rig_id }.encode()),
        (AGENT, AgentKey { agent_id }.encode()),
        (BEAD, BeadKey { bead_id }.encode()),
        (MAIL, mail.encode()),
        (REVIEW, review.encode()),
        (ASK, ask.encode()),
        (CONTAINER, ContainerKey {}.encode()),
        (SEGMENT, SegmentKey { first_id: 0 }.encode()),
    ];
    for (tag, key) in tags {
        assert_eq!(tag, key[0]);
    }
}
