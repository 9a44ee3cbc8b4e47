//! Repositories on git hosts: a town's token reaches its host and stands nowhere else; plain http
//! has to be allowed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::main_job::all_events;
use crate::support::case::{Case, ONE_TRY, rehearsal};
use crate::support::git_host::{self, GitHost};
use crate::support::repository::Repository;
use crate::support::server::Server;

const TOKEN: &str = "glpat-0123456789-secret";

#[tokio::test(flavor = "multi_thread")]
async fn a_git_token_is_sent_to_its_host_and_seen_nowhere() {
    let repository = Repository::new();
    repository.git(&["config", "http.receivepack", "true"]);
    let folder = repository.origin().parent().unwrap().to_owned();
    let host = GitHost::start(folder, "oauth2", TOKEN).await;
    let mut config = rehearsal();
    config["git_auth"] = json!({"gitlab_token": TOKEN, "gitlab_instance_url": host.url()});

    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let arguments = [ONE_TRY, &["--container-stop-on-exit", "--log", "debug"]].concat();
    let certificate = host.certificate();
    let trust = [("GIT_SSL_CAINFO", certificate.to_str().unwrap())];
    let server = Server::start_in(data, &arguments, &trust);
    let url = format!("{}/origin.git", host.url());
    repository.hold_pushes_of("Greet people");
    let mut case = Case::at(server, repository, &url, config).await;

    let watch = Watch::start();
    let bead = case.sling("Greet people", "").await;
    // The agent's push, which asked for the token, is under way for as long as we want.
    watch.until_seen("git-remote-https").await;
    case.repository.let_go();
    case.expect_closed(&bead).await;
    let programs = watch.end();
    assert!(host.refused() > 0, "git was asked for the token");
    for arguments in &programs {
        assert!(!arguments.contains(TOKEN), "{arguments}");
    }

    for folder in ["towns", "run"] {
        assert_absent(&case.server.data.path().join(folder));
    }
    let agent = format!("{}/agents/{}", case.rig, bead.agent_id);
    let events = all_events(&case.server, &agent).await;
    assert!(!events.is_empty());
    for event in events {
        assert!(!event.to_string().contains(TOKEN), "{event}");
    }
    assert_eq!(case.facts.count_text(TOKEN), 0);
    let config = case.server.get(&format!("{}/config", case.town)).await;
    assert!(!config.to_string().contains(TOKEN), "{config}");
    case.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_at_http_is_used_where_that_is_allowed() {
    let repository = Repository::new();
    repository.git(&["config", "http.receivepack", "true"]);
    let folder = repository.origin().parent().unwrap().to_owned();
    let url = format!("{}/origin.git", git_host::start_open(folder).await);
    let arguments = [ONE_TRY, &["--allow-http-repos"]].concat();
    let mut case = Case::on(repository, &url, &arguments, rehearsal()).await;
    let bead = case.sling("Greet people", "").await;
    case.expect_closed(&bead).await;
    case.end().await;

    let strict = Server::start(&[]);
    let town = strict.town(rehearsal()).await;
    let town_id = town.rsplit('/').next().unwrap();
    let rig = json!({"town_id": town_id, "name": "rig", "git_url": url});
    let (status, refused) = strict.call("POST", "/api/users/u/rigs", rig).await;
    assert_eq!(status, 400, "{refused}");
    assert!(
        refused.to_string().contains("http:// are not allowed"),
        "{refused}"
    );
}

/// No file below the folder holds the token.
fn assert_absent(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            assert_absent(&entry.path());
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let mut windows = bytes.windows(TOKEN.len());
            let found = windows.any(|window| window == TOKEN.as_bytes());
            assert!(!found, "{} holds the token", entry.path().display());
        }
    }
}

/// Looks at the arguments of all processes, again and again.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !end.load(Ordering::Relaxed) {
                seen.extend(arguments());
                std::thread::yield_now();
            }
            seen
        });
        Self { ended, thread }
    }

    async fn until_seen(&self, program: &str) {
        while !arguments().any(|arguments| arguments.contains(program)) {
            assert!(!self.thread.is_finished());
            tokio::task::yield_now().await;
        }
    }

    fn end(self) -> BTreeSet<String> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn arguments() -> impl Iterator<Item = String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.filter_map(|entry| {
        let bytes = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    })
}
