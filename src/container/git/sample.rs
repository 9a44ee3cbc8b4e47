//! A small repository to try things with.

use std::path::{Path, PathBuf};

use crate::container::{Error, workspace};

use super::{AllowedRepositories, Git, GitEnvironment};

/// The branch that work is merged into.
pub const SAMPLE_BRANCH: &str = "main";

const FILES: &[(&str, &str)] = &[
    (
        "README.md",
        "# Almanac\n\nA small sample: tide tables and harbour lights, as text files.\n\n\
         ## Contents\n\n- `tides.txt`: high water by day\n- `lights.txt`: lights and their characters\n",
    ),
    (
        "tides.txt",
        "day  first   second\n1    03:12   15:40\n2    04:01   16:27\n3    04:52   17:15\n",
    ),
    (
        "lights.txt",
        "North mole  Fl(2) R 6s\nSouth mole  Fl(2) G 6s\nPilot rock  Q(9) 15s\n",
    ),
];

/// Makes a bare repository with one commit in `folder`, unless there is one already; returns its
/// path.
///
/// # Errors
/// git failed, or the folder can't be written.
pub async fn make_sample(folder: &Path, program: &Path) -> Result<PathBuf, Error> {
    let bare = folder.join("almanac.git");
    if bare.join("HEAD").exists() {
        return Ok(bare);
    }
    let source = folder.join("almanac");
    workspace::make_folder(&source).await?;
    for (name, text) in FILES {
        workspace::write_file(&source.join(name), text).await?;
    }
    let no_socket = folder.join("no-credentials");
    let allowed = AllowedRepositories {
        local: true,
        http: false,
    };
    let environment = GitEnvironment::new(program, &no_socket, folder, allowed);
    let git = Git::new(&environment);
    git.run(
        &source,
        "init",
        &["--quiet", "--initial-branch", SAMPLE_BRANCH],
    )
    .await?;
    git.run(&source, "add", &["--all"]).await?;
    git.run(
        &source,
        "commit",
        &["--quiet", "--message", "Begin the almanac"],
    )
    .await?;
    git.run(
        folder,
        "clone",
        &["--quiet", "--bare", "almanac", "almanac.git"],
    )
    .await?;
    workspace::remove_tree(&source).await?;
    Ok(bare)
}
