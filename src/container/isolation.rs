//! How a container process is walled in: the command line that launches it.
//!
//! Under bubblewrap it sees system folders read-only, its own workspace, its socket's folder, the
//! network, and nothing else of the machine: not the database, not other towns, not the server's
//! environment. It is the first process of a pid namespace, so when it ends, in any way, everything
//! it started ends too. It deliberately does not die with the server: an upgrade must not kill agents.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Error;
use super::git::{PROXIES, TRUST};

/// The program that isolates.
const BUBBLEWRAP: &str = "bwrap";

/// System folders, as far as the machine has them: programs, libraries, certificates, names.
const SYSTEM_FOLDERS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/profile",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/ssh/ssh_config",
    "/etc/ssh/ssh_known_hosts",
    "/etc/timezone",
    "/opt",
];

/// Variables that are passed on beside [`PROXIES`] and [`TRUST`], which git inside needs; everything
/// else of the server's environment stays outside.
const PASSED_ON: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ", "RUST_BACKTRACE"];

/// How a container is walled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// By bubblewrap.
    Bubblewrap,
    /// Not at all: for development, and it has to be asked for.
    None,
}

/// What a container needs to see.
#[derive(Clone, Debug)]
pub struct LaunchPaths {
    /// The `gastownd` program.
    pub program: PathBuf,
    /// The folder of the control socket.
    pub run_dir: PathBuf,
    /// The container's own folder.
    pub workspace: PathBuf,
    /// Other paths it may read, such as an agent program outside the system folders.
    pub extra_read_only: Vec<PathBuf>,
    /// Other paths it may write, such as local repositories.
    pub extra_writable: Vec<PathBuf>,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchCommand {
    /// The program to run.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing else is to be inherited.
    pub environment: Vec<(OsString, OsString)>,
}

/// The command that runs the container with `args` behind its walls. All paths must exist.
///
/// # Errors
/// The isolation's program is not installed, or a path is missing.
pub fn launch_command(
    isolation: Isolation,
    paths: &LaunchPaths,
    args: &[OsString],
) -> Result<LaunchCommand, Error> {
    let environment = environment(&[]);
    match isolation {
        Isolation::None => Ok(LaunchCommand {
            program: paths.program.clone(),
            args: args.to_vec(),
            environment,
        }),
        Isolation::Bubblewrap => {
            let program = find_on_path(BUBBLEWRAP).ok_or_else(|| Error::Isolation {
                program: BUBBLEWRAP,
                reason:
                    "it is not installed (apt install bubblewrap), or set isolation to \"none\""
                        .to_owned(),
            })?;
            let mut walls = walls(paths)?;
            walls.push("--".into());
            walls.push(whole(&paths.program)?.into());
            walls.extend_from_slice(args);
            Ok(LaunchCommand {
                program,
                args: walls,
                environment,
            })
        }
    }
}

/// What a container gets of the server's environment, and these variables as well.
pub(super) fn environment(more: &[&str]) -> Vec<(OsString, OsString)> {
    let names = [PASSED_ON, PROXIES, TRUST, more].concat();
    let set = names.iter().map(|name| (*name, std::env::var_os(name)));
    set.filter_map(|(name, value)| Some((name.into(), value?)))
        .collect()
}

/// Asks the isolation's program for the least it has to do; some machines forbid it.
///
/// # Errors
/// It can't be run here; the reason is its own words and what to do.
pub async fn probe(isolation: Isolation, paths: &LaunchPaths) -> Result<(), Error> {
    let Isolation::Bubblewrap = isolation else {
        return Ok(());
    };
    let probed = LaunchPaths {
        program: PathBuf::from("/bin/true"),
        ..paths.clone()
    };
    let command = launch_command(isolation, &probed, &[])?;
    let output = tokio::process::Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(command.environment)
        .kill_on_drop(true)
        .output();
    let refused = |reason: String| Error::Isolation {
        program: BUBBLEWRAP,
        reason: format!(
            "{reason}; allow unprivileged user namespaces on this machine, or set isolation to \"none\""
        ),
    };
    match tokio::time::timeout(PROBE_TIME_MAX, output).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(refused(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(refused("it does not end".to_owned())),
    }
}

/// bubblewrap takes a few milliseconds.
const PROBE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);

fn walls(paths: &LaunchPaths) -> Result<Vec<OsString>, Error> {
    let mut args: Vec<OsString> = [
        "--unshare-pid",
        // Else bubblewrap is the first process, and it waits for the last one to end by itself.
        "--as-pid-1",
        "--unshare-ipc",
        "--unshare-uts",
        "--new-session",
        // A server that runs as root would pass on what root may do: make devices, mount, look at disks.
        "--cap-drop",
        "ALL",
        "--hostname",
        "gastown",
    ]
    .map(OsString::from)
    .into();
    for folder in SYSTEM_FOLDERS.iter().map(Path::new) {
        bind_system(&mut args, folder);
    }
    args.extend(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"].map(OsString::from));
    // Behind the tmpfs, because any of these may lie in /tmp.
    for path in [&paths.program].into_iter().chain(&paths.extra_read_only) {
        bind(&mut args, "--ro-bind", path)?;
    }
    for path in [&paths.workspace, &paths.run_dir]
        .into_iter()
        .chain(&paths.extra_writable)
    {
        bind(&mut args, "--bind", path)?;
    }
    // What is left of the root is made of nothing but folders to mount on.
    args.extend(["--remount-ro", "/"].map(OsString::from));
    args.extend(["--chdir".into(), whole(&paths.workspace)?.into()]);
    Ok(args)
}

/// A system folder as it is: where `/bin` is a link to `/usr/bin`, it is one inside, too.
fn bind_system(args: &mut Vec<OsString>, folder: &Path) {
    if let Ok(target) = std::fs::read_link(folder)
        && folder.parent() == Some(Path::new("/"))
    {
        args.extend(["--symlink".into(), target.into(), folder.into()]);
    } else {
        args.extend(["--ro-bind-try".into(), folder.into(), folder.into()]);
    }
}

fn bind(args: &mut Vec<OsString>, how: &str, path: &Path) -> Result<(), Error> {
    let path = whole(path)?;
    args.extend([how.into(), path.as_os_str().to_owned(), path.into()]);
    Ok(())
}

/// The path from the root; it must be there, or bubblewrap's own words would be all one gets.
fn whole(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::Workspace {
        path: path.to_owned(),
        source,
    };
    std::fs::metadata(path).map_err(fail)?;
    std::path::absolute(path).map_err(fail)
}

fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(OsStr::new(program)))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        paths: LaunchPaths,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        make("database");
        let paths = LaunchPaths {
            program: PathBuf::from("/bin/sh"),
            run_dir: make("run"),
            workspace: make("workspace"),
            extra_read_only: vec![make("readable")],
            extra_writable: vec![make("writable")],
        };
        Fixture { folder, paths }
    }

    /// Runs a script behind the walls.
    fn inside(fixture: &Fixture, script: &str) -> String {
        let args = [
            "-c".into(),
            script
                .replace("@", &fixture.folder.path().to_string_lossy())
                .into(),
        ];
        let command = launch_command(Isolation::Bubblewrap, &fixture.paths, &args).unwrap();
        let output = Command::new(command.program)
            .args(command.args)
            .env_clear()
            .envs(command.environment)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    #[tokio::test]
    async fn bubblewrap_works_here() {
        probe(Isolation::Bubblewrap, &fixture().paths)
            .await
            .unwrap();
    }

    #[test]
    fn the_container_sees_its_own_and_nothing_else() {
        let fixture = fixture();
        std::fs::write(fixture.folder.path().join("database/secret"), "s").unwrap();
        assert_eq!(
            inside(&fixture, "ls @"),
            "readable\nrun\nworkspace\nwritable"
        );
        assert_eq!(
            inside(&fixture, "ls /root /home 2>/dev/null; pwd"),
            inside(&fixture, "echo @/workspace")
        );
        assert_eq!(
            inside(
                &fixture,
                "echo 1 > @/workspace/x && echo 2 > @/run/y && echo 3 > @/writable/z && cat @/*/*"
            ),
            "2\n1\n3"
        );
        assert!(inside(&fixture, "echo 1 > @/readable/x").contains("Read-only"));
        assert!(inside(&fixture, "echo 1 > /usr/x").contains("Read-only"));
        assert!(inside(&fixture, "git --version").starts_with("git version"));
    }

    #[test]
    fn the_containers_end_is_the_end_of_everything_in_it() {
        let fixture = fixture();
        // What is left sleeping would hold the output open, and this would not come back.
        assert_eq!(inside(&fixture, "sleep 60 & echo $$"), "1");
    }

    #[test]
    fn the_servers_environment_stays_outside() {
        let command =
            launch_command(Isolation::None, &fixture().paths, &["container".into()]).unwrap();
        assert_eq!(command.program, Path::new("/bin/sh"));
        assert_eq!(command.args, [OsString::from("container")]);
        assert!(
            command
                .environment
                .iter()
                .all(|(name, _)| name != "CARGO_MANIFEST_DIR")
        );
    }

    #[test]
    fn a_missing_path_is_named() {
        let mut fixture = fixture();
        fixture.paths.workspace = PathBuf::from("/not/there");
        let error = launch_command(Isolation::Bubblewrap, &fixture.paths, &[]).unwrap_err();
        assert!(error.to_string().contains("/not/there"), "{error}");
    }
}
