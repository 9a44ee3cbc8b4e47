//! The life of one agent server: started, ready, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::acp::{Acp, Settings};
use super::client::Link;
use super::connection::{Connections, basic};
use super::environment::{
    Dialect, KILO, OPENCODE, Setting, environment, plain_environment, search_path,
};
use super::process::{Launch, Process};
use super::rehearsal::{self, Rehearsal};
use super::{AgentServerKind, Client, Error};
use crate::lifecycle::Lifecycle;

/// How long an agent server may take to listen. Kilo needs 4-10 s on two idle cores, and was seen to
/// need more than 30 s when they were busy; slow is not broken.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What to start and where.
#[derive(Clone, Debug)]
pub struct AgentServerOptions {
    /// Which agent server.
    pub kind: AgentServerKind,
    /// The program; `None`: `opencode` or `kilo` on `PATH`. The rehearsal needs none, and for the
    /// Agent Client Protocol the config has the whole command.
    pub program: Option<PathBuf>,
    /// The gastownd program, whose hidden subcommand `guard` watches over the agent program.
    pub guard: PathBuf,
    /// A private home folder, made with mode 0700.
    pub home: PathBuf,
    /// The working directory of the process.
    pub directory: PathBuf,
    /// The agent server's whole config.
    pub config: serde_json::Value,
    /// Added to a minimal environment.
    pub env: BTreeMap<String, String>,
    /// How long it may take to be ready, usually [`READY_TIMEOUT`].
    pub ready_timeout: Duration,
}

/// How an agent server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerExit {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The end of what it printed.
    pub output: String,
}

impl fmt::Display for ServerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (_, Some(signal)) => write!(f, "it was ended by signal {signal}")?,
            (Some(code), None) => write!(f, "it ended with code {code}")?,
            (None, None) => f.write_str("it ended")?,
        }
        if self.output.is_empty() {
            f.write_str(" and had printed nothing")
        } else {
            write!(f, "; its last output: {}", self.output)
        }
    }
}

/// A running agent server. Dropping it ends the server.
#[derive(Debug)]
pub struct AgentServer {
    client: Client,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Process(Process),
    Rehearsal(Rehearsal),
}

/// Starts an agent server and waits until it is ready.
pub async fn create_agent_server(
    options: AgentServerOptions,
    lifecycle: &Lifecycle,
) -> Result<AgentServer, Error> {
    prepare_home(&options.home)?;
    match options.kind {
        AgentServerKind::Opencode => start_program(OPENCODE, options, lifecycle).await,
        AgentServerKind::Kilo => start_program(KILO, options, lifecycle).await,
        AgentServerKind::Acp => start_acp(options, lifecycle).await,
        AgentServerKind::Rehearsal => start_rehearsal(options, lifecycle).await,
    }
}

impl AgentServer {
    /// The client of this server.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The process that stands for the server (its guard), if it is a process.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match &self.body {
            Body::Process(process) => Some(process.pid()),
            Body::Rehearsal(_) => None,
        }
    }

    /// Resolves when the server has ended, for any number of callers.
    pub async fn exited(&self) -> ServerExit {
        match &self.body {
            Body::Process(process) => process.exited().await,
            Body::Rehearsal(rehearsal) => rehearsal.exited().await,
        }
    }

    /// Asks the server to end, and ends it by force after `grace`. Idempotent; afterwards nothing
    /// of it runs.
    pub async fn stop(&self, grace: Duration) {
        match &self.body {
            Body::Process(process) => process.stop(grace).await,
            Body::Rehearsal(rehearsal) => rehearsal.stop().await,
        }
    }
}

