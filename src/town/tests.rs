//! The transitions, over drafts of a real tree.

mod actor;
mod agents;
mod attention;
mod beads;
mod bench;
mod convoys;
mod dependencies;
mod dispatch;
mod giving_up;
mod lists;
mod mail;
mod molecules;
mod patrol;
mod pause;
mod queue;
mod reindex;
mod review_walk;
mod reviews;
mod simulation;
mod spending;
