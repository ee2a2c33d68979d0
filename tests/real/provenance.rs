//! What cosign attests, on registries of both kinds and on a real API server: provenance is accepted from the right builder for
//! the right source, and denied with any one thing wrong.

use serde_json::{Value, json};

use crate::support::{
    BUILDER, ControlPlane, Cosign, Gate, Key, LocalSigstore, Registry, SOURCE, Tagged, User,
    deployment, provenance_of_generator, until,
};

const DEVELOPER: &str = "dev@example.com";
const V1: &str = "https://slsa.dev/provenance/v1";

fn predicate(builder: &str, source: &str) -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": "refs/heads/main", "repository": source, "path": ".github/workflows/release.yml"}},
            "internalParameters": {"github": {"event_name": "push"}},
            "resolvedDependencies": [{"uri": format!("git+{source}@refs/heads/main"), "digest": {"gitCommit": "1".repeat(40)}}],
        },
        "runDetails": {"builder": {"id": builder}, "metadata": {"invocationId": "1"}},
    })
}

fn by_developer(sigstore: &LocalSigstore) -> Value {
    json!({"keyless": {"issuer": sigstore.issuer.url(), "identity": DEVELOPER, "trustRoots": ["local"], "transparency": "Timestamp"}})
}

fn provenance(signer: Value, more: Value) -> Value {
    let mut rule = json!({
        "builders": [{"id": BUILDER, "signedBy": signer}],
        "sources": [SOURCE],
        "branches": ["main"],
    });
    let fields = more.as_object().unwrap().clone();
    rule.as_object_mut().unwrap().extend(fields);
    json!([{"digestPinned": {}}, {"provenance": rule}])
}

#[test]
fn provenance_of_every_cosign_is_accepted_and_refused() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    let kinds = [
        ("slsaprovenance1", predicate(BUILDER, SOURCE)),
        (V1, predicate(BUILDER, SOURCE)),
        ("slsaprovenance", provenance_of_generator(BUILDER, SOURCE)),
    ];
    for registry in Registry::both() {
        for cosign in [Cosign::v3(), Cosign::v2()] {
            for (kind, statement) in &kinds {
                let name = format!("{}-{}", cosign.name(), kind.len());
                let image = registry.push("app", "attested", &name);
                let ask = |more: Value| {
                    gate.requirements(provenance(by_developer(&sigstore), more))
                        .check(&image.by_digest())
                };
                ask(json!({})).denied("[no-provenance]");
                cosign
                    .attest_keyless(&image, kind, statement, DEVELOPER, &sigstore)
                    .ok();
                ask(json!({})).allowed();
                ask(json!({"sources": ["https://github.com/example/other"]}))
                    .denied("[source-not-accepted]");
                ask(json!({"branches": ["release"]})).denied("[branch-not-accepted]");
                ask(json!({"versionedTags": ["v1"]})).denied("[not-built-from-a-tag]");
                ask(json!({"inputs": {"release": "true"}})).denied("[inputs-unknown]");
                let other = json!([{"id": "https://ci.example/other", "signedBy": by_developer(&sigstore)}]);
                ask(json!({"builders": other})).denied("[builder-not-accepted]");
                let mut boss = by_developer(&sigstore);
                boss["keyless"]["identity"] = json!("boss@example.com");
                ask(json!({"builders": [{"id": BUILDER, "signedBy": boss}]}))
                    .denied("[builder-not-accepted]");
            }
        }
    }
}

#[test]
fn provenance_signed_with_a_key_is_accepted_in_both_layouts() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    let (signer, other) = (Key::generate(), Key::generate());
    let by = |key: &Key| json!({"key": {"pem": key.public_pem(), "trustRoots": ["local"], "transparency": "None"}});
    for registry in Registry::both() {
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let image = registry.push("app", "keyed", cosign.name());
            cosign
                .attest_with_key(
                    &image,
                    "slsaprovenance1",
                    &predicate(BUILDER, SOURCE),
                    &signer,
                )
                .ok();
            let ask = |key: &Key| {
                gate.requirements(provenance(by(key), json!({})))
                    .check(&image.by_digest())
            };
            ask(&signer).allowed();
            ask(&other).denied("[provenance-unaccepted]");
        }
    }
}

#[test]
fn one_right_statement_among_ten_is_found() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    let registry = Registry::with_referrers();
    let image = registry.push("app", "crowded", "crowded");
    let (v2, v3) = (Cosign::v2(), Cosign::v3());
    let custom = json!({"result": "PASSED"});
    let attest = |cosign: &Cosign, kind: &str, predicate: &Value, who: &str| {
        cosign
            .attest_keyless(&image, kind, predicate, who, &sigstore)
            .ok();
    };
    attest(&v2, "custom", &custom, DEVELOPER);
    attest(
        &v2,
        "slsaprovenance1",
        &predicate(BUILDER, SOURCE),
        "stranger@example.com",
    );
    attest(
        &v2,
        "slsaprovenance1",
        &predicate("https://ci.example/other", SOURCE),
        DEVELOPER,
    );
    attest(
        &v2,
        "slsaprovenance",
        &provenance_of_generator(BUILDER, "https://github.com/example/other"),
        DEVELOPER,
    );
    attest(&v3, "https://example.com/test/v1", &custom, DEVELOPER);
    attest(
        &v3,
        "https://example.com/test/v1",
        &custom,
        "stranger@example.com",
    );
    attest(
        &v3,
        "slsaprovenance1",
        &predicate(BUILDER, SOURCE),
        "stranger@example.com",
    );
    attest(
        &v3,
        "slsaprovenance1",
        &predicate(BUILDER, "https://github.com/example/other"),
        DEVELOPER,
    );
    v3.sign_keyless(&image, DEVELOPER, &sigstore).ok();
    gate.requirements(provenance(by_developer(&sigstore), json!({})));
    gate.check(&image.by_digest())
        .denied("[source-not-accepted]");
    attest(
        &v3,
        "slsaprovenance1",
        &predicate(BUILDER, SOURCE),
        DEVELOPER,
    );
    gate.check(&image.by_digest()).allowed();
}

