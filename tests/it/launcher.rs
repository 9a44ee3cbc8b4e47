//! Containers that a launcher of the operator's starts, and that are reached over TCP by a token. bubblewrap
//! stands in for podman: other walls than ours, an empty environment, and of the server's folders only what
//! the command line names.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gastownd::lifecycle::Lifecycle;
use hyper::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::case::{Case, ONE_TRY, rehearsal};
use crate::support::facts::Facts;
use crate::support::program::output_of;
use crate::support::repository::Repository;
use crate::support::server::{PATIENCE, Server, exchange, request};

/// Beside the container it shows the repository, which is of this machine in tests.
const WALLS: &str = r#"#!/bin/sh
town=$1 workspace=$2 token=$3 repository=$4 program=$5
shift 4
cd /
exec env -i PATH="$PATH" bwrap --unshare-pid --as-pid-1 --ro-bind / / --dev /dev --proc /proc \
    --tmpfs /tmp --bind "$workspace" "$workspace" --ro-bind "$token" "$token" \
    --bind "$repository" "$repository" --ro-bind "$program" "$program" \
    --hostname "town-$town" --unshare-uts -- "$@"
"#;

/// Like a scheduler's client: it starts the container elsewhere, says where that is, and is done.
const HANDS_OVER: &str = r#"#!/bin/sh
said=$1
shift
setsid "$@" --announce "$ANNOUNCED" >"$said" 2>&1 &
until grep 'listening on tcp://' "$said"; do
    kill -0 $! || exit 9
done
"#;

const REFUSES: &str = "#!/bin/sh\necho 'no such image: agents' >&2\nexit 125\n";

struct Launcher {
    folder: TempDir,
}

impl Launcher {
    fn new(script: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("launch");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self) -> String {
        let path = self.folder.path().join("launch");
        path.to_string_lossy().into_owned()
    }
}

/// A town whose container stands behind [`WALLS`] and listens on TCP.
async fn walled(arguments: &[&str]) -> (Case, Launcher) {
    let (launcher, repository) = (Launcher::new(WALLS), Repository::new());
    let (path, origin) = (launcher.path(), repository.origin());
    let around = origin.parent().unwrap().display();
    let template = format!(
        "{path} {{town}} {{workspace}} {{token_file}} '{around}' {{program}} {{arguments}}"
    );
    // The words behind the four are the container's command line, which begins with the program.
    let over_tcp = [
        "--container-launcher",
        &template,
        "--container-listen",
        "127.0.0.1:0",
    ];
    let arguments = [ONE_TRY, &over_tcp, arguments].concat();
    let url = origin.to_string_lossy().into_owned();
    (
        Case::on(repository, &url, &arguments, rehearsal()).await,
        launcher,
    )
}

/// What the server keeps of its one container: the token and the address.
fn contact(server: &Server) -> (PathBuf, String, String) {
    let run = std::fs::read_dir(server.data.path().join("run")).unwrap();
    let mut files = run.map(|entry| entry.unwrap().path());
    let path = files.find(|path| path.extension().is_some_and(|ending| ending == "contact"));
    let path = path.expect("a container was launched");
    let text = std::fs::read_to_string(&path).unwrap();
    let (token, address) = text.split_once('\n').unwrap();
    (path, token.to_owned(), address.to_owned())
}

async fn epoch(case: &Case) -> Value {
    let health = format!("{}/container/health", case.town);
    case.server.get(&health).await["epoch"].take()
}

/// Passes connections on to an address that is known later; counts them.
struct Detour {
    address: SocketAddr,
    to: watch::Sender<String>,
    taken: Arc<AtomicUsize>,
}

