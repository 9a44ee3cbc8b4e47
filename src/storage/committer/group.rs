//! What one flush is for, and how long it is put off for more of it.

use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::super::Error;
use super::{Ahead, Applied, Job, Turn};

/// The most waiters released by one flush, so that one round's work is bounded.
const GROUP_LEN_MAX: usize = 4096;

/// The longest that a flush is put off for more batches, however slow the disk is.
const GATHER_MAX: Duration = Duration::from_millis(2);
/// How long to sleep before looking what has come: waking for each batch would cost more than is
/// gained.
const GATHER_NAP: Duration = Duration::from_micros(50);

/// The batches that the next flush is for.
#[derive(Default)]
pub(super) struct Group {
    pub(super) applied: Vec<Applied>,
    pub(super) ahead: Vec<Ahead>,
    /// Who waits for the journal to be empty.
    pub(super) journal_waiters: Vec<Sender<Result<(), Error>>>,
    turns: Vec<Turn>,
    pub(super) stopping: bool,
}

impl Group {
    fn len(&self) -> usize {
        self.batches() + self.turns.len()
    }

    /// How many batches it holds.
    pub(super) fn batches(&self) -> usize {
        self.applied.len() + self.ahead.len()
    }

    fn has_room(&self) -> bool {
        !self.stopping && self.len() < GROUP_LEN_MAX
    }

    pub(super) fn take(&mut self, job: Job) {
        match job {
            Job::Applied(batch) => self.applied.push(batch),
            Job::Ahead(batch) => self.ahead.push(batch),
            Job::EmptyJournal(waiter) => self.journal_waiters.push(waiter),
            Job::Turn(turn) => self.turns.push(turn),
            Job::Stop => self.stopping = true,
        }
    }

    /// Takes what waits, what is written meanwhile included.
    pub(super) fn take_all(&mut self, waiting: &Receiver<Job>) {
        while self.has_room()
            && let Ok(job) = waiting.try_recv()
        {
            self.take(job);
        }
    }

    /// Lets those write who wait for their turn: as late as can be, so that they write much at once.
    pub(super) fn give_turns(&mut self, waiting: &Receiver<Job>) {
        while !self.turns.is_empty() {
            for turn in std::mem::take(&mut self.turns) {
                turn();
            }
            // What they wrote comes in by the queue, as everybody's does.
            self.take_all(waiting);
        }
    }
}

/// How long a flush is put off. Writers that the last one released are about to write again; if
/// there were several, it is better to flush once for all of them. The wait is never longer than the
/// last flush took, so a write takes at most twice as long as the disk asks for.
#[derive(Default)]
pub(super) struct Gathering {
    /// How many batches the last flush was for.
    released: usize,
    flush_took: Duration,
}

impl Gathering {
    pub(super) fn flushed(&mut self, released: usize, took: Duration) {
        (self.released, self.flush_took) = (released, took);
    }

    pub(super) fn wait(&self, group: &mut Group, waiting: &Receiver<Job>) {
        let end = Instant::now() + self.flush_took.min(GATHER_MAX);
        while group.has_room() && self.expects_more(group.len()) && Instant::now() < end {
            std::thread::sleep(GATHER_NAP);
            group.take_all(waiting);
        }
    }

    /// Whether so many batches are fewer than are to be expected.
    fn expects_more(&self, len: usize) -> bool {
        self.released > 1 && len < self.released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_several_writers_are_waited_for() {
        let mut gathering = Gathering::default();
        assert!(!gathering.expects_more(0));
        for (released, len, expected) in [(1, 1, false), (8, 1, true), (8, 7, true), (8, 8, false)]
        {
            gathering.flushed(released, GATHER_MAX);
            assert_eq!(gathering.expects_more(len), expected, "{released} {len}");
        }
    }
}
