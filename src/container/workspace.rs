//! Folders of the workspace, private to the server's user.

use std::io;
use std::path::Path;

use super::Error;

/// Makes a folder and its parents, open to this user only.
pub(super) async fn make_folder(path: &Path) -> Result<(), Error> {
    let mut builder = tokio::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(path)
        .await
        .map_err(|source| Error::Workspace {
            path: path.to_owned(),
            source,
        })
}

/// Removes a folder and everything in it; one that is not there is fine.
pub(super) async fn remove_tree(path: &Path) -> Result<(), Error> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Workspace {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Moves a folder; one that is not there is fine, and an earlier one in its new place makes way.
pub(super) async fn move_folder(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        make_folder(parent).await?;
    }
    remove_tree(to).await?;
    match tokio::fs::rename(from, to).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Workspace {
            path: from.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Writes a small file.
pub(super) async fn write_file(path: &Path, content: &str) -> Result<(), Error> {
    tokio::fs::write(path, content)
        .await
        .map_err(|source| Error::Workspace {
            path: path.to_owned(),
            source,
        })
}

/// Removes a file; one that is not there is fine.
pub(super) async fn remove_file(path: &Path) -> Result<(), Error> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Workspace {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Gives git a name for commits where no worktree says whose they are. What is there stays.
pub(super) async fn write_git_identity(home: &Path) -> Result<(), Error> {
    let path = home.join(".gitconfig");
    if tokio::fs::try_exists(&path).await.unwrap_or(false) {
        return Ok(());
    }
    write_file(
        &path,
        "[user]\n\tname = gastownd\n\temail = gastownd@localhost\n",
    )
    .await
}

/// A file name for a name that people chose: the name itself where it is plain, else its plain
/// letters and the id that tells it from others.
pub(super) fn folder_name(name: &str, short_id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let sound = (1..=60).contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        // A plain name never looks like the others' made-up ones.
        && !name.starts_with("agent-");
    if sound {
        return name.to_owned();
    }
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    if letters.is_empty() {
        format!("agent-{short_id}")
    } else {
        format!("{letters}-{short_id}")
    }
}
