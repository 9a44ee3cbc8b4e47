//! The server's settings, typed and checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Error;
use super::launcher::LauncherTemplate;
use super::layers::{FileChoice, Layers, Source};
use super::{bounds, names, quantity};

/// What keeps a town's agents from the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces made by the program `bwrap`.
    Bubblewrap,
    /// Nothing: agents run as the server's user.
    None,
}

impl Isolation {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::None => "none",
        }
    }
}

/// The server's settings. What each one means is told once, in `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names.rs documents each setting for people")]
pub struct Settings {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub no_auth: bool,
    pub public_url: Option<String>,
    pub allow_local_repos: bool,
    pub allow_http_repos: bool,
    pub isolation: Isolation,
    pub agent_program: Option<PathBuf>,
    pub log: String,
    pub shutdown_grace: Duration,
    pub reconcile_record: Option<PathBuf>,
    pub notify_command: Option<PathBuf>,
    pub container: ContainerSettings,
    pub storage: StorageSettings,
    pub stream: StreamSettings,
    pub dispatch: DispatchSettings,
    pub asks: AskSettings,
    pub http: HttpSettings,
    pub retention: RetentionSettings,
}

/// The settings under `container`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names.rs documents each setting for people")]
pub struct ContainerSettings {
    pub linger: Duration,
    pub stop_on_exit: bool,
    pub on_demand: bool,
    pub sleep_after: Duration,
    pub drain_time: Duration,
    pub launcher: Option<LauncherTemplate>,
    pub listen: Option<SocketAddr>,
    pub server_url: Option<String>,
    /// In bytes; `None` is a share of the machine's.
    pub memory_max: Option<u64>,
    pub processes_max: u32,
    pub open_files_max: u32,
    /// In bytes.
    pub recycle_above: u64,
    pub hung_after: Duration,
    pub model_wait: Duration,
}

/// The settings under `storage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// In bytes.
    pub cache: u64,
    /// In bytes.
    pub reserve: u64,
}

/// The settings under `stream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// In bytes.
    pub tail_per_agent: usize,
    /// In bytes.
    pub tail_total: usize,
    /// Zero: nothing waits.
    pub join_interval: Duration,
}

/// The settings under `dispatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names.rs documents each setting for people")]
pub struct DispatchSettings {
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub attempts_max: u32,
    pub failures_max: u32,
    pub failures_window: Duration,
    pub probe_after: Duration,
    pub patrol_after: Duration,
}

/// The settings under `asks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskSettings {
    /// How long one may wait.
    pub escalate_after: Duration,
}

/// The settings under `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names.rs documents each setting for people")]
pub struct HttpSettings {
    /// In bytes.
    pub body_max: usize,
    pub connections_max: usize,
}

/// The settings under `retention`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names.rs documents each setting for people")]
pub struct RetentionSettings {
    pub days: u32,
}

