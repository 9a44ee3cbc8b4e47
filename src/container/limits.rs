//! What a container and everything it starts may use of the machine, and how long it may wait.
//!
//! Open files and, where the container has a user namespace of its own, processes are limited by the
//! system (`setrlimit(2)`). Memory can't be: `RLIMIT_AS` counts address space, of which agent programs
//! reserve a hundred times what they use. So the fleet watches what the processes really hold and ends
//! who is over the limit (`fleet::limits`). Under systemd the server's unit can limit all of them together.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of resident memory, all processes together.
    pub memory_max: u64,
    /// Processes at the same time.
    pub processes_max: u32,
    /// Open files of each process.
    pub open_files_max: u32,
    /// Bytes of resident memory above which the agent server is replaced when no agent is at work.
    pub recycle_above: u64,
    /// How long the agent server may say and answer nothing until it is replaced.
    pub hung_after: Duration,
    /// How long a turn may wait for a model that is down or limits its rate.
    pub model_wait: Duration,
}

/// The share of the time after which an agent server hangs that it, or a session, may be silent until
/// it is asked, and that its answer may take.
const HUNG_SHARE: u32 = 3;

impl Limits {
    /// How long an agent server or a session may be silent until it is asked, and its answer may take.
    pub(super) fn silence(&self) -> Duration {
        self.hung_after / HUNG_SHARE
    }
}

/// Where there is no limit on memory: this share of the machine's.
const MEMORY_SHARE: (u64, u64) = (3, 4);

/// Where the machine does not tell how much memory it has.
const MEMORY_FALLBACK: u64 = 8 << 30;

/// Three quarters of this machine's memory.
#[must_use]
pub fn memory_default() -> u64 {
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text))
        .unwrap_or(MEMORY_FALLBACK);
    total / MEMORY_SHARE.1 * MEMORY_SHARE.0
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

impl Limits {
    /// Sets those that the system enforces for this process and all that it starts from now on. What
    /// the system does not let us raise stays lower.
    pub fn apply(&self) {
        set(Resource::Nofile, self.open_files_max);
        // Elsewhere it would count what else this user runs on the machine.
        if has_own_users(Path::new("/proc/self/uid_map")) {
            set(Resource::Nproc, self.processes_max);
        }
    }
}

fn set(resource: Resource, wanted: u32) {
    let wanted = u64::from(wanted);
    let allowed = getrlimit(resource).maximum;
    let limit = Some(allowed.map_or(wanted, |allowed| allowed.min(wanted)));
    let limits = Rlimit {
        current: limit,
        maximum: limit,
    };
    if let Err(error) = setrlimit(resource, limits) {
        tracing::warn!(?resource, wanted, "a limit can't be set: {error}");
    }
}

/// Whether this process lives in a user namespace of its own: the first one maps every id to itself.
fn has_own_users(map: &Path) -> bool {
    let Ok(text) = fs::read_to_string(map) else {
        return false;
    };
    text.split_ascii_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:       16384 kB\nMemFree:         1 kB\n";
        assert_eq!(memory_total(text), Some(16 << 20));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        assert!(memory_default() > 0);
    }

    #[test]
    fn a_user_namespace_is_told_from_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("uid_map");
        for (text, own) in [
            ("         0          0 4294967295\n", false),
            ("         0       1000          1\n", true),
        ] {
            fs::write(&map, text).unwrap();
            assert_eq!(has_own_users(&map), own, "{text}");
        }
        assert!(!has_own_users(&folder.path().join("missing")));
    }
}
