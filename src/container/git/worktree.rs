//! The worktree of an agent: kept between its beads, and never emptied of work that is not saved.

use std::path::{Path, PathBuf};

use super::{BranchName, GitUrl, Identity, Repository};
use crate::container::{Error, workspace};
use crate::model::AgentId;

/// What a worktree is made for.
#[derive(Clone, Debug)]
pub struct WorktreeTask {
    /// The repository's address.
    pub url: GitUrl,
    /// The agent.
    pub agent_id: AgentId,
    /// Its name, which names the folder.
    pub agent_name: String,
    /// Who its commits are by.
    pub identity: Identity,
    /// The branch to work on.
    pub branch: BranchName,
    /// The branch it begins from, if it is new.
    pub default_branch: BranchName,
}

/// A worktree that is ready to be worked in.
#[derive(Clone, Debug)]
pub struct Worktree {
    /// Its folder.
    pub path: PathBuf,
    /// What is checked out.
    pub branch: BranchName,
    /// Where work was saved that stood in the way, if there was any.
    pub saved: Option<BranchName>,
}

impl Repository {
    /// Makes the agent's worktree ready on the branch: as the agent left it if the branch is checked
    /// out already, at the branch if it exists, and else at a new branch from the default branch.
    ///
    /// # Errors
    /// The remote can't be reached, lacks the default branch, or git refuses.
    pub async fn prepare_worktree(&self, task: &WorktreeTask) -> Result<Worktree, Error> {
        let _taken = self.taken().await;
        self.refresh(&task.url).await?;
        let path = self.worktree_of(task.agent_id, &task.agent_name);
        let preparing = path.with_extension("preparing");
        if exists(&preparing).await {
            // An earlier try was cut off before the agent saw the folder: nothing of it is work.
            self.discard(&path).await?;
        }
        let kept = self.is_worktree(&path).await?;
        let mut saved = None;
        if kept {
            if self.current_branch(&path).await?.as_ref() == Some(&task.branch) {
                return Ok(ready(path, task, saved));
            }
            let wip = wip_branch(task.agent_id, &task.agent_name);
            saved = self.save(&path, &wip).await?;
        } else {
            set_aside(&path).await?;
        }
        workspace::write_file(&preparing, "").await?;
        // Each call of git is a process: none is made here that would change nothing.
        if saved.is_some() {
            self.clear(&path).await?;
        }
        if kept {
            self.check_out(&path, task).await?;
        } else {
            self.add_worktree(&path, task).await?;
            self.introduce(&path, task).await?;
        }
        workspace::remove_file(&preparing).await?;
        Ok(ready(path, task, saved))
    }

    /// Tells git in this worktree who works there.
    async fn introduce(&self, path: &Path, task: &WorktreeTask) -> Result<(), Error> {
        for (key, value) in [
            ("user.name", &task.identity.name),
            ("user.email", &task.identity.email),
        ] {
            self.git
                .run(path, "config", &["--worktree", key, value])
                .await?;
        }
        Ok(())
    }

    /// Removes a worktree that holds no work.
    async fn discard(&self, path: &Path) -> Result<(), Error> {
        workspace::remove_tree(path).await?;
        self.git("worktree", &["prune"]).await?;
        Ok(())
    }

    /// Saves uncommitted work of an agent as a commit on `gastown/wip/<agent>`, leaving branch, index
    /// and files as they are. `None` if there is nothing to save.
    ///
    /// # Errors
    /// git refuses.
    pub async fn save_work(&self, agent: AgentId, name: &str) -> Result<Option<BranchName>, Error> {
        let path = self.worktree_of(agent, name);
        // Looked at before the repository is taken: most agents leave nothing, and others wait.
        if !self.is_worktree(&path).await? || !self.has_unsaved(&path).await? {
            return Ok(None);
        }
        let _taken = self.taken().await;
        self.save(&path, &wip_branch(agent, name)).await
    }

