//! A recorded run through the reconciler again: it must come to the same plans.

use std::fmt;
use std::io::BufRead;

use super::reconcile::reconcile;
use super::recorder::Look;

/// Differences that are told in full; of the others only the number.
const TOLD_MAX: usize = 20;

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Looks that were recorded.
    pub looks: u64,
    /// Actions that followed from them.
    pub actions: u64,
    /// Looks from which something else follows now.
    pub different: u64,
    /// The first of those, for people.
    pub told: Vec<String>,
}

/// Why a record can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It can't be read.
    #[error("the record can't be read")]
    Read(#[from] std::io::Error),
    /// A line is no look that this program knows.
    #[error("line {number} of the record is none of this program's")]
    Line {
        /// From 1.
        number: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Lets the reconciler plan anew for everything that it saw in a record.
///
/// # Errors
/// See [`ReplayError`]. A last line that was cut off is left out.
pub fn replay(mut record: impl BufRead) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed::default();
    let mut line = String::new();
    loop {
        line.clear();
        if record.read_line(&mut line)? == 0 {
            return Ok(replayed);
        }
        let look: Look = match serde_json::from_str(&line) {
            Ok(look) => look,
            Err(_) if !line.ends_with('\n') => return Ok(replayed),
            Err(source) => {
                let number = replayed.looks + 1;
                return Err(ReplayError::Line { number, source });
            }
        };
        replayed.take(&look);
    }
}

impl Replayed {
    fn take(&mut self, look: &Look) {
        self.looks += 1;
        self.actions += look.plan.actions.len() as u64;
        let plan = reconcile(&look.view, look.now);
        if plan == look.plan {
            return;
        }
        self.different += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!(
                "line {}, town {} at {}:\n  then {:?}\n  now  {plan:?}",
                self.looks, look.town, look.now, look.plan
            ));
        }
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for told in &self.told {
            writeln!(f, "{told}")?;
        }
        writeln!(
            f,
            "{} looks, {} actions, {} looks differ",
            self.looks, self.actions, self.different
        )
    }
}
