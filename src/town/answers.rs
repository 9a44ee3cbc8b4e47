//! What commands answer, in a form that is kept for the client that asks again.

use crate::config::TownConfig;
use crate::storage::{Once, Record, Text};

use super::command::{
    Advanced, Command, ConvoyState, MayorSession, Prime, SessionStatus, Slung, StoppedRun,
};
use super::queries::AskView;

/// The answer of a command. It is kept with the change that it tells of when the request had a key.
pub(super) trait Answer: Sized + Send + 'static {
    /// What is written.
    type Kept: Record;

    fn keep(&self) -> Self::Kept;

    /// `None` if it is not what [`Answer::keep`] makes.
    fn recall(kept: Self::Kept) -> Option<Self>;
}

/// A row is kept as itself.
impl<R: Record + Clone + Send + 'static> Answer for R {
    type Kept = Self;

    fn keep(&self) -> Self {
        self.clone()
    }

    fn recall(kept: Self) -> Option<Self> {
        Some(kept)
    }
}

/// Answers of several rows, as a tuple of them.
macro_rules! answers {
    ($($name:ident { $($field:ident: $kind:ty),+ })+) => {$(
        impl Answer for $name {
            type Kept = ($($kind,)+);

            fn keep(&self) -> Self::Kept {
                ($(self.$field.clone(),)+)
            }

            fn recall(($($field,)+): Self::Kept) -> Option<Self> {
                Some(Self { $($field),+ })
            }
        }
    )+};
}

answers! {
    StoppedRun { agent_id: crate::model::AgentId, bead_id: Option<crate::model::BeadId> }
    Advanced { molecule: crate::model::Molecule, previous_step: u32 }
    ConvoyState { convoy: crate::model::Convoy, bead: crate::model::Bead }
    Slung { bead: crate::model::Bead, agent: Option<crate::model::Agent> }
    Prime {
        agent: crate::model::Agent,
        hooked_bead: Option<crate::model::Bead>,
        molecule: Option<crate::model::Molecule>,
        undelivered_mail: Vec<crate::model::Mail>,
        open_beads: Vec<crate::model::Bead>
    }
    AskView { ask: crate::model::Ask, agent: crate::model::Agent }
}

impl Answer for Option<Advanced> {
    type Kept = Vec<(crate::model::Molecule, u32)>;

    fn keep(&self) -> Self::Kept {
        self.iter().map(Answer::keep).collect()
    }

    fn recall(kept: Self::Kept) -> Option<Self> {
        match kept.into_iter().next() {
            Some(kept) => Advanced::recall(kept).map(Some),
            None => Some(None),
        }
    }
}

impl Answer for TownConfig {
    type Kept = Text;

    fn keep(&self) -> Text {
        let value = self.to_json();
        Text { value }
    }

    fn recall(kept: Text) -> Option<Self> {
        Self::from_json(&kept.value)
    }
}

impl Answer for MayorSession {
    type Kept = (crate::model::AgentId, String);

    fn keep(&self) -> Self::Kept {
        (self.agent_id, self.status.as_str().to_owned())
    }

    fn recall((agent_id, status): Self::Kept) -> Option<Self> {
        use SessionStatus::{Active, Idle, Starting};
        let status = [Idle, Active, Starting]
            .into_iter()
            .find(|known| known.as_str() == status)?;
        Some(Self { agent_id, status })
    }
}

/// A request with a key, as one handle carries it out. A request may take several commands: each
/// is a step with an answer of its own.
#[derive(Debug)]
pub(super) struct Request {
    once: Once,
    steps: std::sync::atomic::AtomicU32,
}

impl Request {
    pub(super) fn new(once: Once) -> Self {
        let steps = std::sync::atomic::AtomicU32::new(0);
        Self { once, steps }
    }

    /// The next step.
    pub(super) fn next(&self) -> Once {
        let step = self
            .steps
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Once {
            key: format!("{step} {}", self.once.key),
            ..self.once.clone()
        }
    }

    pub(super) fn step(&self, command: Command) -> Command {
        Command::Once(self.next(), Box::new(command))
    }
}
