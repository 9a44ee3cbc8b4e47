//! The towns of a server: their list, and which of them are open.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::agent_log::Logs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::container::git::AllowedRepositories;
use crate::container::{ContainerHandle, Isolation, LaunchOptions, Limits, limits};
use crate::lifecycle::Lifecycle;
use crate::model::{Rig, RigId, Town, TownId, UserId};
use crate::notify::Notifier;
use crate::storage::{
    self, AgentKey, Batch, Count, CounterKey, Database, DirectoryEntry, Kept, Once, Recalled,
    Record, TownDirectory, TownKey, Tree, TreeName,
};

use super::actor::Actor;
use super::effects::{self, AgentTokens, Surroundings};
use super::handle::{COMMANDS_MAX, CommandSender, Inner as HandleInner, TownHandle};
use super::recorder::Recorder;
use super::refusal::{Error, Refusal};
use super::reindex;
use super::settings::TownSettings;

/// How long a deleted town's container may take to save what its agents did.
const DELETE_GRACE: Duration = Duration::from_secs(30);

/// What the towns of a server share.
#[derive(Clone)]
pub struct TownsOptions {
    /// The server's settings.
    pub settings: Arc<Settings>,
    /// The gastownd program.
    pub program: PathBuf,
    /// Where agents reach the server.
    pub api_url: Arc<str>,
    /// Makes agents' tokens.
    pub tokens: AgentTokens,
    /// Tells people of what can't wait.
    pub notifier: Notifier,
}

/// All towns; cheap to clone.
#[derive(Clone)]
pub struct Towns(Arc<Inner>);

struct Inner {
    database: Database,
    meta: Tree,
    logs: Logs,
    clock: Clock,
    options: TownsOptions,
    lifecycle: Lifecycle,
    recorder: Option<Recorder>,
    open: Mutex<HashMap<TownId, OpenTown>>,
    /// Held while the list of towns changes.
    changing: tokio::sync::Mutex<()>,
}

struct OpenTown {
    owner: UserId,
    seq: u64,
    handle: TownHandle,
    // Dropping it ends the actor.
    _stop: oneshot::Sender<()>,
}

impl std::fmt::Debug for Towns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Towns").finish_non_exhaustive()
    }
}