    /// Archives the agent's branch and uncommitted work under `refs/gastown/archive/<agentId>/` and
    /// removes its worktree. One that is not there is fine.
    ///
    /// # Errors
    /// git refuses; then the worktree is still there.
    pub async fn remove_worktree(&self, agent: AgentId, name: &str) -> Result<(), Error> {
        let _taken = self.taken().await;
        let path = self.worktree_of(agent, name);
        if !self.is_worktree(&path).await? {
            return workspace::remove_tree(&path).await;
        }
        let wip = wip_branch(agent, name);
        self.save(&path, &wip).await?;
        let archive = format!("refs/gastown/archive/{agent}");
        if let Some(branch) = self.current_branch(&path).await?
            && let Some(commit) = self.commit_of(&branch.local_ref()).await?
        {
            self.set_ref(&format!("{archive}/branch/{branch}"), &commit)
                .await?;
        }
        if let Some(commit) = self.commit_of(&wip.local_ref()).await? {
            self.set_ref(&format!("{archive}/wip"), &commit).await?;
            self.remove_ref(&wip.local_ref(), &commit).await?;
        }
        let folder = path.to_string_lossy();
        self.git("worktree", &["remove", "--force", "--force", "--", &folder])
            .await?;
        Ok(())
    }

    /// The folder of an agent's worktree, whether or not it is there.
    #[must_use]
    pub fn worktree_of(&self, agent: AgentId, name: &str) -> PathBuf {
        self.worktree_folder(&workspace::folder_name(name, &agent.short()))
    }

    /// Whether the folder is a worktree of this repository that git can work in.
    pub(super) async fn is_worktree(&self, path: &Path) -> Result<bool, Error> {
        if !tokio::fs::try_exists(path.join(".git"))
            .await
            .unwrap_or(false)
        {
            return Ok(false);
        }
        let output = self
            .git
            .output(
                path,
                "rev-parse",
                &["--path-format=absolute", "--git-common-dir"],
            )
            .await?;
        let bare = tokio::fs::canonicalize(self.bare()).await.ok();
        let common = tokio::fs::canonicalize(output.text()).await.ok();
        Ok(output.succeeded() && bare.is_some() && bare == common)
    }

    /// The branch that is checked out; `None` on a detached head.
    async fn current_branch(&self, path: &Path) -> Result<Option<BranchName>, Error> {
        let output = self
            .git
            .output(path, "symbolic-ref", &["--quiet", "--short", "HEAD"])
            .await?;
        Ok(output
            .succeeded()
            .then(|| BranchName::parse(&output.text()).ok())
            .flatten())
    }

    /// Takes saved work out of a worktree.
    async fn clear(&self, path: &Path) -> Result<(), Error> {
        self.git.run(path, "reset", &["--quiet", "--hard"]).await?;
        // What is ignored stays: build caches make the next bead faster.
        self.git
            .run(path, "clean", &["--quiet", "--force", "-d"])
            .await?;
        Ok(())
    }

    async fn check_out(&self, path: &Path, task: &WorktreeTask) -> Result<(), Error> {
        let branch = task.branch.as_str();
        if self.commit_of(&task.branch.local_ref()).await?.is_some() {
            self.git
                .run(path, "checkout", &["--quiet", branch, "--"])
                .await?;
            return Ok(());
        }
        let start = self.start_of(task).await?;
        self.git
            .run(
                path,
                "checkout",
                &["--quiet", "--no-track", "-b", branch, &start, "--"],
            )
            .await?;
        Ok(())
    }

    async fn add_worktree(&self, path: &Path, task: &WorktreeTask) -> Result<(), Error> {
        // git still knows a worktree whose folder is gone.
        self.git("worktree", &["prune"]).await?;
        let folder = path.to_string_lossy();
        let branch = task.branch.as_str();
        if self.commit_of(&task.branch.local_ref()).await?.is_some() {
            self.git("worktree", &["add", "--quiet", "--", &folder, branch])
                .await?;
            return Ok(());
        }
        let start = self.start_of(task).await?;
        self.git(
            "worktree",
            &[
                "add",
                "--quiet",
                "--no-track",
                "-b",
                branch,
                "--",
                &folder,
                &start,
            ],
        )
        .await?;
        Ok(())
    }

