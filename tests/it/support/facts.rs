//! Verified facts for tests of the rules: signed in the sandbox and verified in full, since nothing else makes them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use promotion_gate::api;
use promotion_gate::sandbox::{
    EnvelopeEntry, SandboxIdentity, SandboxKey, SandboxSigner, Signing, Sigstore, SimpleSignature,
};
use promotion_gate_core::attest::{Anchor, Material, PublicKey, TrustRoot, Verified, verify};
use promotion_gate_core::gate::{
    self, Age, Change, ChangeEffect, ChangeKind, ChangedObject, Digest, Evidence, EvidenceSource,
    ImageEvidence, ImageUse, Operation, Pin, Policy, Promotion, Records, Role, Snapshot,
    TrustRoots, UnacceptedEvidence, Verdict, Workload, World,
};
use serde::Deserialize;
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.example";

pub static FACTS: LazyLock<Facts> = LazyLock::new(Facts::new);

/// A trust root, and people who sign under it.
pub struct Facts {
    sigstore: Sigstore,
    root: Arc<TrustRoot>,
    public_good: Arc<TrustRoot>,
    identities: BTreeMap<&'static str, SandboxIdentity>,
    pub key: SandboxKey,
}

/// Something attached to an image, as test cases write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attached {
    /// `release`, `build`, `stranger`, `key`, a workflow (`builder`, `other-builder`, `delegator`, `own-workflow`), or the URI
    /// of another one.
    pub by: String,
    #[serde(default)]
    pub form: Form,
    #[serde(default = "yes")]
    pub logged: bool,
    #[serde(default = "yes")]
    pub stamped: bool,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// About another image than the one that it hangs on.
    #[serde(default)]
    pub about_another: bool,
    /// When; now when absent.
    pub at: Option<Timestamp>,
    /// How long before the review; an alternative to `at`.
    #[serde(default)]
    pub ago: Option<Age>,
    /// The time of a further timestamp, of an attestation as a bundle.
    #[serde(default)]
    pub also_stamped: Option<Timestamp>,
    /// Of an attestation: the predicate type and the predicate. `approval` and `change` stand for the types of this project.
    #[serde(default)]
    pub statement: Option<(String, Value)>,
    /// Of an attestation: the provenance, or other predicate of a known form, that it is.
    #[serde(default, alias = "predicate")]
    pub provenance: Option<Provenance>,
    /// What the certificate of the signer says otherwise than usual, by Fulcio's numbers; `null` for nothing.
    #[serde(default)]
    pub claims: BTreeMap<u64, Option<String>>,
}

/// A predicate: how it usually looks, and what is other in it (a JSON merge patch, RFC 7386).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    pub template: String,
    #[serde(default)]
    pub but: Value,
}

