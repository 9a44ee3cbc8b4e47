//! Keeps the container within its limits: who is over them is ended, and told why.
//!
//! Looked at while agents are at work. The commands that an agent runs are its processes; if the most
//! greedy agent's hold more than the agent server itself, they are ended and the agent, whose command
//! failed, goes on. Otherwise it is the agent server that grew: it is ended, and its agents are started
//! again on a fresh one, in their stored sessions.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::actor::{Fleet, ServerState};
use super::command::Command;
use super::processes::{self, Process};
use crate::container::Limits;
use crate::container::protocol::{AgentLimited, message_type};
use crate::model::AgentId;

/// How often it is looked. A process that takes memory as fast as it can gets some gigabytes until then;
/// what the kernel does at its own limit is the last resort.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Rounds of stopping what still multiplies, before it is ended.
const STOP_ROUNDS_MAX: usize = 16;

/// Who is over a limit.
#[derive(Debug)]
pub(super) struct Excess {
    /// Who is over the limit; `None` is the agent server.
    pub(super) agent: Option<AgentId>,
    /// What is used and what is allowed, in words.
    pub(super) reason: String,
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Who is over a limit.
    pub(super) excess: Option<Excess>,
    /// The agent server that was looked at, and its own memory in bytes.
    pub(super) server: Option<(u64, u64)>,
}

/// Who has to go, if anybody.
fn judge(
    family: &[Process],
    owners: &HashMap<u32, Option<AgentId>>,
    limits: &Limits,
) -> Option<Excess> {
    let memory = processes::resident_bytes(family);
    let count = family.len();
    let (over_memory, over_count) = (
        memory > limits.memory_max,
        count > limits.processes_max as usize,
    );
    if !over_memory && !over_count {
        return None;
    }
    let mut shares: BTreeMap<Option<AgentId>, u64> = BTreeMap::new();
    for process in family {
        let owner = owners.get(&process.pid).copied().flatten();
        *shares.entry(owner).or_default() += if over_memory { process.resident } else { 1 };
    }
    let (agent, share) = shares.into_iter().max_by_key(|(_, share)| *share)?;
    let reason = if over_memory {
        format!(
            "memory: {} MiB are in use and {} MiB are allowed, and it holds {} MiB of them",
            memory >> 20,
            limits.memory_max >> 20,
            share >> 20
        )
    } else {
        format!(
            "processes: {count} are running and {} are allowed, and {share} of them are its own",
            limits.processes_max
        )
    };
    Some(Excess { agent, reason })
}

/// Whose folder is which, for a look on another thread.
type Folders = Vec<(PathBuf, AgentId)>;

/// Looks once. Commands of an agent that is over a limit are ended here; the agent server is not.
fn look(folders: &Folders, limits: &Limits, server: Option<(u64, u32)>) -> Looked {
    let (family, owners) = observe(folders);
    let excess = judge(&family, &owners, limits);
    if let Some(agent) = excess.as_ref().and_then(|excess| excess.agent) {
        end_all_of(agent, folders);
    }
    let bytes = |pid| processes::unowned_bytes(&family, pid, &owners);
    Looked {
        excess,
        server: server.map(|(generation, pid)| (generation, bytes(pid))),
    }
}

fn observe(folders: &Folders) -> (Vec<Process>, HashMap<u32, Option<AgentId>>) {
    let family = processes::family();
    let owners = processes::owners(&family, |directory| {
        let owner = folders.iter().find(|(path, _)| directory.starts_with(path));
        owner.map(|(_, agent)| *agent)
    });
    (family, owners)
}

