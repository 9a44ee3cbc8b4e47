//! The Debian package: built, installed into a fresh Debian 12, run there, removed and purged.
//!
//! Needs root (or `sudo` without a question), debootstrap and cargo-deb; `tests/run` sees to them.
//! The fresh system is made once and kept as an archive in the cache folder.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::program::Program;

// Pinned where it is installed.
const TESTS_RUN: &str = include_str!("../run");
// The package's dependencies are in the base, so that installing it needs no network; `systemd` is
// there to judge the unit file. A changed list needs a new name.
const BASE_ARCHIVE: &str = "debian-12-root-1.tar";
const BASE_PACKAGES: &str = "adduser,bubblewrap,ca-certificates,git,systemd";
// A server that takes longer than this to answer is broken, whatever the machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn installs_runs_and_leaves_nothing() {
    let package = build_package();
    let root = Root::fresh();

    root.install(package.path());
    check_files(&root);
    root.run(&["systemd-analyze", "verify", "gastownd.service"]);
    root.run(&[
        "gastownd",
        "config",
        "check",
        "--config",
        "/etc/gastownd/gastownd.toml",
    ]);
    check_server(&root);

    root.run(&["apt-get", "remove", "--yes", "gastownd"]);
    assert!(!root.holds("usr/bin/gastownd"));
    assert!(
        root.holds("etc/gastownd/gastownd.toml"),
        "the config stays until a purge"
    );
    assert!(root.holds("var/lib/gastownd/"), "data stays until a purge");

    root.run(&["dpkg", "--purge", "gastownd"]);
    for gone in [
        "etc/gastownd",
        "var/lib/gastownd",
        "usr/lib/systemd/system/gastownd.service",
        "etc/systemd/system/multi-user.target.wants/gastownd.service",
    ] {
        assert!(!root.holds(gone), "{gone} is left after the purge");
    }
    assert!(!root.run(&["cat", "/etc/passwd"]).contains("gastownd"));
    assert_eq!(root.processes(), Vec::<String>::new(), "processes are left");
}

fn check_files(root: &Root) {
    let stat = |path: &str| {
        root.run(&["stat", "-c", "%A %U:%G", path])
            .trim()
            .to_owned()
    };
    for program in ["/usr/bin/gastownd", "/usr/bin/gastownd-bench"] {
        assert_eq!(stat(program), "-rwxr-xr-x root:root");
    }
    assert_eq!(stat("/etc/gastownd/gastownd.toml"), "-rw-r--r-- root:root");
    assert_eq!(stat("/var/lib/gastownd"), "drwx------ gastownd:gastownd");
    assert_eq!(
        stat("/usr/lib/systemd/system/gastownd.service"),
        "-rw-r--r-- root:root"
    );
    assert!(root.holds("usr/share/doc/gastownd/copyright"));
    assert!(root.holds("etc/systemd/system/multi-user.target.wants/gastownd.service"));

    let account = root.run(&["getent", "passwd", "gastownd"]);
    let fields: Vec<_> = account.trim().split(':').collect();
    let uid: u32 = fields[2].parse().unwrap();
    assert!((100..1000).contains(&uid), "a system user: {account}");
    assert_eq!(fields[5..], ["/var/lib/gastownd", "/usr/sbin/nologin"]);

    let version = root.run(&["gastownd", "--version"]);
    assert_eq!(
        version.trim(),
        concat!("gastownd ", env!("CARGO_PKG_VERSION"))
    );
}

fn check_server(root: &Root) {
    let serve = ["gastownd", "serve", "--no-auth", "--listen", "127.0.0.1:0"];
    let mut server = Program::start(&mut root.command(Some("gastownd"), &serve));
    let address = server.told_after("listening on http://");
    let answer = get(&address, "/health");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    let page = get(&address, "/");
    assert!(page.contains("<title>gastown</title>"), "{page}");
    let status = server.terminate();
    assert!(status.success(), "after SIGTERM: {status}");

    let table = root.run(&["gastownd-bench", "--quick", "http"]);
    assert!(table.contains("POST bead"), "{table}");
}

