//! Git hosts on loopback: real git over real https for those who know the token, or over http.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gastownd::lifecycle::Lifecycle;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// A running https host of the bare repositories in one folder.
pub(crate) struct GitHost {
    address: SocketAddr,
    folder: TempDir,
    host: Arc<Host>,
}

struct Host {
    repositories: PathBuf,
    authorization: Option<HeaderValue>,
    refused: AtomicUsize,
}

impl GitHost {
    pub(crate) async fn start(repositories: PathBuf, user: &str, token: &str) -> Self {
        let lifecycle = Lifecycle::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = rcgen::generate_simple_self_signed(vec![address.ip().to_string()]).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), own.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let credential = STANDARD.encode(format!("{user}:{token}"));
        let host = Arc::new(Host {
            repositories,
            authorization: Some(HeaderValue::try_from(format!("Basic {credential}")).unwrap()),
            refused: AtomicUsize::new(0),
        });
        let (tasks, state) = (lifecycle.clone(), Arc::clone(&host));
        lifecycle.spawn_detached("git host", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
                tasks.spawn_detached("git host's connection", async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        super::loopback::converse(TokioIo::new(stream), state, answer).await;
                    }
                });
            }
        });
        Self {
            address,
            folder,
            host,
        }
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that whoever connects has to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// How often somebody came without the token.
    pub(crate) fn refused(&self) -> usize {
        self.host.refused.load(Ordering::Relaxed)
    }
}

/// Starts an http host that lets everyone in; its url.
pub(crate) async fn start_open(repositories: PathBuf) -> String {
    let host = Host {
        repositories,
        authorization: None,
        refused: AtomicUsize::new(0),
    };
    let address = super::loopback::serve(&Lifecycle::new(), Arc::new(host), answer).await;
    format!("http://{address}")
}

async fn answer(host: Arc<Host>, request: Request<Bytes>) -> Response<Full<Bytes>> {
    if host.authorization.as_ref() != request.headers().get(AUTHORIZATION) {
        host.refused.fetch_add(1, Ordering::Relaxed);
        let refusal = Response::builder()
            .status(401)
            .header(WWW_AUTHENTICATE, "Basic realm=\"git\"");
        return refusal.body(Full::default()).unwrap();
    }
    let header = |name| text(request.headers(), name);
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &host.repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "agent")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("CONTENT_TYPE", header(CONTENT_TYPE.as_str()))
        .env("HTTP_CONTENT_ENCODING", header(CONTENT_ENCODING.as_str()))
        .env("HTTP_GIT_PROTOCOL", header("git-protocol"))
        .env("CONTENT_LENGTH", request.body().len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = backend.stdin.take().unwrap();
    stdin.write_all(request.body()).await.unwrap();
    drop(stdin);
    respond(&backend.wait_with_output().await.unwrap().stdout)
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

/// The answer that a CGI program printed.
fn respond(output: &[u8]) -> Response<Full<Bytes>> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("the program prints headers");
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(&value[..3]),
            _ => response.header(name, value),
        };
    }
    let body = Bytes::copy_from_slice(&output[end + 4..]);
    response.body(Full::new(body)).unwrap()
}
