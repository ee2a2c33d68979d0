//! `TrustRoot` as written, and the one conversion into the root that policies name.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use kube::CustomResource;
use promotion_gate_core::attest::TrustRoot;
use promotion_gate_core::documents::{Fault, Path};
use promotion_gate_core::gate::{Age, World};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigstore_tuf::TrustedMetadataSet;
use url::Url;

use super::Written;
use super::faults::Faults;

/// The target of a TUF repository that is a trust root, if a resource names none.
const DEFAULT_TARGET: &str = "trusted_root.json";
/// How often a TUF repository is asked, if a resource does not say it.
const DEFAULT_REFRESH: SignedDuration = SignedDuration::from_hours(24);
/// The shortest `refresh`.
const SHORTEST_REFRESH: SignedDuration = SignedDuration::from_mins(1);
/// The most bytes of an `initialRoot`: a resource holds it twice, and a copy of the repository besides.
const MAXIMUM_INITIAL_ROOT: usize = 128 << 10;
/// The names of the built-in trust roots.
const BUILT_IN: [&str; 2] = ["sigstore", "github"];

/// A trust root that policies name by the name of the resource: exactly one of `inline` and `tuf`.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "TrustRoot",
    root = "TrustRootResource",
    plural = "trustroots",
    shortname = "pgt",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.tuf.url"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Fetched", type_ = "date", json_path = ".status.fetchedAt"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRootSpec {
    /// A `trusted_root.json` of the Sigstore protobuf specifications, as an object or as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<JsonFile>,
    /// A TUF repository that holds one. It is asked in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuf: Option<WrittenTuf>,
}

/// A TUF repository (The Update Framework).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenTuf {
    /// Its HTTPS address, below which are `timestamp.json`, `N.root.json` and the folder `targets`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// A `root.json` that is trusted, as an object or as text. Later ones are trusted if they are signed by those before.
    pub initial_root: JsonFile,
    /// The target that is the trust root; `trusted_root.json` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub target: Option<String>,
    /// How often the repository is asked; `24h` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Written<Age>>,
}

/// A JSON file: an object, or the text of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonFile(Value);

impl JsonFile {
    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.0 {
            Value::String(text) => text.clone().into_bytes(),
            object => object.to_string().into_bytes(),
        }
    }
}

impl JsonSchema for JsonFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JsonFile".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "object"}, {"type": "string", "minLength": 2}]})
    }
}

/// Where a trust root comes from.
#[derive(Clone, Debug)]
pub enum TrustRootSource {
    /// The resource itself.
    Inline(Arc<TrustRoot>),
    /// A TUF repository.
    Tuf(TufRepository),
}

/// A TUF repository that holds a trust root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TufRepository {
    /// The address of its folder, with `/` at the end.
    pub url: Url,
    /// The `root.json` that is trusted.
    pub initial_root: Arc<[u8]>,
    /// The name of the target.
    pub target: String,
    /// How often it is asked.
    pub refresh: SignedDuration,
}

impl TufRepository {
    /// Whether both hold one trust root, which is trusted for one reason.
    pub(crate) fn is_same_source(&self, other: &TufRepository) -> bool {
        (&self.url, &self.initial_root, &self.target)
            == (&other.url, &other.initial_root, &other.target)
    }
}

/// The names of trust roots and of incident checks that policies may use.
#[derive(Clone, Debug, Default)]
pub struct RootNames {
    /// Built-in ones, and those of the configuration file. No resource may have their names.
    configured: BTreeSet<String>,
    /// Those of resources, valid or not.
    declared: BTreeSet<String>,
    /// Those of incident checks, valid or not.
    checks: BTreeSet<String>,
}

