//! Letting go of what is not needed any more: build folders, and worktrees whose work is proven to
//! be on the target.

use std::path::{Path, PathBuf};

use super::{BranchName, GitUrl, Repository};
use crate::container::disk::{self, Build, InUse};
use crate::container::{Error, workspace};
use crate::model::AgentId;

/// Commits that one archiving commit holds as its parents.
const PARENTS_MAX: usize = 200;

/// What became of a worktree that was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::container) enum Removal {
    /// It is gone; so many bytes it had.
    Removed(u64),
    /// There was none.
    Absent,
    /// It holds, or may hold, what is nowhere else.
    Kept(String),
}

/// A branch whose work is on the target.
struct Merged {
    branch: BranchName,
    head: String,
    /// Whether the target contains the commit itself, and not only the same changes.
    under_its_name: bool,
}

/// The folder of a rig to which things are moved that are about to be deleted.
const TRASH: &str = "trash";

impl Repository {
    /// The names of the folders in which worktrees are, and anything that was set aside there.
    pub(in crate::container) async fn worktree_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let Ok(mut entries) = tokio::fs::read_dir(self.folder.join("worktrees")).await else {
            return names;
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let is_folder = entry.file_type().await.is_ok_and(|kind| kind.is_dir());
            if let (true, Ok(name)) = (is_folder, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        names
    }

    /// What one of them takes, how much of that are build folders which may go, and how many entries
    /// were read for that.
    ///
    /// # Errors
    /// git refuses.
    pub(in crate::container) async fn measure_worktree(
        &self,
        name: &str,
    ) -> Result<(u64, u64, u64), Error> {
        let path = self.worktree_folder(name);
        let found = walked(&path).await;
        let builds = self.prunable(&path, &found.builds).await?;
        let build_bytes = builds.iter().map(|build| build.bytes).sum();
        Ok((found.bytes, build_bytes, found.entries))
    }

    /// What the repository itself takes, with everything of the rig that is no agent's, and how many
    /// entries were read for that.
    pub(in crate::container) async fn measure_rest(&self) -> (u64, u64) {
        let (mut bytes, mut entries) = (0, 0);
        for folder in [self.bare(), self.merge_folder(), self.folder.join(TRASH)] {
            let found = walked(&folder).await;
            bytes += found.bytes;
            entries += found.entries;
        }
        (bytes, entries)
    }

    /// Deletes a worktree's build folders, unless an agent runs in it; how many, and their bytes.
    ///
    /// # Errors
    /// git or the disk refuses.
    pub(in crate::container) async fn prune_builds(
        &self,
        name: &str,
        in_use: &InUse,
    ) -> Result<(u32, u64), Error> {
        let path = self.worktree_folder(name);
        if in_use.holds(&path) {
            return Ok((0, 0));
        }
        let found = walked(&path).await;
        let (mut count, mut bytes) = (0, 0);
        {
            // An agent that starts waits for this hold before it sees the folder, so it sees all of
            // a build folder or nothing.
            let _taken = self.taken().await;
            if in_use.holds(&path) {
                return Ok((0, 0));
            }
            for build in self.prunable(&path, &found.builds).await? {
                self.throw_away(&path.join(&build.path)).await?;
                count += 1;
                bytes += build.bytes;
            }
        }
        self.empty_trash().await?;
        Ok((count, bytes))
    }

    /// Removes the worktree of an agent that does not run, if everything in it is proven to be on the
    /// target: nothing uncommitted, and the branch's commits are there, as they are, changed one by
    /// one, or as one. Whatever commit would be in no branch afterwards is archived first.
    ///
    /// The caller has refreshed the repository.
    ///
    /// # Errors
    /// git or the disk refuses; then the worktree is still there.
    pub(in crate::container) async fn remove_if_merged(
        &self,
        agent: AgentId,
        name: &str,
        target: &BranchName,
        in_use: &InUse,
    ) -> Result<Removal, Error> {
        let path = self.worktree_of(agent, name);
        let found = walked(&path).await;
        let bytes = found.bytes;
        if let Some(foreign) = found.foreign {
            return Ok(Removal::Kept(format!(
                "it holds another repository: {}",
                foreign.display()
            )));
        }
        {
            let _taken = self.taken().await;
            if !tokio::fs::try_exists(&path).await.unwrap_or(true) {
                return Ok(Removal::Absent);
            }
            if in_use.holds(&path) {
                return Ok(Removal::Kept("its agent runs".to_owned()));
            }
            let Merged {
                branch,
                head,
                under_its_name,
            } = match self.merged(&path, target).await? {
                Ok(merged) => merged,
                Err(why) => return Ok(Removal::Kept(why)),
            };
            self.archive_left(agent, &path).await?;
            if !under_its_name {
                let archive = format!("refs/gastown/archive/{agent}/branch/{branch}");
                self.set_ref(&archive, &head).await?;
            }
            self.throw_away(&path).await?;
            self.git("worktree", &["prune"]).await?;
            if under_its_name {
                self.forget_branch(&branch, &head).await?;
            }
        }
        self.empty_trash().await?;
        Ok(Removal::Removed(bytes))
    }

    /// Brings what the remote has now, for the proofs that follow.
    ///
    /// # Errors
    /// The remote can't be reached.
    pub(in crate::container) async fn bring(&self, url: &GitUrl) -> Result<(), Error> {
        let _taken = self.taken().await;
        self.refresh(url).await
    }

    /// What a worktree holds, if all of it is on the target; if not, what is in the way.
    async fn merged(
        &self,
        path: &Path,
        target: &BranchName,
    ) -> Result<Result<Merged, String>, Error> {
        if !self.is_worktree(path).await? {
            return Ok(Err("it is no worktree of the repository".to_owned()));
        }
        let Some(branch) = self.current_branch(path).await? else {
            return Ok(Err("no branch is checked out".to_owned()));
        };
        let status = self
            .git
            .run(path, "status", &["--porcelain", "--untracked-files=all"])
            .await?;
        if let Some(first) = status.lines().next() {
            return Ok(Err(format!("it has uncommitted work: {first}")));
        }
        let Some(head) = self.commit_of(&branch.local_ref()).await? else {
            return Ok(Err(format!("{branch} has no commit")));
        };
        let whole = self.remote_commit(target).await?;
        let under_its_name = self.contains(&whole, &head).await?;
        if !under_its_name && !self.has_same_changes(&whole, &head).await? {
            return Ok(Err(format!("{branch} is not merged into {target}")));
        }
        Ok(Ok(Merged {
            branch,
            head,
            under_its_name,
        }))
    }

    /// Whether the second commit's own changes are in the first one's history under other names:
    /// each by itself, as after a rebase, or all in one, as after a squash.
    async fn has_same_changes(&self, whole: &str, part: &str) -> Result<bool, Error> {
        let own = format!("{whole}..{part}");
        let merges = self
            .git("rev-list", &["--count", "--min-parents=2", &own])
            .await?;
        // What a merge commit changed by itself has no patch to be found by.
        if merges == "0" && self.has_every_patch(whole, part).await? {
            return Ok(true);
        }
        let base = self
            .git
            .output(&self.bare(), "merge-base", &[whole, part])
            .await?;
        if !base.succeeded() {
            return Ok(false);
        }
        let base = base.text();
        let same = self
            .git
            .output(&self.bare(), "diff", &["--quiet", &base, part, "--"])
            .await?;
        if same.succeeded() {
            // Commits that change nothing together: there is no patch to look for.
            return Ok(false);
        }
        let tree = format!("{part}^{{tree}}");
        let squashed = self
            .git("commit-tree", &[&tree, "-p", &base, "-m", "all in one"])
            .await?;
        self.has_every_patch(whole, &squashed).await
    }

    /// Whether each commit of the second that the first lacks has a twin there with the same patch.
    async fn has_every_patch(&self, whole: &str, part: &str) -> Result<bool, Error> {
        let both = format!("{whole}...{part}");
        let missing = self
            .git(
                "rev-list",
                &["--count", "--cherry-pick", "--right-only", &both],
            )
            .await?;
        Ok(missing == "0")
    }

    /// Those of the folders that git ignores and that hold no repository.
    async fn prunable<'a>(
        &self,
        path: &Path,
        builds: &'a [Build],
    ) -> Result<Vec<&'a Build>, Error> {
        let candidates: Vec<(&Build, String)> = builds
            .iter()
            .filter(|build| !build.has_repository)
            // Before a path stands a name that git does not take for a pattern of its own.
            .filter_map(|build| Some((build, format!("./{}", build.path.to_str()?))))
            .collect();
        if candidates.is_empty() || !self.is_worktree(path).await? {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["--"];
        arguments.extend(candidates.iter().map(|(_, path)| path.as_str()));
        let output = self.git.output(path, "check-ignore", &arguments).await?;
        let text = output.text();
        match output.code() {
            // A folder with a file that git knows is not among them.
            Some(0) => {}
            Some(1) => return Ok(Vec::new()),
            _ => {
                return Err(Error::Git {
                    command: "check-ignore",
                    text: output.complaint(),
                });
            }
        }
        // A name that git would write in quotes is not found again, and its folder stays.
        let ignored: Vec<&str> = text.lines().collect();
        Ok(candidates
            .into_iter()
            .filter(|(_, path)| ignored.contains(&path.as_str()))
            .map(|(build, _)| build)
            .collect())
    }

