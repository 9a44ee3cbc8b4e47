//! What the container uses: measured now and then, and told only when it has changed.

use std::time::Duration;

use tokio::time::Instant;

use super::actor::Fleet;
use super::command::Command;
use super::processes;
use crate::container::protocol::{ContainerStats, message_type};

/// How often it is measured while agents run. It is told no more often.
const INTERVAL: Duration = Duration::from_secs(30);

/// Memory that has changed by less than this, or by less than an eighth, has not changed.
const MEMORY_STEP: u64 = 16 << 20;

/// What all processes together use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    resident_bytes: u64,
    processes: usize,
}

/// When it is measured next, and what was told last.
#[derive(Debug)]
pub(super) struct Stats {
    due: Instant,
    told: Option<ContainerStats>,
}

impl Stats {
    pub(super) fn due_from(now: Instant) -> Self {
        Self {
            due: now + INTERVAL,
            told: None,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn told(&self) -> Option<ContainerStats> {
        self.told.clone()
    }
}

/// Whether a person would call it the same.
fn is_like(old: &ContainerStats, new: &ContainerStats) -> bool {
    let change = old.rss_bytes.abs_diff(new.rss_bytes);
    let same_memory = change < MEMORY_STEP || change < old.rss_bytes / 8;
    same_memory
        && (old.agents, old.servers, old.processes) == (new.agents, new.servers, new.processes)
}

impl Fleet {
    /// Measures on another thread, because reading `/proc` takes a while on a crowded machine. Where
    /// nothing runs and that was told, there is nothing to measure.
    pub(super) fn measure(&mut self, now: Instant) {
        self.stats.due = now + INTERVAL;
        let told_agents = self.stats.told.as_ref().map_or(0, |told| told.agents);
        if self.alive() == 0 && told_agents == 0 {
            return;
        }
        let commands = self.commands.clone();
        self.options
            .lifecycle
            .spawn_detached("measure the container", async move {
                let measured = tokio::task::spawn_blocking(|| {
                    let family = processes::family();
                    Measured {
                        resident_bytes: processes::resident_bytes(&family),
                        processes: family.len(),
                    }
                });
                if let Ok(measured) = measured.await {
                    // Nobody listens any more only when the fleet has ended.
                    let _ = commands.send(Command::Measured(measured)).await;
                }
            });
    }

    pub(super) fn measured(&mut self, measured: Measured) {
        let stats = ContainerStats {
            agents: self.alive(),
            servers: self.servers(),
            rss_bytes: measured.resident_bytes,
            processes: measured.processes,
            uptime: self.begun.elapsed().as_secs(),
        };
        if self
            .stats
            .told
            .as_ref()
            .is_some_and(|told| is_like(told, &stats))
        {
            return;
        }
        self.say(None, message_type::CONTAINER_STATS, &stats);
        self.stats.told = Some(stats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_would_call_a_change_is_told() {
        let stats = |agents, mebibytes: u64, processes| ContainerStats {
            agents,
            servers: 1,
            rss_bytes: mebibytes << 20,
            processes,
            uptime: mebibytes,
        };
        let told = stats(2, 400, 9);
        for (other, same) in [
            (stats(2, 400, 9), true),
            (stats(2, 440, 9), true),
            (stats(2, 360, 9), true),
            (stats(2, 460, 9), false),
            (stats(2, 340, 9), false),
            (stats(3, 400, 9), false),
            (stats(2, 400, 10), false),
        ] {
            assert_eq!(is_like(&told, &other), same, "{other:?}");
        }
        assert!(is_like(&stats(1, 20, 1), &stats(1, 30, 1)), "small steps");
    }
}
