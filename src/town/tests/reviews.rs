use super::bench::{Bench, mail, review};
use crate::container::MergeReport;
use crate::model::{
    AgentStatus, Approval, BeadId, BeadStatus, Dependency, DependencyKind, Epoch, MailType,
    ReviewStatus,
};
use crate::storage::LinkPosition;
use crate::town::command::{BeadActor, CompletedStatus, ReviewOutcome};
use crate::town::reconcile::Action;
use crate::town::refusal::{Error, Refusal};
use crate::town::{agents, beads, dependencies, link, refinery, reviews};

fn outcome(status: ReviewStatus) -> ReviewOutcome {
    ReviewOutcome {
        status,
        message: "said so".to_owned(),
        commit_sha: None,
    }
}

#[test]
fn done_frees_the_agent_and_leaves_the_bead_to_its_merge() {
    let mut town = Bench::new();
    let (bead_id, entry_id) = town.in_review();
    let bead = town.bead(bead_id);
    assert_eq!(bead.status, BeadStatus::InProgress);
    let agent = town.agent(bead.assignee_agent_id.unwrap());
    assert_eq!((agent.hook, agent.status), (None, AgentStatus::Idle));
    assert_eq!(town.bead(entry_id).status, BeadStatus::Open);
    let rig_id = town.rig_id;
    let again = review(agent.agent_id, bead_id);
    let refused = town.refused(|draft| reviews::submit(draft, rig_id, again));
    assert_eq!(refused, "BeadInReview", "one branch is merged once");
}

#[test]
fn a_review_ends_once_and_takes_its_work_with_it() {
    use ReviewStatus::{Failed, Merged};
    for status in [Merged, Failed] {
        let mut town = Bench::new();
        let (rig_id, other) = (town.rig_id, town.other_rig_id);
        let (bead_id, entry_id) = town.in_review();
        let refused =
            town.refused(|draft| reviews::decide(draft, other, entry_id, outcome(status), None));
        assert_eq!(refused, "ReviewNotFound", "another rig's");
        let refused =
            town.refused(|draft| reviews::decide(draft, rig_id, bead_id, outcome(status), None));
        assert_eq!(refused, "ReviewNotFound", "only merge requests");
        town.act(|draft| {
            let review = reviews::open_review(draft, rig_id, entry_id)?;
            reviews::end(draft, review, outcome(status))
        })
        .unwrap();
        let expected = if status == Merged {
            BeadStatus::Closed
        } else {
            BeadStatus::Failed
        };
        for bead_id in [bead_id, entry_id] {
            let bead = town.bead(bead_id);
            assert_eq!(bead.status, expected, "{status}");
            assert_eq!(bead.failure.is_some(), status != Merged, "{status}");
        }
        assert_eq!(
            town.escalations().len(),
            usize::from(status != Merged),
            "{status}"
        );
        for again in [Merged, Failed, ReviewStatus::Conflict] {
            let refused = town
                .refused(|draft| reviews::decide(draft, rig_id, entry_id, outcome(again), None));
            assert_eq!(refused, "ReviewFinished", "{status} then {again}");
        }
    }
}

/// "Merged" from outside is an approval: what is on the target is for git to say.
#[test]
fn a_persons_merged_closes_nothing_before_it_is_proven() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (bead_id, entry_id) = town.in_review();
    town.act(|draft| reviews::decide(draft, rig_id, entry_id, outcome(ReviewStatus::Merged), None))
        .unwrap();
    assert_eq!(town.bead(bead_id).status, BeadStatus::InProgress);
    town.act(|draft| reviews::start(draft, entry_id)).unwrap();
    town.act(|draft| link::merged(draft, report(entry_id, ReviewStatus::Merged, false)))
        .unwrap();
    assert_eq!(town.bead(bead_id).status, BeadStatus::Closed);
}

#[test]
fn a_withdrawn_merge_request_is_not_merged_and_its_work_is_open_again() {
    for delete in [false, true] {
        let mut town = Bench::new();
        let rig_id = town.rig_id;
        let (bead_id, entry_id) = town.in_review();
        if delete {
            town.act(|draft| beads::delete(draft, rig_id, entry_id))
                .unwrap();
        } else {
            town.set_status(entry_id, BeadStatus::Closed, BeadActor::User(None))
                .unwrap();
        }
        let waiting = town.act(|draft| reviews::unfinished(draft, bead_id));
        assert_eq!(waiting.unwrap(), None);
        let bead = town.bead(bead_id);
        assert_eq!(
            (bead.status, bead.assignee_agent_id),
            (BeadStatus::Open, None)
        );
        // The merge that ran meanwhile is heard of and changes nothing.
        town.act(|draft| link::merged(draft, report(entry_id, ReviewStatus::Merged, false)))
            .unwrap();
        assert_eq!(town.bead(bead_id).status, BeadStatus::Open);
    }
}

