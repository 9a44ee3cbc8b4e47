//! git against real repositories on this disk.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    AllowedRepositories, Approved, BranchName, Gates, Git, GitEnvironment, GitUrl, Identity,
    MergeOutcome, MergeTask, Repository, Worktree, WorktreeTask,
};
use crate::container::protocol::MergeStatus;
use crate::model::{AgentId, BeadId, RigId};

/// What the tests' repositories are.
pub(super) const LOCAL: AllowedRepositories = AllowedRepositories {
    local: true,
    http: false,
};

/// A bare remote with one commit on `main`, and a container's view of it.
struct Rig {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let remote = folder.path().join("remote.git");
        let seed = folder.path().join("seed");
        git(
            folder.path(),
            &["init", "-q", "--bare", "-b", "main", "remote.git"],
        );
        git(
            folder.path(),
            &["clone", "-q", remote.to_str().unwrap(), "seed"],
        );
        git(&seed, &["checkout", "-q", "-b", "main"]);
        commit(&seed, "README.md", "a town\n", "begin");
        git(&seed, &["push", "-q", "origin", "main"]);
        let home = folder.path().join("home");
        let environment = GitEnvironment::new(
            Path::new("/usr/bin/false"),
            &folder.path().join("cred"),
            &home,
            LOCAL,
        );
        let workspace = folder.path().join("workspace");
        let repository = Repository::new(Git::new(&environment), &workspace, RigId::random());
        Self { folder, repository }
    }

    fn remote(&self) -> PathBuf {
        self.folder.path().join("remote.git")
    }

    fn seed(&self) -> PathBuf {
        self.folder.path().join("seed")
    }

    fn url(&self) -> GitUrl {
        GitUrl::parse(self.remote().to_str().unwrap(), LOCAL).unwrap()
    }

    fn task(&self, agent: AgentId, branch: &str) -> WorktreeTask {
        WorktreeTask {
            url: self.url(),
            agent_id: agent,
            agent_name: "Toast".to_owned(),
            identity: Identity {
                name: "Toast".to_owned(),
                email: "toast@town".to_owned(),
            },
            branch: name(branch),
            default_branch: name("main"),
        }
    }

    async fn worktree(&self, agent: AgentId, branch: &str) -> Worktree {
        self.repository
            .prepare_worktree(&self.task(agent, branch))
            .await
            .unwrap()
    }

    async fn merge(&self, branch: &str) -> MergeOutcome {
        self.merge_entry(BeadId::random(), branch).await
    }

    async fn merge_entry(&self, entry_id: BeadId, branch: &str) -> MergeOutcome {
        self.merge_approved(entry_id, branch, Approved::Any).await
    }

    async fn merge_approved(
        &self,
        entry_id: BeadId,
        branch: &str,
        approved: Approved,
    ) -> MergeOutcome {
        let task = MergeTask {
            url: self.url(),
            entry_id,
            branch: name(branch),
            target: name("main"),
            message: format!("Merge {branch}"),
            gates: Gates::default(),
            settle_white_space: false,
            approved,
        };
        self.repository.merge(&task).await
    }

    fn hook(&self, name: &str, script: &str) {
        let path = self.remote().join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn name(text: &str) -> BranchName {
    BranchName::parse(text).unwrap()
}

/// git as an agent would run it.
pub(super) fn try_git(directory: &Path, arguments: &[&str]) -> std::process::Output {
    let identity = Identity {
        name: "Toast".to_owned(),
        email: "toast@town".to_owned(),
    };
    Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(identity.variables())
        .output()
        .unwrap()
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = try_git(directory, arguments);
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn commit(directory: &Path, file: &str, content: &str, message: &str) {
    std::fs::write(directory.join(file), content).unwrap();
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-q", "-m", message]);
}

fn main_has(rig: &Rig, file: &str) -> bool {
    try_git(&rig.remote(), &["cat-file", "-e", &format!("main:{file}")])
        .status
        .success()
}

#[tokio::test]
async fn work_is_merged_and_proven_and_tidied() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "polecat/toast/one").await;
    assert!(worktree.path.ends_with("worktrees/Toast"));
    commit(&worktree.path, "cheese.txt", "cheese\n", "add cheese");
    git(&worktree.path, &["push", "-q", "-u", "origin", "HEAD"]);

    let outcome = rig.merge("polecat/toast/one").await;

    assert_eq!(outcome.status, MergeStatus::Merged, "{}", outcome.message);
    let sha = outcome.commit_sha.unwrap();
    assert_eq!(git(&rig.remote(), &["rev-parse", "main"]), sha);
    assert_eq!(
        git(&rig.remote(), &["log", "-1", "--format=%s %an", "main"]),
        "Merge polecat/toast/one gastownd"
    );
    assert!(main_has(&rig, "cheese.txt"));
    assert_eq!(git(&rig.remote(), &["branch", "--list", "polecat/*"]), "");
}

