//! What happens between an accepted start and the session: repository, worktree, agent server,
//! tools, session. Runs in a task of its own that may be cut off at any point.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::agent::Session;
use super::command::{Command, Failure, Prepared, Run};
use super::server::RunningServer;
use crate::config::ResolvedTownConfig;
use crate::container::git::{
    AllowedRepositories, BranchName, GitUrl, Identity, Repository, WorktreeTask,
};
use crate::container::protocol::{ExitKind, StartAgent};
use crate::container::{Error, workspace};
use crate::sdk::{McpServer, SessionId};

/// The name under which the server's tools are registered: agents see `gt_<tool>`.
const TOOLS_NAME: &str = "gt";

/// The branch that work begins from where the request names none.
const DEFAULT_BRANCH: &str = "main";

/// Where an agent is going to work.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A worktree of a repository.
    Worktree(Repository, WorktreeTask),
    /// A plain directory.
    Directory(PathBuf),
}

impl Place {
    /// Reads the place out of a request.
    pub(super) fn of(
        start: &StartAgent,
        workspace: &Path,
        allowed: AllowedRepositories,
        repository: impl FnOnce(crate::model::RigId) -> Repository,
    ) -> Result<Self, String> {
        let Some(url) = &start.git_url else {
            let name = workspace::folder_name(&start.name, &start.agent_id.short());
            return Ok(Self::Directory(workspace.join("agents").join(name)));
        };
        let rig = start.rig_id.ok_or("a start with gitUrl needs a rigId")?;
        let sound = |result: Result<BranchName, Error>| result.map_err(|error| error.to_string());
        let task = WorktreeTask {
            url: GitUrl::parse(url, allowed).map_err(|error| error.to_string())?,
            agent_id: start.agent_id,
            agent_name: start.name.clone(),
            identity: identity_of(start),
            branch: match &start.branch {
                Some(branch) => sound(BranchName::parse(branch))?,
                None => return Err("a start with gitUrl needs a branch".to_owned()),
            },
            default_branch: sound(BranchName::parse(
                start.default_branch.as_deref().unwrap_or(DEFAULT_BRANCH),
            ))?,
        };
        Ok(Self::Worktree(repository(rig), task))
    }
}

impl Place {
    /// The folder.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Directory(path) => path.clone(),
            Self::Worktree(repository, task) => {
                repository.worktree_of(task.agent_id, &task.agent_name)
            }
        }
    }
}

/// Who the agent's commits are by.
fn identity_of(start: &StartAgent) -> Identity {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_control() && !"<>".contains(*c))
            .take(100)
            .collect()
    };
    let local: String = start
        .identity
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    Identity {
        name: plain(&start.name),
        email: format!("{local}@gastown.invalid"),
    }
}

/// One start.
pub(super) struct StartTask {
    pub(super) run: Run,
    pub(super) start: StartAgent,
    pub(super) place: Place,
    pub(super) config: Arc<ResolvedTownConfig>,
    pub(super) commands: mpsc::Sender<Command>,
}

impl StartTask {
    /// Prepares everything; the result comes as [`Command::Prepared`].
    pub(super) async fn run(self) {
        let prepared = self.prepare().await;
        // Nobody listens any more only when the fleet has ended.
        let _ = self
            .commands
            .send(Command::Prepared(self.run, prepared))
            .await;
    }

    async fn prepare(&self) -> Result<Prepared, Failure> {
        // The agent server needs seconds to start, so it does that beside the clone.
        let (place, server) = tokio::join!(self.make_place(), self.server());
        let (directory, branch) = place?;
        let server = server?;
        let client = server.client();
        let tools = McpServer {
            name: TOOLS_NAME.to_owned(),
            url: format!(
                "{}/mcp/{}",
                self.config.gastown_api_url.trim_end_matches('/'),
                self.start.agent_id
            ),
            bearer_token: self.start.agent_token.clone(),
        };
        client
            .add_mcp(&directory, &tools)
            .await
            .map_err(session_failure)?;
        let (id, resumed) = self
            .session(&server, &directory)
            .await
            .map_err(session_failure)?;
        Ok(Prepared {
            session: Session { id, directory },
            resumed,
            branch,
        })
    }

    async fn make_place(&self) -> Result<(PathBuf, Option<String>), Failure> {
        match &self.place {
            Place::Directory(path) => {
                workspace::make_folder(path)
                    .await
                    .map_err(|error| failure(&error))?;
                Ok((path.clone(), None))
            }
            Place::Worktree(repository, task) => {
                let made = Box::pin(repository.prepare_worktree(task)).await;
                let worktree = made.map_err(|error| failure(&error))?;
                if let Some(saved) = worktree.saved {
                    tracing::info!(agent = %self.run.0, branch = %saved, "saved uncommitted work");
                }
                Ok((worktree.path, Some(worktree.branch.to_string())))
            }
        }
    }

    async fn server(&self) -> Result<Arc<RunningServer>, Failure> {
        let ended = || Failure {
            kind: ExitKind::AgentServer,
            reason: "the container ends".to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::NeedServer(self.run, self.config.clone(), reply))
            .await
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    async fn session(
        &self,
        server: &RunningServer,
        directory: &Path,
    ) -> Result<(SessionId, bool), crate::sdk::Error> {
        let sessions = server.client().session();
        if let Some(id) = &self.start.session_id {
            let id = SessionId::new(id.as_str());
            if sessions.resume(directory, &id).await? {
                return Ok((id, true));
            }
        }
        let title = format!("{} ({})", self.start.name, self.start.role);
        Ok((sessions.create(directory, &title).await?, false))
    }
}

fn failure(error: &Error) -> Failure {
    let fallback = match error {
        Error::Git {
            command: "clone" | "fetch" | "init" | "config",
            ..
        }
        | Error::GitTimedOut {
            command: "clone" | "fetch",
            ..
        } => ExitKind::Repository,
        _ => ExitKind::Worktree,
    };
    Failure {
        kind: error.exit_kind(fallback),
        reason: error.story(),
    }
}

pub(super) fn session_failure(error: crate::sdk::Error) -> Failure {
    let error = Error::from(error);
    Failure {
        kind: error.exit_kind(ExitKind::Session),
        reason: error.story(),
    }
}
