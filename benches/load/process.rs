//! What the system tells of one process.

use std::fs;
use std::time::Duration;

/// The processor time and memory of one process, read from `/proc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// What all its threads used so far, in user and kernel mode, and what its children that were
    /// waited for used. The system counts in ticks of 10 ms, so only sums over seconds mean much.
    pub(crate) fn cpu(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // The name in parentheses may hold anything; the fields after it are numbers (proc(5)).
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Bytes in memory now.
    pub(crate) fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most bytes in memory so far.
    pub(crate) fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    /// Lets the peak begin anew from what is in memory now, where the system allows it.
    pub(crate) fn reset_peak(self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.0), "5");
    }

    fn status(self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        kib * 1024
    }
}
