//! The rehearsal as a server: listening on loopback, its end, and what its config says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::interval;

use super::routes;
use super::stage::Stage;
use crate::clock::Clock;
use crate::sdk::ServerExit;
use crate::sdk::connection::basic;

/// The user of its Basic auth.
pub(in crate::sdk) const USER: &str = "rehearsal";

/// The pause between two words: slow enough to be seen, fast enough not to be waited for.
const DEFAULT_PACE: Duration = Duration::from_millis(15);

/// The longest pause that a config may ask for.
const PACE_MAX: Duration = Duration::from_secs(10);

/// How often a subscriber hears that the stream lives, as from opencode.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How many connections are served at once; the one client of a container uses a handful.
const CONNECTIONS_MAX: usize = 64;

/// What a rehearsal needs to know.
pub(in crate::sdk) struct Settings {
    /// What callers must know.
    pub(in crate::sdk) password: String,
    /// The pause between two words; a tool takes some words' time.
    pub(in crate::sdk) pace: Duration,
    /// Variables for git.
    pub(in crate::sdk) env: BTreeMap<String, String>,
    /// The home for git.
    pub(in crate::sdk) home: PathBuf,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// The pace in an agent server's config: its key `rehearsal.pace_ms`.
pub(in crate::sdk) fn pace_in(config: &serde_json::Value) -> Duration {
    config["rehearsal"]["pace_ms"]
        .as_u64()
        .map_or(DEFAULT_PACE, |millis| {
            Duration::from_millis(millis).min(PACE_MAX)
        })
}

/// A running rehearsal. Dropping it ends it.
#[derive(Debug)]
pub(in crate::sdk) struct Rehearsal {
    address: SocketAddr,
    stage: Arc<Stage>,
}

impl Rehearsal {
    pub(in crate::sdk) async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stage = Arc::new(Stage::new(settings, Clock::system()));
        let tasks = &stage.lifecycle;
        tasks.spawn("rehearsal", {
            let stage = Arc::clone(&stage);
            async move {
                tokio::select! {
                    () = stage.lifecycle.stopping() => {}
                    () = accept(&stage, listener) => {}
                    () = heartbeats(&stage) => {}
                }
            }
        });
        Ok(Self { address, stage })
    }

    pub(in crate::sdk) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(in crate::sdk) async fn exited(&self) -> ServerExit {
        let mut over = self.stage.over.subscribe();
        let over = over.wait_for(Option::is_some).await;
        over.expect("the stage holds the sender")
            .clone()
            .expect("waited for it")
    }

    pub(in crate::sdk) async fn stop(&self) {
        self.stage.end(ServerExit {
            code: Some(0),
            signal: None,
            output: String::new(),
        });
        self.stage.lifecycle.drained().await;
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.stage.end(ServerExit {
            code: Some(0),
            signal: None,
            output: String::new(),
        });
    }
}

async fn heartbeats(stage: &Stage) {
    let mut beats = interval(HEARTBEAT);
    loop {
        beats.tick().await;
        stage.heartbeat();
    }
}

async fn accept(stage: &Arc<Stage>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let authorization = Arc::new(basic(USER, &stage.settings.password));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        // An error is about that one connection, or about too many files; others go on.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let authorization = Arc::clone(&authorization);
        let served = Arc::clone(stage);
        stage.lifecycle.spawn("rehearsal connection", async move {
            tokio::select! {
                () = served.lifecycle.stopping() => {}
                () = serve(&served, &authorization, stream) => {}
            }
            drop(place);
        });
    }
}

async fn serve(stage: &Arc<Stage>, authorization: &str, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(routes::answer(stage, authorization, request).await)
    });
    // A connection that breaks is the caller's to report.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
