//! What was measured: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::error::{During, Result};
use super::histogram::Latency;

/// One measured case with what it is compared with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// The benchmark.
    pub(crate) bench: &'static str,
    /// Which case of it.
    pub(crate) case: String,
    /// What is counted.
    pub(crate) unit: &'static str,
    /// The server.
    pub(crate) ours: Figures,
    /// The same work done by next to nothing, in the same run.
    pub(crate) floor: Option<Figures>,
    /// The same work done the usual way, in the same run.
    pub(crate) baseline: Option<Figures>,
    /// What else is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// How fast something was and what it cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Who did it.
    pub(crate) who: String,
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// From append to receipt, or from request to answer.
    pub(crate) latency: Option<Latency>,
    /// Processor time of the server for each one counted, in microseconds.
    pub(crate) cpu_us: Option<f64>,
    /// The most memory of the server, in bytes.
    pub(crate) peak_bytes: Option<u64>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn new(who: &str, count: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64().max(1e-9);
        Self {
            who: who.to_owned(),
            count,
            seconds,
            per_second: count as f64 / seconds,
            latency: None,
            cpu_us: None,
            peak_bytes: None,
        }
    }

    /// With the processor time that it cost.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn cpu(mut self, used: Option<Duration>) -> Self {
        self.cpu_us = used.map(|used| used.as_secs_f64() * 1e6 / self.count.max(1) as f64);
        self
    }
}

impl Figures {
    /// A figure that is not about time.
    pub(crate) fn amount(who: &str, count: u64, peak_bytes: u64) -> Self {
        Self {
            who: who.to_owned(),
            count,
            seconds: 0.0,
            per_second: 0.0,
            latency: None,
            cpu_us: None,
            peak_bytes: Some(peak_bytes),
        }
    }

    /// How many times as much processor time one costs, if the other's could be told: the system
    /// counts in hundredths of a second.
    pub(crate) fn cpu_ratio(&self, other: &Self) -> Option<f64> {
        let other = other.cpu_us.filter(|cpu| *cpu > 0.0)?;
        Some(self.cpu_us? / other)
    }
}

/// A goal and whether it was reached.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) measure: String,
    pub(crate) goal: String,
    pub(crate) ours: String,
    pub(crate) floor: String,
    pub(crate) ratio: String,
    /// `None` if it could not be measured.
    pub(crate) reached: Option<bool>,
}

/// Everything of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    /// Processors of this machine.
    pub(crate) processors: usize,
    /// Whether it was only a smoke test, whose figures mean nothing.
    pub(crate) quick: bool,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) goals: Vec<Goal>,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            quick,
            ..Self::default()
        }
    }

    /// Keeps a measurement and says it on stderr, so that a long run shows that it gets on.
    pub(crate) fn add(&mut self, measurement: Measurement) {
        say(&lines(&measurement));
        self.measurements.push(measurement);
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).during("write the report")?;
        std::fs::write(path, json).during(&format!("write {}", path.display()))
    }

    /// Prints the tables on stdout.
    pub(crate) fn print(&self) -> Result<()> {
        let mut text = String::new();
        if !self.measurements.is_empty() {
            text.push_str(&header());
            for measurement in &self.measurements {
                text.push_str(&lines(measurement));
            }
        }
        if !self.goals.is_empty() {
            text.push('\n');
            text.push_str(&goal_table(&self.goals));
        }
        if self.quick {
            text.push_str("\na smoke test: too short for its figures to mean anything\n");
        }
        std::io::stdout()
            .write_all(text.as_bytes())
            .during("print the table")
    }
}

/// Progress, for whoever watches.
pub(crate) fn say(text: &str) {
    // If nobody can be told, nobody listens.
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

fn header() -> String {
    format!(
        "{:<46} {:<12} {:>12} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}\n",
        "case",
        "who",
        "per second",
        "of floor",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU us",
        "of floor",
        "peak MB"
    )
}

/// A measurement's rows of the table.
fn lines(measurement: &Measurement) -> String {
    let mut text = String::new();
    let floor = measurement.floor.as_ref();
    let title = format!("{} {}", measurement.bench, measurement.case);
    let mut first = title.as_str();
    let all = [
        Some(&measurement.ours),
        floor,
        measurement.baseline.as_ref(),
    ];
    for figures in all.into_iter().flatten() {
        let is_floor = floor.is_some_and(|floor| std::ptr::eq(floor, figures));
        let other = floor.filter(|_| !is_floor);
        let rate = other
            .filter(|floor| floor.per_second > 0.0)
            .map(|floor| figures.per_second / floor.per_second);
        let cpu = other.and_then(|floor| figures.cpu_ratio(floor));
        let latency = |of: fn(&Latency) -> f64| figures.latency.as_ref().map(|l| of(l) / 1000.0);
        let _ = writeln!(
            text,
            "{first:<46} {:<12} {:>12} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
            figures.who,
            if figures.seconds > 0.0 {
                grouped(figures.per_second)
            } else {
                String::new()
            },
            number(rate, 2),
            number(latency(|l| l.p50_us), 2),
            number(latency(|l| l.p99_us), 2),
            number(latency(|l| l.p999_us), 2),
            number(figures.cpu_us, 2),
            number(cpu, 2),
            number(figures.peak_bytes.map(megabytes), 0),
        );
        first = "";
    }
    for note in &measurement.notes {
        let _ = writeln!(text, "    {note}");
    }
    text
}

fn goal_table(goals: &[Goal]) -> String {
    let mut text = format!(
        "{:<50} {:>22} {:>22} {:>22} {:>8} {:>8}\n",
        "measure", "goal", "ours", "floor", "ratio", "reached"
    );
    for goal in goals {
        let reached = match goal.reached {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let _ = writeln!(
            text,
            "{:<50} {:>22} {:>22} {:>22} {:>8} {reached:>8}",
            goal.measure, goal.goal, goal.ours, goal.floor, goal.ratio
        );
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

pub(crate) fn number(value: Option<f64>, places: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.places$}"))
}

/// With commas, so that millions are told from thousands at a glance.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1.5e6, "1,500,000"),
        ] {
            assert_eq!(grouped(value), text);
        }
        assert_eq!(
            (number(None, 2), number(Some(0.125), 2)),
            (String::new(), "0.12".to_owned())
        );
    }

    #[test]
    fn a_measurement_shows_its_ratios() {
        let figures = |who, count| Figures::new(who, count, Duration::from_secs(2));
        let measurement = Measurement {
            bench: "fanout",
            case: "1 of 1".to_owned(),
            unit: "deliveries",
            ours: figures("gastownd", 150).cpu(Some(Duration::from_micros(300))),
            floor: Some(figures("floor", 200).cpu(Some(Duration::from_micros(200)))),
            baseline: None,
            notes: vec!["a note".to_owned()],
        };
        let text = lines(&measurement);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[0],
            [
                "fanout", "1", "of", "1", "gastownd", "75", "0.75", "2.00", "2.00"
            ]
        );
        assert_eq!(rows[1], ["floor", "100", "1.00"]);
        assert_eq!(rows[2], ["a", "note"]);
    }
}
