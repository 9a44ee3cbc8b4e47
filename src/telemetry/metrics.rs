//! Numbers about the process, for Prometheus: counted where things happen, written out when asked.
//!
//! Counting costs an addition to an atomic number, once per request, batch, commit or write to a
//! socket, never per event.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Events that were appended to agents' logs and are durable.
pub static EVENTS_APPENDED: Counter = Counter::new();
/// Events that were handed to subscribers' sockets.
pub static EVENTS_DELIVERED: Counter = Counter::new();
/// Open WebSockets.
pub static SOCKETS: Gauge = Gauge::new();
/// Batches that became durable.
pub static BATCHES: Counter = Counter::new();
/// Flushes of the database: one makes all waiting batches durable.
pub static COMMITS: Histogram = Histogram::new();
/// Runs of agents that failed, starts included.
pub static RUNS_FAILED: Counter = Counter::new();
/// Facts of all towns, by type.
pub static FACTS: Labelled = Labelled::new();

/// Upper bounds of a histogram's buckets, in microseconds.
const BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// A number that rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// One more, until the answer is dropped.
    pub fn hold(&'static self) -> Held {
        self.0.fetch_add(1, Relaxed);
        Held(self)
    }

    /// The number.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// See [`Gauge::hold`].
#[derive(Debug)]
#[must_use = "it counts while it is held"]
pub struct Held(&'static Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// How long things take.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BOUNDS.len()],
            count: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        }
    }

    /// Notes one.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }
}

/// Numbers that rise, by a name out of a few.
#[derive(Debug, Default)]
pub struct Labelled(Mutex<BTreeMap<String, u64>>);

impl Labelled {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Adds one.
    pub fn add(&self, name: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        }
    }

    /// All names with their numbers.
    pub fn all(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counts.iter().map(|(name, count)| (name.clone(), *count));
        all.collect()
    }
}

/// Metrics in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric of this kind: `counter`, `gauge` or `histogram`.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A number with its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels = written(labels);
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// A metric of one number.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The numbers of a histogram with its labels; seconds, as is the custom.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        let bucket_of = |out: &mut Self, bound: &str, count: u64| {
            let labels = [labels, &[("le", bound)]].concat();
            out.sample(&bucket, &labels, count);
        };
        for (bound, count) in BOUNDS.iter().zip(&histogram.buckets) {
            below += count.load(Relaxed);
            bucket_of(self, &seconds(*bound), below);
        }
        let count = histogram.count.load(Relaxed);
        bucket_of(self, "+Inf", count);
        let micros = histogram.micros.load(Relaxed);
        self.sample(&format!("{name}_sum"), labels, seconds(micros));
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// What the whole process counts.
    pub fn process(&mut self) {
        let (counter, gauge) = ("counter", "gauge");
        let mut single = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
            self.single(name, kind, help, value);
        };
        single(
            "gastownd_events_appended_total",
            counter,
            "Events of agents that are durable.",
            &EVENTS_APPENDED.get(),
        );
        single(
            "gastownd_events_delivered_total",
            counter,
            "Events handed to sockets.",
            &EVENTS_DELIVERED.get(),
        );
        single(
            "gastownd_sockets",
            gauge,
            "Open WebSockets.",
            &SOCKETS.get(),
        );
        single(
            "gastownd_batches_total",
            counter,
            "Batches that became durable.",
            &BATCHES.get(),
        );
        single(
            "gastownd_dispatch_failures_total",
            counter,
            "Runs of agents that failed, starts included.",
            &RUNS_FAILED.get(),
        );
        let commits = "gastownd_commit_seconds";
        self.metric(commits, "histogram", "Flushes of the database.");
        self.histogram(commits, &[], &COMMITS);
        let facts = "gastownd_facts_total";
        self.metric(facts, counter, "Facts of all towns, by type.");
        for (name, count) in FACTS.all() {
            self.sample(facts, &[("type", &name)], count);
        }
    }

    /// The finished text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{text}");
    }
}

fn written(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name}=\"{}\"", value.replace('\n', "\\n"))
        })
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Microseconds as seconds, without the noise of binary fractions.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_at_most_so_long() {
        let histogram = Histogram::new();
        for micros in [250, 251, 9_000, 20_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut out = Exposition::default();
        out.metric("h", "histogram", "Help.");
        out.histogram("h", &[("a", "x\"y")], &histogram);
        let text = out.into_text();
        for line in [
            "# TYPE h histogram",
            "h_bucket{a=\"x\\\"y\",le=\"0.00025\"} 1",
            "h_bucket{a=\"x\\\"y\",le=\"0.0005\"} 2",
            "h_bucket{a=\"x\\\"y\",le=\"0.01\"} 3",
            "h_bucket{a=\"x\\\"y\",le=\"10\"} 3",
            "h_bucket{a=\"x\\\"y\",le=\"+Inf\"} 4",
            "h_sum{a=\"x\\\"y\"} 20.009501",
            "h_count{a=\"x\\\"y\"} 4",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_gauge_falls_when_its_holder_goes() {
        static OPEN: Gauge = Gauge::new();
        let (first, second) = (OPEN.hold(), OPEN.hold());
        assert_eq!(OPEN.get(), 2);
        drop(first);
        assert_eq!(OPEN.get(), 1);
        drop(second);
        assert_eq!(OPEN.get(), 0);
    }
}
