//! The server's HTTP, spoken on one kept connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use super::error::{During, Error, Result, fail};

/// A server that says nothing for so long hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server is and how it lets one in.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) socket: SocketAddr,
    token: Option<String>,
}

impl Address {
    /// From `http://host:port`, with or without a slash behind it.
    pub(crate) fn parse(url: &str, token: Option<String>) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            return fail(format!(
                "the url must be like http://host:port, not {url}; for a server behind TLS ask the \
                 address that it listens on itself"
            ));
        };
        let host = rest.trim_end_matches('/').to_owned();
        let named = if host.contains(':') && !host.ends_with(']') {
            host.clone()
        } else {
            format!("{host}:80")
        };
        let socket = named
            .to_socket_addrs()
            .during(&format!("find {host}"))?
            .next()
            .ok_or_else(|| Error(format!("{host} has no address")))?;
        Ok(Self {
            host,
            socket,
            token,
        })
    }

    /// A connection to the server.
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let stream =
            TcpStream::connect_timeout(&self.socket, CONNECT_TIMEOUT).map_err(|error| {
                Error(format!(
                    "no server answers at http://{}: {error}",
                    self.host
                ))
            })?;
        stream.set_nodelay(true).during("set up a connection")?;
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .during("set up a connection")?;
        Ok(stream)
    }

    /// A whole request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        let login = self.login();
        format!(
            "{head}{login}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// A request to become a WebSocket.
    pub(crate) fn upgrade(&self, path: &str) -> Vec<u8> {
        let (host, login) = (&self.host, self.login());
        // The key proves nothing to us: the bytes behind the answer are checked instead.
        format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\n{login}connection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes()
    }

    fn login(&self) -> String {
        self.token
            .as_ref()
            .map(|token| format!("authorization: Bearer {token}\r\n"))
            .unwrap_or_default()
    }
}

/// One kept connection.
#[derive(Debug)]
pub(crate) struct Api {
    address: Address,
    stream: BufReader<TcpStream>,
}

impl Api {
    pub(crate) fn connect(address: &Address) -> Result<Self> {
        let stream = BufReader::new(address.connect()?);
        Ok(Self {
            address: address.clone(),
            stream,
        })
    }

    /// The `data` of a request's answer, which must be a success.
    pub(crate) fn must(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (status, mut answer) = self.call(method, path, body)?;
        match status {
            200..=299 => Ok(answer["data"].take()),
            401 | 403 => fail(format!(
                "the server does not let us in ({status}): give the administrator's token with \
                 --token; it is in the file admin.token of the server's data folder"
            )),
            _ => fail(format!("{method} {path} was answered {status}: {answer}")),
        }
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = self.address.request(method, path, &text);
        let (status, answer) = self.exchange(&request)?;
        Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }

    /// Sends a finished request; the status and the whole body of the answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.stream
            .get_mut()
            .write_all(request)
            .during("send a request")?;
        let head = read_head(&mut self.stream)?;
        let mut body = vec![0; head.body_len];
        self.stream.read_exact(&mut body).during("read an answer")?;
        Ok((head.status, body))
    }
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) body_len: usize,
}

/// Reads up to the empty line and not a byte more.
pub(crate) fn read_head(stream: &mut impl BufRead) -> Result<ResponseHead> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let read = stream
            .read_until(b'\n', &mut text)
            .during("read an answer")?;
        if read == 0 {
            return fail("the server closed the connection");
        }
    }
    parse_head(&text)
        .map(|(head, _)| head)
        .ok_or_else(|| Error("the answer is not HTTP; is this a gastownd?".to_owned()))
}

/// The head of the answer at the beginning of `bytes` and where its body begins; `None` if it is
/// not whole yet.
pub(crate) fn parse_head(bytes: &[u8]) -> Option<(ResponseHead, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let body_len = length.unwrap_or(0);
    Some((ResponseHead { status, body_len }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 12\r\nx: y\r\n\r\nbody";
        for end in 0..text.len() - 4 {
            assert_eq!(parse_head(&text[..end]), None, "{end}");
        }
        let head = ResponseHead {
            status: 201,
            body_len: 12,
        };
        assert_eq!(parse_head(text), Some((head, text.len() - 4)));
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        for (url, host) in [
            ("http://127.0.0.1:8787", Some("127.0.0.1:8787")),
            ("http://127.0.0.1:8787/", Some("127.0.0.1:8787")),
            ("https://127.0.0.1", None),
            ("127.0.0.1:8787", None),
            ("http://", None),
        ] {
            let address = Address::parse(url, None).ok().map(|address| address.host);
            assert_eq!(address.as_deref(), host, "{url}");
        }
    }
}
