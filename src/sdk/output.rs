//! What a process prints: drained so that it never blocks, and only its end kept.

use std::sync::Mutex;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;

/// How much of the end of each stream is kept: enough for a stack trace.
const KEPT: usize = 4096;

/// What an agent server says when it listens, before the address.
const LISTENING: &str = "server listening on ";

/// The end of a process's two streams.
#[derive(Debug, Default)]
pub(super) struct Output {
    tails: Mutex<Tails>,
    printed: Notify,
}

#[derive(Debug, Default)]
struct Tails {
    stdout: Tail,
    stderr: Tail,
    address: Option<String>,
}

impl Output {
    pub(super) fn push_stdout(&self, bytes: &[u8]) {
        let mut tails = self.lock();
        tails.stdout.push(bytes);
        if tails.address.is_none() {
            tails.address = tails.stdout.address();
        }
        drop(tails);
        self.printed.notify_one();
    }

    pub(super) fn push_stderr(&self, bytes: &[u8]) {
        self.lock().stderr.push(bytes);
    }

    /// Resolves with the URL once the program has said that it listens. For one waiter.
    pub(super) async fn listening(&self) -> String {
        loop {
            if let Some(address) = self.lock().address.clone() {
                return address;
            }
            self.printed.notified().await;
        }
    }

    /// The end of both streams, without what no person could read.
    pub(super) fn last(&self) -> String {
        let tails = self.lock();
        let text = format!("{}{}", tails.stdout.text(), tails.stderr.text());
        text.trim().to_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tails> {
        self.tails
            .lock()
            .expect("no code panics while it holds the tails")
    }
}

/// Reads `stream` to its end, however much comes.
pub(super) async fn drain(mut stream: impl AsyncRead + Unpin, keep: impl Fn(&[u8])) {
    let mut buffer = [0; KEPT];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        keep(&buffer[..length]);
    }
}

/// The last [`KEPT`] bytes of a stream.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The address in a complete line that says it listens.
    fn address(&self) -> Option<String> {
        let text = self.text();
        let (_, after) = text.split_once(LISTENING)?;
        let (address, _) = after.split_once('\n')?;
        Some(address.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let output = Output::default();
        for _ in 0..100 {
            output.push_stderr(&[b'x'; 1000]);
        }
        output.push_stderr("the end \u{20ac}".as_bytes());
        assert!(output.last().ends_with("x the end €") || output.last().ends_with("xthe end €"));
        assert!(output.last().len() <= KEPT + 3);
    }

    #[tokio::test]
    async fn the_address_is_found_over_several_reads() {
        let output = Output::default();
        output.push_stdout(b"Warning: something\nopencode server list");
        output.push_stdout(b"ening on http://127.0.0.1:40");
        assert!(output.lock().address.is_none());
        output.push_stdout(b"96\n");
        assert_eq!(output.listening().await, "http://127.0.0.1:4096");
    }

    #[tokio::test]
    async fn a_stream_is_drained_to_its_end() {
        let output = Output::default();
        drain(&[b'y'; 10_000][..], |bytes| output.push_stdout(bytes)).await;
        assert_eq!(output.last().len(), KEPT);
    }
}
