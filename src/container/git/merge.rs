//! Merges a branch into its target on the remote, and says so only when that is proven.

use std::path::Path;

use tokio::sync::MutexGuard;

use super::{BranchName, Gates, GitUrl, Repository};
use crate::container::protocol::{GatesReport, MergeStatus};
use crate::container::{Error, workspace};
use crate::model::BeadId;

/// How often a merge is begun anew because somebody else pushed to the target meanwhile.
const RACE_TRIES: u32 = 4;

/// The most conflicting files that are named in a message.
const CONFLICTS_NAMED: usize = 20;

/// How many of the last lines of a red gate go into the message.
const GATE_LINES_SAID: usize = 60;

/// A branch to be merged.
#[derive(Clone, Debug)]
pub struct MergeTask {
    /// The repository's address.
    pub url: GitUrl,
    /// The merge request; names the ref that makes a repeat after a crash safe.
    pub entry_id: BeadId,
    /// The branch.
    pub branch: BranchName,
    /// What it is merged into.
    pub target: BranchName,
    /// The message of the merge commit.
    pub message: String,
    /// What must succeed on the merged tree before it is pushed.
    pub gates: Gates,
    /// Whether git may settle conflicts that are about white space alone.
    pub settle_white_space: bool,
    /// Which commit of the branch may be merged.
    pub approved: Approved,
}

/// Which commit of a branch may be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approved {
    /// Whatever it is at.
    Any,
    /// The one that was approved; `None` if none was yet.
    Only(Option<String>),
}

impl Approved {
    /// Whether a branch at `commit` may be merged.
    pub(crate) fn covers(&self, commit: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(approved) => approved.as_deref() == Some(commit),
        }
    }
}

/// How a merge ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeOutcome {
    /// The short of it.
    pub status: MergeStatus,
    /// The long of it.
    pub message: String,
    /// The commit on the target that contains the branch.
    pub commit_sha: Option<String>,
    /// Whether the same may succeed later by itself.
    pub retryable: bool,
    /// What the gates said, if any ran.
    pub gates: Option<GatesReport>,
}

impl MergeOutcome {
    fn merged(commit: String, message: String) -> Self {
        Self {
            status: MergeStatus::Merged,
            message,
            commit_sha: Some(commit),
            retryable: false,
            gates: None,
        }
    }

    fn conflict(message: String) -> Self {
        Self {
            status: MergeStatus::Conflict,
            message,
            commit_sha: None,
            retryable: false,
            gates: None,
        }
    }

    /// It is at `commit`, which nobody has approved.
    fn found(task: &MergeTask, commit: String) -> Self {
        Self {
            status: MergeStatus::Found,
            message: format!("branch {} is at {commit}", task.branch),
            commit_sha: Some(commit),
            retryable: false,
            gates: None,
        }
    }

    fn failed(message: String) -> Self {
        Self {
            status: MergeStatus::Failed,
            message,
            commit_sha: None,
            retryable: false,
            gates: None,
        }
    }

    fn red(gates: GatesReport) -> Self {
        let last = gates.output.lines().rev().take(GATE_LINES_SAID);
        let mut said: Vec<&str> = last.collect();
        said.reverse();
        let message = format!("a gate failed:\n{}", said.join("\n"));
        Self {
            gates: Some(gates),
            ..Self::failed(message)
        }
    }

    fn from_error(error: &Error) -> Self {
        Self {
            retryable: error.is_retryable(),
            ..Self::failed(error.story())
        }
    }
}

/// What came of a push to the target.
enum Push {
    Done,
    /// Somebody else was faster.
    Behind,
    Refused(MergeOutcome),
}

impl Repository {
    /// Merges and pushes. Everything that can go wrong is an outcome.
    pub async fn merge(&self, task: &MergeTask) -> MergeOutcome {
        let _merging = self.merging.lock().await;
        let mut taken = Some(self.taken().await);
        let merged = async {
            self.refresh(&task.url).await?;
            if task.branch == task.target {
                return Ok(MergeOutcome::failed(format!(
                    "{} is the target branch itself",
                    task.branch
                )));
            }
            if let Some(outcome) = self.merged_earlier(task).await? {
                return Ok(outcome);
            }
            match self.settled_commit(task).await? {
                Ok(commit) if !task.approved.covers(&commit) => {
                    Ok(MergeOutcome::found(task, commit))
                }
                Ok(commit) => self.merge_commit(task, &commit, &mut taken).await,
                Err(outcome) => Ok(outcome),
            }
        };
        merged
            .await
            .unwrap_or_else(|error| MergeOutcome::from_error(&error))
    }

    /// An earlier run of the same request may have pushed and then been cut off.
    async fn merged_earlier(&self, task: &MergeTask) -> Result<Option<MergeOutcome>, Error> {
        let Some(commit) = self.commit_of(&request_ref(task.entry_id)).await? else {
            return Ok(None);
        };
        let target = self.remote_commit(&task.target).await?;
        if self.contains(&target, &commit).await? && self.is_own_work(task, &commit).await? {
            self.remove_merged(task, &commit).await;
            return Ok(Some(self.outcome_of(task, &commit).await?));
        }
        Ok(None)
    }

