//! The review queue.

use serde_json::json;

use super::agents::acting_as;
use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{REFERENCE, TEXT};
use crate::model::{BeadId, ReviewStatus};
use crate::town::{NewReview, ReviewOutcome};

/// How a review can end.
const ENDS: [(&str, ReviewStatus); 3] = [
    ("merged", ReviewStatus::Merged),
    ("failed", ReviewStatus::Failed),
    ("conflict", ReviewStatus::Conflict),
];

pub(in crate::http) async fn submit(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let agent_id = fields.required_id("agent_id");
    let bead_id = fields.required_id("bead_id");
    let branch = fields.required_text("branch", REFERENCE);
    let pr_url = fields.text("pr_url", REFERENCE);
    let summary = fields.text("summary", TEXT);
    fields.finish()?;
    let agent_id = acting_as(&context, agent_id)?;
    let bead_id = bead_id.ok_or(ApiError::not_found("bead"))?;
    let new = NewReview {
        agent_id,
        bead_id,
        branch,
        pr_url,
        summary,
    };
    let entry = context
        .town()?
        .submit_review(context.rig_id()?, new)
        .await?;
    created(json!({"submitted": true, "entry_id": entry.bead_id.to_string()}))
}

pub(in crate::http) async fn complete(context: Context) -> Reply {
    let entry_id: BeadId = context
        .param("entry")
        .and_then(|text| text.parse().ok())
        .ok_or(ApiError::not_found("merge request"))?;
    let mut fields = context.fields()?;
    let status = fields.required_one_of("status", &ENDS);
    let message = fields.text("message", TEXT).unwrap_or_default();
    let commit_sha = fields.text("commit_sha", 1..=128);
    fields.finish()?;
    let status = status.unwrap_or(ReviewStatus::Failed);
    let outcome = ReviewOutcome {
        status,
        message,
        commit_sha,
    };
    context
        .town()?
        .complete_review(context.rig_id()?, entry_id, outcome)
        .await?;
    ok(json!({"completed": true}))
}
