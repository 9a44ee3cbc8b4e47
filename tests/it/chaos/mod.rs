//! Three towns work without pause while their server, containers and agent servers are killed at
//! random; then all is left in peace, and looked at.
//!
//! `GASTOWND_CHAOS=30m` runs longer than the suite does, `GASTOWND_CHAOS_SEED=7` repeats the
//! choices of an earlier run. (What they meet depends on the machine's timing all the same.)

mod client;
mod follower;
mod mischief;
mod slinger;
mod verdict;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::main_job::scripted_town;
use crate::support::agent_server;
use crate::support::case::rehearsal;
use crate::support::dice::Dice;
use crate::support::repository::Repository;
use crate::support::scripted_model::ScriptedModel;
use crate::support::server::Server;

use client::Client;
use follower::Follower;
use mischief::Mischief;
use slinger::Slinger;
use witness::Witness;

/// How long, where the environment does not say.
const SPAN: Duration = Duration::from_mins(5);
/// Polecats of each town.
const POLECATS: usize = 4;

/// What the server runs with: it tries often and soon, because it is disturbed so often, and does
/// not stop a town that has many failures.
const ARGUMENTS: &[&str] = &[
    "--isolation",
    "bubblewrap",
    "--dispatch-backoff-min",
    "1s",
    "--dispatch-backoff-max",
    "2s",
    "--dispatch-attempts-max",
    "8",
    "--dispatch-failures-max",
    "1000",
    "--dispatch-failures-window",
    "1m",
];

/// A town, and what is known of it from outside.
struct Town {
    name: &'static str,
    /// `/api/towns/T`
    path: String,
    /// `/api/towns/T/rigs/R`
    rig: String,
    repository: Repository,
    has_program: bool,
}

impl Town {
    async fn new(server: &Server, name: &'static str, mut config: Value) -> Self {
        let has_program = config["agent_server"] != "rehearsal";
        config["max_polecats_per_rig"] = POLECATS.into();
        let repository = Repository::new();
        let path = server.town(config).await;
        let rig = server.rig(&path, &repository.origin()).await;
        Self {
            name,
            path,
            rig,
            repository,
            has_program,
        }
    }

    fn id(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    fn rig_id(&self) -> &str {
        self.rig.rsplit('/').next().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_the_work_is_done_or_failed_with_a_reason() {
    let span = std::env::var("GASTOWND_CHAOS").map_or(SPAN, |text| {
        humantime::parse_duration(&text).expect("GASTOWND_CHAOS is a time such as 30m")
    });
    let seed = std::env::var("GASTOWND_CHAOS_SEED")
        .map_or(u64::from(std::process::id()), |text| text.parse().unwrap());
    say(format!("chaos: {span:?}; GASTOWND_CHAOS_SEED={seed}"));
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let program = agent_server::program(AgentServerKind::Opencode).unwrap();
    let program = ["--agent-program", &program.to_string_lossy()];
    let arguments = [ARGUMENTS, &program].concat();
    let mut server = Server::start(&arguments);
    let towns = [
        Town::new(
            &server,
            "Opencode",
            scripted_town(AgentServerKind::Opencode, &model),
        )
        .await,
        Town::new(&server, "Rehearsal 1", rehearsal()).await,
        Town::new(&server, "Rehearsal 2", rehearsal()).await,
    ];

    let client = Client::of(&server);
    let (slinging, watching) = (flag(), flag());
    let (mut slingers, mut followers) = (JoinSet::new(), JoinSet::new());
    let mut witnesses = Vec::new();
    for (number, town) in (1..).zip(&towns) {
        let slinger = Slinger::new(&client, town, Dice::new(seed + number), &slinging);
        slingers.spawn(slinger.run());
        followers.spawn(Follower::new(&server, town, &watching).run());
        witnesses.push(Witness::new(&server, town));
    }

    let mut mischief = Mischief::new(Dice::new(seed), &towns);
    let end = Instant::now() + span;
    while Instant::now() < end {
        mischief.pause().await;
        for witness in &mut witnesses {
            witness.look();
        }
        mischief.make(&mut server).await;
        // Who has ended has failed; why is better known at once.
        let ended = slingers.try_join_next().map(|ended| ended.map(drop));
        let ended = ended.or_else(|| followers.try_join_next().map(|ended| ended.map(drop)));
        if let Some(ended) = ended {
            panic!("seed {seed}: {ended:?}");
        }
    }
    say(format!("chaos: {}", mischief.summary()));

    slinging.store(false, Ordering::SeqCst);
    let mut slung = Vec::new();
    while let Some(ended) = slingers.join_next().await {
        slung.extend(ended.unwrap());
    }
    verdict::all_have_ended(&client, &slung).await;
    for (town, witness) in towns.iter().zip(&mut witnesses) {
        witness.look();
        verdict::is_quiet(&client, town).await;
        verdict::work_is_where_it_is_said_to_be(&client, town, &slung).await;
        witness.expect_all_commits_kept(town);
    }
    watching.store(false, Ordering::SeqCst);
    while let Some(ended) = followers.join_next().await {
        verdict::log_is_as_it_was_shown(&client, &ended.unwrap()).await;
    }
    verdict::ends_without_a_trace(server).await;
}

fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

/// A run is worth more with its figures; they are shown when it fails, or with `--nocapture`.
#[expect(
    clippy::print_stderr,
    reason = "libtest keeps it with the test's own output"
)]
fn say(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}
