//! Worktrees that go, and those that may not: whatever an agent did in one, nothing it made is lost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::container::git::Removal;

/// What an agent, or somebody who merges, does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Writes a file and leaves it.
    Write,
    Commit,
    Amend,
    /// Goes back by a commit and forgets it.
    Reset,
    /// Commits on no branch, and comes back.
    Stray,
    /// Goes on with another branch.
    Branch,
    Stash,
    /// A build folder that git ignores.
    Build,
    /// A repository of its own where git does not look.
    Foreign,
    /// Others change the target.
    Others,
    /// Takes in what the target has.
    Rebase,
    TakeIn,
    Push,
    /// Its work gets to the target: as it is, commit by commit, or all in one.
    Merge,
    Pick,
    Squash,
}

const STEPS: &[Step] = &[
    Step::Write,
    Step::Commit,
    Step::Commit,
    Step::Amend,
    Step::Reset,
    Step::Stray,
    Step::Branch,
    Step::Stash,
    Step::Build,
    Step::Foreign,
    Step::Others,
    Step::Rebase,
    Step::TakeIn,
    Step::Push,
    Step::Merge,
    Step::Merge,
    Step::Pick,
    Step::Squash,
    Step::Squash,
];

/// An agent's worktree and everything that was ever committed there.
struct Life {
    rig: Rig,
    agent: AgentId,
    path: PathBuf,
    made: BTreeSet<String>,
    files: u32,
    /// Whether something was committed since its work was last merged, and is in the branch still for
    /// sure.
    is_unmerged: bool,
}

impl Life {
    async fn new() -> Self {
        let rig = Rig::new();
        commit(&rig.seed(), ".gitignore", "target/\n/.cache\n", "ignore");
        git(&rig.seed(), &["push", "-q", "origin", "main"]);
        let agent = AgentId::random();
        let path = rig.worktree(agent, "work").await.path;
        Self {
            rig,
            agent,
            path,
            made: BTreeSet::new(),
            files: 0,
            is_unmerged: false,
        }
    }

    fn in_worktree(&self, arguments: &[&str]) -> bool {
        try_git(&self.path, arguments).status.success()
    }

    fn write(&mut self) {
        self.files += 1;
        let number = self.files;
        std::fs::write(self.path.join(format!("f{number}")), format!("{number}\n")).unwrap();
    }

