//! A real repository: a bare one, and a worktree on a branch of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::server::PATIENCE;

/// A bare repository with one commit on `main`, and a clone of it on the branch `work`.
pub(crate) struct Repository {
    folder: TempDir,
}

impl Drop for Repository {
    fn drop(&mut self) {
        // Whoever waits in a push must not wait for ever.
        self.let_merges_through();
    }
}

impl Repository {
    pub(crate) fn new() -> Self {
        let repository = Self {
            folder: TempDir::new().unwrap(),
        };
        let root = repository.folder.path();
        git(root, &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(root, &["clone", "-q", "origin.git", "work"]);
        let work = repository.work();
        std::fs::write(work.join("README.md"), "# A sample\n").unwrap();
        git(&work, &["checkout", "-q", "-b", "main"]);
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "Begin"]);
        git(&work, &["push", "-q", "-u", "origin", "main"]);
        git(&work, &["checkout", "-q", "-b", "work"]);
        repository
    }

    /// The folder in which an agent works.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The bare repository.
    pub(crate) fn origin(&self) -> PathBuf {
        self.folder.path().join("origin.git")
    }

    /// Output of a git command in the bare repository.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.origin(), args)
    }

    /// A folder beside it, for a home.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Adds a file to `main`.
    pub(crate) fn commit(&self, path: &str, text: &str) {
        let work = self.work();
        std::fs::write(work.join(path), text).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", &format!("Add {path}")]);
        git(&work, &["push", "-q", "origin", "HEAD:main"]);
    }

    /// Adds a file to a branch that is there.
    pub(crate) fn commit_to(&self, branch: &str, path: &str, text: &str) {
        let work = self.work();
        git(&work, &["fetch", "-q", "origin", branch]);
        git(&work, &["checkout", "-q", "--detach", "FETCH_HEAD"]);
        std::fs::write(work.join(path), text).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", &format!("Add {path}")]);
        git(&work, &["push", "-q", "origin", &format!("HEAD:{branch}")]);
    }

    /// The text of a file in a branch of the bare repository.
    pub(crate) fn pushed(&self, branch: &str, path: &str) -> String {
        let origin = self.folder.path().join("origin.git");
        git(&origin, &["show", &format!("{branch}:{path}")])
    }

    /// Whether the bare repository has the branch.
    pub(crate) fn has_branch(&self, branch: &str) -> bool {
        let origin = self.folder.path().join("origin.git");
        !git(&origin, &["branch", "--list", branch]).is_empty()
    }

    /// Makes every push to `main` wait from now on.
    pub(crate) fn hold_merges(&self) {
        let folder = self.folder.path().display();
        self.before_receiving(&format!(
            "read old new name\n[ \"$name\" = refs/heads/main ] || exit 0\n\
             touch {folder}/held\nwhile [ ! -e {folder}/open ]; do sleep 0.02; done\n"
        ));
    }

    /// Waits until a merge is held.
    pub(crate) async fn merge_is_held(&self) {
        let limit = Instant::now() + PATIENCE;
        while !self.folder.path().join("held").exists() {
            assert!(Instant::now() < limit, "no merge ever began");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets the merges through that are held, and all later ones.
    pub(crate) fn let_merges_through(&self) {
        std::fs::write(self.folder.path().join("open"), "").unwrap();
    }

    /// Makes every push from now on fail with `reason`.
    pub(crate) fn refuse_pushes(&self, reason: &str) {
        self.before_receiving(&format!("echo '{reason}' >&2; exit 1"));
    }

    /// Makes every push to that branch from now on fail with `reason`.
    pub(crate) fn refuse_pushes_to(&self, branch: &str, reason: &str) {
        self.before_receiving(&format!(
            "while read old new name; do\n\
             if [ $name = refs/heads/{branch} ]; then echo '{reason}' >&2; exit 1; fi\n\
             done"
        ));
    }

    /// Keeps every push of a commit whose subject begins like this waiting until
    /// [`let_go`](Self::let_go).
    pub(crate) fn hold_pushes_of(&self, subject: &str) {
        self.before_receiving(&format!(
            "while read old new name; do\n\
             case \"$(git log -1 --format=%s $new)\" in\n\
             '{subject}'*) until [ -e go ]; do sleep 0.05; done;;\n\
             esac\n\
             done"
        ));
    }

    /// Lets held pushes go on.
    pub(crate) fn let_go(&self) {
        std::fs::write(self.origin().join("go"), "").unwrap();
    }

    /// Takes the repository away, as when its host is down; again, and it is back.
    pub(crate) fn toggle_reachable(&self) {
        let (here, away) = (self.origin(), self.folder.path().join("away.git"));
        let (from, to) = if here.exists() {
            (here, away)
        } else {
            (away, here)
        };
        std::fs::rename(from, to).unwrap();
    }

    fn before_receiving(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let hook = self.folder.path().join("origin.git/hooks/pre-receive");
        std::fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[track_caller]
fn git(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
