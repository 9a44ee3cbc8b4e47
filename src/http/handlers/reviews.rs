//! The review queue.

use serde_json::json;

use super::agents::acting_as;
use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{REFERENCE, TEXT};
use crate::http::wire::WireReview;
use crate::model::{BeadId, ReviewStatus};
use crate::town::{Judgement, NewReview, ReviewOutcome, Verdict};

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

pub(in crate::http) async fn list(context: Context) -> Reply {
    let status = context.query.choice::<ReviewStatus>("status")?;
    let page = context.query.page()?;
    let reviews = context
        .town()?
        .reviews(context.rig_id()?, status, page)
        .await?;
    ok(reviews
        .into_iter()
        .map(WireReview::from)
        .collect::<Vec<_>>())
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    let (review, output) = context
        .town()?
        .review(context.rig_id()?, entry_id(&context)?)
        .await?;
    ok(WireReview::whole(review, output))
}

/// A person's word, or the verdict of the agent that reviews.
pub(in crate::http) async fn complete(context: Context) -> Reply {
    let entry_id = entry_id(&context)?;
    let mut fields = context.fields()?;
    let status = fields.required_one_of("status", &ENDS);
    let message = fields.text("message", TEXT).unwrap_or_default();
    let commit_sha = fields.text("commit_sha", 1..=128);
    let head_sha = fields.text("head_sha", 1..=128);
    fields.finish()?;
    let status = status.unwrap_or(ReviewStatus::Failed);
    let (town, rig_id) = (context.town()?, context.rig_id()?);
    if let Some(agent_id) = context.calling_agent() {
        let verdict = if status == ReviewStatus::Merged {
            Verdict::Approve
        } else {
            Verdict::RequestChanges
        };
        let judgement = Judgement {
            verdict,
            text: message,
            head_sha,
        };
        town.judge_review(rig_id, agent_id, Some(entry_id), judgement)
            .await?;
    } else {
        let outcome = ReviewOutcome {
            status,
            message,
            commit_sha,
        };
        town.complete_review(rig_id, entry_id, outcome, head_sha)
            .await?;
    }
    ok(json!({"completed": true}))
}

fn entry_id(context: &Context) -> Result<BeadId, ApiError> {
    context.id("entry", "merge request")
}
