use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::*;
use crate::attest::chain::public_key_of;
use crate::attest::samples::authorities;

#[test]
fn the_built_in_roots_can_be_used_and_githubs_lists_no_logs() {
    let sigstore = TrustRoot::public_good().unwrap();
    assert_eq!((sigstore.name(), sigstore.has_logs()), ("sigstore", true));
    let github = TrustRoot::github().unwrap();
    assert_eq!((github.name(), github.has_logs()), ("github", false));
}

#[test]
fn an_unreadable_or_empty_trust_root_is_refused() {
    let empty = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
    for json in [empty, "", "[]", "{\"tlogs\": 7}"] {
        let error = TrustRoot::parse("ours", json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("`ours`"), "{error}");
    }
    TrustRoot::parse("ours", &vec![b' '; MAXIMUM_ROOT + 1]).unwrap_err();
}

#[test]
fn a_root_as_large_as_is_read_can_be_used_and_a_larger_one_not() {
    let mut json = SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes().to_vec();
    json.resize(MAXIMUM_ROOT, b' ');
    TrustRoot::parse("ours", &json).unwrap();
    json.push(b' ');
    let refused = TrustRoot::parse("ours", &json).unwrap_err();
    assert!(refused.to_string().contains("larger"), "{refused}");
}

#[test]
fn a_root_loads_as_proto3_json_may_write_it() {
    let sparse = |root: &mut serde_json::Value| {
        for list in ["tlogs", "ctlogs"] {
            for log in root[list].as_array_mut().unwrap() {
                let log = log.as_object_mut().unwrap();
                log.remove("baseUrl");
                log.insert("hashAlgorithm".to_owned(), serde_json::json!(1));
                let id = log.remove("logId").unwrap();
                log.insert("log_id".to_owned(), id);
                let key = log["publicKey"].as_object_mut().unwrap();
                key.remove("keyDetails");
                key.insert("keyDetails".to_owned(), serde_json::json!(5));
            }
        }
        for list in ["certificateAuthorities", "timestampAuthorities"] {
            for authority in root[list].as_array_mut().unwrap() {
                let authority = authority.as_object_mut().unwrap();
                authority.remove("uri");
                authority.insert("subject".to_owned(), serde_json::Value::Null);
                authority.insert("validFor".to_owned(), serde_json::json!({}));
            }
        }
        root["tlogs"][0]["hashAlgorithm"] = serde_json::Value::Null;
        root["tlogs"][0]["publicKey"]["keyDetails"] = serde_json::Value::Null;
        root["tlogs"][0]["publicKey"]["validFor"]["end"] =
            serde_json::json!("9999-12-31T23:59:59Z");
        root["certificateAuthorities"][0]["validFor"] =
            serde_json::json!({"start": null, "end": "2023-01-01T00:00:00Z"});
        let authorities = root["timestampAuthorities"].take();
        let fields = root.as_object_mut().unwrap();
        fields.remove("timestampAuthorities");
        fields.insert("timestamp_authorities".to_owned(), authorities);
    };
    let (whole, root) = (TrustRoot::public_good().unwrap(), changed(sparse).unwrap());
    let counts = |root: &TrustRoot| {
        let counts = |instance: &Instance| {
            [
                instance.authorities.len(),
                instance.log_keys.len(),
                instance.timestamp_authorities.len(),
            ]
        };
        let roots = root.instances.iter();
        roots.map(|root| counts(root)).collect::<Vec<_>>()
    };
    assert_eq!(counts(&root), counts(&whole));
}

#[test]
fn an_ambiguous_trust_root_is_refused_with_the_place() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, &str); 8] = [
        (
            |root| root["tlogs"][0]["publicKey"]["validFor"] = serde_json::json!({}),
            "`tlogs[0].publicKey.validFor` does not have a `start`",
        ),
        (
            |root| {
                let end = "2023-01-01T00:00:00Z";
                root["ctlogs"][0]["publicKey"]["validFor"] = serde_json::json!({"end": end});
            },
            "`ctlogs[0].publicKey.validFor` does not have a `start`",
        ),
        (
            |root| root["certificateAuthorities"][1]["ValidFor"] = serde_json::json!({}),
            "`certificateAuthorities[1].validFor` is spelled `ValidFor`",
        ),
        (
            |root| root["certificateAuthorities"][1]["valid_for"] = serde_json::json!({}),
            "`certificateAuthorities[1].validFor` appears twice",
        ),
        (
            |root| root["tlogs"][0]["publicKey"]["rawBytes"] = serde_json::Value::Null,
            "`tlogs[0].publicKey.rawBytes` is missing",
        ),
        (
            |root| root["tlogs"][0]["hashAlgorithm"] = serde_json::json!(9),
            "`tlogs[0].hashAlgorithm` is `9`",
        ),
        (
            |root| {
                root["certificateAuthorities"][0]["validFor"]["start"] =
                    serde_json::json!("yesterday");
            },
            "`certificateAuthorities[0].validFor.start` is not a time",
        ),
        (
            |root| root["timestampAuthorities"] = serde_json::json!({}),
            "`timestampAuthorities` is not a list",
        ),
    ];
    for (change, place) in changes {
        let refused = changed(change).unwrap_err().to_string();
        assert!(refused.contains(place), "{refused}");
    }
}