    fn commit(&mut self) {
        self.write();
        git(&self.path, &["add", "--all"]);
        git(&self.path, &["commit", "-q", "-m", "work"]);
        self.is_unmerged = true;
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write => self.write(),
            Step::Commit => self.commit(),
            Step::Amend => {
                if self.is_unmerged {
                    self.write();
                    git(&self.path, &["add", "--all"]);
                    git(&self.path, &["commit", "-q", "--amend", "-m", "better"]);
                }
            }
            Step::Reset => {
                // Not before the beginning.
                let parent = ["cat-file", "-e", "HEAD~1:.gitignore"];
                if self.in_worktree(&parent)
                    && self.in_worktree(&["reset", "-q", "--hard", "HEAD~1"])
                {
                    self.is_unmerged = false;
                }
            }
            Step::Stray => {
                let branch = git(&self.path, &["branch", "--show-current"]);
                if self.in_worktree(&["checkout", "-q", "--detach"]) {
                    let before = self.is_unmerged;
                    self.commit();
                    self.note();
                    git(&self.path, &["checkout", "-q", &branch]);
                    self.is_unmerged = before;
                }
            }
            Step::Branch => {
                let name = format!("other-{}", self.files);
                self.in_worktree(&["checkout", "-q", "-b", &name]);
            }
            Step::Stash => {
                self.write();
                self.in_worktree(&["stash", "-q", "--include-untracked"]);
                self.made
                    .insert(git(&self.path, &["rev-parse", "refs/stash"]));
            }
            Step::Build => {
                std::fs::create_dir_all(self.path.join("target")).unwrap();
                std::fs::write(self.path.join("target/out"), vec![0; 100_000]).unwrap();
            }
            Step::Foreign => {
                let folder = self.path.join(".cache");
                std::fs::create_dir_all(&folder).unwrap();
                git(&folder, &["init", "-q", "."]);
            }
            Step::Others => {
                self.files += 1;
                let name = format!("others-{}", self.files);
                commit(&self.rig.seed(), &name, "x\n", "others");
                git(&self.rig.seed(), &["push", "-q", "origin", "main"]);
            }
            Step::Rebase => {
                git(&self.path, &["fetch", "-q", "origin"]);
                if !self.in_worktree(&["rebase", "-q", "origin/main"]) {
                    self.in_worktree(&["rebase", "--abort"]);
                }
            }
            Step::TakeIn => {
                git(&self.path, &["fetch", "-q", "origin"]);
                if !self.in_worktree(&["merge", "-q", "--no-edit", "origin/main"]) {
                    self.in_worktree(&["merge", "--abort"]);
                }
            }
            Step::Push => {
                self.in_worktree(&["push", "-q", "--force", "origin", "HEAD"]);
            }
            Step::Merge => self.merge(&[&["merge", "-q", "--no-ff", "-m", "m", "FETCH_HEAD"]]),
            Step::Pick => self.merge(&[&["cherry-pick", "main..FETCH_HEAD"]]),
            Step::Squash => self.merge(&[
                &["merge", "-q", "--squash", "FETCH_HEAD"],
                &["commit", "-q", "-m", "all in one"],
            ]),
        }
        self.note();
    }

    /// Somebody brings its branch to the target.
    fn merge(&mut self, commands: &[&[&str]]) {
        let seed = self.rig.seed();
        let worktree = self.path.to_str().unwrap().to_owned();
        git(&seed, &["fetch", "-q", &worktree, "HEAD"]);
        let done = commands
            .iter()
            .all(|command| try_git(&seed, command).status.success());
        if done {
            git(&seed, &["push", "-q", "origin", "main"]);
            self.is_unmerged = false;
        } else {
            try_git(&seed, &["cherry-pick", "--abort"]);
            git(&seed, &["reset", "-q", "--hard", "origin/main"]);
        }
    }

    fn note(&mut self) {
        self.made.insert(git(&self.path, &["rev-parse", "HEAD"]));
    }

    async fn go(&self, in_use: &InUse) -> Removal {
        self.rig.repository.bring(&self.rig.url()).await.unwrap();
        self.rig
            .repository
            .remove_if_merged(self.agent, "Toast", &name("main"), in_use)
            .await
            .unwrap()
    }

    /// Every file that is not ignored, and what is checked out.
    fn state(&self) -> (String, Vec<(String, Vec<u8>)>) {
        let listed = git(&self.path, &["ls-files", "-co", "--exclude-standard"]);
        let files = listed
            .lines()
            .filter_map(|file| Some((file.to_owned(), std::fs::read(self.path.join(file)).ok()?)));
        let status = git(&self.path, &["status", "--porcelain=v2", "--branch"]);
        (status, files.collect())
    }

    /// The commits that were made and that no ref leads to.
    fn lost(&self) -> Vec<String> {
        let bare = self.rig.repository.bare();
        let all = git(&bare, &["rev-list", "--single-worktree", "--all"]);
        let held: BTreeSet<&str> = all.lines().collect();
        let lost = self
            .made
            .iter()
            .filter(|made| !held.contains(made.as_str()));
        lost.cloned().collect()
    }
}

async fn nothing_is_lost(steps: Vec<Step>) {
    let mut life = Life::new().await;
    for step in steps {
        life.take(step);
    }
    let before = life.state();
    let is_dirty = !git(&life.path, &["status", "--porcelain"]).is_empty();
    let has_foreign = life.path.join(".cache/.git").exists();
    let repository = &life.rig.repository;
    repository
        .prune_builds("Toast", &InUse::default())
        .await
        .unwrap();
    assert!(!life.path.join("target").exists());
    assert_eq!(life.state(), before, "build folders are nobody's work");
    match life.go(&InUse::default()).await {
        Removal::Removed(_) => {
            assert!(!life.path.exists());
            assert!(!is_dirty && !life.is_unmerged && !has_foreign);
            assert_eq!(life.lost(), Vec::<String>::new());
        }
        Removal::Kept(why) => {
            assert_eq!(life.state(), before, "{why}");
            // A person who deletes the agent loses no commit either.
            repository
                .remove_worktree(life.agent, "Toast", &InUse::default())
                .await
                .unwrap();
            assert_eq!(life.lost(), Vec::<String>::new());
        }
        Removal::Absent => panic!("it was there"),
    }
}

