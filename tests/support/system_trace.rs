//! A trace of system calls (strace), and the question whether anything left before it was durable.
//!
//! strace writes a call's line, or its `<unfinished ...>` half, before it lets the call begin, and
//! the `resumed` half after the call has ended. So the order of lines is an order of events: what
//! ended on an earlier line than another began happened before it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The calls that matter: writes to the database, its syncs, and everything that sends.
const CALLS: &str = "pwrite64,fdatasync,write,writev,sendto,sendmsg,sendmmsg";

/// The words before a program that is to be traced into `file`. The program keeps its process id.
pub(crate) fn strace(file: &Path) -> Vec<String> {
    let installed = Command::new("strace").arg("-V").output();
    assert!(
        installed.is_ok_and(|output| output.status.success()),
        "strace can't be run: install the package strace (tests/run does)"
    );
    // Strings whole: sled writes up to 512 KiB at once. With -D the tracer is not the parent.
    let words = ["strace", "-f", "-D", "-ttt", "-yy", "-s", "1048576", "-e"];
    let mut words: Vec<String> = words.map(ToOwned::to_owned).into();
    words.extend([format!("trace={CALLS}"), "-o".to_owned()]);
    words.push(file.to_string_lossy().into_owned());
    words
}

/// A system call with a descriptor as its first argument.
#[derive(Debug)]
struct Call {
    name: String,
    /// What the descriptor is: a path, or `TCP:[from->to]`.
    target: String,
    /// The arguments behind it, as strace prints them.
    arguments: String,
    /// The line on which it began.
    begin: usize,
    /// The line on which it ended, and what it returned.
    end: Option<(usize, i64)>,
}

/// What was written and then shown.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// What is in the write to the database, as strace prints it.
    pub(crate) written: String,
    /// Whom or what it is shown by.
    pub(crate) shown: Shown,
}

#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// The first thing sent to this port of a client.
    ToPort(u16),
    /// The first thing sent to anybody that carries this text.
    Carrying(String),
}

/// A read trace.
#[derive(Debug)]
pub(crate) struct Trace {
    calls: Vec<Call>,
}

impl Trace {
    pub(crate) fn read(text: &str) -> Self {
        let mut calls: Vec<Call> = Vec::new();
        let mut unfinished: HashMap<(&str, &str), usize> = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let Some((process, rest)) = line.split_once(' ') else {
                continue;
            };
            let rest = rest.trim_start();
            let Some((_time, rest)) = rest.split_once(' ') else {
                continue;
            };
            if let Some(resumed) = rest.strip_prefix("<... ") {
                let (name, rest) = resumed.split_once(" resumed>").unwrap_or((resumed, ""));
                if let Some(at) = unfinished.remove(&(process, name)) {
                    calls[at].end = result(rest).map(|result| (number, result));
                }
                continue;
            }
            let Some((name, rest)) = rest.split_once('(') else {
                continue;
            };
            let Some((target, arguments)) = target(rest) else {
                continue;
            };
            let end = if arguments.ends_with("<unfinished ...>") {
                unfinished.insert((process, name), calls.len());
                None
            } else {
                result(arguments).map(|result| (number, result))
            };
            calls.push(Call {
                name: name.to_owned(),
                target: target.to_owned(),
                arguments: arguments.to_owned(),
                begin: number,
                end,
            });
        }
        Self { calls }
    }

    /// Whether between the first write to one of the database's files and the first showing of it
    /// there was a whole successful sync of that file; if not, why.
    pub(crate) fn check(&self, files: &[PathBuf], claim: &Claim) -> Result<(), String> {
        let write = self
            .calls
            .iter()
            .filter(|call| call.name == "pwrite64")
            .filter(|call| {
                files
                    .iter()
                    .any(|file| call.target == file.to_string_lossy())
            })
            .find(|call| call.arguments.contains(&claim.written))
            .ok_or(format!("{claim:?} was never written to {files:?}"))?;
        let (written, count) = write
            .end
            .ok_or(format!("{claim:?}: the write never ended"))?;
        if count <= 0 {
            return Err(format!("{claim:?}: the write failed"));
        }
        let shown = self
            .calls
            .iter()
            .find(|call| claim.shown.is(call))
            .ok_or(format!("{claim:?} was never shown"))?
            .begin;
        let durable = self
            .calls
            .iter()
            .filter(|call| call.name == "fdatasync" && call.target == write.target)
            .filter(|call| call.begin > written)
            .filter_map(|call| call.end)
            .find(|(_, result)| *result == 0)
            .ok_or(format!("{claim:?} was never synced"))?
            .0;
        if durable < shown {
            Ok(())
        } else {
            Err(format!(
                "{claim:?} was shown on line {}, durable on line {}",
                shown + 1,
                durable + 1
            ))
        }
    }
}

impl Shown {
    fn is(&self, call: &Call) -> bool {
        let sends = ["write", "writev", "sendto", "sendmsg", "sendmmsg"];
        if !sends.contains(&call.name.as_str()) || !call.target.starts_with("TCP") {
            return false;
        }
        match self {
            Self::ToPort(port) => call.target.ends_with(&format!("->127.0.0.1:{port}]")),
            Self::Carrying(text) => call.arguments.contains(text),
        }
    }
}

