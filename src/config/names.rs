//! Every setting's names, default and meaning, once. No other file spells a variable or a default,
//! and a test holds the three names of each setting to one pattern.

/// The file that is read if none is named and it exists.
pub const CONFIG_FILE_DEFAULT: &str = "/etc/gastownd/gastownd.toml";
/// Names the config file, like the flag `--config`.
pub const CONFIG_FILE_ENV: &str = "GASTOWND_CONFIG";
/// What every environment variable of ours begins with.
pub(super) const ENV_PREFIX: &str = "GASTOWND_";

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file; a dot is a TOML table.
    pub key: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// How it is written.
    pub kind: SettingKind,
    /// Its value if no layer has one, as a person would write it; empty means unset.
    pub default: &'static str,
    /// What it does, for `--help`.
    pub help: &'static str,
}

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// `true` or `false`; the flag alone means `true`.
    Switch,
    /// Text; the word stands for it in `--help`.
    Value(&'static str),
}

pub(super) const DATA_DIR: &str = "data_dir";
pub(super) const LISTEN: &str = "listen";
pub(super) const NO_AUTH: &str = "no_auth";
pub(super) const PUBLIC_URL: &str = "public_url";
pub(super) const ALLOW_LOCAL_REPOS: &str = "allow_local_repos";
pub(super) const ALLOW_HTTP_REPOS: &str = "allow_http_repos";
pub(super) const ISOLATION: &str = "isolation";
pub(super) const AGENT_PROGRAM: &str = "agent_program";
pub(super) const LOG: &str = "log";
pub(super) const SHUTDOWN_GRACE: &str = "shutdown_grace";
pub(super) const RECONCILE_RECORD: &str = "reconcile_record";
pub(super) const NOTIFY_COMMAND: &str = "notify_command";
pub(super) const CONTAINER_LINGER: &str = "container.linger";
pub(super) const CONTAINER_STOP_ON_EXIT: &str = "container.stop_on_exit";
pub(super) const CONTAINER_ON_DEMAND: &str = "container.on_demand";
pub(super) const CONTAINER_SLEEP_AFTER: &str = "container.sleep_after";
pub(super) const CONTAINER_DRAIN_TIME: &str = "container.drain_time";
pub(super) const CONTAINER_LAUNCHER: &str = "container.launcher";
pub(super) const CONTAINER_LISTEN: &str = "container.listen";
pub(super) const CONTAINER_SERVER_URL: &str = "container.server_url";
pub(super) const CONTAINER_MEMORY_MAX: &str = "container.memory_max";
pub(super) const CONTAINER_PROCESSES_MAX: &str = "container.processes_max";
pub(super) const CONTAINER_OPEN_FILES_MAX: &str = "container.open_files_max";
pub(super) const CONTAINER_RECYCLE_ABOVE: &str = "container.recycle_above";
pub(super) const CONTAINER_HUNG_AFTER: &str = "container.hung_after";
pub(super) const CONTAINER_MODEL_WAIT: &str = "container.model_wait";
pub(super) const STORAGE_CACHE: &str = "storage.cache";
pub(super) const STORAGE_RESERVE: &str = "storage.reserve";
pub(super) const STREAM_TAIL_PER_AGENT: &str = "stream.tail_per_agent";
pub(super) const STREAM_TAIL_TOTAL: &str = "stream.tail_total";
pub(super) const STREAM_JOIN_INTERVAL: &str = "stream.join_interval";
pub(super) const DISPATCH_BACKOFF_MIN: &str = "dispatch.backoff_min";
pub(super) const DISPATCH_BACKOFF_MAX: &str = "dispatch.backoff_max";
pub(super) const DISPATCH_ATTEMPTS_MAX: &str = "dispatch.attempts_max";
pub(super) const ASKS_ESCALATE_AFTER: &str = "asks.escalate_after";
pub(super) const DISPATCH_FAILURES_MAX: &str = "dispatch.failures_max";
pub(super) const DISPATCH_FAILURES_WINDOW: &str = "dispatch.failures_window";
pub(super) const DISPATCH_PROBE_AFTER: &str = "dispatch.probe_after";
pub(super) const DISPATCH_PATROL_AFTER: &str = "dispatch.patrol_after";
pub(super) const HTTP_BODY_MAX: &str = "http.body_max";
pub(super) const HTTP_CONNECTIONS_MAX: &str = "http.connections_max";
pub(super) const RETENTION_DAYS: &str = "retention.days";

