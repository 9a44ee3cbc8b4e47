//! The transitions, over drafts of a real tree.

mod agents;
mod beads;
mod bench;
mod dispatch;
mod patrol;
mod pause;
mod queue;
mod reindex;
mod reviews;
mod spending;
