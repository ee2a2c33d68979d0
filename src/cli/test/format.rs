//! A test of policies as written. Digests, times and images are texts here; `load` parses them and reports all their problems
//! at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use promotion_gate_core::attest::Claim;
use promotion_gate_core::attest::predicate::VulnerabilitySeverity;
use promotion_gate_core::gate::Severity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::ChangeFreezeSpec;

/// The whole document.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "`apiVersion` and `kind` are checked before, and stand here for the schema"
)]
pub(super) struct PolicyTest {
    api_version: String,
    kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Metadata {
    pub(super) name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    /// The policies under test: files and folders, relative to this file.
    #[schemars(length(min = 1))]
    pub(super) policies: Vec<PathBuf>,
    /// The configuration, relative to this file; that of `--config` when absent.
    pub(super) config: Option<PathBuf>,
    /// The signers of the cases, by name.
    #[serde(default)]
    pub(super) signers: BTreeMap<String, SignerSpec>,
    /// The name of the cluster; that of the configuration when absent.
    pub(super) cluster: Option<String>,
    /// The image of cases that do not name anything else.
    pub(super) image: Option<String>,
    /// The namespace of cases that do not name one; `default` when absent.
    pub(super) namespace: Option<String>,
    /// The time of cases that do not name one; now when absent.
    pub(super) at: Option<String>,
    /// The labels of that namespace, for cases that do not give any.
    pub(super) namespace_labels: Option<BTreeMap<String, String>>,
    /// The requests and the expected decisions.
    #[schemars(length(min = 1))]
    pub(super) cases: Vec<CaseSpec>,
}

/// Exactly one of `identity` (with `issuer`) and `key`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SignerSpec {
    /// The certificate's subject: an e-mail address, or the URI of a workflow.
    pub(super) identity: Option<String>,
    /// The OIDC issuer of the identity.
    pub(super) issuer: Option<String>,
    /// Further claims of the certificate.
    #[serde(default)]
    pub(super) claims: BTreeMap<Claim, String>,
    /// `policy`: a key in place of the only one that the policies name; `sha256:…`: a key in place of the one with this
    /// fingerprint, as denials show it; `stranger`: a key that no policy names.
    pub(super) key: Option<String>,
    /// The trust root of the signer; `sigstore` when absent.
    pub(super) trust_root: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CaseSpec {
    /// What the case shows, as a sentence.
    pub(super) name: String,
    /// A Pod that runs this image.
    pub(super) image: Option<String>,
    /// A Pod that runs an image with this digest and no known name.
    pub(super) digest: Option<String>,
    /// A Kubernetes object.
    pub(super) object: Option<Map<String, Value>>,
    /// A manifest, relative to this file.
    pub(super) file: Option<PathBuf>,
    /// The digests of tags, by the image as written.
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    /// The namespace of objects that do not name one.
    pub(super) namespace: Option<String>,
    /// The labels of the namespace.
    pub(super) namespace_labels: Option<BTreeMap<String, String>>,
    /// The user who makes the request.
    #[serde(rename = "as")]
    pub(super) user: Option<String>,
    /// The groups of that user.
    #[serde(default)]
    pub(super) as_groups: Vec<String>,
    /// The time of the review; that of the test when absent.
    pub(super) at: Option<String>,
    /// The change freezes, each as the `spec` of a `ChangeFreeze`; those of the policy files when absent.
    pub(super) freezes: Option<Vec<ChangeFreezeSpec>>,
    /// What the feeds of change freezes answer, by the name of the freeze. A feed that is not here was never read.
    #[serde(default)]
    pub(super) feeds: BTreeMap<String, FeedAnswer>,
    /// What release records say of the workload; without it there are no records.
    pub(super) record: Option<Vec<RecordSpec>>,
    /// The object for which a controller creates the Pod of the case, such as a ReplicaSet. Images that its template does not have were
    /// added by an injector.
    pub(super) parent: Option<Map<String, Value>>,
    /// Digests that are revoked.
    #[serde(default)]
    pub(super) revocations: Vec<RevocationSpec>,
    /// Rejections that the cluster keeps.
    #[serde(default)]
    pub(super) rejections: Vec<KeptRejectionSpec>,
    /// What OpenVEX documents that were seen before took back, and the cluster keeps.
    #[serde(default)]
    pub(super) vex_records: Vec<KeptVexSpec>,
    /// The incidents that incident checks know, by id.
    #[serde(default)]
    pub(super) incidents: BTreeMap<String, IncidentSpec>,
    /// The evidence that is attached to the images.
    #[serde(default)]
    pub(super) evidence: Vec<EvidenceSpec>,
    pub(super) expect: ExpectSpec,
}

/// What an incident check answers.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IncidentSpec {
    /// Whether it is open; `true` when absent.
    pub(super) open: Option<bool>,
    /// How severe it is.
    pub(super) severity: Option<Severity>,
    /// How long before the review it was opened, such as `30m`.
    pub(super) opened_ago: Option<String>,
    /// Who opened it.
    pub(super) opened_by: Option<String>,
    /// The service that it is about.
    pub(super) service: Option<String>,
    /// The tracker does not answer, and why.
    pub(super) unreachable: Option<String>,
}