/// `9</a/path>, rest` or `9<TCP:[a->b]>, rest`: what the descriptor is, and the rest.
fn target(arguments: &str) -> Option<(&str, &str)> {
    let (number, rest) = arguments.split_once('<')?;
    number.parse::<u32>().ok()?;
    if rest.starts_with("TCP") || rest.starts_with("UNIX") {
        let (target, arguments) = rest.split_once("]>")?;
        // The bracket belongs to the name.
        return Some((&rest[..=target.len()], arguments));
    }
    rest.split_once('>')
}

fn result(line: &str) -> Option<i64> {
    let (_, result) = line.rsplit_once(") = ")?;
    result.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = r#"7 1.0 pwrite64(9</d/db>, "..my-mark..", 11, 0) = 11"#;
    const SYNC: &str = "7 1.1 fdatasync(10</d/db>) = 0";
    const REPLY: &str =
        r#"8 1.2 sendto(12<TCP:[127.0.0.1:80->127.0.0.1:555]>, "HTTP/1.1 201", 12) = 12"#;
    const FRAME: &str =
        r#"8 1.3 writev(13<TCP:[127.0.0.1:80->127.0.0.1:777]>, [{iov_base="my-mark"}], 1) = 7"#;

    #[track_caller]
    fn check(lines: &[&str], expected: Result<(), &str>) {
        let trace = Trace::read(&lines.join("\n"));
        let files = ["/d/db", "/d/journal"].map(PathBuf::from);
        for shown in [Shown::ToPort(555), Shown::Carrying("my-mark".to_owned())] {
            let written = "my-mark".to_owned();
            let outcome = trace.check(&files, &Claim { written, shown });
            match expected {
                Ok(()) => assert_eq!(outcome, Ok(())),
                Err(why) => assert!(
                    outcome.as_ref().is_err_and(|text| text.contains(why)),
                    "{outcome:?}"
                ),
            }
        }
    }

    #[test]
    fn what_is_synced_in_time_passes() {
        check(&[WRITE, SYNC, REPLY, FRAME], Ok(()));
        check(&[SYNC, WRITE, SYNC, FRAME, REPLY], Ok(()));
        let halves = [
            r#"7 1.0 pwrite64(9</d/db>, "..my-mark..", 11, 0 <unfinished ...>"#,
            r#"8 1.0 write(12<TCP:[127.0.0.1:80->127.0.0.1:444]>, "else", 4 <unfinished ...>"#,
            "7 1.1 <... pwrite64 resumed>) = 11",
            "7 1.2 fdatasync(10</d/db> <unfinished ...>",
            "8 1.3 <... write resumed>) = 4",
            "7 1.4 <... fdatasync resumed>) = 0",
            r#"8 1.5 --- SIGCHLD {si_signo=SIGCHLD} ---"#,
            FRAME,
            REPLY,
        ];
        check(&halves, Ok(()));
    }

    /// What is in the journal and synced there reaches the engine when it likes.
    #[test]
    fn the_first_write_counts() {
        let (write, sync) = (
            WRITE.replace("db", "journal"),
            SYNC.replace("db", "journal"),
        );
        check(&[&write, &sync, WRITE, REPLY, FRAME], Ok(()));
        check(
            &[&write, WRITE, SYNC, REPLY, FRAME],
            Err("was never synced"),
        );
    }

    #[test]
    fn what_is_shown_too_early_is_found() {
        let shown = Err("was shown on line");
        check(&[WRITE, REPLY, FRAME, SYNC], shown);
        check(&[REPLY, FRAME, WRITE, SYNC], shown);
        // The first counts, not the last.
        check(&[WRITE, REPLY, FRAME, SYNC, REPLY, FRAME], shown);
        // A sync that had not ended.
        let begun = "7 1.1 fdatasync(10</d/db> <unfinished ...>";
        let ended = "7 1.4 <... fdatasync resumed>) = 0";
        check(&[WRITE, begun, REPLY, FRAME, ended], shown);
        // One that had begun before the write ended does not count.
        let half = r#"6 1.0 pwrite64(9</d/db>, "..my-mark..", 11, 0 <unfinished ...>"#;
        let rest = "6 1.1 <... pwrite64 resumed>) = 11";
        check(&[half, begun, rest, ended, REPLY, FRAME, SYNC], shown);
    }

    #[test]
    fn what_proves_nothing_is_found() {
        let never = Err("was never synced");
        check(&[WRITE, REPLY, FRAME], never);
        check(&[SYNC, WRITE, REPLY, FRAME], never);
        let failed = "7 1.1 fdatasync(10</d/db>) = -1 EIO (Input/output error)";
        check(&[WRITE, failed, REPLY, FRAME], never);
        for other in ["other", "journal"] {
            let other = format!("7 1.1 fdatasync(10</d/{other}>) = 0");
            check(&[WRITE, &other, REPLY, FRAME], never);
        }
        check(&[SYNC, REPLY, FRAME], Err("was never written"));
        check(&[WRITE, SYNC], Err("was never shown"));
        let refused = r#"7 1.0 pwrite64(9</d/db>, "my-mark", 7, 0) = -1 EIO (Input/output error)"#;
        check(&[refused, SYNC, REPLY, FRAME], Err("the write failed"));
    }
}
