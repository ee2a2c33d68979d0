//! `PromotionPolicy` as written, and the one conversion into the policy that the core decides by.

use std::collections::BTreeSet;

use kube::CustomResource;
use promotion_gate_core::documents::{Fault, Path, Step, decode_value};
use promotion_gate_core::gate::{
    Age, EmergencyPolicy, Enforcement, Glob, ImagePattern, InjectedImages, LabelOperator,
    LabelSelector, NamedRequirement, NamespaceMatch, PlatformPattern, Policy, Requirement,
    RequirementEntry, Tags, Uncovered, World,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Written;
use super::mistakes::{Mistakes, used_here};
use super::trust_root::RootNames;

/// Which evidence images need before they are admitted, where this applies, and what happens after a denial.
///
/// Every policy that matches applies; the request is denied if one that enforces denies.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "PromotionPolicy",
    plural = "promotionpolicies",
    shortname = "pgp",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(
        name = "Environment",
        type_ = "string",
        json_path = ".spec.environment"
    ),
    printcolumn(
        name = "Enforcement",
        type_ = "string",
        json_path = ".spec.enforcement"
    ),
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
pub struct PromotionPolicySpec {
    /// The environment that approvals, freezes and emergency changes name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub environment: Option<String>,
    /// What happens after a denial; `Enforce` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// Which workloads are governed, and which images the evidence requirements apply to; everything when absent.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<PolicyMatch>,
    /// `Resolve`: judge a tag as the digest that it names at review time, and accept that the kubelet resolves the tag again
    /// later. Without it, a policy that requires evidence must contain `digestPinned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// What happens to an image that no evidence requirement of a governing policy applies to; `Deny` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<Uncovered>,
    /// Accept an index without evidence of its own if each of its platforms (`match.platforms`; all of them when absent)
    /// carries evidence. An entry without a platform counts as every platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unsigned_index: Option<bool>,
    /// How long rules that evidence could hurt (`approvals`: a rejection) may rest on the last complete list of what is attached to an
    /// image while the registry does not answer; `1h` when absent. Without such a list they are undecided, which denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness: Option<Written<Age>>,
    /// How long after it was replaced a version of a workload can be rolled back to on the record of its admission; `14d` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_window: Option<Written<Age>>,
    /// Images that injectors, such as those of a service mesh, may add to Pods. A Pod that a trusted controller creates is upkeep if
    /// these are its only images that are not recorded. They are judged by the entries that match them, and by no requirement. An
    /// entry counts if no policy that governs the Pod enforces more strictly than this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub injected: Option<Vec<Written<InjectedImages>>>,
    /// How a change may pass in an emergency although requirements are not met; none may when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Written<EmergencyPolicy>>,
    /// The requirements; all of them must be met.
    #[schemars(length(min = 1))]
    pub requirements: Vec<Written<RequirementEntry>>,
}

/// Which workloads and images a policy applies to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyMatch {
    /// Which namespaces are governed; every namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelection>,
    /// Which images the evidence requirements apply to; every image when absent. `*` stays within a path segment, `**` crosses
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub images: Option<Vec<Written<ImagePattern>>>,
    /// The platforms of the nodes, such as `linux/amd64`; all of them when absent. In an index without evidence of its own,
    /// evidence is required of every entry that a runtime on such a node could pick, including other names of the platform and
    /// its fallbacks. Evidence on the index counts for every platform, so this matters only with `allowUnsignedIndex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub platforms: Option<Vec<Written<PlatformPattern>>>,
}

/// Namespaces by name or by label; one match is enough.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceSelection {
    /// Names and patterns, such as `prod-*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub names: Option<Vec<Written<Glob>>>,
    /// A label selector over namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// The policy that a resource describes.