/// An earlier admission of the workload.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RecordSpec {
    /// How long before the review, such as `3d`.
    pub(super) ago: String,
    /// The image, as the case writes it; every image of the case when absent.
    pub(super) image: Option<String>,
    /// The digest that the image had then; its present one when absent.
    pub(super) digest: Option<String>,
    /// Whether the workload had another template then.
    #[serde(default)]
    pub(super) another_template: bool,
    /// Whether it did not run yet (no replicas, paused, suspended).
    #[serde(default)]
    pub(super) staged: bool,
    /// Whether it was seen in the cluster; `true` when absent.
    pub(super) observed: Option<bool>,
    /// Why it was admitted; `Policy` when absent.
    pub(super) by: Option<RecordedReason>,
    /// The policies with which it complied; with `by: Policy` those of the test when absent.
    pub(super) complied: Option<BTreeSet<String>>,
    /// The environments; those of the tested policies when absent.
    pub(super) environments: Option<BTreeSet<String>>,
    /// The source that its provenance named.
    pub(super) source: Option<RecordedSourceSpec>,
}

/// Why an image was admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum RecordedReason {
    #[default]
    Policy,
    Waiver,
    Audit,
    Ungoverned,
    Baseline,
}

/// A source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedSourceSpec {
    /// The repository: the platform's identifier, or the address.
    pub(super) repository: String,
    /// The commit.
    pub(super) commit: String,
}

/// A revocation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationSpec {
    /// The image whose digest is revoked; every image of the case when absent.
    pub(super) image: Option<String>,
    /// Why.
    pub(super) reason: String,
}

/// A rejection that the cluster keeps.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptRejectionSpec {
    /// The person, by name in the tested people directories.
    pub(super) by: String,
    /// The image whose digest is rejected; every image of the case when absent.
    pub(super) image: Option<String>,
    /// The environment; that of the tested policies when absent.
    pub(super) environment: Option<String>,
    /// Why, in the person's words.
    pub(super) reason: Option<String>,
    /// How long before the review; at the time of the review when absent.
    pub(super) ago: Option<String>,
}

/// What an OpenVEX document took back that is not attached any more.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptVexSpec {
    /// Who signed it: a name among `signers`, or of a person of the tested people directories.
    pub(super) by: String,
    /// The image that it was about; every image of the case when absent.
    pub(super) image: Option<String>,
    /// The ids of the vulnerabilities; a document that could not be read when absent.
    #[serde(default)]
    pub(super) vulnerabilities: Vec<String>,
    /// The package URLs of the packages; every package when absent.
    #[serde(default)]
    pub(super) packages: Vec<String>,
    /// How long before the review; without a known time when absent.
    pub(super) ago: Option<String>,
}

