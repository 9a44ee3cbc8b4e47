//! The HTTP connections of a client.
