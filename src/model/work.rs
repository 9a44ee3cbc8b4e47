//! How beads hang together: what they wait for, the convoy they travel in, the steps they are made of.

use std::fmt;
use std::str::FromStr;

use super::nouns::named_enum;
use super::{BeadId, MoleculeId, RigId, Timestamp, UnknownVariant};

named_enum! {
    /// What one bead's dependency on another means.
    DependencyKind ["blocks, tracks"] {
        /// The other one must be closed first.
        Blocks = "blocks",
        /// The other one is followed, and holds up nothing.
        Tracks = "tracks",
    }
}

/// A bead that another one depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The bead that is needed or followed.
    pub on_bead_id: BeadId,
    /// Which of the two.
    pub kind: DependencyKind,
}

/// What a convoy carries beyond its bead: how far its members are. The numbers are those of the
/// beads that are in it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convoy {
    /// The convoy's own bead.
    pub convoy_id: BeadId,
    /// Beads in it.
    pub total: u32,
    /// Those that are closed.
    pub closed: u32,
    /// Those that failed; they keep it from landing.
    pub failed: u32,
    /// When the last of its beads was closed; it happens once.
    pub landed_at: Option<Timestamp>,
}

impl Convoy {
    /// Whether nothing in it is left to do.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.closed >= self.total
    }
}

named_enum! {
    /// Where a molecule stands.
    MoleculeStatus ["active, completed, failed"] {
        /// Some step is left.
        Active = "active",
        /// Every step was done.
        Completed = "completed",
        /// Its bead ended before its last step.
        Failed = "failed",
    }
}

/// One step of a molecule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoleculeStep {
    /// A line.
    pub title: String,
    /// What is to be done.
    pub instructions: String,
    /// What the agent said when it was done.
    pub summary: Option<String>,
}

/// A bead's ordered steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Molecule {
    /// Its id.
    pub molecule_id: MoleculeId,
    /// The work.
    pub bead_id: BeadId,
    /// The rig of that work.
    pub rig_id: RigId,
    /// The steps, first to last; at least one.
    pub steps: Vec<MoleculeStep>,
    /// The step to be done next, counted from 0; the number of steps when all are done.
    pub current_step: u32,
    /// Where it stands.
    pub status: MoleculeStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Molecule {
    /// The step to be done next.
    #[must_use]
    pub fn step(&self) -> Option<&MoleculeStep> {
        self.steps.get(usize::try_from(self.current_step).ok()?)
    }
}
