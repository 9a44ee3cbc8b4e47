//! Rigs.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::extract::{NAME, REFERENCE};
use crate::http::wire::WireRig;
use crate::town::{NewRig, Refusal};

const DEFAULT_BRANCH: &str = "main";

pub(in crate::http) async fn create(context: Context) -> Reply {
    let user_id = context.user_id()?;
    let mut fields = context.fields()?;
    let town_id = fields.required_id("town_id");
    let new = NewRig {
        name: fields.required_text("name", NAME),
        git_url: fields.required_text("git_url", REFERENCE),
        default_branch: fields
            .text("default_branch", 1..=255)
            .unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
        platform_integration_id: fields.text("platform_integration_id", REFERENCE),
        kilocode_token: fields.text("kilocode_token", REFERENCE),
    };
    fields.finish()?;
    let town_id = town_id.ok_or(Refusal::TownNotFound)?;
    let town = context.state()?.towns.get_of(&user_id, town_id)?;
    let town = town.once(context.once.clone());
    created(WireRig::from(town.create_rig(new).await?))
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    let found = context
        .state()?
        .towns
        .find_rig(&context.user_id()?, context.rig_id()?)
        .await?;
    ok(WireRig::from(found.1))
}

pub(in crate::http) async fn delete(context: Context) -> Reply {
    let rig_id = context.rig_id()?;
    let (user_id, once) = (context.user_id()?, context.once.as_ref());
    let towns = &context.state()?.towns;
    let town = towns.town_of_rig(&user_id, rig_id, once).await?;
    town.once(once.cloned()).delete_rig(rig_id).await?;
    ok(json!({"deleted": true}))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let rigs = context.town()?.rigs().await?;
    ok(rigs.into_iter().map(WireRig::from).collect::<Vec<_>>())
}
