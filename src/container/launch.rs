//! Launching a container's process: its folders, its command line, its log.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::Error;
use super::git::AllowedRepositories;
use super::isolation::{self, Isolation, LaunchPaths};
use super::limits::Limits;
use crate::model::TownId;

/// The end of a container's own log that goes into the reason of its failure.
const LAST_WORDS_BYTES: u64 = 2 << 10;
/// A container's own log is begun anew beyond this size.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// The longest path a unix socket can have (`sun_path`, less the final zero).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// How a town's container is launched.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// The town.
    pub town_id: TownId,
    /// The gastownd program.
    pub program: PathBuf,
    /// The folder of its socket, mode 0700.
    pub run_dir: PathBuf,
    /// The folder it works in.
    pub workspace: PathBuf,
    /// How it is shut off from the rest of the machine.
    pub isolation: Isolation,
    /// How long it goes on without a server.
    pub linger: Duration,
    /// How long its agents may take to finish before it ends.
    pub drain_time: Duration,
    /// The agent program, if not the one on `PATH`.
    pub agent_program: Option<PathBuf>,
    /// Which git urls may be used besides the usual ones.
    pub allowed: AllowedRepositories,
    /// What it may use of the machine.
    pub limits: Limits,
    /// The log filter of the process.
    pub log: String,
}

pub(super) fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

pub(super) fn log_path(run_dir: &Path) -> PathBuf {
    run_dir.join("container.log")
}

/// Where it stands which repositories of this machine a container has in sight, for a server that
/// adopts it.
fn sight_path(run_dir: &Path) -> PathBuf {
    run_dir.join("repositories")
}

/// Whether the container that was launched last has in sight what is there of `repositories`.
pub(super) fn has_in_sight(options: &LaunchOptions, repositories: &[PathBuf]) -> bool {
    if options.isolation == Isolation::None {
        return true;
    }
    let text = std::fs::read_to_string(sight_path(&options.run_dir)).unwrap_or_default();
    let seen: Vec<&Path> = text.lines().map(Path::new).collect();
    let mut present = repositories.iter().filter(|path| path.exists());
    present.all(|path| seen.contains(&path.as_path()))
}

/// Launches the container of `options`, with these repositories of this machine in sight.
///
/// # Errors
/// Its folders can't be had, or the isolation.
pub(super) fn spawn(options: &LaunchOptions, repositories: &[PathBuf]) -> Result<Child, Error> {
    private_dir(&options.run_dir)?;
    private_dir(&options.workspace)?;
    let socket = socket_path(&options.run_dir);
    if socket.as_os_str().len() > SOCKET_PATH_LEN_MAX {
        return Err(Error::Socket {
            path: socket,
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "longer than {SOCKET_PATH_LEN_MAX} bytes: use a data folder with a shorter path"
                ),
            ),
        });
    }
    let log = open_log(&log_path(&options.run_dir))?;
    // One that is not there is the trouble of its own rig, not of the whole town.
    let present = || repositories.iter().filter(|path| path.exists()).cloned();
    let lines: String = present()
        .map(|path| format!("{}\n", path.display()))
        .collect();
    let sight = sight_path(&options.run_dir);
    std::fs::write(&sight, lines).map_err(|source| workspace_error(&sight, source))?;
    let paths = LaunchPaths {
        program: options.program.clone(),
        run_dir: options.run_dir.clone(),
        workspace: options.workspace.clone(),
        // If it is missing, the container says so of each agent that wants it.
        extra_read_only: options
            .agent_program
            .iter()
            .filter(|path| path.exists())
            .cloned()
            .collect(),
        extra_writable: present().collect(),
    };
    let launch =
        isolation::launch_command(options.isolation, &paths, &container_arguments(options))?;
    let errors = log
        .try_clone()
        .map_err(|source| workspace_error(&options.run_dir, source))?;
    Command::new(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors))
        .current_dir(&options.workspace)
        // Apart from the server's terminal and from signals to its group: it outlives it.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(|source| Error::Workspace {
            path: launch.program,
            source,
        })
}

fn container_arguments(options: &LaunchOptions) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = vec![
        "container".into(),
        "--town-id".into(),
        options.town_id.to_string().into(),
        "--socket".into(),
        socket_path(&options.run_dir).into(),
        "--workspace".into(),
        options.workspace.clone().into(),
        "--linger".into(),
        format!("{}s", options.linger.as_secs()).into(),
        "--drain-time".into(),
        format!("{}ms", options.drain_time.as_millis()).into(),
        "--log".into(),
        options.log.clone().into(),
    ];
    let Limits {
        memory_max,
        processes_max,
        open_files_max,
        recycle_above,
        hung_after,
        model_wait,
    } = options.limits;
    for (name, limit) in [
        ("--memory-max", memory_max),
        ("--processes-max", processes_max.into()),
        ("--open-files-max", open_files_max.into()),
        ("--recycle-above", recycle_above),
    ] {
        arguments.extend([name.into(), limit.to_string().into()]);
    }
    for (name, time) in [("--hung-after", hung_after), ("--model-wait", model_wait)] {
        arguments.extend([name.into(), format!("{}ms", time.as_millis()).into()]);
    }
    if let Some(program) = &options.agent_program {
        arguments.extend(["--agent-program".into(), program.into()]);
    }
    if options.allowed.local {
        arguments.push("--allow-local-repos".into());
    }
    if options.allowed.http {
        arguments.push("--allow-http-repos".into());
    }
    arguments
}

fn private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| workspace_error(path, source))
}

fn open_log(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let large = std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    if large {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    options
        .open(path)
        .map_err(|source| workspace_error(path, source))
}

pub(super) fn last_lines(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LAST_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    Ok(lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
}

fn workspace_error(path: &Path, source: io::Error) -> Error {
    Error::Workspace {
        path: path.to_owned(),
        source,
    }
}
