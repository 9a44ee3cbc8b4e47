//! The web page: a handful of files compiled into the program and served as they are.
//!
//! The page is plain HTML, CSS and JavaScript modules without a framework and without a build step,
//! so what is in `assets/` is what a browser gets. It keeps no state of its own: rows come over the
//! HTTP API, everything that happens comes over the one WebSocket, and each stream is resumed from
//! the last id that was seen.
//!
//! Invariants: a page loads nothing from elsewhere and runs no inline script or style
//! ([`CONTENT_SECURITY_POLICY`]); no asset holds a secret, so all of them but the page itself may be
//! served to anybody.
//!
//! Absent on purpose: templates, server-side rendering, and any knowledge of routes beyond the
//! paths of the assets.

mod assets;

pub use assets::{Asset, CONTENT_SECURITY_POLICY, asset, login_page};
