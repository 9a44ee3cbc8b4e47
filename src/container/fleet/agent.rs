//! One agent of the container and how its state changes. Plain data: no I/O, no waiting.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::command::{Denied, Reply};
use super::model_watch::{ModelWatch, Waiting};
use super::observation::{Answer, Observation};
use super::start::Place;
use super::turns::Silence;
use crate::config::ResolvedTownConfig;
use crate::container::protocol::{
    AgentExited, AgentPhase, AgentSetback, AgentState, AgentWaiting, ExitKind, ExitStatus,
    StartAgent,
};
use crate::model::{AgentId, Timestamp};
use crate::sdk::SessionId;

/// An agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) start: StartAgent,
    pub(super) place: Place,
    /// Where it works; no two living agents share it.
    pub(super) path: PathBuf,
    /// Who waits for its removal.
    pub(super) removal: Option<Reply<Result<(), Denied>>>,
    /// The config of the newest request about this agent.
    pub(super) config: Arc<ResolvedTownConfig>,
    /// Tells the results of this run's tasks from those of an earlier one.
    pub(super) run: u64,
    pub(super) stage: Stage,
    pub(super) turn: Turn,
    pub(super) ending: Option<Ending>,
    /// When `ending` goes on by itself.
    pub(super) deadline: Option<Instant>,
    /// What waits to be said to the session, in order.
    pub(super) prompts: VecDeque<String>,
    /// Whether one is being handed over.
    pub(super) prompting: bool,
    /// The agent server that it was given.
    pub(super) server: Option<u64>,
    pub(super) asks: BTreeMap<String, AgentWaiting>,
    pub(super) silence: Silence,
    model: ModelWatch,
    turn_error: Option<String>,
    tools: BTreeMap<String, String>,
    newest_message: String,
    message_count: u64,
    started_at: Timestamp,
    last_activity_at: Timestamp,
}

/// How far an agent is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its start runs in a task.
    Starting(AbortHandle),
    /// It has a session.
    Running(Session),
    /// It ended.
    Ended(AgentExited),
}

/// An agent's session and where it works.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) directory: PathBuf,
}

/// Where the session is in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing runs.
    Idle,
    /// It was prompted and has shown nothing yet; an idle event is an echo of the turn before.
    Prompted,
    /// It works.
    Busy,
}

/// An end that waits for the session.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) exit: AgentExited,
    pub(super) step: EndStep,
}

/// How far an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndStep {
    /// The session may finish its turn.
    WhenIdle,
    /// The session was told to stop, or its turn failed.
    Aborted,
    /// The session is over; what it left is being saved.
    Saving,
}

/// What follows from an event, beyond the event itself.
#[derive(Debug)]
pub(super) enum Consequence {
    Waiting(AgentWaiting),
    Resumed(String),
    /// The turn ended, with an error or without.
    Idle(Option<String>),
    /// An aborted or failed turn ended for the second time: now a prompt would be heard again.
    Quiet,
    /// The model failed; the session is to be aborted if it still tries.
    ModelFailed {
        text: String,
        still_trying: bool,
        /// When it may answer again, if it said so.
        retry_at: Option<Timestamp>,
    },
    /// The model does not answer at the moment.
    Setback(AgentSetback),
    /// The model answers again.
    Recovered,
}

impl Agent {
    pub(super) fn new(
        start: StartAgent,
        place: Place,
        config: Arc<ResolvedTownConfig>,
        run: u64,
        task: AbortHandle,
        model: ModelWatch,
        now: Timestamp,
    ) -> Self {
        Self {
            start,
            path: place.path(),
            place,
            removal: None,
            config,
            run,
            stage: Stage::Starting(task),
            turn: Turn::Idle,
            ending: None,
            deadline: None,
            prompts: VecDeque::new(),
            prompting: false,
            server: None,
            asks: BTreeMap::new(),
            silence: Silence::new(),
            model,
            turn_error: None,
            tools: BTreeMap::new(),
            newest_message: String::new(),
            message_count: 0,
            started_at: now,
            last_activity_at: now,
        }
    }

    /// Starting, running or waiting.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }

    /// Whether it has something to do or is doing it.
    pub(super) fn is_busy(&self) -> bool {
        self.turn != Turn::Idle || self.prompting || !self.prompts.is_empty()
    }

    /// Whether it has a session and nothing to do. A worktree is something to do: who has one is
    /// between two turns of the same work.
    pub(super) fn rests(&self) -> bool {
        matches!(self.stage, Stage::Running(_))
            && !matches!(self.place, Place::Worktree(..))
            && !self.is_busy()
            && self.ending.is_none()
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.stage {
            Stage::Running(session) => Some(session),
            _ => None,
        }
    }