fn report(entry_id: crate::model::BeadId, status: ReviewStatus, retryable: bool) -> MergeReport {
    MergeReport {
        entry_id,
        status,
        message: "the network is down".to_owned(),
        commit_sha: None,
        retryable,
        gates: None,
    }
}

#[test]
fn a_merge_that_may_succeed_later_waits_longer_each_time_and_then_fails() {
    let mut town = Bench::new();
    let (bead_id, entry_id) = town.in_review();
    let mut waits = Vec::new();
    while town.bead(entry_id).status == BeadStatus::Open {
        town.act(|draft| reviews::start(draft, entry_id)).unwrap();
        town.act(|draft| link::merged(draft, report(entry_id, ReviewStatus::Failed, true)))
            .unwrap();
        let review = town.act(|draft| draft.review(entry_id)).unwrap();
        if review.status == ReviewStatus::Pending {
            waits.push(review.due_at.since(town.now).as_secs());
        }
    }
    assert_eq!(waits, [30, 60, 120, 240]);
    assert_eq!(town.bead(bead_id).status, BeadStatus::Failed);
    assert_eq!(town.escalations().len(), 1);
}

#[test]
fn a_message_of_the_container_is_taken_over_once() {
    let mut town = Bench::new();
    let epoch = Epoch::random();
    let mut runs = 0;
    let places = [
        (epoch, 1, true),
        (epoch, 1, false),
        (epoch, 3, true),
        (epoch, 2, false),
        (Epoch::random(), 1, true),
    ];
    for (epoch, seq, is_new) in places {
        let before = runs;
        town.act(|draft| {
            link::take_over(draft, LinkPosition { epoch, seq }, |_| {
                runs += 1;
                Ok(())
            })
        })
        .unwrap();
        assert_eq!(runs > before, is_new, "{seq}");
    }
}

#[test]
fn a_message_that_the_state_refuses_is_taken_over_with_no_change() {
    let mut town = Bench::new();
    let (_, bead_id) = town.hooked();
    let place = LinkPosition {
        epoch: Epoch::random(),
        seq: 7,
    };
    let facts = town.facts.len();
    town.act(|draft| {
        link::take_over(draft, place, |draft| {
            beads::finish(draft, bead_id, BeadStatus::Closed, None, None)?;
            Err(Refusal::MayorNotFound.into())
        })
    })
    .unwrap();
    assert_eq!(town.bead(bead_id).status, BeadStatus::InProgress);
    assert_eq!(town.facts.len(), facts);
    assert_eq!(town.act(|draft| draft.link()).unwrap(), Some(place));
}

#[test]
fn a_merge_request_that_ends_on_a_hook_takes_its_review_with_it() {
    let mut town = Bench::new();
    let rig_id = town.rig_id;
    let (work, entry_id) = town.in_review();
    let agent_id = town.polecat();
    town.hook(agent_id, entry_id).unwrap();
    // A reviewer that gives up leaves it to a person, who does not want it.
    town.act(|draft| agents::completed(draft, rig_id, agent_id, CompletedStatus::Failed, None))
        .unwrap();
    let review = town.act(|draft| draft.review(entry_id)).unwrap();
    assert_eq!(review.status, ReviewStatus::Waiting);
    let failed = BeadStatus::Failed;
    town.set_status(entry_id, failed, BeadActor::User(None))
        .unwrap();
    assert_eq!(town.bead(entry_id).status, BeadStatus::Failed);
    let review = town.act(|draft| draft.review(entry_id)).unwrap();
    assert_eq!(review.status, ReviewStatus::Failed);
    assert_eq!(
        town.bead(work).status,
        BeadStatus::Open,
        "it can be done anew"
    );
}

/// The container has looked at the branch, or would merge nothing but what is approved.
fn found(town: &mut Bench, entry_id: BeadId, head: &str) {
    let found = MergeReport {
        commit_sha: Some(head.to_owned()),
        ..report(entry_id, ReviewStatus::Pending, false)
    };
    town.act(|draft| link::merged(draft, found)).unwrap();
}