#[test]
fn provenance_copied_from_another_image_is_denied() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    gate.requirements(provenance(by_developer(&sigstore), json!({})));
    let registry = Registry::distribution();
    for (cosign, suffix) in [(Cosign::v2(), ".att"), (Cosign::v3(), "")] {
        let attested = registry.push("app", "attested", &format!("attested{suffix}"));
        cosign
            .attest_keyless(
                &attested,
                "slsaprovenance1",
                &predicate(BUILDER, SOURCE),
                DEVELOPER,
                &sigstore,
            )
            .ok();
        gate.check(&attested.by_digest()).allowed();
        let victim = registry.push("app", "victim", &format!("victim{suffix}"));
        registry
            .crane(["copy", &attested.attached(suffix), &victim.attached(suffix)])
            .ok();
        gate.check(&victim.by_digest())
            .denied("[provenance-unaccepted]");
    }
}

#[test]
fn an_index_and_its_platforms_are_one_image() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    for registry in Registry::both() {
        let platforms =
            ["amd64", "arm64"].map(|architecture| registry.push_for("app", architecture));
        let index = registry.index("app", "index", &platforms);
        let attest = |image: &Tagged| {
            Cosign::v3()
                .attest_keyless(
                    image,
                    "slsaprovenance1",
                    &predicate(BUILDER, SOURCE),
                    DEVELOPER,
                    &sigstore,
                )
                .ok();
        };
        let requirements = provenance(by_developer(&sigstore), json!({}));
        let ask = |more: Value, image: &str| gate.spec(requirements.clone(), more).check(image);
        let each = || json!({"allowUnsignedIndex": true});

        attest(&platforms[0]);
        ask(json!({}), &index.by_digest()).denied("[no-provenance]");
        ask(each(), &index.by_digest()).denied("linux/arm64");
        let one = json!({"allowUnsignedIndex": true, "match": {"platforms": ["linux/amd64"]}});
        ask(one, &index.by_digest()).allowed();
        attest(&platforms[1]);
        ask(each(), &index.by_digest()).allowed();
        ask(json!({}), &index.by_digest()).denied("[no-provenance]");

        let other = ["s390x", "riscv64"].map(|architecture| registry.push_for("app", architecture));
        let index = registry.index("app", "whole", &other);
        attest(&index);
        ask(json!({}), &index.by_digest()).allowed();
        let child = format!("{}@{}", index.by_tag(), other[0].digest);
        ask(json!({}), &child).denied(&format!("write `@{}`", index.digest));
    }
}

#[test]
fn the_api_server_hears_the_same_about_provenance() {
    let sigstore = LocalSigstore::shared();
    let registry = Registry::distribution();
    let attest = |cosign: Cosign, image: &Tagged, kind: &str, predicate: &Value| {
        cosign
            .attest_keyless(image, kind, predicate, DEVELOPER, &sigstore)
            .ok();
    };
    let (of_app, of_generator) = (
        predicate(BUILDER, SOURCE),
        provenance_of_generator(BUILDER, SOURCE),
    );
    let of_other = predicate(BUILDER, "https://github.com/example/other");
    let [attested, legacy, elsewhere, bare] =
        ["attested", "legacy", "elsewhere", "bare"].map(|name| registry.push("app", name, name));
    attest(Cosign::v3(), &attested, "slsaprovenance1", &of_app);
    attest(Cosign::v2(), &legacy, "slsaprovenance", &of_generator);
    attest(Cosign::v3(), &elsewhere, "slsaprovenance1", &of_other);
    let platforms = ["amd64", "arm64"].map(|architecture| registry.push_for("app", architecture));
    let index = registry.index("app", "index", &platforms);
    attest(Cosign::v3(), &index, "slsaprovenance1", &of_app);
    let child = Tagged {
        digest: platforms[0].digest.clone(),
        ..index.clone()
    };

    let gate = Gate::new(&sigstore);
    gate.requirements(provenance(by_developer(&sigstore), json!({})));
    let serving = gate.serve(&[]);
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    plane.register(&serving);
    let apply = |image: &Tagged| {
        let object = deployment("web", &image.by_digest());
        plane.kubectl_as(User::Alice, ["apply", "-f", "-"], &object)
    };
    until("the webhook is asked", || {
        (!apply(&bare).is_ok()).then_some(())
    });
    for (image, reason) in [
        (&attested, None),
        (&legacy, None),
        (&elsewhere, Some("[source-not-accepted]")),
        (&bare, Some("[no-provenance]")),
        (&index, None),
        (&child, Some("[no-provenance]")),
    ] {
        let checked = gate.check(&image.by_digest());
        match reason {
            None => {
                apply(image).ok();
                checked.allowed();
            }
            Some(reason) => {
                let refusal = apply(image).refused();
                assert!(refusal.contains(reason), "{refusal}");
                checked.denied(reason);
            }
        }
    }
}
