//! Model types on the wire are their own text; the model itself knows no wire format.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// How a model type is read from its text.
pub trait FromText: Sized {
    /// The value, or what the text must be.
    ///
    /// # Errors
    /// What the text must be.
    fn from_text(text: &str) -> Result<Self, String>;
}

macro_rules! from_str {
    ($($name:ty),+) => {$(
        impl FromText for $name {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }
        }
    )+};
}
from_str!(
    crate::model::AgentId,
    crate::model::AgentRole,
    crate::model::AgentStatus,
    crate::model::Approval,
    crate::model::AskId,
    crate::model::BeadId,
    crate::model::ContainerState,
    crate::model::Epoch,
    crate::model::Priority,
    crate::model::ReviewStatus,
    crate::model::RigId,
    crate::model::TownId
);

impl FromText for crate::model::Timestamp {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "not an RFC 3339 time".to_owned())
    }
}

/// Writes the text.
///
/// # Errors
/// The serializer's own.
pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads the text.
///
/// # Errors
/// The text is not one of the type.
pub fn deserialize<'de, T: FromText, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    d.deserialize_str(Reader(PhantomData))
}

/// Reads a value from its text where that stands, without a copy of it.
struct Reader<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }
}

/// The same, where the value may be absent or null.
pub mod option {
    use std::fmt::Display;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::FromText;

    /// Writes the text or null.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the text or null.
    ///
    /// # Errors
    /// There is a text and it is not one of the type.
    pub fn deserialize<'de, T: FromText, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| T::from_text(&text).map_err(D::Error::custom))
            .transpose()
    }
}

/// The same for a list.
pub mod list {
    use std::fmt::Display;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::FromText;

    /// Writes the texts.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<T: Display, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(T::to_string))
    }

    /// Reads the texts.
    ///
    /// # Errors
    /// One of them is not one of the type.
    pub fn deserialize<'de, T: FromText, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        let values = texts.iter().map(|text| T::from_text(text));
        values.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}
