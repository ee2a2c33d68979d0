//! `AdmissionReview` v1 → a [`Change`], or why the request is not judged, from a closed list. A request that cannot be
//! understood becomes a change with an unreadable field, which is denied if a policy governs it.

use promotion_gate_core::gate::{
    Actor, Change, ChangeEffect, ChangedObject, ControllerPreset, GovernedKind, Operation, Role,
    TrustedController, UnreadableField, Workload,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::change::{change, changed_object, name_of};
use super::governance::{self, Asked, governed_kind};
use super::images::{Images, images};
use super::kinds::{
    EPHEMERAL_CONTAINERS, HARMLESS_SUBRESOURCES, SCALE, STATUS, WorkloadKind, group_and_kind, row,
    row_of_scaled,
};
use super::names::{is_label, is_subdomain};
use super::object;
use super::understood::{NotOurs, Referred, Understood};
use super::update::{effect_of, steers};

/// The version of `AdmissionReview` that is understood.
pub const VERSION: &str = "admission.k8s.io/v1";
/// The version before it. It is refused with an answer in the same version, because an API server ignores an answer in another
/// one.
const OLD_VERSION: &str = "admission.k8s.io/v1beta1";

/// A request of the API server, as understood.
#[derive(Clone, Debug)]
pub struct Request {
    /// The `uid` to answer with.
    pub uid: String,
    /// What the request asks for.
    pub understood: Understood,
}

/// A body that is not an `AdmissionReview` v1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Malformed {
    /// The `uid`, if it could be read.
    pub uid: Option<String>,
    /// What is wrong.
    pub why: String,
    /// The version in which the API server expects the answer.
    pub version: &'static str,
}

/// A review; `R` is the request, or a value that is not parsed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReview<R> {
    api_version: Option<String>,
    kind: Option<String>,
    request: Option<R>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest {
    uid: String,
    kind: WireKind,
    #[serde(default)]
    resource: WireResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    user_info: WireUser,
    #[serde(default, deserialize_with = "object::read")]
    object: Value,
    #[serde(default, deserialize_with = "object::read")]
    old_object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct WireKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Default, Deserialize)]
struct WireResource {
    group: String,
    version: String,
    resource: String,
}