/// Ends an agent's commands. They are all stopped first, because what multiplies faster than it is
/// ended would never be gone.
fn end_all_of(agent: AgentId, folders: &Folders) {
    let mut stopped: Vec<Pid> = Vec::new();
    for _ in 0..STOP_ROUNDS_MAX {
        let (family, owners) = observe(folders);
        let its = family
            .iter()
            .filter(|process| owners.get(&process.pid) == Some(&Some(agent)))
            .filter_map(|process| Pid::from_raw(i32::try_from(process.pid).ok()?));
        let fresh: Vec<Pid> = its.filter(|pid| !stopped.contains(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            // It may have ended since.
            let _ = kill_process(pid, Signal::STOP);
            stopped.push(pid);
        }
    }
    for pid in stopped {
        let _ = kill_process(pid, Signal::KILL);
    }
}

impl Fleet {
    /// When to look next; never, while no agent server runs.
    pub(super) fn look_due(&self) -> Option<Instant> {
        matches!(self.server, ServerState::Running(_)).then_some(self.limits_due)
    }

    /// Looks on another thread, because reading `/proc` takes a while on a crowded machine.
    pub(super) fn look_at_limits(&mut self, now: Instant) {
        self.limits_due = now + LOOK_INTERVAL;
        if self.looking {
            return;
        }
        self.looking = true;
        let folders: Folders = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.is_alive())
            .map(|(agent_id, agent)| (agent.path.clone(), *agent_id))
            .collect();
        let (limits, commands) = (self.options.limits, self.commands.clone());
        let running = self.running_server();
        let server = running.and_then(|server| Some((server.generation, server.pid()?)));
        self.options
            .lifecycle
            .spawn_detached("look at the limits", async move {
                let looked =
                    tokio::task::spawn_blocking(move || look(&folders, &limits, server)).await;
                // Nobody listens any more only when the fleet has ended.
                let _ = commands
                    .send(Command::Looked(looked.unwrap_or_default()))
                    .await;
            });
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        self.looking = false;
        if let Some((generation, resident)) = looked.server {
            self.server_measured(generation, resident);
        }
        let Some(Excess { agent, reason }) = looked.excess else {
            return;
        };
        tracing::warn!(agent = ?agent, "over a limit: {reason}");
        if agent.is_some() {
            let limited = AgentLimited {
                reason: format!("its commands were ended: {reason}"),
            };
            return self.say(agent, message_type::AGENT_LIMITED, &limited);
        }
        if let Some(server) = self.running_server() {
            let reason = format!("the agent server was ended because of a limit on {reason}");
            self.end_server(&server, &reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory_max: 100 << 20,
        processes_max: 4,
        open_files_max: 64,
        recycle_above: 50 << 20,
        hung_after: Duration::from_secs(60),
        model_wait: Duration::from_secs(60),
    };

    fn judged(processes: &[(u64, Option<AgentId>)]) -> Option<Excess> {
        let family: Vec<Process> = (1..)
            .zip(processes)
            .map(|(pid, (mebibytes, _))| Process {
                pid,
                parent: pid - 1,
                resident: mebibytes << 20,
                directory: None,
            })
            .collect();
        let owners = (1..).zip(processes.iter().map(|(_, owner)| *owner));
        judge(&family, &owners.collect(), &LIMITS)
    }

    #[test]
    fn the_greediest_goes() {
        let (toast, maple) = (AgentId::random(), AgentId::random());
        assert!(judged(&[(60, None), (20, Some(toast)), (20, Some(maple))]).is_none());
        let excess = judged(&[(40, None), (10, Some(toast)), (51, Some(maple))]).unwrap();
        assert_eq!(excess.agent, Some(maple));
        assert_eq!(
            excess.reason,
            "memory: 101 MiB are in use and 100 MiB are allowed, and it holds 51 MiB of them"
        );
        let excess = judged(&[(60, None), (20, Some(toast)), (21, Some(maple))]).unwrap();
        assert_eq!(excess.agent, None, "the agent server holds most");
        let small = [(1, None), (1, None), (1, Some(toast)), (1, Some(toast))];
        assert!(judged(&small).is_none());
        let many = [
            (1, None),
            (1, Some(toast)),
            (1, Some(toast)),
            (1, Some(toast)),
            (1, None),
        ];
        let excess = judged(&many).unwrap();
        assert_eq!(excess.agent, Some(toast));
        assert!(
            excess.reason.contains("5 are running and 4 are allowed"),
            "{}",
            excess.reason
        );
    }

    #[test]
    fn all_commands_of_an_agent_are_ended_and_nobody_elses() {
        let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        let agents: Vec<AgentId> = folders.iter().map(|_| AgentId::random()).collect();
        let shell = |at: usize| {
            let mut command = std::process::Command::new("sh");
            // A child that moves away is still the agent's.
            command.args(["-c", "cd / && sleep 60 & sleep 60"]);
            command.current_dir(folders[at].path()).spawn().unwrap()
        };
        let (mut greedy, mut modest) = (shell(0), shell(1));
        let places: Folders = folders
            .iter()
            .zip(&agents)
            .map(|(folder, agent)| (folder.path().to_owned(), *agent))
            .collect();
        end_all_of(agents[0], &places);
        assert!(!greedy.wait().unwrap().success());
        let left = observe(&places).1;
        assert!(!left.values().any(|owner| *owner == Some(agents[0])));
        assert!(modest.try_wait().unwrap().is_none());
        end_all_of(agents[1], &places);
        modest.wait().unwrap();
    }
}
