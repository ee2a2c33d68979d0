//! `VexRecord`, as written: what OpenVEX documents of a signer take back. The gate writes it itself.

use kube::CustomResource;
use promotion_gate_core::attest::predicate::PackageUrl;
use promotion_gate_core::documents::{Fault, Path};
use promotion_gate_core::gate::{Digest, KeptSigner, KeptVex, KeptVexStatement, TakenBack};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::faults::Faults;
use super::kept::{digest, kept_name, key, resource};

/// The most statements of a record.
const MAXIMUM_STATEMENTS: usize = 1000;
/// The most vulnerabilities, and the most packages, of a statement.
const MAXIMUM_ITEMS: usize = 1000;
/// The most bytes of all statements of a record. An API server stores at most 1.5 MiB, with what it adds itself.
const MAXIMUM_BYTES: usize = 512 << 10;

/// What OpenVEX documents of a signer said about a digest that the gate has seen, and that takes back what older ones clear. It counts
/// also after the documents were deleted.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "VexRecord",
    root = "VexRecordResource",
    plural = "vexrecords",
    shortname = "pgv",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexRecordSpec {
    /// The digest of the image, such as `sha256:…`; of a platform, where the documents are attached to that.
    #[schemars(length(min = 1, max = 256))]
    pub digest: String,
    /// Who signed the documents. The record counts for policies that may accept this signer under `vex`.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signer: VexRecordSigner,
    /// What they say.
    #[schemars(length(min = 1, max = MAXIMUM_STATEMENTS))]
    pub statements: Vec<VexRecordStatement>,
}

/// A signer: exactly one of `keyless` and `key`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexRecordSigner {
    /// The identity in a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyless: Option<VexRecordIdentity>,
    /// The fingerprint of a key, as messages show it: `sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The identity in a certificate.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexRecordIdentity {
    /// The OIDC issuer.
    pub issuer: String,
    /// The subject alternative name: an e-mail address or the URI of a workflow.
    pub identity: String,
}

/// That vulnerabilities affect packages of the image, or may affect them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexRecordStatement {
    /// The ids of the vulnerabilities; absent for a document that could not be read, which may be about each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAXIMUM_ITEMS))]
    pub vulnerabilities: Vec<String>,
    /// The package URLs of the packages; absent for every package of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAXIMUM_ITEMS))]
    pub packages: Vec<String>,
    /// When it was said (RFC 3339). Absent where nothing confirmed a time: then it takes back whatever is older than the review.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub at: Option<String>,
    /// The digest of the document that said it last. While that is attached, it speaks for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub document: Option<String>,
}

/// What a resource keeps of OpenVEX documents, and the digest that it is about.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn vex_record(name: &str, spec: &VexRecordSpec) -> Result<(Digest, KeptVex), Vec<Fault>> {
    let mut faults = Faults::default();
    let of = digest(&spec.digest, "digest", &mut faults);
    let signer = signer(&spec.signer).map_err(|why| faults.add(key("signer"), why));
    let list = key("statements");
    if spec.statements.is_empty() {
        faults.add(list.clone(), "the list is empty");
    }
    let written = spec.statements.iter().enumerate();
    let statements = written.filter_map(|(index, it)| it.read(&list.index(index), &mut faults));
    let statements = statements.collect();
    let kept = signer.ok().map(|signer| KeptVex {
        name: name.to_owned(),
        signer,
        statements,
    });
    faults.finish(of.zip(kept))
}

/// The signer that a resource names, which may have mistakes elsewhere.
pub(crate) fn readable_signer(spec: &Value) -> Option<KeptSigner> {
    let written = serde_json::from_value(spec.get("signer")?.clone()).ok()?;
    signer(&written).ok()
}

fn signer(written: &VexRecordSigner) -> Result<KeptSigner, String> {
    match (&written.keyless, &written.key) {
        (Some(VexRecordIdentity { issuer, identity }), None) => {
            if issuer.is_empty() || identity.is_empty() {
                return Err("`issuer` or `identity` is empty".to_owned());
            }
            Ok(KeptSigner::Keyless {
                issuer: issuer.clone(),
                identity: identity.clone(),
            })
        }
        (None, Some(key)) => {
            let key = key.parse().map_err(|error| format!("`key`: {error}"))?;
            Ok(KeptSigner::Key(key))
        }
        _ => Err("expected exactly one of `keyless` and `key`".to_owned()),
    }
}

