//! Every failure as a client sees it: the one table of codes, statuses and public texts.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header};
use serde::Serialize;

use crate::agent_log::AppendError;
use crate::config::Issue;
use crate::storage;
use crate::town::{Error as TownError, Refusal};

use super::auth::TokenError;

/// Seconds after which a client may try again when the server was overloaded or closing.
const RETRY_AFTER: &str = "1";

/// An answer that is not success.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// Stable; for programs.
    code: &'static str,
    /// For people; never holds internal detail.
    message: String,
    issues: Vec<Issue>,
}

#[derive(Serialize)]
struct Body<'a> {
    success: bool,
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<WireIssue<'a>>,
}

#[derive(Serialize)]
struct WireIssue<'a> {
    path: &'a [String],
    message: &'a str,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            issues: Vec::new(),
        }
    }

    /// 400 with what is wrong, field by field.
    pub(super) fn invalid(issues: Vec<Issue>) -> Self {
        let first = issues.first().map_or_else(
            || "the request is not valid".to_owned(),
            |issue| match issue.path.as_slice() {
                [] => issue.message.clone(),
                path => format!("{} {}", path.join("."), issue.message),
            },
        );
        let mut error = Self::new(StatusCode::BAD_REQUEST, "invalid_request", first);
        error.issues = issues;
        error
    }

    pub(super) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![Issue {
            path: vec![field.to_owned()],
            message: message.into(),
        }])
    }

    /// No route of that method and path.
    pub(super) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "route_not_found",
            "there is no such route",
        )
    }

    /// The path names something that can't exist.
    pub(super) fn not_found(what: &'static str) -> Self {
        let code = match what {
            "town" => "town_not_found",
            "rig" => "rig_not_found",
            "agent" => "agent_not_found",
            "bead" => "bead_not_found",
            "escalation" => "escalation_not_found",
            "ask" => "ask_not_found",
            "token" => "token_not_found",
            "merge request" => "review_not_found",
            "convoy" => "convoy_not_found",
            "molecule" => "molecule_not_found",
            _ => "not_found",
        };
        Self::new(
            StatusCode::NOT_FOUND,
            code,
            format!("there is no such {what}"),
        )
    }

    /// No credentials, or wrong ones.
    pub(super) fn unauthorized() -> Self {
        let message = "log in: send the token as \"Authorization: Bearer ...\"";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// Good credentials for something else.
    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The server has all the connections that it takes.
    pub(super) fn too_many_connections() -> Self {
        let message = "the server has as many connections as it takes; try again in a moment";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "too_many_connections", message)
    }

    pub(super) fn too_large(what: &str, limit: usize) -> Self {
        let message = format!("{what} is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(super) fn unreadable_body() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unreadable_body",
            "the body could not be read",
        )
    }

    pub(super) fn not_websocket() -> Self {
        let message = "this route is a WebSocket: send an upgrade request";
        Self::new(StatusCode::BAD_REQUEST, "websocket_expected", message)
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let issues = self
            .issues
            .iter()
            .map(|issue| WireIssue {
                path: &issue.path,
                message: &issue.message,
            })
            .collect();
        let body = Body {
            success: false,
            error: &self.message,
            code: self.code,
            issues,
        };
        let bytes = serde_json::to_vec(&body).expect("texts can be written as JSON");
        let mut response = super::wire::json_response(self.status, bytes);
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(
                header::RETRY_AFTER,
                header::HeaderValue::from_static(RETRY_AFTER),
            );
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (status, code) = match refusal {
            Refusal::Invalid(issues) => return Self::invalid(issues),
            Refusal::TownNotFound => (StatusCode::NOT_FOUND, "town_not_found"),
            Refusal::RigNotFound(_) => (StatusCode::NOT_FOUND, "rig_not_found"),
            Refusal::BeadNotFound(_) => (StatusCode::NOT_FOUND, "bead_not_found"),
            Refusal::AgentNotFound(_) => (StatusCode::NOT_FOUND, "agent_not_found"),
            Refusal::ReviewNotFound(_) => (StatusCode::NOT_FOUND, "review_not_found"),
            Refusal::EscalationNotFound(_) => (StatusCode::NOT_FOUND, "escalation_not_found"),
            Refusal::AskNotFound(_) => (StatusCode::NOT_FOUND, "ask_not_found"),
            Refusal::AskAnswered(_) => (StatusCode::CONFLICT, "ask_answered"),
            Refusal::AgentRunning(_) => (StatusCode::CONFLICT, "agent_running"),
            Refusal::AgentNotRunning(_) => (StatusCode::CONFLICT, "agent_not_running"),
            Refusal::MayorNotFound => (StatusCode::NOT_FOUND, "mayor_not_found"),
            Refusal::RigNameTaken(_) => (StatusCode::CONFLICT, "rig_name_taken"),
            Refusal::AgentNameTaken(_) => (StatusCode::CONFLICT, "agent_name_taken"),
            Refusal::IdentityTaken(_) => (StatusCode::CONFLICT, "identity_taken"),
            Refusal::RoleTaken(_) => (StatusCode::CONFLICT, "role_taken"),
            Refusal::BeadTerminal(..) => (StatusCode::CONFLICT, "bead_terminal"),
            Refusal::BeadNotFailed(..) => (StatusCode::CONFLICT, "bead_not_failed"),
            Refusal::BeadHooked(..) => (StatusCode::CONFLICT, "bead_hooked"),
            Refusal::BeadInReview(..) => (StatusCode::CONFLICT, "bead_in_review"),
            Refusal::AgentHooked(..) => (StatusCode::CONFLICT, "agent_already_hooked"),
            Refusal::HookEmpty(_) => (StatusCode::CONFLICT, "hook_empty"),
            Refusal::ReviewFinished(..) => (StatusCode::CONFLICT, "review_finished"),
            Refusal::ReviewElsewhere(..) => (StatusCode::CONFLICT, "review_elsewhere"),
            Refusal::ReviewNotHeld(..) => (StatusCode::CONFLICT, "review_not_held"),
            Refusal::ConvoyNotFound(_) => (StatusCode::NOT_FOUND, "convoy_not_found"),
            Refusal::ConvoyLanded(_) => (StatusCode::CONFLICT, "convoy_landed"),
            Refusal::ConvoyFull(_) => (StatusCode::CONFLICT, "convoy_full"),
            Refusal::BeadInConvoy(..) => (StatusCode::CONFLICT, "bead_in_convoy"),
            Refusal::BeadBlocked(..) => (StatusCode::CONFLICT, "bead_blocked"),
            Refusal::DependencyNotFound(..) => (StatusCode::NOT_FOUND, "dependency_not_found"),
            Refusal::DependencyExists(..) => (StatusCode::CONFLICT, "dependency_exists"),
            Refusal::DependencyCycle(..) => (StatusCode::CONFLICT, "dependency_cycle"),
            Refusal::TooManyDependencies(_) => (StatusCode::CONFLICT, "too_many_dependencies"),
            Refusal::MoleculeNotFound(_) => (StatusCode::NOT_FOUND, "molecule_not_found"),
            Refusal::MoleculeExists(..) => (StatusCode::CONFLICT, "molecule_exists"),
            Refusal::MoleculeFinished(..) => (StatusCode::CONFLICT, "molecule_finished"),
            Refusal::MoleculeUnfinished(..) => (StatusCode::CONFLICT, "molecule_unfinished"),
            Refusal::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            Refusal::TooManyPolecats(_) => (StatusCode::CONFLICT, "too_many_polecats"),
        };
        Self::new(status, code, message)
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NotFound => Self::not_found("token"),
            TokenError::TooMany => {
                Self::new(StatusCode::CONFLICT, "too_many_tokens", error.to_string())
            }
            TokenError::Town(error) => error.into(),
        }
    }
}

