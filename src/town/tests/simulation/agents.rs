//! What happens in the world by itself: agents at work, merges that end.

use crate::container::protocol::{AgentSetback, ContainerStats, GatesReport, SetbackCause};
use crate::container::{AgentReport, Asked, ContainerReport, ExitKind, MergeReport};
use crate::model::{
    AgentId, AskKind, BeadId, Json, MailType, Priority, ReviewStatus, RigId, Usage,
};
use crate::town::command::{
    AgentDone, Command, CompletedStatus, Escalation, Judgement, NewMail, Verdict,
};

use super::run::Simulation;
use super::world::{Due, Message, Mood, Run, Stage};

impl Simulation<'_> {
    /// Something planned happens; `heard` says whether there is a server.
    pub(super) fn happen(&mut self, due: Due, heard: bool) {
        self.note(format!("{} {due:?}", self.now().as_millis()));
        match due {
            Due::Launched => self.launched(),
            Due::Reconnect => self.connect(),
            Due::Agent(agent_id, number) => {
                let container = self.world.container.as_ref();
                let run = container.and_then(|container| container.run(agent_id));
                if let Some(run) = run.filter(|run| run.number == number).cloned() {
                    self.work(agent_id, run, heard);
                }
            }
            Due::Abort(agent_id, number) => self.abort(agent_id, number),
            Due::Merge(entry_id) => self.end_merge(entry_id),
            Due::Ended(epoch) => {
                let ends = self.world.container.as_ref();
                if ends.is_some_and(|container| container.epoch == epoch) {
                    self.container_ended(heard);
                }
            }
        }
    }

    fn work(&mut self, agent_id: AgentId, run: Run, heard: bool) {
        let mood = if self.world.kind {
            Mood::Diligent
        } else {
            run.mood
        };
        match run.stage {
            Stage::Starting if mood == Mood::Unready || self.luck(mood, 10) => {
                let kind = self.random.pick(KINDS).unwrap();
                self.die(agent_id, kind, "it could not be made ready");
            }
            Stage::Starting => self.start(agent_id, &run),
            Stage::Busy => self.turn(agent_id, &run, mood, heard),
            Stage::Waiting(ask_id) => {
                self.set_stage(agent_id, Stage::Busy);
                self.report(agent_id, AgentReport::Resumed { ask_id });
                self.go_on_later(agent_id, run.number);
            }
            Stage::Idle | Stage::Ended => {}
        }
    }

    fn start(&mut self, agent_id: AgentId, run: &Run) {
        let resumed = self.random.chance(50);
        let session_id = run.session.clone();
        self.report(
            agent_id,
            AgentReport::Started {
                session_id,
                resumed,
            },
        );
        // Without a bead there is no prompt, and no turn.
        if run.bead_id.is_some() {
            self.set_stage(agent_id, Stage::Busy);
            self.go_on_later(agent_id, run.number);
        } else {
            self.set_stage(agent_id, Stage::Idle);
        }
    }

    /// A piece of an agent's turn.
    fn turn(&mut self, agent_id: AgentId, run: &Run, mood: Mood, heard: bool) {
        if heard {
            self.active(agent_id);
        }
        if self.random.chance(20) {
            let usage = Usage {
                output: self.random.between(1, 500),
                ..Usage::default()
            };
            let message_id = format!("message-{}", self.random.below(3));
            self.report(agent_id, AgentReport::Used { message_id, usage });
        }
        if self.random.chance(3)
            && let Some(container) = &mut self.world.container
        {
            let agents = container.runs.len();
            container.say(Message::Container(ContainerReport::Stats(ContainerStats {
                agents,
                servers: 1,
                rss_bytes: 1 << 20,
                processes: agents + 2,
                uptime: 1,
            })));
        }
        if self.luck(mood, 10) {
            let report = if self.random.chance(50) {
                AgentReport::Recovered
            } else {
                AgentReport::Setback(AgentSetback {
                    cause: SetbackCause::Model,
                    reason: "the model limits its rate".to_owned(),
                    retry_at: Some(self.now()),
                })
            };
            self.report(agent_id, report);
        }
        if mood == Mood::Silent && self.random.chance(60) {
            // Nothing more is planned for it.
            return;
        }
        if mood == Mood::Mortal && self.random.chance(50) || self.luck(mood, 8) {
            if self.random.chance(30) {
                self.report(agent_id, AgentReport::Idle { ends: true });
            }
            let kind = self.random.pick(KINDS).unwrap();
            return self.die(agent_id, kind, "it died");
        }
        if (mood == Mood::Curious && self.random.chance(60)) || self.luck(mood, 8) {
            return self.wonder(agent_id, run.number);
        }
        let Some(rig_id) = run.rig_id.filter(|_| run.bead_id.is_some()) else {
            return self.end_turn(agent_id, run.number);
        };
        if heard && self.random.chance(40) {
            self.call_a_tool(rig_id, agent_id);
        }
        let gives_up = mood == Mood::Lazy && self.random.chance(70) || self.luck(mood, 20);
        if gives_up || run.done && !self.luck(mood, 20) {
            return self.end_turn(agent_id, run.number);
        }
        if heard && run.bead_id.is_some() && self.random.chance(60) {
            self.finish_work(rig_id, agent_id);
            if let Some(run) = self.run_mut(agent_id) {
                run.done = true;
            }
        }
        self.go_on_later(agent_id, run.number);
    }

    fn finish_work(&mut self, rig_id: RigId, agent_id: AgentId) {
        if !self.world.kind && self.random.chance(6) {
            let status = if self.random.chance(50) {
                CompletedStatus::Completed
            } else {
                CompletedStatus::Failed
            };
            self.request("completed", move |reply| {
                Command::Completed(rig_id, agent_id, status, None, reply)
            });
            return;
        }
        if self.random.chance(25) {
            // Refused to those who review nothing.
            let (verdict, text) = if self.random.chance(70) {
                (Verdict::RequestChanges, "not yet")
            } else {
                (Verdict::Approve, "well done")
            };
            self.request("judge", move |reply| {
                let judgement = Judgement {
                    verdict,
                    text: text.to_owned(),
                    head_sha: None,
                };
                Command::JudgeReview(rig_id, agent_id, None, judgement, reply)
            });
        }
        let summary = "a step is done".to_owned();
        self.request("advance", move |reply| {
            Command::AdvanceMolecule(rig_id, agent_id, summary.clone(), reply)
        });
        let done = AgentDone {
            branch: format!("gt/{}", agent_id.short()),
            pr_url: None,
            summary: None,
        };
        self.request("done", move |reply| {
            Command::Done(rig_id, agent_id, done.clone(), reply)
        });
    }

    /// What agents do besides: any of their tools.
    fn call_a_tool(&mut self, rig_id: RigId, agent_id: AgentId) {
        match self.random.below(6) {
            0 => self.request("prime", move |reply| {
                Command::Prime(rig_id, agent_id, reply)
            }),
            1 => self.request("heartbeat", move |reply| {
                Command::Heartbeat(rig_id, agent_id, reply)
            }),
            2 => {
                let data = Json::from_valid(format!("{{\"at\":{}}}", self.now().as_millis()));
                self.request("checkpoint", move |reply| {
                    Command::Checkpoint(rig_id, agent_id, data.clone(), reply)
                });
            }
            3 => {
                let to = self.known.agent(&mut self.random);
                let new = NewMail {
                    from_agent_id: agent_id.to_string(),
                    to_agent_id: to.map_or(agent_id, |(_, to)| to),
                    subject: "a word".to_owned(),
                    body: "from a colleague".to_owned(),
                    mail_type: MailType::Message,
                };
                self.request("mail", move |reply| {
                    Command::SendMail(Some(rig_id), new.clone(), reply)
                });
            }
            4 => {
                let priority = self.random.pick(Priority::ALL).unwrap();
                let escalation = Escalation {
                    title: "stuck".to_owned(),
                    body: None,
                    priority,
                    metadata: Json::empty_object(),
                    created_by: Some(agent_id.to_string()),
                    matter: self
                        .random
                        .chance(50)
                        .then(|| format!("stuck:{}", agent_id.short())),
                };
                self.request("escalate", move |reply| {
                    Command::Escalate(Some(rig_id), escalation.clone(), reply)
                });
            }
            _ => self.request("check mail", move |reply| {
                Command::CheckMail(rig_id, agent_id, reply)
            }),
        }
    }

    fn wonder(&mut self, agent_id: AgentId, number: u64) {
        let ask_id = format!("ask-{}", self.random.below(1_000_000));
        self.set_stage(agent_id, Stage::Waiting(ask_id.clone()));
        let asked = Asked {
            ask_id,
            kind: AskKind::Question,
            title: "which colour?".to_owned(),
            detail: Json::empty_object(),
        };
        self.report(agent_id, AgentReport::Waiting(asked));
        if self.random.chance(70) {
            self.go_on_later(agent_id, number);
        }
    }

    fn end_turn(&mut self, agent_id: AgentId, number: u64) {
        let Some(run) = self.run_mut(agent_id) else {
            return;
        };
        run.stage = Stage::Idle;
        run.done = false;
        let ending = run.ending;
        self.report(
            agent_id,
            AgentReport::Idle {
                ends: ending.is_some(),
            },
        );
        match ending {
            Some(reason) => {
                if let Some(container) = &mut self.world.container {
                    container.finish(agent_id, super::world::stopped(reason));
                }
            }
            // Some begin again by themselves: a background task ends, a person types something.
            None if !self.world.kind && self.random.chance(3) => {
                self.set_stage(agent_id, Stage::Busy);
                self.go_on_later(agent_id, number);
            }
            None => {}
        }
    }

    fn end_merge(&mut self, entry_id: BeadId) {
        let outcome = if self.world.kind {
            // Even so a branch may not fit, or a gate be red.
            self.random.weighted(&[(7, 0), (1, 5), (2, 7)])
        } else {
            self.random.below(10)
        };
        let (status, retryable) = match outcome {
            0..=4 => (ReviewStatus::Merged, false),
            5 | 6 => (ReviewStatus::Conflict, false),
            7 => (ReviewStatus::Failed, false),
            _ => (ReviewStatus::Failed, true),
        };
        let gates_passed = match status {
            ReviewStatus::Conflict => None,
            ReviewStatus::Merged => Some(true),
            _ => Some(false).filter(|_| self.random.chance(50)),
        };
        let Some(container) = &mut self.world.container else {
            return;
        };
        let Some(merging) = container.merges.remove(&entry_id) else {
            return;
        };
        let rig_id = merging.rig_id;
        let pushed = self.world.pushed.entry(entry_id).or_default();
        if !self.world.kind && self.random.chance(8) {
            *pushed += 1;
        }
        let head = format!("commit-{pushed}");
        let is_merged = self.world.merged.contains(&entry_id);
        if !is_merged && !merging.approved.covers(&head) {
            return container.say(Message::Merge(MergeReport {
                entry_id,
                status: ReviewStatus::Pending,
                message: format!("it is at {head}"),
                commit_sha: Some(head),
                retryable: false,
                gates: None,
            }));
        }
        // What is on the target stays there, however often it is merged.
        let (status, gates_passed) = if is_merged {
            (ReviewStatus::Merged, None)
        } else {
            (status, gates_passed)
        };
        if status == ReviewStatus::Merged {
            self.world.merged.push(entry_id);
        }
        container.say(Message::Merge(MergeReport {
            entry_id,
            status,
            message: format!("{status} in {}", rig_id.short()),
            commit_sha: (status == ReviewStatus::Merged).then(|| "c0ffee".to_owned()),
            retryable: retryable && gates_passed != Some(false),
            gates: gates_passed.map(|passed| GatesReport {
                passed,
                output: "what they printed".to_owned(),
            }),
        }));
        if !self.world.kind && self.random.chance(5) {
            // The same merge asked for again and told again.
            container.merges.insert(entry_id, merging);
            let at = self.later();
            self.world.plan(at, Due::Merge(entry_id));
        }
    }

    // ---- small things ---------------------------------------------------------------------

    fn luck(&mut self, mood: Mood, percent: u64) -> bool {
        mood == Mood::Erratic && self.random.chance(percent)
    }

    fn run_mut(&mut self, agent_id: AgentId) -> Option<&mut Run> {
        self.world.container.as_mut()?.run_mut(agent_id)
    }

    fn set_stage(&mut self, agent_id: AgentId, stage: Stage) {
        if let Some(run) = self.run_mut(agent_id) {
            run.stage = stage;
        }
    }

    fn report(&mut self, agent_id: AgentId, report: AgentReport) {
        if let Some(container) = &mut self.world.container {
            container.report(agent_id, report);
        }
    }

    fn go_on_later(&mut self, agent_id: AgentId, number: u64) {
        let at = self.later();
        self.world.plan(at, Due::Agent(agent_id, number));
    }
}

const KINDS: &[ExitKind] = &[
    ExitKind::ProgramMissing,
    ExitKind::NotReady,
    ExitKind::Repository,
    ExitKind::Worktree,
    ExitKind::Session,
    ExitKind::Model,
    ExitKind::AgentServer,
    ExitKind::Config,
];