///
/// # Errors
/// Everything that is wrong with the resource, each with its path below `spec`.
pub fn policy(
    name: &str,
    spec: &PromotionPolicySpec,
    roots: &RootNames,
) -> Result<Policy, Vec<Fault>> {
    let mut faults = Vec::new();
    let (namespaces, images, platforms) = match &spec.matches {
        Some(matches) => (
            namespaces(matches, &mut faults),
            images(matches, &mut faults),
            platforms(matches, &mut faults),
        ),
        None => (NamespaceMatch::default(), None, None),
    };
    let allow_unsigned_index = spec.allow_unsigned_index.unwrap_or_default();
    let environment = spec.environment.clone();
    if environment
        .as_ref()
        .is_some_and(|environment| environment.trim().is_empty())
    {
        faults.push(fault(field("environment"), "the text is empty"));
    }
    let mut age = |name: &str, written: &Option<Written<Age>>, absent: Age| {
        let read = written.as_ref().map_or(Ok(absent), Written::parse);
        read.unwrap_or_else(|Fault { path, message }| {
            faults.push(fault(field(name).join(&path), &message));
            absent
        })
    };
    let staleness = age("staleness", &spec.staleness, Age::HOUR);
    let rollback_window = age("rollbackWindow", &spec.rollback_window, Age::FORTNIGHT);
    let injected = injected(spec, roots, &mut faults);
    let emergency = emergency(spec, roots, &mut faults);
    let before = faults.len();
    let requirements = requirements(&spec.requirements, roots, &mut faults);
    if faults.len() == before && spec.tags.is_none() {
        faults.extend(unpinned(&requirements));
    }
    faults.extend(Mistakes::of(spec).faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let policy = Policy {
        name: name.to_owned(),
        environment,
        enforcement: spec.enforcement.unwrap_or_default(),
        namespaces,
        images,
        platforms,
        allow_unsigned_index,
        staleness,
        rollback_window,
        requirements,
        uncovered: spec.uncovered.unwrap_or_default(),
        injected,
        emergency: emergency.map(Box::new),
    };
    let unfit = unfit(&policy);
    match unfit.is_empty() {
        true => Ok(policy),
        false => Err(unfit),
    }
}

/// Parts of a policy that parse and probably do not mean what its author meant, each with its path below `spec`.
pub fn warnings(spec: &PromotionPolicySpec, policy: &Policy) -> Vec<Fault> {
    let mut warnings = Mistakes::of(spec).warnings;
    for (index, NamedRequirement { requirement, .. }) in policy.requirements.iter().enumerate() {
        let here = field("requirements").index(index);
        let here = here.key(requirement.rule_name());
        let odd = requirement.warnings().into_iter();
        warnings.extend(odd.map(|message| fault(here.clone(), message)));
    }
    if let Some(emergency) = &policy.emergency {
        let odd = emergency.warnings(policy).into_iter();
        warnings.extend(odd.map(|(key, message)| fault(of_emergency(key), message)));
    }
    warnings
}

/// A requirement that binds a digest, where nothing requires that images are named by digest.
fn unpinned(requirements: &[NamedRequirement]) -> Option<Fault> {
    let mut all = requirements.iter().map(|named| &named.requirement);
    let is_pinned = |requirement: &Requirement| matches!(requirement, Requirement::DigestPinned(_));
    if all.clone().any(is_pinned) {
        return None;
    }
    let evidence = all.find(|requirement| requirement.evidence().is_some())?;
    let message = format!(
        "`{}` binds a digest, but a tag can be moved after it was judged; add `- digestPinned: {{}}`, or accept that race with `tags: Resolve` beside `requirements`",
        evidence.rule_name()
    );
    Some(fault(field("requirements"), message))
}

/// What contradicts the rest of the policy.
fn unfit(policy: &Policy) -> Vec<Fault> {
    let entries = policy.requirements.iter().enumerate();
    let unfit = entries.filter_map(|(index, NamedRequirement { requirement, .. })| {
        let here = field("requirements")
            .index(index)
            .key(requirement.rule_name());
        Some(fault(here, requirement.fits(policy).err()?))
    });
    let emergency = policy.emergency.iter();
    let of_emergency = emergency.filter_map(|emergency| {
        let (key, why) = emergency.validate(policy).err()?;
        Some(fault(of_emergency(key), why))
    });
    unfit.chain(of_emergency).collect()
}

/// A field of the section about emergency changes, or the section.
fn of_emergency(key: &str) -> Path {
    match key {
        "" => field("emergency"),
        key => field("emergency").key(key),
    }
}

/// The message about a requirement that is not written here yet, or that only a later version or another tool knows.
pub(super) fn unknown_requirement(name: &str) -> String {
    if let Some(here) = used_here(name) {
        return format!("requirement `{name}` is not known; use {here} instead");
    }
    let known: Vec<_> = Requirement::NAMES
        .iter()
        .map(|known| format!("`{known}`"))
        .collect();
    format!(
        "requirement `{name}` is not known to this version; known are {}",
        known.join(", ")
    )
}

/// The namespaces of a policy whose `spec` cannot be read as a whole; all of them if its `match` cannot be read either.
pub fn readable_match(spec: &Value) -> NamespaceMatch {
    let matches = spec.get("match").cloned().unwrap_or_default();
    let mut faults = Vec::new();
    let read = decode_value::<PolicyMatch>(&matches);
    let read = read.map(|matches| namespaces(&matches, &mut faults));
    let readable = read.ok().filter(|_| faults.is_empty());
    readable.unwrap_or_default()
}

fn namespaces(matches: &PolicyMatch, faults: &mut Vec<Fault>) -> NamespaceMatch {
    let Some(selection) = &matches.namespaces else {
        return NamespaceMatch::default();
    };
    let here = field("match").key("namespaces");
    if selection.names.is_none() && selection.selector.is_none() {
        let message = "expected `names` or `selector`; leave `namespaces` out for every namespace";
        faults.push(fault(here.clone(), message));
    }
    let names = match &selection.names {
        Some(names) => parse_all(names, &here.key("names"), faults),
        None => Vec::new(),
    };
    let terms = selection
        .selector
        .iter()
        .flat_map(|selector| &selector.match_expressions)
        .enumerate();
    for (index, term) in terms {
        let values = here
            .key("selector")
            .key("matchExpressions")
            .index(index)
            .key("values");
        match (term.operator, term.values.is_empty()) {
            (LabelOperator::In | LabelOperator::NotIn, true) => {
                faults.push(fault(
                    values,
                    "the list is empty; `In` and `NotIn` compare with values",
                ));
            }
            (LabelOperator::Exists | LabelOperator::DoesNotExist, false) => {
                faults.push(fault(values, "`Exists` and `DoesNotExist` take no values"));
            }
            _ => {}
        }
    }
    NamespaceMatch {
        names,
        selector: selection.selector.clone(),
    }
}

fn images(matches: &PolicyMatch, faults: &mut Vec<Fault>) -> Option<Vec<ImagePattern>> {
    matches
        .images
        .as_ref()
        .map(|images| parse_all(images, &field("match").key("images"), faults))
}

fn platforms(matches: &PolicyMatch, faults: &mut Vec<Fault>) -> Option<Vec<PlatformPattern>> {
    matches
        .platforms
        .as_ref()
        .map(|platforms| parse_all(platforms, &field("match").key("platforms"), faults))
}

fn injected(
    spec: &PromotionPolicySpec,
    roots: &RootNames,
    faults: &mut Vec<Fault>,
) -> Vec<InjectedImages> {
    let here = field("injected");
    let Some(written) = &spec.injected else {
        return Vec::new();
    };
    for (index, written) in written.iter().enumerate() {
        if let Ok(entry) = written.parse() {
            let here = here.index(index);
            unknown_roots(written.value(), entry.requirement(), roots, &here, faults);
        }
    }
    parse_all(written, &here, faults)
}

/// The section about emergency changes.
fn emergency(
    spec: &PromotionPolicySpec,
    roots: &RootNames,
    faults: &mut Vec<Fault>,
) -> Option<EmergencyPolicy> {
    let here = field("emergency");
    match spec.emergency.as_ref()?.parse() {
        Ok(emergency) => {
            let named = emergency.trust_roots.iter().flatten().enumerate();
            let unknown = named.filter(|(_, name)| !roots.contains(name));
            faults.extend(unknown.map(|(index, name)| {
                let place = here.key("trustRoots").index(index);
                fault(place, format!("{UNKNOWN_ROOT} `{name}`; {roots}"))
            }));
            Some(emergency)
        }
        Err(Fault { path, message }) => {
            faults.push(fault(here.join(&path), message));
            None
        }
    }
}

/// Parses each item of a list that stands for "everything" when it is left out, so it must not be empty.
fn parse_all<T: serde::de::DeserializeOwned>(
    items: &[Written<T>],
    here: &Path,
    faults: &mut Vec<Fault>,
) -> Vec<T> {
    if items.is_empty() {
        faults.push(fault(here.clone(), "the list is empty"));
    }
    let mut parsed = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match item.parse() {
            Ok(item) => parsed.push(item),
            Err(Fault { path, message }) => {
                faults.push(fault(here.index(index).join(&path), message))
            }
        }
    }
    parsed
}