/// What a feed answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum FeedAnswer {
    /// No freeze lasts.
    Open,
    /// A freeze lasts.
    Frozen,
    /// It does not answer.
    Stale,
}

/// Exactly one kind of evidence, and the image that it is attached to.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EvidenceSpec {
    /// The image, as the case writes it or without tag and digest; every image of the case when absent.
    pub(super) image: Option<String>,
    /// A signature.
    pub(super) signature: Option<SignatureSpec>,
    /// A signed statement.
    pub(super) attestation: Option<AttestationSpec>,
    /// A signed statement of a build's provenance, in a short form.
    pub(super) provenance: Option<ProvenanceSpec>,
    /// A vulnerability scan, in a short form.
    pub(super) scan: Option<ScanSpec>,
    /// An OpenVEX document, in a short form.
    pub(super) vex: Option<VexSpec>,
    /// An SBOM, in a short form.
    pub(super) sbom: Option<BillSpec>,
    /// A verification summary (SLSA VSA), in a short form.
    pub(super) verification_summary: Option<SummarySpec>,
    /// An approval of a person.
    pub(super) approval: Option<ApprovalSpec>,
    /// A rejection of a person.
    pub(super) rejection: Option<ApprovalSpec>,
    /// The record of a change: who wrote it.
    pub(super) change_record: Option<ChangeRecordSpec>,
    /// An emergency change: its declaration, and what other people say of it.
    pub(super) emergency: Option<EmergencySpec>,
    /// An OCI image layout, relative to this file: all evidence that it holds about the image.
    pub(super) layout: Option<PathBuf>,
    /// Bundles, relative to this file: one in JSON, or JSON lines.
    pub(super) bundles: Option<Vec<PathBuf>>,
    /// `true`: one look-up in the registry fails. It is the only look-up if the image carries no other evidence.
    pub(super) unavailable: Option<bool>,
}

/// Adds to the fields of a fact those of its signature. A document writes both side by side, and serde's `flatten` would accept
/// unknown fields.
macro_rules! signed {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(super) struct $name {
            /// A name among `signers`, or of a person of the tested people directories.
            by: String,
            /// `bundle` (cosign 3) or `legacy` (cosign's `.sig` and `.att` tags).
            form: Option<EvidenceForm>,
            /// Whether it has a log entry; `true` when absent.
            logged: Option<bool>,
            /// Whether it has a timestamp; `true` when absent.
            stamped: Option<bool>,
            /// When it was signed; the time of the case when absent.
            at: Option<String>,
            /// How long before the time of the case it was signed, such as `2d`.
            ago: Option<String>,
            /// The digest that is signed, if it is not the digest of the image that the fact is attached to.
            about: Option<String>,
            $($(#[$field_about])* pub(super) $field: $type,)*
        }

        impl $name {
            /// How it is signed.
            pub(super) fn how(&self) -> HowSpec<'_> {
                HowSpec {
                    by: &self.by,
                    form: self.form.unwrap_or_default(),
                    logged: self.logged.unwrap_or(true),
                    stamped: self.stamped.unwrap_or(true),
                    at: self.at.as_deref(),
                    ago: self.ago.as_deref(),
                    about: self.about.as_deref(),
                }
            }
        }
    };
}

