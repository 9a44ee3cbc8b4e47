//! The control plane's speed and size: a town of 1,000 and one of 100,000 beads, 1,000 towns at
//! rest, and how soon work begins.
//!
//! `cargo bench --bench control_plane` prints a table with the goal and a floor of the same run
//! beside each figure. With `-- --test` everything runs once and small, to show that it runs.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't go on has nothing to say"
)]
#![expect(clippy::print_stdout, reason = "its table is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use gastownd::agent_log::Logs;
use gastownd::clock::Clock;
use gastownd::config::Settings;
use gastownd::lifecycle::Lifecycle;
use gastownd::model::{
    AgentId, AgentRole, BeadId, BeadStatus, BeadType, ContainerState, Json, Priority, RigId,
    TownId, UserId,
};
use gastownd::notify::Notifier;
use gastownd::storage::{Batch, BeadKey, Count, CounterKey, Database, OpenOptions, Tree, TreeName};
use gastownd::town::{
    BeadActor, BeadFilter, NewAgent, NewBead, NewRig, Page, SlingOrder, StatusChange, TownHandle,
    Towns, TownsOptions,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Requests that wait at the same time while a town is filled.
const IN_FLIGHT: usize = 64;

/// Beads that are read in turn, and stay in the processor's caches.
const SAME: usize = 10;

/// A page of a list.
const PAGE: Page = Page {
    limit: 100,
    offset: 0,
};

struct Sizes {
    rigs: usize,
    agents: usize,
    beads_small: usize,
    beads_large: usize,
    towns: usize,
    rounds: usize,
    rest: Duration,
}

fn main() {
    let sizes = if std::env::args().any(|argument| argument == "--test") {
        Sizes {
            rigs: 3,
            agents: 6,
            beads_small: 20,
            beads_large: 60,
            towns: 5,
            rounds: 5,
            rest: Duration::from_millis(50),
        }
    } else {
        Sizes {
            rigs: 100,
            agents: 500,
            beads_small: 1_000,
            beads_large: 100_000,
            towns: 1_000,
            rounds: 300,
            rest: Duration::from_secs(20),
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{:<46} {:>24} {:>14} {:>30}",
        "measure", "ours", "goal", "floor of the same run"
    );
    // First, while the process is still small.
    runtime.block_on(at_rest(&sizes));
    runtime.block_on(dispatch_begins(&sizes));
    runtime.block_on(work(&sizes));
}

fn row(measure: &str, ours: &str, goal: &str, floor: &str) {
    println!("{measure:<46} {ours:>24} {goal:>14} {floor:>30}");
}

/// A database with its towns, without HTTP.
struct Place {
    towns: Towns,
    database: Database,
    owner: UserId,
    _folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            cache_bytes: 32 << 20,
        };
        let database = Database::open(&folder.path().join("db"), options).unwrap();
        let towns = open(&database, &folder).await;
        Self {
            towns,
            database,
            owner: UserId::parse("bench").unwrap(),
            _folder: folder,
        }
    }

    /// A town that starts nothing.
    async fn town(&self) -> TownHandle {
        let owner = self.owner.clone();
        let town = self
            .towns
            .create(owner, "town".to_owned(), None)
            .await
            .unwrap();
        let town = self.towns.get(town.town_id).unwrap();
        town.pause(true).await.unwrap();
        town
    }

    fn tree(&self, town_id: TownId) -> Tree {
        self.database.tree(TreeName::Town(town_id)).unwrap()
    }
}

async fn open(database: &Database, folder: &TempDir) -> Towns {
    let mut settings = Settings::for_data_dir(folder.path());
    // What starts is started for the work that is measured.
    settings.container.on_demand = true;
    let settings = Arc::new(settings);
    let logs = Logs::new(database.clone(), settings.stream.tail_per_agent);
    let options = TownsOptions {
        settings,
        program: "/nowhere".into(),
        api_url: "http://127.0.0.1:1".into(),
        tokens: Arc::new(|_, _| String::new()),
        notifier: Notifier::start(None, &Lifecycle::new()),
    };
    Towns::open(
        database.clone(),
        logs,
        Clock::system(),
        options,
        Lifecycle::new(),
    )
    .await
    .unwrap()
}

