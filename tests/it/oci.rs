//! The registry client against registries of every kind, hostile ones among them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate::metrics::Metrics;
use promotion_gate::oci::{
    Client, ClientOptions, CredentialEntry, Descriptor, ErrorKind, Limits, ManifestKind, Reference,
    Registry as _, RegistryOptions, Repository, Secret, Timeouts, Via, metered,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::server::{Manner, Reply, Seen, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn manifest(content: &str) -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(b"{}").to_string(), "size": 2},
        "layers": [],
        "annotations": {"content": content},
    })
    .to_string()
    .into_bytes()
}

pub(crate) fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        .to_string()
        .into_bytes()
}

pub(crate) fn entry(content: &str) -> Value {
    json!({"mediaType": MANIFEST, "digest": Digest::sha256(content.as_bytes()).to_string(), "size": 10})
}

/// A manifest as a sound registry gives it.
pub(crate) fn given(bytes: &[u8]) -> Reply {
    Reply::new(200, MANIFEST, bytes)
        .with("docker-content-digest", Digest::sha256(bytes).to_string())
}

pub(crate) fn absent() -> Reply {
    Reply::new(
        404,
        "application/json",
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
    )
}

pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        timeouts: Timeouts {
            connect: Duration::from_millis(500),
            request: Duration::from_millis(600),
            total: Duration::from_millis(1500),
        },
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options()).unwrap()
}

fn with_password(server: &Server, repository: Option<&str>) -> Client {
    let entry = CredentialEntry {
        registry: server.host(),
        repository: repository.map(str::to_owned),
        secret: Secret::Password {
            username: "robot".to_owned(),
            password: "secret".to_owned(),
        },
        source: "a test".to_owned(),
    };
    Client::new(ClientOptions {
        credentials: vec![entry],
        ..options()
    })
    .unwrap()
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode("robot:secret"))
}

pub(crate) fn app(server: &Server) -> Repository {
    Repository::new(server.host(), "team/app")
}

pub(crate) fn tag(name: &str) -> Reference {
    Reference::Tag(name.to_owned())
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "text/plain".to_owned(),
        digest: Digest::sha256(content),
        size: content.len().try_into().unwrap(),
        artifact_type: None,
        annotations: BTreeMap::new(),
        platform: None,
    }
}

#[tokio::test]
async fn a_tag_is_resolved_by_one_head() {
    let bytes = manifest("a");
    let reply = given(&bytes);
    let server = Server::start(move |_| reply.clone()).await;
    let found = client().resolve(&app(&server), &tag("v1")).await.unwrap();
    assert_eq!(found.digest, Digest::sha256(&bytes));
    assert_eq!(server.asked(), ["HEAD /v2/team/app/manifests/v1"]);
}