#[tokio::test]
async fn a_forgotten_push_is_made_up_for() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    git(&worktree.path, &["push", "-q", "-u", "origin", "HEAD"]);
    commit(&worktree.path, "two.txt", "2\n", "two");
    assert_eq!(rig.merge("one").await.status, MergeStatus::Merged);
    assert!(main_has(&rig, "two.txt"));
}

#[tokio::test]
async fn a_branch_without_commits_is_a_failure_and_an_unknown_one_too() {
    let rig = Rig::new();
    rig.worktree(AgentId::random(), "empty").await;
    let outcome = rig.merge("empty").await;
    assert_eq!(
        (outcome.status, outcome.message.as_str()),
        (MergeStatus::Failed, "no commits on empty")
    );
    let outcome = rig.merge("never-made").await;
    assert_eq!(outcome.status, MergeStatus::Failed);
    assert!(
        outcome.message.contains("no branch never-made"),
        "{}",
        outcome.message
    );
    let outcome = rig.merge("main").await;
    assert!(
        outcome.message.contains("target branch itself"),
        "{}",
        outcome.message
    );
}

#[tokio::test]
async fn what_others_merged_already_is_merged() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    git(&worktree.path, &["push", "-q", "origin", "HEAD:main"]);
    let outcome = rig.merge("one").await;
    assert_eq!(outcome.status, MergeStatus::Merged, "{}", outcome.message);
}

#[tokio::test]
async fn only_the_approved_commit_is_merged() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    let entry = BeadId::random();
    let first = git(&worktree.path, &["rev-parse", "HEAD"]);
    let looked = rig.merge_approved(entry, "one", Approved::Only(None)).await;
    assert_eq!(
        (looked.status, looked.commit_sha.as_ref()),
        (MergeStatus::Found, Some(&first))
    );
    // What is approved is on the remote, where people can look at it.
    assert_eq!(git(&rig.remote(), &["rev-parse", "one"]), first);
    commit(&worktree.path, "two.txt", "2\n", "two");
    let second = git(&worktree.path, &["rev-parse", "HEAD"]);
    let only = Approved::Only(Some(first));
    let moved = rig.merge_approved(entry, "one", only).await;
    assert_eq!(
        (moved.status, moved.commit_sha.as_ref()),
        (MergeStatus::Found, Some(&second))
    );
    assert!(!main_has(&rig, "one.txt"));
    let only = Approved::Only(Some(second));
    let merged = rig.merge_approved(entry, "one", only).await;
    assert_eq!(merged.status, MergeStatus::Merged, "{}", merged.message);
    assert!(main_has(&rig, "two.txt"));
}

#[tokio::test]
async fn asking_again_for_a_merge_merges_once() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    let entry = BeadId::random();
    let first = rig.merge_entry(entry, "one").await;
    let main = git(&rig.remote(), &["rev-parse", "main"]);
    // The target moves on; the branch is gone from the remote.
    git(&rig.seed(), &["pull", "-q"]);
    commit(&rig.seed(), "later.txt", "later\n", "later");
    git(&rig.seed(), &["push", "-q", "origin", "main"]);
    let second = rig.merge_entry(entry, "one").await;
    assert_eq!(first, second);
    assert_eq!(first.commit_sha.unwrap(), main);
}

#[tokio::test]
async fn a_conflict_names_the_files_and_leaves_the_target_alone() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "README.md", "their town\n", "one");
    commit(&rig.seed(), "README.md", "our town\n", "ours");
    git(&rig.seed(), &["push", "-q", "origin", "main"]);
    let before = git(&rig.remote(), &["rev-parse", "main"]);
    let outcome = rig.merge("one").await;
    assert_eq!(outcome.status, MergeStatus::Conflict);
    assert_eq!(outcome.message, "one conflicts with main in README.md");
    assert_eq!(git(&rig.remote(), &["rev-parse", "main"]), before);
    // The next merge is not disturbed by it.
    let worktree = rig.worktree(AgentId::random(), "two").await;
    commit(&worktree.path, "two.txt", "2\n", "two");
    assert_eq!(rig.merge("two").await.status, MergeStatus::Merged);
}

