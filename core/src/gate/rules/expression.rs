//! `expression`: a condition over the change itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::condition::{Condition, NotDecided, Variables, manual_of};
use super::{Class, Entry, EvidenceUse, Judgement, Rule, Scope, WorkloadCheck, WorkloadRule};
use crate::expression::{Declared, ExpressionFault, Variable, Work};
use crate::gate::evidence::Collected;
use crate::gate::policy::Policy;
use crate::gate::promotion::{ImageUse, Operation, Pin, Promotion, Role};
use crate::reason::{Reason, reasons};

/// **What it requires**: an expression in CEL is true of the change: of its workload, namespace, requester, images and kind.
///
/// Names, fields and patterns in the expression are checked when the policy is read. What is not known (a pre-check without `--as` does not
/// know the requester) makes the rule undecided only if the expression uses it. An expression that fails (a label that is missing,
/// a text in a sum or a comparison such as `<` with a number) makes it undecided, which denies; test with `in` or `has(…)` first.
/// `==` does not fail: values of two types are not equal, so `labels['tier'] != 1` is true of the text `1`; write what is expected
/// with `==`. The rule applies to a Deploy and to an Activation, not to Upkeep by controllers. An update of only the workload's own
/// labels or annotations is not judged, because it does not change what runs.
///
/// **Why**: organisations have conditions that are about the deployment and not about the image: only the deployer of a team
/// deploys to its namespaces, every production workload names its owner, a Job is deployed by the pipeline alone.
///
/// **Example**:
/// `- expression: {rule: "'team' in workload.labels && requester.groups.exists(g, g == workload.labels['team'])", message: "only members of the team in the label team deploy this workload"}`
///
/// **How to satisfy it**: the message of the policy says what is expected. The variables are listed below.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpressionRule {
    /// A condition in CEL over `workload`, `namespaceLabels`, `requester`, `images`, `change`, `environment`, `cluster` and `now`.
    pub rule: Condition<PromotionVariable>,
    /// What a denial says: what is expected, and what to do.
    #[schemars(length(min = 1, max = 500))]
    pub message: Option<String>,
}

/// The variables of the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromotionVariable {
    /// The object that is deployed.
    Workload,
    /// The labels of its namespace.
    NamespaceLabels,
    /// Who asks.
    Requester,
    /// The images of the object.
    Images,
    /// What is done.
    Change,
    /// The environment of the policy.
    Environment,
    /// The name of the cluster.
    Cluster,
    /// The time of the review.
    Now,
}

const ENVIRONMENT: &str = "environment";

impl Variables for PromotionVariable {
    const TABLE: &'static [(&'static str, Self, Declared, &'static str)] = &[
        (
            "workload",
            Self::Workload,
            Declared::Map(&[
                ("group", Declared::Plain),
                ("kind", Declared::Plain),
                ("name", Declared::Plain),
                ("namespace", Declared::Plain),
                ("labels", Declared::Labels),
                ("annotations", Declared::Labels),
            ]),
            "the object: the texts `workload.group`, `workload.kind`, `workload.name` (of an object that the API server names: its `generateName` and `*`) and `workload.namespace` (empty for a cluster-scoped object), and the maps `workload.labels` and `workload.annotations`",
        ),
        (
            "namespaceLabels",
            Self::NamespaceLabels,
            Declared::Labels,
            "the labels of the namespace, a map; empty for a cluster-scoped object",
        ),
        (
            "requester",
            Self::Requester,
            Declared::Map(&[
                ("username", Declared::Plain),
                ("groups", Declared::List(&Declared::Plain)),
            ]),
            "the authenticated user: `requester.username`, a text, and `requester.groups`, a list of texts",
        ),
        (
            "images",
            Self::Images,
            Declared::List(&Declared::Record(&[
                "field",
                "role",
                "image",
                "repository",
                "tag",
                "digest",
            ])),
            "a list with one map for each image: the texts `field` (its path in the object), `role` (`container`, `initContainer`, `ephemeralContainer` or `imageVolume`), `image` (as written), `repository`, and, where they are known, `tag` and `digest`",
        ),
        (
            "change",
            Self::Change,
            Declared::Record(&["kind", "operation"]),
            "`change.kind` (`deploy` or `activation`), and `change.operation` (`create` or `update`)",
        ),
        (
            ENVIRONMENT,
            Self::Environment,
            Declared::Plain,
            "the `environment` of the policy, a text",
        ),
        (
            "cluster",
            Self::Cluster,
            Declared::Plain,
            "the name of the cluster in the configuration, a text",
        ),
        (
            "now",
            Self::Now,
            Declared::Plain,
            "the time of the review, as a timestamp",
        ),
    ];
}

