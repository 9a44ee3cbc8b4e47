//! `gastownd replay FILE`.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;

use crate::town;

use super::error::Error;

/// Replays a record and prints what came of it to stdout.
pub(super) fn run(path: &Path) -> Result<(), Error> {
    let unread = |source| Error::Replay {
        path: path.to_owned(),
        source,
    };
    let record = File::open(path).map_err(|error| unread(error.into()))?;
    let replayed = town::replay(BufReader::new(record)).map_err(unread)?;
    std::io::stdout()
        .write_all(replayed.to_string().as_bytes())
        .map_err(|source| Error::Print { source })?;
    match replayed.different {
        0 => Ok(()),
        different => Err(Error::ReplayDiffers { different }),
    }
}
