//! One rig's repository: a bare clone that every worktree of the rig shares.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::command::CLONE_TIME_MAX;
use super::{BranchName, Git, GitUrl};
use crate::container::Error;
use crate::container::workspace;
use crate::model::RigId;

/// One rig's repository on this disk. Clones share the lock.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(super) git: Git,
    pub(super) folder: Arc<Path>,
    /// Whether this process has looked at the repository before.
    pub(super) lock: Arc<Mutex<bool>>,
    /// Held by the one merge that uses the worktree of merges. Agents need not wait for it: a merge
    /// lets go of the repository itself while its gates run.
    pub(super) merging: Arc<Mutex<()>>,
}

impl Repository {
    /// The repository of a rig under the workspace; nothing is made yet.
    #[must_use]
    pub fn new(git: Git, workspace: &Path, rig: RigId) -> Self {
        Self {
            git,
            folder: workspace.join("rigs").join(rig.to_string()).into(),
            lock: Arc::default(),
            merging: Arc::default(),
        }
    }

    /// Takes the repository for a piece of work made of several calls. The first time in a process
    /// it removes the locks that an earlier process left when it was killed: nobody holds them.
    pub(super) async fn taken(&self) -> MutexGuard<'_, bool> {
        let mut known = self.lock.lock().await;
        if !*known {
            remove_locks(&self.bare()).await;
            *known = true;
        }
        known
    }

    /// The bare clone.
    pub(super) fn bare(&self) -> PathBuf {
        self.folder.join("repo.git")
    }

    /// The worktree of merges.
    pub(super) fn merge_folder(&self) -> PathBuf {
        self.folder.join("merge")
    }

    /// The worktree of an agent.
    pub(super) fn worktree_folder(&self, directory: &str) -> PathBuf {
        self.folder.join("worktrees").join(directory)
    }

    /// Runs git in the bare clone.
    pub(super) async fn git(&self, command: &'static str, args: &[&str]) -> Result<String, Error> {
        self.git.run(&self.bare(), command, args).await
    }

    /// Makes sure that the clone exists, belongs to `url`, and has what the remote has now.
    pub(super) async fn refresh(&self, url: &GitUrl) -> Result<(), Error> {
        if tokio::fs::try_exists(self.bare()).await.unwrap_or(false) {
            if self
                .git("config", &["--get", "remote.origin.url"])
                .await
                .ok()
                .as_deref()
                != Some(url.as_str())
            {
                self.git("config", &["remote.origin.url", url.as_str()])
                    .await?;
            }
            self.fetch().await
        } else {
            self.clone_from(url).await
        }
    }

    /// Brings what the remote has now; branches that are gone there go from our view of it too.
    pub(super) async fn fetch(&self) -> Result<(), Error> {
        self.git(
            "fetch",
            &["--quiet", "--prune", "--no-auto-maintenance", "origin"],
        )
        .await?;
        Ok(())
    }

    /// Clones beside and moves into place, so that a clone is whole or absent.
    async fn clone_from(&self, url: &GitUrl) -> Result<(), Error> {
        let partial = self.folder.join("repo.git.partial");
        workspace::remove_tree(&partial).await?;
        workspace::make_folder(&partial).await?;
        self.git
            .run(&partial, "init", &["--quiet", "--bare", "--template=", "."])
            .await?;
        for (key, value) in [
            ("remote.origin.url", url.as_str()),
            // Not a mirror: the agents' branches and the remote's are different refs.
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
            // A bare repository would not keep reflogs; they are the last net under lost work.
            ("core.logAllRefUpdates", "true"),
            // Each worktree says who works in it.
            ("extensions.worktreeConfig", "true"),
        ] {
            self.git.run(&partial, "config", &[key, value]).await?;
        }
        // With that extension `bare` holds for the repository's own folder only.
        self.git
            .run(&partial, "config", &["--worktree", "core.bare", "true"])
            .await?;
        self.git
            .run(&partial, "config", &["--unset", "core.bare"])
            .await?;
        let fetched = self
            .git
            .limited(
                &partial,
                "fetch",
                &["--quiet", "--prune", "origin"],
                CLONE_TIME_MAX,
            )
            .await?;
        if !fetched.succeeded() {
            workspace::remove_tree(&partial).await?;
            return Err(Error::Git {
                command: "clone",
                text: fetched.complaint(),
            });
        }
        let bare = self.bare();
        tokio::fs::rename(&partial, &bare)
            .await
            .map_err(|source| Error::Workspace { path: bare, source })
    }

    /// The commit a ref points to.
    pub(super) async fn commit_of(&self, name: &str) -> Result<Option<String>, Error> {
        let wanted = format!("{name}^{{commit}}");
        let output = self
            .git
            .output(&self.bare(), "rev-parse", &["--verify", "--quiet", &wanted])
            .await?;
        match output.code() {
            Some(0) => Ok(Some(output.text())),
            Some(1) => Ok(None),
            _ => Err(Error::Git {
                command: "rev-parse",
                text: output.complaint(),
            }),
        }
    }

    /// Whether the first commit is the second or one of its ancestors.
    pub(super) async fn contains(&self, whole: &str, part: &str) -> Result<bool, Error> {
        let output = self
            .git
            .output(&self.bare(), "merge-base", &["--is-ancestor", part, whole])
            .await?;
        match output.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(Error::Git {
                command: "merge-base",
                text: output.complaint(),
            }),
        }
    }

    /// The commit of a branch on the remote, which must be there.
    pub(super) async fn remote_commit(&self, branch: &BranchName) -> Result<String, Error> {
        if let Some(commit) = self.commit_of(&branch.remote_ref()).await? {
            return Ok(commit);
        }
        let listed = self
            .git(
                "for-each-ref",
                &[
                    "--count=20",
                    "--format=%(refname:lstrip=3)",
                    "refs/remotes/origin",
                ],
            )
            .await?;
        let present = match listed.as_str() {
            "" => "none at all".to_owned(),
            names => names.replace('\n', ", "),
        };
        Err(Error::NoBranch {
            branch: branch.to_string(),
            present,
        })
    }

    /// Points a ref somewhere.
    pub(super) async fn set_ref(&self, name: &str, commit: &str) -> Result<(), Error> {
        self.git("update-ref", &[name, commit]).await?;
        Ok(())
    }

    /// Removes a ref, if it still points to `commit`.
    pub(super) async fn remove_ref(&self, name: &str, commit: &str) -> Result<(), Error> {
        self.git("update-ref", &["-d", name, commit]).await?;
        Ok(())
    }

    /// The folder in which a branch is checked out, if it is in any.
    pub(super) async fn checked_out_in(
        &self,
        branch: &BranchName,
    ) -> Result<Option<PathBuf>, Error> {
        let wanted = format!("branch {}", branch.local_ref());
        let list = self.git("worktree", &["list", "--porcelain"]).await?;
        let mut folder = None;
        for line in list.lines() {
            if let Some(path) = line.strip_prefix("worktree ") {
                folder = Some(PathBuf::from(path));
            } else if line == wanted {
                return Ok(folder);
            }
        }
        Ok(None)
    }
}

/// Removes git's lock files below a folder. A repository that is not there has none.
async fn remove_locks(bare: &Path) {
    let mut folders = vec![bare.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(mut entries) = tokio::fs::read_dir(&folder).await else {
            continue;
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let path = entry.path();
            let is_folder = entry.file_type().await.is_ok_and(|kind| kind.is_dir());
            if is_folder && entry.file_name() != "objects" {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                tracing::warn!(lock = %path.display(), "removed a lock of an earlier process");
                // One that can't be removed makes git say so.
                let _ = tokio::fs::remove_file(&path).await;
            }
        }
    }
}
