//! Every bound on a setting, with its reason, and how the bounds relate.

use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// An idle container is small; a minute lets a restart of the server find it, a week is an outage.
pub(super) const CONTAINER_LINGER: (Duration, Duration) = (minutes(1), days(7));
/// An agent program alone takes 300 to 500 MiB.
pub(super) const CONTAINER_MEMORY: RangeInclusive<u64> = 64 * MIB..=16 * 1024 * 1024 * MIB;
/// An agent server is some processes of its own, and a build starts dozens.
pub(super) const CONTAINER_PROCESSES: RangeInclusive<u32> = 32..=1_000_000;
/// An agent program opens some hundreds.
pub(super) const CONTAINER_OPEN_FILES: RangeInclusive<u32> = 1024..=1_000_000;
/// An agent program alone takes 300 to 500 MiB; a lower limit replaces it after every bead.
pub(super) const CONTAINER_RECYCLE_ABOVE: RangeInclusive<u64> = 64 * MIB..=16 * 1024 * 1024 * MIB;
/// A busy machine keeps a program from answering for some seconds, 15 s were seen; after an hour nobody
/// waits.
pub(super) const CONTAINER_HUNG_AFTER: (Duration, Duration) =
    (Duration::from_secs(30), minutes(60));
/// Agent programs try again after two seconds for the first time; the patrol asks after half an hour.
pub(super) const CONTAINER_MODEL_WAIT: (Duration, Duration) = (Duration::from_secs(1), days(1));
/// sled needs a few MiB to work at all; above 64 GiB it is a typing mistake.
pub(super) const STORAGE_CACHE: RangeInclusive<u64> = 4 * MIB..=64 * 1024 * MIB;
/// The tail must hold at least one largest event; hundreds of agents have one each.
pub(super) const TAIL_PER_AGENT: RangeInclusive<u64> = 64 * KIB..=256 * MIB;
/// All tails together hold at least some; more than the machine's memory is the operator's choice.
pub(super) const TAIL_TOTAL: RangeInclusive<u64> = MIB..=64 * 1024 * MIB;
/// Nobody who watches tokens sees some milliseconds; a second would be seen.
pub(super) const JOIN_INTERVAL: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(1));
/// Room for what is written between two looks at the disk, and for opening the database again.
pub(super) const STORAGE_RESERVE: RangeInclusive<u64> = 4 * MIB..=1024 * 1024 * MIB;
/// A shorter pause would hammer a repository or a model that is down.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), days(1));
/// A person needs a second to answer; after a day nobody comes any more.
pub(super) const ASKS_ESCALATE_AFTER: (Duration, Duration) = (Duration::from_secs(1), days(1));
/// Each try costs money.
pub(super) const ATTEMPTS_MAX: RangeInclusive<u32> = 1..=100;
/// Below some, one bead's own attempts would stop the whole town; each entry is kept in a row.
pub(super) const FAILURES_MAX: RangeInclusive<u32> = 2..=1000;
/// A shorter one would never fill, a longer one never forgets.
pub(super) const FAILURES_WINDOW: (Duration, Duration) = (minutes(1), days(1));
/// A shorter pause would be no pause.
pub(super) const PROBE_AFTER: (Duration, Duration) = (Duration::from_secs(1), days(1));
/// An agent's activity is written every half minute.
pub(super) const PATROL_AFTER: (Duration, Duration) = (minutes(1), days(1));
/// Large enough for a bead with a long text; a body is held in memory whole.
pub(super) const BODY_MAX: RangeInclusive<u64> = 16 * KIB..=64 * MIB;
/// A socket costs some kilobytes and a file descriptor.
pub(super) const CONNECTIONS_MAX: RangeInclusive<u32> = 8..=1_000_000;
/// A container takes a second to start: one that sleeps sooner would start all day.
pub(super) const CONTAINER_SLEEP_AFTER: (Duration, Duration) = (Duration::from_secs(1), days(1));
/// An agent commits and pushes in seconds, but a hook of the repository may run its tests first.
pub(super) const CONTAINER_DRAIN_TIME: (Duration, Duration) = (Duration::from_secs(1), minutes(10));
/// systemd gives a service 90 s to stop.
pub(super) const SHUTDOWN_GRACE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(80));
/// Ten years is for ever.
pub(super) const RETENTION_DAYS: RangeInclusive<u32> = 1..=3650;

