//! Someone who remembers every commit that an agent ever had on a branch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Town, say};
use crate::support::server::Server;

pub(super) struct Witness {
    /// The town's clone of its repository.
    clone: PathBuf,
    /// Commits, and the branch that each was seen on first.
    commits: BTreeMap<String, String>,
}

impl Witness {
    pub(super) fn new(server: &Server, town: &Town) -> Self {
        let workspace = server.data.path().join("towns").join(town.id());
        Self {
            clone: workspace.join("rigs").join(town.rig_id()).join("repo.git"),
            commits: BTreeMap::new(),
        }
    }

    /// Remembers what is on the branches now.
    pub(super) fn look(&mut self) {
        if !self.clone.exists() {
            return;
        }
        let refs = [
            "for-each-ref",
            "--format=%(objectname) %(refname)",
            "refs/heads",
        ];
        // A ref that is being written is seen the next time.
        for line in git(&self.clone, &refs).unwrap_or_default().lines() {
            if let Some((commit, branch)) = line.split_once(' ') {
                let first = || branch.to_owned();
                self.commits.entry(commit.to_owned()).or_insert_with(first);
            }
        }
    }

    /// Every commit is still under some ref of the clone or the remote.
    pub(super) fn expect_all_commits_kept(&self, town: &Town) {
        let mut kept = git(&self.clone, &["rev-list", "--all"]).unwrap();
        kept += &git(&town.repository.origin(), &["rev-list", "--all"]).unwrap();
        // Agents' worktrees that are on no branch.
        kept += &git(&self.clone, &["worktree", "list", "--porcelain"]).unwrap();
        for (commit, branch) in &self.commits {
            assert!(
                kept.contains(commit.as_str()),
                "{}: {commit}, once on {branch}, is under no ref any more",
                town.name
            );
        }
        say(format!(
            "chaos: {}: {} commits, all kept",
            town.name,
            self.commits.len()
        ));
    }
}

fn git(repository: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(repository)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(text)
}
