//! What was shown is still there: after SIGKILL, before the disk has it, and at the end of a server.

mod data_folder;
mod killed;
mod synced_first;
mod watcher;
