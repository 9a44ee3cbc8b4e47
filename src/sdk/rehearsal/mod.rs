//! The rehearsal: a built-in agent server that plays scripts.
