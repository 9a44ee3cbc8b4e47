//! Turns that end unheard, and an agent server that sends heartbeats and nothing else.
//!
//! Events are told once, so the end of a turn that was missed would be waited for for ever. A session
//! that is silent for a while is therefore asked about, and what the agent server says of it counts:
//! one that it calls busy is at work, however long it is silent. Only one that it calls idle twice, with
//! no event in between, is over. An agent server that tells of no session at all and leaves such
//! questions unanswered time and again hangs.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::actor::Fleet;
use super::agent::{Agent, EndStep, Session, Stage, Turn};
use super::command::{Command, Run, TurnSeen};
use super::observation::Observation;
use super::server::RunningServer;
use crate::container::Error;
use crate::container::protocol::{AgentSetback, SetbackCause, message_type};

/// An agent server that hangs has left so many questions in a row unanswered.
const UNANSWERED_MAX: u32 = 3;

/// The agent server takes a prompt at once, but is slow to begin with the first one of a folder, and
/// does not call it busy before. So one that shows nothing yet is asked about so many times later.
const PROMPTED_SHARES: u32 = 4;

/// Between the first and the second time that a session is found idle: its last events may be under
/// way.
const CONFIRM_PAUSE: Duration = Duration::from_secs(2);

/// How long a session has been silent.
#[derive(Debug)]
pub(super) struct Silence {
    /// When it was last heard of or asked about.
    since: Instant,
    /// It is asked about at the next moment.
    hurried: bool,
    /// It is being asked about.
    looking: bool,
    /// It was found idle, and nothing was heard since.
    doubted: bool,
    /// Questions in a row that were not answered.
    unanswered: u32,
}

impl Silence {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            hurried: false,
            looking: false,
            doubted: false,
            unanswered: 0,
        }
    }

    /// Something was heard or said.
    pub(super) fn end(&mut self) {
        let looking = self.looking;
        *self = Self::new();
        // The answer is still to come, and is out of date.
        self.looking = looking;
    }
}

impl Agent {
    /// When its session is to be asked about, if it is waited for at all.
    fn look_due(&self, share: Duration) -> Option<Instant> {
        let is_ending = (self.ending.as_ref()).is_some_and(|end| end.step != EndStep::WhenIdle);
        let silence = &self.silence;
        // One that waits for a person is waited for with it.
        if silence.looking || is_ending || self.prompting || !self.asks.is_empty() {
            return None;
        }
        self.session()?;
        let patience = match self.turn {
            Turn::Idle => return None,
            _ if silence.doubted => CONFIRM_PAUSE,
            Turn::Busy if silence.hurried => Duration::ZERO,
            Turn::Busy => share,
            Turn::Prompted => share * PROMPTED_SHARES,
        };
        Some(silence.since + patience)
    }
}

impl Fleet {
    /// When the next silent session is to be asked about.
    pub(super) fn turn_look_due(&self) -> Option<Instant> {
        self.running_server()?;
        let share = self.options.limits.silence();
        let agents = self.agents.values();
        agents.filter_map(|agent| agent.look_due(share)).min()
    }

    pub(super) fn look_at_turns(&mut self, now: Instant) {
        let Some(server) = self.running_server() else {
            return;
        };
        let share = self.options.limits.silence();
        for (agent_id, agent) in &mut self.agents {
            let is_due = agent.look_due(share).is_some_and(|due| due <= now);
            let Stage::Running(session) = &agent.stage else {
                continue;
            };
            if !is_due {
                continue;
            }
            agent.silence.looking = true;
            let run = (*agent_id, agent.run);
            let (session, server) = (session.clone(), server.clone());
            let commands = self.commands.clone();
            self.options
                .lifecycle
                .spawn_detached("look at a turn", async move {
                    let seen = look(&server, &session, share).await;
                    // Nobody listens any more only when the fleet has ended.
                    let _ = commands.send(Command::TurnChecked(run, now, seen)).await;
                });
        }
    }

