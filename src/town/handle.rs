//! A town's API: cheap to clone, safe to call from anywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::agent_log::{Appended, Log, Logs, NewEvent, Subject};
use crate::clock::Clock;
use crate::config::TownConfig;
use crate::container::{
    AgentReport, ContainerHandle, ContainerReport, LinkState, LinkTarget, MergeReport,
};
use crate::model::{
    Agent, AgentId, AgentRole, AskId, Bead, BeadId, ContainerLife, Dependency, Mail, Molecule,
    MoleculeStep, Review, ReviewStatus, Rig, RigId, Timestamp, Town, TownId,
};
use crate::storage::{
    self, AgentKey, ContainerKey, LinkPosition, Once, ReviewKey, ReviewOutput, RigKey, TownKey,
    Tree,
};
use crate::{model::Json, stream::Feeds};

use super::actor::ACTIVITY_INTERVAL;
use super::answers::Request;
use super::asks::AskReply;
use super::bead_lists::{self, BeadFilter};
use super::command::{
    Advanced, AgentDone, Command, CompletedStatus, ConvoyState, Escalation, Judgement,
    MayorSession, NewAgent, NewBead, NewConvoy, NewMail, NewNudge, NewReview, NewRig, Prime, Reply,
    ReviewOutcome, SlingOrder, Slung, StatusChange, StoppedRun,
};
use super::queries::{self, AgentFilter, AskView, DiskReport, Page};
use super::refusal::{Error, Refusal};
use super::usage::{self, UsageReport};

/// Commands that may wait for a town's actor. At some tens of microseconds each this is well
/// under a second of work; beyond it callers are told to come back.
pub(super) const COMMANDS_MAX: usize = 1024;

/// Sends commands to the actor.
#[derive(Clone)]
pub(super) struct CommandSender(pub(super) mpsc::Sender<Command>);

impl CommandSender {
    /// Waits for room; for those who must be heard. Silent if the town is closing.
    pub(super) async fn deliver(&self, command: Command) {
        let _ = self.0.send(command).await;
    }
}

/// A town; cheap to clone.
#[derive(Clone)]
pub struct TownHandle(pub(super) Arc<Inner>, pub(super) Option<Arc<Request>>);

pub(super) struct Inner {
    pub(super) town_id: TownId,
    pub(super) tree: Tree,
    pub(super) feed: Log,
    pub(super) logs: Logs,
    pub(super) clock: Clock,
    pub(super) commands: CommandSender,
    pub(super) container: std::sync::OnceLock<ContainerHandle>,
    pub(super) active: Mutex<HashMap<AgentId, Timestamp>>,
    pub(super) allowed_repos: crate::container::git::AllowedRepositories,
}

impl std::fmt::Debug for TownHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TownHandle")
            .field("town_id", &self.0.town_id)
            .finish_non_exhaustive()
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $answer:ty = $command:ident;)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// See [`Error`]; a refused command has changed nothing.
        pub async fn $name(&self, $($arg: $kind),*) -> Result<$answer, Error> {
            self.call(|reply| Command::$command($($arg,)* reply)).await
        }
    )+};
}

