//! A policy: the promotions that it governs, and its requirements.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::age::Age;
use super::emergency::EmergencyPolicy;
use super::glob::Glob;
use super::image::ImageReference;
use super::injected::InjectedImages;
use super::pattern::ImagePattern;
use super::platform::{PlatformManifest, PlatformPattern};
use super::promotion::Change;
use super::rules::Requirement;

/// A valid policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name, unique among the policies of a snapshot.
    pub name: String,
    /// The environment that approvals, freezes and emergency changes refer to.
    pub environment: Option<String>,
    /// What a denial causes.
    pub enforcement: Enforcement,
    /// The namespaces that the policy governs.
    pub namespaces: NamespaceMatch,
    /// The images that the evidence requirements apply to; `None` for every image.
    pub images: Option<Vec<ImagePattern>>,
    /// The platforms of an unsigned index that need their own evidence; `None` for every platform.
    pub platforms: Option<Vec<PlatformPattern>>,
    /// Whether evidence on every platform replaces evidence on the index.
    pub allow_unsigned_index: bool,
    /// How old the last complete listing of an image may be while its registry does not answer, where evidence that was not seen
    /// could turn a pass.
    pub staleness: Age,
    /// How long after it was replaced a template counts as a rollback.
    pub rollback_window: Age,
    /// The requirements; at least one.
    pub requirements: Vec<NamedRequirement>,
    /// The decision for an image that no evidence requirement of a governing policy covers.
    pub uncovered: Uncovered,
    /// The images that injectors may add to Pods.
    pub injected: Vec<InjectedImages>,
    /// How changes may pass in an emergency; `None` if none may.
    pub emergency: Option<Box<EmergencyPolicy>>,
}

/// A requirement with its optional name.
#[derive(Clone, Debug)]
pub struct NamedRequirement {
    /// The name, shown in findings.
    pub name: Option<String>,
    /// The rule with its parameters.
    pub requirement: Requirement,
}

/// What a denial causes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Enforcement {
    /// Deny the request.
    #[default]
    Enforce,
    /// Admit the request, with warnings to the deployer.
    Warn,
    /// Admit the request without warnings, and record the denial.
    Audit,
}

/// The decision for an image that no evidence requirement covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Uncovered {
    /// Deny the image, under a policy that requires evidence.
    #[default]
    Deny,
    /// Allow the image.
    Allow,
}

/// How an image without a digest is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tags {
    /// The gate resolves the tag and judges that digest. The kubelet resolves the tag again later, and may get another digest
    /// that was not judged. A policy with this value accepts that risk.
    Resolve,
}

/// The namespaces that a policy governs: those that match by name or by label. Without names and selector: all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceMatch {
    /// Names and patterns.
    pub names: Vec<Glob>,
    /// Label selector.
    pub selector: Option<LabelSelector>,
}

/// A Kubernetes label selector (`metav1.LabelSelector`): all of its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels that must be present with exactly these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further terms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelTerm>,
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelTerm {
    /// The label's key.
    pub key: String,
    /// How the label is compared.
    pub operator: LabelOperator,
    /// The values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label is present with one of the values.
    In,
    /// The label is absent, or present with another value.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// Whether a policy governs a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The policy governs the change.
    Matches,
    /// The policy does not govern the change.
    DoesNotMatch,
    /// The policy selects by label, and the namespace's labels are not known.
    Unknown,
}

impl Policy {
    /// Whether this policy governs `change`. Only the namespace decides; `labels` are the namespace's labels, if known.
    ///
    /// Every policy governs a cluster-scoped object.
    pub fn governs(&self, change: &Change, labels: Option<&BTreeMap<String, String>>) -> Match {
        self.namespaces.governs(change, labels)
    }