impl Provenance {
    fn predicate(&self) -> (&'static str, Value) {
        let file = format!(
            "{}/tests/cases/predicates/{}.json",
            env!("CARGO_MANIFEST_DIR"),
            self.template
        );
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut predicate: Value = serde_json::from_str(&text).unwrap();
        merge(&mut predicate, &self.but);
        let kind = match self.template.as_str() {
            "trivy" | "grype" => "https://cosign.sigstore.dev/attestation/vuln/v1",
            "in-toto" => "https://in-toto.io/attestation/vulns/v0.2",
            "openvex" => "https://openvex.dev/ns",
            "spdx" => "https://spdx.dev/Document",
            "cyclonedx" => "https://cyclonedx.org/bom",
            _ if predicate.get("buildDefinition").is_some() => "https://slsa.dev/provenance/v1",
            _ => "https://slsa.dev/provenance/v0.2",
        };
        (kind, predicate)
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        if !patch.is_null() {
            *into = patch.clone();
        }
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let fields = into.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The workflow that usually builds: called by `example/app` on its branch `main`.
pub const BUILDER: &str =
    "https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v1.4.0";

const DELEGATOR: &str = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/delegator_generic_slsa3.yml@refs/tags/v2.1.0";
/// A workflow of the source's own repository.
const OWN_WORKFLOW: &str =
    "https://github.com/example/app/.github/workflows/release.yml@refs/heads/evil";
const CLAIMS: [(u64, &str); 11] = [
    (9, BUILDER),
    (11, "github-hosted"),
    (12, "https://github.com/example/app"),
    (13, "1111111111111111111111111111111111111111"),
    (14, "refs/heads/main"),
    (15, "4242"),
    (17, "77"),
    (
        18,
        "https://github.com/example/app/.github/workflows/release.yml@refs/heads/main",
    ),
    (20, "push"),
    (
        21,
        "https://github.com/example/app/actions/runs/1/attempts/1",
    ),
    (22, "public"),
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    #[default]
    Bundle,
    SimpleSigning,
    Attestation,
    LegacyAttestation,
    Junk,
}

fn yes() -> bool {
    true
}

impl Attached {
    pub fn by(by: &str) -> Attached {
        Attached {
            by: by.to_owned(),
            form: Form::Bundle,
            logged: true,
            stamped: true,
            annotations: BTreeMap::new(),
            about_another: false,
            at: None,
            ago: None,
            also_stamped: None,
            statement: None,
            provenance: None,
            claims: BTreeMap::new(),
        }
    }
}

impl Facts {
    fn new() -> Facts {
        let sigstore = Sigstore::create().unwrap();
        let json = sigstore.trusted_root().to_string();
        let identity = |name: &'static str| {
            let subject = format!("{name}@example.com");
            (name, SandboxIdentity::new(subject, ISSUER))
        };
        Facts {
            root: Arc::new(TrustRoot::parse("sandbox", json.as_bytes()).unwrap()),
            public_good: Arc::new(TrustRoot::public_good().unwrap()),
            sigstore,
            identities: BTreeMap::from(["release", "build", "stranger"].map(identity)),
            key: SandboxKey::generate().unwrap(),
        }
    }

    pub fn trusted_root(&self) -> String {
        self.sigstore.trusted_root().to_string()
    }

    /// A cosign 3 signature with everything.
    pub fn bundle(&self, image: &Digest, by: &str) -> serde_json::Value {
        let signer = match by {
            "key" => SandboxSigner::Key(&self.key),
            person => SandboxSigner::Identity(&self.identities[person]),
        };
        let signing = self.sigstore.signing();
        signing.sign(signer, image, &BTreeMap::new()).unwrap()
    }

    /// An attestation with everything, as a bundle.
    pub fn attestation(
        &self,
        image: &Digest,
        by: &str,
        (kind, predicate): (&str, Value),
        ago: Option<Age>,
    ) -> Vec<u8> {
        let attached = Attached {
            form: Form::Attestation,
            statement: Some((kind.to_owned(), predicate)),
            ago,
            ..Attached::by(by)
        };
        self.attached(image, &attached).to_string().into_bytes()
    }

    /// An attestation about several images, as a bundle; by one of the usual signers, or by the person with this address.
    pub fn attestation_of(
        &self,
        images: &[Digest],
        by: &str,
        (kind, predicate): (&str, &Value),
    ) -> Vec<u8> {
        let person = SandboxIdentity::new(by, ISSUER);
        let signer = SandboxSigner::Identity(self.identities.get(by).unwrap_or(&person));
        let signing = self.sigstore.signing();
        let bundle = signing.attest_all(signer, images, kind, predicate);
        bundle.unwrap().to_string().into_bytes()
    }

    /// The bundle of something attached.
    pub fn attached(&self, image: &Digest, attached: &Attached) -> Value {
        match self.material(image, attached) {
            Material::Bundle(bytes) => serde_json::from_slice(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// A cosign 2 signature with everything.
    pub fn simple(&self, image: &Digest, by: &str) -> SimpleSignature {
        let signer = SandboxSigner::Identity(&self.identities[by]);
        let signing = self.sigstore.signing();
        signing
            .sign_simply(signer, image, &BTreeMap::new())
            .unwrap()
    }

    pub fn trust_roots(&self) -> TrustRoots {
        BTreeMap::from([
            ("sandbox".to_owned(), Arc::clone(&self.root)),
            ("sigstore".to_owned(), Arc::clone(&self.public_good)),
        ])
    }

    /// What verification makes of it, under the root, the key with the root, and the key alone.
    pub fn add(&self, evidence: &mut ImageEvidence, image: &Digest, attached: &Attached) {
        let material = self.material(image, attached);
        let key = Arc::new(PublicKey::from_pem(&self.key.public_pem()).unwrap());
        let root = || Arc::clone(&self.root);
        let anchors = [
            Anchor::Root(root()),
            Anchor::Key {
                key: Arc::clone(&key),
                root: Some(root()),
            },
            Anchor::Key { key, root: None },
        ];
        let source = EvidenceSource(format!("test by {}", attached.by));
        let mut refused = Vec::new();
        let mut accepted = false;
        for anchor in &anchors {
            match verify(&material, image, anchor) {
                Ok(Verified::Signature(signature)) => {
                    accepted = true;
                    evidence.signatures.push((source.clone(), signature.into()));
                }
                Ok(Verified::Statement(statement)) => {
                    accepted = true;
                    evidence.statements.push((source.clone(), statement.into()));
                }
                Err(why) => refused.push(why),
            }
        }
        if !accepted {
            evidence.unaccepted.push(UnacceptedEvidence {
                source,
                form: gate::Form::Either,
                why: refused.remove(0),
            });
        }
    }

    fn material(&self, image: &Digest, attached: &Attached) -> Material {
        let Attached {
            by,
            form,
            annotations,
            ..
        } = attached;
        let workflow = |subject: &str| {
            let mut claims: BTreeMap<u64, Option<String>> = CLAIMS
                .map(|(arc, value)| (arc, Some(value.to_owned())))
                .into();
            claims.extend(attached.claims.clone());
            let claims = claims.into_iter();
            claims.fold(
                SandboxIdentity::new(subject, ISSUER),
                |identity, (arc, value)| match value {
                    Some(value) => identity.with_claim(arc, value),
                    None => identity,
                },
            )
        };
        let workflow = match by.as_str() {
            "builder" => Some(workflow(BUILDER)),
            "other-builder" => Some(workflow(&BUILDER.replace("v1.4.0", "v1.5.0"))),
            "delegator" => Some(workflow(DELEGATOR)),
            "own-workflow" => Some(workflow(OWN_WORKFLOW)),
            identity if identity.contains("://") => Some(workflow(identity)),
            person if person.contains('@') => Some(SandboxIdentity::new(person, ISSUER)),
            _ => None,
        };
        let signer = match (self.identities.get(by.as_str()), &workflow) {
            (Some(identity), _) | (None, Some(identity)) => SandboxSigner::Identity(identity),
            (None, None) => SandboxSigner::Key(&self.key),
        };
        let another = Digest::sha256(b"another image");
        let about = if attached.about_another {
            &another
        } else {
            image
        };
        let signing = self.signing(attached);
        let predicate = || match (&attached.provenance, &attached.statement) {
            (Some(provenance), _) => provenance.predicate(),
            (None, Some((kind, predicate))) => (statement_type(kind), predicate.clone()),
            (None, None) => ("https://example.com/test/v1", json!({})),
        };
        let bytes = |bundle: serde_json::Value| Material::Bundle(bundle.to_string().into_bytes());
        match form {
            Form::Bundle => bytes(signing.sign(signer, about, annotations).unwrap()),
            Form::Attestation => {
                let (kind, predicate) = predicate();
                let mut bundle = signing.attest(signer, about, kind, &predicate).unwrap();
                if let Some(at) = attached.also_stamped {
                    self.stamp(&mut bundle, at);
                }
                bytes(bundle)
            }
            Form::LegacyAttestation => {
                let (kind, predicate) = predicate();
                let layer = signing
                    .attest_simply(signer, about, kind, &predicate, EnvelopeEntry::IntotoV1)
                    .unwrap();
                Material::Attestation {
                    envelope: layer.payload,
                    annotations: layer.annotations,
                }
            }
            Form::SimpleSigning => {
                let layer = signing.sign_simply(signer, about, annotations).unwrap();
                Material::SimpleSigning {
                    payload: layer.payload,
                    annotations: layer.annotations,
                }
            }
            Form::Junk => Material::Bundle(b"{\"mediaType\": 7}".to_vec()),
        }
    }

    /// Adds a timestamp to a bundle.
    fn stamp(&self, bundle: &mut Value, at: Timestamp) {
        let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str();
        let signature = STANDARD.decode(signature.unwrap()).unwrap();
        let stamp = STANDARD.encode(self.sigstore.stamp(&signature, at).unwrap());
        let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
        let stamps = bundle.pointer_mut(stamps).and_then(Value::as_array_mut);
        stamps.unwrap().push(json!({ "signedTimestamp": stamp }));
    }

    fn signing(&self, attached: &Attached) -> Signing<'_> {
        let mut signing = self.sigstore.signing();
        let before = |ago: Age| Timestamp::now().saturating_sub(ago.duration()).unwrap();
        if let Some(at) = attached.at.or(attached.ago.map(before)) {
            signing = signing.at(at);
        }
        if !attached.logged {
            signing = signing.unlogged();
        }
        if !attached.stamped {
            signing = signing.unstamped();
        }
        signing
    }

    /// A policy whose `spec` is given.
    #[track_caller]
    pub fn policy(&self, name: &str, spec: &serde_json::Value) -> Policy {
        let document = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PromotionPolicy",
            "metadata": {"name": name},
            "spec": spec,
        });
        let source = (format!("{name}.yaml"), document.to_string().into_bytes());
        // A policy may name an incident check only where there is one.
        let check = spec.pointer("/emergency/incident/check").map(|check| {
            let check = json!({
                "apiVersion": "promotion-gate.dev/v1alpha1",
                "kind": "IncidentCheck",
                "metadata": {"name": check},
                "spec": {"preset": "PagerDuty", "url": "https://api.pagerduty.com"},
            });
            ("check.yaml".to_owned(), check.to_string().into_bytes())
        });
        let sources: Vec<_> = [source].into_iter().chain(check).collect();
        let set = api::load(&sources, &self.trust_roots());
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        set.policies.into_iter().next().unwrap()
    }
}

/// An accepted signer of a policy, under the root of the sandbox.
pub fn keyless(identity: &str) -> Value {
    json!({"keyless": {"issuer": ISSUER, "identity": identity, "trustRoots": ["sandbox"]}})
}

/// A requirement that one signer meets.
pub fn signed_by(identity: &str) -> Value {
    json!({"signature": {"anyOf": [keyless(identity)]}})
}

fn statement_type(kind: &str) -> &str {
    match kind {
        "approval" => "https://promotion-gate.dev/approval/v1",
        "change" => "https://promotion-gate.dev/change/v1",
        other => other,
    }
}

/// A Deployment in `shop` that runs these images.
pub fn promotion(images: &[String]) -> Promotion {
    let images: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(index, written)| ImageUse {
            field: format!("spec.template.spec.containers[{index}].image"),
            role: Role::Container,
            reference: written.parse().unwrap(),
        })
        .collect();
    let pins = images
        .iter()
        .map(|image| match image.reference.digest() {
            Some(digest) => Pin::Written(digest.clone()),
            None => Pin::NotNeeded,
        })
        .collect();
    Promotion {
        change: Change {
            id: "test".to_owned(),
            operation: Operation::Create,
            effect: ChangeEffect::Runs,
            workload: Workload {
                group: "apps".to_owned(),
                version: "v1".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: Some("shop".to_owned()),
                name: "web".to_owned(),
            },
            actor: None,
            dry_run: false,
            object: ChangedObject::default(),
            images,
            unreadable: Vec::new(),
        },
        kind: ChangeKind::Deploy,
        at: Timestamp::now(),
        pins,
        records: Records::not_kept(),
        injected: None,
    }
}

pub fn snapshot(policies: Vec<Policy>) -> Snapshot {
    Snapshot {
        policies,
        world: World {
            trust_roots: FACTS.trust_roots(),
            ..World::default()
        },
        revision: "test".to_owned(),
        ..Snapshot::default()
    }
}

/// Judges by the policies of a snapshot that govern the promotion.
pub fn judge(promotion: &Promotion, evidence: &Evidence, snapshot: &Snapshot) -> Verdict {
    gate::judge(promotion, evidence, &snapshot.governing(&promotion.change))
}
