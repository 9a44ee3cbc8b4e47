//! The bytes between the server and a container: a unix socket on the same machine, or TCP.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio_util::either::Either;

/// A connection, on either side of it.
pub(super) type Stream = Either<UnixStream, TcpStream>;
/// What is read from it.
pub(super) type ReadHalf = Either<unix::OwnedReadHalf, tcp::OwnedReadHalf>;
/// What is written to it.
pub(super) type WriteHalf = Either<unix::OwnedWriteHalf, tcp::OwnedWriteHalf>;

/// The environment variable by which a container learns what the server will show it over TCP.
pub const TOKEN_VARIABLE: &str = "GASTOWND_CONTAINER_TOKEN";

/// What stands before the address on the line by which a container says where it listens.
pub(super) const LISTENING: &str = "gastownd container listening on tcp://";

/// Where a container answers.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    /// On a socket that only this user can open.
    Socket(PathBuf),
    /// At the address in a file of this folder, which was written when the container told it, and only to
    /// who shows the token in another.
    Tcp { run_dir: PathBuf },
}

impl Endpoint {
    /// A connection, and the token that every request on it shows.
    ///
    /// # Errors
    /// Nobody is there, or the system's own reason.
    pub(super) async fn connect(&self) -> std::io::Result<(Stream, Option<String>)> {
        match self {
            Self::Socket(path) => Ok((Either::Left(UnixStream::connect(path).await?), None)),
            Self::Tcp { run_dir } => {
                let address = tokio::fs::read_to_string(address_path(run_dir)).await?;
                let token = tokio::fs::read_to_string(token_path(run_dir)).await?;
                let stream = TcpStream::connect(address.trim()).await?;
                // Requests and acknowledgements are small, and somebody waits for each.
                stream.set_nodelay(true)?;
                Ok((Either::Right(stream), Some(token)))
            }
        }
    }
}

/// The file with what the container of that folder wants to be shown.
pub(super) fn token_path(run_dir: &Path) -> PathBuf {
    run_dir.join("token")
}

/// The file with the address at which the container of that folder answers.
pub(super) fn address_path(run_dir: &Path) -> PathBuf {
    run_dir.join("address")
}

/// A connection that has become a WebSocket: what was read behind the handshake, and its halves.
/// `None` if it is not one of ours.
pub(super) fn upgraded(connection: Upgraded) -> Option<(Bytes, ReadHalf, WriteHalf)> {
    let parts = connection.downcast::<TokioIo<Stream>>().ok()?;
    let (reader, writer) = match parts.io.into_inner() {
        Either::Left(stream) => {
            let (reader, writer) = stream.into_split();
            (Either::Left(reader), Either::Left(writer))
        }
        Either::Right(stream) => {
            let (reader, writer) = stream.into_split();
            (Either::Right(reader), Either::Right(writer))
        }
    };
    Some((parts.read_buf, reader, writer))
}
