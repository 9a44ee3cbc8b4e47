//! Logs that have passed a bound of their retention.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::AgentId;

use super::frame::Subject;

/// The agents whose logs should be looked at before the next round: each once.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    agents: Mutex<BTreeSet<AgentId>>,
    notify: Notify,
}

impl Overdue {
    /// Notes a log. A town's feed has no bound but its age, and waits for its round.
    pub(super) fn add(&self, subject: Subject) {
        if let Subject::Agent(agent_id) = subject {
            self.agents
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(agent_id);
            self.notify.notify_one();
        }
    }

    /// Resolves when there are some, and takes them.
    pub(super) async fn next(&self) -> BTreeSet<AgentId> {
        loop {
            let agents =
                std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
            if !agents.is_empty() {
                return agents;
            }
            self.notify.notified().await;
        }
    }
}
