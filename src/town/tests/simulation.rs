//! A whole town, simulated: the real actor over the real storage code, with a clock that is moved by
//! hand and a world that is chance.
//!
//! Only the world is played: the container with its agents and merges, the link to it, and clients
//! that send any command at any time. The server dies after any batch; what was not durable is
//! gone then, effects of what was durable happened or not. After every batch the invariants are
//! checked; at the end the world becomes kind, and whatever was begun must come to an end.
//!
//! Everything follows from the seed, so a failure can be repeated:
//! `GASTOWND_SIM_SEED` is the first seed, `GASTOWND_SIM_SEEDS` how many, `GASTOWND_SIM_STEPS` how many
//! steps of chance each has. Seeds know nothing of each other, so many can be split over processes:
//! each is given its own first one.

mod agents;
mod checks;
mod clients;
mod effects;
mod limits;
mod liveness;
mod random;
mod run;
mod server;
mod supervisor;
mod whole;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::storage::by_hand::ByHand;
use run::{Progress, Simulation};

/// What the suite runs: some twenty seconds unoptimised.
const SEEDS: u64 = 60;
const STEPS: u64 = 600;

/// A database grows with every seed, so after this many the next one is begun.
const SEEDS_PER_DATABASE: u64 = 50;

/// A seed that failed.
struct Failure {
    what: String,
    progress: Progress,
}

#[test]
fn a_town_keeps_its_promises_whatever_happens() {
    let first = setting("GASTOWND_SIM_SEED", 1);
    let count = setting("GASTOWND_SIM_SEEDS", SEEDS);
    let steps = setting("GASTOWND_SIM_STEPS", STEPS);
    let (mut commands, mut crashes) = (0, 0);
    let mut hand = database();
    for seed in first..first + count {
        if (seed - first) % SEEDS_PER_DATABASE == SEEDS_PER_DATABASE - 1 {
            hand = database();
        }
        match run_seed(&mut hand, seed, steps) {
            Ok(progress) => {
                commands += progress.commands;
                crashes += progress.crashes;
            }
            Err(failure) => report(seed, failure),
        }
    }
    let last = first + count - 1;
    println!("seeds {first} to {last} passed: {commands} commands, {crashes} crashes");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    let trace = |seed| {
        let progress = run_seed(&mut database(), seed, 300);
        progress.ok().map(|progress| progress.trace)
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

fn run_seed(hand: &mut ByHand, seed: u64, steps: u64) -> Result<Progress, Failure> {
    let progress = Rc::new(RefCell::new(Progress::default()));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut simulation = Simulation::new(hand, seed, progress.clone());
        for _ in 0..steps {
            simulation.step();
        }
        simulation.everything_ends();
        simulation.discard();
    }));
    let progress = progress.take();
    match outcome {
        Ok(()) => Ok(progress),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let what = text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_owned()));
            let what = what.unwrap_or_default();
            Err(Failure { what, progress })
        }
    }
}

/// Looks for the fewest steps that fail, and tells of them.
fn report(seed: u64, first: Failure) -> ! {
    let mut failing = first.progress.steps;
    let mut shown = first;
    let mut passing = 0;
    while passing + 1 < failing {
        let steps = passing.midpoint(failing);
        match run_seed(&mut database(), seed, steps) {
            Ok(_) => passing = steps,
            Err(failure) => {
                failing = failure.progress.steps;
                shown = failure;
            }
        }
    }
    panic!(
        "seed {seed} fails after {failing} steps; to repeat:\n\
         GASTOWND_SIM_SEED={seed} GASTOWND_SIM_SEEDS=1 GASTOWND_SIM_STEPS={failing}\n\n{}\n\n{}",
        Vec::from(shown.progress.trace).join("\n"),
        shown.what
    );
}

/// In memory where there is such a folder: nothing here is meant to last.
fn database() -> ByHand {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    // The engine removes what is in it; an empty folder is left to the system.
    ByHand::new(&folder.unwrap().keep())
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