fn requirements(
    entries: &[Written<RequirementEntry>],
    roots: &RootNames,
    faults: &mut Vec<Fault>,
) -> Vec<NamedRequirement> {
    let here = field("requirements");
    if entries.is_empty() {
        faults.push(fault(
            here.clone(),
            "the list is empty: a policy without requirements would allow everything",
        ));
    }
    let mut names = BTreeSet::new();
    let mut requirements = Vec::new();
    for (index, written) in entries.iter().enumerate() {
        let here = here.index(index);
        let keys = written
            .value()
            .as_object()
            .into_iter()
            .flat_map(|entry| entry.keys());
        let unknown: Vec<_> = keys
            .filter(|key| *key != "name" && !Requirement::NAMES.contains(&key.as_str()))
            .collect();
        if !unknown.is_empty() {
            faults.extend(
                unknown
                    .into_iter()
                    .map(|key| fault(here.key(key), unknown_requirement(key))),
            );
            continue;
        }
        let entry = match written.parse() {
            Ok(entry) => entry,
            Err(refused) => {
                let each = in_expression(written.value(), refused).into_iter();
                faults.extend(each.map(|it| fault(here.join(&it.path), it.message)));
                continue;
            }
        };
        let name = entry.name.clone();
        if let Some(name) = &name {
            if name.trim().is_empty() {
                faults.push(fault(here.key("name"), "the text is empty"));
            } else if !names.insert(name.clone()) {
                faults.push(fault(
                    here.key("name"),
                    format!("another requirement has the name `{name}` too"),
                ));
            }
        }
        match Requirement::try_from(entry) {
            Ok(requirement) => {
                unknown_roots(written.value(), &requirement, roots, &here, faults);
                requirements.push(NamedRequirement { name, requirement });
            }
            Err(("", message)) => faults.push(fault(here, message)),
            Err((key, message)) => faults.push(fault(here.key(key), message)),
        }
    }
    requirements
}

