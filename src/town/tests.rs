//! The transitions, over drafts of a real tree.

mod agents;
mod beads;
mod bench;
mod dispatch;
mod mail;
mod reindex;
mod review_walk;
mod reviews;