impl Detour {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let detour = Self {
            address: listener.local_addr().unwrap(),
            to: watch::Sender::default(),
            taken: Arc::default(),
        };
        let (mut to, taken) = (detour.to.subscribe(), detour.taken.clone());
        let life = Lifecycle::new();
        life.clone().spawn_detached("detour", async move {
            while let Ok((mut here, _)) = listener.accept().await {
                taken.fetch_add(1, Ordering::Relaxed);
                let known = to.wait_for(|to| !to.is_empty()).await;
                let Ok(known) = known.map(|to| to.clone()) else {
                    return;
                };
                // Nobody is there any more: then nobody is here, either.
                let Ok(mut there) = TcpStream::connect(known).await else {
                    return;
                };
                life.spawn_detached("detoured connection", async move {
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        });
        detour
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launched_container_does_its_work_over_tcp_and_its_token_is_seen_nowhere() {
    let detour = Detour::start().await;
    let server_url = format!("http://{}", detour.address);
    let (mut case, _launcher) = walled(&[
        "--container-server-url",
        &server_url,
        "--log",
        "gastownd=debug",
    ])
    .await;
    detour.to.send_replace(case.server.address().to_owned());
    let bead = case
        .sling(
            "Greet people",
            "rehearse: ask question Which colour? | Red\nrehearse: write docs/a.md <<A",
        )
        .await;
    let asks = format!("{}/asks", case.town);
    let asked = |asks: &Value| asks[0]["title"] == "Which colour?";
    let asks = case.server.until("the agent asks", &asks, asked).await;

    // The container and its agent are at work now, behind the launcher's walls.
    let (path, token, address) = contact(&case.server);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let run_dir = path.with_extension("");
    assert!(
        !run_dir.join("control.sock").exists(),
        "nobody listens there"
    );
    assert!(!run_dir.join("token").exists(), "it was read and is gone");
    assert_container_lacks_token_file(&case.server, &run_dir.join("token"));
    assert_no_process_shows(&token);
    assert_no_file_has(&run_dir, &token);
    assert_no_file_has(&case.server.data.path().join("towns"), &token);

    let reply = format!(
        "{}/asks/{}/reply",
        case.town,
        asks[0]["id"].as_str().unwrap()
    );
    case.server
        .post(&reply, json!({"answers": [["Red"]]}))
        .await;
    case.expect_closed(&bead).await;
    assert_eq!(case.repository.pushed("main", "docs/a.md"), "A\n");
    assert!(
        detour.taken.load(Ordering::Relaxed) > 0,
        "agents took the url they were given"
    );
    assert_eq!(case.facts.count_text(&token), 0);
    case.end().await;
    let said = case.server.said();
    assert!(said.contains("DEBUG"), "it logs");
    assert!(!said.contains(&token), "and not the token");
    assert_no_file_has(&run_dir, &token);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_show_the_token_is_refused_and_changes_nothing() {
    let (mut case, _launcher) = walled(&[]).await;
    let bead = case
        .sling("Greet people", "rehearse: ask question Which? | Red")
        .await;
    case.started(&bead).await;
    let (_, token, address) = contact(&case.server);
    let before = epoch(&case).await;
    let agent = &bead.agent_id;
    let stop = format!("/agents/{agent}/stop");
    let almost = format!("Bearer {}", &token[1..]);
    for authorization in [
        "",
        "Bearer ",
        "Bearer x",
        &almost,
        &token,
        &format!("Basic {token}"),
    ] {
        for (method, path) in [
            ("GET", "/health"),
            ("GET", "/ws"),
            ("GET", "/nothing"),
            ("POST", stop.as_str()),
            ("POST", "/git/merge"),
            ("POST", "/drain"),
            ("POST", "/shutdown"),
        ] {
            let headers = [
                ("authorization", authorization),
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("x-town-config", "{}"),
            ];
            // Once with an empty header, once with none.
            let headers = &headers[usize::from(authorization.is_empty())..];
            let (status, body) = request(&address, method, path, headers, Vec::new()).await;
            let body = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
            assert!(!body.contains(&token));
        }
    }
    let own = [("authorization", &*format!("Bearer {token}"))];
    let (status, _, body) = exchange(&address, "GET", "/health", &own, Vec::new()).await;
    let health: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &health["drain"]), (StatusCode::OK, &json!(false)));
    assert_eq!(
        (health["agents"].clone(), epoch(&case).await),
        (json!(1), before)
    );
    let agent = case
        .server
        .get(&format!("{}/agents/{agent}", case.rig))
        .await;
    assert_eq!(agent["current_hook_bead_id"], bead.bead_id.as_str());
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_servers_successor_adopts_a_container_over_tcp() {
    let (mut case, _launcher) = walled(&[]).await;
    let bead = case
        .sling("Greet people", "rehearse: ask question Which? | Red")
        .await;
    let asks = format!("{}/asks", case.town);
    let asked = |asks: &Value| asks[0]["title"] == "Which?";
    case.server.until("the agent asks", &asks, asked).await;
    let (before, known) = (epoch(&case).await, contact(&case.server));
    case.server.kill();
    case.server.restart();
    case.facts = Facts::of(&case.server, &case.town).await;
    let open = case.server.until("the ask is kept", &asks, asked).await;
    let health = format!("{}/container/health", case.town);
    let same = |health: &Value| health["epoch"] == before;
    case.server.until("it is adopted", &health, same).await;
    let reply = format!("{asks}/{}/reply", open[0]["id"].as_str().unwrap());
    case.server
        .post(&reply, json!({"answers": [["Red"]]}))
        .await;
    case.expect_closed(&bead).await;
    assert_eq!((epoch(&case).await, contact(&case.server)), (before, known));
    let path = format!("{}/agents/{}", case.rig, bead.agent_id);
    let events = crate::main_job::all_events(&case.server, &path).await;
    let ids: Vec<u64> = events
        .iter()
        .map(|event| event["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_may_hand_over_and_end() {
    let detour = Detour::start().await;
    let script = HANDS_OVER.replace("$ANNOUNCED", &detour.address.to_string());
    let launcher = Launcher::new(&script);
    let said = launcher.folder.path().join("said");
    let template = format!(
        "'{}' '{}' {{program}} {{arguments}}",
        launcher.path(),
        said.display()
    );
    let arguments = [
        "--container-launcher",
        &template,
        "--container-listen",
        "127.0.0.1:0",
    ];
    let mut case = Case::new(&[ONE_TRY, &arguments].concat(), rehearsal()).await;
    let bead = case.sling("Greet people", "").await;
    // The container announces the detour, so only its log tells where it listens.
    let limit = Instant::now() + PATIENCE;
    let port = loop {
        if let Some(port) = listening_port(case.server.data.path()) {
            break port;
        }
        assert!(Instant::now() < limit, "no container listens");
        tokio::task::yield_now().await;
    };
    detour.to.send_replace(format!("127.0.0.1:{port}"));
    case.expect_closed(&bead).await;
    assert_eq!(contact(&case.server).2, detour.address.to_string());
    assert!(detour.taken.load(Ordering::Relaxed) > 0);
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_fails_is_quoted_with_its_exit_code() {
    let launcher = Launcher::new(REFUSES);
    let template = format!("{} {{arguments}}", launcher.path());
    let mut case = Case::rehearsed(&[ONE_TRY, &["--container-launcher", &template]].concat()).await;
    case.sling("Greet people", "").await;
    case.expect_no_container("exit status: 125): no such image: agents")
        .await;
    case.end().await;

    let template = "/not/there/podman {arguments}";
    let mut case = Case::rehearsed(&[ONE_TRY, &["--container-launcher", template]].concat()).await;
    case.sling("Greet people", "").await;
    case.expect_no_container("/not/there/podman can't be started: No such file")
        .await;
    case.end().await;
}

#[test]
fn a_template_that_makes_no_sense_stops_the_server_at_its_start() {
    let folder = TempDir::new().unwrap();
    for (template, reason) in [
        ("podman run agents", "must have the word {arguments}"),
        (
            "podman {socket} {arguments}",
            "has {socket}, which is none of",
        ),
        ("podman 'run {arguments}", "quotation mark"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gastownd"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command
            .arg(folder.path())
            .args(["--container-launcher", template]);
        let output = output_of(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("container.launcher") && said.contains(reason),
            "{said}"
        );
    }
}

/// As the container itself sees it, through its own root.
fn assert_container_lacks_token_file(server: &Server, path: &Path) {
    let inside = path.strip_prefix("/").unwrap();
    let mut seen = 0;
    for pid in server.leftovers() {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        if let Ok(text) = std::fs::read(root.join(inside)) {
            assert_eq!(text, b"", "process {pid} can read it");
            seen += 1;
        }
    }
    assert!(seen > 0, "nobody was asked");
}

fn assert_no_process_shows(token: &str) {
    for entry in std::fs::read_dir("/proc").unwrap() {
        let own = entry.unwrap().path();
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(own.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(token), "{}/{file}", own.display());
        }
    }
}

fn assert_no_file_has(folder: &Path, token: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, kind) = entry
            .map(|entry| (entry.path(), entry.file_type().unwrap()))
            .unwrap();
        if kind.is_dir() {
            assert_no_file_has(&path, token);
        } else if kind.is_file() {
            let text = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(token), "{}", path.display());
        }
    }
}

/// The TCP port on which the container process of that data folder listens.
fn listening_port(data: &Path) -> Option<u16> {
    let processes = crate::support::server::processes_of(data);
    let inodes: Vec<String> = processes
        .iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok())
        .flatten()
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns[1], columns[3], columns[9]);
        let own = state == "0A" && inodes.iter().any(|own| own == inode);
        let port = local.split_once(':').filter(|_| own)?.1;
        u16::from_str_radix(port, 16).ok()
    })
}