/// The mistakes of an expression that is refused, each with its place in the text; what is refused for another reason unchanged.
fn in_expression(entry: &Value, refused: Fault) -> Vec<Fault> {
    let mistakes = match refused.path.steps() {
        [Step::Key(rule), Step::Key(field)] => {
            let text = refused.path.find(entry).and_then(Value::as_str);
            text.map(|text| Requirement::expression_faults(rule, field, text))
        }
        _ => None,
    };
    let mistakes = mistakes.unwrap_or_default();
    if mistakes.is_empty() {
        return vec![refused];
    }
    let each = mistakes.into_iter().map(|mistake| {
        let place = refused.path.at(mistake.line, mistake.column);
        fault(place, format!("in the expression, {mistake}"))
    });
    each.collect()
}

/// How the message about such a trust root begins.
pub const UNKNOWN_ROOT: &str = "unknown trust root";

/// Problems of trust roots that policies name and the configuration does not have, at each place that names one. A policy keeps
/// the names only.
fn unknown_roots(
    written: &Value,
    requirement: &Requirement,
    roots: &RootNames,
    here: &Path,
    faults: &mut Vec<Fault>,
) {
    // Under no root at all, every root that the requirement names is missing.
    let named = requirement.needs(&World::default()).missing_roots;
    for name in named.into_iter().filter(|name| !roots.contains(name)) {
        let mut places = Vec::new();
        named_roots(written, &name, here, &mut places);
        if places.is_empty() {
            places.push(here.clone());
        }
        let message = format!("{UNKNOWN_ROOT} `{name}`; {roots}");
        faults.extend(
            places
                .into_iter()
                .map(|place| fault(place, message.clone())),
        );
    }
}

/// The places at which `trustRoots` name this root.
fn named_roots(written: &Value, name: &str, here: &Path, places: &mut Vec<Path>) {
    match written {
        Value::Object(fields) => {
            for (key, value) in fields {
                let below = here.key(key);
                match value.as_array().filter(|_| key == "trustRoots") {
                    Some(names) => {
                        let at = names.iter().enumerate().filter(|(_, named)| *named == name);
                        places.extend(at.map(|(index, _)| below.index(index)));
                    }
                    None => named_roots(value, name, &below, places),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                named_roots(item, name, &here.index(index), places);
            }
        }
        _ => {}
    }
}

fn field(name: &str) -> Path {
    Path::default().key(name)
}

fn fault(path: Path, message: impl Into<String>) -> Fault {
    Fault {
        path,
        message: message.into(),
    }
}
