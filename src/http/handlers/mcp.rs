//! The agents' tools.

use std::sync::Arc;

use http_body_util::Full;

use crate::http::auth::Principal;
use crate::http::context::{Context, Reply};
use crate::http::error::ApiError;
use crate::http::tools::TownTools;

pub(in crate::http) async fn serve(context: Context) -> Reply {
    // The agent comes from its token: a user's token names no town.
    let Some(Principal::Agent(claims)) = &context.principal else {
        return Err(ApiError::forbidden(
            "the tools are for agents: send the agent's own token",
        ));
    };
    let town = context.state()?.towns.get(claims.town_id)?;
    let agent = town.any_agent(claims.agent_id).await?;
    let request = context.head.map(|()| Full::new(context.body));
    let tools = Arc::new(TownTools { town });
    Ok(crate::mcp::handle(&tools, agent.agent_id, agent.role, request).await)
}
