//! One run of the notification program.

use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Error;

/// What it started and left behind may hold its standard error open for longer than it lives.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The end of its standard error that is kept.
const SAID_BYTES_MAX: usize = 2 << 10;

pub(super) async fn run(program: &Path, json: String, limit: Duration) -> Result<(), Error> {
    let failed = |source| Error::Start {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut group = Group::of(&child);
    let (status, said) = tokio::time::timeout(limit, attend(&mut child, json))
        .await
        // Dropping `group` ends whatever it started as well.
        .map_err(|_| Error::TimedOut {
            seconds: limit.as_secs(),
        })?
        .map_err(failed)?;
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        status: status.to_string(),
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Gives it its input, hears it out and waits for its end. It need not read its input.
async fn attend(child: &mut Child, json: String) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    let stdin = child.stdin.take();
    let stderr = child.stderr.take();
    let mut giving = pin!(async move {
        if let Some(mut stdin) = stdin {
            // It may end without having read it, and its exit says how it went.
            let _ = stdin.write_all(json.as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
    });
    let mut hearing = pin!(last_bytes(stderr));
    let (mut given, mut said) = (false, None);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = &mut giving, if !given => given = true,
            bytes = &mut hearing, if said.is_none() => said = Some(bytes),
        }
    };
    if said.is_none() {
        said = tokio::time::timeout(LAST_WORDS, hearing).await.ok();
    }
    Ok((status, said.unwrap_or_default()))
}

async fn last_bytes(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..count]);
        kept.drain(..kept.len().saturating_sub(SAID_BYTES_MAX));
    }
    kept
}

/// The process group of a running program: killed unless the program ended first.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let raw = child.id().and_then(|id| i32::try_from(id).ok());
        Self(raw.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It fails only if the group is gone already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test.
    const LONG: Duration = Duration::from_secs(600);

    /// A program that runs this shell script.
    fn program(folder: &Path, script: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn its_input_is_the_notice_and_its_exit_the_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let hook = program(folder.path(), &format!("cat > {}", told.display()));
        run(&hook, r#"{"a":1}"#.to_owned(), LONG).await.unwrap();
        assert_eq!(std::fs::read_to_string(told).unwrap(), r#"{"a":1}"#);
        let hook = program(folder.path(), "echo no route to the pager >&2; exit 3");
        let error = run(&hook, "x".repeat(1 << 20), LONG).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("3") && text.contains("no route"), "{text}");
        let missing = run(Path::new("/no/such/hook"), String::new(), LONG).await;
        assert!(matches!(missing, Err(Error::Start { .. })));
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("held");
        // The child holds the other end of the pipe open for as long as it lives.
        let script = format!("mkfifo {0}; sleep 600 > {0} & cat {0}", fifo.display());
        let hook = program(folder.path(), &script);
        let error = run(&hook, String::new(), Duration::from_millis(300)).await;
        assert!(matches!(error, Err(Error::TimedOut { .. })), "{error:?}");
        let processes = || std::fs::read_dir("/proc").unwrap().flatten();
        let holds = |entry: &std::fs::DirEntry| {
            let open = std::fs::read_dir(entry.path().join("fd"))
                .into_iter()
                .flatten();
            let mut open = open
                .flatten()
                .filter_map(|fd| std::fs::read_link(fd.path()).ok());
            open.any(|path| path == fifo)
        };
        while processes().any(|entry| holds(&entry)) {
            tokio::task::yield_now().await;
        }
    }
}
