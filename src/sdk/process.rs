//! An agent program as a process under its guard.