    /// Where a branch that is not here begins: where the remote has it, or at the default branch,
    /// which is then remembered so that an empty branch can be told from a merged one.
    async fn start_of(&self, task: &WorktreeTask) -> Result<String, Error> {
        if let Some(commit) = self.commit_of(&task.branch.remote_ref()).await? {
            return Ok(commit);
        }
        let commit = self.remote_commit(&task.default_branch).await?;
        self.set_ref(&task.branch.base_ref(), &commit).await?;
        Ok(commit)
    }

    /// Whether there is anything that no branch has: changes, new files, or a head without a branch.
    async fn has_unsaved(&self, path: &Path) -> Result<bool, Error> {
        let status = self
            .git
            .run(path, "status", &["--porcelain", "--untracked-files=all"])
            .await?;
        Ok(!status.is_empty() || self.current_branch(path).await?.is_none())
    }

    /// Makes a commit of everything that is not committed, beside the branch.
    async fn save(&self, path: &Path, wip: &BranchName) -> Result<Option<BranchName>, Error> {
        if !self.has_unsaved(path).await? {
            return Ok(None);
        }
        let head = self
            .git
            .run(path, "rev-parse", &["--verify", "HEAD^{commit}"])
            .await?;
        let tree = self.tree_of_files(path).await?;
        let earlier = self.commit_of(&wip.local_ref()).await?;
        if let Some(earlier) = &earlier
            && self.tree_and_parent(earlier).await? == format!("{tree}\n{head}")
        {
            // All of it is saved already.
            return Ok(Some(wip.clone()));
        }
        let mut arguments = vec![
            tree.as_str(),
            "-m",
            "Work in progress, saved by gastownd",
            "-p",
            &head,
        ];
        // What was saved before stays reachable through the second parent.
        if let Some(earlier) = earlier.as_deref().filter(|earlier| *earlier != head) {
            arguments.extend(["-p", earlier]);
        }
        let commit = self.git("commit-tree", &arguments).await?;
        self.set_ref(&wip.local_ref(), &commit).await?;
        Ok(Some(wip.clone()))
    }

    /// What a commit holds and what it follows, a line each.
    async fn tree_and_parent(&self, commit: &str) -> Result<String, Error> {
        let (tree, parent) = (format!("{commit}^{{tree}}"), format!("{commit}^1"));
        self.git("rev-parse", &[&tree, &parent]).await
    }

    /// A tree of the worktree's files, made in an index of its own so that the agent's stays.
    async fn tree_of_files(&self, path: &Path) -> Result<String, Error> {
        let index = self
            .git
            .run(
                path,
                "rev-parse",
                &["--path-format=absolute", "--git-path", "index"],
            )
            .await?;
        let beside = PathBuf::from(format!("{index}.gastown-wip"));
        tokio::fs::copy(&index, &beside)
            .await
            .map_err(|source| Error::Workspace {
                path: beside.clone(),
                source,
            })?;
        let git = self.git.with("GIT_INDEX_FILE", &beside);
        let tree = async {
            git.run(path, "add", &["--all"]).await?;
            git.run(path, "write-tree", &[]).await
        }
        .await;
        // A leftover would only be overwritten the next time.
        let _ = tokio::fs::remove_file(&beside).await;
        tree
    }
}

async fn exists(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

/// Makes place for a worktree where something else lies, which may be somebody's work.
async fn set_aside(path: &Path) -> Result<(), Error> {
    let parent = path.parent().expect("a worktree lies in the rig's folder");
    workspace::make_folder(parent).await?;
    if !exists(path).await {
        return Ok(());
    }
    let aside = path.with_extension(format!("aside-{}", AgentId::random().short()));
    tracing::warn!(from = %path.display(), to = %aside.display(), "moved a folder that is no worktree");
    tokio::fs::rename(path, &aside)
        .await
        .map_err(|source| Error::Workspace {
            path: path.to_owned(),
            source,
        })
}

fn ready(path: PathBuf, task: &WorktreeTask, saved: Option<BranchName>) -> Worktree {
    Worktree {
        path,
        branch: task.branch.clone(),
        saved,
    }
}

/// The branch of an agent's saved work.
fn wip_branch(agent: AgentId, name: &str) -> BranchName {
    let folder = workspace::folder_name(name, &agent.short());
    BranchName::parse(&format!("gastown/wip/{folder}")).expect("a folder name is a sound ref part")
}
