//! Names: which record an image belongs to, and under which key an admission stands in it.

use promotion_gate_core::gate::{Digest, ImageReference, ImageUse, Pin};
use serde_json::json;

use crate::api::{WrittenEntry, WrittenWorkload};

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordSubject {
    /// A digest.
    Digest(Digest),
    /// A reference without a digest, in its normal form.
    Reference(String),
}

impl RecordSubject {
    /// The name of the record: `sha256-<hex>`, or `ref-<hash>`.
    pub fn name(&self) -> String {
        match self {
            RecordSubject::Digest(digest) => format!("{}-{}", digest.algorithm(), digest.hex()),
            RecordSubject::Reference(reference) => {
                let hash = Digest::sha256(reference.as_bytes());
                format!("ref-{:.40}", hash.hex())
            }
        }
    }

    /// What a reference is recorded under as it is written.
    pub(super) fn of_reference(reference: &ImageReference) -> RecordSubject {
        match reference.digest() {
            Some(written) => RecordSubject::Digest(written.clone()),
            None => RecordSubject::Reference(reference.to_string()),
        }
    }

    /// What an image is recorded under: its digest, and its reference where that has no digest.
    pub(super) fn of_image(image: &ImageUse, pin: &Pin) -> Vec<RecordSubject> {
        let written = RecordSubject::of_reference(&image.reference);
        let resolved = match written {
            RecordSubject::Digest(_) => None,
            RecordSubject::Reference(_) => pin.digest().cloned().map(RecordSubject::Digest),
        };
        [written].into_iter().chain(resolved).collect()
    }
}

/// The pins before any tag is resolved.
pub(super) fn written_pins(images: &[ImageUse]) -> Vec<Pin> {
    let pin = |image: &ImageUse| match image.reference.digest() {
        Some(digest) => Pin::Written(digest.clone()),
        None => Pin::NotNeeded,
    };
    images.iter().map(pin).collect()
}

/// The key of an admission: a hash of the object, its template, and everything that the entry lets pass. A request that claims more
/// than one that was seen in the cluster has an entry of its own, which waits until it is seen too. An object that is made again
/// under its name has another UID, and another key. Pods of one template share an entry: no controller makes anything from a Pod.
pub(super) fn entry_key(entry: &WrittenEntry) -> String {
    let WrittenWorkload {
        group,
        version: _,
        kind,
        namespace,
        name,
        uid,
    } = &entry.workload;
    let object = match is_pod(&entry.workload) {
        true => json!([group, kind, namespace]),
        false => json!([group, kind, namespace, name, uid]),
    };
    let parts = json!([
        object,
        entry.template,
        entry.runs,
        entry.by,
        entry.complied,
        entry.environments,
        entry.source,
        entry.digest,
    ]);
    let hash = Digest::sha256(parts.to_string().as_bytes());
    hash.hex().chars().take(32).collect()
}

pub(super) fn is_pod(workload: &WrittenWorkload) -> bool {
    workload.group.is_empty() && workload.kind == "Pod"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use promotion_gate_core::gate::{Collected, Role};

    use super::*;
    use crate::api::{EntryRuns, EntryState, WrittenBy};

    fn names(image: &str, pin: &Pin) -> Vec<String> {
        let image = ImageUse {
            field: String::new(),
            role: Role::Container,
            reference: image.parse().unwrap(),
        };
        let subjects = RecordSubject::of_image(&image, pin);
        subjects.iter().map(RecordSubject::name).collect()
    }

    #[test]
    fn an_image_is_recorded_by_digest_and_without_one_also_by_reference() {
        let digest = Digest::sha256(b"a");
        let by_digest = format!("sha256-{}", digest.hex());
        let pinned = format!("app:v1@{digest}");
        let written = Pin::Written(digest.clone());
        assert_eq!(names(&pinned, &written), std::slice::from_ref(&by_digest));
        let resolved = Pin::Resolved(Collected::Known(digest));
        let by_tag = names("app:v1", &resolved);
        assert!(by_tag[0].starts_with("ref-") && by_tag[0].len() == 44);
        assert_eq!(by_tag[1], by_digest);
        assert_eq!(names("app:v1", &Pin::NotNeeded), by_tag[..1]);
        assert_eq!(
            names("docker.io/library/app:v1", &Pin::NotNeeded),
            by_tag[..1]
        );
        assert_ne!(names("app:v2", &Pin::NotNeeded), by_tag[..1]);
    }

    fn entry(kind: &str, name: &str, uid: Option<&str>) -> WrittenEntry {
        let group = if kind == "Pod" { "" } else { "apps" };
        WrittenEntry {
            workload: WrittenWorkload {
                group: group.to_owned(),
                version: "v1".to_owned(),
                kind: kind.to_owned(),
                namespace: Some("shop".to_owned()),
                name: name.to_owned(),
                uid: uid.map(str::to_owned),
            },
            template: Digest::sha256(b"v1").to_string(),
            state: EntryState::Pending,
            runs: EntryRuns::Staged,
            by: WrittenBy::Policy,
            complied: BTreeSet::new(),
            environments: BTreeSet::new(),
            ages_judged: BTreeSet::new(),
            source: None,
            digest: None,
            emergency: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            observed_at: None,
            decision: String::new(),
            revision: String::new(),
        }
    }

    #[test]
    fn an_admission_has_a_key_of_its_own_by_object_template_and_what_it_lets_pass() {
        let web = entry("Deployment", "web", Some("1"));
        let key = entry_key(&web);
        assert_eq!(key.len(), 32);
        let mut same = web.clone();
        same.workload.version = "v1beta1".to_owned();
        same.state = EntryState::Observed;
        same.at = Timestamp::MAX;
        same.decision = "2".to_owned();
        // Older versions read entries with it too.
        same.ages_judged = ["scanned".to_owned()].into();
        assert_eq!(entry_key(&same), key);
        let template = Digest::sha256(b"v2").to_string();
        for other in [
            entry("Deployment", "web", Some("2")),
            entry("Deployment", "web", None),
            entry("Deployment", "api", Some("1")),
            WrittenEntry {
                template,
                ..web.clone()
            },
            WrittenEntry {
                runs: EntryRuns::Running,
                ..web.clone()
            },
            WrittenEntry {
                by: WrittenBy::Baseline,
                ..web.clone()
            },
            WrittenEntry {
                complied: ["strict".to_owned()].into(),
                ..web.clone()
            },
            WrittenEntry {
                environments: ["production".to_owned()].into(),
                ..web.clone()
            },
        ] {
            assert_ne!(entry_key(&other), key, "{other:?}");
        }
    }

    #[test]
    fn pods_of_one_template_share_an_entry() {
        let [one, two] = [("a", "1"), ("b", "2")].map(|(name, uid)| entry("Pod", name, Some(uid)));
        assert_eq!(entry_key(&one), entry_key(&two));
    }
}