impl TownHandle {
    commands! {
        /// Removes a rig with its beads and agents.
        delete_rig(rig_id: RigId) -> Vec<AgentId> = DeleteRig;
        /// Changes the town's config by a JSON merge patch.
        set_config(patch: serde_json::Value) -> TownConfig = SetConfig;
        /// Makes a bead.
        create_bead(rig_id: RigId, new: NewBead) -> Bead = CreateBead;
        /// Changes a bead's status.
        set_bead_status(rig_id: RigId, bead_id: BeadId, change: StatusChange) -> Bead = SetBeadStatus;
        /// Deletes a bead.
        delete_bead(rig_id: RigId, bead_id: BeadId) -> () = DeleteBead;
        /// Makes a bead depend on another one.
        add_dependency(rig_id: RigId, bead_id: BeadId, on: Dependency, by: Option<String>) -> Bead = AddDependency;
        /// Takes a dependency away.
        remove_dependency(rig_id: RigId, bead_id: BeadId, on: BeadId, by: Option<String>) -> () = RemoveDependency;
        /// Makes a convoy of beads.
        create_convoy(new: NewConvoy) -> ConvoyState = CreateConvoy;
        /// Looks again whether a convoy has landed, one of whose beads is said to be closed.
        convoy_bead_closed(convoy_id: BeadId, bead_id: BeadId) -> ConvoyState = ConvoyBeadClosed;
        /// Gives a bead its steps.
        create_molecule(rig_id: RigId, bead_id: BeadId, steps: Vec<MoleculeStep>) -> Molecule = CreateMolecule;
        /// Goes on to the next step of the bead on an agent's hook; `None` if it has no steps.
        advance_molecule(rig_id: RigId, agent_id: AgentId, summary: String) -> Option<Advanced> = AdvanceMolecule;
        /// Makes a bead, chooses a polecat and puts the bead on its hook.
        sling(rig_id: RigId, order: SlingOrder) -> Slung = Sling;
        /// Makes an agent.
        create_agent(rig_id: RigId, new: NewAgent) -> Agent = CreateAgent;
        /// A free agent of that role, made if there is none.
        get_or_create_agent(rig_id: RigId, role: AgentRole) -> Agent = GetOrCreateAgent;
        /// Deletes an agent with its events.
        delete_agent(rig_id: RigId, agent_id: AgentId) -> () = DeleteAgent;
        /// Puts a bead on an agent's hook.
        hook(rig_id: RigId, agent_id: AgentId, bead_id: BeadId) -> () = Hook;
        /// Takes the bead off an agent's hook.
        unhook(rig_id: RigId, agent_id: AgentId) -> () = Unhook;
        /// Hands an agent everything it needs to begin.
        prime(rig_id: RigId, agent_id: AgentId) -> Prime = Prime;
        /// The agent's run is over.
        completed(rig_id: RigId, agent_id: AgentId, status: CompletedStatus, reason: Option<String>) -> () = Completed;
        /// Stores what the agent wants to remember.
        checkpoint(rig_id: RigId, agent_id: AgentId, data: Json) -> () = Checkpoint;
        /// Notes that the agent lives.
        heartbeat(rig_id: RigId, agent_id: AgentId) -> () = Heartbeat;
        /// Sends a mail.
        send_mail(rig_id: Option<RigId>, new: NewMail) -> () = SendMail;
        /// Hands over an agent's mail.
        check_mail(rig_id: RigId, agent_id: AgentId) -> Vec<Mail> = CheckMail;
        /// Sends a word that is worth something only for a while.
        nudge(rig_id: Option<RigId>, agent_id: AgentId, new: NewNudge) -> Mail = Nudge;
        /// An agent's verdict on the branch that it reviews; `None` is the one on its hook.
        judge_review(rig_id: RigId, agent_id: AgentId, entry_id: Option<BeadId>, judgement: Judgement) -> () = JudgeReview;
        /// A person's word on a merge request.
        complete_review(rig_id: RigId, entry_id: BeadId, outcome: ReviewOutcome, looked_at: Option<String>) -> () = CompleteReview;
        /// Raises an escalation.
        escalate(rig_id: Option<RigId>, escalation: Escalation) -> Bead = Escalate;
        /// Notes that a person has taken up an escalation.
        acknowledge(escalation_id: BeadId) -> Bead = Acknowledge;
        /// Closes an escalation that a person has seen to.
        close_escalation(escalation_id: BeadId) -> Bead = CloseEscalation;
        /// Holds or releases the whole town.
        pause(paused: bool) -> () = PauseTown;
        /// Holds or releases a rig.
        pause_rig(rig_id: RigId, paused: bool) -> () = PauseRig;
        /// Holds the town and stops every run; agents keep their hooks. Says whose.
        stop_all() -> Vec<AgentId> = StopAll;
        /// Stops an agent's run; its bead goes back to open.
        stop_agent(rig_id: RigId, agent_id: AgentId) -> StoppedRun = StopAgent;
        /// Opens a failed bead again; a slung one gets a polecat again.
        retry(rig_id: RigId, bead_id: BeadId, by: Option<String>) -> Bead = Retry;
        /// What the alarm would do now and what it sees, as JSON; nothing is done.
        dry_run() -> serde_json::Value = DryRun;
        /// Says something to the mayor, who is made if there is none.
        tell_mayor(message: String) -> MayorSession = TellMayor;
        /// The mayor, made if there is none.
        configure_mayor() -> Agent = ConfigureMayor;
        /// The mayor's run is over.
        mayor_completed(status: CompletedStatus, reason: Option<String>) -> Agent = MayorCompleted;
        /// Removes the mayor; the town stays.
        destroy_mayor() -> () = DestroyMayor;
        /// Has the scheduler start an agent now.
        start_run(agent_id: AgentId) -> Agent = StartRun;
        /// Ends an agent's run and takes its work off the hook.
        stop_run(agent_id: AgentId) -> Agent = StopRun;
        /// Puts a prompt to an agent's session once it is durable that it was asked to.
        message_running(agent_id: AgentId, prompt: String) -> Agent = MessageAgent;
        /// Answers what an agent asked.
        answer_ask(ask_id: AskId, answer: AskReply) -> AskView = AnswerAsk;
    }

