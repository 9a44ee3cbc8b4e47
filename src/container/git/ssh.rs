//! What ssh is told: which key it may use, and whom it trusts.

use std::path::{Path, PathBuf};

use crate::container::{Error, workspace};

/// The folder of ssh's own files in the container's home. None of them is secret.
#[derive(Clone, Debug)]
pub(crate) struct SshFiles(PathBuf);

impl SshFiles {
    /// Those of the container with that home.
    pub(crate) fn of(home: &Path) -> Self {
        Self(home.join("ssh"))
    }

    /// The file that `ssh -F` reads.
    pub(super) fn config(&self) -> PathBuf {
        self.0.join("config")
    }

    /// Writes what is in force from now on. With `known_hosts` only these are spoken to; without, a host is
    /// believed when it is met for the first time, and must be the same later. `agent` is the socket of
    /// the one that holds the key.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) async fn write(
        &self,
        known_hosts: Option<&str>,
        agent: Option<&Path>,
    ) -> Result<(), Error> {
        workspace::make_folder(&self.0).await?;
        let (trusted, strictness) = match known_hosts {
            Some(lines) => {
                let path = self.0.join("known_hosts");
                workspace::write_file(&path, &format!("{}\n", lines.trim_end())).await?;
                (path, "yes")
            }
            None => (self.0.join("met_hosts"), "accept-new"),
        };
        let mut config = format!(
            "BatchMode yes\nConnectTimeout 20\nPasswordAuthentication no\nIdentityFile none\n\
             UserKnownHostsFile {}\nStrictHostKeyChecking {strictness}\n",
            quoted(&trusted)
        );
        if let Some(agent) = agent {
            config.push_str(&format!("IdentityAgent {}\n", quoted(agent)));
        }
        workspace::write_file(&self.config(), &config).await
    }
}

/// One word for ssh's config, whatever is in it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('%', "%%").replace('"', "\\\""))
}
