//! Launching a container's process: its folders, its command line, its log.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::Error;
use super::git::AllowedRepositories;
use super::isolation::{self, Isolation, LaunchPaths};
use super::launcher;
use super::limits::Limits;
use super::wire::{Contact, Endpoint, LISTENING, Token};
use crate::config::{LauncherTemplate, Place};
use crate::model::TownId;

/// The end of a container's own log that goes into the reason of its failure.
const LAST_WORDS_BYTES: u64 = 2 << 10;
/// A container's own log is begun anew beyond this size.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// How much of what a container says first is searched for its address.
const TOLD_BYTES_MAX: u64 = 64 << 10;
/// The longest path a unix socket can have (`sun_path`, less the final zero).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// How a town's container is launched.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// The town.
    pub town_id: TownId,
    /// The gastownd program.
    pub program: PathBuf,
    /// The operator's own launcher, instead of the program behind its walls.
    pub launcher: Option<LauncherTemplate>,
    /// Where it listens on TCP, instead of on its socket.
    pub listen: Option<SocketAddr>,
    /// The folder of its socket, mode 0700. The container sees it.
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

/// Where the container finds what will be shown to it on TCP, until it is up.
fn token_path(run_dir: &Path) -> PathBuf {
    run_dir.join("token")
}

/// Where a server finds a container that listens on TCP, beside the folder that the container sees.
fn contact_path(run_dir: &Path) -> PathBuf {
    run_dir.with_extension("contact")
}

/// Where it stands which repositories of this machine a container has in sight, for a server that
/// adopts it.
fn sight_path(run_dir: &Path) -> PathBuf {
    run_dir.join("repositories")
}

/// Whether the container that was launched last has in sight what is there of `repositories`.
pub(super) fn has_in_sight(options: &LaunchOptions, repositories: &[PathBuf]) -> bool {
    // A launcher's walls are the operator's business.
    if options.isolation == Isolation::None || options.launcher.is_some() {
        return true;
    }
    let text = std::fs::read_to_string(sight_path(&options.run_dir)).unwrap_or_default();
    let seen: Vec<&Path> = text.lines().map(Path::new).collect();
    let mut present = repositories.iter().filter(|path| path.exists());
    present.all(|path| seen.contains(&path.as_path()))
}

/// A container that was just launched.
pub(super) struct Launched {
    pub(super) child: Child,
    /// Where in the container's own log its words begin.
    pub(super) log_begin: u64,
}

/// Launches the container of `options`, with these repositories of this machine in sight.
///
/// # Errors
/// Its folders can't be had, or the isolation.
pub(super) fn spawn(options: &LaunchOptions, repositories: &[PathBuf]) -> Result<Launched, Error> {
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
    let log_begin = log
        .metadata()
        .map_err(|source| workspace_error(&options.run_dir, source))?
        .len();
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
    let arguments = container_arguments(options);
    let launch = match &options.launcher {
        None => isolation::launch_command(options.isolation, &paths, &arguments)?,
        Some(template) => {
            launcher::launch_command(template, |place| filled(place, options), &arguments)
        }
    };
    if options.listen.is_some() {
        // Where an earlier one was, and what it wanted to be shown, is not true of this one.
        let (token, contact) = (Token::random(), contact_path(&options.run_dir));
        let shown = token_path(&options.run_dir);
        token
            .write(&shown)
            .map_err(|source| workspace_error(&shown, source))?;
        let address = None;
        Contact { token, address }
            .write(&contact)
            .map_err(|source| workspace_error(&contact, source))?;
    }
    let errors = log
        .try_clone()
        .map_err(|source| workspace_error(&options.run_dir, source))?;
    let child = Command::new(&launch.program)
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
        .map_err(|source| Error::Program {
            path: launch.program,
            source,
        })?;
    Ok(Launched { child, log_begin })
}

/// Ends what was launched: a launcher's own children as well.
pub(super) async fn kill(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = pid.and_then(Pid::from_raw) {
        // It fails only if the group is gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait().await;
}

fn filled(place: Place, options: &LaunchOptions) -> OsString {
    match place {
        Place::Program => options.program.clone().into(),
        Place::RunDir => options.run_dir.clone().into(),
        Place::Workspace => options.workspace.clone().into(),
        Place::TokenFile => token_path(&options.run_dir).into(),
        Place::Town => options.town_id.to_string().into(),
    }
}

/// Where the container of `options` answers.
pub(super) fn endpoint(options: &LaunchOptions) -> Endpoint {
    match options.listen {
        None => Endpoint::Socket(socket_path(&options.run_dir)),
        Some(_) => Endpoint::Tcp(contact_path(&options.run_dir)),
    }
}

/// Notes where a container answers that was launched when its log was `begin` long, if it has said so.
pub(super) fn note_address(run_dir: &Path, begin: u64) -> Result<bool, Error> {
    let log = log_path(run_dir);
    let text = read_from(&log, begin).map_err(|source| workspace_error(&log, source))?;
    // A line without its end is not all there yet.
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut told = lines.filter_map(|line| Some(line.split_once(LISTENING)?.1.trim().to_owned()));
    let Some(address) = told.next_back() else {
        return Ok(false);
    };
    let path = contact_path(run_dir);
    let noted = Contact::read(&path).and_then(|contact| {
        let address = Some(address);
        Contact { address, ..contact }.write(&path)
    });
    noted.map_err(|source| workspace_error(&path, source))?;
    Ok(true)
}

/// Takes the token out of the container's sight: it has read it, and its agents need not.
pub(super) fn hide_token(run_dir: &Path) {
    let path = token_path(run_dir);
    // Emptied as well, because a launcher may have shown this one file to the container.
    let hidden = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .and_then(|_| std::fs::remove_file(&path));
    match hidden {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a container's token stays where its agents can read it");
        }
        _ => {}
    }
}

fn read_from(path: &Path, begin: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(TOLD_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn container_arguments(options: &LaunchOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
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
    if let Some(listen) = options.listen {
        arguments.extend(["--listen".into(), listen.to_string().into()]);
        arguments.extend(["--token-file".into(), token_path(&options.run_dir).into()]);
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