reasons! {
    OF_THIS_RULE:
    EXPRESSION_TRUE = "expression-true", "The policy's expression is true.", "";
    EXPRESSION_FALSE = "expression-false",
        "The policy's expression is false of this change.",
        "The message is that of the policy, and says what is expected. `promotion-gate explain expression` lists what an expression sees.";
    EXPRESSION_UNKNOWN = "expression-unknown",
        "The policy's expression uses something that is not known here, such as the requester in a pre-check.",
        "The detail says what is not known, and how to give it.";
    EXPRESSION_NOT_EVALUATED = "expression-not-evaluated",
        "The policy's expression could not be evaluated for this change.",
        "The detail says why. Ask the owner of the policy to test what can be missing, such as `'team' in workload.labels`.";
}

impl ExpressionRule {
    /// Whether the result can be another one when the same object is deployed later: the expression uses what is known only then.
    pub fn depends_on_request(&self) -> bool {
        const ONLY_THEN: [PromotionVariable; 3] = [
            PromotionVariable::Requester,
            PromotionVariable::Change,
            PromotionVariable::Now,
        ];
        let mut used = PromotionVariable::TABLE.iter();
        used.any(|(name, variable, ..)| ONLY_THEN.contains(variable) && self.rule.uses(name))
    }
}

impl Entry for ExpressionRule {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = None;

    fn validate(&self) -> Result<(), String> {
        let message = self.message.as_ref();
        match message.is_some_and(|message| message.trim().is_empty()) {
            true => Err("`message` is empty; say what is expected, or leave it out".to_owned()),
            false => Ok(()),
        }
    }

    fn expression_faults(field: &str, text: &str) -> Vec<ExpressionFault> {
        match field {
            "rule" => Condition::<PromotionVariable>::faults(text),
            _ => Vec::new(),
        }
    }

    fn more_manual() -> String {
        manual_of::<PromotionVariable>()
    }
}

impl Rule for ExpressionRule {
    fn class(&self) -> Class {
        Class::ChangeControl
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Workload(self)
    }

    fn loops(&self) -> Option<usize> {
        Some(self.rule.loops())
    }

    fn warnings(&self) -> Vec<String> {
        self.rule.warning().into_iter().collect()
    }