impl RootNames {
    /// The names of built-in and configured roots.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a String>) -> RootNames {
        RootNames {
            configured: configured.into_iter().cloned().collect(),
            ..RootNames::default()
        }
    }

    /// The names of a snapshot's roots.
    pub fn of(world: &World) -> RootNames {
        let declared = &world.declared_roots;
        let configured = world.trust_roots.keys();
        RootNames {
            declared: declared.clone(),
            ..RootNames::new(configured.filter(|name| !declared.contains(*name)))
        }
    }

    /// Adds the name of a resource.
    pub fn declare(&mut self, name: &str) {
        self.declared.insert(name.to_owned());
    }

    /// Adds the name of an incident check.
    pub fn declare_check(&mut self, name: &str) {
        self.checks.insert(name.to_owned());
    }

    pub(super) fn checks(&self) -> &BTreeSet<String> {
        &self.checks
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.configured.contains(name) || self.declared.contains(name)
    }
}

impl fmt::Display for RootNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: BTreeSet<_> = self.configured.union(&self.declared).collect();
        let names: Vec<_> = all.iter().map(|name| format!("`{name}`")).collect();
        write!(f, "known are {}", names.join(", "))
    }
}

/// The trust root that a resource describes.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn trust_root(name: &str, spec: &TrustRootSpec) -> Result<TrustRootSource, Vec<Fault>> {
    let mut faults = Faults::default();
    let source = match (&spec.inline, &spec.tuf) {
        (Some(inline), None) => {
            let root = TrustRoot::parse(name, &inline.bytes()).map_err(|error| Fault {
                path: Path::default(),
                message: error.to_string(),
            });
            let root = faults.kept(root, &Path::default().key("inline"));
            root.map(|root| TrustRootSource::Inline(Arc::new(root)))
        }
        (None, Some(tuf)) => repository(tuf, &mut faults).map(TrustRootSource::Tuf),
        _ => {
            faults.add(
                Path::default(),
                "expected exactly one of `inline` and `tuf`",
            );
            None
        }
    };
    faults.finish(source)
}

fn repository(tuf: &WrittenTuf, faults: &mut Faults) -> Option<TufRepository> {
    let here = Path::default().key("tuf");
    let is_web = |url: &Url| {
        matches!(url.scheme(), "https" | "http")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let url = format!("{}/", tuf.url.trim_end_matches('/'));
    let url = Url::parse(&url).ok().filter(is_web);
    if url.is_none() {
        faults.add(
            here.key("url"),
            "expected the address of a folder, such as `https://tuf-repo-cdn.sigstore.dev`, without a user name",
        );
    }
    let initial_root = tuf.initial_root.bytes();
    if initial_root.len() > MAXIMUM_INITIAL_ROOT {
        let why = format!("it is larger than {MAXIMUM_INITIAL_ROOT} bytes");
        faults.add(here.key("initialRoot"), why);
    } else if let Err(error) = TrustedMetadataSet::from_root(&initial_root) {
        let why = format!("it is not a `root.json` that its own keys sign: {error}");
        faults.add(here.key("initialRoot"), why);
    }
    let refresh = faults.parsed(tuf.refresh.as_ref(), || here.key("refresh"));
    if refresh.is_some_and(|age| age.duration() < SHORTEST_REFRESH) {
        let why = "a repository is asked once a minute at most: expected `1m` or more";
        faults.add(here.key("refresh"), why);
    }
    let target = tuf.target.as_deref().unwrap_or(DEFAULT_TARGET);
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !target.split('/').all(is_name) || !target.chars().all(fits) {
        let why = "expected the name of a target, such as `trusted_root.json`: letters, digits, `-`, `_`, `.` and `/`";
        faults.add(here.key("target"), why);
    }
    Some(TufRepository {
        url: url?,
        initial_root: initial_root.into(),
        target: target.to_owned(),
        refresh: refresh.map_or(DEFAULT_REFRESH, Age::duration),
    })
}

/// Why a resource cannot have a name; `None` if it can.
pub(super) fn refuse_root_name(name: &str, names: &RootNames) -> Option<String> {
    let by = match name {
        _ if BUILT_IN.contains(&name) => "a built-in trust root",
        _ if names.configured.contains(name) => "the configuration",
        _ => return None,
    };
    Some(format!(
        "the name `{name}` is taken by {by}; give the trust root another name"
    ))
}
