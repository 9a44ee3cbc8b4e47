//! What the system tells of processes, time and limits.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::{During, Result, fail};
use super::process::Process;

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
        let limit = Instant::now() + std::time::Duration::from_secs(60);
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