/// `gh attestation trusted-root` writes the roots of both of its instances.
#[test]
fn several_trust_roots_in_one_file_stay_separate() {
    let line = |root: &str| {
        let root: serde_json::Value = serde_json::from_str(root).unwrap();
        root.to_string()
    };
    let (first, second) = (
        line(SIGSTORE_PRODUCTION_TRUSTED_ROOT),
        line(SIGSTORE_GITHUB_TRUSTED_ROOT),
    );
    let (sigstore, github) = (
        TrustRoot::public_good().unwrap(),
        TrustRoot::github().unwrap(),
    );
    let counts = |instance: &Instance| {
        [
            instance.log_keys.len(),
            instance.authorities.len(),
            instance.timestamp_authorities.len(),
        ]
    };
    for (written, roots) in [
        (format!("{first}\n{second}\n"), [&sigstore, &github]),
        (format!("{second}\r\n\n{first}"), [&github, &sigstore]),
    ] {
        let both = TrustRoot::parse("both", written.as_bytes()).unwrap();
        assert!(both.has_logs());
        let found: Vec<_> = both.instances.iter().map(|root| counts(root)).collect();
        let wanted = roots.map(|root| counts(&root.instances[0]));
        assert_eq!(found, wanted);
    }
    for (written, why) in [
        (
            format!("{first}\n{{}}"),
            "the root on line 2: `mediaType` is missing",
        ),
        (
            format!("{first}\n\n[]"),
            "the root on line 3: it is not an object",
        ),
        (format!("{first}\n{first}x"), "not JSON"),
        (format!("{first}\n").repeat(17), "more than 16"),
    ] {
        let refused = TrustRoot::parse("both", written.as_bytes()).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<TrustRoot, TrustRootError> {
    let mut root = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    change(&mut root);
    TrustRoot::parse("ours", root.to_string().as_bytes())
}

#[test]
fn a_root_that_trusts_one_kind_of_authority_can_be_used() {
    const KINDS: [&str; 3] = ["tlogs", "certificateAuthorities", "timestampAuthorities"];
    for kept in KINDS {
        let root = changed(|root| {
            for kind in KINDS.iter().filter(|kind| **kind != kept) {
                root[kind] = serde_json::json!([]);
            }
        });
        assert_eq!(root.unwrap().has_logs(), kept == "tlogs", "{kept}");
    }
}

#[test]
fn a_log_whose_key_cannot_be_verified_is_named() {
    let curve = |oid: &str| {
        let oid = x509_cert::der::oid::ObjectIdentifier::new_unwrap(oid);
        let [certificate, _] = authorities();
        let spki = public_key_of(&certificate).unwrap();
        let mut written = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
        let parameters = oid.to_der().unwrap();
        written.algorithm.parameters = Some(AnyRef::from_der(&parameters).unwrap());
        STANDARD.encode(written.to_der().unwrap())
    };
    let (known, unknown) = (curve("1.3.132.0.35"), curve("1.3.132.0.10"));
    for (list, url) in [("tlogs", "rekor"), ("ctlogs", "ctfe")] {
        let with = |key: &str| {
            changed(|root| {
                root[list][0]["publicKey"]["rawBytes"] = serde_json::json!(key);
                root[list][0]["publicKey"]["keyDetails"] = serde_json::json!("OF_LATER");
            })
        };
        with(&known).unwrap();
        let refused = with(&unknown).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("the log `{list}[0]`")),
            "{refused}"
        );
        assert!(refused.contains(url), "{refused}");
        assert!(refused.contains("another curve"), "{refused}");
    }
}

#[test]
fn a_validity_never_ends_before_it_starts() {
    let start = "2024-01-01T00:00:01Z";
    for (end, usable) in [
        ("2024-01-01T00:00:00Z", false),
        (start, true),
        ("2024-01-01T00:00:02Z", true),
    ] {
        let window = serde_json::json!({"start": start, "end": end});
        let log = changed(|root| root["tlogs"][0]["publicKey"]["validFor"] = window.clone());
        let authority = changed(|root| root["certificateAuthorities"][0]["validFor"] = window);
        assert_eq!([log.is_ok(), authority.is_ok()], [usable; 2], "{end}");
    }
}