#[derive(Deserialize)]
struct WireUser {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

impl From<WireUser> for Actor {
    fn from(user: WireUser) -> Actor {
        Actor {
            username: user.username,
            groups: user.groups.unwrap_or_default(),
        }
    }
}

/// The `uid` of a request, even if the rest of it cannot be understood.
pub fn uid(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Review {
        request: Uid,
    }
    #[derive(Deserialize)]
    struct Uid {
        uid: String,
    }
    let uid = serde_json::from_slice::<Review>(body).ok()?.request.uid;
    (!uid.is_empty() && uid.len() <= 128).then_some(uid)
}

/// Understands the body of a request. `trusted` are the controllers that are trusted besides the built-in ones.
///
/// # Errors
/// What is wrong with a body that is not an `AdmissionReview` v1.
pub fn understand(body: &[u8], trusted: &[TrustedController]) -> Result<Request, Malformed> {
    let refused = |why: String| Malformed {
        uid: uid(body),
        why,
        version: VERSION,
    };
    let not_a_review =
        |error: serde_json::Error| refused(format!("the body is not an AdmissionReview: {error}"));
    let read = serde_json::from_slice::<WireReview<WireRequest>>(body);
    let (version, kind, request) = match read {
        Ok(review) => (review.api_version, review.kind, Ok(review.request)),
        Err(error) => {
            let of_any_version = serde_json::from_slice::<WireReview<IgnoredAny>>(body);
            let review = of_any_version.map_err(not_a_review)?;
            (review.api_version, review.kind, Err(error))
        }
    };
    if kind.as_deref() != Some("AdmissionReview") || version.as_deref() != Some(VERSION) {
        let found = format!(
            "{} {}",
            version.as_deref().unwrap_or("(no apiVersion)"),
            kind.as_deref().unwrap_or("(no kind)")
        );
        let version = match version.as_deref() {
            Some(OLD_VERSION) => OLD_VERSION,
            _ => VERSION,
        };
        let refused = refused(format!(
            "expected `{VERSION} AdmissionReview`, found `{found:.200}`; set `admissionReviewVersions: [v1]` in the webhook configuration"
        ));
        return Err(Malformed { version, ..refused });
    }
    let request = request
        .map_err(not_a_review)?
        .ok_or_else(|| refused("the AdmissionReview has no `request`".to_owned()))?;
    if request.uid.is_empty() {
        return Err(refused("the request has no `uid`".to_owned()));
    }
    if let Some(why) = request.never_sent() {
        return Err(refused(why));
    }
    let uid = request.uid.clone();
    Ok(Request {
        uid,
        understood: request.understand(trusted),
    })
}

impl WireRequest {
    /// What no API server sends about an object that is judged. Objects are read by these texts.
    fn never_sent(&self) -> Option<String> {
        let WireKind {
            group,
            version,
            kind,
        } = &self.kind;
        let scaled = &self.resource;
        let is_scale = self.sub_resource.as_deref() == Some(SCALE);
        let is_judged = row(group, kind).is_some()
            || governed_kind(group, kind).is_some()
            || is_scale && row_of_scaled(&scaled.group, &scaled.resource).is_some();
        if !is_judged {
            return None;
        }
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = |object: &Value, field: &str| {
            let text = object.pointer(&format!("/metadata/{field}"));
            text.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let prefix = match meta(&self.object, "generateName") {
            prefix if prefix.is_empty() => prefix,
            prefix => format!("{prefix}0"),
        };
        let label: fn(&str) -> bool = is_label;
        let kind = kind.to_ascii_lowercase();
        let texts = [
            ("kind", kind, label),
            ("version", version.clone(), label),
            ("version", scaled.version.clone(), label),
            ("namespace", of(&self.namespace), label),
            ("name", of(&self.name), is_subdomain),
            ("name", meta(&self.object, "name"), is_subdomain),
            ("name", meta(&self.old_object, "name"), is_subdomain),
            ("generateName", prefix, is_subdomain),
        ];
        let mut texts = texts.iter();
        let wrong = texts.find(|(_, text, is_valid)| !text.is_empty() && !is_valid(text))?;
        let (field, text, _) = wrong;
        Some(format!(
            "the request is not from an API server: {text:.80?} is not a valid {field} in Kubernetes"
        ))
    }

    fn understand(self, trusted: &[TrustedController]) -> Understood {
        // 0. What the gate decides by is governed, its deletion too.
        if let Some(kind) = governed_kind(&self.kind.group, &self.kind.kind) {
            return self.governance(kind);
        }
        // 1. Operations. An unknown one is denied where a policy governs, so that a new operation does not bypass the gate.
        let operation = match self.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => return Understood::NotOurs(NotOurs::Deletion),
            "CONNECT" => return Understood::NotOurs(NotOurs::Connection),
            other => {
                let why = format!("the operation `{other:.40}` is not known");
                return self.unreadable(Operation::Update, why);
            }
        };
        // 2. Subresources and kinds. Only listed subresources and kinds without images pass without a review.
        let subresource = self.sub_resource.clone().unwrap_or_default();
        let (group, name) = (self.kind.group.as_str(), self.kind.kind.as_str());
        let kind = match (subresource.as_str(), row(group, name)) {
            (SCALE, _) => return self.scale(operation),
            (STATUS, Some(kind)) if !kind.steering.is_empty() => kind,
            (subresource, _) if HARMLESS_SUBRESOURCES.contains(&subresource) => {
                return Understood::NotOurs(NotOurs::Subresource);
            }
            (EPHEMERAL_CONTAINERS, _) => return self.ephemeral_containers(operation),
            (_, None) => return Understood::NotOurs(NotOurs::KindWithoutImages),
            ("", Some(kind)) => kind,
            (other, Some(_)) => {
                let why = format!("the subresource `{other:.60}` is not known");
                return self.unreadable(operation, why);
            }
        };
        // 3. The object must be of the requested kind: otherwise its images would be looked for at the wrong fields.
        if let Some(why) = self.of_another_kind() {
            return self.unreadable(operation, why);
        }
        // 4. Some requesters say what is so already: a kubelet, and a controller about objects that were judged.
        if let Some(why) = self.is_said_by_its_keeper(operation, kind, trusted) {
            return Understood::NotOurs(why);
        }
        // 5. An update that does not change what runs passes; every other change is judged with all its images.
        let effect = match operation {
            Operation::Create => Some(ChangeEffect::Runs),
            Operation::Update if subresource == STATUS => {
                steers(&self.object, &self.old_object, kind).then_some(ChangeEffect::Starts)
            }
            Operation::Update => effect_of(&self.object, &self.old_object, kind),
        };
        let Some(effect) = effect else {
            return Understood::NotOurs(NotOurs::NothingThatRuns);
        };
        let images = images(&self.object).unwrap_or_default();
        let namespace = self.namespace.clone().unwrap_or_default();
        let referred = Referred::of(&self.object, kind, namespace);
        let mut change = self.change(operation, effect, images);
        // A record says that a template ran although only a part of the Pods ran it, so steering never rests on a record.
        if subresource == STATUS {
            change.object.template = None;
        }
        Understood::referring(change, referred)
    }

    fn of_another_kind(&self) -> Option<String> {
        let WireKind { group, kind, .. } = &self.kind;
        let said = group_and_kind(&self.object);
        let is_same = said.is_some_and(|said| (&said.0, &said.1) == (group, kind));
        (!is_same)
            .then(|| format!("the object is not a `{kind}`, which the request names as its kind"))
    }

