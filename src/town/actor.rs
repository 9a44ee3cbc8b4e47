//! The town's one writer.
//!
//! Takes a command, runs its transition over a draft, stages the draft and the facts into one
//! batch, applies it, and goes on: the reply, the facts and the effects leave from the committer
//! once the batch is durable. So a town's throughput is not bound by the disk's latency, and still
//! nothing is told before it is safe.

mod carry_out;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::agent_log::{Log, NewEvent};
use crate::clock::Clock;
use crate::container::LinkState;
use crate::model::{BeadId, Timestamp, TownId};
use crate::storage::{self, Batch, Kept, Once, Recalled, Tree};
use crate::telemetry::{self, metrics};

use super::answers::Answer;
use super::command::{Command, Reply};
use super::draft::Draft;
use super::effects::Effect;
use super::reconcile::{self, Live, Told, View};
use super::recorder::Record;
use super::refusal::{Error, Refusal};
use super::settings::TownSettings;

/// How often an agent's activity is written: often enough for people and patrols, rarely enough
/// to cost nothing.
pub(super) const ACTIVITY_INTERVAL: Duration = Duration::from_secs(30);

/// Commands that are taken one after another before the town is looked at.
const TAKEN_MAX: usize = 64;

/// The time between two looks that something woke. Many facts in a row cost one look; the first
/// after a quiet time is looked at without delay.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// When to look again if a look was not possible.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Actor {
    pub(super) town_id: TownId,
    pub(super) tree: Tree,
    pub(super) feed: Log,
    pub(super) clock: Clock,
    pub(super) settings: TownSettings,
    pub(super) effects: mpsc::UnboundedSender<Effect>,
    /// Whether the supervisor has said yet how the container is.
    pub(super) heard: bool,
    /// What it said last and could not be written, because the disk is full.
    pub(super) untaken_link: Option<LinkState>,
    /// Agents to whom a message is on its way; lost in a crash, when the mail is simply sent again.
    pub(super) being_told: Vec<Told>,
    /// Escalations for which the notification hook runs or waits; lost in a crash, when it is run
    /// again.
    pub(super) being_notified: Vec<BeadId>,
    /// The feed's next id: staged facts are ahead of what is durable.
    pub(super) next_fact: u64,
    pub(super) alarm: Timestamp,
    /// Whether something happened since the last look that may mean work.
    pub(super) woken: bool,
    /// Since when the container's link is up.
    pub(super) up_since: Option<Timestamp>,
    /// The key of the request that is being carried out, if it has one.
    pub(super) once: Option<Once>,
    /// Whether the alarm may start anything.
    pub(super) quiet: bool,
    /// Where looks are written down, if they are.
    pub(super) record: Option<Record>,
}

