//! What `quickstart` shows: images with their evidence, policies, people, a freeze, and the requests of an API server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use promotion_gate_core::attest::predicate::ChangeRecord;
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use crate::sandbox::{
    SandboxIdentity, SandboxKey, SandboxRegistry, SandboxSigner, Sigstore, TlsIdentity,
    admission_review, attach_bundle, attach_signatures, push_image,
};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
pub(super) const RELEASE: &str =
    "https://github.com/example/app/.github/workflows/release.yml@refs/heads/main";
const STRANGER: &str =
    "https://github.com/stranger/app/.github/workflows/release.yml@refs/heads/main";
const RECORDER: &str =
    "https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v1";
const SOURCE: &str = "https://github.com/example/app";
const COMMIT: &str = "5f9c1c0e7d3b4a2f8e6d5c4b3a29181706f5e4d3";
const NEXT_COMMIT: &str = "a3d2e1f0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4";

/// The images in the sandbox's registry.
pub(super) struct Images {
    /// The release that people approve in the steps.
    pub(super) signed: Digest,
    /// The release after it, which is left to be approved.
    pub(super) next: Digest,
    pub(super) signed_by_cosign_2: Digest,
    pub(super) unsigned: Digest,
    pub(super) by_a_stranger: Digest,
}

pub(super) fn fill(registry: &SandboxRegistry, sigstore: &Sigstore) -> anyhow::Result<Images> {
    let none = BTreeMap::new();
    let signed = push_image(registry, "app", "v1", "signed")?;
    registry.tag("app", "latest", &signed.to_string());
    release(registry, sigstore, &signed, COMMIT)?;
    let next = push_image(registry, "app", "v2", "signed, the next version")?;
    release(registry, sigstore, &next, NEXT_COMMIT)?;

    let workflow = release_workflow(COMMIT);
    let release = SandboxSigner::Identity(&workflow);
    let signed_by_cosign_2 = push_image(registry, "app", "v0", "signed by cosign 2")?;
    let signature = sigstore
        .signing()
        .sign_simply(release, &signed_by_cosign_2, &none)?;
    attach_signatures(registry, "app", &signed_by_cosign_2, &[signature])?;

    let stranger = SandboxIdentity::new(STRANGER, ISSUER);
    let by_a_stranger = push_image(registry, "app", "fork", "by a stranger")?;
    let bundle =
        sigstore
            .signing()
            .sign(SandboxSigner::Identity(&stranger), &by_a_stranger, &none)?;
    attach_bundle(registry, "app", &by_a_stranger, &bundle)?;

    Ok(Images {
        signed,
        next,
        signed_by_cosign_2,
        unsigned: push_image(registry, "app", "unsigned", "unsigned")?,
        by_a_stranger,
    })
}

/// What a release has: the signature and the provenance of the workflow, and the record of the change.
fn release(
    registry: &SandboxRegistry,
    sigstore: &Sigstore,
    image: &Digest,
    commit: &str,
) -> anyhow::Result<()> {
    let workflow = release_workflow(commit);
    let release = SandboxSigner::Identity(&workflow);
    let bundle = sigstore.signing().sign(release, image, &BTreeMap::new())?;
    attach_bundle(registry, "app", image, &bundle)?;
    let recorder = SandboxIdentity::new(RECORDER, ISSUER);
    let (provenance, record) = (provenance(commit), change_record(commit));
    for (signer, kind, predicate) in [
        (&workflow, "https://slsa.dev/provenance/v1", &provenance),
        (&recorder, ChangeRecord::TYPE, &record),
    ] {
        let signer = SandboxSigner::Identity(signer);
        let bundle = sigstore.signing().attest(signer, image, kind, predicate)?;
        attach_bundle(registry, "app", image, &bundle)?;
    }
    Ok(())
}

/// The release workflow, with the claims of its certificate that say what it built: source repository, commit and ref.
fn release_workflow(commit: &str) -> SandboxIdentity {
    SandboxIdentity::new(RELEASE, ISSUER)
        .with_claim(12, SOURCE)
        .with_claim(13, commit)
        .with_claim(14, "refs/heads/main")
}

/// Provenance (SLSA v1) as `actions/attest-build-provenance` writes it.
fn provenance(commit: &str) -> Value {
    let workflow = json!({"repository": SOURCE, "ref": "refs/heads/main", "path": ".github/workflows/release.yml"});
    json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": workflow},
            "resolvedDependencies": [
                {"uri": format!("git+{SOURCE}@refs/heads/main"), "digest": {"gitCommit": commit}},
            ],
        },
        "runDetails": {"builder": {"id": RELEASE}},
    })
}

/// The record of a change by Alice, as `attest change` writes it.
fn change_record(commit: &str) -> Value {
    let alice = json!({"github": {"login": "alice-example", "id": 1001}});
    json!({
        "repository": {"uri": SOURCE},
        "to": commit,
        "commits": [{"sha": commit, "authors": [alice]}],
        "complete": true,
        "unknownAuthors": [],
        "authors": [{"identity": alice, "role": "opened", "pullRequest": 12}],
        "reviewers": [],
        "pullRequests": [],
    })
}

pub(super) fn write_files(
    folder: &Path,
    registry: &str,
    sigstore: &Sigstore,
    tls: &TlsIdentity,
) -> anyhow::Result<()> {
    write(
        folder,
        "trusted_root.json",
        &pretty(&sigstore.trusted_root()),
    )?;
    write(folder, "ca.crt", &tls.authority_pem)?;
    write(folder, "tls.crt", &tls.certificate_pem)?;
    write(folder, "tls.key", &tls.key_pem)?;
    write(folder, "gate.yaml", GATE)?;
    write(
        folder,
        "policies/shop.yaml",
        &SHOP.replace("REGISTRY", registry),
    )?;
    write(folder, "policies/prod.yaml", PROD)?;
    write(folder, "policies/preview.yaml", PREVIEW)
}