    fn fits(&self, policy: &Policy) -> Result<(), String> {
        match policy.environment {
            None if self.rule.uses(ENVIRONMENT) => Err(
                "the expression uses `environment`, and this policy does not name one; set `environment` in `spec`"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

impl WorkloadRule for ExpressionRule {
    fn check(&self, check: &WorkloadCheck<'_>) -> Judgement {
        let mut work = check.work.clone();
        let value = |variable, work: &mut Work| value(variable, check, work);
        let held = self.rule.holds(&mut work, value);
        match held {
            Ok(true) => Judgement::pass(EXPRESSION_TRUE, "the expression is true".to_owned()),
            Ok(false) => {
                let message = self.message.as_deref().map(str::trim);
                let shown = || format!("the policy's expression is false: {}", self.rule.shown());
                let message = message.map_or_else(shown, str::to_owned);
                Judgement::fail(EXPRESSION_FALSE, message)
            }
            Err(why) => {
                let reason = match why {
                    NotDecided::Unknown(_) => EXPRESSION_UNKNOWN,
                    NotDecided::NotEvaluated(_) => EXPRESSION_NOT_EVALUATED,
                };
                let message = self.message.iter();
                let message = message.map(|it| format!("; the policy expects: {}", it.trim()));
                Judgement::undecided(reason, format!("{why}{}", message.collect::<String>()))
            }
        }
    }
}

/// The value of a variable.
fn value<'v>(
    variable: PromotionVariable,
    check: &WorkloadCheck<'v>,
    work: &mut Work,
) -> Result<Variable<'v>, NotDecided> {
    let promotion = check.promotion;
    let change = &promotion.change;
    Ok(match variable {
        PromotionVariable::Workload => {
            let workload = &change.workload;
            let namespace = workload.namespace.as_deref();
            Variable::Map(vec![
                ("group", workload.group.as_str().into()),
                ("kind", workload.kind.as_str().into()),
                ("name", workload.name.as_str().into()),
                ("namespace", namespace.unwrap_or_default().into()),
                ("labels", texts(&change.object.labels)),
                ("annotations", texts(&change.object.annotations)),
            ])
        }
        PromotionVariable::NamespaceLabels => match &change.workload.namespace {
            None => Variable::Map(Vec::new()),
            Some(namespace) => match check.world.namespaces.get(namespace) {
                Some(labels) => texts(labels),
                None => {
                    let why = format!(
                        "the labels of the namespace `{namespace}` are not known; `check` takes them as `--namespace-labels`"
                    );
                    return Err(NotDecided::Unknown(why));
                }
            },
        },
        PromotionVariable::Requester => match &change.actor {
            Some(actor) => {
                let groups = actor.groups.iter().map(|group| group.as_str().into());
                Variable::Map(vec![
                    ("username", actor.username.as_str().into()),
                    ("groups", Variable::List(groups.collect())),
                ])
            }
            None => {
                let why = "the requester is not known; `check` takes it as `--as` and `--as-group`";
                return Err(NotDecided::Unknown(why.to_owned()));
            }
        },
        PromotionVariable::Images => {
            work.make_values(promotion.change.images.len())
                .map_err(|why| NotDecided::NotEvaluated(why.to_string()))?;
            images(promotion)?
        }
        PromotionVariable::Change => {
            let operation = match change.operation {
                Operation::Create => "create",
                Operation::Update => "update",
            };
            Variable::Map(vec![
                ("kind", promotion.kind.id().into()),
                ("operation", operation.into()),
            ])
        }
        // A policy whose expression uses it has one.
        PromotionVariable::Environment => match check.policy.environment.as_deref() {
            Some(environment) => environment.into(),
            None => Variable::Json(Cow::Owned(Value::Null)),
        },
        PromotionVariable::Cluster => match &check.world.cluster {
            Collected::Known(cluster) => cluster.as_str().into(),
            unknown => {
                let why = unknown.unavailabilities().iter();
                let why: Vec<_> = why.map(ToString::to_string).collect();
                return Err(NotDecided::Unknown(why.join("; ")));
            }
        },
        PromotionVariable::Now => Variable::Time(promotion.at),
    })
}

fn texts(all: &BTreeMap<String, String>) -> Variable<'_> {
    let each = all.iter();
    let each = each.map(|(key, value)| (key.as_str(), value.as_str().into()));
    Variable::Map(each.collect())
}

fn images(promotion: &Promotion) -> Result<Variable<'_>, NotDecided> {
    // An image that could not be read is not in the list, and must not go unseen.
    if let Some(field) = promotion.change.unreadable.first() {
        let why = format!(
            "not all images of the object are known: `{}` {}",
            field.field, field.why
        );
        return Err(NotDecided::Unknown(why));
    }
    let images = promotion.images().map(image);
    Ok(Variable::List(images.collect::<Result<_, _>>()?))
}

fn image<'v>((image, pin): (&'v ImageUse, &Pin)) -> Result<Variable<'v>, NotDecided> {
    if let Pin::Resolved(Collected::Unavailable(why)) = pin {
        let why = format!("the digest of `{}` is not known: {why}", image.reference);
        return Err(NotDecided::Unknown(why));
    }
    let role = match image.role {
        Role::Container => "container",
        Role::InitContainer => "initContainer",
        Role::EphemeralContainer => "ephemeralContainer",
        Role::ImageVolume => "imageVolume",
    };
    let reference = &image.reference;
    let mut fields = Vec::with_capacity(6);
    fields.extend([
        ("field", image.field.as_str().into()),
        ("role", role.into()),
        ("image", reference.as_written().into()),
        ("repository", reference.repository().name().into()),
    ]);
    fields.extend(reference.tag().map(|tag| ("tag", tag.into())));
    let digest = pin.digest().map(|digest| digest.to_string().into());
    fields.extend(digest.map(|digest| ("digest", digest)));
    Ok(Variable::Map(fields))
}
