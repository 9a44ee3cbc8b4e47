//! What each command and each action of the reconciler does: the transition that it runs.

use std::time::Duration;

use super::super::command::Command;
use super::super::effects::Effect;
use super::super::reconcile::{Action, Planned, Told, Unverified};
use super::super::{
    agents, asks, beads, breaker, budget, container, convoys, dependencies, disk, dispatch,
    escalations, link, mail, mayor, molecules, patrol, pause, queue, refinery, removals, reviews,
    rework, rigs, runs, settings,
};
use super::Actor;
use crate::container::LinkState;
use crate::model::AgentId;

/// Times the container is asked whether it runs an agent.
const VERIFY_ATTEMPTS_MAX: u32 = 5;

/// A question that got no answer of any kind in this time is asked again.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(60);

impl Actor {
    /// Carries out one command; says whether something happened that may mean work.
    pub(in crate::town) fn carry_out(&mut self, command: Command) -> bool {
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
                self.apply(reply, |draft| settings::patch_config(draft, &patch))
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
                container::asked_for(draft)?;
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
            Command::Nudge(rig_id, agent_id, new, reply) => {
                self.apply(reply, |draft| mail::nudge(draft, rig_id, agent_id, new))
            }
            Command::SubmitReview(rig_id, new, reply) => {
                self.apply(reply, |draft| reviews::submit(draft, rig_id, new))
            }
            Command::CompleteReview(rig_id, entry_id, outcome, looked_at, reply) => self
                .apply(reply, |draft| {
                    reviews::decide(draft, rig_id, entry_id, outcome, looked_at)
                }),
            Command::JudgeReview(rig_id, agent_id, entry_id, judgement, reply) => self
                .apply(reply, |draft| {
                    refinery::judge(draft, rig_id, agent_id, entry_id, judgement)
                }),
            Command::Escalate(rig_id, escalation, reply) => {
                self.apply(reply, |draft| escalations::raise(draft, rig_id, escalation))
            }
            Command::Acknowledge(escalation_id, reply) => self.apply(reply, |draft| {
                escalations::acknowledge(draft, escalation_id)
            }),
            Command::CloseEscalation(escalation_id, reply) => {
                self.apply(reply, |draft| escalations::close(draft, escalation_id))
            }
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
            Command::Report(place, reports, reply) => self.apply(reply, |draft| {
                link::take_over(draft, place, |draft| {
                    let mut reports = reports.into_iter();
                    reports.try_for_each(|(agent_id, report)| link::report(draft, agent_id, report))
                })
            }),
            Command::Merged(place, merge, reply) => self.apply(reply, |draft| {
                link::take_over(draft, place, |draft| link::merged(draft, merge))
            }),
            Command::ContainerTold(place, report, reply) => self.apply(reply, |draft| {
                link::take_over(draft, place, |draft| container::told(draft, report))
            }),
            Command::DrainFailed(reason) => self.apply_own("failed drain", |draft| {
                container::drain_failed(draft, &reason)
            }),
            Command::TidyFailed(reason) => {
                self.apply_own("failed tidying", |draft| disk::tidy_failed(draft, &reason))
            }
            Command::Removed(agent_id, outcome) => self.apply_own("removed agent", |draft| {
                removals::removed(draft, agent_id, outcome)
            }),
            Command::FoundAtWork(agent_id) => {
                self.verified(agent_id);
                false
            }
            Command::VerifyFailed(agent_id, reason) => self.verify_failed(agent_id, &reason),
            Command::Link(state) => self.link_changed(state),
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
                self.verified(agent_id);
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
                self.apply_own("told", |draft| {
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
                self.verified(agent_id);
                self.apply_own("found idle", |draft| dispatch::found_idle(draft, agent_id))
            }
            Command::RemindDeferred(agent_id) => self.apply_own("deferred reminder", |draft| {
                dispatch::reminder_deferred(draft, agent_id)
            }),
            Command::RemindFailed(agent_id) => self.apply_own("failed reminder", |draft| {
                // Its exit brings it back to the queue.
                draft.effect(Effect::StopAgent(agent_id));
                Ok(())
            }),
            Command::MergeFailed(entry_id, reason) => self.apply_own("failed merge", |draft| {
                reviews::running_failed(draft, entry_id, &reason)
            }),
        }
    }

    /// The container has said whether it runs the agent.
    fn verified(&mut self, agent_id: AgentId) {
        self.unverified.retain(|other| other.agent_id != agent_id);
    }

