//! `gastownd demo`: a whole town at work, with no model, no key and no network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;

use crate::config::{Isolation, Settings};
use crate::container::git::{SAMPLE_BRANCH, make_sample};
use crate::lifecycle::Lifecycle;
use crate::model::{BeadId, BeadStatus, Json, Priority, RigId, UserId};
use crate::server::Server;
use crate::telemetry;
use crate::town::{NewRig, SlingOrder, TownHandle};

use super::arguments::DemoArguments;
use super::error::Error;
use super::run::{own_path, until_ended};
use super::serve::{announce, catch_signals, stop, until_asked};

/// Whose town it is; the page shows this user's towns.
const OWNER: &str = "admin";
/// How often the beads are looked at to tell of them in the terminal; the page is pushed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The agents' pause between two words: a person can follow, and it is over in about 20 s.
const PACE_MS: u64 = 130;

const BEADS: &[(&str, &str)] = &[
    (
        "Describe how the tide tables are read",
        "Write docs/tides.md, a short page that tells a newcomer how to read tides.txt: what the \
         columns mean and which clock the times are in.",
    ),
    (
        "List the lights by colour",
        "In docs/lights.md list the lights of lights.txt, grouped by colour, with their characters.",
    ),
    (
        "Add a page on harbour signals",
        "Explain in docs/signals.md the three signals that the harbour master shows at the pilot \
         station.",
    ),
];

pub(super) fn run(arguments: DemoArguments) -> Result<(), Error> {
    if !arguments.listen.ip().is_loopback() {
        return Err(Error::DemoAddress {
            address: arguments.listen,
        });
    }
    telemetry::begin("warn")?;
    let program = own_path()?;
    let folder = Folder::open(arguments.data_dir.clone())?;
    let mut settings = Settings::for_data_dir(folder.path().join("data"));
    settings.listen = arguments.listen;
    settings.no_auth = true;
    settings.allow_local_repos = true;
    // The agents play a script that this program brings along.
    settings.isolation = Isolation::None;
    settings.container.stop_on_exit = true;
    let work = show(settings, program, folder.path().to_owned(), arguments.exit);
    until_ended(&mut Builder::new_multi_thread(), work)?
}

async fn show(
    settings: Settings,
    program: PathBuf,
    folder: PathBuf,
    exit: bool,
) -> Result<(), Error> {
    let mut signals = catch_signals()?;
    let started = async {
        let repository = make_sample(&folder, &program)
            .await
            .map_err(Error::DemoRepository)?;
        let server = Server::start(settings, program, Lifecycle::new()).await?;
        Ok::<_, Error>((repository, server))
    };
    let (repository, server) = tokio::select! {
        () = signals.next() => return Ok(()),
        started = started => started?,
    };
    let address = server.address();
    announce(&format!("open http://{address}"))?;
    let outcome = tokio::select! {
        outcome = play(&server, &repository) => outcome,
        () = signals.next() => {
            stop(server, signals).await;
            return Ok(());
        }
    };
    if exit || outcome.is_err() {
        stop(server, signals).await;
        return outcome;
    }
    announce(&format!(
        "still serving http://{address}; press Ctrl-C to end"
    ))?;
    until_asked(server, signals).await
}

/// Makes the town, slings the beads and tells how they fare.
async fn play(server: &Server, repository: &Path) -> Result<(), Error> {
    let (town, rig_id) = set_up(server, repository).await.map_err(Error::DemoTown)?;
    let mut waiting = Vec::new();
    for (title, body) in BEADS {
        let order = SlingOrder {
            title: (*title).to_owned(),
            body: Some((*body).to_owned()),
            priority: Priority::Medium,
            metadata: Json::empty_object(),
            created_by: Some(OWNER.to_owned()),
        };
        let slung = town.sling(rig_id, order).await.map_err(Error::DemoTown)?;
        let to = slung
            .agent
            .map_or_else(|| "the next free polecat".to_owned(), |agent| agent.name);
        announce(&format!("slung to {to}: {title}"))?;
        waiting.push(slung.bead.bead_id);
    }
    let (mut merged, mut failed) = (0, 0);
    while !waiting.is_empty() {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let mut still = Vec::new();
        for bead_id in waiting {
            match tell(&town, rig_id, bead_id).await? {
                Some(BeadStatus::Closed) => merged += 1,
                Some(_) => failed += 1,
                None => still.push(bead_id),
            }
        }
        waiting = still;
    }
    announce(&format!("{merged} beads merged"))?;
    if failed > 0 {
        Err(Error::DemoFailed { failed })
    } else {
        Ok(())
    }
}

/// Prints a bead's end, if it has come.
async fn tell(
    town: &TownHandle,
    rig_id: RigId,
    bead_id: BeadId,
) -> Result<Option<BeadStatus>, Error> {
    let bead = town.bead(rig_id, bead_id).await.map_err(Error::DemoTown)?;
    let line = match bead.status {
        BeadStatus::Closed => format!("merged: {}", bead.title),
        BeadStatus::Failed => {
            format!(
                "failed: {}: {}",
                bead.title,
                bead.failure.unwrap_or_default()
            )
        }
        BeadStatus::Open | BeadStatus::InProgress => return Ok(None),
    };
    announce(&line)?;
    Ok(Some(bead.status))
}

async fn set_up(
    server: &Server,
    repository: &Path,
) -> Result<(TownHandle, RigId), crate::town::Error> {
    let owner = UserId::parse(OWNER).expect("the name is sound");
    let town = server
        .towns()
        .create(owner, "Harbour".to_owned(), None)
        .await?;
    let town = server.towns().get(town.town_id)?;
    town.set_config(json!({
        "agent_server": "rehearsal",
        "providers": {"rehearsal": {"pace_ms": PACE_MS}},
    }))
    .await?;
    let rig = town
        .create_rig(NewRig {
            name: "almanac".to_owned(),
            git_url: repository.to_string_lossy().into_owned(),
            default_branch: SAMPLE_BRANCH.to_owned(),
            platform_integration_id: None,
            kilocode_token: None,
        })
        .await?;
    Ok((town, rig.rig_id))
}

/// The demo's folder; a temporary one goes with it.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn open(given: Option<PathBuf>) -> Result<Self, Error> {
        let temporary = || {
            // Short: sockets lie below it.
            let name = format!("gastownd-demo-{}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let is_temporary = given.is_none();
        let path = given.unwrap_or_else(temporary);
        std::fs::create_dir_all(&path).map_err(|source| Error::Temporary { source })?;
        let path = path
            .canonicalize()
            .map_err(|source| Error::Temporary { source })?;
        Ok(Self { path, is_temporary })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the demo's folder stays");
        }
    }
}