/// A town full of rigs, agents and beads.
struct Full {
    town: TownHandle,
    tree: Tree,
    rigs: Vec<RigId>,
    agents: Vec<(RigId, AgentId)>,
    beads: Vec<(RigId, BeadId)>,
}

impl Full {
    async fn new(place: &Place, sizes: &Sizes, beads: usize) -> Self {
        let town = place.town().await;
        let mut rigs = Vec::new();
        for number in 0..sizes.rigs {
            let new = new_rig(format!("rig-{number}"));
            rigs.push(town.create_rig(new).await.unwrap().rig_id);
        }
        let mut agents = Vec::new();
        for number in 0..sizes.agents {
            let rig_id = rigs[number % rigs.len()];
            let new = NewAgent {
                role: AgentRole::Polecat,
                name: format!("agent-{number}"),
                identity: format!("agent-{number}@bench"),
            };
            let agent = town.create_agent(rig_id, new).await.unwrap();
            agents.push((rig_id, agent.agent_id));
        }
        let mut full = Self {
            tree: place.tree(town.town_id()),
            town,
            rigs,
            agents,
            beads: Vec::new(),
        };
        full.fill(beads).await;
        full
    }

    async fn fill(&mut self, beads: usize) {
        let mut waiting = JoinSet::new();
        for number in 0..beads {
            if waiting.len() >= IN_FLIGHT {
                self.beads.push(waiting.join_next().await.unwrap().unwrap());
            }
            let (town, rig_id) = (self.town.clone(), self.rigs[number % self.rigs.len()]);
            waiting.spawn(async move {
                let bead = town.create_bead(rig_id, bead(number)).await.unwrap();
                (rig_id, bead.bead_id)
            });
        }
        while let Some(made) = waiting.join_next().await {
            self.beads.push(made.unwrap());
        }
    }

    async fn hook_everyone(&self) {
        for (number, (rig_id, agent_id)) in self.agents.iter().enumerate() {
            let mut bead = self.beads.iter().filter(|(of, _)| of == rig_id);
            let (_, bead_id) = bead.nth(number / self.rigs.len()).unwrap();
            self.town.hook(*rig_id, *agent_id, *bead_id).await.unwrap();
        }
    }

    /// What a look costs: the view and the plan, without an action.
    async fn looks(&self, rounds: usize) -> Samples {
        let mut samples = Samples::default();
        for _ in 0..rounds {
            let begin = Instant::now();
            self.town.dry_run().await.unwrap();
            samples.push(begin.elapsed());
        }
        samples
    }

    async fn gets(&self, rounds: usize) -> Samples {
        let mut samples = Samples::default();
        for (rig_id, bead_id) in spread(&self.beads, rounds) {
            let begin = Instant::now();
            self.town.bead(rig_id, bead_id).await.unwrap();
            samples.push(begin.elapsed());
        }
        samples
    }

    /// A few beads again and again: what a read costs that finds everything at hand.
    async fn gets_of_few(&self, rounds: usize) -> Samples {
        let few: Vec<_> = spread(&self.beads, SAME).collect();
        let mut samples = Samples::default();
        for (rig_id, bead_id) in few.iter().cycle().take(rounds.max(SAME)) {
            let begin = Instant::now();
            self.town.bead(*rig_id, *bead_id).await.unwrap();
            samples.push(begin.elapsed());
        }
        samples
    }

    fn raw_gets(&self, rounds: usize) -> Samples {
        let mut samples = Samples::default();
        for (_, bead_id) in spread(&self.beads, rounds) {
            let begin = Instant::now();
            self.tree.get(&BeadKey { bead_id }).unwrap().unwrap();
            samples.push(begin.elapsed());
        }
        samples
    }

    /// New beads one by one, each durable before the next.
    async fn posts(&self, rounds: usize) -> Samples {
        let mut samples = Samples::default();
        for number in 0..rounds {
            let rig_id = self.rigs[number % self.rigs.len()];
            let begin = Instant::now();
            self.town.create_bead(rig_id, bead(number)).await.unwrap();
            samples.push(begin.elapsed());
        }
        samples
    }

    /// The smallest batch, made durable.
    async fn bare_commits(&self, rounds: usize) -> Samples {
        let mut samples = Samples::default();
        for value in 0..rounds as u64 {
            let mut batch = Batch::new();
            batch.put(
                &CounterKey {},
                &Count {
                    value: 1_000_000 + value,
                },
            );
            let (done, durable) = oneshot::channel();
            let begin = Instant::now();
            let committed = self
                .tree
                .commit(batch, Box::new(move |result| drop(done.send(result))));
            committed.unwrap();
            durable.await.unwrap().unwrap();
            samples.push(begin.elapsed());
        }
        samples
    }

