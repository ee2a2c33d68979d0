//! A case as written → what is requested, when, by which user, with which images.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{Actor, Change, Digest, ImageReference};
use serde_json::{Value, json};

use super::format::{CaseSpec, Spec};
use super::load::{Case, TestAttachment};
use super::resolve::SuiteReader;
use crate::admission::{self, Manifests, Understood};
use crate::cli::world::Input;
use crate::oci::Repository;

/// The name under which a bare digest is judged.
const NAME: &str = "digest.invalid/image";

/// An image that a case uses.
pub(super) struct Used {
    pub(super) reference: ImageReference,
    pub(super) repository: Repository,
    pub(super) digest: Option<Digest>,
}

impl Used {
    /// Whether `name` means this image: as written, in its normal form, or by its repository.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let normal = name.parse::<ImageReference>().ok();
        self.reference.as_written() == name
            || normal.is_some_and(|named| {
                let bare = named.tag().is_none() && named.digest().is_none();
                named.to_string() == self.reference.to_string()
                    || bare && named.name() == self.reference.name()
            })
    }
}

/// The digests of tags, by repository and tag.
type Tags = BTreeMap<(Repository, String), Digest>;

impl SuiteReader<'_> {
    pub(super) fn case(&mut self, case: &CaseSpec, test: &Spec, here: &Path) -> Option<Case> {
        let before = self.problems.len();
        let at = match &case.at {
            Some(at) => self.parse::<Timestamp>(here.key("at"), at),
            None => self.at,
        };
        let namespace = case.namespace.as_ref().or(test.namespace.as_ref());
        let namespace = namespace.map_or("default", String::as_str);
        let labels = case
            .namespace_labels
            .as_ref()
            .or(test.namespace_labels.as_ref());
        let labels = labels.cloned().unwrap_or_default();
        let mut namespaces = BTreeMap::from([(namespace.to_owned(), labels)]);
        let changes = self.changes(case, test, namespace, &mut namespaces, here);
        let tags = self.tags(case, here);
        let used = used(changes.as_deref().unwrap_or_default(), &tags);
        let known = changes.as_ref().map(|_| used.as_slice());
        let evidence = self.attachments(case, test, known, at.unwrap_or(self.now), here);
        self.check_reasons(case, here);
        let kept = self.kept(case, test, &used, at.unwrap_or(self.now), here);
        let incidents = self.incidents(case, at.unwrap_or(self.now), here);
        let changes = changes.filter(|_| self.problems.len() == before)?;
        Some(Case {
            name: case.name.clone(),
            line: self
                .document
                .position(&here.to_string())
                .map_or(0, |(line, _)| line),
            at,
            changes,
            namespaces,
            tags: tags
                .into_iter()
                .map(|((repository, tag), digest)| (repository, tag, digest))
                .collect(),
            images: used
                .into_iter()
                .filter_map(|used| Some((used.repository, used.digest?)))
                .collect(),
            evidence,
            incidents: Arc::new(incidents),
            freezes: self.freezes(case, here),
            kept: Arc::new(kept),
            expect: case.expect.clone(),
        })
    }

    /// The digests of tags.
    fn tags(&mut self, case: &CaseSpec, here: &Path) -> Tags {
        let mut tags = Tags::new();
        for (written, digest) in &case.tags {
            let here = here.key("tags").key(written);
            let image = self.parse::<ImageReference>(here.clone(), written);
            let digest = self.parse::<Digest>(here, digest);
            if let (Some(image), Some(digest)) = (image, digest) {
                let tag = image.tag().unwrap_or("latest").to_owned();
                tags.insert((image.repository().clone(), tag), digest);
            }
        }
        tags
    }

    /// The evidence of a case; it is attached to nothing where the images are not known.
    fn attachments(
        &mut self,
        case: &CaseSpec,
        test: &Spec,
        used: Option<&[Used]>,
        at: Timestamp,
        here: &Path,
    ) -> Vec<TestAttachment> {
        let mut attachments = Vec::new();
        for (index, item) in case.evidence.iter().enumerate() {
            let here = here.key("evidence").index(index);
            let to = match used {
                Some(used) => self.attached_to(item, used, &here),
                None => Vec::new(),
            };
            let pieces = self.pieces(item, &to, test, at, &here);
            attachments.extend(pieces.into_iter().map(|piece| TestAttachment {
                to: to.clone(),
                piece,
            }));
        }
        attachments
    }

    fn check_reasons(&mut self, case: &CaseSpec, here: &Path) {
        for (index, reason) in case.expect.reasons.iter().enumerate() {
            let parts = reason.split_once('/');
            if parts.is_none_or(|(rule, id)| rule.is_empty() || id.is_empty()) {
                let here = here.key("expect").key("reasons").index(index);
                self.refuse(here, "expected `rule/reason`, such as `signature/unsigned`");
            }
        }
    }

    fn changes(
        &mut self,
        case: &CaseSpec,
        test: &Spec,
        namespace: &str,
        namespaces: &mut BTreeMap<String, BTreeMap<String, String>>,
        here: &Path,
    ) -> Option<Vec<Change>> {
        let actor = case.user.clone().map(|username| Actor {
            username,
            groups: case.as_groups.clone(),
        });
        if actor.is_none() && !case.as_groups.is_empty() {
            self.refuse(here.key("asGroups"), "`asGroups` needs a user; add `as`");
        }
        let (field, objects) = self.objects(case, test, namespaces, here)?;
        let manifests = Manifests::of(&objects, namespace);
        let changes: Vec<_> = objects
            .iter()
            .filter_map(|object| {
                match admission::understand_manifest(object, namespace, actor.as_ref(), &manifests)
                {
                    Understood::Change(change) => Some(*change),
                    Understood::Refers(_) | Understood::Governance(_) | Understood::NotOurs(_) => {
                        None
                    }
                }
            })
            .collect();
        for change in &changes {
            // A namespace exists if an object is created in it; labels that the case does not give count as absent.
            if let Some(namespace) = &change.workload.namespace {
                namespaces.entry(namespace.clone()).or_default();
            }
        }
        if changes.is_empty() {
            self.refuse(here.key(field), "no object in it has an image");
            return None;
        }
        Some(changes)
    }

    /// The objects of a case, and the field that names them.
    fn objects(
        &mut self,
        case: &CaseSpec,
        test: &Spec,
        namespaces: &mut BTreeMap<String, BTreeMap<String, String>>,
        here: &Path,
    ) -> Option<(&'static str, Vec<Value>)> {
        match (&case.image, &case.digest, &case.object, &case.file) {
            (Some(image), None, None, None) => {
                self.parse::<ImageReference>(here.key("image"), image)?;
                Some(("image", vec![pod_of(image)]))
            }
            (None, Some(digest), None, None) => {
                let digest = self.parse::<Digest>(here.key("digest"), digest)?;
                Some(("digest", vec![pod_of(&format!("{NAME}@{digest}"))]))
            }
            (None, None, Some(object), None) => {
                Some(("object", vec![Value::Object(object.clone())]))
            }
            (None, None, None, Some(file)) => {
                let file = self.folder.join(file);
                self.read.insert(file.clone());
                let input = match Input::read(&[file.display().to_string()]) {
                    Ok(input) => input,
                    Err(error) => {
                        self.refuse(here.key("file"), format!("{error:#}"));
                        return None;
                    }
                };
                self.problems.extend(input.problems().iter().cloned());
                namespaces.extend(input.namespaces());
                let objects = input.objects();
                let objects = objects.iter().map(|object| object.value.clone());
                Some(("file", objects.collect()))
            }
            (None, None, None, None) => {
                let Some(image) = &test.image else {
                    self.refuse(
                        here.clone(),
                        "the case does not say what is requested; add `image`, `digest`, `object` or `file`",
                    );
                    return None;
                };
                self.parse::<ImageReference>(Path::default().key("spec").key("image"), image)?;
                Some(("image", vec![pod_of(image)]))
            }
            _ => {
                self.refuse(
                    here.clone(),
                    "expected one of `image`, `digest`, `object` and `file`",
                );
                None
            }
        }
    }
}

/// The images of changes, each with the digest that it names, or that its tag stands for.
fn used(changes: &[Change], tags: &Tags) -> Vec<Used> {
    let images = changes.iter().flat_map(|change| &change.images);
    let used = images.map(|image| {
        let repository = image.reference.repository().clone();
        let tag = image.reference.tag().unwrap_or("latest").to_owned();
        let tagged = tags.get(&(repository.clone(), tag));
        let digest = image.reference.digest().or(tagged).cloned();
        Used {
            reference: image.reference.clone(),
            repository,
            digest,
        }
    });
    used.collect()
}

fn pod_of(image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "test"},
        "spec": {"containers": [{"name": "image", "image": image}]},
    })
}
