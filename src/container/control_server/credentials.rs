//! The container's side of the credential helper: answers with tokens of the newest config.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::town_config::TownConfigSlot;
use crate::config::ResolvedTownConfig;
use crate::container::credential_helper::{QUESTION_BYTES_MAX, Question};
use crate::lifecycle::Lifecycle;

/// git asks on this machine and at once.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// Answers until the process ends.
pub(super) async fn answer_all(
    listener: &UnixListener,
    town: &TownConfigSlot,
    lifecycle: &Lifecycle,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files: those who ask now try again or fail with git's own words.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let town = town.clone();
        lifecycle.spawn_detached("answer a credential question", async move {
            // One that is too slow or goes away gets no credential.
            let _ = tokio::time::timeout(QUESTION_TIME_MAX, answer(stream, &town)).await;
        });
    }
}

async fn answer(mut stream: UnixStream, town: &TownConfigSlot) -> std::io::Result<()> {
    let mut text = Vec::new();
    (&mut stream)
        .take(QUESTION_BYTES_MAX)
        .read_to_end(&mut text)
        .await?;
    let question = Question::parse(&String::from_utf8_lossy(&text));
    let credential = town
        .newest()
        .and_then(|config| credential(&question, &config));
    if let Some((user, token)) = credential {
        let answer = format!("username={user}\npassword={token}\n");
        stream.write_all(answer.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// The user and token for a host, if the town has one. Never over an open connection.
fn credential(question: &Question, config: &ResolvedTownConfig) -> Option<(&'static str, String)> {
    if question.protocol != "https" {
        return None;
    }
    let auth = &config.git_auth;
    // A host and, where there is one, its port.
    match question.host.as_str() {
        "github.com" => Some(("x-access-token", auth.github_token.clone()?)),
        "gitlab.com" => Some(("oauth2", auth.gitlab_token.clone()?)),
        host => {
            let instance = auth
                .gitlab_instance_url
                .as_deref()?
                .strip_prefix("https://")?;
            let own = instance.split('/').next()?;
            (own.eq_ignore_ascii_case(host)).then_some(())?;
            Some(("oauth2", auth.gitlab_token.clone()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_go_to_their_hosts_only() {
        let config: ResolvedTownConfig = serde_json::from_value(json!({
            "default_model": "m", "gastown_api_url": "u",
            "git_auth": {"github_token": "gh", "gitlab_token": "gl",
                "gitlab_instance_url": "https://git.example.org:8443/sub"}
        }))
        .unwrap();
        let check = |protocol: &str, host: &str, expected: Option<(&'static str, &str)>| {
            let question = Question {
                protocol: protocol.to_owned(),
                host: host.to_owned(),
            };
            let found = credential(&question, &config);
            assert_eq!(
                found,
                expected.map(|(user, token)| (user, token.to_owned())),
                "{host}"
            );
        };
        check("https", "github.com", Some(("x-access-token", "gh")));
        check("https", "gitlab.com", Some(("oauth2", "gl")));
        check("https", "git.example.org:8443", Some(("oauth2", "gl")));
        check("https", "git.example.org", None);
        check("http", "github.com", None);
        check("https", "github.com.evil.org", None);
        check("https", "evil.org", None);
    }
}
