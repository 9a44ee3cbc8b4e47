//! What the system tells of processes, time and limits.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::{During, Result, fail};

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

/// The process of this machine that listens on a port of its own, if this user may see it.
pub(crate) fn listener_of(port: u16) -> Option<Process> {
    const LISTEN: &str = "0A";
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let own = local.rsplit(':').next() == Some(format!("{port:04X}").as_str());
            if own && *state == LISTEN {
                inodes.push(format!("socket:[{inode}]"));
            }
        }
    }
    let holds = |folder: &Path| {
        let Ok(files) = fs::read_dir(folder) else {
            return false;
        };
        files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| {
                inodes
                    .iter()
                    .any(|inode| link.as_os_str() == inode.as_str())
            })
        })
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path().join("fd")).then_some(Process(pid))
    })
}

/// Makes sure that so many files can be open; children inherit it.
pub(crate) fn need_files(count: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < count) {
        return fail(format!(
            "{count} open files are needed and the system allows {}; raise `ulimit -Hn` or ask for \
             fewer subscribers",
            limit.maximum.unwrap_or_default()
        ));
    }
    let raised = Rlimit {
        current: limit.maximum.or(Some(count)),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).during("raise the limit of open files")
}

/// Nanoseconds since the program began: one scale for all of its threads.
pub(crate) fn nanos() -> u64 {
    use std::sync::OnceLock;
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = BEGIN.get_or_init(Instant::now);
    // From one on, so that zero can mean: never.
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let own = Process(std::process::id());
        assert!(own.resident() > 1 << 20);
        assert!(own.peak() >= own.resident() / 2);
        let begin = own.cpu();
        let limit = Instant::now() + Duration::from_secs(60);
        while own.cpu() == begin {
            assert!(Instant::now() < limit, "processor time never grew");
            std::hint::black_box(vec![1u8; 1 << 16]);
        }
    }

    #[test]
    fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listener_of(port).unwrap().0, std::process::id());
        drop(listener);
        assert!(listener_of(port).is_none());
    }
}
