//! Every route of the control server, in one table.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json as value;

use super::link::LinkContext;
use super::requests::{Answer, Rejection, json, read_body};
use super::ssh::Ssh;
use super::town_config::TownConfigSlot;
use crate::config::ResolvedTownConfig;
use crate::container::fleet::{Denied, FleetHandle};
use crate::container::protocol::{
    AnswerPermission, AnswerQuestion, CONFIG_HEADER, MergeBranch, MessageAgent, RemoveAgent,
    StartAgent, StopAgent,
};
use crate::container::wire::Token;
use crate::lifecycle::Lifecycle;
use crate::model::{AgentId, TownId};

/// What the routes work with.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) town_id: TownId,
    /// What every request has to show; nothing where only this user can reach the socket.
    pub(super) token: Option<Token>,
    pub(super) ssh: Ssh,
    pub(super) fleet: FleetHandle,
    pub(super) town_config: TownConfigSlot,
    pub(super) link: LinkContext,
    pub(super) lifecycle: Lifecycle,
}

impl Routes {
    /// Answers a request; whatever is wrong with it is an answer too.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Answer, Infallible> {
        Ok(self.route(request).await.unwrap_or_else(Rejection::answer))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Rejection> {
        self.authenticate(&request)?;
        let config = self.config(&request)?;
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let fleet = &self.fleet;
        let body = |request: Request<Incoming>| request.into_body();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["health"]) => Ok(json(StatusCode::OK, &fleet.health().await?)),
            (&Method::GET, ["ws"]) => self.open_link(request),
            (&Method::POST, ["agents", "start"]) => {
                let start: StartAgent = read_body(body(request)).await?;
                self.check_town(start.town_id)?;
                let config = needed(config)?;
                self.ready_ssh(&config).await?;
                accepted(fleet.start(start, config).await)
            }
            (&Method::POST, ["agents", agent, "message"]) => {
                let (agent, config) = (agent_id(agent)?, needed(config)?);
                let message: MessageAgent = read_body(body(request)).await?;
                if let Err(error) = self.ready_ssh(&config).await {
                    // It is told when the agent pushes, if it has to.
                    tracing::warn!(%agent, ?error, "a message's config has no usable ssh key");
                }
                accepted(fleet.message(agent, message, config).await)
            }
            (&Method::POST, ["agents", agent, "stop"]) => {
                let agent = agent_id(agent)?;
                let stop: StopAgent = read_body(body(request)).await?;
                accepted(fleet.stop(agent, stop).await)
            }
            (&Method::POST, ["agents", agent, "remove"]) => {
                let agent = agent_id(agent)?;
                let remove: RemoveAgent = read_body(body(request)).await?;
                done(fleet.remove(agent, remove).await)
            }
            (&Method::GET, ["agents", agent, "status"]) => {
                Ok(json(StatusCode::OK, &fleet.status(agent_id(agent)?).await?))
            }
            (&Method::POST, ["agents", agent, "permissions", ask]) => {
                let (agent, ask) = (agent_id(agent)?, decoded(ask));
                let answer: AnswerPermission = read_body(body(request)).await?;
                done(fleet.answer_permission(agent, ask, answer.reply).await)
            }
            (&Method::POST, ["agents", agent, "questions", ask]) => {
                let (agent, ask) = (agent_id(agent)?, decoded(ask));
                let answer: AnswerQuestion = read_body(body(request)).await?;
                done(fleet.answer_question(agent, ask, answer).await)
            }
            (&Method::POST, ["git", "merge"]) => {
                let merge: MergeBranch = read_body(body(request)).await?;
                if let Some(config) = &config {
                    self.ready_ssh(config).await?;
                }
                accepted(fleet.merge(merge, config).await)
            }
            (&Method::POST, ["drain"]) => {
                fleet.drain("the server asked it to").await;
                accepted(Ok(()))
            }
            (&Method::POST, ["shutdown"]) => {
                fleet.shutdown().await;
                accepted(Ok(()))
            }
            _ => Err(Rejection::not_found()),
        }
    }

    /// Before git is run for a config, ssh knows its key.
    async fn ready_ssh(&self, config: &ResolvedTownConfig) -> Result<(), Rejection> {
        let ready = self.ssh.use_for(&config.git_auth).await;
        Ok(ready.map_err(|error| Denied::Repository(error.story()))?)
    }

    fn authenticate(&self, request: &Request<Incoming>) -> Result<(), Rejection> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let shown = request.headers().get(AUTHORIZATION);
        if shown.is_some_and(|shown| token.is_shown_by(shown.as_bytes())) {
            return Ok(());
        }
        Err(Rejection {
            status: StatusCode::UNAUTHORIZED,
            code: "unauthorized",
            error: "the request needs the container's token".to_owned(),
        })
    }

    /// The config that the request carries, or the newest if it carries none.
    fn config(
        &self,
        request: &Request<Incoming>,
    ) -> Result<Option<Arc<ResolvedTownConfig>>, Rejection> {
        match request.headers().get(CONFIG_HEADER) {
            None => Ok(self.town_config.newest()),
            Some(header) => match self.town_config.take_in(header.as_bytes()) {
                Some(config) => Ok(Some(config)),
                None => Err(Rejection::bad_request(
                    "invalid_config",
                    "the header X-Town-Config is not a town's resolved config",
                )),
            },
        }
    }

    fn check_town(&self, town: TownId) -> Result<(), Rejection> {
        if town == self.town_id {
            return Ok(());
        }
        Err(Rejection {
            status: StatusCode::NOT_FOUND,
            code: "unknown_town",
            error: format!("this is not the container of town {town}"),
        })
    }

    /// Makes the connection the link to the server.
    fn open_link(&self, mut request: Request<Incoming>) -> Result<Answer, Rejection> {
        if !fastwebsockets::upgrade::is_upgrade_request(&request) {
            return Err(Rejection::bad_request(
                "not_a_websocket",
                "this route is a WebSocket",
            ));
        }
        let (response, upgrade) = fastwebsockets::upgrade::upgrade(&mut request)
            .map_err(|error| Rejection::bad_request("not_a_websocket", error.to_string()))?;
        let link = self.link.clone();
        self.lifecycle.spawn_detached("the link", async move {
            match upgrade.await {
                Ok(socket) => link.serve(socket.into_inner().into_inner()).await,
                Err(error) => tracing::warn!("the link was not opened: {error}"),
            }
        });
        let (head, _) = response.into_parts();
        Ok(Response::from_parts(head, Full::new(Bytes::new())))
    }
}

fn agent_id(text: &str) -> Result<AgentId, Rejection> {
    // What is no id can't be the id of an agent.
    text.parse().map_err(|_| Rejection {
        status: StatusCode::NOT_FOUND,
        code: "unknown_agent",
        error: format!("the container has no agent {text:?}"),
    })
}

fn decoded(text: &str) -> String {
    let text = percent_encoding::percent_decode_str(text);
    text.decode_utf8_lossy().into_owned()
}

fn needed(config: Option<Arc<ResolvedTownConfig>>) -> Result<Arc<ResolvedTownConfig>, Rejection> {
    config.ok_or_else(|| {
        Rejection::bad_request(
            "config_missing",
            "the request needs the header X-Town-Config",
        )
    })
}

fn accepted(result: Result<(), Denied>) -> Result<Answer, Rejection> {
    result?;
    Ok(json(StatusCode::ACCEPTED, &value!({"accepted": true})))
}

fn done(result: Result<(), Denied>) -> Result<Answer, Rejection> {
    result?;
    Ok(json(StatusCode::OK, &value!({"done": true})))
}
