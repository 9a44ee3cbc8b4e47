//! What is done to a server, its containers and its agent servers.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Town;
use crate::support::dice::Dice;
use crate::support::server::Server;

/// Between two attacks: at random between these.
const PAUSE_MIN_MS: usize = 1_500;
const PAUSE_MAX_MS: usize = 7_000;
/// How long a process is stopped that is not killed: it is slow, not dead.
const FROZEN: Duration = Duration::from_secs(3);
/// How long there is no server.
const SERVER_GONE_MAX_MS: usize = 1_500;

/// What can be done; some of it more often than the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    KillServer,
    /// As an upgrade does.
    RestartServer,
    KillContainer,
    EndContainer,
    FreezeContainer,
    KillAgentServer,
    FreezeAgentServer,
}

const ATTACKS: &[Attack] = &[
    Attack::KillServer,
    Attack::KillServer,
    Attack::RestartServer,
    Attack::KillContainer,
    Attack::KillContainer,
    Attack::EndContainer,
    Attack::FreezeContainer,
    Attack::KillAgentServer,
    Attack::KillAgentServer,
    Attack::FreezeAgentServer,
];

pub(super) struct Mischief {
    dice: Dice,
    /// The names of the towns' folders at run time, and whether agents are a program of their own.
    towns: Vec<(String, bool)>,
    done: BTreeMap<Attack, usize>,
}

impl Mischief {
    pub(super) fn new(dice: Dice, towns: &[Town]) -> Self {
        let towns = towns
            .iter()
            .map(|town| (town.id().to_owned(), town.has_program));
        Self {
            dice,
            towns: towns.collect(),
            done: BTreeMap::new(),
        }
    }

    /// Lets them work for a while.
    pub(super) async fn pause(&mut self) {
        let pause = PAUSE_MIN_MS + self.dice.roll(PAUSE_MAX_MS - PAUSE_MIN_MS);
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
    }

    /// Does one thing to somebody. Who is not there at the moment is spared.
    pub(super) async fn make(&mut self, server: &mut Server) {
        let attack = ATTACKS[self.dice.roll(ATTACKS.len())];
        let (town, has_program) = self.towns[self.dice.roll(self.towns.len())].clone();
        let container = || container_of(server, &town);
        let agent_server = || container().and_then(agent_server_of);
        let met = match attack {
            Attack::KillServer => {
                server.kill();
                self.without_a_server().await;
                server.restart();
                true
            }
            Attack::RestartServer => {
                assert!(server.terminate().success());
                self.without_a_server().await;
                server.restart();
                true
            }
            Attack::KillContainer => send(container(), Signal::KILL),
            Attack::EndContainer => send(container(), Signal::TERM),
            Attack::FreezeContainer => freeze(container()).await,
            Attack::KillAgentServer if has_program => send(agent_server(), Signal::KILL),
            Attack::FreezeAgentServer if has_program => freeze(agent_server()).await,
            // The rehearsal is played by the container itself.
            Attack::KillAgentServer => send(container(), Signal::KILL),
            Attack::FreezeAgentServer => freeze(container()).await,
        };
        *self.done.entry(attack).or_default() += usize::from(met);
    }

    async fn without_a_server(&mut self) {
        let gone = self.dice.roll(SERVER_GONE_MAX_MS);
        tokio::time::sleep(Duration::from_millis(gone as u64)).await;
    }

    pub(super) fn summary(&self) -> String {
        format!("{:?}", self.done)
    }
}

fn send(pid: Option<i32>, signal: Signal) -> bool {
    let pid = pid.and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

async fn freeze(pid: Option<i32>) -> bool {
    let met = send(pid, Signal::STOP);
    tokio::time::sleep(FROZEN).await;
    send(pid, Signal::CONT);
    met
}

/// The container process of a town, as this side of its walls sees it.
fn container_of(server: &Server, town: &str) -> Option<i32> {
    let is_container = |pid: &u32| {
        let words = words_of(*pid);
        words.get(1).is_some_and(|word| word == "container")
            && words.iter().any(|word| word.contains(town))
    };
    let pid = server.leftovers().into_iter().find(is_container)?;
    i32::try_from(pid).ok()
}

/// The agent program below a container.
fn agent_server_of(container: i32) -> Option<i32> {
    let parents = parents();
    let is_below = |pid: i32| {
        std::iter::successors(Some(pid), |pid| parents.get(pid).copied())
            .any(|above| above == container)
    };
    let is_program = |pid: i32| {
        let words = words_of(pid.unsigned_abs());
        words
            .first()
            .is_some_and(|word| word.ends_with("/opencode"))
    };
    parents
        .keys()
        .copied()
        .find(|pid| is_below(*pid) && is_program(*pid))
}

/// Each process's parent.
fn parents() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state and parent (proc_pid_stat(5)).
        let (_, behind) = stat.rsplit_once(") ")?;
        Some((pid, behind.split(' ').nth(1)?.parse().ok()?))
    })
    .collect()
}

/// A process's command line.
pub(super) fn words_of(pid: u32) -> Vec<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = command.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
