//! Typed ids. All are UUIDs, except a user's, which an older client may choose freely.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct ParseIdError;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// From its 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes, as they stand in keys.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The first eight hexadecimal digits, for names a person reads.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = self.0.simple().to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError)
            }
        }
    )+};
}

uuid_id! {
    /// A town.
    TownId;
    /// A rig: one git repository in a town.
    RigId;
    /// An agent, and the name of its event log.
    AgentId;
    /// A bead of any type; merge requests and escalations are beads too.
    BeadId;
    /// A mail between agents.
    MailId;
    /// What an agent asked.
    AskId;
    /// A token that a person made for a program.
    TokenId;
    /// A bead's ordered steps.
    MoleculeId;
    /// The life of an event log; ids are only comparable within one epoch.
    Epoch;
}

/// Who owns a town. Free text of 1 to 128 characters, so that clients of the older system keep
/// their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(String);

impl UserId {
    /// Takes the text if it is 1 to 128 characters without control characters or `/`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound = (1..=128).contains(&text.chars().count())
            && !text.chars().any(|c| c.is_control() || c == '/');
        sound.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
