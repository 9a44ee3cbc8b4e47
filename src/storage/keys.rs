//! Every key of every tree. The first byte says which; ids and then big-endian numbers follow, so
//! that the order of bytes is the order of scans. A byte once assigned never changes its meaning.

use crate::model::{
    Agent, AgentId, AgentRole, ApiToken, Ask, Bead, BeadId, BeadStatus, BeadType, ContainerLife,
    Convoy, Counted, Mail, Molecule, MoleculeId, Raised, Review, ReviewStatus, Rig, RigId,
    Scheduler, TokenId, Town, TownId, Usage,
};

use super::Error;
use super::codec::Record;
use super::layout::{
    Answered, Count, DirectoryEntry, Format, LinkPosition, LogHead, Pointer, SegmentHead, Text,
};

/// A whole key of a tree and the row behind it.
pub trait Key: Sized {
    /// What is stored under it.
    type Row: Record;

    /// Its bytes.
    fn encode(&self) -> Vec<u8>;

    /// The inverse of [`Key::encode`].
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are not such a key.
    fn decode(bytes: &[u8]) -> Result<Self, Error>;
}

/// The beginning that all keys of a scan share; a type of its own, so that it can't be read as a
/// whole key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix<K> {
    pub(super) bytes: Vec<u8>,
    key: std::marker::PhantomData<K>,
}

impl<K> Prefix<K> {
    /// The first bytes behind every key with this beginning; `None` if there are none.
    pub(super) fn end(&self) -> Option<Vec<u8>> {
        let mut end = self.bytes.clone();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Some(end);
            }
        }
        None
    }
}

trait Part: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// Takes itself off the front.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

impl Part for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self::from_be_bytes(*head))
    }
}

impl Part for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(*head)
    }
}

/// Text runs to the end of the key, so it can only be the last part.
impl Part for String {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.to_owned();
        *bytes = &[];
        Some(text)
    }
}

macro_rules! id_part {
    ($($id:ident),+) => {$(
        impl Part for $id {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_bytes());
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_bytes(*head))
            }
        }
    )+};
}
id_part!(TownId, RigId, AgentId, BeadId, MoleculeId, TokenId);

macro_rules! enum_part {
    ($($name:ident),+) => {$(
        impl Part for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(super::layout::code(*self));
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                super::layout::from_code(u8::take(bytes)?)
            }
        }
    )+};
}
enum_part!(AgentRole, BeadStatus, BeadType, ReviewStatus);

/// Stands in a key where a rig would, for what belongs to the town itself. No rig has this id:
/// rigs' ids are random and carry their version.
pub const NO_RIG: RigId = RigId::from_bytes([0; 16]);