impl Settings {
    /// The settings that `layers` give.
    ///
    /// # Errors
    /// If a value can't be used, or two can't stand together; the first one that is found.
    pub fn from_layers(layers: &Layers) -> Result<Self, Error> {
        let read = Reader(layers);
        let settings = Self {
            data_dir: read.required(names::DATA_DIR, path)?,
            listen: read.required(names::LISTEN, address)?,
            no_auth: read.required(names::NO_AUTH, quantity::switch)?,
            public_url: read.optional(names::PUBLIC_URL, server_url)?,
            allow_local_repos: read.required(names::ALLOW_LOCAL_REPOS, quantity::switch)?,
            allow_http_repos: read.required(names::ALLOW_HTTP_REPOS, quantity::switch)?,
            isolation: read.required(names::ISOLATION, isolation)?,
            agent_program: read.optional(names::AGENT_PROGRAM, path)?,
            log: read.required(names::LOG, log_filter)?,
            shutdown_grace: read.duration(names::SHUTDOWN_GRACE, bounds::SHUTDOWN_GRACE)?,
            reconcile_record: read.optional(names::RECONCILE_RECORD, path)?,
            notify_command: read.optional(names::NOTIFY_COMMAND, path)?,
            container: ContainerSettings {
                linger: read.duration(names::CONTAINER_LINGER, bounds::CONTAINER_LINGER)?,
                stop_on_exit: read.required(names::CONTAINER_STOP_ON_EXIT, quantity::switch)?,
                on_demand: read.required(names::CONTAINER_ON_DEMAND, quantity::switch)?,
                sleep_after: read
                    .duration(names::CONTAINER_SLEEP_AFTER, bounds::CONTAINER_SLEEP_AFTER)?,
                drain_time: read
                    .duration(names::CONTAINER_DRAIN_TIME, bounds::CONTAINER_DRAIN_TIME)?,
                launcher: read.optional(names::CONTAINER_LAUNCHER, LauncherTemplate::parse)?,
                listen: read.optional(names::CONTAINER_LISTEN, address)?,
                server_url: read.optional(names::CONTAINER_SERVER_URL, server_url)?,
                memory_max: read.optional(names::CONTAINER_MEMORY_MAX, |text| {
                    quantity::size(text, bounds::CONTAINER_MEMORY)
                })?,
                processes_max: read.required(names::CONTAINER_PROCESSES_MAX, |text| {
                    quantity::count(text, bounds::CONTAINER_PROCESSES)
                })?,
                open_files_max: read.required(names::CONTAINER_OPEN_FILES_MAX, |text| {
                    quantity::count(text, bounds::CONTAINER_OPEN_FILES)
                })?,
                recycle_above: read.required(names::CONTAINER_RECYCLE_ABOVE, |text| {
                    quantity::size(text, bounds::CONTAINER_RECYCLE_ABOVE)
                })?,
                hung_after: read
                    .duration(names::CONTAINER_HUNG_AFTER, bounds::CONTAINER_HUNG_AFTER)?,
                model_wait: read
                    .duration(names::CONTAINER_MODEL_WAIT, bounds::CONTAINER_MODEL_WAIT)?,
            },
            storage: StorageSettings {
                cache: read.required(names::STORAGE_CACHE, |text| {
                    quantity::size(text, bounds::STORAGE_CACHE)
                })?,
                reserve: read.required(names::STORAGE_RESERVE, |text| {
                    quantity::size(text, bounds::STORAGE_RESERVE)
                })?,
            },
            stream: StreamSettings {
                tail_per_agent: read.required(names::STREAM_TAIL_PER_AGENT, |text| {
                    quantity::size(text, bounds::TAIL_PER_AGENT).and_then(in_memory)
                })?,
                tail_total: read.required(names::STREAM_TAIL_TOTAL, |text| {
                    quantity::size(text, bounds::TAIL_TOTAL).and_then(in_memory)
                })?,
                join_interval: read.duration(names::STREAM_JOIN_INTERVAL, bounds::JOIN_INTERVAL)?,
            },
            dispatch: DispatchSettings {
                backoff_min: read.duration(names::DISPATCH_BACKOFF_MIN, bounds::BACKOFF)?,
                backoff_max: read.duration(names::DISPATCH_BACKOFF_MAX, bounds::BACKOFF)?,
                attempts_max: read.required(names::DISPATCH_ATTEMPTS_MAX, |text| {
                    quantity::count(text, bounds::ATTEMPTS_MAX)
                })?,
                failures_max: read.required(names::DISPATCH_FAILURES_MAX, |text| {
                    quantity::count(text, bounds::FAILURES_MAX)
                })?,
                failures_window: read
                    .duration(names::DISPATCH_FAILURES_WINDOW, bounds::FAILURES_WINDOW)?,
                probe_after: read.duration(names::DISPATCH_PROBE_AFTER, bounds::PROBE_AFTER)?,
                patrol_after: read.duration(names::DISPATCH_PATROL_AFTER, bounds::PATROL_AFTER)?,
            },
            asks: AskSettings {
                escalate_after: read
                    .duration(names::ASKS_ESCALATE_AFTER, bounds::ASKS_ESCALATE_AFTER)?,
            },
            http: HttpSettings {
                body_max: read.required(names::HTTP_BODY_MAX, |text| {
                    quantity::size(text, bounds::BODY_MAX).and_then(in_memory)
                })?,
                connections_max: read.required(names::HTTP_CONNECTIONS_MAX, |text| {
                    quantity::count(text, bounds::CONNECTIONS_MAX)
                        .and_then(|count| in_memory(count.into()))
                })?,
            },
            retention: RetentionSettings {
                days: read.required(names::RETENTION_DAYS, |text| {
                    quantity::count(text, bounds::RETENTION_DAYS)
                })?,
            },
        };
        settings.checked()
    }