    /// Archives the commits that only this worktree remembers: left by an amended commit, a reset or
    /// a head without a branch.
    pub(super) async fn archive_left(&self, agent: AgentId, path: &Path) -> Result<(), Error> {
        let listed = self
            .git
            .run(
                path,
                "rev-list",
                &[
                    "--single-worktree",
                    "--parents",
                    "--reflog",
                    "--not",
                    "--all",
                ],
            )
            .await?;
        let mut left: Vec<&str> = Vec::new();
        let mut parents: std::collections::HashSet<&str> = std::collections::HashSet::new();
        for line in listed.lines() {
            let mut commits = line.split(' ');
            left.extend(commits.next());
            parents.extend(commits);
        }
        left.retain(|commit| !parents.contains(commit));
        if left.is_empty() {
            return Ok(());
        }
        let name = format!("refs/gastown/archive/{agent}/left");
        let tree = self
            .git
            .run(path, "rev-parse", &["--verify", "HEAD^{tree}"])
            .await?;
        let mut archive = self.commit_of(&name).await?;
        for commits in left.chunks(PARENTS_MAX) {
            let mut arguments = vec![tree.as_str(), "-m", "Commits that no branch held"];
            let earlier = archive.take();
            for parent in commits.iter().copied().chain(earlier.as_deref()) {
                arguments.extend(["-p", parent]);
            }
            archive = Some(self.git("commit-tree", &arguments).await?);
        }
        match archive {
            Some(commit) => self.set_ref(&name, &commit).await,
            None => Ok(()),
        }
    }

    /// Moves something out of sight in one step; it is deleted later, and by the next one if we die.
    async fn throw_away(&self, path: &Path) -> Result<(), Error> {
        let trash = self.folder.join(TRASH);
        workspace::make_folder(&trash).await?;
        let to = trash.join(AgentId::random().to_string());
        workspace::move_folder(path, &to).await
    }

    async fn empty_trash(&self) -> Result<(), Error> {
        workspace::remove_tree(&self.folder.join(TRASH)).await
    }
}

/// Walks over a folder on a thread that may wait for the disk.
async fn walked(path: &Path) -> disk::Found {
    let path: PathBuf = path.to_owned();
    // A walk that panicked has found nothing.
    tokio::task::spawn_blocking(move || disk::walk(&path))
        .await
        .unwrap_or_default()
}