#[tokio::test]
async fn a_tag_is_resolved_by_get_where_head_says_nothing() {
    for without in [Reply::status(405), Reply::new(200, MANIFEST, "")] {
        let bytes = manifest("a");
        let reply = Reply::new(200, MANIFEST, bytes.clone());
        let server = Server::start(move |seen| match seen.method.as_str() {
            "HEAD" => without.clone(),
            _ => reply.clone(),
        })
        .await;
        let found = client().resolve(&app(&server), &tag("v1")).await.unwrap();
        assert_eq!(found.digest, Digest::sha256(&bytes));
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_names_is_refused() {
    let asked = Digest::sha256(&manifest("good"));
    let bad = manifest("bad");
    let honest_header =
        Reply::new(200, MANIFEST, bad).with("docker-content-digest", asked.to_string());
    let server = Server::start(move |_| honest_header.clone()).await;
    let error = client().manifest(&app(&server), &asked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[tokio::test]
async fn a_digest_answered_with_another_one_is_refused() {
    let reply = given(&manifest("other"));
    let server = Server::start(move |_| reply.clone()).await;
    let asked = Reference::Digest(Digest::sha256(b"asked"));
    let error = client().resolve(&app(&server), &asked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[tokio::test]
async fn a_blob_is_verified_and_bounded() {
    let server = Server::start(|_| Reply::new(200, "text/plain", "content")).await;
    let client = client();
    let read = client
        .blob(&app(&server), &blob(b"content"), 100)
        .await
        .unwrap();
    assert_eq!(&read[..], b"content");
    let error = client
        .blob(&app(&server), &blob(b"CONTENT"), 100)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
    let error = client
        .blob(&app(&server), &blob(b"content"), 3)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = client
        .blob(&app(&server), &blob(b"cont"), 100)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn answers_take_room_for_as_long_as_somebody_holds_them() {
    let content = vec![7; 40 << 10];
    let server = Server::start({
        let content = content.clone();
        move |_| Reply::new(200, "text/plain", content.clone())
    })
    .await;
    let options = ClientOptions {
        limits: Limits {
            held_bytes: 96 << 10,
            ..Limits::default()
        },
        ..ClientOptions::default()
    };
    let client = Client::new(options).unwrap();
    let (app, blob) = (app(&server), blob(&content));
    let read = || client.blob(&app, &blob, 1 << 20);
    let held = read().await.unwrap();
    let error = read().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("at this moment"), "{error}");
    drop(held);
    assert_eq!(read().await.unwrap(), content);
}

#[tokio::test]
async fn answers_that_one_review_holds_leave_room_for_others() {
    let content = vec![7; 20 << 10];
    let answer = {
        let content = content.clone();
        move |_: &_| Reply::new(200, "text/plain", content.clone())
    };
    let (hostile, sound) = (
        Server::start(answer.clone()).await,
        Server::start(answer).await,
    );
    let options = ClientOptions {
        limits: Limits {
            held_bytes: 128 << 10,
            ..Limits::default()
        },
        ..ClientOptions::default()
    };
    let client = Client::new(options).unwrap();
    let blob = blob(&content);
    let all_it_can = async {
        let mut held = Vec::new();
        while let Ok(more) = client.blob(&app(&hostile), &blob, 1 << 20).await {
            held.push(more);
        }
        held
    };
    let (held, _) = metered(all_it_can).await;
    assert_eq!(held.len(), 3);
    let (read, _) = metered(client.blob(&app(&sound), &blob, 1 << 20)).await;
    assert_eq!(read.unwrap(), content);
}

#[tokio::test]
async fn unanswered_requests_leave_connections_for_other_reviews() {
    let silent = |_: &_| Reply::status(200).coming(Manner::Silent);
    let mut hostile = Vec::new();
    for _ in 0..12 {
        hostile.push(Arc::new(Server::start(silent).await));
    }
    let sound = Server::start(|_| given(&manifest("a"))).await;
    let limits = Limits {
        requests: 8,
        ..Limits::default()
    };
    let client = Client::new(ClientOptions {
        limits,
        ..ClientOptions::default()
    });
    let client = Arc::new(client.unwrap());
    let stuck = {
        let (client, hostile) = (Arc::clone(&client), hostile.clone());
        tokio::spawn(metered(async move {
            let digest = Digest::sha256(b"never");
            let ask = |server: &Arc<Server>| {
                let (client, app) = (Arc::clone(&client), app(server));
                let digest = digest.clone();
                async move { client.manifest(&app, &digest).await.is_err() }
            };
            futures::future::join_all(hostile.iter().map(ask)).await
        }))
    };
    let arrived = || {
        hostile
            .iter()
            .map(|server| server.seen().len())
            .sum::<usize>()
    };
    while arrived() < 4 {
        tokio::task::yield_now().await;
    }
    let digest = Digest::sha256(&manifest("a"));
    let (read, _) = metered(client.manifest(&app(&sound), &digest)).await;
    assert_eq!(read.unwrap().digest, digest);
    assert_eq!(arrived(), 4, "half of the connections are left");
    stuck.abort();
}

#[tokio::test]
async fn a_manifest_with_too_many_fields_is_refused() {
    let fields = (0..100_001)
        .map(|n| format!("\"{n}\":0,"))
        .collect::<String>();
    let bytes = format!("{{{fields}\"schemaVersion\":2}}").into_bytes();
    let digest = Digest::sha256(&bytes);
    let reply = given(&bytes);
    let server = Server::start(move |_| reply.clone()).await;
    let error = client().manifest(&app(&server), &digest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

#[tokio::test]
async fn answers_that_never_end_never_come_or_break_off_are_given_up() {
    let wanted = [
        (Manner::Endless, ErrorKind::TooLarge),
        (Manner::Drip, ErrorKind::TimedOut),
        (Manner::Silent, ErrorKind::TimedOut),
        (Manner::Cut, ErrorKind::Unavailable),
    ];
    for (manner, kind) in wanted {
        let server = Server::start(move |_| given(&manifest("a")).coming(manner)).await;
        let digest = Digest::sha256(&manifest("a"));
        let error = client().manifest(&app(&server), &digest).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{manner:?}: {error}");
        let found = client().attached(&app(&server), &digest).await;
        assert!(
            !found.unavailability.is_empty(),
            "{manner:?} reads as absence"
        );
    }
}

#[tokio::test]
async fn an_oversized_manifest_is_refused_before_it_is_read() {
    let server = Server::start(|_| Reply::new(200, MANIFEST, vec![b' '; (4 << 20) + 1])).await;
    let digest = Digest::sha256(b"large");
    let error = client().manifest(&app(&server), &digest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn what_is_no_manifest_is_malformed() {
    let deep = "[".repeat(100_000);
    let number =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": 7, "layers": []}).to_string();
    for body in ["", "null", "[]", "{", deep.as_str(), number.as_str()] {
        let bytes = body.as_bytes().to_vec();
        let digest = Digest::sha256(&bytes);
        let server = Server::start(move |_| given(&bytes)).await;
        let error = client().manifest(&app(&server), &digest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body:.40}");
    }
}

#[tokio::test]
async fn docker_media_types_are_understood() {
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let bytes = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": Digest::sha256(b"{}").to_string(), "size": 2},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": Digest::sha256(b"l").to_string(), "size": 1}],
    }).to_string().into_bytes();
    let digest = Digest::sha256(&bytes);
    let server = Server::start(move |_| Reply::new(200, media_type, bytes.clone())).await;
    let read = client().manifest(&app(&server), &digest).await.unwrap();
    assert!(matches!(read.kind, ManifestKind::Image { layers, .. } if layers.len() == 1));
    assert!(server.seen()[0].headers["accept"].contains(media_type));
}

#[tokio::test]
async fn absence_and_trouble_are_told_apart() {
    let server = Server::start(|_| absent()).await;
    let digest = Digest::sha256(b"image");
    let found = client().attached(&app(&server), &digest).await;
    assert!(found.unavailability.is_empty() && found.listing.is_empty() && found.cut.is_none());
    let error = client()
        .resolve(&app(&server), &tag("v1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let wanted = [
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
        (401, ErrorKind::Unauthorized),
        (403, ErrorKind::Denied),
        (429, ErrorKind::RateLimited),
    ];
    for (status, kind) in wanted {
        let server = Server::start(move |_| Reply::status(status)).await;
        let found = client().attached(&app(&server), &digest).await;
        assert_eq!(found.unavailability.len(), 4, "{status}");
        assert!(
            found
                .unavailability
                .iter()
                .all(|error| error.kind() == kind),
            "{status}: {:?}",
            found.unavailability
        );
    }
    let gone = Server::start(|_| absent()).await.host();
    let found = client()
        .attached(&Repository::new(gone, "app"), &digest)
        .await;
    assert_eq!(found.unavailability.len(), 4);

    // Metrics tell them apart too: a limited rate is no missing signature.
    let metrics = Metrics::new().text();
    for class in [
        "not-found",
        "unavailable",
        "unauthorized",
        "denied",
        "rate-limited",
    ] {
        let counted = format!("registry_errors_total{{class=\"{class}\"}}");
        assert!(metrics.contains(&counted), "{counted}");
    }
}

#[tokio::test]
async fn what_is_attached_is_the_union_of_all_places() {
    let digest = Digest::sha256(b"image");
    let base = format!("/v2/team/app/manifests/sha256-{}", digest.hex());
    let server = Server::start(move |seen| {
        let path = &seen.path;
        if path.starts_with("/v2/team/app/referrers/") {
            Reply::new(200, INDEX, index(&[entry("by api")]))
        } else if *path == base {
            Reply::new(200, INDEX, index(&[entry("by tag")]))
        } else if *path == format!("{base}.sig") {
            given(&manifest("signatures"))
        } else if *path == format!("{base}.att") {
            given(&manifest("attestations"))
        } else {
            absent()
        }
    })
    .await;
    let found = client().attached(&app(&server), &digest).await;
    assert!(found.unavailability.is_empty());
    let via: Vec<_> = found.listing.iter().map(|attached| attached.via).collect();
    assert_eq!(
        via,
        [Via::Referrers, Via::FallbackTag, Via::SigTag, Via::AttTag]
    );
    assert_eq!(server.seen().len(), 4, "{:?}", server.asked());
}

#[tokio::test]
async fn the_kind_of_a_referrer_is_a_hint_and_never_a_filter() {
    let mut listed = entry("signature");
    listed["artifactType"] = json!("application/vnd.oci.empty.v1+json");
    let server = Server::start(move |seen| match seen.path.contains("/referrers/") {
        true => Reply::new(200, INDEX, index(std::slice::from_ref(&listed))),
        false => absent(),
    })
    .await;
    let found = client()
        .attached(&app(&server), &Digest::sha256(b"image"))
        .await;
    assert_eq!(found.listing.len(), 1);
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| !seen.path.contains("artifactType"))
    );
}

#[tokio::test]
async fn a_listing_is_read_page_by_page() {
    let server = Server::start(|seen| {
        let next = |page: &str| format!("</v2/team/app/referrers/x?page={page}>; rel=\"next\"");
        match seen.path.rsplit_once("?page=") {
            Some((_, "2")) => Reply::new(200, INDEX, index(&[entry("2")])).with("link", next("3")),
            Some((_, "3")) => Reply::new(200, INDEX, index(&[entry("3")])),
            _ if seen.path.contains("/referrers/") => {
                Reply::new(200, INDEX, index(&[entry("1")])).with("link", next("2"))
            }
            _ => absent(),
        }
    })
    .await;
    let found = client()
        .attached(&app(&server), &Digest::sha256(b"image"))
        .await;
    assert_eq!(found.listing.len(), 3);
    assert!(found.cut.is_none() && found.unavailability.is_empty());
}

#[tokio::test]
async fn a_listing_without_end_is_cut_and_said() {
    let server = Server::start(|seen| match seen.path.contains("/referrers/") {
        true => Reply::new(200, INDEX, index(&[entry("again")]))
            .with("link", format!("<{}>; rel=\"next\"", seen.path)),
        false => absent(),
    })
    .await;
    let found = client()
        .attached(&app(&server), &Digest::sha256(b"image"))
        .await;
    assert!(found.cut.unwrap().contains("pages"));
    assert!(server.seen().len() < 30);

    let many: Vec<_> = (0..5000).map(|n| entry(&n.to_string())).collect();
    let server = Server::start(move |seen| match seen.path.contains("/referrers/") {
        true => Reply::new(200, INDEX, index(&many)),
        false => absent(),
    })
    .await;
    let found = client()
        .attached(&app(&server), &Digest::sha256(b"image"))
        .await;
    assert_eq!(found.listing.len(), Limits::default().listing_entries);
    assert!(found.cut.is_some());
}

#[tokio::test]
async fn a_next_page_at_another_host_is_not_followed() {
    let other = Server::start(|_| Reply::new(200, INDEX, index(&[entry("evil")]))).await;
    let link = format!("<{}/v2/team/app/referrers/x>; rel=\"next\"", other.url());
    let server = Server::start(move |seen| match seen.path.contains("/referrers/") {
        true => Reply::new(200, INDEX, index(&[entry("1")])).with("link", link.clone()),
        false => absent(),
    })
    .await;
    let found = client()
        .attached(&app(&server), &Digest::sha256(b"image"))
        .await;
    assert_eq!(found.unavailability.len(), 1);
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_listing_that_is_no_listing_hides_nothing_and_is_said() {
    let server = Server::start(|seen| match seen.path.contains("/referrers/") {
        true => Reply::new(200, INDEX, "<html>"),
        false if seen.path.ends_with(".sig") => given(&manifest("signatures")),
        false => absent(),
    })
    .await;
    let found = client()
        .attached(&app(&server), &Digest::sha256(b"image"))
        .await;
    assert_eq!(found.listing.len(), 1);
    assert!(found.unavailability.is_empty());
    assert_eq!(found.unsupported.len(), 1);
}

fn challenge(server: &str) -> Reply {
    let realm = format!("Bearer realm=\"{server}/token\",service=\"registry.example\"");
    Reply::status(401).with("www-authenticate", realm)
}

/// A registry that takes the token `t1`, and a token server on the same host.
async fn bearer(expires_in: u64) -> Server {
    let reply = given(&manifest("a"));
    let own: &'static Mutex<String> = Box::leak(Box::default());
    let server = Server::start(move |seen: &Seen| {
        if seen.path.starts_with("/token") {
            let token = json!({"token": "t1", "expires_in": expires_in});
            return Reply::new(200, "application/json", token.to_string());
        }
        match seen.headers.get("authorization").map(String::as_str) {
            Some("Bearer t1") => reply.clone(),
            _ => challenge(&own.lock().unwrap()),
        }
    })
    .await;
    *own.lock().unwrap() = server.url();
    server
}

#[tokio::test]
async fn an_anonymous_token_is_asked_for_and_kept() {
    let server = bearer(300).await;
    let client = client();
    client.resolve(&app(&server), &tag("v1")).await.unwrap();
    client.resolve(&app(&server), &tag("v2")).await.unwrap();
    let tokens: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.path.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1);
    assert!(
        tokens[0]
            .path
            .contains("scope=repository%3Ateam%2Fapp%3Apull"),
        "{}",
        tokens[0].path
    );
    assert!(tokens[0].path.contains("service=registry.example"));
    assert!(!tokens[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_token_that_ends_is_asked_for_again() {
    let server = bearer(1).await;
    let client = client();
    client.resolve(&app(&server), &tag("v1")).await.unwrap();
    client.resolve(&app(&server), &tag("v2")).await.unwrap();
    let tokens = server
        .seen()
        .iter()
        .filter(|seen| seen.path.starts_with("/token"))
        .count();
    assert_eq!(tokens, 2);
}

#[tokio::test]
async fn a_token_of_one_repository_is_never_shown_to_another() {
    let server = bearer(300).await;
    let client = client();
    client.resolve(&app(&server), &tag("v1")).await.unwrap();
    server.forget();
    client
        .resolve(&Repository::new(server.host(), "other/app"), &tag("v1"))
        .await
        .unwrap();
    let first = server.seen().into_iter().next().unwrap();
    assert!(!first.headers.contains_key("authorization"));
    assert!(
        server
            .asked()
            .iter()
            .any(|asked| asked.contains("repository%3Aother%2Fapp%3Apull"))
    );
}

#[tokio::test]
async fn a_password_goes_to_its_registry_and_nowhere_else() {
    let reply = given(&manifest("a"));
    let server = Server::start(move |seen| match seen.headers.get("authorization") {
        Some(given) if *given == basic() => reply.clone(),
        _ => Reply::status(401).with("www-authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = with_password(&server, Some("team"));
    client.resolve(&app(&server), &tag("v1")).await.unwrap();
    assert!(!server.seen()[0].headers.contains_key("authorization"));
    server.forget();
    let other = Repository::new(server.host(), "other/app");
    let error = client.resolve(&other, &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| !seen.headers.contains_key("authorization"))
    );

    let elsewhere =
        Server::start(|_| Reply::status(401).with("www-authenticate", "Basic realm=\"x\"")).await;
    client
        .resolve(&app(&elsewhere), &tag("v1"))
        .await
        .unwrap_err();
    assert!(
        elsewhere
            .seen()
            .iter()
            .all(|seen| !seen.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn credentials_do_not_cross_a_redirect_to_another_host() {
    let bytes = b"content".to_vec();
    let store = Server::start(move |_| Reply::new(200, "text/plain", bytes.clone())).await;
    let target = format!("{}/blob", store.url());
    let server = Server::start(move |seen| match seen.headers.get("authorization") {
        Some(given) if *given == basic() => Reply::status(307).with("location", target.clone()),
        _ => Reply::status(401).with("www-authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = with_password(&server, None);
    client
        .blob(&app(&server), &blob(b"content"), 100)
        .await
        .unwrap();
    assert_eq!(store.seen().len(), 1);
    assert!(!store.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn redirects_end() {
    let server =
        Server::start(|seen| Reply::status(302).with("location", format!("{}x", seen.path))).await;
    client()
        .resolve(&app(&server), &tag("v1"))
        .await
        .unwrap_err();
    assert!(server.seen().len() <= 8, "{}", server.seen().len());
    let server = Server::start(|_| Reply::status(302)).await;
    client()
        .resolve(&app(&server), &tag("v1"))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_token_answer_is_bounded_and_understood_or_refused() {
    for body in [
        vec![b' '; 1 << 20],
        b"{}".to_vec(),
        b"<html>".to_vec(),
        br#"{"token": "a\nb"}"#.to_vec(),
    ] {
        let tokens =
            Server::start(move |_| Reply::new(200, "application/json", body.clone())).await;
        let url = tokens.url();
        let server = Server::start(move |_| challenge(&url)).await;
        client()
            .resolve(&app(&server), &tag("v1"))
            .await
            .unwrap_err();
    }
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_by_post() {
    let server = bearer(300).await;
    let secret = Secret::RefreshToken("long-lived".to_owned());
    let entry = CredentialEntry {
        registry: server.host(),
        repository: None,
        secret,
        source: "a test".to_owned(),
    };
    let client = Client::new(ClientOptions {
        credentials: vec![entry],
        ..options()
    })
    .unwrap();
    client.resolve(&app(&server), &tag("v1")).await.unwrap();
    let asked = server
        .seen()
        .into_iter()
        .find(|seen| seen.path.starts_with("/token"))
        .unwrap();
    assert_eq!(asked.method, "POST");
    assert!(
        asked.body.contains("grant_type=refresh_token")
            && asked.body.contains("refresh_token=long-lived")
    );
}

#[tokio::test]
async fn a_short_wait_that_a_registry_asks_for_is_granted_once() {
    let reply = given(&manifest("a"));
    let first = Mutex::new(true);
    let server = Server::start(move |_| match std::mem::take(&mut *first.lock().unwrap()) {
        true => Reply::status(429).with("retry-after", "0"),
        false => reply.clone(),
    })
    .await;
    client().resolve(&app(&server), &tag("v1")).await.unwrap();
    let server = Server::start(|_| Reply::status(429).with("retry-after", "3600")).await;
    let error = client()
        .resolve(&app(&server), &tag("v1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn plain_http_is_spoken_on_loopback_or_by_explicit_choice() {
    // Nothing listens with TLS there; what is asked is in the message.
    let told = |host: &str, plain_http: Option<bool>| {
        let registries = plain_http.map(|plain_http| RegistryOptions {
            host: host.to_owned(),
            plain_http,
            ..RegistryOptions::default()
        });
        let options = ClientOptions {
            registries: registries.into_iter().collect(),
            ..options()
        };
        let repository = Repository::new(host, "app");
        async move {
            let client = Client::new(options).unwrap();
            client
                .resolve(&repository, &tag("v1"))
                .await
                .unwrap_err()
                .to_string()
        }
    };
    for (host, plain_http, url) in [
        ("127.0.0.1:1", None, "http://127.0.0.1:1/"),
        ("localhost:1", None, "http://localhost:1/"),
        ("127.0.0.1:1", Some(false), "https://127.0.0.1:1/"),
        ("registry.invalid", None, "https://registry.invalid/"),
        ("registry.invalid", Some(true), "http://registry.invalid/"),
    ] {
        let said = told(host, plain_http).await;
        assert!(said.contains(url), "{said}");
    }
}

#[tokio::test]
async fn a_registry_without_tls_is_answered_with_the_option_that_is_missing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answers = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let registry = RegistryOptions {
        host: host.clone(),
        plain_http: false,
        ..RegistryOptions::default()
    };
    let options = ClientOptions {
        registries: vec![registry],
        ..options()
    };
    let client = Client::new(options).unwrap();
    let repository = Repository::new(&host, "app");
    let error = client.resolve(&repository, &tag("v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let remedy = format!("set `plainHttp: true` for `{host}`");
    assert!(error.to_string().contains(&remedy), "{error}");
    answers.abort();
}

#[tokio::test]
async fn names_that_no_registry_could_have_are_never_sent() {
    let server = Server::start(|_| absent()).await;
    let client = client();
    for name in [
        "../secret",
        "a/../b",
        "a?b=c",
        "a#b",
        "A",
        "",
        "a//b",
        "a b",
        "x@y",
    ] {
        let repository = Repository::new(server.host(), name);
        let error = client.resolve(&repository, &tag("v1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}");
    }
    for name in ["../x", "a/b", "", "a?b", "a b", &"x".repeat(129)] {
        let error = client.resolve(&app(&server), &tag(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}");
    }
    assert!(server.seen().is_empty());
}
