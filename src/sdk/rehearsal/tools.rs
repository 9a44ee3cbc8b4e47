//! What a player can do to the world: files in its directory, and git.

use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::server::Settings;
use crate::sdk::environment::search_path;

/// How long one git command may take; a push over a slow network is the longest.
const GIT_LIMIT: Duration = Duration::from_secs(120);

/// How much of a tool's output is kept, as in opencode.
const OUTPUT_MAX: usize = 30_000;

/// Who commits if nobody said.
const COMMITTER: (&str, &str) = ("Rehearsal", "rehearsal@localhost");

/// What a tool did: shown as the tool part's end state.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) output: String,
    pub(super) metadata: Value,
    pub(super) succeeded: bool,
}

impl Outcome {
    fn done(output: String) -> Self {
        Self {
            output,
            metadata: json!({"truncated": false}),
            succeeded: true,
        }
    }

    pub(super) fn failed(output: String) -> Self {
        Self {
            output,
            metadata: json!({}),
            succeeded: false,
        }
    }
}

/// The file that `path` names; only inside `directory`.
pub(super) fn file_in(directory: &str, path: &str) -> Result<PathBuf, String> {
    let inside = Path::new(path).components().all(|component| {
        matches!(component, Component::Normal(name) if name != ".git")
            || matches!(component, Component::CurDir)
    });
    if inside {
        Ok(Path::new(directory).join(path))
    } else {
        Err(format!("{path} is not inside"))
    }
}

pub(super) async fn write(file: &Path, content: &str) -> Outcome {
    let written = async {
        if let Some(folder) = file.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        tokio::fs::write(file, content).await
    };
    match written.await {
        Ok(()) => Outcome::done("Wrote file successfully.".to_owned()),
        Err(error) => Outcome::failed(format!("can't write {}: {error}", file.display())),
    }
}

pub(super) async fn read(file: &Path) -> Outcome {
    match tokio::fs::read(file).await {
        Ok(bytes) => Outcome::done(bounded(&bytes)),
        Err(error) => Outcome::failed(format!("can't read {}: {error}", file.display())),
    }
}

/// Runs git in `directory` with the agent server's environment. It dies with its turn.
pub(super) async fn git(settings: &Settings, directory: &str, arguments: &[String]) -> Outcome {
    let mut command = Command::new("git");
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", &settings.home)
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_EDITOR", "true")
        .env("GIT_AUTHOR_NAME", COMMITTER.0)
        .env("GIT_AUTHOR_EMAIL", COMMITTER.1)
        .env("GIT_COMMITTER_NAME", COMMITTER.0)
        .env("GIT_COMMITTER_EMAIL", COMMITTER.1)
        .envs(&settings.env)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match timeout(GIT_LIMIT, command.output()).await {
        Ok(Ok(ended)) => {
            let output = bounded(&[ended.stdout, ended.stderr].concat());
            Outcome {
                metadata: json!({
                    "output": output, "exit": ended.status.code(), "truncated": false,
                }),
                output,
                succeeded: ended.status.success(),
            }
        }
        Ok(Err(error)) => Outcome::failed(format!("can't run git: {error}")),
        Err(_) => Outcome::failed(format!("git did not end within {GIT_LIMIT:?}")),
    }
}

fn bounded(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_outside_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../../x", ".git/config"] {
            assert!(file_in("/w", path).is_err(), "{path}");
        }
        assert_eq!(file_in("/w", "./a/b.md").unwrap(), Path::new("/w/./a/b.md"));
    }
}
