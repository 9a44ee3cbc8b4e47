//! The nouns of a town as plain data: ids, enums and rows. No I/O, no clock, no wire format.

mod ids;
mod json;
mod nouns;
mod scheduling;
mod time;
mod work;

pub use ids::{AgentId, BeadId, Epoch, MailId, MoleculeId, ParseIdError, RigId, TownId, UserId};
pub use json::Json;
pub use nouns::{
    Agent, AgentRole, AgentStatus, Bead, BeadStatus, BeadType, Dispatch, Mail, Priority, Review,
    ReviewStatus, Rig, Town, UnknownVariant,
};
pub use scheduling::{Breaker, Counted, CountedMessage, Scheduler, Usage};
pub use time::Timestamp;
pub use work::{Convoy, Dependency, DependencyKind, Molecule, MoleculeStatus, MoleculeStep};
