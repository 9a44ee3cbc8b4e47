//! Towns: the whole control plane, one actor per town.
//!
//! Owner of every row of a town's tree. [`Towns`] opens towns and keeps their list; a
//! [`TownHandle`] is a town's API: reads go straight to the tree, every change is a command that
//! the town's actor turns into one atomic batch. A command runs a *transition*: a pure function
//! over a [`draft::Draft`] that either collects changes and facts or refuses and leaves nothing.
//!
//! The alarm is a reconciler: `reconcile` looks at a view of the town and says what should be
//! done; what it says is applied in one batch, and side effects (the container, git) start only
//! after that batch is durable. They come back as commands.
//!
//! Invariants:
//! - Persist, then publish, then reply. No reply and no event shows what a crash could take back.
//! - Only transitions change a status, and a terminal bead changes only by an explicit reopen.
//! - A bead is on at most one hook, and rows and their indexes change in one batch.
//! - Facts are ordered by the town's sequence, never by time.
//!
//! Absent on purpose: HTTP shapes, and everything about processes and git (see `container`).

mod actor;
mod agents;
mod answers;
mod asks;
mod bead_lists;
mod beads;
mod breaker;
mod budget;
mod command;
mod container;
mod convoys;
mod dependencies;
mod dispatch;
mod draft;
mod effects;
mod escalations;
mod handle;
mod ledger;
mod link;
mod mail;
mod mayor;
mod molecules;
mod names;
mod patrol;
mod pause;
mod queries;
mod queue;
mod reconcile;
mod recorder;
mod refinery;
mod refusal;
mod registry;
mod reindex;
mod replay;
mod retention;
mod reviews;
mod rework;
mod rigs;
mod rows;
mod runs;
mod settings;
mod tables;
mod usage;
mod work_reads;

pub use asks::AskReply;
pub use bead_lists::BeadFilter;
pub use command::{
    Advanced, AgentDone, BeadActor, CompletedStatus, ConvoyState, Escalation, Judgement,
    MayorSession, NewAgent, NewBead, NewConvoy, NewMail, NewNudge, NewReview, NewRig, Prime,
    ReviewOutcome, SessionStatus, SlingOrder, Slung, StatusChange, StoppedRun, Verdict,
};
pub use effects::AgentTokens;
pub use handle::TownHandle;
pub use ledger::{LedgerEvent, LedgerFilter};
pub use queries::{AgentFilter, AskView, Page};
pub use refusal::{Error, Refusal};
pub use registry::{Towns, TownsOptions};
pub use replay::{ReplayError, Replayed, replay};
pub use settings::TownSettings;
pub use usage::UsageReport;
pub use work_reads::Dependencies;

#[cfg(test)]
mod tests;
