//! The ledger: what happened to beads.

use crate::http::context::{Context, Reply, ok};
use crate::http::error::ApiError;
use crate::http::wire::WireLedgerEvent;
use crate::model::{RigId, Timestamp};
use crate::town::LedgerFilter;

pub(in crate::http) async fn of_rig(context: Context) -> Reply {
    let rig_id = context.rig_id()?;
    list(&context, Some(rig_id)).await
}

pub(in crate::http) async fn of_town(context: Context) -> Reply {
    list(&context, None).await
}

async fn list(context: &Context, rig_id: Option<RigId>) -> Reply {
    let since = match context.query.get("since").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(Timestamp::parse(text).ok_or_else(|| {
            ApiError::invalid_field("since", "must be a time as RFC 3339 has it")
        })?),
    };
    let filter = LedgerFilter {
        bead_id: context.query.id("bead_id")?,
        since,
    };
    let page = context.query.page()?;
    let events = context.town()?.ledger(rig_id, filter, page).await?;
    ok(events
        .into_iter()
        .map(WireLedgerEvent::from)
        .collect::<Vec<_>>())
}