    /// The time of a list, for each bead in it.
    async fn list(&self, filter: BeadFilter, rounds: usize) -> Samples {
        let mut samples = Samples::default();
        let rig_id = self.agents[0].0;
        for _ in 0..rounds {
            let begin = Instant::now();
            let beads = self.town.beads(rig_id, filter.clone(), PAGE).await.unwrap();
            let time = begin.elapsed();
            assert!(!beads.is_empty());
            samples.push(time / u32::try_from(beads.len()).unwrap());
        }
        samples
    }

    /// Ten closed beads in the first rig, the oldest ones.
    async fn close_some(&self) {
        let rig_id = self.agents[0].0;
        let mine = self.beads.iter().filter(|(of, _)| *of == rig_id);
        for (_, bead_id) in mine.clone().skip(mine.count() / 2).take(10) {
            let change = StatusChange {
                status: BeadStatus::Closed,
                actor: BeadActor::User(None),
            };
            let closed = self.town.set_bead_status(rig_id, *bead_id, change);
            closed.await.unwrap();
        }
    }
}

/// A bench that waits for ever says nothing.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// The time from a sling to a container that was asked for, in a town that has none. Its program is
/// not there, so the attempt is over as soon as it has begun, and the container's row says so.
async fn dispatch_begins(sizes: &Sizes) {
    let place = Place::new().await;
    let mut samples = Samples::default();
    for _ in 0..sizes.rounds / 5 {
        let town = place.town().await;
        let rig_id = town
            .create_rig(new_rig("rig".to_owned()))
            .await
            .unwrap()
            .rig_id;
        town.pause(false).await.unwrap();
        let order = SlingOrder {
            title: "work".to_owned(),
            body: None,
            priority: Priority::Medium,
            metadata: Json::empty_object(),
            created_by: None,
        };
        let begin = Instant::now();
        let slung = town.sling(rig_id, order).await.unwrap();
        assert!(slung.agent.is_some(), "the town is not held");
        // There is no program to start; that it was to be started is what counts.
        while town.container_life().await.unwrap().state == ContainerState::Asleep {
            assert!(
                begin.elapsed() < BEGINS_WITHIN,
                "the container is never started"
            );
            tokio::task::yield_now().await;
        }
        samples.push(begin.elapsed());
    }
    row(
        "sling to the container's start, town at rest",
        &samples.summary(),
        "100 ms",
        "",
    );
    place.towns.close();
}

async fn work(sizes: &Sizes) {
    let place = Place::new().await;
    let small = Full::new(&place, sizes, sizes.beads_small).await;
    let large = Full::new(&place, sizes, sizes.beads_large).await;
    let (rounds, of) = (sizes.rounds, sizes.beads_large);

    let looks = large.looks(rounds).await;
    row(
        &format!("look, nothing to do, {of} beads"),
        &looks.summary(),
        "20 ms",
        "",
    );

    // Beads that nobody has asked for in a while are read from the disk's pages first.
    let cold = (small.gets(rounds).await, large.gets(rounds).await);
    let cold = format!("{} / {}", cold.0.summary(), cold.1.summary());
    row("GET bead, first read, few / many", &cold, "", "");
    let (few, many) = (small.gets(rounds).await, large.gets(rounds).await);
    let floor = (small.raw_gets(rounds), large.raw_gets(rounds));
    let ratio_of_floor = floor.1.median().as_secs_f64() / floor.0.median().as_secs_f64();
    let floor = format!("tree get {} ({ratio_of_floor:.2} x)", floor.1.summary());
    ratio("GET bead", &few, &many, &floor);
    let (few, many) = (
        small.gets_of_few(rounds).await,
        large.gets_of_few(rounds).await,
    );
    ratio(&format!("GET of {SAME} beads in turn"), &few, &many, "");
    let (few, many) = (small.posts(rounds).await, large.posts(rounds).await);
    let floor = large.bare_commits(rounds).await.summary();
    ratio("POST bead", &few, &many, &format!("commit {floor}"));

    small.close_some().await;
    large.close_some().await;
    let closed = BeadFilter {
        status: Some(BeadStatus::Closed),
        ..BeadFilter::default()
    };
    let (few, many) = (
        small.list(closed.clone(), rounds).await,
        large.list(closed, rounds).await,
    );
    ratio("list by status, per bead listed", &few, &many, "");

    for full in [&small, &large] {
        full.hook_everyone().await;
    }
    let of_agent = |full: &Full| BeadFilter {
        assignee: Some(full.agents[0].1),
        ..BeadFilter::default()
    };
    let (few, many) = (
        small.list(of_agent(&small), rounds).await,
        large.list(of_agent(&large), rounds).await,
    );
    ratio("list by assignee, per bead listed", &few, &many, "");
    let looks = large.looks(rounds).await;
    let hooked = large.agents.len();
    row(
        &format!("look, {hooked} hooked agents, {of} beads"),
        &looks.summary(),
        "100 ms",
        "",
    );
    place.towns.close();
}