async fn start_program(
    dialect: Dialect,
    options: AgentServerOptions,
    lifecycle: &Lifecycle,
) -> Result<AgentServer, Error> {
    let program = find_program(options.program.unwrap_or_else(|| dialect.name.into()))?;
    let password = random_password();
    let launch = Launch {
        guard: &options.guard,
        program,
        args: ["serve", "--hostname=127.0.0.1", "--port=0"]
            .map(Into::into)
            .into(),
        directory: &options.directory,
        environment: environment(&Setting {
            dialect,
            home: &options.home,
            config: &options.config,
            password: &password,
            env: &options.env,
        }),
    };
    let process = Process::start(launch, lifecycle).map_err(|source| Error::Guard {
        program: options.guard,
        source,
    })?;
    let url = ready(&process, options.kind, options.ready_timeout).await?;
    let Some(authority) = authority_of(&url) else {
        process.stop(Duration::ZERO).await;
        let reason = format!("it listens on {url:?}");
        return Err(Error::BadAnswer {
            call: format!("start of {}", options.kind),
            reason,
        });
    };
    let connections = Connections::new(authority, basic(dialect.name, &password), lifecycle);
    Ok(AgentServer {
        client: Client::new(Link::Http(connections)),
        body: Body::Process(process),
    })
}

/// The address that the program says it listens on. If it says none, nothing of it is left.
async fn ready(
    process: &Process,
    kind: AgentServerKind,
    ready_timeout: Duration,
) -> Result<String, Error> {
    tokio::select! {
        biased;
        url = process.output().listening() => Ok(url),
        exit = process.exited() => Err(Error::Exited { kind, exit }),
        () = tokio::time::sleep(ready_timeout) => {
            process.stop(Duration::ZERO).await;
            let output = process.output().last();
            Err(Error::NotReady { kind, waited: ready_timeout, output })
        }
    }
}

/// A program that speaks the Agent Client Protocol: it knows its own models, keys and log-in.
async fn start_acp(
    options: AgentServerOptions,
    lifecycle: &Lifecycle,
) -> Result<AgentServer, Error> {
    let settings = Settings::of(&options.config);
    let mut command = settings.command.iter();
    let program = command.next().map(PathBuf::from).unwrap_or_default();
    let launch = Launch {
        guard: &options.guard,
        program: find_program(program)?,
        args: command.map(Into::into).collect(),
        directory: &options.directory,
        environment: plain_environment(&options.home, &options.env),
    };
    let (process, acp) = Acp::start(launch, &settings, options.ready_timeout, lifecycle).await?;
    Ok(AgentServer {
        client: Client::new(Link::Acp(acp)),
        body: Body::Process(process),
    })
}

async fn start_rehearsal(
    options: AgentServerOptions,
    lifecycle: &Lifecycle,
) -> Result<AgentServer, Error> {
    let password = random_password();
    let settings = rehearsal::Settings {
        password: password.clone(),
        pace: rehearsal::pace_in(&options.config),
        env: options.env,
        home: options.home.clone(),
    };
    let rehearsal = Rehearsal::start(settings)
        .await
        .map_err(|source| Error::Home {
            path: options.home,
            source,
        })?;
    let authority = rehearsal.address().to_string();
    let connections = Connections::new(authority, basic(rehearsal::USER, &password), lifecycle);
    Ok(AgentServer {
        client: Client::new(Link::Http(connections)),
        body: Body::Rehearsal(rehearsal),
    })
}

fn prepare_home(home: &Path) -> Result<(), Error> {
    let failed = |source| Error::Home {
        path: home.to_owned(),
        source,
    };
    std::fs::create_dir_all(home).map_err(failed)?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// The program's file: as given if that is a path, else on our `PATH`.
fn find_program(program: PathBuf) -> Result<PathBuf, Error> {
    let is_program = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let found = if program.components().count() > 1 {
        Some(program.clone()).filter(is_program)
    } else {
        std::env::split_paths(&search_path())
            .map(|folder| folder.join(&program))
            .find(is_program)
    };
    found.ok_or(Error::ProgramMissing { program })
}

/// 244 random bits, made anew for every start and known to nobody else.
fn random_password() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

fn authority_of(url: &str) -> Option<String> {
    let url: hyper::Uri = url.parse().ok()?;
    url.port()?;
    url.authority()
        .map(|authority| authority.as_str().to_owned())
}
