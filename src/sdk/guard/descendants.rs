//! Ending everything below this process, which must be a child subreaper.

use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use tokio::signal::unix::Signal as SignalStream;
use tokio::time::{Instant, timeout, timeout_at};

/// How long processes may take to end after SIGKILL. Only one that the kernel itself holds
/// (a broken disk or network mount) needs longer, and waiting for that helps nobody.
pub(super) const END_LIMIT: Duration = Duration::from_secs(10);

/// Signals may be merged, so look again after this long even if none came.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Kills our children, adopts and kills theirs, and so on until there are none.
pub(super) async fn end_all(child_ended: &mut SignalStream) {
    let deadline = Instant::now() + END_LIMIT;
    let _ = timeout_at(deadline, async {
        loop {
            for child in children_of(getpid()) {
                // It may have ended since; then `reap` finds it.
                let _ = kill_process(child, Signal::KILL);
            }
            if !children_remain() {
                return;
            }
            let _ = timeout(LOOK_AGAIN, child_ended.recv()).await;
        }
    })
    .await;
}

/// Reaps all that ended; whether any child is left.
fn children_remain() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// The direct children of `parent`. A process table that can't be read has none to show.
pub(super) fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent.as_raw_nonzero().get()))
        .filter_map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parent_in_stat(&stat)
}

/// `pid (name) state ppid ...`, where the name may hold spaces and parentheses itself.
fn parent_in_stat(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat("12 (sleep) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("12 (a) S 9 (b c) R 7 1"), Some(7));
        assert_eq!(parent_in_stat("12 (sleep"), None);
    }

    #[test]
    fn a_process_is_among_its_parents_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        assert!(children_of(getpid()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
