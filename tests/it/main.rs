//! Tests of the whole, through the program and the rooms' public doors.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod container;
mod guard;
mod rehearsal;
mod sdk_real;
#[path = "../support/mod.rs"]
mod support;
