//! The floor of a fan-out: blocking writes of the same bytes to as many plain sockets.

use std::io::Write;
use std::net::TcpStream;

use super::{listen, take_events};
use crate::error::{During, Result};

/// Takes the load's connection and one per reader, then writes every event to each reader of its
/// agent, `together` frames by one call. Readers follow the agents in turn.
pub(crate) fn serve(readers: usize, agents: usize, together: usize) -> Result<()> {
    let listener = listen()?;
    let accept = || listener.accept().during("accept").map(|(stream, _)| stream);
    let source = accept()?;
    let mut sockets: Vec<Vec<TcpStream>> = (0..agents).map(|_| Vec::new()).collect();
    for reader in 0..readers {
        let socket = accept()?;
        socket.set_nodelay(true).during("set up a socket")?;
        sockets[reader % agents].push(socket);
    }
    let mut waiting: Vec<(usize, Vec<u8>)> = (0..agents).map(|_| (0, Vec::new())).collect();
    take_events(source, |agent, frame| {
        let (count, bytes) = &mut waiting[agent];
        bytes.extend_from_slice(frame);
        *count += 1;
        if *count < together {
            return Ok(());
        }
        for socket in &mut sockets[agent] {
            socket.write_all(bytes).during("write to a reader")?;
        }
        *count = 0;
        bytes.clear();
        Ok(())
    })?;
    for (agent, (_, bytes)) in waiting.iter().enumerate() {
        for socket in &mut sockets[agent] {
            socket.write_all(bytes).during("write to a reader")?;
        }
    }
    // The load ends this process when it has read everything.
    loop {
        std::thread::park();
    }
}
