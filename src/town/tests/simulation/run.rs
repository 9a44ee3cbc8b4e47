//! One run: what happens next is chance, what follows from it is the real code.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::model::{Timestamp, TownId, seeded};
use crate::storage::Once;
use crate::storage::by_hand::ByHand;
use crate::town::command::{Command, Reply};
use crate::town::refusal::Error;
use crate::town::replay::replay;

use super::checks::Checks;
use super::clients::{self, Known};
use super::random::Random;
use super::server::{self, Server};
use super::supervisor::Supervisor;
use super::world::World;

/// Lines of the trace that are kept for the report of a failure.
const TRACE_LEN_MAX: usize = 400;
/// Requests that clients may send again.
const KEYED_MAX: usize = 20;
/// Answers are kept for a day; nobody sends a request again later than this.
const REPEAT_WITHIN: Duration = Duration::from_secs(12 * 3600);

/// A town, the world around it and those who watch that all is well.
pub(super) struct Simulation<'a> {
    pub(super) hand: &'a mut ByHand,
    name: String,
    pub(super) town_id: TownId,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) server: Server,
    pub(super) world: World,
    pub(super) supervisor: Supervisor,
    pub(super) known: Known,
    pub(super) checks: Checks,
    /// Answers that are under way.
    answers: VecDeque<Waiting>,
    /// Requests that may be sent again.
    keyed: VecDeque<Keyed>,
    /// Something happened that may mean work, and the alarm has not looked yet.
    woken: bool,
    progress: Rc<RefCell<Progress>>,
}

/// How far a run has come; it outlives one that fails.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Steps of chance that were begun.
    pub(super) steps: u64,
    /// Commands carried out, ticks included.
    pub(super) commands: u64,
    pub(super) crashes: u64,
    pub(super) trace: VecDeque<String>,
}

/// What has become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Waiting,
    /// The process that was to give it is gone.
    Lost,
    Granted,
    Refused,
}

