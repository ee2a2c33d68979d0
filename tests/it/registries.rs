//! Registries as they are: what answers where an endpoint is missing, token servers, challenges, and registries that send the
//! gate to places that are not theirs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use promotion_gate::oci::{
    Attached, Client, ClientOptions, CredentialEntry, ErrorKind, IgnoredCredential, Reference,
    Registry as _, RegistryError, RegistryOptions, Repository, Secret, Via,
};
use promotion_gate_core::gate::Digest;
use serde_json::json;

use crate::oci::{INDEX, absent, app, entry, given, index, manifest, options, tag};
use crate::server::{Reply, Seen, Server};

fn client() -> Client {
    Client::new(options()).unwrap()
}

fn image() -> Digest {
    Digest::sha256(b"image")
}

async fn attached(server: &Server) -> Attached {
    client().attached(&app(server), &image()).await
}

fn page() -> Reply {
    Reply::new(
        200,
        "text/html; charset=utf-8",
        "<!doctype html><title>Sign in</title>",
    )
}

fn is_referrers(seen: &Seen) -> bool {
    seen.path.contains("/referrers/")
}

/// A registry without a referrers API, whose fallback tag lists one manifest.
fn with_fallback(seen: &Seen) -> Reply {
    match seen.path.rsplit_once("/manifests/") {
        Some((_, tag)) if tag.starts_with("sha256-") && !tag.contains('.') => {
            Reply::new(200, INDEX, index(&[entry("signature")]))
        }
        _ => absent(),
    }
}

#[tokio::test]
async fn a_rate_limited_redirect_of_referrers_is_no_endpoint() {
    // As ghcr.io does.
    for status in [429, 403, 401, 503] {
        let site = Server::start(move |_| Reply::status(status)).await;
        let page = format!(
            "{}/-/v2/packages/container/package/team%2Fapp%2Freferrers%2Fsha256",
            site.url()
        );
        let server = Server::start(move |seen| match is_referrers(seen) {
            true => Reply::status(303).with("location", page.clone()),
            false => with_fallback(seen),
        })
        .await;
        let found = attached(&server).await;
        assert!(
            found.unavailability.is_empty(),
            "{:?}",
            found.unavailability
        );
        assert_eq!(found.unsupported.len(), 1);
        assert_eq!(found.listing.len(), 1);
    }
}

#[tokio::test]
async fn a_web_page_in_place_of_referrers_is_no_endpoint() {
    let login = Reply::status(302).with("location", "/login?next=x");
    for odd in [
        page(),
        login,
        Reply::new(403, "text/html", "<html>blocked</html>"),
    ] {
        let server = Server::start(move |seen| match is_referrers(seen) {
            true => odd.clone(),
            false if seen.path.starts_with("/login") => page(),
            false => with_fallback(seen),
        })
        .await;
        let found = attached(&server).await;
        assert!(
            found.unavailability.is_empty(),
            "{:?}",
            found.unavailability
        );
        assert_eq!((found.unsupported.len(), found.listing.len()), (1, 1));
    }
}

#[tokio::test]
async fn a_web_page_where_referrers_were_listed_before_is_trouble() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let server = Server::start(move |seen| match is_referrers(seen) {
        true if down.load(Ordering::Relaxed) => page(),
        true => Reply::new(200, INDEX, index(&[entry("rejection")])),
        false => with_fallback(seen),
    })
    .await;
    let client = client();
    let before = client.attached(&app(&server), &image()).await;
    assert_eq!(before.unavailability.len(), 0);
    is_down.store(true, Ordering::Relaxed);
    let after = client.attached(&app(&server), &image()).await;
    assert_eq!(
        (after.unsupported.len(), after.unavailability.len()),
        (0, 1)
    );
}

#[tokio::test]
async fn a_web_page_in_place_of_absent_tags_hides_no_referrer() {
    for odd in [
        page(),
        Reply::new(200, "text/plain", "OK"),
        Reply::new(200, "text/plain", "[]"),
    ] {
        let server = Server::start(move |seen| match is_referrers(seen) {
            true => Reply::new(200, INDEX, index(&[entry("signature")])),
            false => odd.clone(),
        })
        .await;
        let found = attached(&server).await;
        assert!(
            found.unavailability.is_empty() && found.cut.is_none(),
            "{found:?}"
        );
        assert_eq!((found.unsupported.len(), found.listing.len()), (3, 1));
    }
}