signed! {
    /// A signature as cosign makes it.
    SignatureSpec {
        /// Annotations that are signed with it.
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
}

signed! {
    /// An in-toto statement.
    AttestationSpec {
        /// The type of the predicate, such as `https://slsa.dev/provenance/v1`.
        predicate_type: String,
        /// The content of the predicate.
        predicate: Map<String, Value>,
    }
}

signed! {
    /// Provenance of a build on GitHub Actions.
    ProvenanceSpec {
        /// The program that writes it; `workflow` when absent.
        #[serde(default)]
        generator: Generator,
        /// The builder's id; the signer's identity when absent.
        builder: Option<String>,
        /// The source repository, such as `https://github.com/example/app`.
        source: String,
        /// The git ref, such as `refs/tags/v1.2.3`.
        #[serde(rename = "ref")]
        git_ref: String,
        /// The commit; a fixed one when absent.
        commit: Option<String>,
        /// The workflow's path; `.github/workflows/release.yml` when absent.
        workflow: Option<String>,
        /// Who started the build: a person of the directory, or an account such as `github:alice`; only `container` records it.
        actor: Option<String>,
        /// The event that started the build; `push` when absent.
        event: Option<String>,
        /// The inputs of a `workflow_dispatch`; only `container` records them.
        #[serde(default)]
        inputs: BTreeMap<String, String>,
        /// The branch that the push of a tag names (`base_ref`), such as `refs/heads/main`; only `container` records it.
        base_ref: Option<String>,
    }
}

signed! {
    /// A vulnerability scan: the report of a scanner, made when it is signed.
    ScanSpec {
        /// The scanner; `trivy` when absent.
        #[serde(default)]
        scanner: Scanner,
        /// What it found; nothing when absent.
        #[serde(default)]
        findings: Vec<FindingSpec>,
        /// How long before the scan the scanner's database was updated; only `grype` records it.
        database_ago: Option<String>,
    }
}

/// A vulnerability that a scanner found.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingSpec {
    /// The id, such as `CVE-2026-1234`.
    pub(super) id: String,
    /// The severity; `Unknown` when absent.
    pub(super) severity: Option<VulnerabilitySeverity>,
    /// The package URL, such as `pkg:apk/alpine/musl@1.2.5`.
    pub(super) package: Option<String>,
    /// The version with a fix; without it, no fix exists.
    pub(super) fixed: Option<String>,
}

/// A scanner whose reports the sandbox writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Scanner {
    #[default]
    Trivy,
    Grype,
}

signed! {
    /// An OpenVEX document about the image that carries it, of the time when it is signed.
    VexSpec {
        /// What it says.
        statements: Vec<VexStatementSpec>,
    }
}

/// A statement about one vulnerability.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VexStatementSpec {
    /// The id, such as `CVE-2026-1234`.
    pub(super) id: String,
    /// What it says of the vulnerability.
    pub(super) status: VexStatusSpec,
    /// Why the image is not affected, such as `component_not_present`.
    pub(super) justification: Option<String>,
}

/// A status, as OpenVEX writes it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum VexStatusSpec {
    NotAffected,
    Affected,
    Fixed,
    UnderInvestigation,
}

signed! {
    /// An SBOM.
    BillSpec {
        /// Its format; `spdx` when absent.
        #[serde(default)]
        format: BillFormat,
        /// The package URLs of its packages, such as `pkg:npm/event-stream@3.3.6`.
        packages: Vec<String>,
    }
}

/// A format of SBOMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum BillFormat {
    #[default]
    Spdx,
    Cyclonedx,
}

signed! {
    /// A verification summary: what a verifier, such as the gate of staging, concluded when it signed.
    SummarySpec {
        /// The id of the verifier, such as `https://staging.example.com/promotion-gate`.
        verifier: String,
        /// Whether the result is `FAILED`; otherwise it is `PASSED`.
        #[serde(default)]
        failed: bool,
        /// The resource that was verified; the repository of the image when absent.
        resource: Option<String>,
        /// The levels that were reached, such as `SLSA_BUILD_LEVEL_3`.
        #[serde(default)]
        levels: Vec<String>,
        /// The URI of the policy that was applied.
        policy: Option<String>,
        /// Of a summary by a gate: the environment.
        environment: Option<String>,
        /// Of a summary by a gate: the name of the cluster.
        cluster: Option<String>,
        /// Of a summary by a gate: how long the image had run there, such as `24h`.
        ran_for: Option<String>,
    }
}

