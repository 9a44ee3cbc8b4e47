//! The demo as a newcomer runs it: it gets done by itself, and leaves nothing however it ends.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::support::program::Program;
use crate::support::server::processes_of;

/// Who tries a program does not wait longer.
const BOUND: Duration = Duration::from_secs(60);

/// A demo whose temporary folder is made in a folder of the test.
struct Demo {
    program: Program,
    temporary: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let temporary = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gastownd"));
        command
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", temporary.path())
            // As a shell does it, so that Ctrl-C can be had.
            .process_group(0);
        let program = Program::start(&mut command);
        Self { program, temporary }
    }

    /// What Ctrl-C in a terminal does: every process of the group is told.
    fn interrupt(&self) {
        let pid = i32::try_from(self.program.pid()).unwrap();
        kill_process_group(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let processes = processes_of(self.temporary.path());
        assert_eq!(processes, Vec::<u32>::new(), "processes are left");
        let files: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(files.is_empty(), "files are left: {files:?}");
    }
}

#[test]
fn merges_three_beads_by_itself_and_leaves_nothing() {
    let mut demo = Demo::start(&["--exit"]);
    demo.program.told_after("open http://127.0.0.1:");
    demo.program.told_within(BOUND, "3 beads merged");
    assert!(demo.program.wait().success());
    demo.assert_nothing_is_left();
}

#[test]
fn goes_on_serving_until_ctrl_c() {
    let mut demo = Demo::start(&[]);
    let address = demo.program.told_after("open http://");
    demo.program.told_after("3 beads merged");
    demo.program.told_after("press Ctrl-C");
    std::net::TcpStream::connect(address.trim()).unwrap();
    demo.interrupt();
    assert!(demo.program.wait().success());
    demo.assert_nothing_is_left();
}

#[test]
fn ctrl_c_in_the_middle_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.program.told_after("slung to");
    demo.program.told_after("slung to");
    demo.program.told_after("slung to");
    demo.interrupt();
    assert!(demo.program.wait().success());
    demo.assert_nothing_is_left();
}

#[test]
fn sigterm_at_its_first_word_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.program.told_after("open http://");
    assert!(demo.program.terminate().success());
    demo.assert_nothing_is_left();
}
