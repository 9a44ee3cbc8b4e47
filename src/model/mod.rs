//! The nouns of a town as plain data: ids, enums and rows. No I/O, no clock, no wire format.

mod ids;
mod json;
mod nouns;
mod time;

pub use ids::{AgentId, BeadId, Epoch, MailId, ParseIdError, RigId, TownId, UserId};
pub use json::Json;
pub use nouns::{
    Agent, AgentRole, AgentStatus, Approval, Bead, BeadStatus, BeadType, Dispatch, Mail, MailType,
    Priority, Review, ReviewStatus, Rig, Town, UnknownVariant,
};
pub use time::Timestamp;