/// Every setting, in the order of `--help` and `config show`.
pub const SETTINGS: &[Setting] = &[
    value(
        DATA_DIR,
        "data-dir",
        "GASTOWND_DATA_DIR",
        "DIR",
        "/var/lib/gastownd",
        "Where the database, the workspaces of the towns and the administrator's token are",
    ),
    value(
        LISTEN,
        "listen",
        "GASTOWND_LISTEN",
        "ADDRESS:PORT",
        "127.0.0.1:8787",
        "Where to answer HTTP and WebSocket; port 0 takes a free one",
    ),
    switch(
        NO_AUTH,
        "no-auth",
        "GASTOWND_NO_AUTH",
        "Let everyone in without a token; only for a loopback address",
    ),
    value(
        PUBLIC_URL,
        "public-url",
        "GASTOWND_PUBLIC_URL",
        "URL",
        "",
        "Where agents reach this server [default: the bound address]",
    ),
    switch(
        ALLOW_LOCAL_REPOS,
        "allow-local-repos",
        "GASTOWND_ALLOW_LOCAL_REPOS",
        "Accept paths and file:// as git urls of rigs",
    ),
    switch(
        ALLOW_HTTP_REPOS,
        "allow-http-repos",
        "GASTOWND_ALLOW_HTTP_REPOS",
        "Accept http:// as git urls of rigs; it sends tokens unencrypted",
    ),
    value(
        ISOLATION,
        "isolation",
        "GASTOWND_ISOLATION",
        "bubblewrap|none",
        "bubblewrap",
        "What keeps a town's agents from the rest of the machine; none is for development",
    ),
    value(
        AGENT_PROGRAM,
        "agent-program",
        "GASTOWND_AGENT_PROGRAM",
        "PATH",
        "",
        "The agent server's program [default: opencode or kilo, found on PATH]",
    ),
    value(
        LOG,
        "log",
        "GASTOWND_LOG",
        "FILTER",
        "info",
        "What to log to stderr: a level, or a filter like info,gastownd::town=debug",
    ),
    value(
        SHUTDOWN_GRACE,
        "shutdown-grace",
        "GASTOWND_SHUTDOWN_GRACE",
        "DURATION",
        "10s",
        "How long requests in flight may take to end after SIGTERM",
    ),
    value(
        RECONCILE_RECORD,
        "reconcile-record",
        "GASTOWND_RECONCILE_RECORD",
        "FILE",
        "",
        "Write down what the scheduler saw and decided, for `gastownd replay`",
    ),
    value(
        NOTIFY_COMMAND,
        "notify-command",
        "GASTOWND_NOTIFY_COMMAND",
        "PATH",
        "",
        "A program that gets each high or critical escalation as JSON on its standard input",
    ),
    value(
        CONTAINER_LINGER,
        "container-linger",
        "GASTOWND_CONTAINER_LINGER",
        "DURATION",
        "10m",
        "How long a town's agents go on working while no server is there",
    ),
    switch(
        CONTAINER_STOP_ON_EXIT,
        "container-stop-on-exit",
        "GASTOWND_CONTAINER_STOP_ON_EXIT",
        "Stop every town's agents when the server stops, rather than let them work on",
    ),
    switch(
        CONTAINER_ON_DEMAND,
        "container-on-demand",
        "GASTOWND_CONTAINER_ON_DEMAND",
        "Start a town's container and its mayor with the first work, rather than with the first rig",
    ),
    value(
        CONTAINER_SLEEP_AFTER,
        "container-sleep-after",
        "GASTOWND_CONTAINER_SLEEP_AFTER",
        "DURATION",
        "30m",
        "A town's container ends when nothing has needed it for so long, where its town says nothing",
    ),
    value(
        CONTAINER_DRAIN_TIME,
        "container-drain-time",
        "GASTOWND_CONTAINER_DRAIN_TIME",
        "DURATION",
        "45s",
        "How long agents may take to commit and push before their container ends and saves the rest",
    ),
    value(
        CONTAINER_LAUNCHER,
        "container-launcher",
        "GASTOWND_CONTAINER_LAUNCHER",
        "COMMAND",
        "",
        "A command line that starts a town's container, such as podman's; {arguments} in it is the container's own [default: the program, isolated as above]",
    ),
    value(
        CONTAINER_LISTEN,
        "container-listen",
        "GASTOWND_CONTAINER_LISTEN",
        "ADDRESS:PORT",
        "",
        "Where containers listen on TCP for the server, which shows a token [default: a socket in the data folder]",
    ),
    value(
        CONTAINER_SERVER_URL,
        "container-server-url",
        "GASTOWND_CONTAINER_SERVER_URL",
        "URL",
        "",
        "Where agents reach the server from within their containers [default: public_url, else the address of listen]",
    ),
    value(
        CONTAINER_MEMORY_MAX,
        "container-memory-max",
        "GASTOWND_CONTAINER_MEMORY_MAX",
        "SIZE",
        "",
        "Memory that one town's agents may hold together; who holds most is ended [default: 3/4 of this machine's]",
    ),
    value(
        CONTAINER_PROCESSES_MAX,
        "container-processes-max",
        "GASTOWND_CONTAINER_PROCESSES_MAX",
        "COUNT",
        "4096",
        "Processes that one town's agents may have at the same time",
    ),
    value(
        CONTAINER_OPEN_FILES_MAX,
        "container-open-files-max",
        "GASTOWND_CONTAINER_OPEN_FILES_MAX",
        "COUNT",
        "65536",
        "Files that each process of a town's agents may have open",
    ),
    value(
        CONTAINER_RECYCLE_ABOVE,
        "container-recycle-above",
        "GASTOWND_CONTAINER_RECYCLE_ABOVE",
        "SIZE",
        "2GiB",
        "Memory of the agent program above which it is replaced as soon as no agent is at work",
    ),
    value(
        CONTAINER_HUNG_AFTER,
        "container-hung-after",
        "GASTOWND_CONTAINER_HUNG_AFTER",
        "DURATION",
        "90s",
        "An agent program that neither says nor answers anything for so long is replaced",
    ),
    value(
        CONTAINER_MODEL_WAIT,
        "container-model-wait",
        "GASTOWND_CONTAINER_MODEL_WAIT",
        "DURATION",
        "5m",
        "How long an agent waits for a model that does not answer, before its bead is put back",
    ),
    value(
        STORAGE_CACHE,
        "storage-cache",
        "GASTOWND_STORAGE_CACHE",
        "SIZE",
        "32MiB",
        "Memory for the database's cache",
    ),
    value(
        STORAGE_RESERVE,
        "storage-reserve",
        "GASTOWND_STORAGE_RESERVE",
        "SIZE",
        "64MiB",
        "Below this much free disk writes are refused until there is room again",
    ),
    value(
        STREAM_TAIL_PER_AGENT,
        "stream-tail-per-agent",
        "GASTOWND_STREAM_TAIL_PER_AGENT",
        "SIZE",
        "512KiB",
        "Memory for each agent's newest events, from which viewers are served",
    ),
    value(
        STREAM_TAIL_TOTAL,
        "stream-tail-total",
        "GASTOWND_STREAM_TAIL_TOTAL",
        "SIZE",
        "64MiB",
        "Memory for the newest events of all agents together; the oldest give way",
    ),
    value(
        STREAM_JOIN_INTERVAL,
        "stream-join-interval",
        "GASTOWND_STREAM_JOIN_INTERVAL",
        "DURATION",
        "0ms",
        "How long an event may wait so that several go to a viewer in one write",
    ),
    value(
        DISPATCH_BACKOFF_MIN,
        "dispatch-backoff-min",
        "GASTOWND_DISPATCH_BACKOFF_MIN",
        "DURATION",
        "30s",
        "Pause after a first failed try to start work; it doubles each time",
    ),
    value(
        DISPATCH_BACKOFF_MAX,
        "dispatch-backoff-max",
        "GASTOWND_DISPATCH_BACKOFF_MAX",
        "DURATION",
        "10m",
        "Longest pause between two tries to start work",
    ),
    value(
        DISPATCH_ATTEMPTS_MAX,
        "dispatch-attempts-max",
        "GASTOWND_DISPATCH_ATTEMPTS_MAX",
        "COUNT",
        "5",
        "A bead fails after this many failed tries",
    ),
    value(
        DISPATCH_FAILURES_MAX,
        "dispatch-failures-max",
        "GASTOWND_DISPATCH_FAILURES_MAX",
        "COUNT",
        "20",
        "A town stops dispatching after this many failed tries within the window",
    ),
    value(
        DISPATCH_FAILURES_WINDOW,
        "dispatch-failures-window",
        "GASTOWND_DISPATCH_FAILURES_WINDOW",
        "DURATION",
        "30m",
        "How long a failed try counts towards that",
    ),
    value(
        DISPATCH_PROBE_AFTER,
        "dispatch-probe-after",
        "GASTOWND_DISPATCH_PROBE_AFTER",
        "DURATION",
        "10m",
        "Pause before a stopped town tries one agent to see whether things work again",
    ),
    value(
        DISPATCH_PATROL_AFTER,
        "dispatch-patrol-after",
        "GASTOWND_DISPATCH_PATROL_AFTER",
        "DURATION",
        "30m",
        "An agent at work that is silent for so long is asked; after as long again a person is called",
    ),
    value(
        ASKS_ESCALATE_AFTER,
        "asks-escalate-after",
        "GASTOWND_ASKS_ESCALATE_AFTER",
        "DURATION",
        "5m",
        "How long an agent's question may wait for an answer until it is escalated",
    ),
    value(
        HTTP_BODY_MAX,
        "http-body-max",
        "GASTOWND_HTTP_BODY_MAX",
        "SIZE",
        "1MiB",
        "Largest body of a request; above it the answer is 413",
    ),
    value(
        HTTP_CONNECTIONS_MAX,
        "http-connections-max",
        "GASTOWND_HTTP_CONNECTIONS_MAX",
        "COUNT",
        "4096",
        "Connections at the same time, WebSockets included; above it new ones are refused",
    ),
    value(
        RETENTION_DAYS,
        "retention-days",
        "GASTOWND_RETENTION_DAYS",
        "DAYS",
        "7",
        "How long an agent's events are kept, where its town says nothing",
    ),
];

const fn value(
    key: &'static str,
    flag: &'static str,
    env: &'static str,
    shape: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        flag,
        env,
        kind: SettingKind::Value(shape),
        default,
        help,
    }
}

const fn switch(
    key: &'static str,
    flag: &'static str,
    env: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        flag,
        env,
        kind: SettingKind::Switch,
        default: "false",
        help,
    }
}

/// The setting of that key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The key most like `wrong`. A name under the wrong table, or under none, is still near its own.
pub(super) fn nearest(wrong: &str) -> &'static str {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    SETTINGS
        .iter()
        .map(|setting| setting.key)
        .min_by_key(|key| edits(wrong, key).min(1 + edits(&name(wrong), &name(key))))
        .expect("there are settings")
}

/// How many characters must be added, removed or changed to make `a` into `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
