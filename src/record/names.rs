//! Names: which record an image belongs to, and under which key an admission stands in it.

use promotion_gate_core::gate::{Digest, ImageReference, ImageUse, Pin, Workload};
use serde_json::json;

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

/// The key of an admission: a hash of the object and its template. An object that is made again under its name has another UID,
/// and another key.
pub(super) fn entry_key(workload: &Workload, uid: Option<&str>, template: &Digest) -> String {
    let Workload {
        group,
        version: _,
        kind,
        namespace,
        name,
    } = workload;
    let parts = json!([group, kind, namespace, name, uid, template.to_string()]);
    let hash = Digest::sha256(parts.to_string().as_bytes());
    hash.hex().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::gate::{Collected, Role};

    use super::*;

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
        assert_eq!(names(&pinned, &written), [by_digest.clone()]);
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

    #[test]
    fn an_admission_has_a_key_of_its_own_by_object_and_template() {
        let web = Workload {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "web".to_owned(),
        };
        let (v1, v2) = (Digest::sha256(b"v1"), Digest::sha256(b"v2"));
        let key = entry_key(&web, Some("1"), &v1);
        assert_eq!(key.len(), 16);
        let other_version = Workload {
            version: "v1beta1".to_owned(),
            ..web.clone()
        };
        assert_eq!(entry_key(&other_version, Some("1"), &v1), key);
        let other_name = Workload {
            name: "api".to_owned(),
            ..web.clone()
        };
        for other in [
            entry_key(&web, Some("2"), &v1),
            entry_key(&web, None, &v1),
            entry_key(&web, Some("1"), &v2),
            entry_key(&other_name, Some("1"), &v1),
        ] {
            assert_ne!(other, key);
        }
    }
}
