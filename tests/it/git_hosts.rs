//! Repositories on git hosts: a town's token reaches its host and stands nowhere else, nor does its ssh
//! key; plain http has to be allowed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::main_job::all_events;
use crate::support::case::{Case, ONE_TRY, Slung, rehearsal};
use crate::support::git_host::{self, GitHost, SshHost};
use crate::support::repository::Repository;
use crate::support::server::Server;

const TOKEN: &str = "glpat-0123456789-secret";

/// A server that logs all it has to say, with these variables.
fn talkative(arguments: &[&str], environment: &[(&str, &str)]) -> Server {
    let data = tempfile::Builder::new().prefix("gt").tempdir().unwrap();
    let log = ["--container-stop-on-exit", "--log", "gastownd=debug"];
    Server::start_in(data, &[ONE_TRY, &log, arguments].concat(), environment)
}

/// A repository that may be pushed to over http, and the folder that a host shows.
fn shown() -> (Repository, std::path::PathBuf) {
    let repository = Repository::new();
    repository.git(&["config", "http.receivepack", "true"]);
    let folder = repository.origin().parent().unwrap().to_owned();
    (repository, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_token_is_sent_to_its_host_and_seen_nowhere() {
    let (repository, folder) = shown();
    let host = GitHost::start(folder, "oauth2", TOKEN).await;
    let mut config = rehearsal();
    config["git_auth"] = json!({"gitlab_token": TOKEN, "gitlab_instance_url": host.url()});
    let certificate = host.certificate();
    let server = talkative(&[], &[("GIT_SSL_CAINFO", certificate.to_str().unwrap())]);
    let url = format!("{}/origin.git", host.url());
    let secrets = Secrets(vec![TOKEN.to_owned()]);
    seen_nowhere(
        server,
        repository,
        &url,
        config,
        secrets,
        "git-remote-https",
    )
    .await;
    assert!(host.refused() > 0, "git was asked for the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_key_opens_its_host_and_is_seen_nowhere() {
    let host = SshHost::start().await;
    let mut config = rehearsal();
    config["git_auth"] = json!({"ssh_key": host.key()});
    let repository = Repository::new();
    let url = host.url(&repository.origin()).await;
    let server = talkative(&["--isolation", "bubblewrap"], &[]);
    let key = host.key();
    let lines = key
        .lines()
        .filter(|line| line.len() > 40 && !line.contains(' '));
    let secrets = Secrets(lines.map(str::to_owned).collect());
    assert!(secrets.0.len() > 3);
    seen_nowhere(
        server,
        repository,
        &url,
        config,
        secrets,
        "git-receive-pack",
    )
    .await;
    assert!(host.log().contains("Accepted publickey"), "{}", host.log());
}

/// Does a bead on that repository, and looks everywhere for the secrets meanwhile and afterwards.
async fn seen_nowhere(
    server: Server,
    repository: Repository,
    url: &str,
    config: Value,
    secrets: Secrets,
    pushing: &str,
) {
    repository.hold_pushes_of("Greet people");
    let mut case = Case::at(server, repository, url, config).await;
    let watch = Watch::start();
    let bead = case.sling("Greet people", "").await;
    // The agent's push, which needs the secret, is under way for as long as we want.
    watch.until_seen(pushing).await;
    case.repository.let_go();
    case.expect_closed(&bead).await;
    let programs = watch.end();
    assert!(
        programs
            .iter()
            .any(|program| program.contains("GIT_CONFIG_KEY_0"))
    );
    for program in &programs {
        secrets.assert_not_in(program, "a process shows it");
    }

    // Worktrees, remotes, the container's log and sockets.
    for folder in ["towns", "run"] {
        secrets.assert_in_no_file(&case.server.data.path().join(folder));
    }
    for path in [
        format!("{}/agents/{}/events?limit=1000", case.rig, bead.agent_id),
        case.town.replace("/api/", "/api/users/u/") + "/events?limit=1000",
        format!("{}/events?limit=1000", case.rig),
        format!("{}/config", case.town),
        format!("/api/users/u/rigs/{}", case.rig.rsplit('/').next().unwrap()),
        bead.path.clone(),
    ] {
        let told = case.server.get(&path).await;
        secrets.assert_not_in(&told.to_string(), &path);
    }
    let agent = format!("{}/agents/{}", case.rig, bead.agent_id);
    let events = all_events(&case.server, &agent).await;
    assert!(!events.is_empty());
    secrets.assert_not_in(&Value::from(events).to_string(), "the agent's events");
    for secret in &secrets.0 {
        assert_eq!(case.facts.count_text(secret), 0);
    }
    case.end().await;
    let said = case.server.said();
    assert!(said.contains("DEBUG"), "the server logs");
    secrets.assert_not_in(&said, "the server's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn github_and_gitlab_get_tokens_in_the_form_of_each() {
    for (name, user, field) in [
        ("github.com", "x-access-token", "github_token"),
        ("gitlab.com", "oauth2", "gitlab_token"),
    ] {
        let (repository, folder) = shown();
        let host = GitHost::start_as(folder, user, TOKEN, &[name]).await;
        // The host has that name for those who come by this proxy.
        let proxy = git_host::start_proxy_to(&host).await;
        let certificate = host.certificate();
        let server = talkative(
            &[],
            &[
                ("GIT_SSL_CAINFO", certificate.to_str().unwrap()),
                ("https_proxy", &proxy),
            ],
        );
        let mut config = rehearsal();
        config["git_auth"] = json!({field: TOKEN});
        // The container has it from the server; agents have what their town says.
        config["env_vars"] = json!({"https_proxy": proxy});
        let url = format!("https://{name}/origin.git");
        let mut case = Case::at(server, repository, &url, config).await;
        let bead = case.sling("Greet people", "").await;
        case.expect_closed(&bead).await;
        assert!(host.refused() > 0, "git was asked for the token");
        case.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ssh_refuses_is_told_and_a_changed_config_is_used_at_once() {
    let host = SshHost::start().await;
    let repository = Repository::new();
    let url = host.url(&repository.origin()).await;
    let mut config = rehearsal();
    config["git_auth"] = json!({"ssh_known_hosts": host.known_as(true)});
    let mut case = Case::on(repository, &url, ONE_TRY, config).await;
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    for (key, itself, reason) in [
        (None, true, "Permission denied (publickey"),
        (
            Some(no_key.to_owned()),
            true,
            "the ssh key can't be used: Error loading key",
        ),
        (
            Some(host.strange_key()),
            true,
            "Permission denied (publickey",
        ),
        (Some(host.key()), false, "Host key verification failed"),
    ] {
        let auth = json!({"ssh_key": key, "ssh_known_hosts": host.known_as(itself)});
        change(&case, auth).await;
        let bead = case.sling("Greet people", "").await;
        case.expect_failed(&bead, reason).await;
    }
    change(&case, json!({"ssh_known_hosts": host.known_as(true)})).await;
    let bead: Slung = case.sling("Greet people", "").await;
    case.expect_closed(&bead).await;

    let config = format!("{}/config", case.town);
    let shown = case.server.get(&config).await;
    assert!(
        shown["git_auth"]["ssh_key"]
            .as_str()
            .unwrap()
            .starts_with("****"),
        "{shown}"
    );
    let bad = json!({"git_auth": {"ssh_key": "ssh-ed25519 AAAA"}});
    let (status, refused) = case.server.call("PATCH", &config, bad).await;
    assert_eq!(status, 400, "{refused}");
    assert!(
        refused.to_string().contains("must be a private key"),
        "{refused}"
    );
    case.end().await;
}

async fn change(case: &Case, git_auth: Value) {
    let config = format!("{}/config", case.town);
    let patch = json!({"git_auth": git_auth});
    case.server.must("PATCH", &config, patch).await;
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

/// What must not be seen.
struct Secrets(Vec<String>);

impl Secrets {
    fn assert_not_in(&self, text: &str, place: &str) {
        for secret in &self.0 {
            assert!(!text.contains(secret), "{place}: {text}");
        }
    }

    fn assert_in_no_file(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.assert_in_no_file(&entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                let place = entry.path().display().to_string();
                self.assert_not_in(&String::from_utf8_lossy(&bytes), &place);
            }
        }
    }
}

/// Looks at the arguments and environments of all processes, again and again.
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
                seen.extend(processes("cmdline").chain(processes("environ")));
                std::thread::yield_now();
            }
            seen
        });
        Self { ended, thread }
    }

    async fn until_seen(&self, program: &str) {
        while !processes("cmdline").any(|arguments| arguments.contains(program)) {
            assert!(!self.thread.is_finished());
            tokio::task::yield_now().await;
        }
    }

    fn end(self) -> BTreeSet<String> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// That file of each process of this machine.
fn processes(file: &str) -> impl Iterator<Item = String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.filter_map(move |entry| {
        let bytes = std::fs::read(entry.ok()?.path().join(file)).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    })
}
