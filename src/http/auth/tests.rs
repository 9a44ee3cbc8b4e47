use std::os::unix::fs::PermissionsExt;

use hyper::header::HeaderName;

use super::*;
use crate::model::{AgentStatus, Dispatch};

fn agent() -> Agent {
    Agent {
        agent_id: AgentId::random(),
        seq: 0,
        rig_id: Some(RigId::random()),
        role: AgentRole::Polecat,
        name: "Toast".to_owned(),
        identity: "t".to_owned(),
        status: AgentStatus::Idle,
        hook: None,
        dispatch: Dispatch::default(),
        last_activity_at: None,
        checkpoint: None,
        created_at: Timestamp::default(),
    }
}

fn headers(pairs: &[(HeaderName, String)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), value.parse().unwrap()))
        .collect()
}

#[test]
fn the_first_start_makes_secrets_that_only_the_server_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::load(dir.path(), false).unwrap();
    let token = first.new_admin_token().unwrap().to_owned();
    for file in [ADMIN_TOKEN_FILE, SIGNING_KEY_FILE] {
        let mode = fs::metadata(dir.path().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let second = Authority::load(dir.path(), false).unwrap();
    assert_eq!(second.new_admin_token(), None);
    let bearer = headers(&[(AUTHORIZATION, format!("Bearer {token}"))]);
    assert_eq!(second.identify(&bearer), Some(Principal::Admin));
}

#[test]
fn credentials_of_every_kind_and_their_forgeries() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load(dir.path(), false).unwrap();
    let admin = authority.new_admin_token().unwrap();
    let (agent, town_id) = (agent(), TownId::random());
    let agent_token = authority.agent_token(town_id, &agent);
    let claims = AgentClaims {
        agent_id: agent.agent_id,
        town_id,
        rig_id: agent.rig_id,
        role: AgentRole::Polecat,
    };
    let soon = Clock::now();
    let cookie = authority.login_cookie(admin, soon, false).unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let long_ago = authority
        .login_cookie(admin, Timestamp::from_millis(0), false)
        .unwrap();
    let long_ago = long_ago.split(';').next().unwrap().to_owned();
    let session = cookie.split_once('=').unwrap().1.to_owned();
    let host = (HOST, "h:1".to_owned());
    let origin = |value: &str| (ORIGIN, value.to_owned());
    let bearer = |token: &str| (AUTHORIZATION, format!("Bearer {token}"));
    let admin_too = Some(Principal::Admin);
    let cases = [
        (vec![], None),
        (vec![bearer(admin)], admin_too.clone()),
        (
            vec![(AUTHORIZATION, format!("bearer  {admin}"))],
            admin_too.clone(),
        ),
        (vec![bearer(&admin[1..])], None),
        (vec![bearer("")], None),
        (vec![(AUTHORIZATION, admin.to_owned())], None),
        (
            vec![bearer(&agent_token)],
            Some(Principal::Agent(claims.clone())),
        ),
        (vec![bearer(&agent_token[..agent_token.len() - 2])], None),
        (vec![bearer(&session)], None),
        (
            vec![(
                SEC_WEBSOCKET_PROTOCOL,
                format!("gastown.v1, gastown.bearer.{admin}"),
            )],
            admin_too.clone(),
        ),
        (
            vec![(
                SEC_WEBSOCKET_PROTOCOL,
                "gastown.v1, gastown.bearer.x".to_owned(),
            )],
            None,
        ),
        (vec![(COOKIE, format!("a=b; {cookie}"))], admin_too.clone()),
        (vec![(COOKIE, long_ago)], None),
        (vec![(COOKIE, format!("{COOKIE_NAME}={agent_token}"))], None),
        (
            vec![(COOKIE, cookie.clone()), host.clone(), origin("http://h:1")],
            admin_too.clone(),
        ),
        (
            vec![
                (COOKIE, cookie.clone()),
                host.clone(),
                origin("http://evil"),
            ],
            None,
        ),
        (vec![(COOKIE, cookie), host.clone(), origin("null")], None),
    ];
    for (pairs, expected) in cases {
        assert_eq!(authority.identify(&headers(&pairs)), expected, "{pairs:?}");
    }
    assert_eq!(authority.login_cookie("wrong", soon, false), None);

    let open = Authority::load(dir.path(), true).unwrap();
    assert_eq!(open.identify(&HeaderMap::new()), admin_too);
    let by_name = [
        ("localhost", true),
        ("LOCALHOST:8787", true),
        ("app.localhost:1", true),
        ("127.0.0.1:8787", true),
        ("127.1.2.3", true),
        ("[::1]:8787", true),
        ("[::1]", true),
        ("evil.example:8787", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("192.168.1.2:8787", false),
        ("[2001:db8::1]:8787", false),
        ("", false),
    ];
    for (name, is_trusted) in by_name {
        let found = open.identify(&headers(&[(HOST, name.to_owned())]));
        assert_eq!(found.is_some(), is_trusted, "{name}");
        let named = [(HOST, name.to_owned()), bearer(admin)];
        assert_eq!(authority.identify(&headers(&named)), admin_too, "{name}");
    }
    let local = (HOST, "127.0.0.1:1".to_owned());
    for (from, is_trusted) in [("http://127.0.0.1:1", true), ("http://evil", false)] {
        let found = open.identify(&headers(&[local.clone(), origin(from)]));
        assert_eq!(found.is_some(), is_trusted, "{from}");
    }
}

struct Clock;

impl Clock {
    fn now() -> Timestamp {
        crate::clock::Clock::system().now()
    }
}
