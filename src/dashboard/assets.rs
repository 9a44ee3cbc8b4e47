//! The embedded files, by path.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

/// Sent with every page: everything comes from this server, nothing inline runs, nobody frames it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// One file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The file's bytes.
    pub body: &'static [u8],
    /// The value of `ETag`, quotes included; it changes with the bytes.
    pub etag: &'static str,
}

/// The file served at `path`: `/` is the page, everything else lies under `/assets/`.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    FILES.iter().find(|file| file.path == path).map(File::asset)
}

/// What an unauthenticated visitor of `/` gets instead of the page, with status 401.
#[must_use]
pub fn login_page() -> Asset {
    LOGIN.asset()
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

struct File {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
    etag: LazyLock<String>,
}

impl File {
    fn asset(&'static self) -> Asset {
        Asset {
            content_type: self.content_type,
            body: self.body,
            etag: self.etag.as_str(),
        }
    }
}

macro_rules! file {
    ($path:literal, $content_type:expr, $name:literal) => {
        File {
            path: $path,
            content_type: $content_type,
            body: include_bytes!(concat!("assets/", $name)),
            etag: LazyLock::new(|| etag(include_bytes!(concat!("assets/", $name)))),
        }
    };
}

static LOGIN: File = file!("/login", HTML, "login.html");

static FILES: [File; 19] = [
    file!("/", HTML, "index.html"),
    file!("/assets/style.css", CSS, "style.css"),
    file!("/assets/icon.svg", SVG, "icon.svg"),
    file!("/assets/app.js", JAVASCRIPT, "app.js"),
    file!("/assets/api.js", JAVASCRIPT, "api.js"),
    file!("/assets/bead.js", JAVASCRIPT, "bead.js"),
    file!("/assets/board.js", JAVASCRIPT, "board.js"),
    file!("/assets/container.js", JAVASCRIPT, "container.js"),
    file!("/assets/convoys.js", JAVASCRIPT, "convoys.js"),
    file!("/assets/dom.js", JAVASCRIPT, "dom.js"),
    file!("/assets/link.js", JAVASCRIPT, "link.js"),
    file!("/assets/login.js", JAVASCRIPT, "login.js"),
    file!("/assets/reviews.js", JAVASCRIPT, "reviews.js"),
    file!("/assets/tokens.js", JAVASCRIPT, "tokens.js"),
    file!("/assets/usage.js", JAVASCRIPT, "usage.js"),
    file!("/assets/asks.js", JAVASCRIPT, "asks.js"),
    file!("/assets/panel.js", JAVASCRIPT, "panel.js"),
    file!("/assets/town.js", JAVASCRIPT, "town.js"),
    file!("/assets/transcript.js", JAVASCRIPT, "transcript.js"),
];

// Told apart from other bytes at the same path is all an entity tag must do; the hasher's keys are
// fixed, so every start of one build gives the same tag.
fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: Asset) -> &'static str {
        std::str::from_utf8(asset.body).expect("assets are text")
    }

    #[test]
    fn every_file_that_is_named_is_served() {
        let pages = [asset("/").expect("the page"), login_page()];
        for page in pages {
            for quoted in text(page)
                .split('"')
                .filter(|part| part.starts_with("/assets/"))
            {
                assert!(asset(quoted).is_some(), "{quoted} is not served");
            }
        }
        for file in FILES.iter().filter(|file| file.content_type == JAVASCRIPT) {
            for line in text(file.asset())
                .lines()
                .filter(|line| line.contains(" from \"./"))
            {
                let name = line.split('"').nth(1).expect("a quoted name");
                let path = name.replacen("./", "/assets/", 1);
                assert!(asset(&path).is_some(), "{} imports {path}", file.path);
            }
        }
    }

    #[test]
    fn pages_hold_nothing_that_the_policy_forbids() {
        for page in [asset("/").expect("the page"), login_page()] {
            let page = text(page);
            assert!(!page.contains("<style") && !page.contains(" style="));
            assert!(!page.contains("<script>") && !page.contains(" onclick="));
            for attribute in ["src=\"", "href=\"", "action=\""] {
                for value in page.split(attribute).skip(1) {
                    let ours = value.starts_with("/assets/") || value.starts_with('#');
                    assert!(ours, "a page loads nothing from elsewhere: {value:.60}");
                }
            }
        }
        for file in &FILES {
            let source = text(file.asset());
            assert!(
                !source.contains("innerHTML"),
                "{}: only text nodes",
                file.path
            );
            assert!(!source.contains("insertAdjacentHTML"), "{}", file.path);
        }
    }

    #[test]
    fn tags_are_quoted_and_differ() {
        let mut tags: Vec<_> = FILES.iter().map(|file| file.asset().etag).collect();
        assert!(
            tags.iter()
                .all(|tag| tag.len() == 18 && tag.starts_with('"'))
        );
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), FILES.len());
    }

    #[test]
    fn unknown_paths_are_none() {
        for path in [
            "",
            "/assets/",
            "/assets/login.html",
            "/login",
            "/assets/../mod.rs",
        ] {
            assert!(asset(path).is_none(), "{path}");
        }
    }
}
