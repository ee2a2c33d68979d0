//! Evidence in a second repository: what it adds to the image's own, and what it can never do.

use promotion_gate::oci::{
    Client, ClientOptions, CredentialEntry, RegistryOptions, Repository, Secret,
};
use promotion_gate::sandbox::registry::SandboxRegistryOptions;
use promotion_gate::sandbox::{
    SandboxRegistry, attach_bundle, attach_signatures, push_image, push_index,
};
use promotion_gate_core::gate::{Collected, Digest, Policy};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::run;
use crate::facts::FACTS;
use crate::gate::Gate;
use crate::server::{Reply, Server};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn policy(more: Value) -> Policy {
    let mut spec = json!({
        "tags": "Resolve",
        "requirements": [{"signature": {"anyOf": [{"keyless": {
            "issuer": "https://issuer.example", "identity": "release@example.com", "trustRoots": ["sandbox"],
        }}]}}],
    });
    let fields = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(fields);
    FACTS.policy("signed", &spec)
}

/// A registry with images, and one with evidence of them.
struct Two {
    images: SandboxRegistry,
    evidence: SandboxRegistry,
}

/// The repository of the evidence.
const BESIDE: &str = "evidence/app";

impl Two {
    async fn new(referrers_api: bool) -> Two {
        let start = || SandboxRegistry::start(SandboxRegistryOptions { referrers_api });
        Two {
            images: start().await.unwrap(),
            evidence: start().await.unwrap(),
        }
    }

    fn push(&self, name: &str) -> Digest {
        push_image(&self.images, "app", name, name).unwrap()
    }

    fn image(&self, digest: &Digest) -> String {
        format!("{}/app@{digest}", self.images.host())
    }

    fn options(&self) -> ClientOptions {
        options(&self.images.host(), &self.evidence.host())
    }

    fn gate(&self) -> Gate {
        Gate::reading(Client::new(self.options()).unwrap(), policy(json!({})))
    }
}

fn options(images: &str, evidence: &str) -> ClientOptions {
    let evidence = format!("{evidence}/evidence/{{repository}}");
    ClientOptions {
        registries: vec![RegistryOptions {
            host: images.to_owned(),
            plain_http: true,
            evidence_repository: Some(evidence.parse().unwrap()),
            ..RegistryOptions::default()
        }],
        ..ClientOptions::default()
    }
}

#[tokio::test]
async fn a_signature_in_the_second_repository_alone_allows() {
    for referrers_api in [true, false] {
        let two = Two::new(referrers_api).await;
        let (bundled, simple, fallback) = (two.push("a"), two.push("b"), two.push("c"));
        let bundle = |digest: &Digest| {
            let bundle = FACTS.bundle(digest, "release");
            attach_bundle(&two.evidence, BESIDE, digest, &bundle).unwrap()
        };
        let mut signed = vec![&simple];
        let signatures = [FACTS.simple(&simple, "release")];
        attach_signatures(&two.evidence, BESIDE, &simple, &signatures).unwrap();
        if referrers_api {
            bundle(&bundled);
            signed.push(&bundled);
        } else {
            let attached = bundle(&fallback);
            let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": attached.to_string(), "size": 1});
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            let tag = format!("sha256-{}", fallback.hex());
            two.evidence
                .put_manifest(BESIDE, Some(&tag), INDEX, index.to_string());
            signed.push(&fallback);
        }
        let gate = two.gate();
        for digest in signed {
            let said = gate.says("signature", &two.image(digest)).await;
            assert_eq!(said.0, "pass", "{referrers_api} {digest}");
        }
        let unsigned = two.push("d");
        let said = gate.says("signature", &two.image(&unsigned)).await;
        assert_eq!(said.1, "unsigned");
    }
}

#[tokio::test]
async fn a_second_repository_that_does_not_exist_yet_is_empty() {
    let two = Two::new(false).await;
    let said = two
        .gate()
        .says("signature", &two.image(&two.push("a")))
        .await;
    assert_eq!(said, ("fail".to_owned(), "unsigned".to_owned()));
}

