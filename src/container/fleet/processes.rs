//! The processes of a container: itself and everything it started, read from `/proc`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;

/// A process of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// Resident memory in bytes.
    pub(super) resident: u64,
    /// Where it works; `None` if that can't be seen.
    pub(super) directory: Option<PathBuf>,
}

/// This process and all its descendants, each behind its parent. Empty where `/proc` is not Linux's.
pub(super) fn family() -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    let mut root = None;
    for process in all() {
        if process.pid == std::process::id() {
            root = Some(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut family = Vec::from_iter(root);
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|process| process.pid) {
        family.extend(children.remove(&parent).unwrap_or_default());
        at += 1;
    }
    for process in &mut family {
        // Only of our own: for others it would be asked in vain.
        process.directory = fs::read_link(format!("/proc/{}/cwd", process.pid)).ok();
    }
    family
}

/// Resident memory of this process and all its descendants, in bytes.
pub(super) fn resident_bytes(family: &[Process]) -> u64 {
    family.iter().map(|process| process.resident).sum()
}

/// Resident memory, in bytes, of a process and its descendants without those that have an owner.
pub(super) fn unowned_bytes<O>(
    family: &[Process],
    root: u32,
    owners: &HashMap<u32, Option<O>>,
) -> u64 {
    let mut tree = HashSet::from([root]);
    let mut bytes = 0;
    // Parents come first.
    for process in family {
        if process.pid == root || tree.contains(&process.parent) {
            tree.insert(process.pid);
            if !matches!(owners.get(&process.pid), Some(Some(_))) {
                bytes += process.resident;
            }
        }
    }
    bytes
}

fn all() -> impl Iterator<Item = Process> {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // One that ended meanwhile has no file any more.
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (parent, pages) = read_stat(&stat)?;
        Some(Process {
            pid,
            parent,
            resident: pages * page,
            directory: None,
        })
    })
}

/// Fields 4 (parent) and 24 (resident pages) of `/proc/<pid>/stat`. The second field, a name in
/// parentheses, may hold anything, so counting begins behind it.
fn read_stat(stat: &str) -> Option<(u32, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(21)?.parse().ok()?))
}

/// Whose each process is: of the owner in whose folder it works, or else its parent's. `None` is the
/// container's own, the agent server included.
pub(super) fn owners<O: Copy>(
    family: &[Process],
    owner_of: impl Fn(&std::path::Path) -> Option<O>,
) -> HashMap<u32, Option<O>> {
    let mut owners: HashMap<u32, Option<O>> = HashMap::new();
    for process in family {
        let own = process.directory.as_deref().and_then(&owner_of);
        // Parents come first.
        let inherited = owners.get(&process.parent).copied().flatten();
        owners.insert(process.pid, own.or(inherited));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_of_the_family_with_its_memory_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let family = family();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(family[0].pid, std::process::id());
        assert!(family[0].resident > 1 << 20);
        let found = family.iter().find(|process| process.pid == child.id());
        let found = found.expect("the child is listed");
        assert_eq!(found.parent, std::process::id());
        assert_eq!(found.directory.as_deref(), Some(folder.path()));
        assert!(resident_bytes(&family) >= family[0].resident + found.resident);
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        let rest = "S 7 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 100 33 0";
        for name in ["sleep", "a) S 9 (b", "x y"] {
            assert_eq!(read_stat(&format!("12 ({name}) {rest}")), Some((7, 33)));
        }
        assert_eq!(read_stat("12 (sleep"), None);
    }

    #[test]
    fn a_process_is_its_folders_owners_or_its_parents() {
        let process = |pid, parent, directory: &str| Process {
            pid,
            parent,
            resident: 1,
            directory: Some(directory.into()),
        };
        let family = [
            process(1, 0, "/w"),
            process(2, 1, "/w"),
            process(3, 2, "/w/toast/src"),
            process(4, 3, "/tmp"),
            process(5, 2, "/w/maple"),
        ];
        let owners = owners(&family, |path| {
            ["toast", "maple"]
                .into_iter()
                .find(|name| path.starts_with(format!("/w/{name}")))
        });
        let of = |pid| owners[&pid];
        assert_eq!((of(1), of(2)), (None, None));
        assert_eq!((of(3), of(4)), (Some("toast"), Some("toast")));
        assert_eq!(of(5), Some("maple"));
        assert_eq!(unowned_bytes(&family, 1, &owners), 2);
        assert_eq!(unowned_bytes(&family, 2, &owners), 1, "without its parent");
        assert_eq!(unowned_bytes(&family, 9, &owners), 0);
    }
}
