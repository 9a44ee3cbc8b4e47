//! Git hosts on loopback: real git over real https for those who know the token, over http, or over
//! ssh by a real sshd.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
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
        Self::start_as(repositories, user, token, &[]).await
    }

    /// The same, and it can prove that it has these names.
    pub(crate) async fn start_as(
        repositories: PathBuf,
        user: &str,
        token: &str,
        names: &[&str],
    ) -> Self {
        let lifecycle = Lifecycle::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proven = vec![address.ip().to_string()];
        proven.extend(names.iter().map(|name| (*name).to_owned()));
        let own = rcgen::generate_simple_self_signed(proven).unwrap();
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

/// Starts a proxy that takes everyone who wants to go anywhere to this host; its url.
pub(crate) async fn start_proxy_to(host: &GitHost) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (to, lifecycle) = (host.address, Lifecycle::new());
    lifecycle.clone().spawn_detached("proxy", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            lifecycle.spawn_detached("proxied connection", async move {
                let mut stream = BufReader::new(stream);
                let (mut first, mut line) = (String::new(), String::new());
                stream.read_line(&mut first).await.unwrap();
                assert!(first.starts_with("CONNECT "), "{first}");
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).await.unwrap();
                }
                let mut there = TcpStream::connect(to).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    format!("http://{address}")
}

/// An sshd that lets in who has one key.
pub(crate) struct SshHost {
    address: SocketAddr,
    folder: TempDir,
}

impl SshHost {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["host", "client", "stranger"] {
            let path = folder.path().join(name);
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(path))
            .await;
        }
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n",
            path("host"),
            path("client.pub")
        );
        std::fs::write(path("config"), config).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where it shuts its unprivileged half in; the service's unit makes it at boot.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, log, lifecycle) = (path("config"), path("log"), Lifecycle::new());
        lifecycle.clone().spawn_detached("ssh host", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                let output = stream.try_clone().unwrap();
                // As inetd would: one process for each connection, and no port to agree on.
                let mut sshd = Command::new("/usr/sbin/sshd")
                    .args(["-i", "-f", &config, "-E", &log])
                    .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
                    .stdout(Stdio::from(std::os::fd::OwnedFd::from(output)))
                    .spawn()
                    .unwrap();
                lifecycle.spawn_detached("sshd", async move {
                    let _ = sshd.wait().await;
                });
            }
        });
        Self { address, folder }
    }

    /// `ssh://USER@127.0.0.1:PORT` and the path.
    pub(crate) async fn url(&self, path: &Path) -> String {
        let user = run(Command::new("id").arg("-un")).await;
        format!("ssh://{}@{}{}", user.trim(), self.address, path.display())
    }

    /// The private key that opens it.
    pub(crate) fn key(&self) -> String {
        self.read("client")
    }

    /// One that does not.
    pub(crate) fn strange_key(&self) -> String {
        self.read("stranger")
    }

    /// The line of `known_hosts` by which it is known, or one that it can't live up to.
    pub(crate) fn known_as(&self, itself: bool) -> String {
        let name = if itself { "host.pub" } else { "stranger.pub" };
        let (ip, port) = (self.address.ip(), self.address.port());
        format!("[{ip}]:{port} {}", self.read(name))
    }

    /// What it did, in its own words.
    pub(crate) fn log(&self) -> String {
        self.read("log")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

/// Runs a program that must succeed; what it printed.
async fn run(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
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