impl VexRecordSigner {
    fn of(signer: &KeptSigner) -> VexRecordSigner {
        let (keyless, key) = match signer.clone() {
            KeptSigner::Keyless { issuer, identity } => {
                (Some(VexRecordIdentity { issuer, identity }), None)
            }
            KeptSigner::Key(key) => (None, Some(key.to_string())),
        };
        VexRecordSigner { keyless, key }
    }
}

impl VexRecordStatement {
    fn read(&self, here: &Path, faults: &mut Faults) -> Option<KeptVexStatement> {
        let before = faults.found.len();
        let ids = self.vulnerabilities.iter().enumerate();
        for (index, _) in ids.filter(|(_, id)| id.trim().is_empty()) {
            let here = here.key("vulnerabilities").index(index);
            faults.add(here, "the text is empty");
        }
        if self.vulnerabilities.is_empty() && !self.packages.is_empty() {
            let why = "needs `vulnerabilities`: which vulnerabilities affect the packages";
            faults.add(here.key("packages"), why);
        }
        let mut packages = Vec::new();
        for (index, written) in self.packages.iter().enumerate() {
            match PackageUrl::parse(written) {
                Some(read) => packages.push(read.package().clone()),
                None => {
                    let why = format!("`{written:.200}` is not a package URL");
                    faults.add(here.key("packages").index(index), why);
                }
            }
        }
        let mut at = None;
        if let Some(written) = &self.at {
            match written.parse() {
                Ok(read) => at = Some(read),
                Err(_) => {
                    let why = format!(
                        "`{written:.80}` is not a time; write it as `2026-12-01T10:00:00Z`"
                    );
                    faults.add(here.key("at"), why);
                }
            }
        }
        let document = self.document.as_ref().map(|written| written.parse());
        let document = document.transpose().unwrap_or_else(|error| {
            faults.add(here.key("document"), format!("{error}"));
            None
        });
        let ids = self.vulnerabilities.iter().cloned();
        let read = KeptVexStatement::new(ids, packages, at, document);
        (faults.found.len() == before).then_some(read)
    }

    /// A statement as it is written: as several, where it has more vulnerabilities or packages than one may have.
    fn of(statement: &KeptVexStatement) -> Vec<VexRecordStatement> {
        let packages: Vec<_> = statement.packages().map(ToString::to_string).collect();
        let ids: Vec<_> = statement.vulnerabilities().map(str::to_owned).collect();
        let mut all = Vec::new();
        for vulnerabilities in parts(&ids) {
            all.extend(parts(&packages).map(|packages| VexRecordStatement {
                vulnerabilities: vulnerabilities.to_vec(),
                packages: packages.to_vec(),
                at: statement.at().map(|at| at.to_string()),
                document: statement.document.as_ref().map(ToString::to_string),
            }));
        }
        all
    }
}

/// Parts of a list that are not too long; the empty list is one.
fn parts<T>(list: &[T]) -> impl Iterator<Item = &[T]> {
    let nothing = list.is_empty().then_some(list);
    nothing.into_iter().chain(list.chunks(MAXIMUM_ITEMS))
}

/// The resource that keeps what the documents of a signer take back: one for each digest and signer, to which more is added. What does not
/// fit into one is given as further resources of the same name.
pub fn vex_record_resources(
    about: &Digest,
    signer: &KeptSigner,
    taken_back: &TakenBack,
) -> Vec<Value> {
    let about = about.to_string();
    let mut full: Vec<Vec<Value>> = Vec::new();
    let (mut last, mut bytes) = (Vec::new(), 0);
    let statements = taken_back.statements();
    for written in statements.iter().flat_map(VexRecordStatement::of) {
        let written = json!(written);
        let length = written.to_string().len();
        if last.len() >= MAXIMUM_STATEMENTS || bytes + length > MAXIMUM_BYTES && !last.is_empty() {
            full.push(std::mem::take(&mut last));
            bytes = 0;
        }
        bytes += length;
        last.push(written);
    }
    let signer = json!(VexRecordSigner::of(signer));
    let name = kept_name("vex", &[&about, &signer.to_string()]);
    let each = full.into_iter().chain([last]);
    let each = each.map(|statements| {
        let spec = json!({"digest": about, "signer": signer, "statements": statements});
        resource("VexRecord", &name, spec)
    });
    each.collect()
}