#[tokio::test]
async fn a_sign_in_at_another_site_that_finds_nothing_is_no_absence() {
    let site = Server::start(|_| Reply::status(404)).await;
    let to = format!("{}/sign-in", site.url());
    let server = Server::start(move |_| Reply::status(302).with("location", to.clone())).await;
    let found = attached(&server).await;
    assert_eq!(found.unavailability.len(), 4, "{found:?}");
}

#[tokio::test]
async fn a_login_page_before_a_registry_is_no_absence() {
    let server = Server::start(|_| page()).await;
    let found = attached(&server).await;
    assert_eq!(
        (found.unsupported.len(), found.unavailability.len()),
        (0, 4)
    );
    assert!(
        found
            .unavailability
            .iter()
            .all(RegistryError::is_infrastructure)
    );
    let error = client()
        .resolve(&app(&server), &tag("v1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("a web page"), "{error}");
    let error = client()
        .manifest(&app(&server), &image())
        .await
        .unwrap_err();
    assert!(error.is_infrastructure(), "{error}");
}

#[tokio::test]
async fn a_registry_that_refuses_absent_tags_may_have_them() {
    // As Artifactory does.
    let refused = r#"{"errors":[{"code":"UNAUTHORIZED","message":"The client does not have permission for manifest"}]}"#;
    let server = Server::start(move |seen| match seen.path.ends_with(".sig") {
        true => given(&manifest("signatures")),
        false if is_referrers(seen) => absent(),
        false => Reply::new(403, "application/json", refused),
    })
    .await;
    let found = attached(&server).await;
    assert_eq!(found.listing.len(), 1);
    assert_eq!(found.unavailability.len(), 2);
    assert!(found.unsupported.is_empty());
    let text = found.unavailability[0].to_string();
    assert!(
        text.contains("UNAUTHORIZED: The client does not have permission"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_referrers_look_up_is_not_taken_for_an_empty_one() {
    let challenge = "Bearer realm=\"/nowhere\"";
    for refused in [
        // As Harbor did before 2.8: without a challenge.
        Reply::new(
            401,
            "application/json",
            r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
        ),
        Reply::status(401).with("www-authenticate", challenge),
        Reply::status(403),
        Reply::status(429),
        Reply::status(503),
        Reply::new(502, "text/html", "<html>Bad Gateway</html>"),
        Reply::new(200, "application/json", "{}"),
        Reply::new(200, "application/json", r#"{"errors":[{"code":"DENIED"}]}"#),
    ] {
        let said = format!("{refused:?}");
        let server = Server::start(move |seen| match is_referrers(seen) {
            true => refused.clone(),
            false => with_fallback(seen),
        })
        .await;
        let found = attached(&server).await;
        assert_eq!(found.unavailability.len(), 1, "{said}");
        assert_eq!(found.listing.len(), 1, "{said}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_registry_is_followed() {
    // As registry.k8s.io does.
    let region = Server::start(|seen| match is_referrers(seen) {
        true => Reply::status(429),
        false => with_fallback(seen),
    })
    .await;
    let url = region.url();
    let server = Server::start(move |seen| {
        Reply::status(307).with("location", format!("{url}{}", seen.path))
    })
    .await;
    let found = attached(&server).await;
    assert_eq!(found.listing.len(), 1);
    assert_eq!(
        (found.unavailability.len(), found.unsupported.len()),
        (1, 0)
    );
    assert_eq!(found.unavailability[0].kind(), ErrorKind::RateLimited);
}

#[tokio::test]
async fn an_image_under_a_referrers_tag_is_no_listing() {
    // As GitLab's registry does: it takes `sha256-HEX` for the digest.
    let bytes = index(&[entry("linux/amd64")]);
    let digest = Digest::sha256(&bytes);
    let hex = digest.hex().to_owned();
    let server = Server::start(
        move |seen| match seen.path.ends_with(&format!("sha256-{hex}")) {
            true => Reply::new(200, INDEX, bytes.clone()),
            false => absent(),
        },
    )
    .await;
    let found = client().attached(&app(&server), &digest).await;
    assert!(found.listing.is_empty() && found.unavailability.is_empty() && found.cut.is_none());
}

fn password() -> Secret {
    Secret::Password {
        username: "robot".to_owned(),
        password: "hunter2".to_owned(),
    }
}

fn with_credential(registry: &str, secret: Secret) -> ClientOptions {
    ClientOptions {
        credentials: vec![CredentialEntry {
            registry: registry.to_owned(),
            repository: None,
            secret,
            source: "`auths.r` in `/etc/config.json`".to_owned(),
        }],
        ..options()
    }
}

/// A registry that takes the token `t1` after these challenges, in which `URL` stands for its own; and a token server that
/// answers with `token`.
async fn challenging(challenges: &'static [&'static str], token: &'static str) -> Server {
    let own: &'static Mutex<String> = Box::leak(Box::default());
    let reply = given(&manifest("a"));
    let server = Server::start(move |seen: &Seen| {
        if seen.path.starts_with("/token") {
            return Reply::new(200, "application/json", token);
        }
        match seen.headers.get("authorization").map(String::as_str) {
            Some("Bearer t1") => reply.clone(),
            _ => challenges
                .iter()
                .fold(Reply::status(401), |reply, challenge| {
                    reply.with(
                        "www-authenticate",
                        challenge.replace("URL", &own.lock().unwrap()),
                    )
                }),
        }
    })
    .await;
    *own.lock().unwrap() = server.url();
    server
}

#[tokio::test]
async fn basic_beside_bearer_without_credentials_is_passed_over() {
    for challenges in [
        &[
            "Basic realm=\"Registry\"",
            "Bearer realm=\"URL/token\",service=\"r\"",
        ][..],
        &["Basic realm=\"a, b\", Bearer realm=\"URL/token\",service=\"r\""],
        &["BASIC realm=\"Registry\", BEARER Realm=\"URL/token\""],
        &["Negotiate", "NTLM", "bearer realm=\"URL/token\"", "Basic"],
        &["Bearer realm=\"not a url\"", "Bearer realm=\"URL/token\""],
    ] {
        let server = challenging(challenges, r#"{"token":"t1"}"#).await;
        let found = client().resolve(&app(&server), &tag("v1")).await;
        assert!(found.is_ok(), "{challenges:?}: {found:?}");
    }
}

#[tokio::test]
async fn the_next_challenge_is_tried_where_one_is_refused() {
    let server = challenging(
        &["Basic realm=\"Registry\", Bearer realm=\"URL/token\""],
        r#"{"token":"t1"}"#,
    )
    .await;
    let client = Client::new(with_credential(&server.host(), password())).unwrap();
    client.resolve(&app(&server), &tag("v1")).await.unwrap();
    let seen = server.seen();
    let shown = |seen: &Seen| {
        seen.headers
            .get("authorization")
            .cloned()
            .unwrap_or_default()
    };
    let shown: Vec<_> = seen.iter().map(shown).collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(shown[1].starts_with("Basic ") && shown[2].starts_with("Basic "));
    assert_eq!(shown[3], "Bearer t1");
}

#[tokio::test]
async fn challenges_without_end_are_answered_a_few_times() {
    let server = Server::start(|_| {
        Reply::status(401).with(
            "www-authenticate",
            "Basic realm=\"x\", ".repeat(60).trim_end_matches(", "),
        )
    })
    .await;
    let client = Client::new(with_credential(&server.host(), password())).unwrap();
    client.resolve(&app(&server), &tag("v1")).await.unwrap_err();
    assert!(server.seen().len() <= 9, "{}", server.seen().len());
}

#[tokio::test]
async fn a_token_servers_odd_answer_is_taken_for_what_it_means() {
    for token in [
        r#"{"token":"t1","expires_in":0}"#,
        r#"{"token":"t1","expires_in":-1}"#,
        r#"{"token":"t1","expires_in":299.5}"#,
        r#"{"token":"t1","expires_in":"300"}"#,
        r#"{"token":"t1","expires_in":"soon","issued_at":12}"#,
        r#"{"token":"t1","expires_in":99999999999999999999}"#,
        r#"{"token":"t1","expires_in":1e300}"#,
        r#"{"token":"t1","expires_in":null,"issued_at":"yesterday"}"#,
        r#"{"access_token":"t1"}"#,
        r#"{"token":"","access_token":"t1"}"#,
        r#"{"token":"t1","access_token":""}"#,
        r#"{"token":null,"access_token":"t1","refresh_token":{}}"#,
    ] {
        let server = challenging(&["Bearer realm=\"URL/token\""], token).await;
        let found = client().resolve(&app(&server), &tag("v1")).await;
        assert!(found.is_ok(), "{token}: {found:?}");
    }
}

async fn refused(options: ClientOptions, server: &Server) -> RegistryError {
    let client = Client::new(options).unwrap();
    client.resolve(&app(server), &tag("v1")).await.unwrap_err()
}

#[tokio::test]
async fn a_401_says_which_credential_was_sent_and_ignored() {
    let server =
        Server::start(|_| Reply::status(401).with("www-authenticate", "Basic realm=\"x\"")).await;
    let sent = refused(with_credential(&server.host(), password()), &server)
        .await
        .to_string();
    assert!(
        sent.contains("with the credential of `auths.r` in `/etc/config.json`"),
        "{sent}"
    );
    let other = ClientOptions {
        ignored_credentials: vec![IgnoredCredential {
            registry: Some(server.host()),
            why: "`credHelpers.x` is ignored".to_owned(),
        }],
        ..with_credential("quay.io", password())
    };
    let none = refused(other, &server).await.to_string();
    for part in [
        "without a credential",
        "there are some for `quay.io`",
        "`credHelpers.x` is ignored",
    ] {
        assert!(none.contains(part), "{none}");
    }
    assert!(
        !none.contains("/etc/config.json") && !sent.contains("hunter2"),
        "{none} {sent}"
    );
    let unusable = Secret::RefreshToken("hunter2".to_owned());
    let unused = refused(with_credential(&server.host(), unusable), &server)
        .await
        .to_string();
    assert!(unused.contains("was not sent"), "{unused}");
}

#[tokio::test]
async fn a_403_of_the_token_server_says_whether_a_credential_was_sent() {
    let own: &'static Mutex<String> = Box::leak(Box::default());
    let server = Server::start(|seen| match seen.path.starts_with("/token") {
        true => Reply::new(
            403,
            "application/json",
            r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
        ),
        false => Reply::status(401).with(
            "www-authenticate",
            format!("Bearer realm=\"{}/token\"", own.lock().unwrap()),
        ),
    })
    .await;
    *own.lock().unwrap() = server.url();
    let error = refused(options(), &server).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    let text = error.to_string();
    assert!(
        text.contains("DENIED: no; it was asked without a credential"),
        "{text}"
    );
}

#[tokio::test]
async fn an_error_quotes_a_short_printable_piece_of_an_answer() {
    let hostile = format!("\u{1b}[31m\u{202e}{}", "x\r\n".repeat(5000));
    let json = json!({"errors": [{"code": hostile, "message": hostile}]}).to_string();
    let path = format!("/{}?secret=hunter2", "y".repeat(5000));
    let mut replies = vec![
        Reply::new(403, "text/plain", hostile.clone()),
        Reply::new(403, "application/json", json.clone()),
        Reply::new(200, "application/json", json),
        Reply::status(302).with("location", path),
        Reply::status(302).with("location", "http://user:hunter2@[::1"),
        Reply::status(302).with(
            "location",
            "https://user:hunter2@127.0.0.1:1/?token=hunter2",
        ),
    ];
    for digest in ["sha256:\t\t", &"z".repeat(9000)] {
        replies.push(given(&manifest("a")).with("docker-content-digest", digest));
    }
    for reply in replies {
        let shown = format!("{:.80?}", reply);
        let server = Server::start(move |_| reply.clone()).await;
        let text = match client().resolve(&app(&server), &tag("v1")).await {
            Ok(found) => found.media_type,
            Err(error) => error.to_string(),
        };
        assert!(text.chars().count() <= 920, "{shown}: {}", text.len());
        assert!(!text.contains("hunter2"), "{shown}: {text}");
        let odd = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!text.contains(odd), "{shown}: {text:?}");
    }
}

/// A client for the registry `registry.example`, which the operator names; it and other names lead to loopback.
fn elsewhere(server: &Server) -> (Client, Repository) {
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    let host = format!("registry.example:{port}");
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let names = ["registry.example", "rebound.example", "kind.localhost"];
    let options = ClientOptions {
        registries: vec![RegistryOptions {
            host: host.clone(),
            plain_http: true,
            ..RegistryOptions::default()
        }],
        hosts: names.map(|name| (name.to_owned(), vec![loopback])).into(),
        ..options()
    };
    let client = Client::new(options).unwrap();
    (client, Repository::new(host, "team/app"))
}

/// Places where no registry sends anybody, beside a port.
const INWARD: [&str; 14] = [
    "127.0.0.1",
    "localhost",
    "kind.localhost",
    "rebound.example",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "metadata.google.internal",
];

#[tokio::test]
async fn a_redirect_to_loopback_or_metadata_is_not_followed() {
    let inside = Server::start(|_| given(&manifest("secret"))).await;
    let port = inside.host().rsplit_once(':').unwrap().1.to_owned();
    for host in INWARD {
        let to = format!("http://{host}:{port}/v2/team/app/manifests/v1");
        let server = Server::start(move |_| Reply::status(307).with("location", to.clone())).await;
        let (client, repository) = elsewhere(&server);
        let error = client.resolve(&repository, &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{host}: {error}");
        assert!(error.to_string().contains("under `registries`"), "{error}");
    }
    assert!(inside.seen().is_empty(), "{:?}", inside.seen());
}

#[tokio::test]
async fn a_token_server_on_loopback_or_metadata_is_not_asked() {
    let inside = Server::start(|_| Reply::new(200, "application/json", r#"{"token":"t"}"#)).await;
    let port = inside.host().rsplit_once(':').unwrap().1.to_owned();
    for host in INWARD {
        let challenge = format!("Bearer realm=\"http://{host}:{port}/token\"");
        let server =
            Server::start(move |_| Reply::status(401).with("www-authenticate", challenge.clone()))
                .await;
        let (client, repository) = elsewhere(&server);
        let error = client.resolve(&repository, &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{host}: {error}");
    }
    assert!(inside.seen().is_empty(), "{:?}", inside.seen());
}

#[tokio::test]
async fn a_link_local_or_metadata_registry_is_not_asked() {
    for host in [
        "169.254.169.254",
        "169.254.1.1:5000",
        "[fe80::1]:5000",
        "[::ffff:169.254.169.254]",
        "0.0.0.0:5000",
        "100.100.100.200",
        "metadata.google.internal",
    ] {
        let repository = Repository::new(host, "team/app");
        let error = client().resolve(&repository, &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{host}: {error}");
    }
}

fn options_for(host: &str, loopback: bool) -> ClientOptions {
    ClientOptions {
        registries: vec![RegistryOptions {
            host: host.to_owned(),
            plain_http: true,
            ..RegistryOptions::default()
        }],
        loopback,
        ..options()
    }
}

#[tokio::test]
async fn a_loopback_registry_is_asked_only_where_allowed() {
    let server = Server::start(|_| given(&manifest("a"))).await;
    let asked = async |options: ClientOptions| {
        let client = Client::new(options).unwrap();
        let found = client.resolve(&app(&server), &tag("v1")).await;
        found.map(|_| ()).map_err(|error| error.kind())
    };
    let without = |loopback| ClientOptions {
        loopback,
        ..options()
    };
    assert_eq!(asked(without(true)).await, Ok(()));
    assert_eq!(asked(without(false)).await, Err(ErrorKind::Denied));
    assert_eq!(asked(options_for(&server.host(), false)).await, Ok(()));
    assert_eq!(asked(options_for("127.0.0.1:*", false)).await, Ok(()));
    let on_port_80 = Client::new(options_for("127.0.0.1:80", false)).unwrap();
    let image = Repository::new("127.0.0.1:80", "team/app");
    let error = on_port_80.resolve(&image, &tag("v1")).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Denied, "{error}");
    // Somebody else may choose the name that a pattern matches.
    assert_eq!(
        asked(options_for("127.*.0.1:*", false)).await,
        Err(ErrorKind::Denied)
    );
}

#[tokio::test]
async fn a_name_that_a_pattern_matches_does_not_lead_to_loopback() {
    let server = Server::start(|_| given(&manifest("a"))).await;
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let asked = async |pattern: String| {
        let options = ClientOptions {
            hosts: BTreeMap::from([("evil.example".to_owned(), vec![loopback])]),
            ..options_for(&pattern, true)
        };
        let repository = Repository::new(format!("evil.example:{port}"), "team/app");
        let client = Client::new(options).unwrap();
        client.resolve(&repository, &tag("v1")).await
    };
    assert_eq!(
        asked(format!("*.example:{port}")).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert!(asked(format!("evil.example:{port}")).await.is_ok());
}

#[tokio::test]
async fn a_registry_on_loopback_may_send_to_loopback() {
    let tokens = challenging(&["Bearer realm=\"URL/token\""], r#"{"token":"t1"}"#).await;
    let store = Server::start(|_| given(&manifest("a"))).await;
    let to = format!("{}/v2/team/app/manifests/v1", store.url());
    let server = Server::start(move |_| Reply::status(307).with("location", to.clone())).await;
    client().resolve(&app(&server), &tag("v1")).await.unwrap();
    client()
        .resolve(&app(&tokens), &Reference::Tag("v1".to_owned()))
        .await
        .unwrap();
    let found = attached(&tokens).await;
    assert!(found.listing.iter().any(|item| item.via == Via::SigTag));
}
