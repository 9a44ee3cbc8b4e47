//! The rows that a draft has read or changed, each as it was and as it is.

use std::collections::BTreeMap;

use crate::storage::{self, Batch, Key, Tree};

use super::rows::Row;

/// Rows of one kind, in the order of their ids: the same changes make the same batch.
pub(super) struct Table<R: Row>(BTreeMap<R::Id, Change<R>>);

struct Change<R> {
    before: Option<R>,
    after: Option<R>,
}

impl<R: Row> Table<R> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn get(&mut self, tree: &Tree, id: R::Id) -> Result<Option<R>, storage::Error> {
        if let Some(change) = self.0.get(&id) {
            return Ok(change.after.clone());
        }
        let row = R::load(tree, id)?;
        self.0.insert(
            id,
            Change {
                before: row.clone(),
                after: row.clone(),
            },
        );
        Ok(row)
    }

    pub(super) fn set(
        &mut self,
        tree: &Tree,
        id: R::Id,
        row: Option<R>,
    ) -> Result<(), storage::Error> {
        self.get(tree, id)?;
        if let Some(change) = self.0.get_mut(&id) {
            change.after = row;
        }
        Ok(())
    }

    pub(super) fn stage(self, batch: &mut Batch) {
        for Change { before, after } in self.0.into_values() {
            if before != after {
                R::stage(batch, before.as_ref(), after.as_ref());
            }
        }
    }

    pub(super) fn is_same(&self) -> bool {
        let mut changes = self.0.values();
        changes.all(|change| change.before == change.after)
    }

    /// Rows that this draft has set, as they are now.
    pub(super) fn touched(&self) -> impl Iterator<Item = &R> {
        self.0.values().filter_map(|change| change.after.as_ref())
    }
}

/// A row of which a town has one.
pub(super) struct Single<R> {
    /// `None` until it was read.
    before: Option<Option<R>>,
    after: Option<R>,
}

impl<R> Default for Single<R> {
    fn default() -> Self {
        Self {
            before: None,
            after: None,
        }
    }
}

impl<R: Clone + PartialEq> Single<R> {
    pub(super) fn get<K: Key<Row = R>>(
        &mut self,
        tree: &Tree,
        key: &K,
    ) -> Result<Option<R>, storage::Error> {
        if self.before.is_none() {
            let row = tree.get(key)?;
            self.after.clone_from(&row);
            self.before = Some(row);
        }
        Ok(self.after.clone())
    }

    /// After [`Single::get`] only, or a row that did not change is written again.
    pub(super) fn set(&mut self, row: R) {
        self.before.get_or_insert(None);
        self.after = Some(row);
    }

    pub(super) fn is_same(&self) -> bool {
        self.before
            .as_ref()
            .is_none_or(|before| *before == self.after)
    }

    pub(super) fn stage<K: Key<Row = R>>(&self, batch: &mut Batch, key: &K) {
        if !self.is_same() {
            match &self.after {
                Some(row) => batch.put(key, row),
                None => batch.delete(key),
            }
        }
    }
}