/// The package of this very source, in a temporary folder.
fn build_package() -> TempPackage {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    output_of(build, "cargo build --release");
    let (_, pinned) = TESTS_RUN
        .split_once("CARGO_DEB_VERSION=")
        .expect("tests/run pins it");
    let version = pinned.lines().next().expect("a line");
    let cargo_deb = cache().join(format!("cargo-deb-{version}/bin/cargo-deb"));
    assert!(
        cargo_deb.exists(),
        "{} is missing: tests/run installs it",
        cargo_deb.display()
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("gastownd.deb");
    let pack = Command::new(cargo_deb)
        .args(["--quiet", "--no-build", "--locked", "--output"])
        .arg(&file)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    output_of(pack, "cargo-deb");
    TempPackage {
        _folder: folder,
        file,
    }
}

struct TempPackage {
    _folder: TempDir,
    file: PathBuf,
}

impl TempPackage {
    fn path(&self) -> &Path {
        &self.file
    }
}

/// A fresh Debian in a folder.
struct Root(PathBuf);

impl Root {
    fn fresh() -> Self {
        let base = base_archive();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // Its files belong to root, so it is removed by `Drop` below.
        let root = Self(folder.keep());
        let unpack = as_root("tar")
            .arg("-xpf")
            .arg(base)
            .arg("-C")
            .arg(&root.0)
            .output();
        output_of(unpack, "tar");
        root
    }

    fn install(&self, package: &Path) {
        let copied = as_root("cp")
            .arg(package)
            .arg(self.0.join("gastownd.deb"))
            .output();
        output_of(copied, "cp");
        self.run(&["apt-get", "install", "--yes", "/gastownd.deb"]);
    }

    /// A command in the root, with a `/proc` of its own that goes when the command does.
    fn command(&self, user: Option<&str>, words: &[&str]) -> Command {
        const ENTER: &str = r#"mount -t proc proc "$1/proc" &&
            exec chroot ${2:+--userspec="$2:$2"} "$1" "${@:3}""#;
        let mut command = as_root("unshare");
        command
            .args(["--mount", "bash", "-c", ENTER, "enter"])
            .arg(&self.0)
            .arg(user.unwrap_or(""))
            .args([
                "/usr/bin/env",
                "-i",
                "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive",
            ])
            .arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin")
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end and returns what it printed.
    fn run(&self, words: &[&str]) -> String {
        output_of(self.command(None, words).output(), &words.join(" "))
    }

    /// Whether the path exists; a final slash asks for a folder that holds something.
    fn holds(&self, path: &str) -> bool {
        let path = self.0.join(path);
        let listed = as_root("ls").arg("-A").arg(&path).output().unwrap();
        let folder = path.as_os_str().to_string_lossy().ends_with('/');
        listed.status.success() && !(folder && listed.stdout.is_empty())
    }

    /// The processes that have it as their root folder.
    fn processes(&self) -> Vec<String> {
        let script = "ls -ld /proc/[0-9]*/root 2>/dev/null || true";
        let listed = output_of(as_root("sh").args(["-c", script]).output(), "ls /proc");
        let root = self.0.to_string_lossy();
        listed
            .lines()
            .filter(|line| line.contains(&*root))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let removed = as_root("rm")
            .args(["-rf", "--one-file-system"])
            .arg(&self.0)
            .status();
        if !std::thread::panicking() {
            assert!(removed.is_ok_and(|status| status.success()));
        }
    }
}

/// The archive of a fresh Debian, made if it isn't in the cache.
fn base_archive() -> PathBuf {
    let archive = cache().join(BASE_ARCHIVE);
    if archive.exists() {
        return archive;
    }
    let folder = tempfile::tempdir_in(cache()).unwrap();
    let root = folder.path().join("root");
    let made = as_root("debootstrap")
        .args(["--variant=minbase", "--include", BASE_PACKAGES, "bookworm"])
        .arg(&root)
        .output();
    output_of(made, "debootstrap");
    // Downloads that nobody installs again; two thirds of the archive.
    let _ = as_root("sh")
        .arg("-c")
        .arg(r#"rm -f "$0"/var/cache/apt/archives/*.deb"#)
        .arg(&root)
        .status();
    let partial = folder.path().join("root.tar");
    let packed = as_root("tar")
        .arg("-cpf")
        .arg(&partial)
        .arg("-C")
        .arg(&root)
        .arg(".")
        .output();
    output_of(packed, "tar");
    let removed = as_root("rm").arg("-rf").arg(&root).output();
    output_of(removed, "rm");
    fs::rename(&partial, &archive).unwrap();
    archive
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn cache() -> PathBuf {
    let folder = std::env::var_os("GASTOWND_CACHE").map_or_else(
        || Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache/gastownd"),
        PathBuf::from,
    );
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// What a command printed, if it ran well; otherwise the test ends with all it said.
#[track_caller]
fn output_of(output: std::io::Result<std::process::Output>, what: &str) -> String {
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}; tests/run installs it"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: {}\n{stdout}{stderr}",
        output.status
    );
    stdout.into_owned()
}