/// Who is who, everybody's key, and the services with which people sign: a timestamp authority.
pub(super) fn write_people(folder: &Path, timestamps: &str) -> anyhow::Result<()> {
    let mut people = PEOPLE.to_owned();
    for person in ["alice", "bob", "carol", "dave"] {
        let key = SandboxKey::generate()?;
        write(folder, &format!("keys/{person}.key"), &key.private_pem())?;
        let pem = json!(key.public_pem()).to_string();
        people = people.replace(&format!("KEY_OF_{person}"), &pem);
    }
    write(folder, "policies/people.yaml", &people)?;
    let authority = json!({
        "url": timestamps,
        "majorApiVersion": 1,
        "operator": "sandbox",
        "validFor": {"start": "2020-01-01T00:00:00Z"},
    });
    let services = json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "tsaUrls": [authority],
        "tsaConfig": {"selector": "ANY"},
    });
    write(folder, "signing.json", &pretty(&services))
}

pub(super) fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path: PathBuf = folder.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("`{}` cannot be made", parent.display()))?;
    }
    std::fs::write(&path, text).with_context(|| format!("`{}` cannot be written", path.display()))
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

const GATE: &str = "\
# The configuration of the webhook and the commands: the sandbox's trust root, under a name that policies use.
apiVersion: promotion-gate.dev/v1alpha1
kind: GateConfiguration
trustRoots:
- name: sandbox
  file: trusted_root.json
";

const SHOP: &str = "\
# Images in `shop` are named by digest, come from our registry, and are signed by the release workflow.
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata:
  name: shop
spec:
  enforcement: Enforce
  match:
    namespaces: {names: [shop]}
  requirements:
  - digestPinned: {}
  - allowedImages:
      patterns: [\"REGISTRY/**\"]
  - signature:
      anyOf:
      - keyless:
          issuer: https://token.actions.githubusercontent.com
          identity: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
          trustRoots: [sandbox]
";

const PROD: &str = "\
# Images in `prod` are signed and built by the release workflow, two people who did not write the change have approved them, and no
# freeze of production lasts. In an emergency, a change passes a freeze that two of these people agree to.
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata:
  name: prod
spec:
  environment: production
  enforcement: Enforce
  match:
    namespaces: {names: [prod]}
  requirements:
  - digestPinned: {}
  - signature:
      anyOf:
      - keyless: &release
          issuer: https://token.actions.githubusercontent.com
          identity: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
          trustRoots: [sandbox]
  - provenance:
      builders:
      - id: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
        signedBy: {keyless: *release}
      sources: [{glob: \"https://github.com/example/*\"}]
  - approvals:
      from: [{group: release-approvers, count: 2}]
      trustRoots: [sandbox]
      authorsFrom:   # who wrote the change: recorded by a workflow that its authors cannot edit
      - changeRecord:
          signedBy:
            keyless:
              issuer: https://token.actions.githubusercontent.com
              identity: {glob: \"https://github.com/example/release-tools/.github/workflows/change.yml@refs/tags/v*\"}
              trustRoots: [sandbox]
  - noFreeze: {}
  emergency:
    from: [{group: release-approvers, count: 2}]
    waives: [noFreeze]
    reviewWithin: 48h
";

const PEOPLE: &str = "\
# Who is who: how people sign approvals (key) and how they write code (github), and who may approve.
apiVersion: promotion-gate.dev/v1alpha1
kind: PeopleDirectory
metadata:
  name: example
spec:
  people:
  - name: alice
    identities:
    - key: {pem: KEY_OF_alice}
    - github: {login: alice-example, id: 1001}
  - name: bob
    identities:
    - key: {pem: KEY_OF_bob}
  - name: carol
    identities:
    - key: {pem: KEY_OF_carol}
  - name: dave
    identities:
    - key: {pem: KEY_OF_dave}
  groups:
  - name: release-approvers
    members: [alice, bob, carol]
";

const PREVIEW: &str = "\
# Images in `preview` may be named by tag: the digest that the tag names at review time is judged.
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata:
  name: preview
spec:
  enforcement: Enforce
  tags: Resolve
  match:
    namespaces: {names: [preview]}
  requirements:
  - signature:
      anyOf:
      - keyless:
          issuer: https://token.actions.githubusercontent.com
          identity: {glob: \"https://github.com/example/*/.github/workflows/release.yml@refs/heads/main\"}
          trustRoots: [sandbox]
";

/// The request that an API server sends when a Deployment is created.
pub(super) fn review(id: &str, namespace: &str, image: &str) -> Value {
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    });
    admission_review(id, deployment)
}

/// The request that an API server sends when the controller of ReplicaSets creates a Pod.
pub(super) fn pod_by_controller(id: &str, namespace: &str, image: &str) -> Value {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": namespace},
        "spec": {"containers": [{"name": "web", "image": image}]},
    });
    let mut review = admission_review(id, pod);
    if let Some(user) = review.pointer_mut("/request/userInfo") {
        *user = json!({"username": "system:serviceaccount:kube-system:replicaset-controller"});
    }
    review
}

/// A freeze of production, from one time to another.
pub(super) fn freeze(from: Timestamp, until: Timestamp) -> String {
    format!(
        "\
# Nothing changes in production between these times.
apiVersion: promotion-gate.dev/v1alpha1
kind: ChangeFreeze
metadata:
  name: lunch-break
spec:
  environments: [production]
  reason: Everybody is at lunch
  owner: bob
  windows:
  - {{from: \"{from}\", until: \"{until}\"}}
"
    )
}
