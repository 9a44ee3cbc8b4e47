//! The town's ssh key, held by an `ssh-agent` of the container's own.
//!
//! The key goes from the config in memory to that program's memory, through a pipe. Whoever may push can have
//! something signed, but nobody can read the key: it stands in no file, argument or environment.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use crate::config::GitAuth;
use crate::container::Error;
use crate::container::git::{Git, SshFiles};
use crate::lifecycle::Lifecycle;

/// How long the agent may take until it answers, and to take a key in.
const AGENT_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is looked for meanwhile.
const START_POLL: Duration = Duration::from_millis(10);
/// Requests wait for it, and there are a few at a time.
const ORDERS_MAX: usize = 64;

/// Makes ssh ready for what a town's config says; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Ssh(mpsc::Sender<Order>);

struct Order {
    auth: GitAuth,
    done: oneshot::Sender<Result<(), Error>>,
}

impl Ssh {
    /// `socket` is where the agent is going to answer; `git` runs programs that end with this one.
    ///
    /// # Errors
    /// ssh's files can't be written.
    pub(super) async fn start(
        files: SshFiles,
        socket: PathBuf,
        git: Git,
        lifecycle: &Lifecycle,
    ) -> Result<Self, Error> {
        // ssh refuses to run without its config, and other towns' work needs no key.
        files.write(None, None).await?;
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let keeper = Keeper {
            files,
            socket,
            git,
            agent: None,
            generation: 0,
            in_force: GitAuth::default(),
        };
        lifecycle.spawn_detached("ssh's keeper", keeper.run(waiting));
        Ok(Self(orders))
    }

    /// Puts the key and the known hosts of a config in force, if they are not. One that can't be used
    /// is in force neither.
    ///
    /// # Errors
    /// What is wrong with the key, or why it can't be held.
    pub(super) async fn use_for(&self, auth: &GitAuth) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        let order = Order {
            auth: auth.clone(),
            done,
        };
        let ended = |text: &str| Error::SshKey {
            text: text.to_owned(),
        };
        let sent = self.0.send(order).await;
        sent.map_err(|_| ended("the container ends"))?;
        outcome.await.map_err(|_| ended("the container ends"))?
    }
}

struct Keeper {
    files: SshFiles,
    /// What its name begins with; each agent has one of its own, because one that ends removes its own.
    socket: PathBuf,
    git: Git,
    agent: Option<Child>,
    generation: u64,
    /// What the agent and ssh's files were made from.
    in_force: GitAuth,
}

impl Keeper {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order { auth, done }) = orders.recv().await {
            let taken = tokio::time::timeout(AGENT_TIME_MAX, self.take(&auth));
            let result = taken.await.unwrap_or_else(|_| {
                Err(Error::SshKey {
                    text: format!(
                        "ssh-agent did not answer within {} s",
                        AGENT_TIME_MAX.as_secs()
                    ),
                })
            });
            if result.is_err() {
                self.end_agent();
            }
            // Who asked may have gone; it is in force all the same.
            let _ = done.send(result);
        }
    }

    async fn take(&mut self, auth: &GitAuth) -> Result<(), Error> {
        let is_held = auth.ssh_key.is_none() || self.agent_lives();
        let same = auth.ssh_key == self.in_force.ssh_key
            && auth.ssh_known_hosts == self.in_force.ssh_known_hosts;
        if same && is_held {
            return Ok(());
        }
        self.end_agent();
        let known_hosts = auth.ssh_known_hosts.as_deref();
        match &auth.ssh_key {
            None => self.files.write(known_hosts, None).await?,
            Some(key) => {
                let socket = self.start_agent().await?;
                add(&socket, key).await?;
                self.files.write(known_hosts, Some(&socket)).await?;
            }
        }
        self.in_force = auth.clone();
        Ok(())
    }

    fn agent_lives(&mut self) -> bool {
        let agent = self.agent.as_mut();
        agent.is_some_and(|agent| matches!(agent.try_wait(), Ok(None)))
    }

    fn end_agent(&mut self) {
        // Its guard sees that nobody holds the other end of its input any more, and ends it.
        self.agent = None;
        self.in_force = GitAuth::default();
        // It may be gone already.
        let _ = std::fs::remove_file(self.own_socket());
    }

    fn own_socket(&self) -> PathBuf {
        let mut name = self.socket.clone().into_os_string();
        name.push(self.generation.to_string());
        name.into()
    }

    /// The socket of a new one.
    async fn start_agent(&mut self) -> Result<PathBuf, Error> {
        self.generation += 1;
        let socket = self.own_socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot("ssh-agent's socket", &error));
            }
            _ => {}
        }
        let mut command = self.git.lasting("ssh-agent");
        let agent = command
            .args(["-D", "-a"])
            .arg(&socket)
            .env_clear()
            .envs(environment(&socket))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot("ssh-agent", &error))?;
        let agent = self.agent.insert(agent);
        while UnixStream::connect(&socket).await.is_err() {
            if let Ok(Some(status)) = agent.try_wait() {
                return Err(Error::SshKey {
                    text: format!("ssh-agent ended ({status}); it comes with openssh-client"),
                });
            }
            tokio::time::sleep(START_POLL).await;
        }
        Ok(socket)
    }
}

/// Gives the key to the agent behind that socket.
async fn add(socket: &Path, key: &str) -> Result<(), Error> {
    let mut adding = tokio::process::Command::new("ssh-add")
        .args(["-q", "-"])
        .env_clear()
        .envs(environment(socket))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot("ssh-add", &error))?;
    if let Some(mut input) = adding.stdin.take() {
        // It reads no key without the last line's end, and none with a carriage return.
        let text = format!("{}\n", key.replace('\r', "").trim());
        // If it does not read, it says why.
        let _ = input.write_all(text.as_bytes()).await;
    }
    let output = adding.wait_with_output().await;
    let output = output.map_err(|error| cannot("ssh-add", &error))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::SshKey {
        text: text.trim().to_owned(),
    })
}

fn cannot(what: &str, error: &std::io::Error) -> Error {
    Error::SshKey {
        text: format!("{what}: {error}"),
    }
}

fn environment(socket: &Path) -> [(&'static str, std::ffi::OsString); 4] {
    [
        ("PATH", std::env::var_os("PATH").unwrap_or_default()),
        ("LC_ALL", "C".into()),
        ("SSH_AUTH_SOCK", socket.into()),
        // Nobody is there to tell a passphrase.
        ("SSH_ASKPASS_REQUIRE", "never".into()),
    ]
}
