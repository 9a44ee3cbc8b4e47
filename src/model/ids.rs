//! Typed ids. All are UUIDs, except a user's, which an older client may choose freely.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct ParseIdError;

#[cfg(not(test))]
fn fresh() -> Uuid {
    Uuid::new_v4()
}

/// A test may ask for ids that are the same in every run; see [`seeded`].
#[cfg(test)]
fn fresh() -> Uuid {
    seeded::next().unwrap_or_else(Uuid::new_v4)
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(fresh())
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

/// Ids that follow from a seed, for runs that can be repeated.
#[cfg(test)]
pub(crate) mod seeded {
    use std::cell::Cell;

    use uuid::{Builder, Uuid};

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on every id that this thread makes follows from `seed`.
    pub(crate) fn begin(seed: u64) {
        STATE.set(Some(seed));
    }

    /// Random ids again.
    pub(crate) fn end() {
        STATE.set(None);
    }

    pub(super) fn next() -> Option<Uuid> {
        let state = STATE.get()?;
        STATE.set(Some(state.wrapping_add(1)));
        let (high, low) = (mixed(state), mixed(!state));
        let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        Some(Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The finishing steps of SplitMix64.
    fn mixed(value: u64) -> u64 {
        let mut mixed = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