#[tokio::test]
async fn a_second_repository_that_is_down_hides_no_pass_and_undecides_denials() {
    let two = Two::new(true).await;
    let (signed, stranger, unsigned) = (two.push("a"), two.push("b"), two.push("c"));
    for (digest, by) in [(&signed, "release"), (&stranger, "stranger")] {
        attach_bundle(&two.images, "app", digest, &FACTS.bundle(digest, by)).unwrap();
    }
    two.evidence.stop();
    let gate = two.gate();
    let said = async |digest: &Digest| gate.says("signature", &two.image(digest)).await;
    assert_eq!(said(&signed).await.0, "pass");
    assert_eq!(said(&stranger).await.1, "evidence-partial");
    assert_eq!(said(&unsigned).await.1, "evidence-unavailable");
    // Both places of evidence are needed for a denial, and one is enough to allow.
    two.evidence.resume().await.unwrap();
    assert_eq!(said(&stranger).await.1, "signer-not-accepted");
    let bundle = FACTS.bundle(&unsigned, "release");
    attach_bundle(&two.evidence, BESIDE, &unsigned, &bundle).unwrap();
    assert_eq!(said(&unsigned).await.0, "pass");
    two.images.stop();
    assert_eq!(said(&unsigned).await.0, "pass");
}

#[tokio::test]
async fn a_second_repository_never_answers_for_the_image() {
    let two = Two::new(true).await;
    // The index exists in the second repository alone, which lists it as evidence, so that it is fetched from there.
    let amd64 = push_image(&two.evidence, BESIDE, "amd64", "amd64").unwrap();
    let platforms = [(Some("linux/amd64"), &amd64)];
    let index = push_index(&two.evidence, BESIDE, "v1", &platforms).unwrap();
    let entry = json!({"mediaType": INDEX, "digest": index.to_string(), "size": 1});
    let listing = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    let tag = format!("sha256-{}", index.hex());
    two.evidence
        .put_manifest(BESIDE, Some(&tag), INDEX, listing.to_string());
    let bundle = FACTS.bundle(&amd64, "release");
    attach_bundle(&two.evidence, BESIDE, &amd64, &bundle).unwrap();

    let gate = two
        .gate()
        .under(policy(json!({"allowUnsignedIndex": true})));
    for _ in 0..2 {
        let review = gate.review(&[two.image(&index)]).await;
        let indexes: Vec<_> = review.evidence.indexes.values().collect();
        assert!(
            matches!(indexes[..], [Collected::Unavailable(_)]),
            "{indexes:?}"
        );
        assert!(review.verdict.is_undecided());
    }
    let tagged = format!("{}/app:v1", two.images.host());
    assert_eq!(gate.says("signature", &tagged).await.1, "image-unavailable");
}

#[tokio::test]
async fn each_repository_is_asked_with_its_own_credential() {
    let protected = || {
        Server::start(|seen| match seen.headers.contains_key("authorization") {
            true => Reply::status(404),
            false => Reply::status(401).with("www-authenticate", "Basic realm=\"r\""),
        })
    };
    let (images, evidence) = (protected().await, protected().await);
    let credential = |server: &Server, username: &str| CredentialEntry {
        registry: server.host(),
        repository: None,
        secret: Secret::Password {
            username: username.to_owned(),
            password: "p".to_owned(),
        },
        source: "a test".to_owned(),
    };
    let options = ClientOptions {
        credentials: vec![credential(&images, "i"), credential(&evidence, "e")],
        ..options(&images.host(), &evidence.host())
    };
    let gate = Gate::reading(Client::new(options).unwrap(), policy(json!({})));
    let digest = Digest::sha256(b"a");
    let image = format!("{}/app@{digest}", images.host());
    assert_eq!(gate.says("signature", &image).await.1, "unsigned");
    for (server, expected) in [(&images, "Basic aTpw"), (&evidence, "Basic ZTpw")] {
        let seen = server.seen();
        let shown = seen
            .iter()
            .filter_map(|seen| seen.headers.get("authorization"));
        let shown: Vec<_> = shown.collect();
        assert!(
            !shown.is_empty() && shown.iter().all(|it| *it == expected),
            "{shown:?}"
        );
    }
}

