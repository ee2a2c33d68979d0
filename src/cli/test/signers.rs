//! The signers of a test: identities and keys of the sandbox, and the trust roots and policies that accept them. What they sign
//! is verified in full.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use promotion_gate_core::attest::media_type::{BUNDLE, ENVELOPE, SIMPLE_SIGNING};
use promotion_gate_core::attest::predicate::EmergencyChange;
use promotion_gate_core::attest::{Claim, PublicKey, TrustRoot};
use promotion_gate_core::documents;
use promotion_gate_core::gate::{DEFAULT_TRUST_ROOT, Digest, KeptSigner, TrustRoots};
use serde_json::Value;

use super::format::{EvidenceForm, SignerSpec};
use super::load::{TestFact, What};
use crate::api::SourceFile;
use crate::config::Config;
use crate::oci::{Layer, Via};
use crate::sandbox::{
    EnvelopeEntry, SandboxIdentity, SandboxKey, SandboxSigner, Sigstore, SimpleSignature,
};

/// The signers of a test, and the trust roots that accept them.
pub(super) struct TestSigners {
    roots: BTreeMap<String, SandboxRoot>,
    signers: BTreeMap<String, TestSigner>,
    /// Keys (PEM) by the fingerprint of the policy's key that they replace.
    stand_ins: BTreeMap<String, String>,
}

/// A trust root that accepts what it accepted before and what the sandbox signs.
struct SandboxRoot {
    sigstore: Sigstore,
    root: Arc<TrustRoot>,
    /// Whether the root lists logs; the sandbox's log is used only then.
    logs: bool,
    /// Whether it lists timestamp authorities.
    stamps: bool,
}

struct TestSigner {
    who: SignerKind,
    root: String,
}

enum SignerKind {
    Identity(SandboxIdentity),
    Key(SandboxKey),
}

/// Which key of the sandbox a signer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyRole {
    /// It stands in for the policies' key with this fingerprint.
    StandIn(String),
    /// No policy names it.
    Stranger,
}

impl TestSigners {
    /// Makes a sandbox for each trust root, and the signers.
    pub(super) fn create(
        config: &Config,
        signers: &BTreeMap<String, SignerSpec>,
        keys: &BTreeMap<String, KeyRole>,
    ) -> anyhow::Result<TestSigners> {
        let mut made = TestSigners {
            roots: BTreeMap::new(),
            signers: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
        };
        for (name, root) in &config.world.trust_roots {
            made.roots.insert(name.clone(), SandboxRoot::build(root)?);
        }
        for (name, spec) in signers {
            let who = match keys.get(name) {
                Some(role) => {
                    let key = SandboxKey::generate()?;
                    if let KeyRole::StandIn(fingerprint) = role {
                        made.stand_ins.insert(fingerprint.clone(), key.public_pem());
                    }
                    SignerKind::Key(key)
                }
                None => SignerKind::Identity(identity(spec)),
            };
            let root = trust_root(spec).to_owned();
            made.signers.insert(name.clone(), TestSigner { who, root });
        }
        Ok(made)
    }

    /// The trust roots, which accept the sandbox's signatures besides real ones.
    pub(super) fn trust_roots(&self) -> TrustRoots {
        self.roots
            .iter()
            .map(|(name, root)| (name.clone(), Arc::clone(&root.root)))
            .collect()
    }

    /// The signer of this name, as the cluster keeps signers.
    pub(super) fn kept(&self, name: &str) -> Option<KeptSigner> {
        Some(match &self.signers.get(name)?.who {
            SignerKind::Identity(identity) => KeptSigner::Keyless {
                issuer: identity.issuer().to_owned(),
                identity: identity.subject().to_owned(),
            },
            SignerKind::Key(key) => {
                let key = PublicKey::from_pem(&key.public_pem()).ok()?;
                KeptSigner::Key(key.fingerprint().clone())
            }
        })
    }

    /// The policies, with the sandbox's keys in place of those that they stand in for.
    pub(super) fn policies(&self, sources: &[SourceFile]) -> Vec<SourceFile> {
        if self.stand_ins.is_empty() {
            return sources.to_vec();
        }
        let replaced = |(file, bytes): &SourceFile| {
            let (documents, _) = documents::read(file, bytes);
            let mut text = String::new();
            for document in documents {
                let mut value = document.value;
                each_key(&mut value, &mut |key, pem| {
                    if let Some(stand_in) = self.stand_ins.get(&key.fingerprint().to_string()) {
                        stand_in.clone_into(pem);
                    }
                });
                text.push_str(&value.to_string());
                text.push('\n');
            }
            (file.clone(), text.into_bytes())
        };
        sources.iter().map(replaced).collect()
    }