    /// The requester is decided by the API server, never by the object.
    fn is_said_by_its_keeper(
        &self,
        operation: Operation,
        kind: &WorkloadKind,
        trusted: &[TrustedController],
    ) -> Option<NotOurs> {
        let actor = self.actor();
        let is_node = actor.username.starts_with("system:node:")
            && actor.groups.iter().any(|group| group == "system:nodes");
        let mirror = self
            .object
            .pointer("/metadata/annotations/kubernetes.io~1config.mirror");
        let is_status = self.sub_resource.as_deref() == Some(STATUS);
        if operation == Operation::Create && kind.is_pod() && is_node && mirror.is_some() {
            return Some(NotOurs::MirrorPod);
        }
        let is_controller = actor.is_built_in(kind.copied_by) && !kind.copied_by.is_empty()
            || is_status && actor.is_preset(ControllerPreset::ArgoRollouts, trusted);
        is_controller.then_some(NotOurs::TrustedController)
    }

    /// `kubectl scale`: what starts stands in the scaled object.
    fn scale(self, operation: Operation) -> Understood {
        let WireResource {
            group,
            version,
            resource,
        } = &self.resource;
        let kind = row_of_scaled(group, resource);
        if kind.is_none() && !resource.is_empty() {
            return Understood::NotOurs(NotOurs::KindWithoutImages);
        }
        if let Some(why) = self.of_another_kind() {
            return self.unreadable(operation, why);
        }
        let Some(kind) = kind else {
            let why = "the request does not name the resource that is scaled".to_owned();
            return self.unreadable(operation, why);
        };
        // A Scale is written without a number that is 0.
        let replicas = |scale: &Value| {
            let number = scale.pointer("/spec/replicas").map(Value::as_i64);
            number.unwrap_or(Some(0))
        };
        // A value that is not a number counts as one that starts something.
        let before = replicas(&self.old_object).unwrap_or(0);
        let after = replicas(&self.object).unwrap_or(i64::MAX);
        if after <= before.max(0) || before > 0 && !kind.is_partitioned() {
            return Understood::NotOurs(NotOurs::NothingThatRuns);
        }
        let scaled = Workload {
            group: group.clone(),
            version: version.clone(),
            kind: kind.name.to_owned(),
            namespace: self.namespace.clone().filter(|it| !it.is_empty()),
            name: self.name.clone().unwrap_or_default(),
        };
        let mut change = self.change(operation, ChangeEffect::Starts, Images::default());
        change.workload = scaled.clone();
        // The object of the request is the Scale.
        change.object = ChangedObject::default();
        let referred = Referred::Scaled(scaled, before, after);
        Understood::referring(change, Some(Ok(referred)))
    }

    fn governance(self, kind: GovernedKind) -> Understood {
        let asked = Asked {
            group: &self.kind.group,
            kind: &self.kind.kind,
            operation: &self.operation,
            subresource: self.sub_resource.as_deref().unwrap_or_default(),
            name: self.name.as_deref().unwrap_or_default(),
        };
        let actor = self.user_info.into();
        let objects = [self.old_object, self.object];
        let dry_run = self.dry_run == Some(true);
        governance::understand((self.uid, kind), &asked, actor, dry_run, objects)
    }

    /// `kubectl debug`: the added containers are new code in an existing Pod.
    fn ephemeral_containers(self, operation: Operation) -> Understood {
        let known = images(&self.old_object).unwrap_or_default().fields;
        let Some(mut found) = images(&self.object) else {
            return self.unreadable(operation, "the object is not a Pod".to_owned());
        };
        found
            .fields
            .retain(|field| field.role == Role::EphemeralContainer && !known.contains(field));
        if found.fields.is_empty() && found.unreadable.is_empty() {
            return Understood::NotOurs(NotOurs::NothingThatRuns);
        }
        Understood::Change(self.change(operation, ChangeEffect::Runs, found))
    }

    fn unreadable(self, operation: Operation, why: String) -> Understood {
        let unreadable = vec![UnreadableField {
            field: String::new(),
            why,
        }];
        let images = Images {
            fields: Vec::new(),
            unreadable,
        };
        Understood::Change(self.change(operation, ChangeEffect::Runs, images))
    }

    fn actor(&self) -> Actor {
        Actor {
            username: self.user_info.username.clone(),
            groups: self.user_info.groups.clone().unwrap_or_default(),
        }
    }

    fn change(self, operation: Operation, effect: ChangeEffect, images: Images) -> Box<Change> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let object = ChangedObject {
            before: changed_object(&self.old_object).template,
            ..changed_object(&self.object)
        };
        let workload = Workload {
            name: some(self.name).unwrap_or_else(|| name_of(&self.object)),
            group: self.kind.group,
            version: self.kind.version,
            kind: self.kind.kind,
            namespace: some(self.namespace),
        };
        let actor = self.user_info.into();
        Box::new(change(
            self.uid,
            (operation, effect),
            workload,
            Some(actor),
            self.dry_run == Some(true),
            (object, images),
        ))
    }
}

#[cfg(test)]
mod tests;
