//! Images that injectors (such as those of a service mesh) add to Pods: which a policy accepts, and which Pod is upkeep although an
//! image was added to it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::image::{Digest, ImageReference};
use super::pattern::ImagePattern;
use super::policy::{NamedRequirement, Policy};
use super::promotion::{ChangeKind, ImageUse, Operation, Promotion, Role, Workload};
use super::rules::{Requirement, Signature};
use super::snapshot::{Certainty, Governing};

/// Images that an injector may add to Pods, and who must have signed them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "InjectedFields")]
#[schemars(with = "InjectedFields")]
pub struct InjectedImages {
    patterns: Vec<ImagePattern>,
    requirement: NamedRequirement,
}

/// Images that an injector may add to the Pods that trusted controllers create: containers and init containers that the template
/// of the Pod's owner does not have. They are judged by this entry alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InjectedFields {
    /// Patterns over image names; an image needs to match one.
    #[schemars(length(min = 1))]
    patterns: Vec<ImagePattern>,
    /// Who must have signed the images, as in the requirement `signature`.
    signature: Signature,
}

impl TryFrom<InjectedFields> for InjectedImages {
    type Error = &'static str;

    fn try_from(fields: InjectedFields) -> Result<InjectedImages, &'static str> {
        if fields.patterns.is_empty() {
            return Err("`patterns` is empty, so no image can be added");
        }
        Ok(InjectedImages {
            patterns: fields.patterns,
            requirement: NamedRequirement {
                name: None,
                requirement: Requirement::Signature(fields.signature),
            },
        })
    }
}

impl InjectedImages {
    /// Whether the entry is about this image.
    pub fn matches(&self, image: &ImageReference) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(image))
    }

    /// The signature that the entry requires.
    pub fn requirement(&self) -> &Requirement {
        &self.requirement.requirement
    }

    pub(super) fn named(&self) -> &NamedRequirement {
        &self.requirement
    }
}

/// The object for which a trusted controller creates a Pod, as it is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The object.
    pub workload: Workload,
    /// `metadata.uid`.
    pub uid: String,
    /// The digest of its template.
    pub template: Digest,
    /// The images of its template, in their normal form.
    pub images: BTreeSet<String>,
}

/// What was added to a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The object for which the Pod is created.
    pub parent: Parent,
    /// The added images, by their place in the change.
    pub images: BTreeSet<usize>,
}

impl Policy {
    /// The entries for images of injectors that are about this image.
    pub fn injected_entries(
        &self,
        image: &ImageReference,
    ) -> impl Iterator<Item = &InjectedImages> {
        self.injected.iter().filter(|entry| entry.matches(image))
    }
}

impl Governing<'_> {
    /// Whether an injector may add this image: a policy says so that certainly governs, and none enforces more strictly.
    fn lets_inject(&self, image: &ImageReference) -> bool {
        let policies = self.policies.iter();
        let strictest = policies.clone().map(|(policy, _)| policy.enforcement).min();
        policies.clone().any(|(policy, certainty)| {
            *certainty == Certainty::Certain
                && Some(policy.enforcement) == strictest
                && policy.injected_entries(image).next().is_some()
        })
    }
}

impl Promotion {
    /// Whether the kind of the change depends on what its owner runs: a trusted controller creates a Pod, and an injector may add
    /// each of its images that is not recorded.
    pub fn asks_for_parent(&self, governing: &Governing<'_>) -> bool {
        self.injectable(governing).is_some()
    }

    /// The change as upkeep, if each image that is not recorded was added by an injector: the template of the owner does not have it.
    #[must_use]
    pub fn leaving_out_injected(self, parent: Parent, governing: &Governing<'_>) -> Promotion {
        let added = self.injectable(governing).filter(|images| {
            let images = images.iter().filter_map(|at| self.change.images.get(*at));
            let mut names = images.map(|image| image.reference.to_string());
            names.all(|name| !parent.images.contains(&name))
        });
        match added {
            Some(images) => Promotion {
                kind: ChangeKind::Upkeep { recorded: true },
                injected: Some(Injected { parent, images }),
                ..self
            },
            None => self,
        }
    }

    /// Whether an image of the change was added by an injector.
    pub fn is_injected(&self, image: usize) -> bool {
        let injected = self.injected.as_ref();
        injected.is_some_and(|injected| injected.images.contains(&image))
    }

    /// The images that are not recorded, if an injector may add each of them to this Pod.
    fn injectable(&self, governing: &Governing<'_>) -> Option<BTreeSet<usize>> {
        let change = &self.change;
        let workload = (
            change.workload.group.as_str(),
            change.workload.kind.as_str(),
        );
        let actor = change.actor.as_ref()?;
        let trusted = &governing.world.trusted_controllers;
        let is_created = change.operation == Operation::Create
            && workload == ("", "Pod")
            && actor.is_trusted_for(&change.workload, trusted);
        let records = self.records.complete().filter(|_| is_created)?;
        if records.images.len() != change.images.len() {
            return None;
        }
        let unrecorded: BTreeSet<_> = records.unrecorded().collect();
        let may_be_added = |image: &ImageUse| {
            matches!(image.role, Role::Container | Role::InitContainer)
                && governing.lets_inject(&image.reference)
        };
        let mut images = unrecorded.iter().map(|at| change.images.get(*at));
        let all_may = images.all(|image| image.is_some_and(may_be_added));
        (!unrecorded.is_empty() && all_may).then_some(unrecorded)
    }
}
