//! The open logs of all agents.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::AgentId;
use crate::storage::{self, Database, Tree, TreeName};

use super::frame::Subject;
use super::log::Log;
use super::tail::{Shared, TailLimits};

/// Bytes of all tails together, where nobody says otherwise.
const TAIL_TOTAL_DEFAULT: usize = 64 << 20;
/// Logs are opened and deleted under one of these, by their id: two openings of one log would give
/// its ids twice, and one that is slow holds up few others.
const GATES: usize = 64;

/// Opens, keeps, closes and removes agents' logs; cheap to clone.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    database: Database,
    shared: Shared,
    open: Mutex<Open>,
    gates: [tokio::sync::Mutex<()>; GATES],
}

#[derive(Default)]
struct Open {
    logs: HashMap<AgentId, Log>,
    /// Ids are never used again, and who comes late must not make the log anew.
    deleted: HashSet<AgentId>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs")
            .field("open", &self.lock().logs.len())
            .finish_non_exhaustive()
    }
}

impl Logs {
    /// No log is open yet. Each keeps up to `tail_bytes_max` of its newest events in memory.
    #[must_use]
    pub fn new(database: Database, tail_bytes_max: usize) -> Self {
        let limits = TailLimits {
            per_log: tail_bytes_max,
            total: TAIL_TOTAL_DEFAULT,
        };
        Self::within(database, limits)
    }

    /// No log is open yet.
    #[must_use]
    pub fn within(database: Database, limits: TailLimits) -> Self {
        Self(Arc::new(Inner {
            database,
            shared: Shared::new(limits),
            open: Mutex::default(),
            gates: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }))
    }

    /// The agent's log, made if there is none. That the agent exists is the caller's knowledge.
    ///
    /// # Errors
    /// [`storage::Error::Removed`] if it was deleted; otherwise if the database fails.
    pub async fn open(&self, agent_id: AgentId) -> Result<Log, storage::Error> {
        if let Some(log) = self.known(agent_id)? {
            return Ok(log);
        }
        let _gate = self.gate(agent_id).lock().await;
        if let Some(log) = self.known(agent_id)? {
            return Ok(log);
        }
        let tree = self.0.database.tree(TreeName::Agent(agent_id))?;
        let subject = Subject::Agent(agent_id);
        let log = Log::open_among(tree, subject, self.0.shared.clone()).await?;
        self.lock().logs.insert(agent_id, log.clone());
        Ok(log)
    }

    /// The agents that have a log, by what is on disk.
    #[must_use]
    pub fn existing(&self) -> HashSet<AgentId> {
        let names = self.0.database.trees().into_iter();
        names
            .filter_map(|name| match name {
                TreeName::Agent(agent_id) => Some(agent_id),
                _ => None,
            })
            .collect()
    }

    /// A log in a tree of somebody else's, which shares its memory with the agents' logs. The
    /// caller opens it once.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open_feed(&self, tree: Tree) -> Result<Log, storage::Error> {
        Log::open_among(tree, Subject::Town, self.0.shared.clone()).await
    }

    /// Ends the agent's log and removes everything in it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete(&self, agent_id: AgentId) -> Result<(), storage::Error> {
        let _gate = self.gate(agent_id).lock().await;
        let log = {
            let mut open = self.lock();
            open.deleted.insert(agent_id);
            open.logs.remove(&agent_id)
        };
        if let Some(log) = log {
            log.end();
        }
        let database = self.0.database.clone();
        let dropping = move || database.drop_tree(TreeName::Agent(agent_id));
        tokio::task::spawn_blocking(dropping)
            .await
            .unwrap_or_else(|_| {
                Err(storage::Error::Poisoned {
                    reason: "a log's removal panicked".to_owned(),
                })
            })
    }

    /// Closes the logs that nobody has used since the last call; how many.
    pub fn close_idle(&self) -> usize {
        let mut closed = Vec::new();
        self.lock().logs.retain(|agent_id, log| {
            // Whoever wants it needs this lock, so nobody comes to hold it meanwhile.
            let idle = log.is_idle();
            if idle {
                closed.push(*agent_id);
            }
            !idle
        });
        for agent_id in &closed {
            self.0.database.let_go(TreeName::Agent(*agent_id));
        }
        closed.len()
    }

    /// Closes a log that nobody holds and of which nothing is in memory: who looked at it is done.
    pub fn close_unused(&self, agent_id: AgentId) {
        let mut open = self.lock();
        if open.logs.get(&agent_id).is_some_and(Log::is_unused) {
            open.logs.remove(&agent_id);
            drop(open);
            self.0.database.let_go(TreeName::Agent(agent_id));
        }
    }

    /// Resolves when logs have passed a bound of their retention, and takes them.
    pub async fn overdue(&self) -> BTreeSet<AgentId> {
        self.0.shared.overdue.next().await
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn known(&self, agent_id: AgentId) -> Result<Option<Log>, storage::Error> {
        let open = self.lock();
        if open.deleted.contains(&agent_id) {
            let tree = TreeName::Agent(agent_id).to_string();
            return Err(storage::Error::Removed { tree });
        }
        Ok(open.logs.get(&agent_id).map(|log| {
            log.used();
            log.clone()
        }))
    }

    fn gate(&self, agent_id: AgentId) -> &tokio::sync::Mutex<()> {
        &self.0.gates[usize::from(agent_id.as_bytes()[0]) % GATES]
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
