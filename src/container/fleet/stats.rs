//! What the container and everything it started use, read from `/proc`.

use std::collections::HashMap;
use std::fs;

/// Resident memory of this process and all its descendants, in bytes; 0 where `/proc` is not Linux's.
pub(super) fn resident_bytes() -> u64 {
    let processes = processes();
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut pages = 0;
    let mut family = vec![std::process::id()];
    while let Some(pid) = family.pop() {
        if let Some(process) = processes.get(&pid) {
            pages += process.resident_pages;
        }
        let children = processes
            .iter()
            .filter(|(_, process)| process.parent == pid);
        family.extend(children.map(|(child, _)| *child));
    }
    pages * page
}

struct Process {
    parent: u32,
    resident_pages: u64,
}

fn processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            // One that ended meanwhile has no file any more.
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, read_stat(&stat)?))
        })
        .collect()
}

/// Fields 4 (parent) and 24 (resident pages) of `/proc/<pid>/stat`. The second field, a name in
/// parentheses, may hold anything, so counting begins behind it.
fn read_stat(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        resident_pages: fields.get(21)?.parse().ok()?,
    })
}
