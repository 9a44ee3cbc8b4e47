//! The environment git runs in: no host config, no prompts, credentials from the container's socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::AllowedRepositories;
use super::ssh::SshFiles;

/// Where `gastownd git-credential` finds the container.
pub const CREDENTIAL_SOCKET_VARIABLE: &str = "GASTOWN_CREDENTIAL_SOCKET";

/// Variables of the container's own environment that git and ssh need, where they are set.
const PASSED_ON: &[&str] = &["PATH", "SSH_AUTH_SOCK", "TMPDIR"];

/// How the network is reached, where that is set.
pub(crate) const PROXIES: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Whose certificates are trusted, where that is set: for repositories on servers of one's own.
pub(crate) const TRUST: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"];

/// Who a commit is by.
#[derive(Clone, Debug)]
pub struct Identity {
    /// A name for people.
    pub name: String,
    /// An address; it need not exist.
    pub email: String,
}

impl Identity {
    /// The container's own, for merges and saved work.
    #[must_use]
    pub fn of_container() -> Self {
        Self {
            name: "gastownd".to_owned(),
            email: "gastownd@localhost".to_owned(),
        }
    }

    /// The variables that make git use it.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("GIT_AUTHOR_NAME", &self.name),
            ("GIT_AUTHOR_EMAIL", &self.email),
            ("GIT_COMMITTER_NAME", &self.name),
            ("GIT_COMMITTER_EMAIL", &self.email),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
    }
}

/// What the environments of git are made from.
#[derive(Clone, Debug)]
pub struct GitEnvironment {
    guard: PathBuf,
    credential_socket: PathBuf,
    home: PathBuf,
    allowed: AllowedRepositories,
}

impl GitEnvironment {
    /// `guard` is the `gastownd` program, `home` the container's private home.
    #[must_use]
    pub fn new(
        guard: &Path,
        credential_socket: &Path,
        home: &Path,
        allowed: AllowedRepositories,
    ) -> Self {
        Self {
            guard: guard.to_owned(),
            credential_socket: credential_socket.to_owned(),
            home: home.to_owned(),
            allowed,
        }
    }

    /// The `gastownd` program.
    #[must_use]
    pub(super) fn guard(&self) -> &Path {
        &self.guard
    }

    /// ssh's own files.
    #[must_use]
    pub(crate) fn ssh_files(&self) -> SshFiles {
        SshFiles::of(&self.home)
    }

    /// Which repositories may be used.
    #[must_use]
    pub fn allowed(&self) -> AllowedRepositories {
        self.allowed
    }

    /// The whole environment of the container's own git calls.
    #[must_use]
    pub fn for_container(&self) -> BTreeMap<String, String> {
        let mut environment = self.shared(&[
            // Hooks of a repository are the agents' business, never the container's.
            ("core.hooksPath", "/dev/null"),
            ("gc.autoDetach", "false"),
            ("maintenance.autoDetach", "false"),
            ("advice.detachedHead", "false"),
            ("core.fsmonitor", "false"),
            ("core.quotePath", "false"),
        ]);
        for name in PASSED_ON.iter().chain(PROXIES) {
            if let Ok(value) = std::env::var(name) {
                environment.insert((*name).to_owned(), value);
            }
        }
        environment.extend(Identity::of_container().variables());
        let fixed = [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_EDITOR", "true"),
        ];
        environment.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        environment.insert("HOME".to_owned(), self.home.to_string_lossy().into_owned());
        environment
    }

    /// What is added to the environment of the agents' own commands, so that their `git push` works.
    #[must_use]
    pub fn for_agents(&self) -> BTreeMap<String, String> {
        self.shared(&[])
    }

    /// What a merge's gates run in: they find programs and the network, but no credential of git's.
    #[must_use]
    pub fn for_gates(&self, town: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for name in ["PATH", "TMPDIR"].iter().chain(PROXIES).chain(TRUST) {
            if let Ok(value) = std::env::var(name) {
                environment.insert((*name).to_owned(), value);
            }
        }
        environment.extend(town.clone());
        environment.insert("HOME".to_owned(), self.home.to_string_lossy().into_owned());
        environment.insert("CI".to_owned(), "true".to_owned());
        environment
    }

    fn shared(&self, more_config: &[(&str, &str)]) -> BTreeMap<String, String> {
        let helper = format!("!{} git-credential", shell_quoted(&self.guard));
        let mut config = vec![
            // The empty value forgets every helper that was configured before.
            ("credential.helper", ""),
            ("credential.helper", helper.as_str()),
            ("safe.directory", "*"),
            ("push.autoSetupRemote", "true"),
        ];
        config.extend_from_slice(more_config);
        let mut environment = BTreeMap::from([
            ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
            ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
            ("GIT_ASKPASS".to_owned(), String::new()),
            ("GIT_ALLOW_PROTOCOL".to_owned(), self.protocols()),
            (
                "GIT_SSH_COMMAND".to_owned(),
                // What changes with the town's config stands in the file.
                format!("ssh -F {}", shell_quoted(&self.ssh_files().config())),
            ),
            (
                CREDENTIAL_SOCKET_VARIABLE.to_owned(),
                self.credential_socket.to_string_lossy().into_owned(),
            ),
            ("GIT_CONFIG_COUNT".to_owned(), config.len().to_string()),
        ]);
        for name in TRUST {
            if let Ok(value) = std::env::var(name) {
                environment.insert((*name).to_owned(), value);
            }
        }
        for (index, (key, value)) in config.into_iter().enumerate() {
            environment.insert(format!("GIT_CONFIG_KEY_{index}"), key.to_owned());
            environment.insert(format!("GIT_CONFIG_VALUE_{index}"), value.to_owned());
        }
        environment
    }

    /// Also what submodules may be fetched by, so never git's `ext`.
    fn protocols(&self) -> String {
        let mut protocols = vec!["https", "ssh"];
        if self.allowed.http {
            protocols.push("http");
        }
        if self.allowed.local {
            protocols.push("file");
        }
        protocols.join(":")
    }
}

/// One word for `sh`, whatever is in it.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
