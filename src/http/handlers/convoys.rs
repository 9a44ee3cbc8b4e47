//! Convoys.

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::{NAME, TITLE};
use crate::http::wire::{WireConvoy, WireWholeConvoy};
use crate::model::{BeadId, RigId};
use crate::town::NewConvoy;

pub(in crate::http) async fn create(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let (title, created_by) = (
        fields.required_text("title", TITLE),
        fields.text("created_by", NAME),
    );
    let mut beads = Vec::new();
    for (index, mut part) in fields.objects("beads").into_iter().enumerate() {
        let bead_id: Option<BeadId> = part.required_id("bead_id");
        let rig_id: Option<RigId> = part.required_id("rig_id");
        beads.extend(bead_id.zip(rig_id));
        fields.absorb("beads", index, part);
    }
    fields.finish()?;
    let new = NewConvoy {
        title,
        beads,
        created_by,
    };
    let convoy = context.town()?.create_convoy(new).await?;
    created(WireConvoy::from(convoy))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let (landed, page) = (context.query.flag("landed")?, context.query.page()?);
    let convoys = context.town()?.convoys(landed, page).await?;
    ok(convoys
        .into_iter()
        .map(WireConvoy::from)
        .collect::<Vec<_>>())
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    let convoy_id: BeadId = context.id("convoy", "convoy")?;
    ok(WireWholeConvoy::from(
        context.town()?.convoy(convoy_id).await?,
    ))
}

pub(in crate::http) async fn bead_closed(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let convoy_id: Option<BeadId> = fields.required_id("convoy_id");
    let bead_id: Option<BeadId> = fields.required_id("bead_id");
    fields.finish()?;
    let (convoy_id, bead_id) = convoy_id
        .zip(bead_id)
        .ok_or(ApiError::not_found("convoy"))?;
    ok(WireConvoy::from(
        context
            .town()?
            .convoy_bead_closed(convoy_id, bead_id)
            .await?,
    ))
}
