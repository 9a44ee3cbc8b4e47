//! Where connections come in: the unix socket, or TCP.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::either::Either;

use super::ContainerOptions;
use super::routes::Routes;
use super::socket::Socket;
use crate::container::Error;
use crate::container::protocol::HEAD_BYTES_MAX;
use crate::container::wire::{self, LISTENING, Stream};

/// How long a connection may take to send a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Between two tries to accept when the system has no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The one server has a link and a few requests; on TCP strangers may come as well.
const CONNECTIONS_MAX: usize = 256;

/// Takes connections.
pub(super) enum Listener {
    Socket(Socket),
    Tcp {
        listener: TcpListener,
        /// Where the server reaches it.
        announced: String,
    },
}

impl Listener {
    pub(super) async fn bind(options: &ContainerOptions) -> Result<Self, Error> {
        let Some(tcp) = &options.tcp else {
            return Socket::bind(&options.socket).map(Self::Socket);
        };
        let fail = |source| Error::Listen {
            address: tcp.listen,
            source,
        };
        let listener = TcpListener::bind(tcp.listen).await.map_err(fail)?;
        let bound = listener.local_addr().map_err(fail)?;
        let announced = tcp.announce.clone();
        let announced = announced.unwrap_or_else(|| reachable(bound).to_string());
        Ok(Self::Tcp {
            listener,
            announced,
        })
    }

    /// Tells whoever started it where it listens, if they can't know.
    pub(super) fn tell(&self) {
        let Self::Tcp { announced, .. } = self else {
            return;
        };
        let mut output = io::stdout().lock();
        // Nobody hears it: then nobody finds this container either, and it ends by itself.
        let _ = writeln!(output, "{LISTENING}{announced}").and_then(|()| output.flush());
    }

    /// Serves connections until the process ends.
    pub(super) async fn serve_all(&self, routes: &Arc<Routes>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            match self.accept().await {
                Ok(stream) => {
                    let serving = serve(stream, routes.clone());
                    routes
                        .lifecycle
                        .spawn_detached("serve a connection", async move {
                            serving.await;
                            drop(place);
                        });
                }
                Err(error) => {
                    // Too many open files, most likely: what is open now has to end first.
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Socket(socket) => Ok(Either::Left(socket.listener.accept().await?.0)),
            Self::Tcp { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                wire::tune(&stream)?;
                Ok(Either::Right(stream))
            }
        }
    }
}

/// All addresses of a machine are reached at its own, from itself at least.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let own: IpAddr = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(own, bound.port())
}

async fn serve(stream: Stream, routes: Arc<Routes>) {
    let service = service_fn(move |request| routes.clone().answer(request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection broke: {error}");
    }
}