    /// Takes in an event of its session, or of a child of it.
    pub(super) fn observe(
        &mut self,
        observation: Observation,
        own_session: bool,
        now: Timestamp,
    ) -> Option<Consequence> {
        self.last_activity_at = now;
        match observation {
            Observation::Asked(ask) => {
                self.asks.insert(ask.ask_id.clone(), ask.clone());
                return Some(Consequence::Waiting(ask));
            }
            Observation::Answered { ask_id } => {
                return self
                    .asks
                    .remove(&ask_id)
                    .map(|_| Consequence::Resumed(ask_id));
            }
            Observation::ToolRunning { part_id, tool } => {
                self.tools.insert(part_id, tool);
                return self.model.answered().then_some(Consequence::Recovered);
            }
            Observation::ToolEnded { part_id } => {
                self.tools.remove(&part_id);
            }
            Observation::Message { message_id, answer } => {
                return self.heard_message(message_id, answer, own_session);
            }
            // A child that waits for the model holds its parent up.
            Observation::Retry {
                attempt,
                message,
                next,
            } => return self.waits_for_model(attempt, &message, next, now),
            Observation::Offline { message } => return Some(self.failed(message, true)),
            // A child's turn is a part of its parent's.
            _ if !own_session => return None,
            Observation::Busy => self.turn = Turn::Busy,
            Observation::Idle => return self.turn_ended(),
            Observation::Failed { message } => return Some(self.failed(message, false)),
            Observation::Aborted => return None,
            _ => {}
        }
        None
    }

    fn heard_message(
        &mut self,
        message_id: String,
        answer: Answer,
        own_session: bool,
    ) -> Option<Consequence> {
        let consequence = match answer {
            Answer::Open => None,
            Answer::Whole => self.model.answered().then_some(Consequence::Recovered),
            Answer::BrokenOff => {
                let reason = self.model.broke_off(&message_id);
                reason.map(|reason| self.failed(reason, true))
            }
        };
        // Message ids rise, so a greater one is a new one.
        if message_id > self.newest_message {
            self.newest_message = message_id;
            self.message_count += 1;
            if own_session && self.turn == Turn::Prompted {
                self.turn = Turn::Busy;
            }
        }
        consequence
    }

    fn waits_for_model(
        &mut self,
        attempt: u32,
        message: &str,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Consequence> {
        match self.model.tries_again(attempt, message, next, now) {
            Waiting::Told => None,
            Waiting::News(setback) => Some(Consequence::Setback(setback)),
            Waiting::Over { reason, retry_at } => {
                self.turn = Turn::Busy;
                self.turn_error = Some(reason.clone());
                Some(Consequence::ModelFailed {
                    text: reason,
                    still_trying: true,
                    retry_at: Some(retry_at),
                })
            }
        }
    }

    fn turn_ended(&mut self) -> Option<Consequence> {
        if self.turn != Turn::Busy {
            let ends = self
                .ending
                .as_ref()
                .is_some_and(|ending| ending.step == EndStep::Aborted);
            return (ends && self.turn == Turn::Idle).then_some(Consequence::Quiet);
        }
        self.turn = Turn::Idle;
        self.tools.clear();
        self.model.answered();
        Some(Consequence::Idle(self.turn_error.take()))
    }

    fn failed(&mut self, text: String, still_trying: bool) -> Consequence {
        self.turn = Turn::Busy;
        self.turn_error = Some(text.clone());
        Consequence::ModelFailed {
            text,
            still_trying,
            retry_at: None,
        }
    }

    /// Becomes an agent that ended. The caller has told about it.
    pub(super) fn end(&mut self, exit: AgentExited) {
        self.stage = Stage::Ended(exit);
        self.turn = Turn::Idle;
        self.ending = None;
        self.deadline = None;
        self.server = None;
        self.prompting = false;
        self.prompts.clear();
        self.tools.clear();
        self.asks.clear();
        self.model.answered();
    }

    /// What `GET /agents/{id}/status` says.
    pub(super) fn state(&self, agent_id: AgentId) -> AgentState {
        let (status, exit_reason) = match &self.stage {
            Stage::Starting(_) => (AgentPhase::Starting, None),
            Stage::Running(_) if self.asks.is_empty() => (AgentPhase::Running, None),
            Stage::Running(_) => (AgentPhase::Waiting, None),
            Stage::Ended(exit) if exit.status == ExitStatus::Failed => {
                (AgentPhase::Failed, Some(exit.reason.clone()))
            }
            Stage::Ended(exit) => (AgentPhase::Exited, Some(exit.reason.clone())),
        };
        AgentState {
            agent_id,
            status,
            // One that ends is about to say so itself.
            busy: self.is_busy() || self.ending.is_some(),
            session_id: self.session().map(|session| session.id.to_string()),
            started_at: self.started_at,
            last_activity_at: self.last_activity_at,
            active_tools: self
                .tools
                .values()
                .cloned()
                .collect::<HashSet<_>>()
                .into_iter()
                .collect(),
            message_count: self.message_count,
            asks: self.asks.values().cloned().collect(),
            exit_reason,
            setback: self.model.setback().cloned(),
        }
    }
}

/// The exit of an agent that failed.
pub(super) fn failed(kind: ExitKind, reason: impl Into<String>) -> AgentExited {
    AgentExited {
        status: ExitStatus::Failed,
        reason: reason.into(),
        kind,
        retry_at: None,
    }
}

/// The exit of an agent that was stopped.
pub(super) fn stopped() -> AgentExited {
    AgentExited {
        status: ExitStatus::Stopped,
        reason: "stopped by the server".to_owned(),
        kind: ExitKind::Stopped,
        retry_at: None,
    }
}

/// The exit of an agent whose container ends.
pub(super) fn drained() -> AgentExited {
    AgentExited {
        status: ExitStatus::Drained,
        reason: "the container was drained".to_owned(),
        kind: ExitKind::Stopped,
        retry_at: None,
    }
}
