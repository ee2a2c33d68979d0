//! Attaching content to images: on registries with and without the referrers API, beside other writers, and on hostile ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use promotion_gate::oci::{
    Attachment, Client, ClientOptions, CredentialEntry, Descriptor, ErrorKind, Pushed, Reference,
    Registry as _, RegistryError, Repository, Secret, Via,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use crate::server::{Reply, Seen, Server};
use crate::store::{INDEX, MANIFEST, Pushable, Store};

const AT_ONCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::ZERO;

fn tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

async fn described(client: &Client, repository: &Repository, digest: &Digest) -> Descriptor {
    let reference = Reference::Digest(digest.clone());
    client.resolve(repository, &reference).await.unwrap()
}

fn attachment<'a>(subject: &'a Descriptor, content: &'static str) -> Attachment<'a> {
    Attachment {
        subject,
        media_type: "application/vnd.dev.sigstore.bundle.v0.3+json",
        content: content.into(),
        annotations: BTreeMap::from([("dev.sigstore.bundle.content", "dsse-envelope".to_owned())]),
    }
}

/// Attaches content and reads it back.
async fn attach(
    registry: &Pushable,
    to: &str,
    content: &'static str,
) -> Result<Pushed, RegistryError> {
    let client = Client::new(ClientOptions::default()).unwrap();
    let digest = registry.push("app", "v1", "image");
    let images = Repository::new(registry.server.host(), "app");
    let subject = described(&client, &images, &digest).await;
    let attachment = attachment(&subject, content);
    let repository = Repository::new(registry.server.host(), to);
    let pushed = client.attach(&repository, &attachment, AT_ONCE).await?;
    let read = client.read_back(&repository, &attachment, &pushed).await?;
    assert_eq!(read, content);
    Ok(pushed)
}

fn nothing(_: &Seen, _: &mut Store) -> Option<Reply> {
    None
}

#[tokio::test]
async fn what_is_attached_is_found_on_registries_of_both_kinds() {
    for (referrers, via) in [(true, Via::Referrers), (false, Via::FallbackTag)] {
        for to in ["app", "evidence/of/app"] {
            let registry = Pushable::start(referrers, false, nothing).await;
            let pushed = attach(&registry, to, "bundle").await.unwrap();
            assert_eq!(pushed.via, via, "{to}");
            let digest = registry.push("app", "v1", "image");
            let client = Client::new(ClientOptions::default()).unwrap();
            let repository = Repository::new(registry.server.host(), to);
            let found = client.attached(&repository, &digest).await;
            let listed: Vec<_> = found.listing.iter().map(|it| &it.digest).collect();
            assert_eq!(listed, [&pushed.manifest]);
            let manifest = client
                .manifest(&repository, &pushed.manifest)
                .await
                .unwrap();
            let written: Value = serde_json::from_slice(&manifest.bytes).unwrap();
            assert_eq!(written["subject"]["digest"], digest.to_string());
            assert_eq!(written["subject"]["mediaType"], MANIFEST);
            assert_eq!(written["artifactType"], written["layers"][0]["mediaType"]);
            assert_eq!(written["layers"].as_array().unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_registry_that_lists_referrers_and_does_not_say_so_gets_no_tag() {
    let registry = Pushable::start(true, false, |seen: &Seen, store: &mut Store| {
        // The header is left out.
        if seen.method != "PUT" || !seen.path.contains("/manifests/") {
            return None;
        }
        let reference = seen.path.rsplit('/').next().unwrap();
        store.put("app", reference, MANIFEST, &seen.bytes);
        Some(Reply::status(201))
    })
    .await;
    let pushed = attach(&registry, "app", "bundle").await.unwrap();
    assert_eq!(pushed.via, Via::Referrers);
    let digest = registry.push("app", "v1", "image");
    assert!(
        registry
            .store
            .lock()
            .unwrap()
            .entries("app", &tag(&digest))
            .is_empty()
    );
}

#[tokio::test]
async fn entries_of_others_under_the_tag_are_kept_as_they_are() {
    let registry = Pushable::start(false, true, nothing).await;
    let digest = registry.push("app", "v1", "image");
    let other = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"other").to_string(), "size": 7, "data": "kept"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other], "annotations": {"a": "b"}});
    let index = index.to_string();
    registry
        .store
        .lock()
        .unwrap()
        .put("app", &tag(&digest), INDEX, index.as_bytes());
    let pushed = attach(&registry, "app", "bundle").await.unwrap();
    let entries = registry.store.lock().unwrap().entries("app", &tag(&digest));
    assert_eq!((entries.len(), &entries[0]), (2, &other));
    assert_eq!(entries[1]["digest"], pushed.manifest.to_string());
    let asked = registry.server.seen();
    assert!(
        asked
            .iter()
            .any(|seen| seen.headers.contains_key("if-match"))
    );
    // Attaching the same again adds nothing.
    attach(&registry, "app", "bundle").await.unwrap();
    assert_eq!(
        registry
            .store
            .lock()
            .unwrap()
            .entries("app", &tag(&digest))
            .len(),
        2
    );
}

