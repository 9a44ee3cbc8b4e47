//! The container of a town: the process that runs its agents, and the server's hold on it.

pub mod protocol;
