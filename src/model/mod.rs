//! The nouns of a town as plain data: ids, enums and rows. No I/O, no clock, no wire format.

mod attention;
mod container;
mod ids;
mod json;
mod nouns;
mod scheduling;
mod time;
mod work;

pub use attention::{ApiToken, Ask, Raised};
pub use container::{ContainerLife, ContainerState};
#[cfg(test)]
pub(crate) use ids::seeded;
pub use ids::{
    AgentId, AskId, BeadId, Epoch, MailId, MoleculeId, ParseIdError, RigId, TokenId, TownId, UserId,
};
pub use json::Json;
pub use nouns::{
    Agent, AgentRole, AgentStatus, Approval, AskKind, Bead, BeadStatus, BeadType, Dispatch, Mail,
    MailType, Priority, Review, ReviewStatus, Rig, Town, UnknownVariant,
};
pub use scheduling::{Breaker, Counted, CountedMessage, Scheduler, Usage};
pub use time::Timestamp;
pub use work::{Convoy, Dependency, DependencyKind, Molecule, MoleculeStatus, MoleculeStep};
