//! The layout of every row on disk.
//!
//! Each list below names a row's fields in the order they are stored. The model may reorder its
//! structs freely; a field added to the model does not compile until it stands here. bincode has
//! no field names, so this order is the format: fields are only ever added, in a `since` list of
//! the layout version that they came with, and a row written before then reads as their default.
//! Anything else is a change that needs a migration.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, ApiToken, Approval, Ask, AskId, AskKind, Bead, BeadId,
    BeadStatus, BeadType, Breaker, ContainerLife, ContainerState, Convoy, Counted, CountedMessage,
    Dependency, DependencyKind, Dispatch, Epoch, Json, Mail, MailId, MailType, Molecule,
    MoleculeId, MoleculeStatus, MoleculeStep, Priority, Raised, Review, ReviewStatus, Rig, RigId,
    Scheduler, Timestamp, TokenId, Town, TownId, Usage, UserId,
};

use super::codec::{LayoutVersion, Record};

/// A number alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub value: u64,
}

/// Text alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub value: String,
}

/// An index row: where the real one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer<I> {
    /// The id it points to.
    pub id: I,
}

/// Which program wrote the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Always `gastownd`.
    pub program: String,
    /// Rises with every change that older programs can't read.
    pub version: u32,
}

/// A town in the list of towns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Who owns it.
    pub owner_user_id: UserId,
    /// Its place in the order of creation.
    pub seq: u64,
}

/// A log's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Chosen when the log is created.
    pub epoch: Epoch,
    /// The first id that is kept.
    pub first_id: u64,
    /// The last id ever given, if its segment may be gone; otherwise the segments know better.
    pub last_id: u64,
}

/// A place in a container's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPosition {
    /// The container's life.
    pub epoch: Epoch,
    /// The last message taken over.
    pub seq: u64,
}

/// The head of a stored segment; the finished WebSocket frames follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// The id of the first frame's event; the others follow one by one.
    pub first_id: u64,
    /// Where each frame begins, relative to the first.
    pub offsets: Vec<u32>,
    /// The place in the container's stream of the last event that came from there.
    pub link: Option<LinkPosition>,
    /// Bytes of frames in all segments before it, those that are gone included.
    pub bytes_before: u64,
}

/// The answer to a request that is to be carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Tells the request from another one under the same key.
    pub fingerprint: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The answer, a row of its own kind.
    pub answer: Vec<u8>,
}

/// An enum whose variants have a byte on disk.
pub(super) trait Coded: Copy + PartialEq + 'static {
    const CODES: &'static [(Self, u8)];
}

pub(super) fn code<T: Coded>(value: T) -> u8 {
    T::CODES
        .iter()
        .find(|(variant, _)| *variant == value)
        .map(|(_, code)| *code)
        .expect("every variant has a code")
}

pub(super) fn from_code<T: Coded>(code: u8) -> Option<T> {
    T::CODES
        .iter()
        .find(|(_, known)| *known == code)
        .map(|(variant, _)| *variant)
}

macro_rules! codes {
    ($($name:ident { $($variant:ident = $code:literal),+ $(,)? })+) => {$(
        impl Coded for $name {
            const CODES: &'static [(Self, u8)] = &[$(($name::$variant, $code)),+];
        }

        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                // A match, not a look-up, so that a new variant without a code does not compile.
                let code: u8 = match self { $($name::$variant => $code),+ };
                code.encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                from_code(u8::decode(decoder)?)
                    .ok_or(DecodeError::Other(concat!("unknown ", stringify!($name))))
            }
        }
    )+};
}

codes! {
    BeadType { Issue = 1, Message = 2, Escalation = 3, MergeRequest = 4, Convoy = 5, Molecule = 6, Agent = 7 }
    BeadStatus { Open = 1, InProgress = 2, Closed = 3, Failed = 4 }
    Priority { Low = 1, Medium = 2, High = 3, Critical = 4 }
    AgentRole { Polecat = 1, Refinery = 2, Mayor = 3, Witness = 4 }
    AgentStatus { Idle = 1, Working = 2, Waiting = 3, Stalled = 4, Dead = 5 }
    ReviewStatus { Pending = 1, Running = 2, Merged = 3, Failed = 4, Conflict = 5, InReview = 6, Waiting = 7, Rework = 8 }
    Approval { None = 1, Refinery = 2, Person = 3 }
    MailType {
        Message = 1, PolecatDone = 2, MergeReady = 3, Merged = 4, MergeFailed = 5, ReworkRequest = 6,
        GuppCheck = 7, Help = 8, Handoff = 9, Nudge = 10,
    }
    AskKind { Permission = 1, Question = 2 }
    DependencyKind { Blocks = 1, Tracks = 2 }
    MoleculeStatus { Active = 1, Completed = 2, Failed = 3 }
    ContainerState { Asleep = 1, Starting = 2, Ready = 3, Draining = 4, Failed = 5 }
}

macro_rules! id_layout {
    ($($id:ident),+) => {$(
        impl Encode for $id {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.as_bytes().encode(encoder)
            }
        }

        impl<C> Decode<C> for $id {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Ok(Self::from_bytes(Decode::decode(decoder)?))
            }
        }
    )+};
}
id_layout!(
    TownId, RigId, AgentId, BeadId, MailId, MoleculeId, Epoch, AskId, TokenId
);

macro_rules! text_layout {
    ($($name:ident: $make:expr;)+) => {$(
        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.as_str().encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                let make: fn(String) -> Option<Self> = $make;
                make(String::decode(decoder)?)
                    .ok_or(DecodeError::Other(concat!("not a ", stringify!($name))))
            }
        }
    )+};
}
text_layout! {
    Json: |text| Some(Json::from_valid(text));
    UserId: |text| UserId::parse(&text);
}