    /// The event stream was broken for a while, and ends of turns may have been missed.
    pub(super) fn stream_cut(&mut self, generation: u64, broken: &str) {
        let setback = AgentSetback {
            cause: SetbackCause::Stream,
            reason: format!("the agent server's event stream was opened again: {broken}"),
            retry_at: None,
        };
        let mut users = Vec::new();
        for (agent_id, agent) in &mut self.agents {
            if agent.server == Some(generation) && agent.session().is_some() {
                agent.silence.hurried = true;
                users.push(*agent_id);
            }
        }
        for agent_id in users {
            self.say(Some(agent_id), message_type::AGENT_SETBACK, &setback);
        }
    }

    pub(super) fn turn_checked(&mut self, run: Run, asked_at: Instant, seen: TurnSeen) {
        if !self.is_current(run) {
            return;
        }
        let Some(agent) = self.agents.get_mut(&run.0) else {
            return;
        };
        agent.silence.looking = false;
        if agent.silence.since > asked_at || agent.turn == Turn::Idle {
            return;
        }
        let (doubted, unanswered) = (agent.silence.doubted, agent.silence.unanswered);
        agent.silence.end();
        match seen {
            TurnSeen::Open => {}
            TurnSeen::Unanswered(text) => {
                agent.silence.unanswered = unanswered + 1;
                if unanswered + 1 >= UNANSWERED_MAX {
                    self.is_deaf(&text);
                }
            }
            TurnSeen::Ended if doubted => self.ended_unheard(run, None),
            TurnSeen::Failed(message) if doubted => self.ended_unheard(run, Some(message)),
            TurnSeen::Ended | TurnSeen::Failed(_) => agent.silence.doubted = true,
        }
    }

    /// The agent server sends heartbeats at most.
    fn is_deaf(&mut self, text: &str) {
        // It tells of other sessions: busy, but not hung.
        if self.heard_at.elapsed() < self.options.limits.hung_after {
            return;
        }
        if let Some(server) = self.running_server() {
            let reason = format!("the agent server hangs, it does nothing but heartbeats: {text}");
            self.end_server(&server, &reason);
        }
    }

    fn ended_unheard(&mut self, run: Run, failure: Option<String>) {
        let setback = AgentSetback {
            cause: SetbackCause::Turn,
            reason: match &failure {
                None => "the turn was over, and no event had told of it".to_owned(),
                Some(text) => format!("the turn had failed, and no event had told of it: {text}"),
            },
            retry_at: None,
        };
        self.say(Some(run.0), message_type::AGENT_SETBACK, &setback);
        let now = self.now();
        let failed = failure.map(|message| Observation::Failed { message });
        for observation in failed.into_iter().chain([Observation::Idle]) {
            let Some(agent) = self.agents.get_mut(&run.0) else {
                return;
            };
            agent.turn = Turn::Busy;
            if let Some(consequence) = agent.observe(observation, true, now) {
                self.follow(run.0, consequence);
            }
        }
    }
}

/// Asks the agent server about a session.
async fn look(server: &Arc<RunningServer>, session: &Session, limit: Duration) -> TurnSeen {
    let sessions = server.client().session();
    let unanswered = |error| TurnSeen::Unanswered(Error::from(error).story());
    match (sessions.is_busy(&session.directory, &session.id, limit)).await {
        Ok(true) => return TurnSeen::Open,
        Ok(false) => {}
        Err(error) => return unanswered(error),
    }
    match sessions.messages(&session.directory, &session.id).await {
        Ok(messages) => messages
            .last()
            .map_or(TurnSeen::Ended, |last| turn_of(last.get())),
        Err(error) => unanswered(error),
    }
}

#[derive(Deserialize)]
struct Message {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    error: Option<ErrorSeen>,
}

#[derive(Deserialize)]
struct ErrorSeen {
    #[serde(default)]
    name: String,
    #[serde(default)]
    data: serde_json::Value,
}

/// What the last message of a session that is idle says about its turn.
pub(super) fn turn_of(message: &str) -> TurnSeen {
    let Ok(Message {
        info: Info { error: Some(error) },
    }) = serde_json::from_str(message)
    else {
        return TurnSeen::Ended;
    };
    if error.name == "MessageAbortedError" {
        return TurnSeen::Ended;
    }
    let text = error
        .data
        .get("message")
        .and_then(serde_json::Value::as_str);
    TurnSeen::Failed(text.map_or(error.name, str::to_owned))
}