impl Towns {
    /// Opens every town of the database and finishes deletions that a crash cut off.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open(
        database: Database,
        logs: Logs,
        clock: Clock,
        options: TownsOptions,
        lifecycle: Lifecycle,
    ) -> Result<Self, Error> {
        let meta = database.tree(TreeName::Meta)?;
        let record = options.settings.reconcile_record.clone();
        let recorder = record.map(|path| Recorder::start(path, &lifecycle));
        let towns = Self(Arc::new(Inner {
            database,
            meta,
            logs,
            clock,
            options,
            lifecycle,
            recorder,
            open: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }));
        let listed = towns
            .0
            .meta
            .scan(&TownDirectory::all())
            .map(|row| row.map(|(key, entry)| (key.town_id, entry)))
            .collect::<Result<HashMap<_, _>, _>>()?;
        for name in towns.0.database.trees() {
            if let TreeName::Town(town_id) = name
                && !listed.contains_key(&town_id)
            {
                towns.remove_data(town_id).await?;
            }
        }
        towns.drop_orphaned_logs(listed.keys().copied())?;
        for (town_id, entry) in listed {
            towns.open_town(town_id, entry).await?;
        }
        Ok(towns)
    }

    /// Makes a town; a repeat of the request gets the town that it made.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(
        &self,
        owner: UserId,
        name: String,
        once: Option<Once>,
    ) -> Result<Town, Error> {
        let _changing = self.0.changing.lock().await;
        if let Some(town) = self.answered(once.as_ref())? {
            return Ok(town);
        }
        let now = self.0.clock.now();
        let town = Town {
            town_id: TownId::random(),
            name,
            owner_user_id: owner.clone(),
            created_at: now,
            updated_at: now,
            paused: false,
        };
        // The town first, the list second: what the list names is whole.
        let tree = self.0.database.tree(TreeName::Town(town.town_id))?;
        let mut batch = Batch::new();
        batch.put(&TownKey {}, &town);
        reindex::mark(&mut batch);
        commit(&tree, batch).await?;
        let seq = self.0.meta.get(&CounterKey {})?.unwrap_or_default().value;
        let entry = DirectoryEntry {
            owner_user_id: owner,
            seq,
        };
        let mut batch = Batch::new();
        batch.put(&CounterKey {}, &Count { value: seq + 1 });
        batch.put(
            &TownDirectory {
                town_id: town.town_id,
            },
            &entry,
        );
        self.remember(&mut batch, once, &town)?;
        commit(&self.0.meta, batch).await?;
        self.open_town(town.town_id, entry).await?;
        Ok(town)
    }

    /// A user's towns, newest first; all if `owner` is `None`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, owner: Option<&UserId>) -> Result<Vec<Town>, Error> {
        let mut handles: Vec<(u64, TownHandle)> = self
            .lock()
            .values()
            .filter(|town| owner.is_none_or(|owner| town.owner == *owner))
            .map(|town| (town.seq, town.handle.clone()))
            .collect();
        handles.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        let mut towns = Vec::with_capacity(handles.len());
        for (_, handle) in handles {
            towns.push(handle.town().await?);
        }
        Ok(towns)
    }

    /// A town.
    ///
    /// # Errors
    /// [`Refusal::TownNotFound`] if there is none of that id.
    pub fn get(&self, town_id: TownId) -> Result<TownHandle, Error> {
        let open = self.lock();
        open.get(&town_id)
            .map(|town| town.handle.clone())
            .ok_or(Refusal::TownNotFound.into())
    }

    /// A town, if it is that user's.
    ///
    /// # Errors
    /// [`Refusal::TownNotFound`] if it is not.
    pub fn get_of(&self, owner: &UserId, town_id: TownId) -> Result<TownHandle, Error> {
        let open = self.lock();
        let town = open.get(&town_id).filter(|town| town.owner == *owner);
        town.map(|town| town.handle.clone())
            .ok_or(Refusal::TownNotFound.into())
    }

    /// A rig and its town, if it is that user's.
    ///
    /// # Errors
    /// [`Refusal::RigNotFound`] if it is not.
    pub async fn find_rig(
        &self,
        owner: &UserId,
        rig_id: RigId,
    ) -> Result<(TownHandle, Rig), Error> {
        for handle in self.handles_of(owner) {
            match handle.rig(rig_id).await {
                Ok(rig) => return Ok((handle, rig)),
                Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Refusal::RigNotFound(rig_id).into())
    }

    /// Deletes a town with everything in it. Its workspace, which may hold work that was never
    /// merged, is moved aside and not deleted. A repeat of the request is no error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(
        &self,
        owner: &UserId,
        town_id: TownId,
        once: Option<Once>,
    ) -> Result<(), Error> {
        let _changing = self.0.changing.lock().await;
        if let Some(()) = self.answered(once.as_ref())? {
            return Ok(());
        }
        let handle = self.get_of(owner, town_id)?;
        let mut batch = Batch::new();
        batch.delete(&TownDirectory { town_id });
        self.remember(&mut batch, once, &())?;
        commit(&self.0.meta, batch).await?;
        handle.quiesce().await;
        handle.container().close(true, DELETE_GRACE).await;
        let town = self.lock().remove(&town_id);
        drop(town);
        handle.close_feed();
        self.remove_data(town_id).await
    }

    /// The answer that a change of the list has had already, if the request is a repeat.
    /// Writes rows of the tree `meta` that are not the towns' own, once for each request, and gives
    /// back the answer: the first one's, if this is a repeat.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write_meta<R: Record>(
        &self,
        batch: Batch,
        answer: R,
        once: Option<Once>,
    ) -> Result<R, Error> {
        let _changing = self.0.changing.lock().await;
        if let Some(first) = self.answered(once.as_ref())? {
            return Ok(first);
        }
        let mut batch = batch;
        self.remember(&mut batch, once, &answer)?;
        commit(&self.0.meta, batch).await?;
        Ok(answer)
    }

    /// Whether a request was carried out by [`Towns::write_meta`] under this key.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn has_written(&self, once: &Once) -> Result<bool, Error> {
        Ok(self.0.meta.has_answered(once)?)
    }

    fn answered<R: Record>(&self, once: Option<&Once>) -> Result<Option<R>, Error> {
        let Some(once) = once else { return Ok(None) };
        match self.0.meta.recall(once)? {
            Recalled::Unknown => Ok(None),
            Recalled::Reused => Err(Refusal::KeyReused.into()),
            Recalled::Answered(answer) => Ok(Some(answer)),
        }
    }

    /// `changing` is held, so nobody else writes to the list.
    fn remember<R: Record>(
        &self,
        batch: &mut Batch,
        once: Option<Once>,
        answer: &R,
    ) -> Result<(), Error> {
        let answers = once.map(|once| (once, Kept::of(answer)));
        Ok(self.0.meta.remember(batch, answers.into_iter().collect())?)
    }

    /// The town of that user which holds the rig, or which has removed it at this very request.
    ///
    /// # Errors
    /// [`Refusal::RigNotFound`] if there is none.
    pub async fn town_of_rig(
        &self,
        owner: &UserId,
        rig_id: RigId,
        once: Option<&Once>,
    ) -> Result<TownHandle, Error> {
        if let Some(once) = once {
            for handle in self.handles_of(owner) {
                if handle.has_answered(once)? {
                    return Ok(handle);
                }
            }
        }
        Ok(self.find_rig(owner, rig_id).await?.0)
    }

    fn handles_of(&self, owner: &UserId) -> Vec<TownHandle> {
        let open = self.lock();
        let own = open.values().filter(|town| town.owner == *owner);
        own.map(|town| town.handle.clone()).collect()
    }

    /// From now on towns take over what happens but start nothing.
    pub async fn quiesce(&self) {
        for handle in self.handles() {
            handle.quiesce().await;
        }
    }

    /// All towns.
    #[must_use]
    pub fn handles(&self) -> Vec<TownHandle> {
        self.lock()
            .values()
            .map(|town| town.handle.clone())
            .collect()
    }

    /// Ends containers: those without work, or all.
    pub async fn end_containers(&self, even_working: bool, grace: Duration) {
        for handle in self.handles() {
            handle.container().close(even_working, grace).await;
        }
    }

    pub(super) fn logs(&self) -> &Logs {
        &self.0.logs
    }

    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// The server's setting, where a town says nothing.
    pub(super) fn retention_days(&self) -> u32 {
        self.0.options.settings.retention.days
    }

    /// Ends every town's actor; commands are refused from now on.
    pub fn close(&self) {
        self.lock().clear();
    }

    async fn open_town(&self, town_id: TownId, entry: DirectoryEntry) -> Result<(), Error> {
        let inner = &self.0;
        let tree = inner.database.tree(TreeName::Town(town_id))?;
        reindex::run(&tree).await?;
        let settings = &inner.options.settings;
        let feed = inner.logs.open_feed(tree.clone()).await?;
        let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
        let commands = CommandSender(commands);
        let shared = HandleInner {
            town_id,
            tree: tree.clone(),
            feed: feed.clone(),
            logs: inner.logs.clone(),
            clock: inner.clock.clone(),
            commands: commands.clone(),
            container: OnceLock::new(),
            active: Mutex::default(),
            allowed_repos: allowed_repos(settings),
        };
        let handle = TownHandle(Arc::new(shared), None);
        let container = ContainerHandle::start(
            self.launch_options(town_id),
            inner.logs.clone(),
            handle.clone(),
            &inner.lifecycle,
        );
        // Just made, so it is empty.
        let _ = handle.0.container.set(container.clone());
        let (asked, effects) = mpsc::unbounded_channel();
        let surroundings = Surroundings {
            container,
            logs: inner.logs.clone(),
            api_url: inner.options.api_url.clone(),
            tokens: inner.options.tokens.clone(),
            clock: inner.clock.clone(),
            notifier: inner.options.notifier.clone(),
            lifecycle: inner.lifecycle.clone(),
        };
        inner.lifecycle.spawn_detached(
            "town effects",
            effects::run(tree.clone(), surroundings, commands, effects),
        );
        let actor = Actor {
            town_id,
            tree,
            next_fact: feed.position().last_id + 1,
            feed,
            clock: inner.clock.clone(),
            settings: TownSettings::from(settings.as_ref()),
            effects: asked,
            heard: false,
            untaken_link: None,
            being_told: Vec::new(),
            being_notified: Vec::new(),
            alarm: inner.clock.now(),
            woken: false,
            up_since: None,
            once: None,
            quiet: false,
            record: (inner.recorder.as_ref()).map(|recorder| recorder.of(town_id)),
        };
        let (stop, stopped) = oneshot::channel();
        inner.lifecycle.spawn("town", actor.run(waiting, stopped));
        let town = OpenTown {
            owner: entry.owner_user_id,
            seq: entry.seq,
            handle,
            _stop: stop,
        };
        self.lock().insert(town_id, town);
        Ok(())
    }

    fn launch_options(&self, town_id: TownId) -> LaunchOptions {
        let settings = &self.0.options.settings;
        LaunchOptions {
            town_id,
            program: self.0.options.program.clone(),
            launcher: settings.container.launcher.clone(),
            listen: settings.container.listen,
            // Short: a unix socket's path has some hundred bytes at most.
            run_dir: settings.data_dir.join("run").join(town_id.short()),
            workspace: self.workspace(town_id),
            isolation: match settings.isolation {
                crate::config::Isolation::Bubblewrap => Isolation::Bubblewrap,
                crate::config::Isolation::None => Isolation::None,
            },
            linger: settings.container.linger,
            drain_time: settings.container.drain_time,
            limits: Limits {
                memory_max: settings
                    .container
                    .memory_max
                    .unwrap_or_else(limits::memory_default),
                processes_max: settings.container.processes_max,
                open_files_max: settings.container.open_files_max,
                recycle_above: settings.container.recycle_above,
                hung_after: settings.container.hung_after,
                model_wait: settings.container.model_wait,
            },
            agent_program: settings.agent_program.clone(),
            allowed: allowed_repos(settings),
            log: settings.log.clone(),
        }
    }

    fn workspace(&self, town_id: TownId) -> PathBuf {
        self.0
            .options
            .settings
            .data_dir
            .join("towns")
            .join(town_id.to_string())
    }

    /// Removes a town's trees, its agents' logs first, so that a crash in between is finished at
    /// the next start.
    async fn remove_data(&self, town_id: TownId) -> Result<(), Error> {
        let tree = self.0.database.tree(TreeName::Town(town_id))?;
        let agents = tree
            .scan(&AgentKey::all())
            .map(|row| row.map(|(key, _)| key.agent_id))
            .collect::<Result<Vec<_>, _>>()?;
        for agent_id in agents {
            self.0.logs.delete(agent_id).await?;
        }
        self.0.database.drop_tree(TreeName::Town(town_id))?;
        self.set_workspace_aside(town_id);
        Ok(())
    }

    /// Removes the logs of agents that were deleted just before a crash: their rows went first.
    fn drop_orphaned_logs(&self, towns: impl Iterator<Item = TownId>) -> Result<(), Error> {
        let database = &self.0.database;
        let mut known = HashSet::new();
        for town_id in towns {
            let tree = database.tree(TreeName::Town(town_id))?;
            for row in tree.scan(&AgentKey::all()) {
                known.insert(row?.0.agent_id);
            }
        }
        for name in database.trees() {
            if let TreeName::Agent(agent_id) = name
                && !known.contains(&agent_id)
            {
                tracing::info!(agent = %agent_id, "removing the event log of a deleted agent");
                database.drop_tree(name)?;
            }
        }
        Ok(())
    }

    fn set_workspace_aside(&self, town_id: TownId) {
        let workspace = self.workspace(town_id);
        if !workspace.exists() {
            return;
        }
        let deleted = self.0.options.settings.data_dir.join("deleted");
        let aside = deleted.join(town_id.to_string());
        let moved =
            std::fs::create_dir_all(&deleted).and_then(|()| std::fs::rename(&workspace, &aside));
        match moved {
            Ok(()) => {
                tracing::info!(town = %town_id, path = %aside.display(), "the deleted town's workspace was moved aside");
            }
            Err(error) => {
                tracing::warn!(town = %town_id, %error, "the deleted town's workspace stays where it is");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TownId, OpenTown>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn allowed_repos(settings: &Settings) -> AllowedRepositories {
    AllowedRepositories {
        local: settings.allow_local_repos,
        http: settings.allow_http_repos,
    }
}

pub(super) async fn commit(tree: &Tree, batch: Batch) -> Result<(), Error> {
    let (done, outcome) = oneshot::channel();
    tree.commit(batch, Box::new(move |result| drop(done.send(result))))?;
    let ended = || storage::Error::Poisoned {
        reason: "the committer has ended".to_owned(),
    };
    Ok(outcome.await.unwrap_or_else(|_| Err(ended()))?)
}