    /// Whether the evidence requirements apply to this image.
    pub fn matches_image(&self, image: &ImageReference) -> bool {
        match &self.images {
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(image)),
            None => true,
        }
    }

    /// Whether the platform of an index has to be evidenced where the index itself is not.
    pub(super) fn matches_platform(&self, manifest: &PlatformManifest) -> bool {
        match &self.platforms {
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(manifest)),
            None => true,
        }
    }

    /// The environment, if the policy requires that it is not frozen.
    pub fn frozen_environment(&self) -> Option<&str> {
        let mut requirements = self.requirements.iter();
        let asks = requirements.any(|named| matches!(named.requirement, Requirement::NoFreeze(_)));
        self.environment.as_deref().filter(|_| asks)
    }

    /// Whether at least one requirement uses evidence.
    pub fn requires_evidence(&self) -> bool {
        self.requirements
            .iter()
            .any(|named| named.requirement.evidence().is_some())
    }
}

impl NamespaceMatch {
    /// Whether a policy with this match governs `change`.
    pub(super) fn governs(
        &self,
        change: &Change,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Match {
        match &change.workload.namespace {
            Some(namespace) => self.covers(namespace, labels),
            None => Match::Matches,
        }
    }

    /// Whether a policy with this match governs what is in a namespace; `labels` are those of the namespace, if known.
    pub fn covers(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Match {
        if self.names.is_empty() && self.selector.is_none() {
            return Match::Matches;
        }
        if self.names.iter().any(|name| name.matches(namespace)) {
            return Match::Matches;
        }
        match &self.selector {
            None => Match::DoesNotMatch,
            Some(selector) => selector.selects(namespace, labels),
        }
    }
}

/// The label that holds the namespace's name. The API server sets it on every namespace, and users cannot change it.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl LabelSelector {
    /// Whether all terms hold for a namespace with these `labels`. An empty selector matches every namespace. If the labels are
    /// not known, a term about the namespace's name can still be decided, and one term that does not hold is enough.
    fn selects(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Match {
        let holds = |key: &str, term: &dyn Fn(Option<&str>) -> bool| match labels {
            _ if key == NAME_LABEL => Some(term(Some(namespace))),
            Some(labels) => Some(term(labels.get(key).map(String::as_str))),
            None => None,
        };
        let exact = (self.match_labels.iter())
            .map(|(key, expected)| holds(key, &|value| value == Some(expected.as_str())));
        let further = (self.match_expressions.iter())
            .map(|term| holds(&term.key, &|value| term.holds(value)));
        let terms: Vec<_> = exact.chain(further).collect();
        if terms.contains(&Some(false)) {
            Match::DoesNotMatch
        } else if terms.contains(&None) {
            Match::Unknown
        } else {
            Match::Matches
        }
    }

    /// A label whose terms contradict each other, so that the selector matches no namespace.
    pub fn contradiction(&self) -> Option<&str> {
        let terms = &self.match_expressions;
        let mut keys = self
            .match_labels
            .keys()
            .chain(terms.iter().map(|term| &term.key));
        let contradicts = |key: &&String| {
            let exact = self.match_labels.get(*key).map(String::as_str);
            let terms = || terms.iter().filter(|term| term.key == **key);
            // The label can have a value that a term names, another value (`\0`, which no label has), or be absent. The name
            // label is never absent.
            let named = terms().flat_map(|term| &term.values).map(String::as_str);
            let named = named.chain(exact).chain(["\0"]).map(Some);
            let absent = (*key != NAME_LABEL).then_some(None);
            !named.chain(absent).any(|value| {
                (exact.is_none() || exact == value) && terms().all(|term| term.holds(value))
            })
        };
        keys.find(contradicts).map(String::as_str)
    }
}

impl LabelTerm {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_named = |value: &str| self.values.iter().any(|named| named == value);
        match self.operator {
            LabelOperator::In => value.is_some_and(is_named),
            LabelOperator::NotIn => value.is_none_or(|value| !is_named(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn governs(selector: serde_json::Value, labels: Option<&[(&str, &str)]>) -> Match {
        let labels = labels.map(|labels| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            labels.iter().map(own).collect()
        });
        NamespaceMatch {
            names: Vec::new(),
            selector: Some(serde_json::from_value(selector).unwrap()),
        }
        .covers("payments", labels.as_ref())
    }

    #[test]
    fn the_name_of_a_namespace_is_a_label_that_is_always_known() {
        let named = |name: &str| json!({"matchLabels": {NAME_LABEL: name}});
        for labels in [None, Some(&[][..]), Some(&[(NAME_LABEL, "forged")])] {
            assert_eq!(governs(named("payments"), labels), Match::Matches);
            assert_eq!(governs(named("shop"), labels), Match::DoesNotMatch);
        }
        let not_in = json!({"matchExpressions": [{"key": NAME_LABEL, "operator": "NotIn", "values": ["payments"]}]});
        assert_eq!(governs(not_in, None), Match::DoesNotMatch);
    }

    #[test]
    fn one_term_that_does_not_hold_decides_where_labels_are_unknown() {
        let both = |name: &str| json!({"matchLabels": {NAME_LABEL: name, "tier": "production"}});
        assert_eq!(governs(both("payments"), None), Match::Unknown);
        assert_eq!(governs(both("shop"), None), Match::DoesNotMatch);
        let production = [("tier", "production")];
        assert_eq!(governs(both("payments"), Some(&production)), Match::Matches);
        assert_eq!(governs(json!({}), None), Match::Matches);
    }

    #[test]
    fn selector_terms_that_exclude_each_other_contradict() {
        let term = |operator: &str, values: &[&str]| json!({"key": "tier", "operator": operator, "values": values});
        let contradicts = |labels: serde_json::Value, terms: &[serde_json::Value]| {
            let selector = json!({"matchLabels": labels, "matchExpressions": terms});
            let selector: LabelSelector = serde_json::from_value(selector).unwrap();
            selector.contradiction() == Some("tier")
        };
        for (value, terms, expected) in [
            (Some("a"), vec![], false),
            (Some("a"), vec![term("In", &["a", "b"])], false),
            (Some("a"), vec![term("NotIn", &["b"])], false),
            (Some("a"), vec![term("NotIn", &["a"])], true),
            (Some("a"), vec![term("In", &["b"])], true),
            (Some("a"), vec![term("DoesNotExist", &[])], true),
            (None, vec![term("In", &["a"]), term("NotIn", &["a"])], true),
            (
                None,
                vec![term("In", &["a", "b"]), term("NotIn", &["a"])],
                false,
            ),
            (
                None,
                vec![term("In", &["a", "b"]), term("In", &["b", "c"])],
                false,
            ),
            (None, vec![term("In", &["a"]), term("In", &["b"])], true),
            (
                None,
                vec![term("In", &["a"]), term("DoesNotExist", &[])],
                true,
            ),
            (
                None,
                vec![term("Exists", &[]), term("DoesNotExist", &[])],
                true,
            ),
            (
                None,
                vec![term("Exists", &[]), term("NotIn", &["a"])],
                false,
            ),
            (
                None,
                vec![term("DoesNotExist", &[]), term("NotIn", &["a"])],
                false,
            ),
        ] {
            let labels = value.map_or(json!({"other": "a"}), |value| json!({"tier": value}));
            assert_eq!(contradicts(labels, &terms), expected, "{value:?} {terms:?}");
        }
        let nameless =
            json!({"matchExpressions": [{"key": NAME_LABEL, "operator": "DoesNotExist"}]});
        let nameless: LabelSelector = serde_json::from_value(nameless).unwrap();
        assert_eq!(nameless.contradiction(), Some(NAME_LABEL));
    }

    #[test]
    fn a_term_is_about_the_value_of_a_label_or_about_its_presence() {
        for (operator, values, with_a, with_b, without) in [
            ("In", &["a"][..], true, false, false),
            ("NotIn", &["a"], false, true, true),
            ("Exists", &[], true, true, false),
            ("DoesNotExist", &[], false, false, true),
        ] {
            let term = json!({"key": "tier", "operator": operator, "values": values});
            let selector = json!({"matchExpressions": [term]});
            for (labels, holds) in [
                (&[("tier", "a")][..], with_a),
                (&[("tier", "b")], with_b),
                (&[("other", "a")], without),
            ] {
                let wanted = if holds {
                    Match::Matches
                } else {
                    Match::DoesNotMatch
                };
                assert_eq!(
                    governs(selector.clone(), Some(labels)),
                    wanted,
                    "{operator} {labels:?}"
                );
            }
        }
    }
}
