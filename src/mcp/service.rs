//! The protocol's requests, answered for one agent.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
    Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;

use crate::model::{AgentId, AgentRole};

use super::arguments::Arguments;
use super::call::{AgentTools, ToolCall};
use super::catalogue;

/// Agent servers put it before each tool's name: `gt_prime`.
const SERVER_NAME: &str = "gt";
/// Later revisions have a lifecycle with subscriptions, which this server does not keep.
const PROTOCOL_MAX: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// One agent's view of the tools.
pub(super) struct AgentService<T> {
    pub(super) tools: Arc<T>,
    pub(super) agent: AgentId,
    pub(super) role: AgentRole,
}

impl<T: AgentTools> ServerHandler for AgentService<T> {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_protocol_version(PROTOCOL_MAX)
            .with_server_info(Implementation::new(SERVER_NAME, env!("CARGO_PKG_VERSION")))
            .with_instructions(format!(
                "The tools of your town for you, a {}. Call `prime` first.",
                self.role
            ))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&PROTOCOL_MAX))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = catalogue::of_role(self.role)
            .map(catalogue::Entry::described)
            .collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        catalogue::of_role(self.role)
            .find(|tool| tool.name == name)
            .map(catalogue::Entry::described)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let result = match self.parse(request) {
            Ok(call) => self.tools.call(self.agent, call).await.map_err(|error| {
                tracing::debug!(agent = %self.agent, %error, "tool call refused");
                error.to_string()
            }),
            Err(advice) => Err(advice),
        };
        Ok(match result {
            Ok(value) => CallToolResult::success(vec![ContentBlock::text(shown(value))]).into(),
            Err(advice) => CallToolResult::error(vec![ContentBlock::text(advice)]).into(),
        })
    }
}

impl<T: AgentTools> AgentService<T> {
    fn parse(&self, request: CallToolRequestParams) -> Result<ToolCall, String> {
        let Some(tool) = catalogue::of_role(self.role).find(|tool| tool.name == request.name)
        else {
            let names: Vec<&str> = catalogue::of_role(self.role)
                .map(|tool| tool.name)
                .collect();
            return Err(format!(
                "There is no tool `{}` for a {}. Your tools are: {}.",
                request.name,
                self.role,
                names.join(", ")
            ));
        };
        let mut arguments = Arguments::check(tool, request.arguments.unwrap_or_default())?;
        Ok((tool.call)(&mut arguments))
    }
}

fn shown(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