    /// Makes a rig.
    ///
    /// # Errors
    /// See [`Error`]; a refused command has changed nothing.
    pub async fn create_rig(&self, new: NewRig) -> Result<Rig, Error> {
        crate::container::git::GitUrl::parse(&new.git_url, self.0.allowed_repos)
            .map_err(|error| Refusal::invalid("git_url", error.to_string()))?;
        check_branch("default_branch", &new.default_branch)?;
        let rig = self.call(|reply| Command::CreateRig(new, reply)).await?;
        self.container().show(&self.local_repositories()).await;
        Ok(rig)
    }

    /// The agent's branch is ready to be merged.
    ///
    /// # Errors
    /// See [`Error`]; a refused command has changed nothing.
    pub async fn done(
        &self,
        rig_id: RigId,
        agent_id: AgentId,
        done: AgentDone,
    ) -> Result<(), Error> {
        check_branch("branch", &done.branch)?;
        self.call(|reply| Command::Done(rig_id, agent_id, done, reply))
            .await
    }

    /// Queues a branch for its merge.
    ///
    /// # Errors
    /// See [`Error`]; a refused command has changed nothing.
    pub async fn submit_review(&self, rig_id: RigId, new: NewReview) -> Result<Bead, Error> {
        check_branch("branch", &new.branch)?;
        self.call(|reply| Command::SubmitReview(rig_id, new, reply))
            .await
    }

    /// The same town for one request that is to be carried out once: what it changes is changed
    /// once, and a repeat gets the first answer.
    #[must_use]
    pub fn once(self, once: Option<Once>) -> Self {
        Self(self.0, once.map(|once| Arc::new(Request::new(once))))
    }