#[tokio::test]
async fn a_lost_push_race_is_run_again() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    git(&worktree.path, &["push", "-q", "-u", "origin", "HEAD"]);
    // Somebody else's push lands between our fetch and our push, once.
    commit(&rig.seed(), "race.txt", "r\n", "race");
    git(&rig.seed(), &["push", "-q", "origin", "main:racer"]);
    let script = "[ \"$1\" = refs/heads/main ] && [ ! -e raced ] && touch raced && \
                  env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main racer; exit 0";
    rig.hook("update", script);
    let outcome = rig.merge("one").await;
    assert_eq!(outcome.status, MergeStatus::Merged, "{}", outcome.message);
    assert!(rig.remote().join("raced").exists());
    assert!(main_has(&rig, "race.txt") && main_has(&rig, "one.txt"));
}

#[tokio::test]
async fn a_hook_that_refuses_is_final_and_quoted() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    git(&worktree.path, &["push", "-q", "-u", "origin", "HEAD"]);
    rig.hook(
        "pre-receive",
        "echo 'main is protected by the town council' >&2; exit 1",
    );
    let outcome = rig.merge("one").await;
    assert_eq!(
        (outcome.status, outcome.retryable),
        (MergeStatus::Failed, false)
    );
    assert!(
        outcome.message.contains("protected by the town council"),
        "{}",
        outcome.message
    );
    assert!(
        outcome.message.contains("pre-receive hook declined"),
        "{}",
        outcome.message
    );
    assert!(!main_has(&rig, "one.txt"));
}

#[tokio::test]
async fn a_remote_that_is_away_may_be_tried_again() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    let away = rig.folder.path().join("away.git");
    std::fs::rename(rig.remote(), &away).unwrap();
    let outcome = rig.merge("one").await;
    assert_eq!(
        (outcome.status, outcome.retryable),
        (MergeStatus::Failed, true),
        "{}",
        outcome.message
    );
    let error = rig
        .repository
        .prepare_worktree(&rig.task(AgentId::random(), "x"))
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{}", error.story());
    std::fs::rename(away, rig.remote()).unwrap();
    assert_eq!(rig.merge("one").await.status, MergeStatus::Merged);
}

#[tokio::test]
async fn a_clone_that_fails_leaves_nothing_and_says_why() {
    let rig = Rig::new();
    let mut task = rig.task(AgentId::random(), "one");
    task.url = GitUrl::parse("/nowhere/at/all.git", LOCAL).unwrap();
    let error = rig.repository.prepare_worktree(&task).await.unwrap_err();
    assert!(
        error.story().contains("/nowhere/at/all.git"),
        "{}",
        error.story()
    );
    assert!(!rig.repository.bare().exists());
    rig.worktree(AgentId::random(), "one").await;
}

#[tokio::test]
async fn a_missing_default_branch_is_named_with_those_there_are() {
    let rig = Rig::new();
    let mut task = rig.task(AgentId::random(), "one");
    task.default_branch = name("trunk");
    let error = rig.repository.prepare_worktree(&task).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the repository has no branch trunk (it has: main)"
    );
}

#[tokio::test]
async fn a_branch_is_resumed_with_its_work() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let worktree = rig.worktree(agent, "one").await;
    commit(&worktree.path, "one.txt", "1\n", "one");
    std::fs::write(worktree.path.join("draft.txt"), "half").unwrap();
    let again = rig.worktree(agent, "one").await;
    assert_eq!(again.path, worktree.path);
    assert!(again.saved.is_none() && again.path.join("draft.txt").exists());
    // Another worktree of the same name: the folder was lost, the commits were not.
    std::fs::remove_dir_all(&worktree.path).unwrap();
    let again = rig.worktree(agent, "one").await;
    assert!(again.path.join("one.txt").exists());
}

#[tokio::test]
async fn uncommitted_work_is_saved_before_the_next_branch() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let worktree = rig.worktree(agent, "one").await;
    std::fs::write(worktree.path.join("README.md"), "changed\n").unwrap();
    std::fs::write(worktree.path.join("draft.txt"), "half").unwrap();
    let next = rig.worktree(agent, "two").await;
    assert_eq!(next.saved, Some(name("gastown/wip/Toast")));
    assert!(!next.path.join("draft.txt").exists());
    assert_eq!(
        std::fs::read_to_string(next.path.join("README.md")).unwrap(),
        "a town\n"
    );
    let bare = rig.repository.bare();
    assert_eq!(git(&bare, &["show", "gastown/wip/Toast:draft.txt"]), "half");
    assert_eq!(
        git(&bare, &["show", "gastown/wip/Toast:README.md"]),
        "changed"
    );
    // Saving again keeps what was saved before.
    std::fs::write(next.path.join("second.txt"), "2").unwrap();
    rig.worktree(agent, "three").await;
    assert_eq!(git(&bare, &["show", "gastown/wip/Toast:second.txt"]), "2");
    assert_eq!(
        git(&bare, &["show", "gastown/wip/Toast^2:draft.txt"]),
        "half"
    );
}