impl From<TownError> for ApiError {
    fn from(error: TownError) -> Self {
        let unavailable =
            |code, message: &str| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        match error {
            TownError::Refused(refusal) => refusal.into(),
            TownError::Overloaded | TownError::Append(AppendError::Overloaded) => {
                unavailable("overloaded", "too much is waiting; try again in a moment")
            }
            TownError::Closing => unavailable("closing", "the server is restarting"),
            TownError::Append(AppendError::KeyReused) => Refusal::KeyReused.into(),
            TownError::Append(AppendError::Ended) => Self::not_found("agent"),
            TownError::Container(error) => {
                tracing::warn!(%error, "a request needed the container");
                unavailable(
                    "container_unavailable",
                    "the town's container does not answer",
                )
            }
            TownError::Storage(error @ storage::Error::Full { .. })
            | TownError::Append(AppendError::Storage(error @ storage::Error::Full { .. })) => {
                tracing::warn!(%error, "a request was refused");
                unavailable(
                    "storage_full",
                    "the server's disk is full; nothing was stored, try again when there is room",
                )
            }
            // Deleted in this moment.
            TownError::Storage(storage::Error::Removed { .. }) => Self::not_found("agent"),
            TownError::Storage(error) | TownError::Append(AppendError::Storage(error)) => {
                tracing::error!(%error, "a request met a failing database");
                unavailable(
                    "storage_failed",
                    "the database takes no writes; see the server's log",
                )
            }
        }
    }
}
