//! The transitions, over drafts of a real tree.

mod agents;
mod attention;
mod beads;
mod bench;
mod convoys;
mod dependencies;
mod dispatch;
mod lists;
mod molecules;
mod reindex;
mod reviews;
