//! From arguments to the room that does the work.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use rustix::process::{self, DumpableBehavior};
use tokio::runtime::Builder;

use crate::clock::Clock;
use crate::container::Limits;
use crate::container::control_server::{self, ContainerOptions, TcpOptions};
use crate::container::credential_helper;
use crate::container::git::AllowedRepositories;
use crate::lifecycle::Lifecycle;
use crate::{sdk, telemetry};

use super::arguments::{Arguments, Command, ContainerArguments};
use super::error::Error;
use super::{config_command, demo, replay_command, serve};

const SUCCESS: u8 = 0;
/// The guarded program ended in no ordinary way: its code is no byte.
const UNUSUAL_END: u8 = 255;
/// Work on the blocking pool that is still running when a command has ended has nothing to save.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);

/// Threads for work that blocks; more of it waits. A thread that has just done its work is not idle yet
/// when the next comes, so on a busy machine there are soon as many as there may be, and each keeps
/// memory of its own: a thousand readers behind made 160 of them, and 40 MB.
const BLOCKING_THREADS_MAX: usize = 8;

/// Does what the arguments ask and returns the exit code.
///
/// # Errors
/// If it could not be done; a request for help or the version counts as one (with exit code 0),
/// because then nothing else is done.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<u8, Error> {
    let arguments = Arguments::try_parse_from(arguments).map_err(Error::Arguments)?;
    match arguments.command {
        Command::Serve(flags) => serve::run(flags)?,
        Command::Demo(arguments) => demo::run(arguments)?,
        Command::Config { action } => config_command::run(action)?,
        Command::Replay { record } => replay_command::run(&record)?,
        Command::Container(arguments) => container(*arguments)?,
        Command::Guard { arguments } => {
            let code = sdk::guard::run(arguments)?;
            return Ok(u8::try_from(code).unwrap_or(UNUSUAL_END));
        }
        Command::GitCredential { arguments } => {
            credential_helper::run(&arguments).map_err(Error::Credential)?;
        }
    }
    Ok(SUCCESS)
}

fn container(arguments: ContainerArguments) -> Result<(), Error> {
    telemetry::begin(&arguments.log)?;
    let guard = arguments.guard.map_or_else(own_path, Ok)?;
    let tcp = arguments.listen.zip(arguments.token_file);
    let tcp = tcp.map(|(listen, token_file)| TcpOptions {
        listen,
        token_file,
        announce: arguments.announce,
    });
    let limits = Limits {
        memory_max: arguments.memory_max,
        processes_max: arguments.processes_max,
        open_files_max: arguments.open_files_max,
        recycle_above: arguments.recycle_above,
        hung_after: arguments.hung_after,
        model_wait: arguments.model_wait,
    };
    limits.apply();
    // Agents run as the same user, and must not read the town's secrets out of this process.
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::Shut)?;
    let options = ContainerOptions {
        town_id: arguments.town_id,
        socket: arguments.socket,
        tcp,
        workspace: arguments.workspace,
        agent_program: arguments.agent_program,
        guard,
        linger: arguments.linger,
        drain_time: arguments.drain_time,
        limits,
        allowed: AllowedRepositories {
            local: arguments.allow_local_repos,
            http: arguments.allow_http_repos,
        },
    };
    // One thread: a container waits far more than it works, and there is one per town.
    let work = control_server::run(options, Clock::system(), Lifecycle::new());
    until_ended(&mut Builder::new_current_thread(), work)?.map_err(Error::Container)
}

pub(super) fn own_path() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|source| Error::OwnPath { source })
}

pub(super) fn until_ended<T>(
    builder: &mut Builder,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let runtime = builder
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|source| Error::Runtime { source })?;
    let outcome = runtime.block_on(Box::pin(work));
    runtime.shutdown_timeout(LEFTOVER_GRACE);
    Ok(outcome)
}
