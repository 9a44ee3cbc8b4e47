//! Who is asking: the administrator, an agent, or nobody.
//!
//! The administrator's token is made at the first start and lies in the data folder, readable by
//! the server's user only. A browser trades it for a session cookie. Agents have HS256 tokens
//! (RFC 7519) without an end: they are good as long as the agent exists, so that an agent that
//! outlives a restart of the server goes on working.

mod tokens;

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::model::{Agent, AgentId, AgentRole, ApiToken, RigId, Timestamp, TownId};
use crate::storage::{self, Tree};
use crate::stream::Leave;

use tokens::Validity;
pub use tokens::{ApiTokens, TokenError};

const ADMIN_TOKEN_FILE: &str = "admin.token";
const SIGNING_KEY_FILE: &str = "signing.key";
/// The session cookie's name.
pub(super) const COOKIE_NAME: &str = "gastown_session";
/// How long a browser stays logged in.
const SESSION_SECONDS: i64 = 30 * 24 * 60 * 60;
const BEARER_PROTOCOL: &str = "gastown.bearer.";
/// The WebSocket subprotocol that the server speaks.
pub(super) const PROTOCOL: &str = "gastown.v1";

/// The secrets can't be made or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use secret file {}", path.display())]
pub struct SecretError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The administrator, by token or cookie, or anybody where no login is asked.
    Admin,
    /// An agent, by its own token.
    Agent(AgentClaims),
}

/// What an agent's token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentClaims {
    /// The agent.
    pub agent_id: AgentId,
    /// Its town.
    pub town_id: TownId,
    /// Its rig; `None` for the mayor.
    pub rig_id: Option<RigId>,
    /// What it is for.
    pub role: AgentRole,
}

/// Whom a route is for. The administrator may use all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody, without credentials.
    Public,
    /// The administrator only.
    Admin,
    /// And any agent of the rig in the path.
    Rig,
    /// And the agent in the path.
    Agent,
    /// And the mayor of the town in the path.
    Mayor,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// `agent` or `session`.
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    town: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rig: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

/// Makes and checks credentials.
pub struct Authority {
    admin_token: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// Whether everybody is the administrator.
    open: bool,
    /// Whether the administrator's token was made just now.
    is_new: bool,
    tokens: Option<ApiTokens>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the secrets of a data folder, making what is missing. With `open` nobody has to log
    /// in; agents' tokens work all the same.
    ///
    /// # Errors
    /// If a secret can't be read or written.
    pub fn load(data_dir: &Path, open: bool) -> Result<Self, SecretError> {
        let file = data_dir.join(ADMIN_TOKEN_FILE);
        // Where nobody logs in nobody is told the token; the first start with login makes it.
        let (admin_token, is_new) = if open && !file.exists() {
            (random_secret(), false)
        } else {
            secret(&file)?
        };
        let (key, _) = secret(&data_dir.join(SIGNING_KEY_FILE))?;
        Ok(Self {
            admin_token,
            tokens: None,
            encoding: EncodingKey::from_secret(key.as_bytes()),
            decoding: DecodingKey::from_secret(key.as_bytes()),
            open,
            is_new,
        })
    }

    /// The administrator's token, if it was made just now and nobody was told it yet.
    #[must_use]
    pub fn new_admin_token(&self) -> Option<&str> {
        self.is_new.then_some(self.admin_token.as_str())
    }

    /// The token of an agent.
    #[must_use]
    pub fn agent_token(&self, town_id: TownId, agent: &Agent) -> String {
        self.sign(&Claims {
            kind: "agent".to_owned(),
            sub: Some(agent.agent_id.to_string()),
            town: Some(town_id.to_string()),
            rig: agent.rig_id.map(|rig_id| rig_id.to_string()),
            role: Some(agent.role.to_string()),
            exp: None,
        })
    }

    /// A `Set-Cookie` value that logs a browser in, if `token` is the administrator's.
    #[must_use]
    pub fn login_cookie(&self, token: &str, now: Timestamp, secure: bool) -> Option<String> {
        if !same(token, &self.admin_token) {
            return None;
        }
        let session = self.sign(&Claims {
            kind: "session".to_owned(),
            sub: None,
            town: None,
            rig: None,
            role: None,
            exp: Some(now.as_millis() / 1000 + SESSION_SECONDS),
        });
        let secure = if secure { "; Secure" } else { "" };
        Some(format!(
            "{COOKIE_NAME}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_SECONDS}{secure}"
        ))
    }

