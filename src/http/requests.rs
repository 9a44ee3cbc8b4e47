//! Requests counted by route and status, and how long they took.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::telemetry::metrics::{Exposition, Histogram};

use super::routes::{ROUTES, Route};

#[derive(Default)]
struct Counts {
    took: Histogram,
    by_status: Mutex<BTreeMap<u16, u64>>,
}

/// In the order of the table; the last one is for what is no route.
static COUNTS: LazyLock<Vec<Counts>> =
    LazyLock::new(|| (0..=ROUTES.len()).map(|_| Counts::default()).collect());

/// Notes an answered request.
pub(super) fn answered(route: Option<&'static Route>, status: u16, took: Duration) {
    let place = route.and_then(|route| ROUTES.iter().position(|row| std::ptr::eq(row, route)));
    let counts = &COUNTS[place.unwrap_or(ROUTES.len())];
    counts.took.observe(took);
    let mut by_status = lock(&counts.by_status);
    *by_status.entry(status).or_default() += 1;
}

/// Writes out what was counted; routes that nobody asked for are left out.
pub(super) fn write(out: &mut Exposition) {
    let total = "gastownd_http_requests_total";
    out.metric(total, "counter", "Requests by route and status.");
    for (place, counts) in COUNTS.iter().enumerate() {
        let (method, path) = labels(place);
        for (status, count) in lock(&counts.by_status).iter() {
            let status = status.to_string();
            let labels = [("method", method), ("route", path), ("status", &status)];
            out.sample(total, &labels, count);
        }
    }
    let seconds = "gastownd_http_request_seconds";
    out.metric(seconds, "histogram", "From a request's head to its answer.");
    for (place, counts) in COUNTS.iter().enumerate() {
        if lock(&counts.by_status).is_empty() {
            continue;
        }
        let (method, path) = labels(place);
        let labels = [("method", method), ("route", path)];
        out.histogram(seconds, &labels, &counts.took);
    }
}

fn labels(place: usize) -> (&'static str, &'static str) {
    ROUTES
        .get(place)
        .map_or(("", "none"), |route| (route.method.as_str(), route.path))
}

fn lock(counts: &Mutex<BTreeMap<u16, u64>>) -> std::sync::MutexGuard<'_, BTreeMap<u16, u64>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