#[tokio::test]
async fn commits_on_a_detached_head_are_saved() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let worktree = rig.worktree(agent, "one").await;
    git(&worktree.path, &["checkout", "-q", "--detach"]);
    commit(&worktree.path, "lost.txt", "not lost", "detached");
    rig.worktree(agent, "two").await;
    assert_eq!(
        git(
            &rig.repository.bare(),
            &["show", "gastown/wip/Toast:lost.txt"]
        ),
        "not lost"
    );
}

#[tokio::test]
async fn saving_changes_neither_files_nor_index_nor_branch() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let worktree = rig.worktree(agent, "one").await;
    assert_eq!(
        rig.repository.save_work(agent, "Toast").await.unwrap(),
        None
    );
    std::fs::write(worktree.path.join("staged.txt"), "s").unwrap();
    git(&worktree.path, &["add", "staged.txt"]);
    std::fs::write(worktree.path.join("loose.txt"), "l").unwrap();
    let before = git(&worktree.path, &["status", "--porcelain=v2", "--branch"]);
    let saved = rig.repository.save_work(agent, "Toast").await.unwrap();
    assert_eq!(saved, Some(name("gastown/wip/Toast")));
    assert_eq!(
        git(&worktree.path, &["status", "--porcelain=v2", "--branch"]),
        before
    );
}

#[tokio::test]
async fn a_removed_agent_is_archived() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let worktree = rig.worktree(agent, "one").await;
    commit(&worktree.path, "one.txt", "1", "one");
    std::fs::write(worktree.path.join("draft.txt"), "half").unwrap();
    rig.repository
        .remove_worktree(agent, "Toast")
        .await
        .unwrap();
    assert!(!worktree.path.exists());
    let bare = rig.repository.bare();
    let archive = format!("refs/gastown/archive/{agent}");
    assert_eq!(
        git(&bare, &["show", &format!("{archive}/branch/one:one.txt")]),
        "1"
    );
    assert_eq!(
        git(&bare, &["show", &format!("{archive}/wip:draft.txt")]),
        "half"
    );
    rig.repository
        .remove_worktree(agent, "Toast")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_agent_commits_under_its_own_name() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    std::fs::write(worktree.path.join("one.txt"), "1").unwrap();
    let plain = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(&worktree.path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    plain(&["add", "-A"]);
    plain(&["commit", "-qm", "one"]);
    assert_eq!(
        plain(&["log", "-1", "--format=%an <%ae>"]),
        "Toast <toast@town>"
    );
}

#[tokio::test]
async fn a_cut_off_preparation_is_begun_anew_and_locks_of_the_dead_are_removed() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let worktree = rig.worktree(agent, "one").await;
    commit(&worktree.path, "one.txt", "1", "one");
    // As if the process was killed while it switched: a marker, a lock, half a checkout.
    std::fs::write(worktree.path.with_extension("preparing"), "").unwrap();
    std::fs::remove_file(worktree.path.join("one.txt")).unwrap();
    let bare = rig.repository.bare();
    std::fs::write(bare.join("worktrees/Toast/index.lock"), "").unwrap();
    std::fs::write(bare.join("refs/heads/one.lock"), "").unwrap();
    let repository = Repository {
        lock: std::sync::Arc::default(),
        ..rig.repository.clone()
    };
    let again = repository
        .prepare_worktree(&rig.task(agent, "one"))
        .await
        .unwrap();
    assert!(again.path.join("one.txt").exists());
    assert_eq!(git(&again.path, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_folder_that_is_no_worktree_is_moved_not_removed() {
    let rig = Rig::new();
    let agent = AgentId::random();
    let path = rig.repository.worktree_of(agent, "Toast");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("precious.txt"), "x").unwrap();
    rig.worktree(agent, "one").await;
    let aside = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("precious.txt").exists());
    assert!(aside.is_some());
}

#[tokio::test]
async fn hooks_of_a_repository_do_not_run_in_the_container() {
    let rig = Rig::new();
    let worktree = rig.worktree(AgentId::random(), "one").await;
    let hooks = rig.repository.bare().join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("pre-push");
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    commit(&worktree.path, "one.txt", "1\n", "one");
    assert_eq!(rig.merge("one").await.status, MergeStatus::Merged);
}