impl Encode for Timestamp {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.as_millis().encode(encoder)
    }
}

impl<C> Decode<C> for Timestamp {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self::from_millis(i64::decode(decoder)?))
    }
}

/// Takes its rows off one by one: read as one repetition, `since` could be the next row's name.
macro_rules! layouts {
    () => {};
    (
        $name:ident { $($field:ident),* $(,)? } since $version:literal { $($added:ident),+ $(,)? }
        since $later:literal { $($last:ident),+ $(,)? }
        $($rest:tt)*
    ) => {
        layout!($name { $($field),* } $version { $($added),+ } $later { $($last),+ });
        layouts! { $($rest)* }
    };
    (
        $name:ident { $($field:ident),* $(,)? } since $version:literal { $($added:ident),+ $(,)? }
        $($rest:tt)*
    ) => {
        layout!($name { $($field),* } $version { $($added),+ });
        layouts! { $($rest)* }
    };
    ($name:ident { $($field:ident),* $(,)? } $($rest:tt)*) => {
        layout!($name { $($field),* });
        layouts! { $($rest)* }
    };
}

macro_rules! layout {
    ($name:ident { $($field:ident),* } $($version:literal { $($added:ident),+ })*) => {
        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                $(self.$field.encode(encoder)?;)*
                $($(self.$added.encode(encoder)?;)+)*
                Ok(())
            }
        }

        impl Decode<LayoutVersion> for $name {
            fn decode<D: Decoder<Context = LayoutVersion>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Ok(Self {
                    $($field: Decode::decode(decoder)?,)*
                    $($($added: added_in($version, decoder)?,)+)*
                })
            }
        }

        impl Record for $name {
            const NAME: &'static str = stringify!($name);
        }
    };
}

/// A field that rows have since `version`; in older rows it has its default.
fn added_in<T, D>(version: u8, decoder: &mut D) -> Result<T, DecodeError>
where
    T: Default + Decode<LayoutVersion>,
    D: Decoder<Context = LayoutVersion>,
{
    if decoder.context().0 < version {
        return Ok(T::default());
    }
    Decode::decode(decoder)
}

layouts! {
    Count { value }
    Text { value }
    Format { program, version }
    DirectoryEntry { owner_user_id, seq }
    LogHead { epoch, first_id, last_id }
    LinkPosition { epoch, seq }
    SegmentHead { first_id, offsets, link } since 2 { bytes_before }
    Answered { fingerprint, at, answer }
    Town { town_id, name, owner_user_id, created_at, updated_at } since 2 { paused }
    Rig {
        rig_id, town_id, name, git_url, default_branch, platform_integration_id, kilocode_token,
        paused, created_at, updated_at,
    }
    Bead {
        bead_id, seq, bead_type, status, title, body, rig_id, parent_bead_id, assignee_agent_id,
        priority, labels, metadata, created_by, failure, created_at, updated_at, closed_at,
    } since 2 { convoy_id, molecule_id, dependencies, blockers_open, slung }
    Dependency { on_bead_id, kind }
    Convoy { convoy_id, total, closed, failed, landed_at }
    MoleculeStep { title, instructions, summary }
    Molecule {
        molecule_id, bead_id, rig_id, steps, current_step, status, created_at, updated_at,
    }
    Dispatch {
        attempts, due_at, requested_at, session_id, session_bead_id, last_error, reminders,
    } since 2 { given_up, checked_at }
    Agent {
        agent_id, seq, rig_id, role, name, identity, status, hook, dispatch, last_activity_at,
        checkpoint, created_at,
    }
    Mail {
        mail_id, seq, from_agent_id, to_agent_id, subject, body, created_at, delivered_at,
    } since 3 { mail_type, expires_at, about_bead_id, dropped }
    Review {
        entry_id, seq, rig_id, source_bead_id, agent_id, branch, pr_url, summary, status, attempts,
        due_at, started_at, message, commit_sha,
    } since 3 { reworks, approval, approval_note, refinery_failed } since 4 { head_sha }
    Ask {
        ask_id, agent_id, server_id, kind, title, detail, asked_at, escalation, answer, answered_at,
        last_error,
    }
    Raised { bead_id, raised_at, again, notify }
    ApiToken { token_id, name, hash, ending, created_at, expires_at }
    Scheduler { failures, breaker, day, spent, budget_told }
    Breaker { opened_at, probe }
    ContainerLife {
        state, reason, since, epoch, attempts, retry_at, idle_since, calls_mayor,
    }
    Usage { input, output, reasoning, cache_read, cache_write, cost_nanos }
    Counted { messages }
    CountedMessage { message_id, usage }
}

impl<I: Encode> Encode for Pointer<I> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.id.encode(encoder)
    }
}

impl<I: Decode<LayoutVersion>> Decode<LayoutVersion> for Pointer<I> {
    fn decode<D: Decoder<Context = LayoutVersion>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            id: I::decode(decoder)?,
        })
    }
}

impl<I: Encode + Decode<LayoutVersion>> Record for Pointer<I> {
    const NAME: &'static str = "Pointer";
}

// What rows are put together to, where an answer of several is kept.

impl Record for () {
    const NAME: &'static str = "nothing";
}

impl<R: Encode + Decode<LayoutVersion> + 'static> Record for Vec<R> {
    const NAME: &'static str = "list";
}

macro_rules! record_tuples {
    ($($($part:ident)+;)+) => {$(
        impl<$($part: Encode + Decode<LayoutVersion>),+> Record for ($($part,)+) {
            const NAME: &'static str = "answer";
        }
    )+};
}
record_tuples! {
    A B;
    A B C;
    A B C D;
    A B C D E;
}

#[cfg(test)]
mod tests;