type Send = Rc<dyn Fn(&mut Simulation<'_>, Once, Rc<Cell<bool>>)>;

/// A request with a key of its own.
#[derive(Clone)]
struct Keyed {
    once: Once,
    /// Whether it was answered, and so is durable.
    granted: Rc<Cell<bool>>,
    send: Send,
}

struct Waiting {
    what: &'static str,
    poll: Box<dyn FnMut() -> Answer>,
}

/// What a step of chance may be.
#[derive(Clone, Copy)]
enum Step {
    Client,
    Repeat,
    Commit,
    Effect,
    Link,
    Time,
    Tick,
    Crash,
    LoseContainer,
    BreakLink,
    Drain,
}

const STEPS: &[(u64, Step)] = &[
    (240, Step::Client),
    (20, Step::Repeat),
    (240, Step::Commit),
    (180, Step::Effect),
    (180, Step::Link),
    (140, Step::Time),
    (60, Step::Tick),
    (8, Step::Crash),
    (3, Step::LoseContainer),
    (4, Step::BreakLink),
    (2, Step::Drain),
];

impl<'a> Simulation<'a> {
    pub(super) fn new(hand: &'a mut ByHand, seed: u64, progress: Rc<RefCell<Progress>>) -> Self {
        seeded::begin(seed);
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
        let town_id = TownId::random();
        let name = format!("town/{town_id}");
        server::create(hand, &name, town_id, &clock);
        let server = Server::open(hand, &name, town_id, &clock);
        let mut simulation = Self {
            hand,
            name,
            town_id,
            clock,
            random: Random::new(seed),
            server,
            world: World::default(),
            supervisor: Supervisor::default(),
            known: Known::default(),
            checks: Checks::default(),
            answers: VecDeque::new(),
            keyed: VecDeque::new(),
            woken: false,
            progress,
        };
        simulation.begin();
        simulation.adopt();
        simulation
    }

    /// The tree is of no use any more.
    pub(super) fn discard(self) {
        let name = self.name.clone();
        drop(self.server);
        self.hand.remove(&name);
        seeded::end();
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn note(&mut self, line: String) {
        let trace = &mut self.progress.borrow_mut().trace;
        if trace.len() >= TRACE_LEN_MAX {
            trace.pop_front();
        }
        trace.push_back(line);
    }

    /// Does what chance says.
    pub(super) fn step(&mut self) {
        self.progress.borrow_mut().steps += 1;
        match self.random.weighted(STEPS) {
            Step::Client => clients::act(self),
            Step::Repeat => self.repeat(),
            Step::Commit => self.commit_some(),
            Step::Effect => self.run_effect(),
            Step::Link => self.move_link(),
            Step::Time => self.pass_time(),
            Step::Tick => self.look(),
            Step::Crash => self.crash(),
            Step::LoseContainer => self.lose_container(),
            Step::BreakLink => self.break_link(),
            Step::Drain => self.drain_container("a signal ended it"),
        }
        if self.woken && self.random.chance(70) {
            self.look();
        }
    }

    // ---- the server -----------------------------------------------------------------------

    /// Gives the actor a command of which nobody waits for an answer.
    pub(super) fn tell(&mut self, what: &'static str, command: Command) {
        self.note(format!("{} {what}", self.now().as_millis()));
        // No two things happen at the same moment.
        self.clock.set(self.now().after(Duration::from_millis(1)));
        self.progress.borrow_mut().commands += 1;
        self.checks.expect(&command);
        self.woken |= self.server.actor.carry_out(command);
        self.observe(what);
    }

    /// Gives the actor a command; what becomes of the answer is asked of the closure.
    pub(super) fn ask<T: 'static>(
        &mut self,
        what: &'static str,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Box<dyn FnMut() -> Answer> {
        let (reply, mut answer) = oneshot::channel::<Result<T, Error>>();
        self.tell(what, command(reply));
        let mut last = Answer::Waiting;
        let mut poll: Box<dyn FnMut() -> Answer> = Box::new(move || {
            if last == Answer::Waiting {
                last = match answer.try_recv() {
                    Ok(Ok(_)) => Answer::Granted,
                    Ok(Err(Error::Refused(_))) => Answer::Refused,
                    Ok(Err(error)) => panic!("{what} ended in {error:?}"),
                    Err(oneshot::error::TryRecvError::Empty) => Answer::Waiting,
                    Err(oneshot::error::TryRecvError::Closed) => Answer::Lost,
                };
            }
            last
        });
        if poll() != Answer::Waiting {
            let pending = self.hand.pending();
            assert_eq!(pending, 0, "{what} was answered before all was durable");
        }
        poll
    }

    /// As [`Self::ask`], by somebody who only notes whether it was answered at all. Some give their
    /// request a key, so that they can send it again.
    pub(super) fn request<T: 'static>(
        &mut self,
        what: &'static str,
        command: impl Fn(Reply<T>) -> Command + 'static,
    ) {
        if !self.random.chance(15) {
            let poll = self.ask(what, command);
            self.answers.push_back(Waiting { what, poll });
            return;
        }
        let key = format!("client:{}", self.known.new_name("key"));
        let send: Send = Rc::new(move |simulation, once, granted| {
            let mut poll =
                simulation.ask(what, |reply| Command::Once(once, Box::new(command(reply))));
            let poll = Box::new(move || {
                let answer = poll();
                granted.set(granted.get() || answer == Answer::Granted);
                answer
            });
            simulation.answers.push_back(Waiting { what, poll });
        });
        let keyed = Keyed {
            once: Once {
                key,
                fingerprint: 1,
                at: self.now(),
            },
            granted: Rc::default(),
            send,
        };
        (keyed.send)(self, keyed.once.clone(), keyed.granted.clone());
        if self.keyed.len() >= KEYED_MAX {
            self.keyed.pop_front();
        }
        self.keyed.push_back(keyed);
    }

    /// Somebody sends a request again, having heard the answer or not.
    fn repeat(&mut self) {
        if self.keyed.is_empty() {
            return;
        }
        let index = self.random.below(self.keyed.len());
        let Keyed {
            mut once,
            granted,
            send,
        } = self.keyed[index].clone();
        if self.now().since(once.at) > REPEAT_WITHIN {
            return;
        }
        once.at = self.now();
        self.note(format!("again {}", once.key));
        let was_granted = granted.get();
        let before = self.checks.writes();
        send(self, once, granted);
        assert!(
            !was_granted || self.checks.writes() == before,
            "a request that was granted was carried out again"
        );
    }

    fn begin(&mut self) {
        self.server.actor.tick();
        self.observe("the beginning");
    }

    /// The alarm rings, or somebody woke it.
    pub(super) fn look(&mut self) {
        self.woken = false;
        let before = self.hand.pending();
        self.checks.expect_nothing();
        self.clock.set(self.now().after(Duration::from_millis(1)));
        self.progress.borrow_mut().commands += 1;
        self.server.actor.tick();
        // What was done may have made more work.
        self.woken = self.server.actor.woken;
        if self.hand.pending() > before {
            self.note(format!("{} tick", self.now().as_millis()));
        }
        self.observe("a tick");
        while let Ok(line) = self.server.looks.try_recv() {
            let replayed = replay(line.as_bytes()).unwrap();
            assert_eq!((replayed.looks, replayed.different), (1, 0), "{replayed}");
        }
    }

    fn observe(&mut self, what: &'static str) {
        self.checks
            .observe(what, self.hand, &self.server.tree, &mut self.known);
    }

    fn commit_some(&mut self) {
        let pending = self.hand.pending();
        if pending > 0 {
            let count = 1 + self.random.below(pending);
            self.commit(count);
        }
    }

    pub(super) fn commit(&mut self, count: usize) {
        let count = count.min(self.hand.pending());
        if count == 0 {
            return;
        }
        self.note(format!("{} {count} durable", self.now().as_millis()));
        self.hand.make_durable(count);
        self.checks.durable(count, &self.server.actor.feed);
        let pending = self.hand.pending();
        self.answers.retain_mut(|waiting| match (waiting.poll)() {
            Answer::Waiting => {
                assert!(pending > 0, "{} is never answered", waiting.what);
                true
            }
            Answer::Lost => panic!("the answer to {} was dropped", waiting.what),
            Answer::Granted | Answer::Refused => false,
        });
    }

    /// The process dies and another one opens the database.
    pub(super) fn crash(&mut self) {
        let lost = self.hand.pending();
        self.note(format!("{} CRASH, {lost} lost", self.now().as_millis()));
        self.progress.borrow_mut().crashes += 1;
        self.answers.clear();
        self.woken = false;
        // Some of the effects were carried out before the end.
        let carried_out = self.random.below(4);
        for _ in 0..carried_out {
            if !self.run_effect_unheard() {
                break;
            }
        }
        self.hand.crash(&self.server.tree);
        self.checks.crashed();
        self.supervisor = Supervisor::default();
        self.world.forget(|due| {
            matches!(
                due,
                super::world::Due::Launched | super::world::Due::Reconnect
            )
        });
        if self.random.chance(30) {
            let gone = Duration::from_millis(self.random.weighted(&[
                (3, 1_000),
                (2, 60_000),
                (1, 3_600_000),
            ]));
            self.world_alone(self.now().after(gone));
        }
        self.server = Server::open(self.hand, &self.name, self.town_id, &self.clock);
        self.checks
            .reopened(&self.server.actor.feed, &self.server.tree);
        self.begin();
        self.adopt();
    }

    // ---- time -----------------------------------------------------------------------------

    /// The clock moves to what comes next: the alarm, or something in the world.
    fn pass_time(&mut self) {
        if self.random.chance(30) {
            // Not all the way: commands come at any moment.
            let some = Duration::from_millis(self.random.between(1, 5_000));
            let next = self.next_moment();
            self.clock.set(self.now().after(some).min(next));
            return;
        }
        self.go_on();
    }

    fn next_moment(&self) -> Timestamp {
        let alarm = self.server.actor.alarm;
        let next = self.world.next_at().map_or(alarm, |at| at.min(alarm));
        next.max(self.now())
    }

    /// Lets the next thing happen.
    pub(super) fn go_on(&mut self) {
        if self.woken {
            return self.look();
        }
        let next = self.next_moment();
        self.clock.set(next);
        if self.world.next_at().is_some_and(|at| at <= next) {
            if let Some(due) = self.world.take_next() {
                self.happen(due, true);
            }
        } else {
            self.look();
        }
    }

    /// What the world does while there is no server.
    fn world_alone(&mut self, until: Timestamp) {
        while self.world.next_at().is_some_and(|at| at <= until) {
            let at = self.world.next_at().unwrap_or(until);
            self.clock.set(at.max(self.now()));
            if let Some(due) = self.world.take_next() {
                self.happen(due, false);
            }
        }
        self.clock.set(until);
    }
}