    /// Asked again after a pause, a few times; then its run counts as failed.
    fn verify_failed(&mut self, agent_id: AgentId, reason: &str) -> bool {
        let place = self
            .unverified
            .iter()
            .position(|other| other.agent_id == agent_id);
        let attempts = place.map_or(0, |place| self.unverified.swap_remove(place).attempts) + 1;
        if attempts >= VERIFY_ATTEMPTS_MAX {
            return self.apply_own("unverified agent", |draft| {
                dispatch::unverified(draft, agent_id, attempts, reason)
            });
        }
        let due_at = self.clock.now().after(self.settings.backoff(attempts));
        self.unverified.push(Unverified {
            agent_id,
            attempts,
            due_at,
        });
        true
    }

    /// Takes over what the supervisor says. What can't be written is tried again at the next look:
    /// nobody says it a second time.
    pub(super) fn link_changed(&mut self, state: LinkState) -> bool {
        self.heard = true;
        // A link that comes up asks about all that runs.
        self.unverified.clear();
        self.up_since = match state {
            LinkState::Up { .. } => Some(self.clock.now()),
            LinkState::Down { .. } | LinkState::StartFailed { .. } => None,
        };
        self.apply_own("link change", |draft| match &state {
            LinkState::Up { epoch } => link::up(draft, *epoch),
            LinkState::Down { reason } => link::down(draft, reason),
            LinkState::StartFailed { reason } => container::start_failed(draft, reason),
        });
        let taken = container::reflects(&self.tree, &state);
        self.untaken_link = (!taken).then_some(state);
        true
    }

    /// Each action fails alone.
    pub(super) fn act(&mut self, planned: &Planned) {
        match &planned.action {
            Action::WakeContainer => {
                self.apply_own("wake", |draft| container::start(draft, &planned.why));
            }
            Action::KeepContainer => {
                self.apply_own("keep the container", container::busy);
            }
            Action::NoteIdleContainer => {
                // From now on its sleep has a due time.
                self.woken |= self.apply_own("idle container", |draft| {
                    draft.wake();
                    container::idle(draft)
                });
            }
            Action::DrainContainer => {
                self.apply_own("drain", |draft| container::drain(draft, &planned.why));
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
                    draft.effect(Effect::Tell(agent_id));
                    agents::set_status(draft, agent, crate::model::AgentStatus::Working, None)
                });
                if asked {
                    self.being_told.push(Told { agent_id });
                }
            }
            Action::Merge { entry_id } => {
                self.apply_own("merge", |draft| reviews::start(draft, *entry_id));
            }
            Action::Review { entry_id } => {
                self.apply_own("review", |draft| refinery::begin(draft, *entry_id));
            }
            Action::AwaitPerson { entry_id } => {
                self.apply_own("approval", |draft| refinery::await_person(draft, *entry_id));
            }
            Action::Rework { entry_id } => {
                self.apply_own("rework", |draft| rework::hand_out(draft, *entry_id));
            }
            Action::DropNudges { agent_id } => {
                self.apply_own("late nudges", |draft| mail::drop_stale(draft, *agent_id));
            }
            Action::LandConvoy { convoy_id } => {
                self.apply_own("land a convoy", |draft| {
                    convoys::land_if_due(draft, *convoy_id)
                });
            }
            Action::RequeueStuck { entry_id } => {
                self.apply_own("stuck merge", |draft| {
                    reviews::running_failed(draft, *entry_id, "the merge did not end in time")
                });
            }
            Action::TidyDisk => {
                self.apply_own("tidy", disk::tidy);
            }
            Action::TidyLost => {
                self.apply_own("lost tidying", |draft| {
                    disk::tidy_failed(draft, "the container never said what came of it")
                });
            }
            Action::FreeDisk => {
                self.apply_own("disk", disk::free);
            }
            Action::RemoveAgent { agent_id } => {
                self.apply_own("remove an agent", |draft| {
                    removals::remove(draft, *agent_id)
                });
            }
            Action::Verify { agent_id } => {
                let (agent_id, lost_at) = (*agent_id, self.clock.now().after(VERIFY_TIME_MAX));
                for other in &mut self.unverified {
                    if other.agent_id == agent_id {
                        other.due_at = lost_at;
                    }
                }
                self.apply_own("verify", |draft| {
                    draft.effect(Effect::Verify(agent_id));
                    Ok(())
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
}