    /// Every default, for a data folder of the caller's own: the start for tests and the demo.
    ///
    /// # Panics
    /// Never: a test proves that the defaults are sound.
    #[must_use]
    pub fn for_data_dir(data_dir: impl Into<PathBuf>) -> Self {
        let layers = Layers::gather(FileChoice::None, [], []).expect("no file, so no error");
        let mut settings = Self::from_layers(&layers).expect("the defaults are sound");
        settings.data_dir = data_dir.into();
        settings
    }

    /// These settings, if they can stand together.
    ///
    /// # Errors
    /// If two of them contradict each other.
    pub fn checked(self) -> Result<Self, Error> {
        let reason = if self.no_auth && !self.listen.ip().is_loopback() {
            "no_auth lets everyone in who can reach the address, so it needs a loopback address \
             like 127.0.0.1 in listen; leave no_auth out to listen elsewhere"
        } else if self.dispatch.backoff_min > self.dispatch.backoff_max {
            "dispatch.backoff_min is longer than dispatch.backoff_max"
        } else {
            return Ok(self);
        };
        Err(Error::Conflict { reason })
    }
}

struct Reader<'a>(&'a Layers);

impl Reader<'_> {
    fn required<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        let (value, from) = self.find(key);
        parse(value).map_err(|reason| Error::Invalid {
            key,
            value: value.to_owned(),
            from,
            reason,
        })
    }

    fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        if self.find(key).0.is_empty() {
            return Ok(None);
        }
        self.required(key, parse).map(Some)
    }

    fn duration(&self, key: &'static str, bounds: (Duration, Duration)) -> Result<Duration, Error> {
        self.required(key, |text| quantity::duration(text, bounds))
    }

    fn find(&self, key: &'static str) -> (&str, Source) {
        self.0
            .get(names::find(key).expect("every key stands in SETTINGS"))
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must be a path".to_owned());
    }
    // Containers are started in folders of their own, where a relative path would mean another.
    std::path::absolute(text).map_err(|cause| format!("must be a path: {cause}"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let named = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    named
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "must be an address and a port, such as 127.0.0.1:8787 or [::1]:0".to_owned())
}

fn isolation(text: &str) -> Result<Isolation, String> {
    [Isolation::Bubblewrap, Isolation::None]
        .into_iter()
        .find(|isolation| isolation.as_str() == text)
        .ok_or_else(|| "must be bubblewrap or none".to_owned())
}

/// A base URL that paths can be added to: no trailing slash, no query, no credentials.
fn server_url(text: &str) -> Result<String, String> {
    let url = text.trim().trim_end_matches('/');
    let sound = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .is_some_and(|rest| {
            !rest.is_empty()
                && !rest.starts_with('/')
                && !rest.contains(['?', '#', '@', ' '])
                && !rest.chars().any(char::is_control)
        });
    sound.then(|| url.to_owned()).ok_or_else(|| {
        "must be like https://gastown.example.org, without user, query or fragment".to_owned()
    })
}

fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|cause| format!("must be a level or a filter like info,gastownd=debug ({cause})"))
}

fn in_memory(number: u64) -> Result<usize, String> {
    usize::try_from(number).map_err(|_| "is too large for this machine".to_owned())
}
