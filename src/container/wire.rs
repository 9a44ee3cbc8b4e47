//! The bytes between the server and a container: a unix socket on the same machine, or TCP.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use subtle::ConstantTimeEq;
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio_util::either::Either;
use uuid::Uuid;

/// A connection, on either side of it.
pub(super) type Stream = Either<UnixStream, TcpStream>;
/// What is read from it.
pub(super) type ReadHalf = Either<unix::OwnedReadHalf, tcp::OwnedReadHalf>;
/// What is written to it.
pub(super) type WriteHalf = Either<unix::OwnedWriteHalf, tcp::OwnedWriteHalf>;

/// What stands before the address on the line by which a container says where it listens.
pub(super) const LISTENING: &str = "gastownd container listening on tcp://";

/// A machine that does not take a connection in this time is away.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection without a word is tried after this, and then every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Between two tries of a silent connection.
const TRY_PAUSE: Duration = Duration::from_secs(5);
/// As many tries without an answer, and it is broken.
const TRIES_MAX: u32 = 3;
/// What was sent and is not acknowledged by then breaks the connection, in milliseconds.
const UNACKNOWLEDGED_MS_MAX: u32 = 30_000;

/// What the server shows to one container, on every connection over TCP.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    /// One that nobody guesses: 244 random bits.
    pub(super) fn random() -> Self {
        let half = || Uuid::new_v4().simple().to_string();
        Self(half() + &half())
    }

    /// The token in a file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        match text.trim() {
            "" => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
            token => Ok(Self(token.to_owned())),
        }
    }

    /// Whether a request's `Authorization` shows it. However much of it is right takes equally long to
    /// see.
    pub(super) fn is_shown_by(&self, authorization: &[u8]) -> bool {
        let shown = authorization.strip_prefix(b"Bearer ");
        shown.is_some_and(|shown| shown.ct_eq(self.0.as_bytes()).into())
    }

    /// The `Authorization` that shows it.
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Writes it to a file that only this user can open.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Where a container answers.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    /// On a socket that only this user can open.
    Socket(PathBuf),
    /// Where this file says, which is a [`Contact`].
    Tcp(PathBuf),
}

impl Endpoint {
    /// A connection, and the token that every request on it shows.
    ///
    /// # Errors
    /// Nobody is there, or the system's own reason.
    pub(super) async fn connect(&self) -> io::Result<(Stream, Option<Token>)> {
        match self {
            Self::Socket(path) => Ok((Either::Left(UnixStream::connect(path).await?), None)),
            Self::Tcp(path) => {
                let contact = Contact::read(path)?;
                let address = contact.address.ok_or(io::ErrorKind::NotFound)?;
                let stream =
                    tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await??;
                tune(&stream)?;
                Ok((Either::Right(stream), Some(contact.token)))
            }
        }
    }
}

/// How the container that was launched last is reached over TCP. Kept in a file out of the sight of
/// containers, so that a server that is started anew finds it and no agent can change it.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) token: Token,
    /// `None` until the container has said it.
    pub(super) address: Option<String>,
}

impl Contact {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.lines().map(str::to_owned);
        let token = lines.next().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            token: Token(token),
            address: lines.next(),
        })
    }

    /// Durable when it returns; a crash leaves the one before.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let address = self.address.as_deref().unwrap_or_default();
        let text = format!("{}\n{address}", self.token.0);
        let beside = path.with_extension("new");
        write_private(&beside, text.trim_end())?;
        std::fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // One of another user's, or one that others can read, would stay so.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Small messages go at once, because somebody waits for each; and a machine that went away without a
/// word is noticed.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE_MAX)?;
    sockopt::set_tcp_keepintvl(stream, TRY_PAUSE)?;
    sockopt::set_tcp_keepcnt(stream, TRIES_MAX)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS_MAX)?;
    Ok(())
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