impl Actor {
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut stop: oneshot::Receiver<()>,
    ) {
        self.guarded("the first look", Self::tick);
        let mut looked_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return,
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    self.take(command);
                    // What waits already is taken before the town is looked at: one look for all.
                    for _ in 1..TAKEN_MAX {
                        let Ok(command) = commands.try_recv() else { break };
                        self.take(command);
                    }
                }
                () = tokio::time::sleep_until(self.rings_at(looked_at)) => {}
            }
            if self.is_due(looked_at) {
                self.guarded("a look", Self::tick);
                looked_at = Instant::now();
            }
        }
    }

    /// Whether the town is to be looked at now.
    fn is_due(&self, looked_at: Instant) -> bool {
        self.alarm <= self.clock.now() || self.woken && looked_at + LOOK_PAUSE <= Instant::now()
    }

    /// When the town is to be looked at next.
    fn rings_at(&self, looked_at: Instant) -> Instant {
        let alarm = Instant::now() + self.alarm.since(self.clock.now());
        if self.woken {
            alarm.min(looked_at + LOOK_PAUSE)
        } else {
            alarm
        }
    }

    fn take(&mut self, command: Command) {
        let woken = self.guarded("a command", |actor| actor.carry_out(command));
        self.woken |= woken.unwrap_or(true);
    }

    /// Runs a step of the actor. If it panics, its caller gets no answer and the town goes on: the
    /// tree is the state, and a step changes it by one batch or not at all.
    pub(super) fn guarded<T>(
        &mut self,
        what: &'static str,
        step: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| step(self)));
        if outcome.is_err() {
            tracing::error!(town = %self.town_id, what, "a step of the town panicked; it goes on without");
            // What was staged for a batch that never came.
            self.feed.take_back(self.next_fact);
            self.once = None;
        }
        outcome.ok()
    }

    /// Looks at the town and does what should be done.
    pub(super) fn tick(&mut self) {
        self.woken = false;
        let now = self.clock.now();
        // Should this look come to no plan.
        self.alarm = now.after(LOOK_AGAIN_AFTER);
        if let Some(state) = self.untaken_link.take() {
            self.link_changed(state);
        }
        if self.quiet || self.untaken_link.is_some() {
            return;
        }
        let plan = match self.view() {
            Ok(view) => {
                let plan = reconcile::reconcile(&view, now);
                if let Some(record) = &mut self.record {
                    record.note(now, view, &plan);
                }
                plan
            }
            Err(error) => {
                tracing::error!(town = %self.town_id, error = telemetry::chain(&error), "the alarm can't see the town");
                // Not at once again: whatever is wrong with the disk won't be mended by haste.
                return;
            }
        };
        self.alarm = plan.due_at;
        for planned in &plan.actions {
            tracing::debug!(town = %self.town_id, action = ?planned.action, why = planned.why, "the reconciler acts");
            self.act(planned);
        }
    }

    /// What a look would do now, and what it sees.
    fn dry_run(&self) -> Result<serde_json::Value, Error> {
        let now = self.clock.now();
        let view = self.view()?;
        let plan = reconcile::reconcile(&view, now);
        Ok(serde_json::json!({
            "now": now.to_string(), "due_at": plan.due_at.to_string(), "quiet": self.quiet,
            "actions": plan.actions, "view": view,
        }))
    }

    fn view(&self) -> Result<View, Error> {
        let live = Live {
            heard: self.heard,
            being_told: self.being_told.clone(),
            being_notified: self.being_notified.clone(),
            ask_patience: self.settings.ask_patience,
            up_since: self.up_since,
        };
        View::observe(&self.tree, &live, &self.settings)
    }

    /// Runs a transition and answers `reply` once its outcome is durable. True if something
    /// happened that may mean work.
    fn apply<T: Answer>(
        &mut self,
        reply: Reply<T>,
        transition: impl FnOnce(&mut Draft<'_>) -> Result<T, Error>,
    ) -> bool {
        let once = self.once.take();
        if let Some(once) = &once
            && let Some(outcome) = self.answered(once).transpose()
        {
            self.answer_settled(reply, outcome);
            return false;
        }
        let mut draft = Draft::new(&self.tree, self.town_id, self.clock.now(), &self.settings);
        let outcome = transition(&mut draft);
        let kept = match (once, &outcome) {
            (Some(once), Ok(answer)) => Some((once, Kept::of(&answer.keep()))),
            _ => None,
        };
        let staged = if outcome.is_ok() && (!draft.is_empty() || kept.is_some()) {
            Some(draft.stage(self.next_fact))
        } else {
            None
        };
        let Some(staged) = staged else {
            self.answer_settled(reply, outcome);
            return false;
        };
        let mut batch = staged.batch;
        if let Err(error) = self.tree.remember(&mut batch, kept.into_iter().collect()) {
            self.answer_settled(reply, Err::<T, _>(error.into()));
            return false;
        }
        let has_facts = !staged.facts.is_empty();
        let counted = counted(&staged.facts);
        let first_fact = self.next_fact;
        let facts = self.feed.stage(&mut batch, &staged.facts);
        self.next_fact += staged.facts.len() as u64;
        let (feed, effects) = (self.feed.clone(), self.effects.clone());
        let wakes = has_facts || staged.wakes || !staged.effects.is_empty();
        let offered = self.tree.offer(
            batch,
            Box::new(move |durable| {
                let outcome = match durable {
                    Ok(()) => {
                        feed.publish(facts);
                        for (fact_type, failed) in counted {
                            metrics::FACTS.add(&fact_type);
                            metrics::RUNS_FAILED.add(u64::from(failed));
                        }
                        for effect in staged.effects {
                            // The runner ends only with the town.
                            let _ = effects.send(effect);
                        }
                        outcome
                    }
                    Err(error) => Err(error.into()),
                };
                // A caller that has gone away does not care.
                let _ = reply.send(outcome);
            }),
        );
        if let Err(refused) = offered {
            tracing::error!(town = %self.town_id, error = telemetry::chain(&refused.error), "a change could not be written");
            self.feed.take_back(first_fact);
            self.next_fact = first_fact;
            refused.tell();
            return false;
        }
        wakes
    }

    /// The answer that a request has had already, if it is a repeat.
    fn answered<T: Answer>(&self, once: &Once) -> Result<Option<T>, Error> {
        match self.tree.recall::<T::Kept>(once)? {
            Recalled::Unknown => Ok(None),
            Recalled::Reused => Err(Refusal::KeyReused.into()),
            Recalled::Answered(kept) => match T::recall(kept) {
                Some(answer) => Ok(Some(answer)),
                None => Err(storage::Error::Damaged {
                    what: "answer",
                    detail: "it answers something else".to_owned(),
                }
                .into()),
            },
        }
    }

    /// Answers what changed nothing. It may rest on changes that are not durable yet, so the
    /// answer goes behind them.
    fn answer_settled<T: Send + 'static>(&self, reply: Reply<T>, outcome: Result<T, Error>) {
        if self.tree.is_settled() {
            let _ = reply.send(outcome);
            return;
        }
        let committed = self.tree.commit(
            Batch::new(),
            Box::new(move |durable| {
                let _ = reply.send(durable.map_err(Error::from).and(outcome));
            }),
        );
        drop(committed);
    }

    /// Runs a transition that nobody waits for.
    fn apply_own(
        &mut self,
        what: &'static str,
        transition: impl FnOnce(&mut Draft<'_>) -> Result<(), Error>,
    ) -> bool {
        let (reply, _) = oneshot::channel();
        let town = self.town_id;
        self.apply(reply, |draft| {
            transition(draft).inspect_err(|error| {
                tracing::warn!(%town, what, error = telemetry::chain(error), "not carried out");
            })
        })
    }
}

/// What is counted of facts: their types, and whether they tell of a run that failed.
fn counted(facts: &[NewEvent]) -> Vec<(String, bool)> {
    let failed = |fact: &NewEvent| {
        fact.event_type == "agent.exited" && fact.data.contains(r#""status":"failed""#)
    };
    facts
        .iter()
        .map(|fact| (fact.event_type.clone(), failed(fact)))
        .collect()
}
