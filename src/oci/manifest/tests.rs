use bytes::Bytes;
use promotion_gate_core::gate::Digest;

use super::{Listed, Manifest, ManifestKind, media_type};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(content_type: Option<&str>, text: &str) -> Result<Manifest, String> {
    let bytes = Bytes::from(text.replace("DIGEST", DIGEST));
    Manifest::parse(Digest::sha256(&bytes), content_type, bytes)
}

const IMAGE: &str =
    r#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"DIGEST","size":0},"layers":[]}"#;
const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"DIGEST","size":0,
    "platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}"#;

#[test]
fn images_and_indexes_differ_by_media_type_or_fields() {
    assert_eq!(
        parse(None, IMAGE).unwrap().media_type,
        media_type::OCI_MANIFEST
    );
    let docker = format!("{}; charset=utf-8", media_type::DOCKER_MANIFEST);
    assert_eq!(
        parse(Some(&docker), IMAGE).unwrap().media_type,
        media_type::DOCKER_MANIFEST
    );
    let index = parse(Some("application/json"), INDEX).unwrap();
    assert_eq!(index.media_type, media_type::OCI_INDEX);
    let ManifestKind::Index { manifests, .. } = index.kind else {
        panic!("not an index")
    };
    assert_eq!(
        manifests[0].platform.as_ref().unwrap().variant.as_deref(),
        Some("v7")
    );
}

#[test]
fn a_manifest_that_is_an_index_as_well_is_refused() {
    let both = IMAGE.replace("\"layers\":[]", "\"layers\":[],\"manifests\":[]");
    assert!(parse(None, &both).unwrap_err().contains("at once"));
    assert!(
        parse(Some(media_type::OCI_INDEX), IMAGE)
            .unwrap_err()
            .contains("media type")
    );
    let claims = IMAGE.replace(
        "\"layers\"",
        &format!("\"mediaType\":\"{}\",\"layers\"", media_type::OCI_MANIFEST),
    );
    assert!(
        parse(Some(media_type::DOCKER_MANIFEST), &claims)
            .unwrap_err()
            .contains("its own media type")
    );
    assert!(parse(Some(media_type::OCI_MANIFEST), &claims).is_ok());
}

#[test]
fn a_field_in_another_case_or_written_twice_is_refused() {
    let case = IMAGE.replace("\"layers\":[]", "\"layers\":[],\"Manifests\":[]");
    assert!(parse(None, &case).unwrap_err().contains("in another case"));
    let twice = IMAGE.replace("\"layers\":[]", "\"layers\":[],\"layers\":[]");
    assert!(parse(None, &twice).unwrap_err().contains("twice"));
}

#[test]
fn a_digest_or_platform_under_a_look_alike_key_is_refused() {
    for (honest, hostile) in [
        ("\"size\":0", "\"size\":0,\"Digest\":\"sha256:evil\""),
        ("\"size\":0", "\"size\":0,\"digest\":\"DIGEST\""),
        ("\"size\":0", "\"size\":0,\"dige\u{17f}t\":\"x\""),
        ("\"size\":0", "\"size\":0,\"Platform\":{}"),
        ("\"os\":\"linux\"", "\"os\":\"linux\",\"OS\":\"windows\""),
        (
            "\"os\":\"linux\"",
            "\"os\":\"linux\",\"o\u{17f}\":\"windows\"",
        ),
        (
            "\"variant\":\"v7\"",
            "\"variant\":\"v7\",\"Architecture\":\"amd64\"",
        ),
        ("\"manifests\":[", "\"manife\u{17f}ts\":[],\"manifests\":["),
        (
            "\"mediaType\":\"m\"",
            "\"mediaType\":\"m\",\"MediaType\":\"n\"",
        ),
    ] {
        let text = INDEX.replacen(honest, hostile, 1);
        assert_ne!(text, INDEX);
        let error = parse(None, &text).unwrap_err();
        assert!(
            error.contains("in another case") || error.contains("twice"),
            "{hostile}: {error}"
        );
    }
    let annotated = INDEX.replace(
        "\"size\":0",
        "\"size\":0,\"annotations\":{\"Digest\":\"x\",\"OS\":\"y\"}",
    );
    parse(None, &annotated).unwrap();
}

#[test]
fn docker_schema_1_is_refused_with_a_remedy() {
    let schema_1 = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
    for content_type in [
        None,
        Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ] {
        let error = parse(content_type, schema_1).unwrap_err();
        assert!(error.contains("push the image again"), "{error}");
    }
}