    /// The commit to merge, proven to be on the remote; or why there is none.
    async fn settled_commit(
        &self,
        task: &MergeTask,
    ) -> Result<Result<String, MergeOutcome>, Error> {
        let branch = &task.branch;
        let here = self.commit_of(&branch.local_ref()).await?;
        let there = self.commit_of(&branch.remote_ref()).await?;
        let commit = match (here, there) {
            (None, None) => {
                return Ok(Err(MergeOutcome::failed(format!(
                    "no branch {branch} on the remote or in the container"
                ))));
            }
            (None, Some(there)) => there,
            (Some(here), Some(there)) if self.contains(&there, &here).await? => there,
            (Some(here), there) => {
                let follows = match &there {
                    Some(there) => self.contains(&here, there).await?,
                    None => true,
                };
                if !follows {
                    return Ok(Err(MergeOutcome::failed(format!(
                        "branch {branch} has different commits on the remote and in the container"
                    ))));
                }
                if self.is_own_work(task, &here).await? {
                    // Agents forget to push.
                    let refspec = format!("{here}:{}", branch.local_ref());
                    self.git("push", &["--quiet", "origin", &refspec]).await?;
                }
                here
            }
        };
        if self.is_own_work(task, &commit).await? {
            Ok(Ok(commit))
        } else {
            Ok(Err(MergeOutcome::failed(format!("no commits on {branch}"))))
        }
    }

    /// Whether the branch was ever worked on: its commit is not the one it was begun from.
    async fn is_own_work(&self, task: &MergeTask, commit: &str) -> Result<bool, Error> {
        let base = self.commit_of(&task.branch.base_ref()).await?;
        if base.is_some() {
            return Ok(base.as_deref() != Some(commit));
        }
        // Not begun here: the target's own tip holds no work either.
        let target = self.remote_commit(&task.target).await?;
        Ok(target != commit)
    }

