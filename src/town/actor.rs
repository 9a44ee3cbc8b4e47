//! The town's one writer.
//!
//! Takes a command, runs its transition over a draft, stages the draft and the facts into one
//! batch, applies it, and goes on: the reply, the facts and the effects leave from the committer
//! once the batch is durable. So a town's throughput is not bound by the disk's latency, and still
//! nothing is told before it is safe.

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
use super::reconcile::{self, Action, Container, Live, Told, View};
use super::recorder::Record;
use super::refusal::{Error, Refusal};
use super::settings::TownSettings;
use super::{
    agents, asks, beads, breaker, budget, convoys, dependencies, dispatch, escalations, link, mail,
    mayor, molecules, patrol, pause, queue, reviews, rigs, runs,
};

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
    pub(super) container: Container,
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

    /// Carries out one command; says whether something happened that may mean work.
    pub(super) fn carry_out(&mut self, command: Command) -> bool {
        match command {
            Command::Once(once, command) => {
                self.once = Some(once);
                let acted = self.carry_out(*command);
                self.once = None;
                acted
            }
            Command::CreateRig(new, reply) => self.apply(reply, |draft| rigs::create(draft, new)),
            Command::DeleteRig(rig_id, reply) => {
                self.apply(reply, |draft| rigs::delete(draft, rig_id))
            }
            Command::SetConfig(patch, reply) => {
                self.apply(reply, |draft| super::settings::patch_config(draft, &patch))
            }
            Command::CreateBead(rig_id, new, reply) => {
                self.apply(reply, |draft| beads::create(draft, Some(rig_id), new))
            }
            Command::SetBeadStatus(rig_id, bead_id, change, reply) => self.apply(reply, |draft| {
                beads::set_status(draft, rig_id, bead_id, change)
            }),
            Command::DeleteBead(rig_id, bead_id, reply) => {
                self.apply(reply, |draft| beads::delete(draft, rig_id, bead_id))
            }
            Command::AddDependency(rig_id, bead_id, on, by, reply) => self.apply(reply, |draft| {
                dependencies::add(draft, rig_id, bead_id, on, by)
            }),
            Command::RemoveDependency(rig_id, bead_id, on, by, reply) => self
                .apply(reply, |draft| {
                    dependencies::remove(draft, rig_id, bead_id, on, by)
                }),
            Command::CreateConvoy(new, reply) => {
                self.apply(reply, |draft| convoys::create(draft, new))
            }
            Command::ConvoyBeadClosed(convoy_id, bead_id, reply) => self.apply(reply, |draft| {
                convoys::bead_closed(draft, convoy_id, bead_id)
            }),
            Command::CreateMolecule(rig_id, bead_id, steps, reply) => self.apply(reply, |draft| {
                molecules::create(draft, rig_id, bead_id, steps)
            }),
            Command::AdvanceMolecule(rig_id, agent_id, summary, reply) => self
                .apply(reply, |draft| {
                    molecules::advance(draft, rig_id, agent_id, summary)
                }),
            Command::Sling(rig_id, order, reply) => {
                self.apply(reply, |draft| queue::sling(draft, rig_id, order))
            }
            Command::CreateAgent(rig_id, new, reply) => {
                self.apply(reply, |draft| agents::create(draft, rig_id, new))
            }
            Command::GetOrCreateAgent(rig_id, role, reply) => {
                self.apply(reply, |draft| agents::get_or_create(draft, rig_id, role))
            }
            Command::DeleteAgent(rig_id, agent_id, reply) => {
                self.apply(reply, |draft| agents::delete(draft, rig_id, agent_id))
            }
            Command::Hook(rig_id, agent_id, bead_id, reply) => self.apply(reply, |draft| {
                agents::hook(draft, rig_id, agent_id, bead_id)
            }),
            Command::Unhook(rig_id, agent_id, reply) => {
                self.apply(reply, |draft| agents::unhook(draft, rig_id, agent_id))
            }
            Command::Prime(rig_id, agent_id, reply) => {
                self.apply(reply, |draft| agents::prime(draft, rig_id, agent_id))
            }
            Command::Done(rig_id, agent_id, done, reply) => {
                self.apply(reply, |draft| agents::done(draft, rig_id, agent_id, done))
            }
            Command::Completed(rig_id, agent_id, status, reason, reply) => self
                .apply(reply, |draft| {
                    agents::completed(draft, rig_id, agent_id, status, reason)
                }),
            Command::Checkpoint(rig_id, agent_id, data, reply) => self.apply(reply, |draft| {
                agents::checkpoint(draft, rig_id, agent_id, data)
            }),
            Command::Heartbeat(rig_id, agent_id, reply) => {
                self.apply(reply, |draft| agents::heartbeat(draft, rig_id, agent_id))
            }
            Command::SendMail(rig_id, new, reply) => {
                self.apply(reply, |draft| mail::send(draft, rig_id, new).map(drop))
            }
            Command::CheckMail(rig_id, agent_id, reply) => {
                self.apply(reply, |draft| mail::check(draft, rig_id, agent_id))
            }
            Command::SubmitReview(rig_id, new, reply) => {
                self.apply(reply, |draft| reviews::submit(draft, rig_id, new))
            }
            Command::CompleteReview(rig_id, entry_id, outcome, reply) => self
                .apply(reply, |draft| {
                    reviews::complete(draft, rig_id, entry_id, outcome)
                }),
            Command::Escalate(rig_id, escalation, reply) => {
                self.apply(reply, |draft| escalations::raise(draft, rig_id, escalation))
            }
            Command::Acknowledge(escalation_id, reply) => self.apply(reply, |draft| {
                escalations::acknowledge(draft, escalation_id)
            }),
            Command::PauseTown(paused, reply) => {
                self.apply(reply, |draft| pause::set_town(draft, paused))
            }
            Command::PauseRig(rig_id, paused, reply) => {
                self.apply(reply, |draft| pause::set_rig(draft, rig_id, paused))
            }
            Command::StopAll(reply) => self.apply(reply, pause::stop_all),
            Command::StopAgent(rig_id, agent_id, reply) => {
                self.apply(reply, |draft| pause::stop_agent(draft, rig_id, agent_id))
            }
            Command::Retry(rig_id, bead_id, by, reply) => {
                self.apply(reply, |draft| queue::retry(draft, rig_id, bead_id, by))
            }
            Command::DryRun(reply) => {
                let answer = self.dry_run();
                self.answer_settled(reply, answer);
                false
            }
            Command::TellMayor(message, reply) => {
                self.apply(reply, |draft| mail::tell_mayor(draft, message))
            }
            Command::ConfigureMayor(reply) => self.apply(reply, agents::mayor),
            Command::MayorCompleted(status, reason, reply) => self.apply(reply, |draft| {
                mayor::completed(draft, status, reason.as_deref())
            }),
            Command::DestroyMayor(reply) => self.apply(reply, mayor::destroy),
            Command::StartRun(agent_id, reply) => {
                self.apply(reply, |draft| runs::start(draft, agent_id))
            }
            Command::StopRun(agent_id, reply) => {
                self.apply(reply, |draft| runs::stop(draft, agent_id))
            }
            Command::MessageAgent(agent_id, prompt, reply) => {
                self.apply(reply, |draft| runs::message(draft, agent_id, prompt))
            }
            Command::MessageFailed(agent_id, reason) => self.apply_own("failed message", |draft| {
                runs::message_failed(draft, agent_id, &reason)
            }),
            Command::AnswerAsk(ask_id, answer, reply) => {
                self.apply(reply, |draft| asks::reply(draft, ask_id, answer))
            }
            Command::AnswerFailed(ask_id, reason) => self.apply_own("failed answer", |draft| {
                asks::reply_failed(draft, ask_id, &reason)
            }),
            Command::AskUnknown(ask_id) => {
                self.apply_own("unknown ask", |draft| asks::unknown(draft, ask_id))
            }
            Command::Notified(bead_id, outcome) => {
                self.being_notified.retain(|other| *other != bead_id);
                self.apply_own("notified", |draft| {
                    escalations::notified(draft, bead_id, outcome)
                })
            }
            Command::Report(place, agent_id, report, reply) => self.apply(reply, |draft| {
                link::take_over(draft, place, |draft| link::report(draft, agent_id, report))
            }),
            Command::Merged(place, merge, reply) => self.apply(reply, |draft| {
                link::take_over(draft, place, |draft| link::merged(draft, merge))
            }),
            Command::Link(state) => self.link_changed(&state),
            Command::Activity(agent_id) => {
                self.apply_own("activity", |draft| agents::touch(draft, agent_id))
            }
            Command::StartFailed(agent_id, reason) => self.apply_own("failed start", |draft| {
                dispatch::failed_try(
                    draft,
                    agent_id,
                    crate::container::ExitKind::AgentServer,
                    &reason,
                )
            }),
            Command::StartDeferred(agent_id) => self.apply_own("deferred start", |draft| {
                dispatch::deferred(draft, agent_id)
            }),
            Command::NotRunning(agent_id) => {
                self.apply_own("agent not running", |draft| {
                    match draft.find_agent(agent_id)? {
                        Some(agent) if agent.dispatch.requested_at.is_some() => {
                            dispatch::stopped(draft, agent_id, "the container does not run it")
                        }
                        _ => Ok(()),
                    }
                })
            }
            Command::Told(agent_id, mails, went_well) => {
                self.being_told.retain(|told| told.agent_id != agent_id);
                self.apply_own("told the mayor", |draft| {
                    if went_well {
                        return mail::mark_told(draft, agent_id, &mails);
                    }
                    dispatch::not_told(draft, agent_id)
                });
                went_well
            }
            Command::Quiesce => {
                self.quiet = true;
                false
            }
            Command::FoundIdle(agent_id) => {
                self.apply_own("found idle", |draft| dispatch::found_idle(draft, agent_id))
            }
            Command::RemindFailed(agent_id) => self.apply_own("failed reminder", |draft| {
                // Its exit brings it back to the queue.
                draft.effect(Effect::StopAgent(agent_id));
                Ok(())
            }),
            Command::MergeFailed(entry_id, reason) => self.apply_own("failed merge", |draft| {
                link::merge_failed(draft, entry_id, &reason)
            }),
        }
    }

    fn link_changed(&mut self, state: &LinkState) -> bool {
        self.container = Container::of(state);
        self.up_since = match state {
            LinkState::Up { .. } => Some(self.clock.now()),
            LinkState::Down { .. } | LinkState::StartFailed { .. } => None,
        };
        self.apply_own("link change", |draft| match state {
            LinkState::Up { epoch } => link::up(draft, *epoch),
            LinkState::Down { reason } => link::down(draft, reason),
            LinkState::StartFailed { reason } => link::start_failed(draft, reason),
        });
        true
    }

    /// Looks at the town and does what should be done.
    pub(super) fn tick(&mut self) {
        self.woken = false;
        let now = self.clock.now();
        // Should this look come to no plan.
        self.alarm = now.after(LOOK_AGAIN_AFTER);
        if self.quiet {
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
            self.act(&planned.action);
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

    /// Each action fails alone.
    fn act(&mut self, action: &Action) {
        match action {
            Action::WakeContainer => {
                let asked = self.apply_own("wake", |draft| {
                    draft.effect(Effect::WakeContainer);
                    Ok(())
                });
                // On a full disk nothing was asked, and it is tried again.
                if asked {
                    self.container = Container::Waking;
                }
            }
            Action::Assign { bead_id } => {
                let assigned =
                    self.apply_own("assign", |draft| queue::assign(draft, *bead_id).map(drop));
                // Now there is somebody to dispatch.
                self.woken |= assigned;
            }
            Action::Dispatch { agent_id } => {
                self.apply_own("dispatch", |draft| dispatch::request(draft, *agent_id));
            }
            Action::StopLeftover { agent_id } => {
                self.apply_own("stop a leftover", |draft| {
                    dispatch::stop_leftover(draft, *agent_id)
                });
            }
            Action::Probe { agent_id } => {
                self.apply_own("probe", |draft| {
                    breaker::probe(draft, *agent_id)?;
                    dispatch::request(draft, *agent_id)
                });
            }
            Action::CheckAgent { agent_id } => {
                self.apply_own("check", |draft| patrol::check(draft, *agent_id));
            }
            Action::StallAgent { agent_id } => {
                self.apply_own("stall", |draft| patrol::stall(draft, *agent_id));
            }
            Action::TellBudget => {
                self.apply_own("budget", budget::tell);
            }
            Action::FreeBudget => {
                self.apply_own("budget", budget::free);
            }
            Action::TellMayor { agent_id } => {
                let agent_id = *agent_id;
                let asked = self.apply_own("tell the mayor", |draft| {
                    let agent = draft.agent(agent_id)?;
                    draft.effect(Effect::TellMayor(agent_id));
                    agents::set_status(draft, agent, crate::model::AgentStatus::Working, None)
                });
                if asked {
                    self.being_told.push(Told { agent_id });
                }
            }
            Action::Merge { entry_id } => {
                self.apply_own("merge", |draft| {
                    reviews::start(draft, *entry_id)?;
                    draft.effect(Effect::Merge(*entry_id));
                    Ok(())
                });
            }
            Action::LandConvoy { convoy_id } => {
                self.apply_own("land a convoy", |draft| {
                    convoys::land_if_due(draft, *convoy_id)
                });
            }
            Action::RequeueStuck { entry_id } => {
                self.apply_own("stuck merge", |draft| {
                    let now = draft.now;
                    reviews::requeue(draft, *entry_id, now, "the merge did not end in time")
                });
            }
            Action::EscalateAsk { ask_id } => {
                self.apply_own("unanswered ask", |draft| asks::escalate(draft, *ask_id));
            }
            Action::RaiseAgain { bead_id } => {
                self.apply_own("escalation raised again", |draft| {
                    escalations::raise_again(draft, *bead_id)
                });
            }
            Action::Notify { bead_id } => {
                self.being_notified.push(*bead_id);
                self.apply_own("notification", |draft| escalations::notify(draft, *bead_id));
            }
        }
    }

    fn view(&self) -> Result<View, Error> {
        let live = Live {
            container: self.container,
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