signed! {
    /// An approval or a rejection.
    ApprovalSpec {
        /// The environment; that of the tested policies when absent.
        environment: Option<String>,
        /// Why, in the person's words.
        reason: Option<String>,
        /// The id of the change (ticket).
        change: Option<String>,
        /// When the approval ends.
        valid_until: Option<String>,
        /// What it is limited to, such as `cluster`.
        #[serde(default)]
        scopes: BTreeMap<String, String>,
    }
}

signed! {
    /// The record of a change.
    ChangeRecordSpec {
        /// The source repository, such as `https://github.com/example/app`.
        repository: String,
        /// Who opened the pull request of the change: people of the directory, or accounts such as `github:alice`.
        authors: Vec<String>,
        /// What is not known about authors, one sentence each.
        #[serde(default)]
        unknown_authors: Vec<String>,
        /// Who reviewed it.
        #[serde(default)]
        reviewers: Vec<String>,
        /// The commit before the change.
        from: Option<String>,
        /// The last commit; the commit of provenance that does not name one when absent.
        to: Option<String>,
        /// Why the change is made.
        reason: Option<String>,
        /// What it means for security.
        security_impact: Option<String>,
        /// How it was tested.
        testing: Option<String>,
        /// How to return to a secure state.
        back_out_plan: Option<String>,
    }
}

signed! {
    /// An emergency change: one declaration about every image that it is attached to, by a person, and what others say of it.
    EmergencySpec {
        /// The id of the incident.
        incident: String,
        /// Why the image mends it.
        reason: Option<String>,
        /// How long it counts after it is signed; `1h` when absent.
        valid_for: Option<String>,
        /// The environment; that of the tested policies when absent.
        environment: Option<String>,
        /// What it is limited to, such as `cluster`.
        #[serde(default)]
        scopes: BTreeMap<String, String>,
        /// The people who agree.
        #[serde(default)]
        agreed_by: Vec<String>,
        /// The people who reject it.
        #[serde(default)]
        rejected_by: Vec<String>,
        /// The people who end it.
        #[serde(default)]
        closed_by: Vec<String>,
    }
}

/// How a fact is signed.
pub(super) struct HowSpec<'a> {
    pub(super) by: &'a str,
    pub(super) form: EvidenceForm,
    pub(super) logged: bool,
    pub(super) stamped: bool,
    pub(super) at: Option<&'a str>,
    pub(super) ago: Option<&'a str>,
    pub(super) about: Option<&'a str>,
}

/// The form in which a fact is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum EvidenceForm {
    #[default]
    Bundle,
    Legacy,
}

/// The program that writes the provenance of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Generator {
    /// GitHub's own attestations (SLSA v1).
    #[default]
    Workflow,
    /// The container generator of slsa-github-generator (SLSA v0.2).
    Container,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExpectSpec {
    /// The expected decision.
    pub(super) decision: ExpectedDecision,
    /// `rule/reason`: findings that must be among those that deny; for `allow`, among those that pass.
    #[serde(default)]
    pub(super) reasons: Vec<String>,
}

/// The decision about a case, from best to worst.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub(super) enum ExpectedDecision {
    /// Allowed, because no policy governs the objects.
    Ungoverned,
    /// Allowed by every governing policy.
    Allow,
    /// Allowed, but a policy that only warns or audits denies it.
    Warn,
    /// Only missing information prevents `allow`.
    Undecided,
    /// Denied.
    Deny,
}

impl ExpectedDecision {
    /// As documents write it.
    pub(super) fn id(self) -> &'static str {
        match self {
            ExpectedDecision::Ungoverned => "ungoverned",
            ExpectedDecision::Allow => "allow",
            ExpectedDecision::Warn => "warn",
            ExpectedDecision::Undecided => "undecided",
            ExpectedDecision::Deny => "deny",
        }
    }
}