proptest! {
    // Each is some fifty processes of git.
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_history_loses_a_commit(steps in prop::collection::vec(prop::sample::select(STEPS), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(nothing_is_lost(steps));
    }
}

#[tokio::test]
async fn work_that_is_on_the_target_frees_its_worktree_whatever_it_was_merged_as() {
    use Step::{Amend, Build, Commit, Merge, Others, Pick, Push, Rebase, Squash, Stray};
    let merged: &[&[Step]] = &[
        &[],
        &[Commit, Merge],
        &[Commit, Push, Merge, Others],
        &[Commit, Commit, Others, Pick],
        &[Commit, Commit, Others, Squash, Others],
        &[Commit, Amend, Squash],
        &[Commit, Pick, Others, Rebase],
        &[Stray, Commit, Build, Merge],
    ];
    for steps in merged {
        let mut life = Life::new().await;
        for step in *steps {
            life.take(*step);
        }
        let removed = life.go(&InUse::default()).await;
        assert!(
            matches!(removed, Removal::Removed(_)),
            "{steps:?}: {removed:?}"
        );
        assert_eq!(life.lost(), Vec::<String>::new(), "{steps:?}");
        // The agent's next bead finds a worktree again.
        let path = life.rig.worktree(life.agent, "next").await.path;
        assert!(path.join("README.md").exists());
    }
}

#[tokio::test]
async fn what_is_nowhere_else_keeps_its_worktree_and_says_why() {
    use Step::{Commit, Foreign, Merge, Push, Reset, Squash, Write};
    let kept: &[(&[Step], &str)] = &[
        (&[Write], "uncommitted work: ?? f1"),
        (&[Commit], "work is not merged into main"),
        (&[Commit, Push], "work is not merged into main"),
        (&[Commit, Merge, Commit], "work is not merged into main"),
        (&[Commit, Squash, Commit], "work is not merged into main"),
        (&[Commit, Merge, Write], "uncommitted work"),
        (&[Commit, Merge, Foreign], "another repository"),
        // What was reset away is not merged; what is left of the branch is.
        (
            &[Commit, Merge, Commit, Commit, Reset],
            "work is not merged",
        ),
    ];
    for (steps, reason) in kept {
        let mut life = Life::new().await;
        for step in *steps {
            life.take(*step);
        }
        let before = life.state();
        match life.go(&InUse::default()).await {
            Removal::Kept(why) => assert!(why.contains(reason), "{steps:?}: {why}"),
            other => panic!("{steps:?}: {other:?}"),
        }
        assert_eq!(life.state(), before, "{steps:?}");
    }
}

#[tokio::test]
async fn nothing_is_touched_where_an_agent_runs() {
    let mut life = Life::new().await;
    life.take(Step::Build);
    let in_use = InUse::default();
    in_use.enter(&life.path);
    let repository = &life.rig.repository;
    assert_eq!(
        repository.prune_builds("Toast", &in_use).await.unwrap(),
        (0, 0)
    );
    assert_eq!(
        life.go(&in_use).await,
        Removal::Kept("its agent runs".to_owned())
    );
    let refused = repository.remove_worktree(life.agent, "Toast", &in_use);
    assert!(refused.await.is_err());
    assert!(life.path.join("target/out").exists());
    in_use.leave(&life.path);
    let (count, bytes) = repository.prune_builds("Toast", &in_use).await.unwrap();
    assert!(count == 1 && bytes >= 100_000, "{count} {bytes}");
    assert!(matches!(life.go(&in_use).await, Removal::Removed(_)));
    assert_eq!(life.go(&in_use).await, Removal::Absent);
}

#[tokio::test]
async fn only_what_git_ignores_is_a_build_folder() {
    let life = Life::new().await;
    let file = |path: &str| {
        let path = life.path.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![1; 50_000]).unwrap();
    };
    // Ignored, ignored with a file that git knows, and not ignored at all.
    file("target/out");
    file("web/target/kept");
    git(&life.path, &["add", "--force", "web/target/kept"]);
    file("web/target/out");
    file("dist/notes.txt");
    let repository = &life.rig.repository;
    let (bytes, builds, _) = repository.measure_worktree("Toast").await.unwrap();
    assert!(
        bytes >= 200_000 && (50_000..100_000).contains(&builds),
        "{bytes} {builds}"
    );
    let (count, _) = repository
        .prune_builds("Toast", &InUse::default())
        .await
        .unwrap();
    assert_eq!(count, 1);
    assert!(!life.path.join("target").exists());
    for left in ["web/target/kept", "web/target/out", "dist/notes.txt"] {
        assert!(life.path.join(left).exists(), "{left}");
    }
    assert_eq!(repository.worktree_names().await, ["Toast"]);
    assert!(repository.measure_rest().await.0 > 0);
}
