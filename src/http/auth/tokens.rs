//! Tokens that people make for programs: full rights, a name, an end if one is wanted.
//!
//! What is stored of a token is a keyed hash. All of them are kept in memory, because every request
//! asks; the database is where they come from at the start. A token is random enough that nobody
//! finds another one with the same hash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::model::{ApiToken, Timestamp, TokenId};
use crate::storage::{self, ApiTokenKey, Batch, Once, Tree};
use crate::town::{self, Page, Towns};

/// Each is some hundred bytes in memory; more is a program that forgets to revoke.
const TOKENS_MAX: usize = 1000;
/// What a token begins with, so that people and scanners know it.
const PREFIX: &str = "gt_";
/// Characters at its end that are shown.
const ENDING: usize = 4;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too many of them.
    #[error("there are {TOKENS_MAX} tokens; revoke one first")]
    TooMany,
    /// No such token.
    #[error("there is no such token")]
    NotFound,
    /// It could not be written.
    #[error("the tokens can't be written")]
    Town(#[from] town::Error),
}

/// All of them; cheap to clone.
#[derive(Clone)]
pub struct ApiTokens(Arc<Inner>);

struct Inner {
    clock: Clock,
    key: EncodingKey,
    by_hash: Mutex<HashMap<String, ApiToken>>,
    /// Moves whenever one is revoked.
    revoked: watch::Sender<()>,
}

impl std::fmt::Debug for ApiTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiTokens").finish_non_exhaustive()
    }
}

impl ApiTokens {
    /// Reads them; `key` is what they are hashed with.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn load(
        meta: &Tree,
        clock: Clock,
        key: EncodingKey,
    ) -> Result<Self, storage::Error> {
        let by_hash = meta
            .scan(&ApiTokenKey::all())
            .map(|row| row.map(|(_, token)| (token.hash.clone(), token)))
            .collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Inner {
            clock,
            key,
            by_hash: Mutex::new(by_hash),
            revoked: watch::Sender::new(()),
        })))
    }

    /// Makes one; it is told this once, and to a repeat of the same request. For a repeat it is not
    /// kept but made again, from the request's key and a secret.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub(in crate::http) async fn create(
        &self,
        towns: &Towns,
        name: String,
        days: Option<u64>,
        once: Option<Once>,
    ) -> Result<(ApiToken, String), TokenError> {
        if self.lock().len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let secret = match &once {
            Some(once) => self.hash(&format!("token of the request {}", once.key)),
            None => super::random_secret(),
        };
        let token = format!("{PREFIX}{secret}");
        let now = self.0.clock.now();
        let days = days.and_then(|days| u32::try_from(days).ok());
        let row = ApiToken {
            token_id: TokenId::random(),
            name,
            hash: self.hash(&token),
            ending: token[token.len() - ENDING..].to_owned(),
            created_at: now,
            expires_at: days.map(|days| now.after(DAY * days)),
        };
        let mut batch = Batch::new();
        let token_id = row.token_id;
        batch.put(&ApiTokenKey { token_id }, &row);
        let made = towns.write_meta(batch, row, once).await?;
        // A repeat brings nothing back that was revoked meanwhile.
        if made.token_id == token_id {
            self.lock().insert(made.hash.clone(), made.clone());
        }
        Ok((made, token))
    }

    /// They, newest first.
    pub(in crate::http) fn list(&self, page: Page) -> Vec<ApiToken> {
        let mut rows: Vec<ApiToken> = self.lock().values().cloned().collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.created_at), row.token_id));
        rows.into_iter()
            .skip(page.offset)
            .take(page.limit)
            .collect()
    }

    /// From now on the token opens nothing.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub(in crate::http) async fn revoke(
        &self,
        towns: &Towns,
        token_id: TokenId,
        once: Option<Once>,
    ) -> Result<(), TokenError> {
        let known = self.lock().values().any(|row| row.token_id == token_id);
        let repeats = match &once {
            Some(once) => towns.has_written(once)?,
            None => false,
        };
        if !known && !repeats {
            return Err(TokenError::NotFound);
        }
        let mut batch = Batch::new();
        batch.delete(&ApiTokenKey { token_id });
        towns.write_meta(batch, (), once).await?;
        self.lock().retain(|_, row| row.token_id != token_id);
        self.0.revoked.send_replace(());
        Ok(())
    }

    /// The token's row, if it is good.
    pub(super) fn find(&self, token: &str) -> Option<ApiToken> {
        if !token.starts_with(PREFIX) {
            return None;
        }
        let row = self.lock().get(&self.hash(token)).cloned()?;
        let now = self.0.clock.now();
        row.expires_at.is_none_or(|end| now < end).then_some(row)
    }

    /// Resolves when the token was revoked.
    pub(super) async fn gone(&self, token_id: TokenId) {
        let mut revoked = self.0.revoked.subscribe();
        loop {
            let known = self.lock().values().any(|row| row.token_id == token_id);
            // The sender lives as long as `self`.
            if !known || revoked.changed().await.is_err() {
                return;
            }
        }
    }

    fn hash(&self, token: &str) -> String {
        jsonwebtoken::crypto::sign(token.as_bytes(), &self.0.key, Algorithm::HS256)
            .expect("text can be hashed with a secret")
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, ApiToken>> {
        self.0
            .by_hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a credential is good: until a moment, or until it is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Validity {
    /// As long as the server runs.
    Lasting,
    /// A browser's session.
    Session {
        /// Its end.
        until: Timestamp,
    },
    /// A program's token.
    Token {
        /// By which it is revoked.
        token_id: TokenId,
        /// Its end, if it has one.
        until: Option<Timestamp>,
    },
}
