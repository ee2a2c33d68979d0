//! What counts while a document cannot be read and was never valid: it denies what it might govern.

use jiff::Timestamp;
use promotion_gate_core::gate::{
    Collected, Digest, Freeze, FreezeSource, MayBe, MayPass, NamespaceMatch, Revocation, Snapshot,
    Unavailability, Unreadable, UnreadableKept,
};
use serde_json::Value;

use super::documents::{Documents, Settlement, Version};
use super::resource::Resource;
use crate::api::{self, FeedStates, Kind};

/// The most problems that a denial names.
const MAXIMUM_SHOWN: usize = 8;

/// The snapshot of what counts, with the rest of another one.
pub(super) fn snapshot(
    settled: Settlement,
    documents: &Documents,
    rest: Snapshot,
    feeds: &FeedStates,
    now: Timestamp,
) -> Snapshot {
    let Settlement {
        mut set,
        files,
        problems,
        refused,
        excerpts: _,
    } = settled;
    let refused: Vec<_> = refused
        .iter()
        .filter_map(|(name, (version, why))| Some((documents.resource(name)?, *version, why)))
        .collect();
    let freezes = refused.iter();
    let freezes = freezes.filter_map(|(resource, version, why)| freeze(resource, *version, why));
    set.freezes.extend(freezes);
    let mut snapshot = set.snapshot(rest, feeds, now);
    for (resource, version, why) in refused {
        add(&mut snapshot, resource, version, why);
    }
    if files == Version::Unreadable {
        add_files(&mut snapshot, &problems);
    }
    snapshot
}

/// The files cannot be read: they may hold policies for everything.
fn add_files(snapshot: &mut Snapshot, problems: &[String]) {
    let unreadable = problems.iter().take(MAXIMUM_SHOWN).map(|why| Unreadable {
        source: "policies".to_owned(),
        why: why.clone(),
        namespaces: NamespaceMatch::default(),
    });
    snapshot.unreadable.extend(unreadable);
    let why = problems.first().cloned().unwrap_or_default();
    snapshot.world.freezes = Collected::Unavailable(Unavailability(format!(
        "the policies and change freezes could not be read: {why}"
    )));
    snapshot.world.people = Collected::Unavailable(Unavailability(format!(
        "the policies and people directories could not be read: {why}"
    )));
}

/// A resource without a valid version. Of the kinds that are not named here, one that cannot be read is missing.
fn add(snapshot: &mut Snapshot, resource: &Resource, version: Version, why: &[String]) {
    if version != Version::Unreadable {
        return;
    }
    let name = &resource.name;
    match name.kind {
        Kind::PromotionPolicy => snapshot.unreadable.push(Unreadable {
            source: name.name.clone(),
            why: why.join("; "),
            namespaces: api::readable_match(&resource.spec),
        }),
        Kind::PeopleDirectory => {
            let why = why.join("; ");
            let why = format!("the people directory `{}` cannot be read: {why}", name.name);
            snapshot.world.people = Collected::Unavailable(Unavailability(why));
        }
        Kind::Revocation | Kind::Rejection | Kind::AuthorRecord | Kind::VexRecord => {
            add_kept(snapshot, resource, why)
        }
        _ => {}
    }
}

/// What is kept about a digest and cannot be read: the digest is revoked, or who rejects it, who its authors are, or what OpenVEX documents
/// take back is not known.
/// Without a digest it says nothing.
fn add_kept(snapshot: &mut Snapshot, resource: &Resource, why: &[String]) {
    let text = |field: &str| resource.spec.get(field).and_then(Value::as_str);
    let Some(digest) = text("digest").and_then(|digest| digest.parse::<Digest>().ok()) else {
        return;
    };
    let (name, why, world) = (&resource.name, why.join("; "), &mut snapshot.world);
    let may_be = match name.kind {
        Kind::Revocation => {
            let reason = text("reason").filter(|reason| !reason.trim().is_empty());
            let revocation = Revocation {
                name: name.name.clone(),
                reason: reason.map_or_else(|| format!("it cannot be read: {why}"), str::to_owned),
            };
            world.revocations.entry(digest).or_insert(revocation);
            return;
        }
        Kind::Rejection => MayBe::Rejection(text("environment").map(str::to_owned)),
        Kind::VexRecord => MayBe::Vex(api::readable_signer(&resource.spec)),
        _ => MayBe::Authors,
    };
    let kept = world.unreadable_kept.entry(digest).or_default();
    kept.push(UnreadableKept {
        resource: format!("the {} `{}`", name.kind.name(), name.name),
        may_be,
        why,
    });
}

/// The freeze that stands for one without a valid version: it lasts, in the environments that can be read, or in all.
pub(super) fn freeze(resource: &Resource, version: Version, why: &[String]) -> Option<Freeze> {
    let name = &resource.name;
    if version != Version::Unreadable || name.kind != Kind::ChangeFreeze {
        return None;
    }
    let text = |field: &str| resource.spec.get(field).and_then(Value::as_str);
    Some(Freeze {
        name: name.name.clone(),
        environments: api::readable_environments(&resource.spec),
        reason: text("reason").unwrap_or("unreadable").to_owned(),
        owner: text("owner").map(str::to_owned),
        may_pass: MayPass::default(),
        source: FreezeSource::Unreadable(why.join("; ")),
    })
}