fn ratio(measure: &str, few: &Samples, many: &Samples, floor: &str) {
    row(&format!("{measure}, few beads"), &few.summary(), "", "");
    row(
        &format!("{measure}, many beads"),
        &many.summary(),
        "",
        floor,
    );
    let ratio = many.median().as_secs_f64() / few.median().as_secs_f64();
    row(
        &format!("{measure}, many / few"),
        &format!("{ratio:.2} x"),
        "1.3 x",
        "",
    );
}

/// Towns with a rig and a mayor each, opened anew and left alone.
async fn at_rest(sizes: &Sizes) {
    let place = Place::new().await;
    for _ in 0..sizes.towns {
        let town = place.town().await;
        town.create_rig(new_rig("rig".to_owned())).await.unwrap();
        town.pause(false).await.unwrap();
    }
    place.towns.close();
    let Place {
        towns,
        database,
        _folder: folder,
        ..
    } = place;
    drop(towns);
    let before = resident_kib();
    let begin = Instant::now();
    let towns = open(&database, &folder).await;
    let opened = begin.elapsed();
    tokio::time::sleep(sizes.rest / 10).await;
    let grown = resident_kib().saturating_sub(before);
    let cpu = cpu_time();
    tokio::time::sleep(sizes.rest).await;
    let used = cpu_time().saturating_sub(cpu);
    let count = sizes.towns;
    row(
        &format!("memory of {count} towns at rest"),
        &format!("{:.1} MB", grown as f64 / 1024.0),
        "64 MB",
        &format!("whole process {:.1} MB", resident_kib() as f64 / 1024.0),
    );
    row(
        &format!("CPU of {count} towns in {:.0?}", sizes.rest),
        &format!("{used:.0?}"),
        "none",
        "",
    );
    row(
        &format!("opening {count} towns"),
        &format!("{opened:.0?}"),
        "",
        "",
    );
    towns.close();
}

fn new_rig(name: String) -> NewRig {
    NewRig {
        name,
        git_url: "https://git.invalid/o/r.git".to_owned(),
        default_branch: "main".to_owned(),
        platform_integration_id: None,
        kilocode_token: None,
    }
}

fn bead(number: usize) -> NewBead {
    NewBead {
        bead_type: BeadType::Issue,
        title: format!("Bead {number}"),
        body: Some("The tides come in twice a day, and somebody has to note them.".to_owned()),
        priority: Priority::Medium,
        labels: Vec::new(),
        metadata: Json::empty_object(),
        assignee_agent_id: None,
        parent_bead_id: None,
        created_by: None,
        convoy_id: None,
        depends_on: Vec::new(),
    }
}

/// So many of them, from all over.
fn spread<T: Copy>(all: &[T], count: usize) -> impl Iterator<Item = T> + '_ {
    let step = (all.len() / count).max(1);
    all.iter().copied().step_by(step).take(count)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// What all threads of the process have used so far.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.filter_map(|thread| {
        let path = thread.ok()?.path().join("schedstat");
        let stat = std::fs::read_to_string(path).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

#[derive(Default)]
struct Samples(Vec<Duration>);

impl Samples {
    fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.at(50)
    }

    fn summary(&self) -> String {
        let micros = |percent| self.at(percent).as_secs_f64() * 1e6;
        format!("p50 {:.0} p99 {:.0} us", micros(50), micros(99))
    }
}
