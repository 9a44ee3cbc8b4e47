//! Finding every process that a test started, however far it went away.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Marks every process of one test, by an environment variable that children inherit.
pub(crate) struct Mark(String);

impl Mark {
    pub(crate) fn new() -> Self {
        Self(format!("GUARD_TEST={}", uuid::Uuid::new_v4()))
    }

    /// The variable's name and value.
    pub(crate) fn pair(&self) -> (&str, &str) {
        self.0.split_once('=').unwrap()
    }

    /// The living (not zombie) processes with this mark.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
                    environ
                        .split(|byte| *byte == 0)
                        .any(|entry| entry == self.0.as_bytes())
                })
            })
            .collect()
    }

    /// Looks until it holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&BTreeSet<i32>) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let processes = self.processes();
            if holds(&processes) {
                return;
            }
            assert!(
                Instant::now() < limit,
                "never came true: {what}; running: {processes:?}"
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}
