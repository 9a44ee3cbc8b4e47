//! The life of an agent server's process: ready or not, ended by itself, stopped, forgotten.
//! The programs are shell scripts, so that each behaves badly in its own way.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::{AgentServer, AgentServerKind, AgentServerOptions, Error, create_agent_server};
use serde_json::json;
use tempfile::TempDir;

use crate::support::agent_server;
use crate::support::mark::Mark;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

/// Says that it listens and then does `rest`.
fn listening(rest: &str) -> String {
    prepared("echo some warning", rest)
}

/// One that does something before it says that it listens: from then on it may be stopped.
fn prepared(first: &str, rest: &str) -> String {
    format!("#!/bin/sh\n{first}\necho opencode server listening on http://127.0.0.1:9\n{rest}\n")
}

struct Scripted {
    folder: TempDir,
    mark: Mark,
    lifecycle: Lifecycle,
    options: AgentServerOptions,
}

impl Scripted {
    fn new(script: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mark = Mark::new();
        let (name, value) = mark.pair();
        let (kind, home) = (AgentServerKind::Rehearsal, folder.path().join("home"));
        let mut options = agent_server::options(kind, home, folder.path(), json!({}));
        options.kind = AgentServerKind::Opencode;
        options.program = Some(program);
        options.env.insert(name.to_owned(), value.to_owned());
        Self {
            folder,
            mark,
            lifecycle: Lifecycle::new(),
            options,
        }
    }

    async fn start(&self) -> Result<AgentServer, Error> {
        create_agent_server(self.options.clone(), &self.lifecycle).await
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        self.mark
            .wait_until("nothing is left", |running| running.is_empty());
    }
}

#[tokio::test]
async fn a_stop_asks_first() {
    let script = prepared(
        "trap 'echo asked > asked; exit 3' TERM",
        "sleep 1000 & wait",
    );
    let scripted = Scripted::new(&script);
    let server = scripted.start().await.unwrap();
    server.stop(LONG).await;
    assert_eq!(scripted.file("asked"), "asked\n");
    assert_eq!(server.exited().await.code, Some(3));
    scripted.nothing_is_left();
}

#[tokio::test]
async fn a_stop_ends_what_does_not_listen() {
    let scripted = Scripted::new(&prepared(
        "trap '' TERM",
        "setsid sleep 1000 & sleep 1000\nwait",
    ));
    let server = scripted.start().await.unwrap();
    let (first, second) = tokio::join!(server.stop(LONG), server.stop(Duration::ZERO));
    assert_eq!((first, second), ((), ()));
    scripted.nothing_is_left();
    assert!(server.exited().await.signal.is_some());
}

#[tokio::test]
async fn a_forgotten_server_ends() {
    let scripted = Scripted::new(&listening("sleep 1000 & setsid sleep 1000"));
    let server = scripted.start().await.unwrap();
    drop(server);
    // The end is a task of this runtime.
    tokio::task::yield_now().await;
    let mark = scripted.mark;
    let gone = tokio::task::spawn_blocking(move || {
        mark.wait_until("nothing is left", |running| running.is_empty());
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn an_end_is_told_to_everyone() {
    let scripted = Scripted::new(&listening("read line < go; echo out of memory >&2; exit 7"));
    let go = scripted.folder.path().join("go");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &go,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let server = scripted.start().await.unwrap();
    let open = tokio::task::spawn_blocking(move || std::fs::write(go, "go\n").unwrap());
    let (first, second) = tokio::join!(server.exited(), server.exited());
    open.await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.code, Some(7));
    assert!(first.to_string().contains("out of memory"), "{first}");
    scripted.nothing_is_left();
}

#[tokio::test]
async fn an_end_before_it_listens_is_an_error_with_its_words() {
    let scripted = Scripted::new("#!/bin/sh\necho the config is bad >&2\nexit 4\n");
    let error = scripted.start().await.unwrap_err();
    assert!(matches!(error, Error::Exited { .. }));
    let text = error.to_string();
    assert!(
        text.contains("code 4") && text.contains("the config is bad"),
        "{text}"
    );
    scripted.nothing_is_left();
}

#[tokio::test]
async fn one_that_never_listens_is_given_up() {
    let mut scripted = Scripted::new("#!/bin/sh\necho thinking\nsleep 1000 & sleep 1000\n");
    scripted.options.ready_timeout = Duration::from_millis(300);
    let error = scripted.start().await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    scripted.nothing_is_left();
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing() {
    let scripted = Scripted::new("#!/bin/sh\ntouch begun\nsleep 1000\n");
    let begun = scripted.folder.path().join("begun");
    let started = async {
        while !begun.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = scripted.start() => panic!("it never listens"),
        () = started => {}
    }
    tokio::task::yield_now().await;
    let mark = scripted.mark;
    let gone = tokio::task::spawn_blocking(move || {
        mark.wait_until("nothing is left", |running| running.is_empty());
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let scripted = Scripted::new("#!/bin/sh\necho server listening on the moon\nsleep 1000\n");
    let error = scripted.start().await.unwrap_err();
    assert!(error.to_string().contains("the moon"), "{error}");
    scripted.nothing_is_left();
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let mut scripted = Scripted::new("");
    for program in ["/no/such/program", "no-such-program"] {
        scripted.options.program = Some(program.into());
        let error = scripted.start().await.unwrap_err();
        assert!(
            matches!(&error, Error::ProgramMissing { program: named }
            if named == Path::new(program)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_home_is_private() {
    let scripted = Scripted::new(&listening("echo $HOME > home-is; sleep 1000"));
    let server = scripted.start().await.unwrap();
    let home = &scripted.options.home;
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    server.stop(Duration::ZERO).await;
    // An address where nobody listens: a call says so.
    let error = server.client().health().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}