    /// `taken` is the hold on the repository, which is let go of while the gates run.
    async fn merge_commit<'a>(
        &'a self,
        task: &MergeTask,
        commit: &str,
        taken: &mut Option<MutexGuard<'a, bool>>,
    ) -> Result<MergeOutcome, Error> {
        self.set_ref(&request_ref(task.entry_id), commit).await?;
        for _ in 0..RACE_TRIES {
            let target = self.remote_commit(&task.target).await?;
            if self.contains(&target, commit).await? {
                return self.proven(task, commit).await;
            }
            if let Some(outcome) = self.merge_in_worktree(task, &target, commit).await? {
                return Ok(outcome);
            }
            // What the gates saw is what is pushed, whatever they do to the worktree.
            let merge = self
                .git
                .run(&self.merge_folder(), "rev-parse", &["--verify", "HEAD"])
                .await?;
            let mut gates = None;
            if !task.gates.commands.is_empty() {
                taken.take();
                let report = self.git.run_gates(&self.merge_folder(), &task.gates).await;
                *taken = Some(self.taken().await);
                if !report.passed {
                    return Ok(MergeOutcome::red(report));
                }
                gates = Some(report);
            }
            let outcome = match self.push_target(task, &merge).await? {
                Push::Done => {
                    self.fetch().await?;
                    self.proven(task, commit).await?
                }
                Push::Behind => {
                    self.fetch().await?;
                    continue;
                }
                Push::Refused(outcome) => outcome,
            };
            return Ok(MergeOutcome { gates, ..outcome });
        }
        Ok(MergeOutcome {
            retryable: true,
            ..MergeOutcome::failed(format!(
                "others pushed to {} {RACE_TRIES} times while {} was merged",
                task.target, task.branch
            ))
        })
    }

    /// Makes the merge commit on a clean copy of the target; an outcome means that it can't be made.
    async fn merge_in_worktree(
        &self,
        task: &MergeTask,
        target: &str,
        commit: &str,
    ) -> Result<Option<MergeOutcome>, Error> {
        let folder = self.merge_folder();
        self.clean_merge_folder(&folder, target).await?;
        let message = format!("--message={}", task.message);
        let mut arguments = vec!["--quiet", "--no-ff", "--no-edit", &message];
        if task.settle_white_space {
            arguments.push("--strategy-option=ignore-space-change");
        }
        arguments.push(commit);
        let merge = self.git.output(&folder, "merge", &arguments).await?;
        if merge.succeeded() {
            return Ok(None);
        }
        let unmerged = self
            .git
            .run(&folder, "diff", &["--name-only", "--diff-filter=U"])
            .await?;
        Ok(Some(if unmerged.is_empty() {
            MergeOutcome::failed(format!("git merge failed: {}", merge.complaint()))
        } else {
            MergeOutcome::conflict(conflict_text(task, &unmerged))
        }))
    }

    /// Nothing of an earlier merge may leak into this one.
    async fn clean_merge_folder(&self, folder: &Path, target: &str) -> Result<(), Error> {
        let cleaned = async {
            // Resetting first also ends a merge that was cut off.
            self.git
                .run(folder, "reset", &["--quiet", "--hard"])
                .await?;
            self.git
                .run(
                    folder,
                    "checkout",
                    &["--quiet", "--force", "--detach", target],
                )
                .await?;
            self.git
                .run(
                    folder,
                    "clean",
                    &["--quiet", "--force", "--force", "-d", "-x"],
                )
                .await
        };
        if self.is_worktree(folder).await? && cleaned.await.is_ok() {
            return Ok(());
        }
        workspace::remove_tree(folder).await?;
        self.git("worktree", &["prune"]).await?;
        let path = folder.to_string_lossy();
        self.git(
            "worktree",
            &["add", "--quiet", "--detach", "--", &path, target],
        )
        .await?;
        Ok(())
    }

    async fn push_target(&self, task: &MergeTask, merge: &str) -> Result<Push, Error> {
        let refspec = format!("{merge}:{}", task.target.local_ref());
        let output = self
            .git
            .output(
                &self.merge_folder(),
                "push",
                &["--porcelain", "origin", &refspec],
            )
            .await?;
        if output.succeeded() {
            return Ok(Push::Done);
        }
        let text = output.text();
        let verdict = text
            .lines()
            .find(|line| line.starts_with('!'))
            .unwrap_or_default();
        let behind = [
            "(fetch first)",
            "(non-fast-forward)",
            "(stale info)",
            "cannot lock ref",
            "(incorrect old value",
        ];
        if behind.iter().any(|words| verdict.contains(words)) {
            return Ok(Push::Behind);
        }
        let error = Error::Git {
            command: "push",
            text: push_text(verdict, &output.complaint()),
        };
        // A verdict on the ref means that the remote was reached and said no.
        let retryable = verdict.is_empty() && error.is_retryable();
        Ok(Push::Refused(MergeOutcome {
            retryable,
            ..MergeOutcome::failed(error.story())
        }))
    }

    /// "Merged" is said here only: the remote's target, freshly fetched, contains the commit.
    async fn proven(&self, task: &MergeTask, commit: &str) -> Result<MergeOutcome, Error> {
        let target = self.remote_commit(&task.target).await?;
        if !self.contains(&target, commit).await? {
            return Ok(MergeOutcome {
                retryable: true,
                ..MergeOutcome::failed(format!(
                    "the push was accepted but {} does not contain {commit}",
                    task.target
                ))
            });
        }
        self.remove_merged(task, commit).await;
        self.outcome_of(task, commit).await
    }

    async fn outcome_of(&self, task: &MergeTask, commit: &str) -> Result<MergeOutcome, Error> {
        let target = self.remote_commit(&task.target).await?;
        // The oldest commit of the target's own line that contains the branch is its merge.
        let range = format!("{commit}..{target}");
        let line = self
            .git(
                "rev-list",
                &["--first-parent", "--ancestry-path", "--reverse", &range],
            )
            .await?;
        let sha = line.lines().next().unwrap_or(commit).to_owned();
        Ok(MergeOutcome::merged(
            sha,
            format!("{} is on {}", task.branch, task.target),
        ))
    }

    /// Tidies up. The work is safe on the target, so a failure here is only worth a note.
    async fn remove_merged(&self, task: &MergeTask, commit: &str) {
        let tidied = async {
            let branch = &task.branch;
            let local = branch.local_ref();
            if self.commit_of(&branch.remote_ref()).await?.as_deref() == Some(commit) {
                // The lease keeps a branch that somebody pushed to meanwhile.
                let lease = format!("--force-with-lease={local}:{commit}");
                let refspec = format!(":{local}");
                self.git("push", &["--quiet", &lease, "origin", &refspec])
                    .await?;
            }
            if self.commit_of(&local).await?.as_deref() == Some(commit)
                && self.checked_out_in(branch).await?.is_none()
            {
                self.remove_ref(&local, commit).await?;
                if let Some(base) = self.commit_of(&branch.base_ref()).await? {
                    self.remove_ref(&branch.base_ref(), &base).await?;
                }
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = tidied.await {
            tracing::warn!(branch = %task.branch, "failed to remove a merged branch: {}", error.story());
        }
    }
}

/// Remembers which commit a merge request is about.
fn request_ref(entry: BeadId) -> String {
    format!("refs/gastown/merge/{entry}")
}

fn conflict_text(task: &MergeTask, unmerged: &str) -> String {
    let files: Vec<&str> = unmerged.lines().collect();
    let named = files
        .iter()
        .take(CONFLICTS_NAMED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match files.len().saturating_sub(CONFLICTS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} conflicts with {} in {named}{more}",
        task.branch, task.target
    )
}

/// The remote's verdict and its own words, without git's advice on what to type next.
fn push_text(verdict: &str, complaint: &str) -> String {
    let words = complaint.lines().filter(|line| !line.starts_with("hint:"));
    let mut text = words.collect::<Vec<_>>().join("\n");
    if !verdict.is_empty() && !text.contains(verdict) {
        let verdict = verdict.trim_start_matches('!').trim().replace('\t', " ");
        text = format!("{verdict}\n{text}");
    }
    text.trim().to_owned()
}
