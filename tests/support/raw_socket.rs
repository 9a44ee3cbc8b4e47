//! A WebSocket client small enough for hundreds at once, which takes a lost connection as news and
//! not as a failure.

use std::io::{self, ErrorKind};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::server::PATIENCE;

pub(crate) struct RawSocket {
    io: BufReader<TcpStream>,
}

impl RawSocket {
    /// Connects and takes the hello.
    pub(crate) async fn connect(address: &str, path: &str) -> io::Result<Self> {
        let mut io = BufReader::new(TcpStream::connect(address).await?);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await?;
        let mut status = String::new();
        io.read_line(&mut status).await?;
        if !status.starts_with("HTTP/1.1 101") {
            return Err(io::Error::other(status));
        }
        let mut line = String::new();
        while io.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let mut socket = Self { io };
        let hello = socket.next().await?;
        assert_eq!(hello["type"], "hello", "{hello}");
        Ok(socket)
    }

    pub(crate) async fn say(&mut self, message: &Value) -> io::Result<()> {
        self.frame(0x81, message.to_string().as_bytes()).await
    }

    /// The next message; pings are answered.
    pub(crate) async fn next(&mut self) -> io::Result<Value> {
        loop {
            let (opcode, payload) = self.read().await?;
            match opcode {
                1 => return Ok(serde_json::from_slice(&payload).unwrap()),
                9 => self.frame(0x8A, &payload).await?,
                _ => return Err(ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    async fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let first = tokio::time::timeout(PATIENCE, self.io.read_u8())
            .await
            .expect("a message within patience")?;
        let len = match self.io.read_u8().await? {
            126 => u64::from(self.io.read_u16().await?),
            127 => self.io.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.io.read_exact(&mut payload).await?;
        Ok((first & 0x0F, payload))
    }

    /// Masked with zeros.
    async fn frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(short @ 0..=125) => frame.push(0x80 | short),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.io.write_all(&frame).await
    }
}
