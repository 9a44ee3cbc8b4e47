//! The fleet itself: its state, its loop, and what the requests do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::agent::{Agent, EndStep, Ending, stopped};
use super::command::{Command, Denied, Failure, Reply, Run, StreamItem};
use super::disk::DiskState;
use super::drain::Drain;
use super::handle::FleetHandle;
use super::limits::LOOK_INTERVAL;
use super::model_watch::ModelWatch;
use super::recycling::Grown;
use super::server::{Launch, RunningServer};
use super::start::{Place, StartTask};
use super::stats::Stats;
use crate::clock::Clock;
use crate::config::ResolvedTownConfig;
use crate::container::Limits;
use crate::container::agent_config::ServerSettings;
use crate::container::control_server::{Links, Spool};
use crate::container::git::{Git, GitEnvironment, Repository};
use crate::container::protocol::{Health, MessageAgent, StartAgent, StopAgent};
use crate::lifecycle::Lifecycle;
use crate::model::{AgentId, BeadId, RigId, Timestamp};

/// Requests that wait for the actor. It never waits itself, so the queue is short-lived.
const COMMANDS_MAX: usize = 256;

/// Events that wait for the actor; behind them the agent server's own stream waits.
const EVENTS_MAX: usize = 512;

/// Prompts that wait for one session. Each is a mail, a nudge or a reminder.
const PROMPTS_MAX: usize = 32;

/// How long an aborted session may take to say that it is idle.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(10);

/// What a fleet needs.
#[derive(Debug)]
pub(crate) struct FleetOptions {
    pub(crate) workspace: PathBuf,
    pub(crate) agent_program: Option<PathBuf>,
    pub(crate) guard: PathBuf,
    pub(crate) linger: Duration,
    pub(crate) drain_time: Duration,
    pub(crate) limits: Limits,
    pub(crate) git: GitEnvironment,
    pub(crate) spool: Spool,
    pub(crate) links: Links,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
}

/// The agent server, if any.
#[derive(Debug)]
pub(super) enum ServerState {
    /// There is none.
    Absent,
    /// One is being started for those who wait.
    Starting {
        generation: u64,
        waiters: Vec<Waiter>,
    },
    /// One runs.
    Running(Arc<RunningServer>),
    /// One ends, and those who wait want another.
    Stopping {
        generation: u64,
        waiters: Vec<Waiter>,
    },
}

/// A start that waits for the agent server.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) run: Run,
    pub(super) settings: ServerSettings,
    pub(super) reply: Reply<Result<Arc<RunningServer>, Failure>>,
}

/// The actor.
pub(crate) struct Fleet {
    pub(super) options: FleetOptions,
    pub(super) git: Git,
    received: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Receiver<(u64, StreamItem)>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) launch: Launch,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    /// Which agent a session belongs to, children included.
    pub(super) sessions: HashMap<String, AgentId>,
    repositories: HashMap<RigId, Repository>,
    pub(super) server: ServerState,
    pub(super) last_generation: u64,
    last_run: u64,
    pub(super) merges: HashSet<BeadId>,
    pub(super) drain: Option<Drain>,
    pub(super) begun: Instant,
    /// When the agent server last told of a session.
    pub(super) heard_at: Instant,
    last_contact: Instant,
    pub(super) stats: Stats,
    pub(super) limits_due: Instant,
    /// The agent server that is to be replaced because of its memory.
    pub(super) grown: Option<Grown>,
    /// Turns that ended on the present agent server.
    pub(super) turns_ended: u64,
    /// Whether somebody looks at the limits just now.
    pub(super) looking: bool,
    pub(super) disk: DiskState,
}

impl Fleet {
    /// A fleet without agents.
    pub(crate) fn new(options: FleetOptions) -> (Self, FleetHandle) {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (event_sender, events) = mpsc::channel(EVENTS_MAX);
        let launch = Launch {
            program: options.agent_program.clone(),
            guard: options.guard.clone(),
            home: options.workspace.join("home"),
            directory: options.workspace.clone(),
            commands: commands.clone(),
            events: event_sender,
            hung_after: options.limits.hung_after,
            silence: options.limits.silence(),
            spool: options.spool.clone(),
            lifecycle: options.lifecycle.clone(),
        };
        let now = Instant::now();
        let fleet = Self {
            git: Git::guarded(&options.git),
            options,
            received,
            events,
            commands: commands.clone(),
            launch,
            agents: BTreeMap::new(),
            sessions: HashMap::new(),
            repositories: HashMap::new(),
            server: ServerState::Absent,
            last_generation: 0,
            last_run: 0,
            merges: HashSet::new(),
            drain: None,
            begun: now,
            heard_at: now,
            last_contact: now,
            stats: Stats::due_from(now),
            limits_due: now + LOOK_INTERVAL,
            grown: None,
            turns_ended: 0,
            looking: false,
            disk: DiskState::default(),
        };
        (fleet, FleetHandle { commands })
    }

