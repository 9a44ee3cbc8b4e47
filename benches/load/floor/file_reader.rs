//! The floor of a backfill: a file with the same bytes, read and written to a plain socket in large
//! pieces, one thread per reader.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use super::listen;
use crate::error::{During, Result};

/// As many bytes as the server hands out by one read of a log.
const PIECE_LEN: usize = 512 << 10;

pub(crate) fn serve(path: &Path) -> Result<()> {
    let listener = listen()?;
    for socket in listener.incoming() {
        let mut socket = socket.during("accept")?;
        let mut file = File::open(path).during("open the file")?;
        std::thread::spawn(move || {
            let mut piece = vec![0; PIECE_LEN];
            while let Ok(read @ 1..) = file.read(&mut piece) {
                if socket.write_all(&piece[..read]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
