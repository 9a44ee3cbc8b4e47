//! The floor of durable appends: the same bytes in the same groups by `write` and `fdatasync`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{During, Result};
use crate::histogram::Histogram;
use crate::report::Figures;

/// Writes groups of so many bytes each to a file in `folder`, again and again, for this time. The
/// result counts events, of which each group holds `events_of(group)`.
pub(crate) fn append(
    folder: &Path,
    groups: &[u64],
    event_len: usize,
    time: Duration,
) -> Result<Figures> {
    let path = folder.join("bench-floor");
    let mut file = File::create(&path).during("make the floor's file")?;
    let largest = groups.iter().copied().max().unwrap_or(1);
    let bytes = vec![b'x'; usize::try_from(largest).unwrap_or(1) * event_len];
    let (begin, mut count, mut latency) = (Instant::now(), 0, Histogram::default());
    for group in groups.iter().cycle() {
        let len = usize::try_from(*group).unwrap_or(1) * event_len;
        let before = Instant::now();
        file.write_all(&bytes[..len])
            .and_then(|()| file.sync_data())
            .during("write the floor's file")?;
        latency.record_duration(before.elapsed());
        count += group;
        if begin.elapsed() >= time {
            break;
        }
    }
    let mut figures = Figures::new("write+sync", count, begin.elapsed());
    figures.latency = latency.latency();
    std::fs::remove_file(&path).during("remove the floor's file")?;
    Ok(figures)
}