macro_rules! keys {
    ($($(#[$doc:meta])* $tag:literal $name:ident { $($part:ident: $kind:ty),* } -> $row:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $(#[doc = concat!("Its ", stringify!($part), ".")] pub $part: $kind,)* }

        impl Key for $name {
            type Row = $row;

            fn encode(&self) -> Vec<u8> {
                #[allow(unused_mut, reason = "a key without parts is its tag alone")]
                let mut out = vec![$tag];
                $(self.$part.put(&mut out);)*
                out
            }

            fn decode(bytes: &[u8]) -> Result<Self, Error> {
                let mut rest = bytes;
                let parse = |rest: &mut &[u8]| -> Option<Self> {
                    (u8::take(rest)? == $tag).then_some(())?;
                    Some(Self { $($part: <$kind as Part>::take(rest)?,)* })
                };
                parse(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| Error::Damaged {
                    what: stringify!($name),
                    detail: format!("key of {} bytes", bytes.len()),
                })
            }
        }

        impl $name {
            /// The tag that all of these keys share.
            #[must_use]
            pub fn all() -> Prefix<Self> {
                Prefix { bytes: vec![$tag], key: std::marker::PhantomData }
            }
        }
    )+

    #[cfg(test)]
    pub(super) const TAGS: &[(u8, &str)] = &[$(($tag, stringify!($name)),)+];
    };
}

keys! {
    // Trees `town/<id>`.
    /// The town itself.
    0x01 TownKey {} -> Town;
    /// A rig.
    0x02 RigKey { rig_id: RigId } -> Rig;
    /// An agent.
    0x03 AgentKey { agent_id: AgentId } -> Agent;
    /// A bead.
    0x04 BeadKey { bead_id: BeadId } -> Bead;
    /// Beads of a rig by age.
    0x05 BeadByRig { rig_id: RigId, seq: u64 } -> Pointer<BeadId>;
    /// Beads by status, then age.
    0x06 BeadByStatus { status: BeadStatus, seq: u64 } -> Pointer<BeadId>;
    /// Beads of an agent by age.
    0x07 BeadByAssignee { agent_id: AgentId, seq: u64 } -> Pointer<BeadId>;
    /// Agents of a rig by age.
    0x08 AgentByRig { rig_id: RigId, seq: u64 } -> Pointer<AgentId>;
    /// Agents by their identity, which is unique in the town.
    0x09 AgentByIdentity { identity: String } -> Pointer<AgentId>;
    /// Agents by their name, which is unique in the town.
    0x0A AgentByName { name: String } -> Pointer<AgentId>;
    /// Rigs by their name, which is unique in the town.
    0x0B RigByName { name: String } -> Pointer<RigId>;
    /// All mail to an agent by age.
    0x0C MailKey { to_agent_id: AgentId, seq: u64 } -> Mail;
    /// The mail that was not handed over yet.
    0x0D MailUndelivered { to_agent_id: AgentId, seq: u64 } -> Count;
    /// What a merge request carries beyond its bead.
    0x0E ReviewKey { entry_id: BeadId } -> Review;
    /// Merge requests by status, then age.
    0x0F ReviewByStatus { status: ReviewStatus, seq: u64 } -> Pointer<BeadId>;
    /// A segment of a log, by its first event's id. In `town/<id>` the town's feed, in
    /// `agent/<id>` the agent's events.
    0x10 SegmentKey { first_id: u64 } -> SegmentHead;
    /// A log's epoch and floor.
    0x11 LogHeadKey {} -> LogHead;
    /// How far the container's link has been taken over.
    0x12 LinkKey {} -> LinkPosition;
    /// The next number of the town's order of creation.
    0x13 CounterKey {} -> Count;
    /// The town's config as JSON.
    0x14 ConfigKey {} -> Text;
    // 0x15 held the alarm, which follows from the rows.
    /// Town events of a bead, by sequence.
    0x16 BeadEventKey { bead_id: BeadId, seq: u64 } -> Count;
    /// Open escalations by the matter they are about, so that one matter is raised once.
    0x17 EscalationFold { matter: String } -> Pointer<BeadId>;
    /// All beads of the town by age.
    0x18 BeadByTown { seq: u64 } -> Pointer<BeadId>;
    /// What of an agent's messages is counted in its usage.
    0x19 CountedKey { agent_id: AgentId } -> Counted;
    /// Agents with a bead on their hook or something running, by age.
    0x20 AgentActive { seq: u64 } -> Pointer<AgentId>;
    /// Agents by role, then age.
    0x21 AgentByRole { role: AgentRole, seq: u64 } -> Pointer<AgentId>;
    /// Slung beads that nobody has yet: of a rig by rank (0 is the most urgent), then age.
    0x22 BeadSlung { rig_id: RigId, rank: u8, seq: u64 } -> Pointer<BeadId>;
    /// Rigs that are paused.
    0x23 RigPaused { rig_id: RigId } -> Pointer<RigId>;
    /// The scheduler's notes.
    0x24 SchedulerKey {} -> Scheduler;
    /// What an agent used on a day (days since 1970, UTC) for a bead; nil if for none.
    0x25 UsageKey { day: u64, agent_id: AgentId, bead_id: BeadId } -> Usage;
    /// The beads that depend on a bead; the dependency itself stands in the dependent's row.
    0x26 BeadDependent { on_bead_id: BeadId, bead_id: BeadId } -> Count;
    /// Beads of a rig ([`NO_RIG`]: of the town itself) by type and status, then age.
    0x27 BeadByKind { rig_id: RigId, bead_type: BeadType, status: BeadStatus, seq: u64 } -> Pointer<BeadId>;
    /// Open beads of a rig that wait for no other, by age.
    0x28 BeadReady { rig_id: RigId, seq: u64 } -> Pointer<BeadId>;
    /// The parts of a bead by age.
    0x29 BeadByParent { parent_bead_id: BeadId, seq: u64 } -> Pointer<BeadId>;
    /// The beads of a convoy by age.
    0x2A BeadByConvoy { convoy_id: BeadId, seq: u64 } -> Pointer<BeadId>;
    /// What a convoy carries beyond its bead.
    0x2B ConvoyKey { convoy_id: BeadId } -> Convoy;
    /// A bead's ordered steps.
    0x2C MoleculeKey { molecule_id: MoleculeId } -> Molecule;
    /// Town events about beads, by sequence: those of a rig, and under [`NO_RIG`] all of them.
    0x2D LedgerKey { rig_id: RigId, seq: u64 } -> Count;
    /// All mail from an agent by age, and whom it went to.
    0x2E MailBySender { from_agent_id: AgentId, seq: u64 } -> Pointer<AgentId>;
    /// What a merge request's gates printed last.
    0x2F ReviewOutput { entry_id: BeadId } -> Text;
    /// The merge request of a bead that is not finished.
    0x30 ReviewBySource { source_bead_id: BeadId } -> Pointer<BeadId>;
    /// Nudges that wait, by the moment they are worth nothing any more (ms since 1970).
    0x31 NudgeByExpiry { expires_at: u64, seq: u64 } -> Pointer<AgentId>;
    /// What agents ask, by agent and the ask's id at the agent server.
    0x32 AskKey { agent_id: AgentId, server_id: String } -> Ask;
    /// Escalations that nobody has taken up yet.
    0x33 RaisedKey { bead_id: BeadId } -> Raised;
    /// The town's container.
    0x3A ContainerKey {} -> ContainerLife;

    /// What was answered under a client's key for a request. Here and, with the two that follow, in
    /// the trees `agent/<id>` and `meta`.
    0x36 AnsweredKey { key: String } -> Answered;
    /// The same by age, for clearing away.
    0x37 AnsweredAt { at: u64, key: String } -> Count;
    /// How many there are.
    0x38 AnsweredCount {} -> Count;
    /// Which indexes of the town are whole.
    0x39 IndexedKey {} -> Count;

    // Tree `meta`.
    /// What wrote this database and in which format.
    0x40 FormatKey {} -> Format;
    /// The towns.
    0x41 TownDirectory { town_id: TownId } -> DirectoryEntry;
    /// Tokens that people made for programs.
    0x34 ApiTokenKey { token_id: TokenId } -> ApiToken;
}

macro_rules! prefixes {
    ($($key:ident: $method:ident($part:ident: $kind:ty);)+) => {$(
        impl $key {
            #[doc = concat!("All of one ", stringify!($part), ".")]
            #[must_use]
            pub fn $method($part: $kind) -> Prefix<Self> {
                let mut prefix = Self::all();
                $part.put(&mut prefix.bytes);
                prefix
            }
        }
    )+};
}

prefixes! {
    BeadByRig: of_rig(rig_id: RigId);
    BeadByStatus: of_status(status: BeadStatus);
    BeadByAssignee: of_agent(agent_id: AgentId);
    AgentByRig: of_rig(rig_id: RigId);
    AgentByRole: of_role(role: AgentRole);
    BeadSlung: of_rig(rig_id: RigId);
    UsageKey: of_day(day: u64);
    MailKey: to(to_agent_id: AgentId);
    MailUndelivered: to(to_agent_id: AgentId);
    MailBySender: from(from_agent_id: AgentId);
    ReviewByStatus: of_status(status: ReviewStatus);
    BeadEventKey: of_bead(bead_id: BeadId);
    AskKey: of_agent(agent_id: AgentId);
    BeadDependent: on(on_bead_id: BeadId);
    BeadReady: of_rig(rig_id: RigId);
    BeadByParent: of_parent(parent_bead_id: BeadId);
    BeadByConvoy: of_convoy(convoy_id: BeadId);
    LedgerKey: of_rig(rig_id: RigId);
}

impl BeadByKind {
    /// All of one rig, type and status.
    #[must_use]
    pub fn of_kind(rig_id: RigId, bead_type: BeadType, status: BeadStatus) -> Prefix<Self> {
        let mut prefix = Self::all();
        rig_id.put(&mut prefix.bytes);
        bead_type.put(&mut prefix.bytes);
        status.put(&mut prefix.bytes);
        prefix
    }
}

#[cfg(test)]
mod tests;
