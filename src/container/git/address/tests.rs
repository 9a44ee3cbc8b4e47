use std::path::Path;

use super::super::tests::{LOCAL, try_git};
use super::*;

#[test]
fn urls() {
    let check = |text: &str, sound: bool| {
        let parsed = GitUrl::parse(text, AllowedRepositories::default());
        assert_eq!(parsed.is_ok(), sound, "{text}: {parsed:?}");
    };
    check("https://github.com/owner/repo.git", true);
    check("https://host:8443/owner/repo", true);
    check("ssh://git@host/owner/repo.git", true);
    check("ssh://git@host:2222/owner/repo.git", true);
    check("git@github.com:owner/repo.git", true);
    check("https://user:secret@github.com/owner/repo.git", false);
    check("https://secret@github.com/owner/repo.git", false);
    check("https://", false);
    check("http://github.com/owner/repo.git", false);
    check("ssh://-oProxyCommand=x/y", false);
    check("ssh://git:pw@host/x", false);
    check("-oProxyCommand=x@host:y", false);
    check("git@-host:y", false);
    check("git@host:-y", false);
    check("git@host:", false);
    check("ext::sh -c id", false);
    check("--upload-pack=id", false);
    check("/srv/repo.git", false);
    check("file:///srv/repo.git", false);
    check("https://host/\nx", false);
    check("", false);
    assert!(GitUrl::parse("/srv/repo.git", LOCAL).is_ok());
    assert!(GitUrl::parse("srv/repo.git", LOCAL).is_err());
    let http = AllowedRepositories {
        local: false,
        http: true,
    };
    assert!(GitUrl::parse("http://host:3000/owner/repo.git", http).is_ok());
    assert!(GitUrl::parse("http://secret@host/owner/repo.git", http).is_err());
    assert!(GitUrl::parse("/srv/repo.git", http).is_err());
}

#[test]
fn a_refused_url_is_told_without_its_password() {
    let error =
        GitUrl::parse("https://me:secret@host/x", AllowedRepositories::default()).unwrap_err();
    assert!(
        matches!(&error, Error::GitUrl { url, .. } if url == "https://host/x"),
        "{error}"
    );
}

#[test]
fn branch_names() {
    let check = |text: &str, sound: bool| {
        assert_eq!(BranchName::parse(text).is_ok(), sound, "{text:?}");
        let git = try_git(
            Path::new("/"),
            &["check-ref-format", &format!("refs/heads/{text}")],
        );
        assert!(git.status.success() || !sound, "git would refuse {text:?}");
    };
    for text in [
        "main",
        "polecat/toast/gt-1",
        "a",
        "feature/x.y_z",
        "größe",
        "a@b",
    ] {
        check(text, true);
    }
    for text in [
        "", "-x", "--force", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a",
        "a/", "a//b", "a.", "a.lock", "a.lock/b", ".a", "a/.b", "@", "a@{1}", "HEAD", "a\u{7f}",
        "a\nb",
    ] {
        check(text, false);
    }
}
