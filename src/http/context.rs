//! What a handler has: the rooms below, and one request that was matched and authenticated.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::model::{AgentId, BeadId, RigId, TownId, UserId};
use crate::storage::{Database, Once};
use crate::town::{TownHandle, Towns};

use super::auth::{Authority, Principal};
use super::error::ApiError;
use super::extract::{Fields, Query};
use super::wire;

/// What all requests share.
#[derive(Debug)]
pub struct State {
    /// The towns.
    pub towns: Towns,
    /// Checks credentials.
    pub authority: Arc<Authority>,
    /// Tells whether writes are taken.
    pub database: Database,
    /// Real time.
    pub clock: Clock,
    /// Ends connections.
    pub lifecycle: Lifecycle,
    /// Bytes of a request's body.
    pub body_max: usize,
    /// Whether people reach the server by https, so that its cookie is never sent otherwise.
    pub is_https: bool,
}

/// An answer.
pub(super) type Reply = Result<Response<Full<Bytes>>, ApiError>;

/// One request.
pub(super) struct Context {
    pub(super) state: Arc<State>,
    pub(super) principal: Option<Principal>,
    pub(super) params: Vec<(&'static str, String)>,
    pub(super) query: Query,
    pub(super) head: Request<()>,
    pub(super) body: Bytes,
    /// The request's key, if it is to be carried out once.
    pub(super) once: Option<Once>,
}

impl Context {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.as_str())
    }

    /// An id of the path. One that is no UUID names nothing that exists.
    pub(super) fn id<T: FromStr>(&self, name: &str, what: &'static str) -> Result<T, ApiError> {
        self.param(name)
            .and_then(|text| text.parse().ok())
            .ok_or(ApiError::not_found(what))
    }

    pub(super) fn user_id(&self) -> Result<UserId, ApiError> {
        self.param("user")
            .and_then(UserId::parse)
            .ok_or(ApiError::not_found("user"))
    }

    pub(super) fn town_id(&self) -> Result<TownId, ApiError> {
        self.id("town", "town")
    }

    pub(super) fn rig_id(&self) -> Result<RigId, ApiError> {
        self.id("rig", "rig")
    }

    pub(super) fn agent_id(&self) -> Result<AgentId, ApiError> {
        self.id("agent", "agent")
    }

    pub(super) fn bead_id(&self) -> Result<BeadId, ApiError> {
        self.id("bead", "bead")
    }

    /// The town in the path, for this request; behind `/api/users/` only if it is that user's.
    pub(super) fn town(&self) -> Result<TownHandle, ApiError> {
        let town_id = self.town_id()?;
        let town = match self.param("user") {
            Some(_) => self.state.towns.get_of(&self.user_id()?, town_id)?,
            None => self.state.towns.get(town_id)?,
        };
        Ok(town.once(self.once.clone()))
    }

    /// The fields of the body.
    pub(super) fn fields(&self) -> Result<Fields<'_>, ApiError> {
        Fields::of_body(&self.body)
    }

    /// The agent whose token was sent, if it was an agent's.
    pub(super) fn calling_agent(&self) -> Option<AgentId> {
        match &self.principal {
            Some(Principal::Agent(claims)) => Some(claims.agent_id),
            _ => None,
        }
    }
}

/// 200 with data.
#[expect(clippy::unnecessary_wraps, reason = "the last line of every handler")]
pub(super) fn ok(data: impl Serialize) -> Reply {
    Ok(wire::json_response(StatusCode::OK, wire::envelope(&data)))
}

/// 201 with what was created.
#[expect(clippy::unnecessary_wraps, reason = "the last line of every handler")]
pub(super) fn created(data: impl Serialize) -> Reply {
    Ok(wire::json_response(
        StatusCode::CREATED,
        wire::envelope(&data),
    ))
}
