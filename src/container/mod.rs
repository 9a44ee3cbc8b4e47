//! The container of a town: the process that runs its agents, and the server's hold on it.

mod error;
pub mod git;
pub mod protocol;
mod workspace;

pub use error::Error;
