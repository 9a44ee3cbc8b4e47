//! A merge request on the wire.

use serde::Serialize;

use super::nouns::{Text, text, texts};
use crate::model::{AgentId, BeadId, Review, RigId, Timestamp};

#[derive(Serialize)]
pub(in crate::http) struct WireReview {
    entry_id: Text<BeadId>,
    bead_id: Text<BeadId>,
    rig_id: Text<RigId>,
    agent_id: Text<AgentId>,
    branch: String,
    pr_url: Option<String>,
    summary: Option<String>,
    status: &'static str,
    attempts: u32,
    reworks: u32,
    approval: &'static str,
    approval_note: Option<String>,
    head_sha: Option<String>,
    message: Option<String>,
    commit_sha: Option<String>,
    started_at: Option<Text<Timestamp>>,
    due_at: Text<Timestamp>,
    /// The end of what the gates printed; only where one merge request is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_output: Option<Option<String>>,
}

impl From<Review> for WireReview {
    fn from(review: Review) -> Self {
        Self {
            entry_id: text(review.entry_id),
            bead_id: text(review.source_bead_id),
            rig_id: text(review.rig_id),
            agent_id: text(review.agent_id),
            branch: review.branch,
            pr_url: review.pr_url,
            summary: review.summary,
            status: review.status.as_str(),
            attempts: review.attempts,
            reworks: review.reworks,
            approval: review.approval.as_str(),
            approval_note: review.approval_note,
            head_sha: review.head_sha,
            message: review.message,
            commit_sha: review.commit_sha,
            started_at: texts(review.started_at),
            due_at: text(review.due_at),
            gate_output: None,
        }
    }
}

impl WireReview {
    /// With what its gates printed.
    pub(in crate::http) fn whole(review: Review, gate_output: Option<String>) -> Self {
        Self {
            gate_output: Some(gate_output),
            ..Self::from(review)
        }
    }
}
