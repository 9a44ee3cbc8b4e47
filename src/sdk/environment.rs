//! The environment of an agent program.