/// containerd 1 takes `formatLength` bytes and `formatTail` of the first signature for the manifest, unverified, where
/// the registry calls the index a manifest of schema 1.
#[test]
fn an_index_that_is_also_a_schema_1_manifest_is_refused() {
    for field in [
        r#""signatures":[{"protected":"eyJmb3JtYXRMZW5ndGgiOjF9"}]"#,
        r#""signatures":[]"#,
        r#""fsLayers":[{"blobSum":"DIGEST"}]"#,
        r#""history":[{"v1Compatibility":"{}"}]"#,
    ] {
        let text = INDEX.replace("\"manifests\"", &format!("{field},\"manifests\""));
        let error = parse(None, &text).unwrap_err();
        assert!(error.contains("schema 1"), "{field}: {error}");
    }
    let text = INDEX.replace("\"manifests\"", "\"Signatures\":[],\"manifests\"");
    assert!(parse(None, &text).unwrap_err().contains("in another case"));
}

/// The entries of an index that a runtime could run, by the media types that they were given.
fn runnable(entries: &[&str]) -> usize {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entries.join(",")
    );
    parse(None, &text).unwrap().index().unwrap().manifests.len()
}

#[test]
fn an_index_entry_of_any_media_type_is_a_platform() {
    let entries = [
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_LIST,
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "APPLICATION/VND.OCI.IMAGE.MANIFEST.V1+JSON",
        "",
    ];
    let entries = entries.map(|name| {
        format!(r#"{{"mediaType":"{name}","digest":"DIGEST","size":0,"artifactType":"x/y"}}"#)
    });
    assert_eq!(runnable(&entries.each_ref().map(String::as_str)), 7);
    assert_eq!(runnable(&[r#"{"digest":"DIGEST","size":0}"#]), 1);
}

#[test]
fn a_look_alike_of_buildkits_attestation_is_a_platform() {
    const KIND: &str = r#""vnd.docker.reference.type":"attestation-manifest""#;
    const UNKNOWN: &str = r#""os":"unknown","architecture":"unknown""#;
    let entry = |platform: &str, annotation: &str| {
        format!(
            r#"{{"digest":"DIGEST","size":0,"platform":{{{platform}}},"annotations":{{{annotation}}}}}"#
        )
    };
    assert_eq!(runnable(&[&entry(UNKNOWN, KIND)]), 0);
    for (platform, annotation) in [
        (UNKNOWN, ""),
        (
            UNKNOWN,
            r#""vnd.docker.reference.type":"Attestation-manifest""#,
        ),
        (
            UNKNOWN,
            r#""Vnd.docker.reference.type":"attestation-manifest""#,
        ),
        ("", KIND),
        (r#""os":"unknown""#, KIND),
        (r#""architecture":"unknown""#, KIND),
        (r#""os":"Unknown","architecture":"unknown""#, KIND),
        (r#""os":"unknown","architecture":"unknown ""#, KIND),
        (r#""os":"","architecture":"unknown""#, KIND),
        (r#""os":"unknown","architecture":"amd64""#, KIND),
        (r#""os":"linux","architecture":"unknown""#, KIND),
        (
            r#""os":"unknown","architecture":"unknown","variant":"v8""#,
            KIND,
        ),
        (
            r#""os":"unknown","architecture":"unknown","os.version":"1""#,
            KIND,
        ),
    ] {
        assert_eq!(
            runnable(&[&entry(platform, annotation)]),
            1,
            "{platform} {annotation}"
        );
    }
}

#[test]
fn one_unreadable_entry_does_not_hide_the_others_in_a_listing() {
    let text = format!(
        r#"{{"manifests":[{{"digest":"md5:x","size":1}},7,{{"digest":"{DIGEST}","size":1}},{{"digest":"{DIGEST}","size":2}}]}}"#
    );
    let listed = Listed::parse(text.as_bytes(), 3).unwrap();
    assert_eq!(
        (listed.entries.len(), listed.unreadable, listed.beyond),
        (1, 2, 1)
    );
    assert!(
        Listed::parse(br#"{"manifests":null}"#, 3)
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(Listed::parse(b"<html>", 3).is_err());
    assert!(Listed::parse("[".repeat(100_000).as_bytes(), 3).is_err());
}