#[test]
fn an_approval_counts_for_the_commit_that_it_was_given_for() {
    use ReviewStatus::{Merged, Pending, Waiting};
    let mut town = Bench::new();
    town.configure(&serde_json::json!({"refinery": {"auto_merge": false}}));
    let rig_id = town.rig_id;
    let (bead_id, entry_id) = town.in_review();
    let review = |town: &mut Bench| town.act(|draft| draft.review(entry_id)).unwrap();
    // Before anybody is asked the container looks at what there is to be approved.
    assert_eq!(town.planned(), [Action::Merge { entry_id }]);
    town.act(|draft| reviews::start(draft, entry_id)).unwrap();
    found(&mut town, entry_id, "one");
    assert_eq!(review(&mut town).head_sha.as_deref(), Some("one"));
    assert_eq!(town.planned(), [Action::AwaitPerson { entry_id }]);
    town.act(|draft| refinery::await_person(draft, entry_id))
        .unwrap();
    let approve = |town: &mut Bench, head: &str| {
        let (word, looked_at) = (outcome(Merged), Some(head.to_owned()));
        town.act(|draft| reviews::decide(draft, rig_id, entry_id, word, looked_at))
    };
    let refused = approve(&mut town, "another").unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ReviewMoved(..))));
    assert_eq!(review(&mut town).status, Waiting);
    approve(&mut town, "one").unwrap();
    assert_eq!(town.planned(), [Action::Merge { entry_id }]);
    town.act(|draft| reviews::start(draft, entry_id)).unwrap();
    // Somebody has pushed meanwhile.
    found(&mut town, entry_id, "two");
    let moved = review(&mut town);
    assert_eq!((moved.status, moved.approval), (Pending, Approval::None));
    assert_eq!(town.planned(), [Action::AwaitPerson { entry_id }]);
    approve(&mut town, "two").unwrap();
    town.act(|draft| reviews::start(draft, entry_id)).unwrap();
    town.act(|draft| link::merged(draft, report(entry_id, Merged, false)))
        .unwrap();
    assert_eq!(town.bead(bead_id).status, BeadStatus::Closed);
}

#[test]
fn an_early_approval_is_for_the_commit_that_is_found_first() {
    let mut town = Bench::new();
    town.configure(&serde_json::json!({"refinery": {"auto_merge": false}}));
    let rig_id = town.rig_id;
    let (_, entry_id) = town.in_review();
    let word = outcome(ReviewStatus::Merged);
    town.act(|draft| reviews::decide(draft, rig_id, entry_id, word, None))
        .unwrap();
    town.act(|draft| reviews::start(draft, entry_id)).unwrap();
    found(&mut town, entry_id, "one");
    let review = town.act(|draft| draft.review(entry_id)).unwrap();
    assert_eq!(review.approval, Approval::Person);
    assert_eq!(town.planned(), [Action::Merge { entry_id }]);
    // A container that will not merge what is approved is a failed try, and not tried for ever.
    for _ in 0..5 {
        town.act(|draft| reviews::start(draft, entry_id)).unwrap();
        found(&mut town, entry_id, "one");
    }
    let review = town.act(|draft| draft.review(entry_id)).unwrap();
    assert_eq!(review.status, ReviewStatus::Failed);
}

#[test]
fn the_mayor_hears_of_a_thing_once() {
    let mut town = Bench::new();
    let mayor = town.act(agents::mayor).unwrap().agent_id;
    let rig_id = town.rig_id;
    let (_, entry_id) = town.in_review();
    let author = town.act(|draft| draft.review(entry_id)).unwrap().agent_id;
    let failed = outcome(ReviewStatus::Failed);
    town.act(|draft| reviews::decide(draft, rig_id, entry_id, failed, None))
        .unwrap();
    let heard = town.mailbox(mayor);
    assert_eq!(heard.len(), 1, "{heard:#?}");
    assert!(heard[0].subject.starts_with("Escalation"));
    let heard = town.mailbox(author);
    assert_eq!(heard[0].mail_type, MailType::MergeFailed, "{heard:#?}");
    // Who asks the mayor for help calls people, too.
    let mut help = mail(mayor, &author.to_string());
    help.mail_type = MailType::Help;
    town.act(|draft| crate::town::mail::send(draft, Some(rig_id), help))
        .unwrap();
    let heard = town.mailbox(mayor);
    assert_eq!(heard.len(), 2, "{heard:#?}");
    assert_eq!(town.escalations().len(), 2);
}

#[test]
fn a_merge_request_that_no_hook_takes_is_left_to_a_person() {
    let mut town = Bench::new();
    town.configure(&serde_json::json!({"refinery": {"gates": ["make"]}}));
    let rig_id = town.rig_id;
    let (_, entry_id) = town.in_review();
    town.act(|draft| reviews::start(draft, entry_id)).unwrap();
    found(&mut town, entry_id, "one");
    let to = Dependency {
        on_bead_id: town.open_bead(),
        kind: DependencyKind::Blocks,
    };
    town.act(|draft| dependencies::add(draft, rig_id, entry_id, to, None))
        .unwrap();
    town.act(|draft| refinery::begin(draft, entry_id)).unwrap();
    let review = town.act(|draft| draft.review(entry_id)).unwrap();
    assert_eq!(review.status, ReviewStatus::Waiting);
    assert!(review.message.unwrap().contains("blocked"));
    assert_eq!(town.escalations().len(), 1, "somebody is called");
}