    /// A `Set-Cookie` value that logs a browser out.
    #[must_use]
    pub fn logout_cookie() -> String {
        format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    /// Who sends these headers; `None` if nobody we know. A page of another origin gets nothing
    /// out of a cookie or of a server without login. Without login the name that the client used
    /// must be a loopback one: a foreign page whose name was pointed at this machine is of the
    /// same origin, but its name tells.
    #[must_use]
    pub fn identify(&self, headers: &HeaderMap) -> Option<Principal> {
        if let Some(token) = bearer(headers) {
            let is_admin = same(token, &self.admin_token) || self.token_row(token).is_some();
            return if is_admin {
                Some(Principal::Admin)
            } else {
                self.agent_of(token).map(Principal::Agent)
            };
        }
        let by_cookie = cookie(headers).is_some_and(|session| self.is_session(session));
        let trusted = by_cookie || (self.open && is_for_loopback(headers));
        (trusted && is_same_origin(headers)).then_some(Principal::Admin)
    }

    /// The same, which also knows the tokens that people made, kept in `meta`.
    ///
    /// # Errors
    /// If the database fails.
    pub fn with_tokens(mut self, meta: Tree, clock: Clock) -> Result<Self, storage::Error> {
        self.tokens = Some(ApiTokens::load(&meta, clock, self.encoding.clone())?);
        Ok(self)
    }

    /// The tokens that people made.
    ///
    /// # Panics
    /// If the authority was made without any; a server's never is.
    pub(super) fn tokens(&self) -> &ApiTokens {
        self.tokens
            .as_ref()
            .expect("a server's authority has tokens")
    }

    fn token_row(&self, token: &str) -> Option<ApiToken> {
        self.tokens.as_ref()?.find(token)
    }

    /// Resolves when what these headers show is not good any more, with what to tell the client.
    pub(super) fn expiry(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> impl Future<Output = Leave> + Send + use<> {
        let (validity, tokens) = (self.validity(headers), self.tokens.clone());
        async move {
            match validity {
                Validity::Lasting => std::future::pending().await,
                Validity::Session { until } => {
                    tokio::time::sleep(until.since(now)).await;
                    Leave::LogInAgain
                }
                Validity::Token { token_id, until } => {
                    let revoked = async {
                        match &tokens {
                            Some(tokens) => tokens.gone(token_id).await,
                            None => std::future::pending().await,
                        }
                    };
                    let ends = async {
                        match until {
                            Some(until) => tokio::time::sleep(until.since(now)).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = revoked => {}
                        () = ends => {}
                    }
                    Leave::NotAllowed
                }
            }
        }
    }

    fn validity(&self, headers: &HeaderMap) -> Validity {
        if let Some(token) = bearer(headers) {
            return match self.token_row(token) {
                Some(row) => Validity::Token {
                    token_id: row.token_id,
                    until: row.expires_at,
                },
                None => Validity::Lasting,
            };
        }
        let session = cookie(headers).and_then(|session| self.verify(session));
        match session.and_then(|claims| claims.exp) {
            // Where nobody has to log in, a cookie that ends takes nothing away.
            Some(end) if !self.open => Validity::Session {
                until: Timestamp::from_millis(end.saturating_mul(1000)),
            },
            _ => Validity::Lasting,
        }
    }

    fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .expect("claims of text can be signed with a secret")
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::HS256);
        // Checked if it is there; an agent's token has none.
        validation.required_spec_claims.clear();
        Some(
            jsonwebtoken::decode(token, &self.decoding, &validation)
                .ok()?
                .claims,
        )
    }

    fn is_session(&self, token: &str) -> bool {
        self.verify(token)
            .is_some_and(|claims| claims.kind == "session" && claims.exp.is_some())
    }

    fn agent_of(&self, token: &str) -> Option<AgentClaims> {
        let claims = self.verify(token).filter(|claims| claims.kind == "agent")?;
        Some(AgentClaims {
            agent_id: claims.sub?.parse().ok()?,
            town_id: claims.town?.parse().ok()?,
            rig_id: match claims.rig {
                Some(rig) => Some(rig.parse().ok()?),
                None => None,
            },
            role: claims.role?.parse().ok()?,
        })
    }
}

/// Reads a secret, or makes one of 244 random bits; says whether it is new.
fn secret(path: &Path) -> Result<(String, bool), SecretError> {
    let failed = |source| SecretError {
        path: path.to_owned(),
        source,
    };
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok((text.trim().to_owned(), false)),
        Ok(_) => {
            let problem = "it is shorter than 32 characters; delete it to have a new one made";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let text = random_secret();
    // Whole or not at all: written beside and moved into place.
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(failed)?;
    Ok((text, true))
}

fn random_secret() -> String {
    let random = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", random(), random())
}

/// Compares without telling by its time where two texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim());
    }
    protocols(headers).find_map(|name| name.strip_prefix(BEARER_PROTOCOL))
}

/// The WebSocket subprotocols that the client offers.
pub(super) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
}

/// Whether the client asked for this machine by a loopback name. Browsers always say a name.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else {
        return true;
    };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if !name.ends_with(':') && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = name.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Whether the request does not come from a page of another origin. Programs send no `Origin`.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host)
}

#[cfg(test)]
mod tests;
