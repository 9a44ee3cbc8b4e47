//! Tokens that people make for programs.

use serde_json::json;

use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::NAME;
use crate::http::wire::{WireNewToken, WireToken};
use crate::model::TokenId;

pub(in crate::http) async fn create(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let name = fields.required_text("name", NAME);
    let days = fields.number("expires_in_days", 1..=3650);
    fields.finish()?;
    let (state, once) = (context.state()?, context.once.clone());
    let tokens = state.authority.tokens();
    let (row, token) = tokens.create(&state.towns, name, days, once).await?;
    created(WireNewToken::of(row, token))
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let page = context.query.page()?;
    let rows = context.state()?.authority.tokens().list(page);
    ok(rows.into_iter().map(WireToken::from).collect::<Vec<_>>())
}

pub(in crate::http) async fn revoke(context: Context) -> Reply {
    let token_id: TokenId = context
        .param("token")
        .and_then(|text| text.parse().ok())
        .ok_or(ApiError::not_found("token"))?;
    let (state, once) = (context.state()?, context.once.clone());
    let tokens = state.authority.tokens();
    tokens.revoke(&state.towns, token_id, once).await?;
    ok(json!({"revoked": true}))
}
