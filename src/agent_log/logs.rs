//! The open logs of all agents.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::AgentId;
use crate::storage::{self, Database, TreeName};

use super::frame::Subject;
use super::log::Log;

/// Opens, keeps and removes agents' logs; cheap to clone.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    database: Database,
    tail_bytes_max: usize,
    open: Mutex<HashMap<AgentId, Log>>,
    // Opening awaits the disk; two openings of one log would give its ids twice.
    opening: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs")
            .field("open", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl Logs {
    /// No log is open yet. Each keeps up to `tail_bytes_max` of its newest events in memory.
    #[must_use]
    pub fn new(database: Database, tail_bytes_max: usize) -> Self {
        let (open, opening) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner {
            database,
            tail_bytes_max,
            open,
            opening,
        }))
    }

    /// The agent's log, made if there is none. That the agent exists is the caller's knowledge.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open(&self, agent_id: AgentId) -> Result<Log, storage::Error> {
        if let Some(log) = self.lock().get(&agent_id) {
            return Ok(log.clone());
        }
        let _opening = self.0.opening.lock().await;
        if let Some(log) = self.lock().get(&agent_id) {
            return Ok(log.clone());
        }
        let tree = self.0.database.tree(TreeName::Agent(agent_id))?;
        let log = Log::open(tree, Subject::Agent(agent_id), self.0.tail_bytes_max).await?;
        self.lock().insert(agent_id, log.clone());
        Ok(log)
    }

    /// Ends the agent's log and removes everything in it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete(&self, agent_id: AgentId) -> Result<(), storage::Error> {
        let _opening = self.0.opening.lock().await;
        if let Some(log) = self.lock().remove(&agent_id) {
            log.end();
        }
        self.0.database.drop_tree(TreeName::Agent(agent_id))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Log>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