#[tokio::test]
async fn an_entry_that_another_writer_removes_is_added_again_three_times_at_most() {
    for (removals, is_attached) in [(1, true), (2, true), (3, false)] {
        let left = AtomicUsize::new(removals);
        let registry = Pushable::start(false, false, move |seen: &Seen, store: &mut Store| {
            let is_tag = seen.path.contains("/manifests/sha256-");
            let one_less = |left: usize| left.checked_sub(1);
            if seen.method == "PUT"
                && is_tag
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                    .is_ok()
            {
                // Another writer read the index before, and writes it now.
                let theirs = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
                let reference = seen.path.rsplit('/').next().unwrap();
                store.put("app", reference, INDEX, theirs.to_string().as_bytes());
                return Some(Reply::status(201));
            }
            None
        })
        .await;
        let attached = attach(&registry, "app", "bundle").await;
        assert_eq!(attached.is_ok(), is_attached, "{removals}");
        if let Err(error) = attached {
            assert!(error.to_string().contains("repeat the command"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_registry_that_honours_if_match_loses_no_entry_of_two_writers() {
    let registry = Pushable::start(false, true, nothing).await;
    let attachments =
        ["one", "two", "three", "four"].map(|content| attach(&registry, "app", content));
    let all = futures::future::join_all(attachments).await;
    let all: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
    let digest = registry.push("app", "v1", "image");
    let entries = registry.store.lock().unwrap().entries("app", &tag(&digest));
    // Each that says it is attached is listed.
    for pushed in &all {
        assert!(
            entries
                .iter()
                .any(|entry| entry["digest"] == pushed.manifest.to_string())
        );
    }
    assert!(all.len() >= 2, "{}", all.len());
}

#[tokio::test]
async fn a_refused_push_says_what_the_registry_answered() {
    for (status, kind, words) in [
        (401, ErrorKind::Unauthorized, "401"),
        (403, ErrorKind::Denied, "403"),
        (404, ErrorKind::NotFound, "may not push"),
        (405, ErrorKind::Denied, "a mirror or a cache"),
        (413, ErrorKind::TooLarge, "413"),
        (429, ErrorKind::RateLimited, "429"),
        (500, ErrorKind::Unavailable, "500"),
    ] {
        for method in ["POST", "PUT"] {
            let registry = Pushable::start(true, false, move |seen: &Seen, _: &mut Store| {
                (seen.method == method).then(|| Reply::status(status))
            })
            .await;
            let error = attach(&registry, "app", "bundle").await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn other_content_on_read_back_is_an_error() {
    for part in ["/manifests/sha256:", "/blobs/sha256:"] {
        let registry = Pushable::start(true, false, move |seen: &Seen, _: &mut Store| {
            let is_of_image = seen.path.ends_with(&Digest::sha256(b"{}").to_string());
            let asks = seen.method == "GET" && seen.path.contains(part) && !is_of_image;
            asks.then(|| Reply::new(200, MANIFEST, r#"{"o":"ther"}"#))
        })
        .await;
        let error = attach(&registry, "app", r#"{"m":"ine"}x"#)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{part} {error}");
    }
    // The registry says that it lists referrers, and does not list this one.
    let registry = Pushable::start(true, false, |seen: &Seen, _: &mut Store| {
        let empty = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
        let asks = seen.path.contains("/referrers/");
        asks.then(|| Reply::new(200, INDEX, empty.to_string()))
    })
    .await;
    let error = attach(&registry, "app", "bundle").await.unwrap_err();
    assert!(
        error.to_string().contains("does not list what was pushed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tag_that_is_read_as_the_image_itself_is_not_overwritten() {
    let registry = Pushable::start(false, false, |seen: &Seen, store: &mut Store| {
        let tag = seen.path.strip_prefix("/v2/app/manifests/sha256-")?;
        let digest = format!("/v2/app/manifests/sha256:{tag}");
        assert_eq!(seen.method, "GET", "the tag is written");
        let _ = store;
        Some(Reply::status(307).with("location", digest))
    })
    .await;
    let error = attach(&registry, "app", "bundle").await.unwrap_err();
    assert!(error.to_string().contains("`--repository`"), "{error}");
}

#[tokio::test]
async fn a_push_asks_for_the_right_to_push_and_sends_credentials_to_the_registry_alone() {
    let elsewhere = Server::start(|seen| {
        assert!(!seen.headers.contains_key("authorization"), "{}", seen.path);
        Reply::status(201)
    })
    .await;
    let there = elsewhere.url();
    let registry = Pushable::start(true, false, move |seen: &Seen, _: &mut Store| {
        let authorization = seen
            .headers
            .get("authorization")
            .cloned()
            .unwrap_or_default();
        if seen.path.starts_with("/token") {
            assert!(authorization.starts_with("Basic "));
            let token = if seen.path.contains("pull%2Cpush") {
                "push"
            } else {
                "pull"
            };
            return Some(Reply::new(
                200,
                "application/json",
                json!({"token": token}).to_string(),
            ));
        }
        let host = seen.headers["host"].clone();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        let writes = matches!(seen.method.as_str(), "POST" | "PUT");
        if writes && authorization != "Bearer push" || authorization.is_empty() {
            return Some(Reply::status(401).with("www-authenticate", challenge));
        }
        // Uploads go to a store of blobs on another host.
        (seen.method == "POST")
            .then(|| Reply::status(202).with("location", format!("{there}/upload?signature=s")))
    })
    .await;
    let host = registry.server.host();
    let options = ClientOptions {
        credentials: vec![CredentialEntry {
            registry: host.clone(),
            repository: None,
            secret: Secret::Password {
                username: "alice".to_owned(),
                password: "secret".to_owned(),
            },
            source: "a test".to_owned(),
        }],
        ..ClientOptions::default()
    };
    let client = Client::new(options).unwrap();
    let digest = registry.push("app", "v1", "image");
    let repository = Repository::new(&host, "app");
    let subject = described(&client, &repository, &digest).await;
    let attachment = attachment(&subject, "bundle");
    let pushed = client
        .attach(&repository, &attachment, AT_ONCE)
        .await
        .unwrap();
    assert_eq!(pushed.via, Via::Referrers);
    let uploads = elsewhere.asked();
    assert_eq!(uploads.len(), 2, "{uploads:?}");
    assert!(
        uploads
            .iter()
            .all(|it| it.starts_with("PUT /upload?signature=s&digest=sha256%3A"))
    );
}

#[tokio::test]
async fn a_token_that_expires_between_the_rounds_is_renewed() {
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let (tokens, removals) = (std::sync::Arc::clone(&given), AtomicUsize::new(2));
    let valid = Mutex::new(BTreeSet::new());
    let registry = Pushable::start(false, false, move |seen: &Seen, store: &mut Store| {
        let mut valid = valid.lock().unwrap();
        if seen.path.starts_with("/token") {
            let token = tokens.fetch_add(1, Ordering::SeqCst).to_string();
            valid.insert(format!("Bearer {token}"));
            let answer = json!({"token": token, "expires_in": 3600});
            return Some(Reply::new(200, "application/json", answer.to_string()));
        }
        let authorization = seen.headers.get("authorization");
        if authorization.is_none_or(|it| !valid.contains(it)) {
            let host = &seen.headers["host"];
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return Some(Reply::status(401).with("www-authenticate", challenge));
        }
        if seen.method != "PUT" || !seen.path.contains("/manifests/sha256-") {
            return None;
        }
        // The index is written, every token expires, and twice another writer removes the entry.
        valid.clear();
        let one_less = |left: usize| left.checked_sub(1);
        removals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .ok()?;
        let theirs = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
        let reference = seen.path.rsplit('/').next().unwrap();
        store.put("app", reference, INDEX, theirs.to_string().as_bytes());
        Some(Reply::status(201))
    })
    .await;
    let pushed = attach(&registry, "app", "bundle").await.unwrap();
    assert_eq!(pushed.via, Via::FallbackTag);
    // One to read, one to push, and after each of three rounds another one to push and at the end one to read back.
    assert_eq!(given.load(Ordering::SeqCst), 6);
    let digest = registry.push("app", "v1", "image");
    let entries = registry.store.lock().unwrap().entries("app", &tag(&digest));
    assert_eq!(entries[0]["digest"], pushed.manifest.to_string());
}

#[tokio::test]
async fn the_sandbox_takes_blobs_in_pieces_and_nothing_under_another_digest() {
    let registry = crate::images::registry().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let at = |path: &str| format!("http://{}{path}", registry.host());
    let begin = async || {
        let uploads = at("/v2/app/blobs/uploads/");
        let begun = client.post(uploads).send().await.unwrap();
        assert_eq!(begun.status(), 202);
        at(begun.headers()["location"].to_str().unwrap())
    };
    let [whole, other] = [b"abcd", b"othr"].map(|bytes| Digest::sha256(bytes));
    for (digest, status) in [(&whole, 201), (&other, 400)] {
        let upload = begin().await;
        for piece in ["ab", "cd"] {
            let sent = client.patch(&upload).body(piece).send().await.unwrap();
            assert_eq!(sent.status(), 202);
        }
        let end = format!("{upload}?digest={digest}");
        let ended = client.put(&end).send().await.unwrap();
        assert_eq!(ended.status(), status);
        // An upload ends once.
        assert_eq!(client.put(&end).send().await.unwrap().status(), 404);
    }
    let blob = async |digest: &Digest| {
        let blob = at(&format!("/v2/app/blobs/{digest}"));
        client.get(blob).send().await.unwrap()
    };
    assert_eq!(blob(&whole).await.bytes().await.unwrap(), "abcd");
    assert_eq!(blob(&other).await.status(), 404);
    let manifest = json!({"schemaVersion": 2, "subject": {"digest": whole.to_string()}});
    let manifest = manifest.to_string();
    let own = Digest::sha256(manifest.as_bytes());
    for (digest, status) in [(&own, 201), (&other, 400)] {
        let path = at(&format!("/v2/app/manifests/{digest}"));
        let put = client
            .put(path)
            .header("content-type", MANIFEST)
            .body(manifest.clone());
        assert_eq!(put.send().await.unwrap().status(), status);
    }
}
