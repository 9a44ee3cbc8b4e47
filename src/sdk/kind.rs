//! Which agent servers there are.

use std::fmt;
use std::str::FromStr;

/// The kind of an agent server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentServerKind {
    /// The `opencode` program.
    Opencode,
    /// The `kilo` program, a relative of opencode with the same protocol.
    Kilo,
    /// Any program that speaks the Agent Client Protocol over its standard streams.
    Acp,
    /// The built-in scripted agent server: no program, no model, no network.
    Rehearsal,
}

impl AgentServerKind {
    /// The name used in a town's config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Kilo => "kilo",
            Self::Acp => "acp",
            Self::Rehearsal => "rehearsal",
        }
    }
}

impl fmt::Display for AgentServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no kind of agent server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown agent server {0:?}: it is one of opencode, kilo, acp, rehearsal")]
pub struct UnknownKind(String);

impl FromStr for AgentServerKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        match name {
            "opencode" => Ok(Self::Opencode),
            "kilo" => Ok(Self::Kilo),
            "acp" => Ok(Self::Acp),
            "rehearsal" => Ok(Self::Rehearsal),
            unknown => Err(UnknownKind(unknown.to_owned())),
        }
    }
}
