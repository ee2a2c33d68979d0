//! Rejections, and closures of emergency changes, that the cluster keeps.

use jiff::Timestamp;

use super::{ImageCheck, ScopeName};
use crate::attest::predicate;
use crate::gate::image::Digest;
use crate::gate::people::{People, Person};
use crate::gate::world::KeptRejection;

/// A rejection as the cluster keeps it, with the namespace that it is limited to, and whether its time is verified. One with an unknown
/// scope is not kept.
pub(in crate::gate) fn rejection_to_keep(
    said: &predicate::Approval,
    person: &Person,
    latest: Option<Timestamp>,
    check: &ImageCheck<'_>,
) -> Option<(KeptRejection, bool)> {
    let scopes = said.scopes.iter();
    let mut scopes = scopes.map(|(name, value)| (ScopeName::parse(name), value));
    let namespace = scopes
        .clone()
        .find(|(scope, _)| *scope == Some(ScopeName::Namespace));
    let kept = KeptRejection {
        name: String::new(),
        environment: said.environment.clone(),
        namespace: namespace.map(|(_, namespace)| namespace.clone()),
        emergency: said.emergency.clone(),
        is_closure: false,
        person: person.name.clone(),
        at: latest.unwrap_or(check.promotion.at),
        reason: said.reason.clone(),
    };
    scopes
        .all(|(scope, _)| scope.is_some())
        .then_some((kept, latest.is_some()))
}

/// The rejections of the digest, and of emergency changes of it, for the policy's environment that are kept in the cluster, by people
/// of the directory.
pub(in crate::gate) fn kept_rejections<'a>(
    check: &ImageCheck<'a>,
    people: &'a People,
) -> impl Iterator<Item = (&'a KeptRejection, &'a Person)> {
    let rejections = kept_here(check).filter(|kept| !kept.is_closure);
    rejections.filter_map(|kept| Some((kept, people.person(&kept.person)?)))
}

/// The closures of a declared emergency change of the digest that are kept in the cluster, of every namespace. Only the gate and
/// governors write them.
pub(in crate::gate) fn kept_closures<'a>(
    check: &ImageCheck<'a>,
    id: &Digest,
) -> impl Iterator<Item = &'a KeptRejection> {
    let kept = kept_in_environment(check);
    kept.filter(move |kept| kept.is_closure && kept.emergency.as_ref() == Some(id))
}

/// What the cluster keeps about the digest for the policy's environment and the namespace of the change.
fn kept_here<'a>(check: &ImageCheck<'a>) -> impl Iterator<Item = &'a KeptRejection> {
    let namespace = check.promotion.change.workload.namespace.as_ref();
    kept_in_environment(check)
        .filter(move |kept| kept.namespace.is_none() || kept.namespace.as_ref() == namespace)
}

/// What the cluster keeps about the digest for the policy's environment.
fn kept_in_environment<'a>(check: &ImageCheck<'a>) -> impl Iterator<Item = &'a KeptRejection> {
    let digest = check.subject.map(|subject| &subject.digest);
    let kept = digest.and_then(|digest| check.world.rejections.get(digest));
    let environment = check.policy.environment.as_ref();
    let kept = kept.into_iter().flatten();
    kept.filter(move |kept| Some(&kept.environment) == environment)
}

/// Those of the digest in general.
pub(super) fn kept_of_digest<'a>(
    check: &ImageCheck<'a>,
    people: &'a People,
) -> impl Iterator<Item = (&'a KeptRejection, &'a Person)> {
    kept_rejections(check, people).filter(|(kept, _)| kept.emergency.is_none())
}
