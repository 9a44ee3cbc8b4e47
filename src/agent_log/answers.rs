//! Appends that are to be carried out once: what one commit answers, and what was answered before.

use crate::storage::{self, Batch, Kept, Once, Recalled, Tree};

use super::log::{AppendError, Appended};

/// The answers of one commit to requests with a key.
pub(super) struct Answers<'a> {
    tree: &'a Tree,
    given: Vec<(Once, Appended)>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            given: Vec::new(),
        }
    }

    /// The answer that this request has had already, perhaps in this very commit.
    pub(super) fn earlier(&self, once: Option<&Once>) -> Result<Option<Appended>, AppendError> {
        let Some(once) = once else { return Ok(None) };
        if let Some((first, appended)) = self.given.iter().find(|(other, _)| other.key == once.key)
        {
            return if first.fingerprint == once.fingerprint {
                Ok(Some(*appended))
            } else {
                Err(AppendError::KeyReused)
            };
        }
        match self.tree.recall(once)? {
            Recalled::Unknown => Ok(None),
            Recalled::Reused => Err(AppendError::KeyReused),
            Recalled::Answered((count, first_id, last_id)) => Ok(Some(Appended {
                count,
                first_id,
                last_id,
            })),
        }
    }

    pub(super) fn add(&mut self, once: Option<Once>, appended: Appended) {
        self.given.extend(once.map(|once| (once, appended)));
    }

    /// Puts them into the batch of that commit.
    pub(super) fn stage(self, batch: &mut Batch) -> Result<(), storage::Error> {
        let kept = self.given.into_iter().map(|(once, appended)| {
            let Appended {
                count,
                first_id,
                last_id,
            } = appended;
            (once, Kept::of(&(count, first_id, last_id)))
        });
        self.tree.remember(batch, kept.collect())
    }
}