    /// Signs a fact about `subject`. Returns how it is attached, and the layer that holds it.
    pub(super) fn sign(&self, fact: &TestFact, subject: &Digest) -> anyhow::Result<(Via, Layer)> {
        let missing = || format!("there is no signer `{}`", fact.by);
        let signer = self.signers.get(&fact.by).with_context(missing)?;
        let sandbox = self.roots.get(&signer.root).with_context(missing)?;
        let signer = match &signer.who {
            SignerKind::Identity(identity) => SandboxSigner::Identity(identity),
            SignerKind::Key(key) => SandboxSigner::Key(key),
        };
        let mut signing = sandbox.sigstore.signing().at(fact.at);
        if !(fact.logged && sandbox.logs) {
            signing = signing.unlogged();
        }
        if !(fact.stamped && sandbox.stamps) {
            signing = signing.unstamped();
        }
        let subject = fact.about.as_ref().unwrap_or(subject);
        let bundle = |bundle: Value| {
            let layer = Layer {
                media_type: BUNDLE.to_owned(),
                bytes: bundle.to_string().into_bytes(),
                annotations: BTreeMap::new(),
            };
            (Via::Referrers, layer)
        };
        let legacy = |via, media_type: &str, signed: SimpleSignature| {
            let layer = Layer {
                media_type: media_type.to_owned(),
                bytes: signed.payload,
                annotations: signed.annotations,
            };
            (via, layer)
        };
        Ok(match (&fact.what, fact.form) {
            (What::Signature(annotations), EvidenceForm::Bundle) => {
                bundle(signing.sign(signer, subject, annotations)?)
            }
            (What::Signature(annotations), EvidenceForm::Legacy) => legacy(
                Via::SigTag,
                SIMPLE_SIGNING,
                signing.sign_simply(signer, subject, annotations)?,
            ),
            (What::Declaration(predicate, subjects), _) => {
                let kind = EmergencyChange::TYPE;
                bundle(signing.attest_all(signer, subjects, kind, predicate)?)
            }
            (What::Statement(kind, predicate), EvidenceForm::Bundle) => {
                bundle(signing.attest(signer, subject, kind, predicate)?)
            }
            (What::Statement(kind, predicate), EvidenceForm::Legacy) => legacy(
                Via::AttTag,
                ENVELOPE,
                signing.attest_simply(signer, subject, kind, predicate, EnvelopeEntry::Dsse)?,
            ),
        })
    }
}

impl SandboxRoot {
    /// The sandbox's root gets the lists that `root` has, so that a log entry is required under the same conditions.
    fn build(root: &TrustRoot) -> anyhow::Result<SandboxRoot> {
        let sigstore = Sigstore::create()?;
        let (logs, stamps) = (root.has_logs(), root.has_timestamp_authorities());
        // A case may happen at any time.
        let mut sandbox = sigstore.trusted_root_since(Timestamp::UNIX_EPOCH);
        if let Some(lists) = sandbox.as_object_mut() {
            lists.retain(|list, _| match list.as_str() {
                "tlogs" => logs,
                "certificateAuthorities" => root.has_certificate_authorities(),
                "timestampAuthorities" => stamps,
                _ => true,
            });
        }
        let sandbox = TrustRoot::parse("sandbox", sandbox.to_string().as_bytes())?;
        Ok(SandboxRoot {
            root: Arc::new(root.or(&sandbox)),
            sigstore,
            logs,
            stamps,
        })
    }
}

/// The name of the trust root of a signer.
pub(super) fn trust_root(signer: &SignerSpec) -> &str {
    signer.trust_root.as_deref().unwrap_or(DEFAULT_TRUST_ROOT)
}

fn identity(spec: &SignerSpec) -> SandboxIdentity {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let identity = SandboxIdentity::new(text(&spec.identity), text(&spec.issuer));
    spec.claims
        .iter()
        .fold(identity, |identity, (claim, value)| {
            identity.with_claim(arc(*claim), value)
        })
}

