use tokio::sync::{mpsc, oneshot};

use super::bench::Bench;
use crate::agent_log::{Log, NewEvent, Subject};
use crate::clock::Clock;
use crate::model::TownId;
use crate::storage::Batch;
use crate::town::actor::Actor;
use crate::town::command::{Command, NewRig};

#[tokio::test]
async fn a_step_that_panics_does_not_end_the_town() {
    let bench = Bench::new();
    let feed = Log::open(bench.tree().clone(), Subject::Town, 1 << 20)
        .await
        .unwrap();
    let before = feed.position().last_id;
    let clock = Clock::manual(bench.now);
    let (effects, _asked) = mpsc::unbounded_channel();
    let mut actor = Actor {
        town_id: TownId::random(),
        tree: bench.tree().clone(),
        next_fact: before + 1,
        feed: feed.clone(),
        settings: bench.settings().clone(),
        effects,
        heard: false,
        untaken_link: None,
        being_told: Vec::new(),
        being_notified: Vec::new(),
        alarm: bench.now,
        woken: false,
        up_since: None,
        once: None,
        quiet: false,
        clock,
        record: None,
    };
    let broken = actor.guarded("a test", |actor| {
        let fact = NewEvent {
            event_type: "lost".to_owned(),
            data: "{}".into(),
            timestamp: bench.now,
            link: None,
        };
        drop(actor.feed.stage(&mut Batch::new(), &[fact]));
        panic!("on purpose");
    });
    assert_eq!(broken, None::<()>);
    let (commands, waiting) = mpsc::channel(1);
    let (_stop, stopped) = oneshot::channel();
    let (reply, answer) = oneshot::channel();
    let new = NewRig {
        name: "after".to_owned(),
        git_url: "https://git.invalid/o/r.git".to_owned(),
        default_branch: "main".to_owned(),
        platform_integration_id: None,
        kilocode_token: None,
    };
    let ask = async {
        commands
            .send(Command::CreateRig(new, reply))
            .await
            .ok()
            .unwrap();
        let rig = answer.await.unwrap().unwrap();
        drop(commands);
        rig
    };
    let ((), rig) = tokio::join!(actor.run(waiting, stopped), ask);
    assert_eq!(rig.name, "after");
    let position = feed.position();
    assert!(position.last_id > before, "its fact is told");
    assert!(feed.position().last_id - before <= 2, "without a gap");
}
