//! Towns and their config.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::extract::NAME;
use crate::http::wire::WireTown;

pub(in crate::http) async fn list_all(context: Context) -> Reply {
    let towns = context.state()?.towns.list(None).await?;
    ok(towns.into_iter().map(WireTown::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn create(context: Context) -> Reply {
    let user_id = context.user_id()?;
    let mut fields = context.fields()?;
    let name = fields.required_text("name", NAME);
    fields.finish()?;
    created(WireTown::from(
        context
            .state()?
            .towns
            .create(user_id, name, context.once.clone())
            .await?,
    ))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let towns = context
        .state()?
        .towns
        .list(Some(&context.user_id()?))
        .await?;
    ok(towns.into_iter().map(WireTown::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn get(context: Context) -> Reply {
    ok(WireTown::from(context.town()?.town().await?))
}

pub(in crate::http) async fn delete(context: Context) -> Reply {
    context
        .state()?
        .towns
        .delete(
            &context.user_id()?,
            context.town_id()?,
            context.once.clone(),
        )
        .await?;
    ok(json!({"deleted": true}))
}

pub(in crate::http) async fn config(context: Context) -> Reply {
    ok(context.town()?.config().await?.masked())
}

pub(in crate::http) async fn patch_config(context: Context) -> Reply {
    let patch = context.patch()?;
    ok(context.town()?.set_config(patch).await?.masked())
}
