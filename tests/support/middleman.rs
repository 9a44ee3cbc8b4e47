//! Stands between a container and the real agent program, so that its connections can be made to fail
//! while the program itself is well.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::agent_server;
use super::loopback::{self, Broken, ChunkBody};

/// What is wrong between the container and the agent program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Of the events only heartbeats come through.
    Deaf,
    /// The same, and nothing is answered.
    Mute,
}

/// The middleman, and the program to be named to the container in place of the real one.
pub(crate) struct Middleman {
    pub(crate) program: PathBuf,
    inner: Arc<Inner>,
    _folder: TempDir,
}

struct Inner {
    lifecycle: Lifecycle,
    /// Where the program writes down its address and, since a new one may get the same, its process.
    address: PathBuf,
    /// What stood there when the fault was set, which it is meant for: a new program has none.
    faulty: Mutex<String>,
    fault: watch::Sender<Fault>,
    /// Rises with each cut.
    cuts: watch::Sender<usize>,
    statuses: AtomicUsize,
}

impl Middleman {
    pub(crate) async fn new(kind: AgentServerKind) -> Self {
        let folder = TempDir::new().unwrap();
        let inner = Arc::new(Inner {
            lifecycle: Lifecycle::new(),
            address: folder.path().join("address"),
            faulty: Mutex::default(),
            fault: watch::Sender::new(Fault::None),
            cuts: watch::Sender::new(0),
            statuses: AtomicUsize::new(0),
        });
        let lifecycle = inner.lifecycle.clone();
        let own = loopback::serve(&lifecycle, Arc::clone(&inner), answer).await;
        let program = folder.path().join("program");
        let real = agent_server::program(kind).unwrap();
        let script = format!(
            "#!/bin/sh\n'{}' \"$@\" | while read -r line; do case \"$line\" in\n\
             *listening*) echo \"$(echo \"$line\" | sed 's#.*http://##') $$\" > '{address}.new'\n\
             mv '{address}.new' '{address}'\n\
             echo '{kind} server listening on http://{own}';;\n\
             *) echo \"$line\";; esac; done\n",
            real.display(),
            address = inner.address.display(),
            kind = kind.as_str(),
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            program,
            inner,
            _folder: folder,
        }
    }

    /// From now on this is wrong, until the agent program is replaced.
    pub(crate) fn set(&self, fault: Fault) {
        *self.inner.faulty.lock().unwrap() = written(&self.inner.address);
        self.inner.fault.send_replace(fault);
    }

    /// Cuts the event streams that are open.
    pub(crate) fn cut(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How often it was asked what sessions do, and answered.
    pub(crate) fn statuses(&self) -> usize {
        self.inner.statuses.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn fault(&self) -> Fault {
        if *self.faulty.lock().unwrap() == written(&self.address) {
            *self.fault.borrow()
        } else {
            Fault::None
        }
    }
}

/// What the program wrote down; empty before it did.
fn written(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

async fn answer(inner: Arc<Inner>, request: Request<Bytes>) -> Response<ChunkBody> {
    let is_stream = request.uri().path() == "/global/event";
    if inner.fault() == Fault::Mute && !is_stream {
        std::future::pending::<()>().await;
    }
    let is_status = request.uri().path() == "/session/status";
    let (sender, receiver) = mpsc::channel(64);
    let Some(response) = forward(&inner, request).await else {
        let mut refusal = Response::new(ChunkBody(receiver));
        *refusal.status_mut() = StatusCode::BAD_GATEWAY;
        return refusal;
    };
    if is_status {
        inner.statuses.fetch_add(1, Ordering::SeqCst);
    }
    let (mut head, mut body) = response.into_parts();
    // The body is framed anew.
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(TRANSFER_ENCODING);
    let mut cuts = inner.cuts.subscribe();
    let lifecycle = inner.lifecycle.clone();
    lifecycle.spawn_detached("pass on an answer", async move {
        loop {
            let frame = tokio::select! {
                Ok(()) = cuts.changed(), if is_stream => {
                    // Whoever listened may have gone.
                    let _ = sender.send(Err(Broken)).await;
                    return;
                }
                frame = body.frame() => frame,
            };
            let Some(Ok(frame)) = frame else { return };
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            if is_stream && inner.fault() != Fault::None {
                data = heartbeats_in(&data);
            }
            if !data.is_empty() && sender.send(Ok(data)).await.is_err() {
                return;
            }
        }
    });
    Response::from_parts(head, ChunkBody(receiver))
}

async fn forward(
    inner: &Inner,
    request: Request<Bytes>,
) -> Option<Response<hyper::body::Incoming>> {
    let written = written(&inner.address);
    let stream = TcpStream::connect(written.split_whitespace().next()?)
        .await
        .ok()?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let lifecycle = &inner.lifecycle;
    lifecycle.spawn_detached("a connection to the program", async move {
        let _ = connection.await;
    });
    sender.send_request(request.map(Full::new)).await.ok()
}

/// The events of a piece of the stream that are heartbeats.
fn heartbeats_in(data: &Bytes) -> Bytes {
    let text = String::from_utf8_lossy(data);
    let events = text.split_inclusive("\n\n");
    let kept: String = events
        .filter(|event| event.contains("server.heartbeat"))
        .collect();
    kept.into()
}
