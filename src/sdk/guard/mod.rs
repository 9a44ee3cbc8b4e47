//! The guard: a process that ends an agent program together with everything it ever started.
//!
//! `gastownd guard -- PROGRAM ARGS...` becomes three processes in a row:
//!
//! ```text
//! parent ──pipe──> outer guard ──pipe──> inner guard ──> PROGRAM ──> whatever it starts
//! ```
//!
//! Both guards run the same loop ([`watch`]). Each is a *child subreaper*, so a process below it
//! whose parent ends becomes its own child, whatever group or session it moved to. Each learns of
//! its parent's end from the pipe that is its standard input (only the parent holds the other end,
//! and the kernel closes that however the parent ends), and from a signal as a second means. When
//! the parent or the child ends, a guard kills every process below it and ends itself with the
//! child's exit code.
//!
//! With `--stdin` the first pipe carries what PROGRAM reads, too: the guards look only whether it was
//! closed, and PROGRAM reads from the same pipe.
//!
//! Why two: a guard that is killed by SIGKILL can do nothing more, but the other one can. The
//! third stage asks the kernel to kill PROGRAM should both guards be killed at once.
//!
//! Invariant: a guard never ends before everything below it has ended (or the kernel refuses to
//! end it for [`descendants::END_LIMIT`]).
//!
//! Absent on purpose: isolation (that is bubblewrap's work), restarting, any threads (the kernel's
//! parent-death signal follows the thread that started the child), and unsafe code.

mod descendants;
mod stage;
mod watch;

pub(super) use stage::STDIN;
pub use stage::run;
pub(super) use watch::exit_from_code;