    /// Runs until the container is to end: drained, shut down, or left alone for too long.
    pub(crate) async fn run(mut self) {
        while !self.is_drained(Instant::now()) {
            let due = self.next_deadline();
            tokio::select! {
                biased;
                Some(command) = self.received.recv() => self.apply(command),
                Some((generation, item)) = self.events.recv() => self.on_stream(generation, item),
                () = tokio::time::sleep_until(due) => self.on_deadline(Instant::now()),
            }
        }
        self.close().await;
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Contact => {}
            Command::Health(reply) => answer(reply, self.health()),
            Command::Start(start, config, reply) => answer(reply, self.start(*start, config)),
            Command::Message(agent, message, config, reply) => {
                answer(reply, self.message(agent, message, config));
            }
            Command::Stop(agent, stop, reply) => answer(reply, self.stop(agent, &stop)),
            Command::Remove(agent, remove, reply) => self.remove(agent, &remove, reply),
            Command::Status(agent, reply) => answer(
                reply,
                self.agents
                    .get(&agent)
                    .map(|known| known.state(agent))
                    .ok_or(Denied::UnknownAgent(agent)),
            ),
            Command::AnswerPermission(agent, ask, permission, reply) => {
                self.answer_permission(agent, ask, permission, reply);
            }
            Command::AnswerQuestion(agent, ask, question, reply) => {
                self.answer_question(agent, ask, question, reply);
            }
            Command::Merge(merge, config, reply) => {
                answer(reply, self.merge(*merge, config.as_deref()));
            }
            Command::Tidy(tidy, reply) => answer(reply, self.tidy(*tidy)),
            Command::Drain(reason) => self.begin_drain(reason),
            Command::Shutdown => self.shut_down(),
            // The rest is from our own tasks: no sign that anybody wants this container.
            own => return self.apply_own(own),
        }
        self.last_contact = Instant::now();
    }

    fn apply_own(&mut self, command: Command) {
        match command {
            Command::NeedServer(run, config, reply) => self.need_server(run, &config, reply),
            Command::ServerStarted(generation, result) => self.server_started(generation, result),
            Command::ServerEnded(generation, reason) => self.server_ended(generation, &reason),
            Command::Prepared(run, result) => self.prepared(run, result),
            Command::Prompted(run, result) => self.prompted(run, result),
            Command::TurnChecked(run, asked_at, seen) => self.turn_checked(run, asked_at, seen),
            Command::Saved(run, exit) if self.is_current(run) => self.finish(run.0, exit),
            Command::Merged(merged) => self.merged(&merged),
            Command::Measured(measured) => self.measured(measured),
            Command::Looked(looked) => self.looked(looked),
            Command::DiskMeasured(disk, cost) => self.disk_measured(&disk, cost),
            Command::Tidied(disk) => self.tidied(&disk),
            _ => {}
        }
    }

    fn health(&self) -> Health {
        Health {
            status: "ok".to_owned(),
            agents: self.alive(),
            resting: self.agents.values().filter(|agent| agent.rests()).count(),
            merges: self.merges.len(),
            servers: self.servers(),
            uptime: self.begun.elapsed().as_secs(),
            epoch: self.options.spool.epoch(),
            drain: self.drain.is_some(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stats: self.stats.told(),
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.agents
            .values()
            .filter(|agent| agent.is_alive())
            .count()
    }

    pub(super) fn servers(&self) -> usize {
        usize::from(!matches!(self.server, ServerState::Absent))
    }

    // ---- requests -------------------------------------------------------------------------

    fn start(&mut self, start: StartAgent, config: Arc<ResolvedTownConfig>) -> Result<(), Denied> {
        let agent_id = start.agent_id;
        if self.drain.is_some() {
            return Err(Denied::Draining);
        }
        if self.agents.get(&agent_id).is_some_and(Agent::is_alive) {
            return Err(Denied::AlreadyStarted(agent_id));
        }
        let workspace = self.options.workspace.clone();
        let allowed = self.options.git.allowed();
        let place = Place::of(&start, &workspace, allowed, |rig| self.repository(rig))
            .map_err(Denied::Invalid)?;
        let path = place.path();
        if let Some((other, _)) = self
            .agents
            .iter()
            .find(|(_, other)| other.is_alive() && other.path == path)
        {
            return Err(Denied::NameTaken(*other));
        }
        // Before its start waits for the repository: whoever tidies there sees that it comes.
        self.disk.in_use.enter(&path);
        self.disk.changed(Instant::now());
        self.last_run += 1;
        let run = (agent_id, self.last_run);
        let task = StartTask {
            run,
            start: start.clone(),
            place: place.clone(),
            config: config.clone(),
            commands: self.commands.clone(),
        };
        let task = self
            .options
            .lifecycle
            .spawn_detached("start an agent", task.run())
            .abort_handle();
        let model = ModelWatch::new(self.options.limits.model_wait);
        let agent = Agent::new(start, place, config, run.1, task, model, self.now());
        self.agents.insert(agent_id, agent);
        Ok(())
    }

    fn message(
        &mut self,
        agent_id: AgentId,
        message: MessageAgent,
        config: Arc<ResolvedTownConfig>,
    ) -> Result<(), Denied> {
        if self.drain.is_some() {
            return Err(Denied::Draining);
        }
        let agent = self
            .agents
            .get_mut(&agent_id)
            .ok_or(Denied::UnknownAgent(agent_id))?;
        if agent.session().is_none() || agent.ending.is_some() {
            return Err(Denied::NotStarted(agent_id));
        }
        if agent.prompts.len() >= PROMPTS_MAX {
            return Err(Denied::Overloaded);
        }
        agent.config = config;
        if let Some(system) = message.system_prompt {
            agent.start.system_prompt = system;
        }
        agent.prompts.push_back(message.prompt);
        self.next_prompt(agent_id);
        Ok(())
    }

    fn stop(&mut self, agent_id: AgentId, stop: &StopAgent) -> Result<(), Denied> {
        let agent = self
            .agents
            .get(&agent_id)
            .ok_or(Denied::UnknownAgent(agent_id))?;
        if !agent.is_alive() {
            return Err(Denied::NotStarted(agent_id));
        }
        self.begin_end(
            agent_id,
            stopped(),
            Duration::from_millis(stop.when_idle_within_ms),
        );
        Ok(())
    }

    // ---- time -----------------------------------------------------------------------------

    fn next_deadline(&self) -> Instant {
        let agents = self.agents.values().filter_map(|agent| agent.deadline);
        let drain = self.drain.iter().map(Drain::deadline);
        let fixed = [self.last_contact + self.options.linger, self.stats.due()];
        // There are always the fixed ones.
        agents
            .chain(drain)
            .chain(fixed)
            .chain(self.look_due())
            .chain(self.turn_look_due())
            .chain(self.disk.due())
            .min()
            .unwrap_or(self.stats.due())
    }

    fn on_deadline(&mut self, now: Instant) {
        let due: Vec<(AgentId, Ending)> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.deadline.is_some_and(|deadline| deadline <= now))
            .filter_map(|(agent_id, agent)| Some((*agent_id, agent.ending.clone()?)))
            .collect();
        for (agent_id, ending) in due {
            match ending.step {
                EndStep::WhenIdle => self.abort(agent_id, ending.exit),
                EndStep::Aborted => self.finish_saved(agent_id, ending.exit),
                EndStep::Saving => self.finish(agent_id, ending.exit),
            }
        }
        if self.turn_look_due().is_some_and(|due| due <= now) {
            self.look_at_turns(now);
        }
        if self.look_due().is_some_and(|due| due <= now) {
            self.look_at_limits(now);
        }
        if self.disk.due().is_some_and(|due| due <= now) {
            self.measure_disk();
        }
        if now >= self.stats.due() {
            self.measure(now);
        }
        if now >= self.last_contact + self.options.linger {
            self.last_contact = now;
            if !self.options.links.is_linked() && self.drain.is_none() {
                tracing::info!("nobody asked for this container for long; it ends");
                self.begin_drain("nobody asked for it for long");
            }
        }
    }

    /// From now on nobody is answered; those who wait learn it at once.
    pub(super) fn refuse_all(&mut self) {
        self.received.close();
        while self.received.try_recv().is_ok() {}
    }

    // ---- small things ---------------------------------------------------------------------

    pub(super) fn is_current(&self, run: Run) -> bool {
        self.agents
            .get(&run.0)
            .is_some_and(|agent| agent.run == run.1 && agent.is_alive())
    }

    pub(super) fn repository(&mut self, rig: RigId) -> Repository {
        let (git, workspace) = (&self.git, &self.options.workspace);
        self.repositories
            .entry(rig)
            .or_insert_with(|| Repository::new(git.clone(), workspace, rig))
            .clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Puts a message of our own into the spool.
    pub(super) fn say(&self, agent: Option<AgentId>, kind: &str, content: &impl Serialize) {
        let text = serde_json::to_string(content).expect("our own messages are always JSON");
        self.options.spool.append(agent, kind, &text, self.now());
    }
}

/// Answers an asker, who may have left.
pub(super) fn answer<T>(reply: Reply<T>, value: T) {
    let _ = reply.send(value);
}
