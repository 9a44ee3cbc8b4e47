//! The event path under stress: killed servers, full disks, clients that come and go.

mod disk_full;
mod kills;
mod wanderers;
mod writer;
