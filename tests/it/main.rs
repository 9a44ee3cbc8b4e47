//! Tests of the whole, through the program and the rooms' public doors.

mod deb;
mod guard;