/// The last arc of a claim's object identifier (fulcio, `docs/oid-info.md`).
fn arc(claim: Claim) -> u64 {
    match claim {
        Claim::GithubWorkflowTrigger => 2,
        Claim::GithubWorkflowSha => 3,
        Claim::GithubWorkflowName => 4,
        Claim::GithubWorkflowRepository => 5,
        Claim::GithubWorkflowRef => 6,
        Claim::BuildSignerUri => 9,
        Claim::BuildSignerDigest => 10,
        Claim::RunnerEnvironment => 11,
        Claim::SourceRepositoryUri => 12,
        Claim::SourceRepositoryDigest => 13,
        Claim::SourceRepositoryRef => 14,
        Claim::SourceRepositoryIdentifier => 15,
        Claim::SourceRepositoryOwnerUri => 16,
        Claim::SourceRepositoryOwnerIdentifier => 17,
        Claim::BuildConfigUri => 18,
        Claim::BuildConfigDigest => 19,
        Claim::BuildTrigger => 20,
        Claim::RunInvocationUri => 21,
        Claim::SourceRepositoryVisibility => 22,
        Claim::DeploymentEnvironment => 23,
        Claim::TokenSubject => 24,
    }
}

/// The fingerprints of all keys in some policies.
pub(super) fn keys_of(sources: &[SourceFile]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (file, bytes) in sources {
        let (documents, _) = documents::read(file, bytes);
        for mut document in documents {
            each_key(&mut document.value, &mut |key, _| {
                keys.insert(key.fingerprint().to_string());
            });
        }
    }
    keys
}

/// Visits every `pem` that is a public key, under any rule.
fn each_key(value: &mut Value, visit: &mut impl FnMut(&PublicKey, &mut String)) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                match value {
                    Value::String(pem) if name == "pem" => {
                        if let Ok(key) = PublicKey::from_pem(pem) {
                            visit(&key, pem);
                        }
                    }
                    value => each_key(value, visit),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_key(item, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::{
        Anchor, Material, Signer as Verified, Verified as TestFact, verify,
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn every_claim_arrives_in_the_certificate_under_its_own_number() {
        let schema = schemars::schema_for!(Claim);
        let variants = schema.as_value()["oneOf"].as_array().unwrap();
        let claims: BTreeMap<Claim, String> = variants
            .iter()
            .map(|variant| {
                let claim: Claim = serde_json::from_value(variant["const"].clone()).unwrap();
                // Three claims of old have to agree with their successors.
                let value = match arc(claim) {
                    2 | 20 => "trigger".to_owned(),
                    3 | 13 => "commit".to_owned(),
                    6 | 14 => "ref".to_owned(),
                    arc => format!("claim {arc}"),
                };
                (claim, value)
            })
            .collect();
        assert!(claims.len() > 20);
        let spec: SignerSpec = serde_json::from_value(json!({
            "identity": "a@example.com", "issuer": "https://issuer.example", "claims": claims,
        }))
        .unwrap();
        let sandbox = SandboxRoot::build(&TrustRoot::public_good().unwrap()).unwrap();
        let digest = Digest::sha256(b"image");
        let signing = sandbox.sigstore.signing();
        let bundle = signing
            .sign(
                SandboxSigner::Identity(&identity(&spec)),
                &digest,
                &BTreeMap::new(),
            )
            .unwrap();
        let material = Material::Bundle(bundle.to_string().into_bytes());
        let TestFact::Signature(signature) =
            verify(&material, &digest, &Anchor::Root(sandbox.root)).unwrap()
        else {
            unreachable!("a signature is one");
        };
        let Verified::Certificate(certificate) = signature.signer() else {
            unreachable!("the signer is an identity");
        };
        assert_eq!(certificate.claims(), &claims);
    }

    #[test]
    fn an_attestation_in_the_legacy_layout_is_a_statement() {
        let sandbox = SandboxRoot::build(&TrustRoot::public_good().unwrap()).unwrap();
        let digest = Digest::sha256(b"image");
        let who = SandboxIdentity::new("a@example.com", "https://issuer.example");
        for signing in [
            sandbox.sigstore.signing(),
            sandbox.sigstore.signing().unstamped(),
            sandbox.sigstore.signing().unlogged(),
        ] {
            let signed = signing
                .attest_simply(
                    SandboxSigner::Identity(&who),
                    &digest,
                    "https://example.com/v1",
                    &json!({"a": 1}),
                    EnvelopeEntry::Dsse,
                )
                .unwrap();
            let material = Material::Attestation {
                envelope: signed.payload,
                annotations: signed.annotations,
            };
            let verified = verify(&material, &digest, &Anchor::Root(Arc::clone(&sandbox.root)));
            assert!(
                matches!(verified, Ok(TestFact::Statement(_))),
                "{verified:?}"
            );
        }
    }
}
