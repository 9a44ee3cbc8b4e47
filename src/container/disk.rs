//! What lies in a container's workspace and what of it may go: a walk over folders, which follows no
//! links and takes its time.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Folders that programs make and can make again. One goes only if git ignores it, too.
const BUILD_NAMES: &[&str] = &[
    "target",
    "node_modules",
    ".venv",
    "venv",
    "dist",
    "build",
    "__pycache__",
    ".gradle",
    ".next",
    ".tox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
];

/// Build folders of one worktree that are looked at; a tree with more keeps the rest.
const BUILDS_MAX: usize = 256;

/// Files with several names whose bytes are counted once; behind so many each name counts.
const LINKED_MAX: usize = 1 << 20;

/// After so many entries the walk rests, so that it never has a disk or a core to itself.
const BREATH_EVERY: u64 = 2048;
const BREATH: Duration = Duration::from_millis(2);

/// What a system calls a block where it says how many a file has.
const BLOCK_BYTES: u64 = 512;

/// Folders in which agents run; nobody touches anything in them. Clones share the set.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse(Arc<Mutex<BTreeSet<PathBuf>>>);

impl InUse {
    pub(super) fn enter(&self, folder: &Path) {
        self.lock().insert(folder.to_owned());
    }

    pub(super) fn leave(&self, folder: &Path) {
        self.lock().remove(folder);
    }

    pub(super) fn holds(&self, folder: &Path) -> bool {
        self.lock().contains(folder)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// All of it, as much as it takes on the disk.
    pub(super) bytes: u64,
    /// Folders below it with a name of build folders, outermost only.
    pub(super) builds: Vec<Build>,
    /// A repository below it that is not its own.
    pub(super) foreign: Option<PathBuf>,
    /// How much there was to read.
    pub(super) entries: u64,
}

/// A folder with a name of build folders.
#[derive(Debug)]
pub(super) struct Build {
    /// Below the folder that was walked.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Whether a repository lies in it: somebody's work, whatever its name.
    pub(super) has_repository: bool,
}

/// A folder that is still to be read.
struct Ahead {
    folder: PathBuf,
    /// The build folder that it is in.
    build: Option<usize>,
    /// Whether it is in a repository that is not the walk's own.
    is_foreign: bool,
}

/// Walks over a folder; one that is not there holds nothing, and what vanishes meanwhile is left out.
pub(super) fn walk(root: &Path) -> Found {
    let mut found = Found {
        bytes: std::fs::symlink_metadata(root).map_or(0, |own| own.blocks() * BLOCK_BYTES),
        ..Found::default()
    };
    let mut linked: HashSet<(u64, u64)> = HashSet::new();
    let mut ahead = vec![Ahead {
        folder: root.to_owned(),
        build: None,
        is_foreign: false,
    }];
    while let Some(mut here) = ahead.pop() {
        let Ok(listed) = std::fs::read_dir(&here.folder) else {
            continue;
        };
        if here.folder != root && here.folder.join(".git").symlink_metadata().is_ok() {
            here.is_foreign = true;
            if let Some(build) = here.build.and_then(|build| found.builds.get_mut(build)) {
                build.has_repository = true;
            }
            found.foreign.get_or_insert_with(|| here.folder.clone());
        }
        for entry in listed.flatten() {
            found.entries += 1;
            if found.entries.is_multiple_of(BREATH_EVERY) {
                std::thread::sleep(BREATH);
            }
            // Of a link it is the link itself.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let is_counted = metadata.is_dir()
                || metadata.nlink() < 2
                || linked.len() >= LINKED_MAX
                || linked.insert((metadata.dev(), metadata.ino()));
            let bytes = if is_counted {
                metadata.blocks() * BLOCK_BYTES
            } else {
                0
            };
            found.bytes += bytes;
            let mut build = here.build;
            if metadata.is_dir() {
                let begins = build.is_none() && !here.is_foreign && is_build_name(&entry);
                if begins && found.builds.len() < BUILDS_MAX {
                    build = Some(found.builds.len());
                    let path = entry.path();
                    found.builds.push(Build {
                        path: path.strip_prefix(root).unwrap_or(&path).to_owned(),
                        bytes: 0,
                        has_repository: false,
                    });
                }
                ahead.push(Ahead {
                    folder: entry.path(),
                    build,
                    is_foreign: here.is_foreign,
                });
            }
            if let Some(build) = build.and_then(|build| found.builds.get_mut(build)) {
                build.bytes += bytes;
            }
        }
    }
    found
}

fn is_build_name(entry: &std::fs::DirEntry) -> bool {
    entry
        .file_name()
        .to_str()
        .is_some_and(|name| BUILD_NAMES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, bytes: usize) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![7_u8; bytes]).unwrap();
    }

    #[test]
    fn a_walk_counts_what_lies_on_the_disk_and_knows_build_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        file(root, "src/main.rs", 100_000);
        file(root, "target/debug/a", 300_000);
        file(root, "web/node_modules/x/dist/y", 200_000);
        file(root, "vendor/lib/.git/HEAD", 10);
        file(root, "vendor/lib/target/z", 10);
        file(root, "build/tool/.git/HEAD", 10);
        // Two names of one file, and a link out of the tree.
        std::fs::hard_link(root.join("src/main.rs"), root.join("src/other.rs")).unwrap();
        std::os::unix::fs::symlink("/usr", root.join("outside")).unwrap();
        let found = walk(root);
        assert!((600_000..1_000_000).contains(&found.bytes), "{found:?}");
        let mut builds: Vec<_> = found
            .builds
            .iter()
            .map(|build| (build.path.to_str().unwrap(), build.has_repository))
            .collect();
        builds.sort_unstable();
        assert_eq!(
            builds,
            [
                ("build", true),
                ("target", false),
                ("web/node_modules", false)
            ]
        );
        let target = found.builds.iter().find(|build| build.path == *"target");
        assert!((300_000..400_000).contains(&target.unwrap().bytes));
        assert!(found.foreign.is_some());
        assert_eq!(walk(&root.join("nowhere")).bytes, 0);
    }
}
