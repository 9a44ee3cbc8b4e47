//! Tests of the whole, through the program and the rooms' public doors.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod acp;
mod agent_server;
mod asks;
mod auth;
mod bench;
mod browser;
mod chaos;
mod container;
mod contract;
mod deb;
mod demo;
mod disk;
mod durability;
mod escalations;
mod events;
mod failures;
mod git_hosts;
mod guard;
mod isolation;
mod launcher;
mod lifecycle;
mod limits;
mod main_job;
mod mayor;
mod models;
mod older_clients;
mod orderly_stops;
mod rehearsal;
mod replay;
mod reviews;
mod routes;
mod scheduler;
mod sdk_real;
mod socket;
mod stalls;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod upgrade;
mod work;