#[test]
fn a_second_repository_on_loopback_needs_an_entry_of_its_own_in_a_pod() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let two = Two::new(true).await;
        let image = two.image(&two.push("a"));
        let mut options = ClientOptions {
            loopback: false,
            ..two.options()
        };
        let said = async |options: ClientOptions| {
            let gate = Gate::reading(Client::new(options).unwrap(), policy(json!({})));
            gate.says("signature", &image).await.1
        };
        assert_eq!(said(options.clone()).await, "evidence-unavailable");
        options.registries.push(RegistryOptions {
            host: two.evidence.host(),
            plain_http: true,
            ..RegistryOptions::default()
        });
        assert_eq!(said(options).await, "unsigned");
    });
}

#[test]
fn the_entry_of_exactly_this_host_names_the_second_repository() {
    let entry = |host: &str, evidence: Option<&str>| RegistryOptions {
        host: host.to_owned(),
        evidence_repository: evidence.map(|evidence| evidence.parse().unwrap()),
        ..RegistryOptions::default()
    };
    let client = Client::new(ClientOptions {
        registries: vec![
            entry("*.example", Some("central.example/{repository}")),
            entry("own.example", Some("own.example/evidence")),
            entry("bare.example", None),
            entry("index.docker.io", Some("central.example/hub/{repository}")),
        ],
        ..ClientOptions::default()
    })
    .unwrap();
    let of = |host: &str, path: &str| {
        let second = promotion_gate::oci::Registry::evidence_repository(
            &client,
            &Repository::new(host, path),
        );
        second.map(|second| second.to_string())
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(of("r.example", "a/b"), some("central.example/a/b"));
    assert_eq!(of("own.example", "a/b"), some("own.example/evidence"));
    assert_eq!(of("own.example", "evidence"), None);
    assert_eq!(of("central.example", "a/b"), None);
    assert_eq!(of("bare.example", "a"), None);
    assert_eq!(of("elsewhere.test", "a"), None);
    assert_eq!(
        of("docker.io", "library/nginx"),
        some("central.example/hub/library/nginx")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_evidence_read_the_second_repository_and_name_it() {
    let two = Two::new(true).await;
    let digest = two.push("v1");
    let bundle = FACTS.bundle(&digest, "release");
    attach_bundle(&two.evidence, BESIDE, &digest, &bundle).unwrap();
    let second = format!("{}/{BESIDE}", two.evidence.host());

    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("root.json", &FACTS.trusted_root());
    write(
        "gate.yaml",
        &format!(
            "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\ntrustRoots: [{{name: sandbox, file: root.json}}]\nregistries:\n- host: {}\n  plainHttp: true\n  evidenceRepository: {}/evidence/{{repository}}\n",
            two.images.host(),
            two.evidence.host()
        ),
    );
    write(
        "policy.yaml",
        "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: signed}\nspec:\n  requirements:\n  - digestPinned: {}\n  - signature: {anyOf: [{keyless: {issuer: 'https://issuer.example', identity: release@example.com, trustRoots: [sandbox]}}]}\n",
    );
    write(
        "pod.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: web, image: '{}'}}]}}\n",
            two.image(&digest)
        ),
    );
    let args = [
        "check",
        "--config",
        "gate.yaml",
        "--policy",
        "policy.yaml",
        "pod.yaml",
    ];
    let ran = run(folder.path(), &args, "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);

    let image = two.image(&digest);
    let args = ["evidence", "--config", "gate.yaml", &image];
    let ran = run(folder.path(), &args, "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains(&format!("also read: {second}\n")),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains(&format!(" in `{second}`")),
        "{}",
        ran.stdout
    );
    let ran = run(
        folder.path(),
        &[&args[..], &["--output", "json"]].concat(),
        "",
    );
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["evidenceRepository"], second.as_str());
    assert_eq!(report["accepted"][0]["signer"], "release@example.com");

    two.evidence.stop();
    let ran = run(folder.path(), &args, "");
    assert_eq!(ran.code, 3, "{}", ran.stdout);
}
