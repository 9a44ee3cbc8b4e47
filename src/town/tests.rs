//! The transitions, over drafts of a real tree.

mod agents;
mod attention;
mod beads;
mod bench;
mod dispatch;
mod reindex;
mod reviews;
