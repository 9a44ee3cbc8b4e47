//! What is known of the agent's sessions. Plain data behind one lock that is never held over a wait.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::{
    McpServer, PermissionOption, RequestPermissionResponse, SessionId,
};

use super::models::Models;
use super::transcript::Transcript;
use crate::sdk::{Event, Prompt};

/// Prompts that wait for one session's turn.
pub(super) const PROMPTS_MAX: usize = 32;

/// Asks that wait for an answer, of all sessions together.
pub(super) const ASKS_MAX: usize = 64;

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sessions: HashMap<SessionId, Session>,
    /// By our own id of the ask.
    pub(super) asks: HashMap<String, OpenAsk>,
    /// The tool servers of the sessions in a directory.
    pub(super) tools: HashMap<PathBuf, Vec<McpServer>>,
    /// What was told and not yet heard. One lock with what it tells of, so that it is in order.
    pub(super) events: VecDeque<Event>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) directory: PathBuf,
    pub(super) tools: Vec<McpServer>,
    pub(super) transcript: Transcript,
    pub(super) phase: Phase,
    /// What it is still to be asked.
    pub(super) prompts: VecDeque<Prompt>,
    pub(super) models: Option<Models>,
    /// The instructions that it has been given.
    pub(super) instructed: Option<String>,
}

/// What a session is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its history is told again, which is no news.
    Loading,
    Idle,
    Working,
    /// It works and was told to stop.
    Cancelled,
}

/// An ask that waits for its answer.
#[derive(Debug)]
pub(super) struct OpenAsk {
    pub(super) session: SessionId,
    pub(super) options: Vec<PermissionOption>,
    pub(super) responder: Responder<RequestPermissionResponse>,
}

impl Session {
    pub(super) fn new(
        id: &SessionId,
        directory: &Path,
        tools: Vec<McpServer>,
        phase: Phase,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            tools,
            transcript: Transcript::new(&id.0, directory, phase == Phase::Loading),
            phase,
            prompts: VecDeque::new(),
            models: None,
            instructed: None,
        }
    }

    pub(super) const fn is_in_turn(&self) -> bool {
        matches!(self.phase, Phase::Working | Phase::Cancelled)
    }
}

impl State {
    /// The tool servers of sessions in `directory`.
    pub(super) fn tools_of(&self, directory: &Path) -> Vec<McpServer> {
        self.tools.get(directory).cloned().unwrap_or_default()
    }

    /// Forgets the other sessions in a directory, which nobody prompts any more: each worktree has one
    /// agent, and it has one session. Those that are in a turn are kept until it is over.
    pub(super) fn forget_others(&mut self, directory: &Path, kept: &SessionId) -> Vec<SessionId> {
        let is_other = |id: &SessionId, session: &Session| {
            id != kept && session.directory == directory && !session.is_in_turn()
        };
        let others: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(id, session)| is_other(id, session))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &others {
            self.sessions.remove(id);
        }
        others
    }

    /// Tells that an ask is answered.
    pub(super) fn tell_replied(&mut self, session: &SessionId, ask_id: &str, reply: &str) {
        if let Some(session) = self.sessions.get(session) {
            let event = session.transcript.replied(ask_id, reply);
            self.events.push_back(event);
        }
    }

    /// Takes the open asks of a session.
    pub(super) fn take_asks(&mut self, session: &SessionId) -> Vec<(String, OpenAsk)> {
        let ids: Vec<String> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.session == *session)
            .map(|(id, _)| id.clone())
            .collect();
        ids.into_iter()
            .filter_map(|id| self.asks.remove_entry(&id))
            .collect()
    }
}