    /// Whether a request was carried out here under this key.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn has_answered(&self, once: &Once) -> Result<bool, Error> {
        let first = Request::new(once.clone()).next();
        Ok(self.0.tree.has_answered(&first)?)
    }

    /// Its id.
    #[must_use]
    pub fn town_id(&self) -> TownId {
        self.0.town_id
    }

    /// The town's own row.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn town(&self) -> Result<Town, Error> {
        self.read(|tree| tree.get(&TownKey {}))
            .await?
            .ok_or(Refusal::TownNotFound.into())
    }

    /// The town's config.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn config(&self) -> Result<TownConfig, Error> {
        self.read(queries::config_row).await
    }

    /// All rigs, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rigs(&self) -> Result<Vec<Rig>, Error> {
        self.read(queries::rigs).await
    }

    /// A rig, if it is this town's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rig(&self, rig_id: RigId) -> Result<Rig, Error> {
        let rig = self.read(|tree| tree.get(&RigKey { rig_id })).await?;
        Ok(rig.ok_or(Refusal::RigNotFound(rig_id))?)
    }

    /// Beads of a rig, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn beads(
        &self,
        rig_id: RigId,
        filter: BeadFilter,
        page: Page,
    ) -> Result<Vec<Bead>, Error> {
        self.rig(rig_id).await?;
        self.read(|tree| bead_lists::beads(tree, rig_id, &filter, page))
            .await
    }

    /// A bead, if it is that rig's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bead(&self, rig_id: RigId, bead_id: BeadId) -> Result<Bead, Error> {
        let bead = self
            .read(|tree| queries::bead(tree, rig_id, bead_id))
            .await?;
        Ok(bead.ok_or(Refusal::BeadNotFound(bead_id))?)
    }

    /// Escalations of the whole town, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn escalations(
        &self,
        acknowledged: Option<bool>,
        page: Page,
    ) -> Result<Vec<Bead>, Error> {
        self.read(|tree| queries::escalations(tree, acknowledged, page))
            .await
    }

    /// Agents of a rig, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents(&self, rig_id: RigId, filter: AgentFilter) -> Result<Vec<Agent>, Error> {
        self.rig(rig_id).await?;
        self.read(|tree| queries::agents(tree, rig_id, &filter))
            .await
    }

    /// What an agent has sent and received, newest first; nothing is marked.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn mailbox(
        &self,
        rig_id: RigId,
        agent_id: AgentId,
        page: Page,
    ) -> Result<Vec<Mail>, Error> {
        self.agent(rig_id, agent_id).await?;
        self.read(|tree| queries::mailbox(tree, agent_id, page))
            .await
    }

    /// An agent, if it is that rig's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent(&self, rig_id: RigId, agent_id: AgentId) -> Result<Agent, Error> {
        let agent = self
            .read(|tree| queries::agent(tree, rig_id, agent_id))
            .await?;
        Ok(agent.ok_or(Refusal::AgentNotFound(agent_id))?)
    }

    /// Merge requests of a rig, newest first: of one status, or all that are not finished.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reviews(
        &self,
        rig_id: RigId,
        status: Option<ReviewStatus>,
        page: Page,
    ) -> Result<Vec<Review>, Error> {
        self.rig(rig_id).await?;
        self.read(|tree| queries::reviews(tree, rig_id, status, page))
            .await
    }

    /// A merge request of that rig, with the end of what its gates printed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn review(
        &self,
        rig_id: RigId,
        entry_id: BeadId,
    ) -> Result<(Review, Option<String>), Error> {
        let review = self.read(|tree| tree.get(&ReviewKey { entry_id })).await?;
        let review = review
            .filter(|review| review.rig_id == rig_id)
            .ok_or(Refusal::ReviewNotFound(entry_id))?;
        let output = self
            .read(|tree| tree.get(&ReviewOutput { entry_id }))
            .await?;
        Ok((review, output.map(|text| text.value)))
    }

    /// Any agent of the town, the mayor included.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn any_agent(&self, agent_id: AgentId) -> Result<Agent, Error> {
        let agent = self.read(|tree| tree.get(&AgentKey { agent_id })).await?;
        Ok(agent.ok_or(Refusal::AgentNotFound(agent_id))?)
    }

    /// All agents of the town.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn all_agents(&self) -> Result<Vec<Agent>, Error> {
        self.read(queries::all_agents).await
    }

    /// What agents ask, oldest first; with `agent_id` only that one's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn asks(&self, agent_id: Option<AgentId>, page: Page) -> Result<Vec<AskView>, Error> {
        self.read(|tree| queries::asks(tree, agent_id, page)).await
    }

    /// The mayor, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn mayor(&self) -> Result<Option<Agent>, Error> {
        self.read(queries::mayor).await
    }

    /// What the town's agents used in the last `days` days, today included.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn usage(&self, days: u64) -> Result<UsageReport, Error> {
        let now = self.now();
        self.read(|tree| usage::report(tree, days, now)).await
    }

    /// What the town takes of the disk.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn disk(&self) -> Result<DiskReport, Error> {
        self.read(queries::disk).await
    }

    /// Appends an event to an agent's log.
    ///
    /// # Errors
    /// See [`Error`]; then nothing was stored.
    pub async fn append_events(
        &self,
        rig_id: RigId,
        agent_id: AgentId,
        events: Vec<NewEvent>,
    ) -> Result<Appended, Error> {
        Ok(self
            .agent_log(rig_id, agent_id)
            .await?
            .append_once(events, self.1.as_ref().map(|request| request.next()))
            .await?)
    }

    /// An agent's event log, if the agent is that rig's.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent_log(&self, rig_id: RigId, agent_id: AgentId) -> Result<Log, Error> {
        self.agent(rig_id, agent_id).await?;
        Ok(self.0.logs.open(agent_id).await?)
    }

    /// The present moment, by the town's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// What the town knows of its container's life, whether or not one runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn container_life(&self) -> Result<ContainerLife, Error> {
        let life = self.read(|tree| tree.get(&ContainerKey {})).await?;
        Ok(life.unwrap_or_default())
    }

    /// The town's hold on its container.
    ///
    /// # Panics
    /// Never: the registry sets it before it hands out the town.
    #[must_use]
    pub fn container(&self) -> &ContainerHandle {
        self.0
            .container
            .get()
            .expect("a town has its container before it is handed out")
    }

    /// The town takes over what happens but starts nothing any more.
    pub(super) async fn quiesce(&self) {
        self.0.commands.deliver(Command::Quiesce).await;
    }

    /// The town is deleted: its feed's subscribers are told.
    pub(super) fn close_feed(&self) {
        self.0.feed.end();
    }

    /// Reads, and waits until what was seen is durable.
    pub(super) async fn read<T>(
        &self,
        query: impl FnOnce(&Tree) -> Result<T, storage::Error>,
    ) -> Result<T, Error> {
        let answer = query(&self.0.tree)?;
        self.0.tree.settled().await?;
        Ok(answer)
    }

    async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let mut command = command(reply);
        if let Some(request) = &self.1 {
            command = request.step(command);
        }
        self.0
            .commands
            .0
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::Closing,
            })?;
        answer.await.unwrap_or(Err(Error::Closing))
    }
}

