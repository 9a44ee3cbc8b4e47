//! Index rows of a town that an older release wrote.
//!
//! A release may bring indexes that older ones did not know, so that a town's first opening writes
//! every row again, with all index rows that follow from it. The row that says so is in the last
//! batch: after a crash in between, the next opening begins anew and arrives at the same.

use crate::model::{Agent, Bead, Mail, Review, Rig};
use crate::storage::{
    AgentKey, Batch, BeadKey, Count, IndexedKey, Key, MailKey, Prefix, ReviewKey, RigKey,
    SegmentKey, Tree,
};

use super::ledger;
use super::refusal::Error;
use super::registry::commit;
use super::rows::{self, Row};

/// Rises with every new index over rows that exist.
const INDEXES: u64 = 4;
/// Rows of one batch: enough to be quick, few enough to keep other commits waiting for
/// milliseconds only.
const BATCH_ROWS: usize = 500;

/// Puts into a new town's first batch that all its indexes are whole.
pub(super) fn mark(batch: &mut Batch) {
    batch.put(&IndexedKey {}, &Count { value: INDEXES });
}

/// Makes the indexes of a town whole, if they are not. Nobody else writes to it yet.
pub(super) async fn run(tree: &Tree) -> Result<(), Error> {
    let found = tree.get(&IndexedKey {})?.unwrap_or_default().value;
    if found >= INDEXES {
        return Ok(());
    }
    tracing::info!(
        ?tree,
        "indexing a town that an older release wrote; it is done once"
    );
    let mut rows = 0;
    rows += again(tree, &RigKey::all(), stage::<Rig>).await?;
    rows += again(tree, &AgentKey::all(), stage::<Agent>).await?;
    rows += again(tree, &BeadKey::all(), stage::<Bead>).await?;
    rows += again(tree, &ReviewKey::all(), stage::<Review>).await?;
    rows += again(tree, &MailKey::all(), |batch, mail: &Mail| {
        rows::stage_mail(batch, mail);
    })
    .await?;
    rows += ledger(tree).await?;
    let mut batch = Batch::new();
    mark(&mut batch);
    commit(tree, batch).await?;
    tracing::info!(?tree, rows, "indexed");
    Ok(())
}

fn stage<R: Row>(batch: &mut Batch, row: &R) {
    R::stage(batch, None, Some(row));
}

/// Puts every fact that is about a bead into the ledger's indexes, those of beads that are deleted
/// included; how many there are.
async fn ledger(tree: &Tree) -> Result<usize, Error> {
    let mut count = 0;
    let mut batch = Batch::new();
    for row in tree.scan_from(&SegmentKey { first_id: 0 })? {
        let (head, frames) = row?.into_parts();
        count += ledger::index(&mut batch, &head, &frames);
        if batch.len() >= BATCH_ROWS {
            commit(tree, std::mem::take(&mut batch)).await?;
        }
    }
    commit(tree, batch).await?;
    Ok(count)
}

/// Writes all rows of one kind again; how many there are.
async fn again<K: Key>(
    tree: &Tree,
    all: &Prefix<K>,
    stage: impl Fn(&mut Batch, &K::Row),
) -> Result<usize, Error> {
    let mut count = 0;
    let mut batch = Batch::new();
    for row in tree.scan(all) {
        let (_, row) = row?;
        stage(&mut batch, &row);
        count += 1;
        if count % BATCH_ROWS == 0 {
            commit(tree, std::mem::take(&mut batch)).await?;
        }
    }
    commit(tree, batch).await?;
    Ok(count)
}
