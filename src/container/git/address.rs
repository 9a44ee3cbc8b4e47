//! Addresses of repositories and names of branches: text from outside, checked once.

use std::fmt;

use crate::container::Error;

/// Which repositories may be used besides those at `https`, `ssh` and `git@host:`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowedRepositories {
    /// Paths of this machine: development and tests.
    pub local: bool,
    /// `http`, which hides nothing from the network between; credentials are never sent over it.
    pub http: bool,
}

/// The address of a repository. It never holds a password and never begins with `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUrl(String);

impl GitUrl {
    /// Takes `https://`, `ssh://` and `git@host:path`, and what else is `allowed`.
    ///
    /// # Errors
    /// It is none of these, or it carries a password, which belongs in the town's config.
    pub fn parse(text: &str, allowed: AllowedRepositories) -> Result<Self, Error> {
        let refuse = |reason| {
            Err(Error::GitUrl {
                url: without_password(text),
                reason,
            })
        };
        if text.is_empty() || text.len() > 2048 || text.chars().any(char::is_control) {
            return refuse("it must be 1 to 2048 characters without control characters");
        }
        let http = text.strip_prefix("http://");
        if http.is_some() && !allowed.http {
            return refuse("repositories at http:// are not allowed here");
        }
        if let Some(rest) = text.strip_prefix("https://").or(http) {
            let authority = rest.split('/').next().unwrap_or_default();
            if authority.contains('@') {
                return refuse("put the token into the town's git_auth, not into the url");
            }
            return if authority.is_empty() || authority.starts_with('-') {
                refuse("it names no host")
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        if let Some(rest) = text.strip_prefix("ssh://") {
            let authority = rest.split('/').next().unwrap_or_default();
            let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            return if user.contains(':') {
                refuse("it must not hold a password")
            } else if host.is_empty() || host.starts_with('-') || user.starts_with('-') {
                refuse("it names no host")
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        if is_local(text) {
            return if allowed.local {
                Ok(Self(text.to_owned()))
            } else {
                refuse("local repositories are not allowed here")
            };
        }
        match text.split_once(':') {
            Some((place, path))
                if is_scp_place(place) && !path.is_empty() && !path.starts_with('-') =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => refuse("use https://, ssh:// or git@host:path"),
        }
    }

    /// The address as git takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_local(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("file:///")
}

/// `user@host` of the short ssh form.
fn is_scp_place(place: &str) -> bool {
    let Some((user, host)) = place.split_once('@') else {
        return false;
    };
    let sound = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    sound(user) && sound(host)
}

/// The text with anything between `//` and `@` taken out, fit for an error message.
fn without_password(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => text.to_owned(),
    }
}

/// A branch name by the rules of `git check-ref-format --branch`; it never begins with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(String);

impl BranchName {
    /// Takes the name if git would.
    ///
    /// # Errors
    /// git would refuse it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // 200: with the longest prefix of ours it still fits a file name's 255 bytes.
        let sound = !text.is_empty()
            && text.len() <= 200
            && text != "@"
            && text != "HEAD"
            && !text.starts_with(['-', '/'])
            && !text.ends_with(['/', '.'])
            && !text.contains("..")
            && !text.contains("//")
            && !text.contains("@{")
            && !text
                .chars()
                .any(|c| c.is_control() || " ~^:?*[\\".contains(c))
            && text.split('/').all(|part| {
                let lock = part.get(part.len().saturating_sub(5)..) == Some(".lock");
                !part.starts_with('.') && !lock
            });
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::BranchName {
                name: text.chars().take(200).collect(),
            })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The branch in the local repository.
    #[must_use]
    pub fn local_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }

    /// The branch as the remote had it at the last fetch.
    #[must_use]
    pub fn remote_ref(&self) -> String {
        format!("refs/remotes/origin/{}", self.0)
    }

    /// Where the commit is kept that the branch was begun from.
    #[must_use]
    pub(super) fn base_ref(&self) -> String {
        format!("refs/gastown/base/{}", self.0)
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
