//! A change of which a part stands in another object: a scaled object, or the one whose template a Rollout runs. What is read of it
//! completes the change.

use std::ops::ControlFlow;

use promotion_gate_core::gate::{
    Change, ChangedObject, TrustedController, Unavailability, UnreadableField, Workload,
};
use serde_json::Value;

use super::change::{add, changed_object};
use super::images::{Images, images};
use super::kinds::{WorkloadKind, group_and_kind, row};
use super::names::{is_label, is_subdomain};
use super::understood::{NotOurs, Referred, Referring, Understood};
use super::update::{effect_of, is_gated};

const WORKLOAD_REF: &str = "spec.workloadRef";

impl Referred {
    /// The object whose template `object` runs, or why that cannot be read.
    pub(super) fn of(
        object: &Value,
        kind: &WorkloadKind,
        namespace: String,
    ) -> Option<Result<Referred, String>> {
        let reference = object.pointer(kind.workload_ref?)?;
        if reference.is_null() {
            return None;
        }
        let name = reference.get("name").and_then(Value::as_str);
        let (Some((group, kind)), Some(name)) = (group_and_kind(reference), name) else {
            let why = "expected `apiVersion`, `kind` and `name` of the object to run";
            return Some(Err(why.to_owned()));
        };
        let version = reference.get("apiVersion").and_then(Value::as_str);
        let version = version.unwrap_or_default().rsplit('/').next();
        let version = version.unwrap_or_default();
        if !is_label(version) || !is_subdomain(name) {
            return Some(Err(format!(
                "no object has the version {version:.80?} and the name {name:.80?}"
            )));
        }
        Some(Ok(Referred::Template(Workload {
            group,
            version: version.to_owned(),
            kind,
            namespace: Some(namespace),
            name: name.to_owned(),
        })))
    }
}

/// The object whose template an object runs, if it names one.
pub fn referred(object: &Value) -> Option<Workload> {
    let (group, kind) = group_and_kind(object)?;
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str);
    let namespace = namespace.unwrap_or_default().to_owned();
    match Referred::of(object, row(&group, &kind)?, namespace)?.ok()? {
        Referred::Scaled(object, ..) | Referred::Template(object) => Some(object),
    }
}

/// What an object runs that refers to the template of another one.
pub fn follow(changed: &mut ChangedObject, referred: &Value) {
    let said = group_and_kind(referred);
    let kind = said.and_then(|(group, kind)| row(&group, &kind));
    changed.template = changed_object(referred).template;
    changed.is_staged |= kind.is_some_and(|kind| is_gated(referred, kind));
}

impl Understood {
    /// A change with the object that it refers to.
    pub(super) fn referring(
        mut change: Box<Change>,
        referred: Option<Result<Referred, String>>,
    ) -> Understood {
        match referred {
            None => Understood::Change(change),
            Some(Err(why)) => {
                change.unreadable.push(unreadable(WORKLOAD_REF, why));
                Understood::Change(change)
            }
            Some(Ok(referred)) => Understood::Refers(Box::new(Referring { change, referred })),
        }
    }
}

impl Referring {
    /// What is known of the change without the other object.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// The object to read.
    pub fn object(&self) -> &Workload {
        match &self.referred {
            Referred::Scaled(object, ..) | Referred::Template(object) => object,
        }
    }

    /// Whether the change starts something only if a template of the object is staged: the object runs already, and gets more replicas.
    pub fn needs_staged(&self) -> bool {
        matches!(self.referred, Referred::Scaled(_, before, _) if before > 0)
    }

    /// Completes the change, or says what else has to be read: a scaled object may refer to another one in turn. The change is not
    /// judged if the other object shows that it starts nothing that was staged.
    pub fn complete(
        self,
        read: Result<Option<Value>, Unavailability>,
    ) -> ControlFlow<Result<Change, NotOurs>, Referring> {
        let Referring {
            mut change,
            referred,
        } = self;
        match (referred, read) {
            (Referred::Scaled(..), Err(why)) => change.unreadable.push(unreadable("", why.0)),
            (Referred::Template(_), Err(why)) => {
                change.unreadable.push(unreadable(WORKLOAD_REF, why.0));
            }
            (Referred::Scaled(Workload { kind, name, .. }, ..), Ok(None)) => {
                let why = format!("the {kind} `{name}` does not exist");
                change.unreadable.push(unreadable("", why));
            }
            (Referred::Scaled(scaled, before, after), Ok(Some(mut object))) => {
                let kind = row(&scaled.group, &scaled.kind);
                let mut old = object.clone();
                set_replicas(&mut old, before);
                // It may be paused or partitioned still.
                set_replicas(&mut object, after);
                if before > 0 && kind.is_some_and(|it| effect_of(&object, &old, it).is_none()) {
                    return ControlFlow::Break(Err(NotOurs::NothingThatRuns));
                }
                change.object = changed_object(&object);
                add(&mut change, images(&object).unwrap_or_default());
                let namespace = scaled.namespace.unwrap_or_default();
                let next = kind.and_then(|kind| Referred::of(&object, kind, namespace));
                match next {
                    Some(Ok(referred)) => {
                        return ControlFlow::Continue(Referring { change, referred });
                    }
                    Some(Err(why)) => change.unreadable.push(unreadable(WORKLOAD_REF, why)),
                    None => {}
                }
            }
            // What does not exist runs nothing. It is judged when it is created.
            (Referred::Template(_), Ok(None)) => {}
            (Referred::Template(_), Ok(Some(object))) => {
                // Who steers names no template, since no record is looked for.
                if change.object.template.is_some() {
                    follow(&mut change.object, &object);
                }
                let mut found = Images::default();
                found.follow(WORKLOAD_REF, &object);
                add(&mut change, found);
            }
        }
        ControlFlow::Break(Ok(*change))
    }

    /// Completes the change where no cluster can be asked. An autoscaler goes on, since only what was admitted can be scaled; of
    /// everybody else the change is denied where a policy governs it. Whether an object that runs has a staged template is not known
    /// then; more replicas of it are not judged.
    ///
    /// # Errors
    /// Why the change is not judged.
    pub fn complete_without_cluster(
        mut self,
        trusted: &[TrustedController],
    ) -> Result<Change, NotOurs> {
        if self.needs_staged() {
            return Err(NotOurs::NothingThatRuns);
        }
        let actor = self.change.actor.as_ref();
        let is_autoscaler = actor.is_some_and(|actor| actor.is_autoscaler(trusted));
        let (field, remedy) = match self.referred {
            Referred::Scaled(..) if is_autoscaler => return Ok(*self.change),
            Referred::Scaled(..) => (
                "",
                "change `spec.replicas` of the object itself instead of its subresource `scale`",
            ),
            Referred::Template(_) => (
                WORKLOAD_REF,
                "write the template into the object instead of `workloadRef`",
            ),
        };
        let Workload { kind, name, .. } = self.object();
        let why = format!(
            "the {kind} `{name}` cannot be read without a connection to the cluster: start `serve` with `--kubeconfig`, or {remedy}"
        );
        self.change.unreadable.push(unreadable(field, why));
        Ok(*self.change)
    }
}

fn set_replicas(object: &mut Value, replicas: i64) {
    let spec = object.pointer_mut("/spec").and_then(Value::as_object_mut);
    if let Some(spec) = spec {
        spec.insert("replicas".to_owned(), replicas.into());
    }
}

fn unreadable(field: &str, why: String) -> UnreadableField {
    UnreadableField {
        field: field.to_owned(),
        why,
    }
}
