//! The fleet's API.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::command::{Command, Denied, Reply};
use crate::config::ResolvedTownConfig;
use crate::container::protocol::{
    AgentState, AnswerQuestion, Health, MergeBranch, MessageAgent, PermissionAnswer, RemoveAgent,
    StartAgent, StopAgent,
};
use crate::model::AgentId;

/// Asks the fleet. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FleetHandle {
    pub(super) commands: mpsc::Sender<Command>,
}

impl FleetHandle {
    /// Notes that somebody still wants this container.
    pub(crate) fn contact(&self) {
        // A full queue is contact enough.
        let _ = self.commands.try_send(Command::Contact);
    }

    pub(crate) async fn health(&self) -> Result<Health, Denied> {
        self.ask(Command::Health).await
    }

    pub(crate) async fn start(
        &self,
        start: StartAgent,
        config: Arc<ResolvedTownConfig>,
    ) -> Result<(), Denied> {
        self.ask(|reply| Command::Start(Box::new(start), config, reply))
            .await?
    }

    pub(crate) async fn message(
        &self,
        agent: AgentId,
        message: MessageAgent,
        config: Arc<ResolvedTownConfig>,
    ) -> Result<(), Denied> {
        self.ask(|reply| Command::Message(agent, message, config, reply))
            .await?
    }

    pub(crate) async fn stop(&self, agent: AgentId, stop: StopAgent) -> Result<(), Denied> {
        self.ask(|reply| Command::Stop(agent, stop, reply)).await?
    }

    pub(crate) async fn remove(&self, agent: AgentId, remove: RemoveAgent) -> Result<(), Denied> {
        self.ask(|reply| Command::Remove(agent, remove, reply))
            .await?
    }

    pub(crate) async fn status(&self, agent: AgentId) -> Result<AgentState, Denied> {
        self.ask(|reply| Command::Status(agent, reply)).await?
    }

    pub(crate) async fn answer_permission(
        &self,
        agent: AgentId,
        ask_id: String,
        answer: PermissionAnswer,
    ) -> Result<(), Denied> {
        self.ask(|reply| Command::AnswerPermission(agent, ask_id, answer, reply))
            .await?
    }

    pub(crate) async fn answer_question(
        &self,
        agent: AgentId,
        ask_id: String,
        answer: AnswerQuestion,
    ) -> Result<(), Denied> {
        self.ask(|reply| Command::AnswerQuestion(agent, ask_id, answer, reply))
            .await?
    }

    pub(crate) async fn merge(
        &self,
        merge: MergeBranch,
        config: Option<Arc<ResolvedTownConfig>>,
    ) -> Result<(), Denied> {
        self.ask(|reply| Command::Merge(Box::new(merge), config, reply))
            .await?
    }

    /// Asks all agents to finish and then ends the container. Never refused, so it may wait.
    pub(crate) async fn drain(&self, reason: &'static str) {
        // A fleet that is gone is drained.
        let _ = self.commands.send(Command::Drain(reason)).await;
    }

    /// Ends the container now.
    pub(crate) async fn shutdown(&self) {
        let _ = self.commands.send(Command::Shutdown).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Denied> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(command(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => Denied::Overloaded,
                TrySendError::Closed(_) => Denied::Draining,
            })?;
        // The fleet drops a reply only when it ends.
        answer.await.map_err(|_| Denied::Draining)
    }
}
