//! What a handler has: the rooms below, and one request that was matched and authenticated.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;

use crate::clock::Clock;
use crate::config::Issue;
use crate::lifecycle::Lifecycle;
use crate::model::{AgentId, BeadId, RigId, Timestamp, TownId, UserId};
use crate::storage::{Database, Once};
use crate::stream::Fanout;
use crate::town::{TownHandle, Towns};

use super::auth::{Authority, Principal};
use super::describe::Notes;
use super::error::ApiError;
use super::extract::Fields;
use super::query::Query;
use super::routes::PARAMS;
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
    /// Carries events to WebSockets.
    pub fanout: Fanout,
    /// Whether people reach the server by https, so that its cookie is never sent otherwise.
    pub is_https: bool,
}

/// An answer.
pub(super) type Reply = Result<Response<Full<Bytes>>, ApiError>;

/// One request.
pub(super) struct Context {
    /// `None` where a handler is only to say what it asks for.
    rooms: Result<Arc<State>, Notes>,
    pub(super) principal: Option<Principal>,
    pub(super) params: Vec<(&'static str, String)>,
    pub(super) query: Query,
    pub(super) head: Request<()>,
    pub(super) body: Bytes,
    /// The request's key, if it is to be carried out once.
    pub(super) once: Option<Once>,
}

/// A request that was matched and authenticated.
pub(super) struct Incoming {
    pub(super) principal: Option<Principal>,
    pub(super) params: Vec<(&'static str, String)>,
    pub(super) head: Request<()>,
    pub(super) body: Bytes,
    pub(super) once: Option<Once>,
}

impl Context {
    pub(super) fn new(state: Arc<State>, request: Incoming) -> Self {
        Self {
            rooms: Ok(state),
            principal: request.principal,
            params: request.params,
            query: Query::parse(request.head.uri().query()),
            head: request.head,
            body: request.body,
            once: request.once,
        }
    }

    /// Nothing to act on: what is asked for is noted.
    pub(super) fn empty(notes: Notes) -> Self {
        let nil = "00000000-0000-0000-0000-000000000000";
        let params = PARAMS.iter().map(|name| (*name, nil.to_owned()));
        Self {
            query: Query::noting(notes.clone()),
            rooms: Err(notes),
            principal: Some(Principal::Admin),
            params: params.collect(),
            head: Request::new(()),
            body: Bytes::new(),
            once: None,
        }
    }

    /// What a handler can act on. Before this it reads everything that it needs of the request: it
    /// is asked for that where there is nothing to act on (see `describe`).
    pub(super) fn state(&self) -> Result<&Arc<State>, ApiError> {
        self.rooms.as_ref().map_err(|_| ApiError::no_route())
    }

    /// The present moment.
    pub(super) fn now(&self) -> Timestamp {
        self.rooms
            .as_ref()
            .map_or_else(|_| Timestamp::default(), |state| state.clock.now())
    }

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
            Some(_) => self.state()?.towns.get_of(&self.user_id()?, town_id)?,
            None => self.state()?.towns.get(town_id)?,
        };
        Ok(town.once(self.once.clone()))
    }

    /// The fields of the body.
    pub(super) fn fields(&self) -> Result<Fields<'_>, ApiError> {
        match &self.rooms {
            Ok(_) => Fields::of_body(&self.body),
            Err(notes) => Ok(Fields::noting(notes.clone())),
        }
    }

    /// The body as a JSON merge patch.
    pub(super) fn patch(&self) -> Result<serde_json::Value, ApiError> {
        if let Err(notes) = &self.rooms {
            notes.patch();
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("the body must be a JSON object: {error}");
            ApiError::invalid(vec![Issue {
                path: Vec::new(),
                message,
            }])
        })
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