impl Feeds for TownHandle {
    async fn log(&self, subject: Subject) -> Result<Option<Log>, storage::Error> {
        match subject {
            Subject::Town => Ok(Some(self.0.feed.clone())),
            Subject::Agent(agent_id) => {
                if !self.0.tree.contains(&AgentKey { agent_id })? {
                    return Ok(None);
                }
                self.0.tree.settled().await?;
                self.0.logs.open(agent_id).await.map(Some)
            }
        }
    }
}

fn check_branch(field: &str, name: &str) -> Result<(), Refusal> {
    crate::container::git::BranchName::parse(name)
        .map(drop)
        .map_err(|error| Refusal::invalid(field, error.to_string()))
}

/// What the container's link tells the town.
impl LinkTarget for TownHandle {
    fn knows(&self, agent_id: AgentId) -> bool {
        self.0
            .tree
            .contains(&AgentKey { agent_id })
            .unwrap_or(false)
    }

    fn local_repositories(&self) -> Vec<std::path::PathBuf> {
        let rigs = queries::rigs(&self.0.tree).unwrap_or_default().into_iter();
        let urls = rigs.map(|rig| rig.git_url.trim_start_matches("file://").to_owned());
        urls.filter(|url| url.starts_with('/'))
            .map(Into::into)
            .collect()
    }

    fn active(&self, agent_id: AgentId) {
        let now = self.0.clock.now();
        let mut active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        let last = active.entry(agent_id).or_default();
        if now.since(*last) < ACTIVITY_INTERVAL {
            return;
        }
        *last = now;
        // A note that is lost to a full queue is made at the next event.
        let _ = self.0.commands.0.try_send(Command::Activity(agent_id));
    }

    async fn link(&self, state: LinkState) {
        self.0.commands.deliver(Command::Link(state)).await;
    }

    async fn report(&self, place: LinkPosition, reports: Vec<(AgentId, AgentReport)>) -> bool {
        self.deliver(|reply| Command::Report(place, reports, reply))
            .await
    }

    async fn told(&self, place: LinkPosition, report: ContainerReport) -> bool {
        self.deliver(|reply| Command::ContainerTold(place, report, reply))
            .await
    }

    async fn merged(&self, place: LinkPosition, report: MergeReport) -> bool {
        self.deliver(|reply| Command::Merged(place, report, reply))
            .await
    }
}

impl TownHandle {
    /// True once the command is durable.
    async fn deliver(&self, command: impl FnOnce(Reply<()>) -> Command) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.commands.deliver(command(reply)).await;
        matches!(answer.await, Ok(Ok(())))
    }
}
