//! Tests of the whole, through the program and the rooms' public doors.
#![expect(
    clippy::unwrap_used,
    reason = "a panic that names its line is how a test fails"
)]

mod deb;
mod guard;