/// Seconds between alarms of a town with work, where its config says nothing.
pub const ALARM_INTERVAL_ACTIVE_DEFAULT: Duration = Duration::from_secs(15);
/// Seconds between alarms of a town without work, where its config says nothing.
pub const ALARM_INTERVAL_IDLE_DEFAULT: Duration = minutes(5);
/// Polecats of a rig, where the config says nothing: about 3 GB of agent server on one machine.
pub const MAX_POLECATS_PER_RIG_DEFAULT: u32 = 5;

/// A town's whole config as JSON. It travels as a header with every request to the container,
/// whose header buffer is sized for it.
pub const TOWN_CONFIG_BYTES_MAX: usize = 256 * 1024;

pub(super) const ALARM_ACTIVE_SECONDS: RangeInclusive<u64> = 5..=600;
pub(super) const ALARM_IDLE_SECONDS: RangeInclusive<u64> = 30..=3600;
pub(super) const SLEEP_AFTER_MINUTES: RangeInclusive<u64> = 5..=120;
pub(super) const MAX_POLECATS: RangeInclusive<u64> = 1..=20;
/// A day's tokens of a whole fleet are some billions.
pub(super) const TOKENS_PER_DAY: RangeInclusive<u64> = 0..=1_000_000_000_000;
/// In the currency of the model's price list.
pub(super) const COST_PER_DAY_MAX: f64 = 1_000_000.0;
/// A log of fewer events could not hold one turn of an agent.
pub(super) const EVENTS_MAX: RangeInclusive<u64> = 1_000..=1_000_000_000;
/// A log of fewer bytes could not hold one largest event.
pub(super) const BYTES_MAX: RangeInclusive<u64> = 2 * MIB..=1024 * 1024 * MIB;
/// Model names, branch-like names, tokens and URLs.
pub(super) const LINE_CHARS_MAX: usize = 1024;
/// An RSA key of 16384 bits has about 12,000.
pub(super) const PRIVATE_KEY_CHARS_MAX: usize = 16 * 1024;
/// Some dozens of hosts with three keys each.
pub(super) const KNOWN_HOSTS_CHARS_MAX: usize = 16 * 1024;
/// Instructions for a role go into every system prompt.
pub(super) const INSTRUCTIONS_CHARS_MAX: usize = 16 * 1024;
/// One environment variable; a private key fits.
pub(super) const ENV_VALUE_CHARS_MAX: usize = 32 * 1024;
/// Gates run one after another before each merge.
pub(super) const GATES_MAX: usize = 32;
/// The command of an agent program: what a person writes on one line.
pub(super) const COMMAND_WORDS_MAX: usize = 32;
/// A gate is a build and its tests; beyond two hours a merge queue stands still.
pub(super) const GATE_SECONDS: RangeInclusive<u64> = 1..=7200;
/// One gate, where the config says nothing.
pub(super) const GATE_TIMEOUT_DEFAULT: Duration = minutes(10);

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

const fn days(count: u64) -> Duration {
    minutes(count * 24 * 60)
}

const _: () = {
    // A default outside its own range could never be written down by a person.
    let active = ALARM_INTERVAL_ACTIVE_DEFAULT.as_secs();
    assert!(active >= *ALARM_ACTIVE_SECONDS.start() && active <= *ALARM_ACTIVE_SECONDS.end());
    let idle = ALARM_INTERVAL_IDLE_DEFAULT.as_secs();
    assert!(idle >= *ALARM_IDLE_SECONDS.start() && idle <= *ALARM_IDLE_SECONDS.end());
    assert!(active < idle);
    // One variable and one role's instructions must fit into the document that holds them.
    assert!(ENV_VALUE_CHARS_MAX < TOWN_CONFIG_BYTES_MAX);
    assert!(INSTRUCTIONS_CHARS_MAX * 4 < TOWN_CONFIG_BYTES_MAX);
    // A config document must fit into a request body of the default size.
    assert!(TOWN_CONFIG_BYTES_MAX as u64 <= MIB);
    // A kept log holds more than the tail's smallest size.
    assert!(*BYTES_MAX.start() > *TAIL_PER_AGENT.start());
};
