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

/// The request itself is not valid.
const INVALID: &str = "invalid_request";

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
        let mut error = Self::new(StatusCode::BAD_REQUEST, INVALID, first);
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

/// What the state forbids: each refusal with its status and its code.
macro_rules! refusals {
    ($($status:ident { $($refusal:pat => $code:literal,)+ })+) => {
        const fn of_refusal(refusal: &Refusal) -> (StatusCode, &'static str) {
            match refusal {
                Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, INVALID),
                $($($refusal => (StatusCode::$status, $code),)+)+
            }
        }

        /// The codes of refusals, by status; for the API's description.
        pub(super) const CODES: &[(StatusCode, &[&str])] = &[
            $((StatusCode::$status, &[$($code),+]),)+
        ];
    };
}

refusals! {
    NOT_FOUND {
        Refusal::TownNotFound => "town_not_found",
        Refusal::RigNotFound(..) => "rig_not_found",
        Refusal::BeadNotFound(..) => "bead_not_found",
        Refusal::AgentNotFound(..) => "agent_not_found",
        Refusal::ReviewNotFound(..) => "review_not_found",
        Refusal::EscalationNotFound(..) => "escalation_not_found",
        Refusal::AskNotFound(..) => "ask_not_found",
        Refusal::MayorNotFound => "mayor_not_found",
        Refusal::ConvoyNotFound(..) => "convoy_not_found",
        Refusal::DependencyNotFound(..) => "dependency_not_found",
        Refusal::MoleculeNotFound(..) => "molecule_not_found",
    }
    CONFLICT {
        Refusal::AskAnswered(..) => "ask_answered",
        Refusal::AgentRunning(..) => "agent_running",
        Refusal::AgentNotRunning(..) => "agent_not_running",
        Refusal::RigNameTaken(..) => "rig_name_taken",
        Refusal::AgentNameTaken(..) => "agent_name_taken",
        Refusal::IdentityTaken(..) => "identity_taken",
        Refusal::RoleTaken(..) => "role_taken",
        Refusal::BeadTerminal(..) => "bead_terminal",
        Refusal::BeadNotFailed(..) => "bead_not_failed",
        Refusal::BeadHooked(..) => "bead_hooked",
        Refusal::BeadInReview(..) => "bead_in_review",
        Refusal::AgentHooked(..) => "agent_already_hooked",
        Refusal::HookEmpty(..) => "hook_empty",
        Refusal::ReviewFinished(..) => "review_finished",
        Refusal::ReviewElsewhere(..) => "review_elsewhere",
        Refusal::ReviewMoved(..) => "review_moved",
        Refusal::ReviewNotHeld(..) => "review_not_held",
        Refusal::ConvoyLanded(..) => "convoy_landed",
        Refusal::ConvoyFull(..) => "convoy_full",
        Refusal::BeadInConvoy(..) => "bead_in_convoy",
        Refusal::BeadBlocked(..) => "bead_blocked",
        Refusal::DependencyExists(..) => "dependency_exists",
        Refusal::DependencyCycle(..) => "dependency_cycle",
        Refusal::TooManyDependencies(..) => "too_many_dependencies",
        Refusal::MoleculeExists(..) => "molecule_exists",
        Refusal::MoleculeFinished(..) => "molecule_finished",
        Refusal::MoleculeUnfinished(..) => "molecule_unfinished",
        Refusal::TooManyPolecats(..) => "too_many_polecats",
    }
    UNPROCESSABLE_ENTITY {
        Refusal::KeyReused => "idempotency_key_reused",
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = of_refusal(&refusal);
        match refusal {
            Refusal::Invalid(issues) => Self::invalid(issues),
            refusal => Self::new(status, code, refusal.to_string()),
        }
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
