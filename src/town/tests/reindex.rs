use super::bench::{Bench, mail};
use crate::storage::{
    AgentByIdentity, AgentByName, AgentByRig, Batch, BeadByAssignee, BeadByConvoy, BeadByKind,
    BeadByParent, BeadByRig, BeadByStatus, BeadByTown, BeadDependent, BeadReady, IndexedKey, Key,
    MailBySender, MailUndelivered, Prefix, ReviewBySource, ReviewByStatus, RigByName, Tree,
};
use crate::town::{mail as mails, registry, reindex};

fn keys<K: Key>(tree: &Tree, all: &Prefix<K>, out: &mut Vec<Vec<u8>>) {
    out.extend(tree.scan(all).map(|row| row.unwrap().0.encode()));
}

fn removed<K: Key>(tree: &Tree, all: &Prefix<K>, batch: &mut Batch) {
    for row in tree.scan(all) {
        batch.delete(&row.unwrap().0);
    }
}

/// Does the same with every index.
macro_rules! of_every_index {
    ($do:ident($tree:expr, $out:expr)) => {{
        $do($tree, &RigByName::all(), $out);
        $do($tree, &AgentByRig::all(), $out);
        $do($tree, &AgentByName::all(), $out);
        $do($tree, &AgentByIdentity::all(), $out);
        $do($tree, &BeadByRig::all(), $out);
        $do($tree, &BeadByStatus::all(), $out);
        $do($tree, &BeadByAssignee::all(), $out);
        $do($tree, &BeadByTown::all(), $out);
        $do($tree, &BeadByKind::all(), $out);
        $do($tree, &BeadReady::all(), $out);
        $do($tree, &BeadByParent::all(), $out);
        $do($tree, &BeadByConvoy::all(), $out);
        $do($tree, &BeadDependent::all(), $out);
        $do($tree, &ReviewByStatus::all(), $out);
        $do($tree, &ReviewBySource::all(), $out);
        $do($tree, &MailUndelivered::all(), $out);
        $do($tree, &MailBySender::all(), $out);
    }};
}

fn index_rows(tree: &Tree) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    of_every_index!(keys(tree, &mut rows));
    rows
}

async fn without_indexes(tree: &Tree) {
    let mut batch = Batch::new();
    of_every_index!(removed(tree, &mut batch));
    registry::commit(tree, batch).await.unwrap();
}

#[tokio::test]
async fn a_town_without_indexes_gets_them_all_once() {
    let mut town = Bench::new();
    let (agent_id, _) = town.hooked();
    town.in_review();
    town.act(|draft| mails::send(draft, None, mail(agent_id, &agent_id.to_string())))
        .unwrap();
    for _ in 0..520 {
        town.open_bead();
    }
    let tree = town.act(|draft| Ok(draft.tree.clone())).unwrap();
    let whole = index_rows(&tree);
    assert!(whole.len() > 1500, "{}", whole.len());
    without_indexes(&tree).await;
    assert_eq!(index_rows(&tree), Vec::<Vec<u8>>::new());

    reindex::run(&tree).await.unwrap();
    assert_eq!(index_rows(&tree), whole);

    // A crash before the mark, when some rows had theirs already.
    let mut batch = Batch::new();
    batch.delete(&IndexedKey {});
    removed(&tree, &BeadByRig::all(), &mut batch);
    removed(&tree, &AgentByRig::all(), &mut batch);
    registry::commit(&tree, batch).await.unwrap();
    reindex::run(&tree).await.unwrap();
    assert_eq!(index_rows(&tree), whole);

    // With the mark there is nothing to do.
    without_indexes(&tree).await;
    reindex::run(&tree).await.unwrap();
    assert_eq!(index_rows(&tree), Vec::<Vec<u8>>::new());
}
