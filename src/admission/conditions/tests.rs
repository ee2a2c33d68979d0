use std::sync::Arc;

use cel::{Context, Env, Program};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::request::{VERSION, understand};
use super::super::understood::{NotOurs, Understood};
use super::*;

/// The conditions, as an API server evaluates them.
struct Conditions {
    env: Arc<Env>,
    programs: Vec<(String, Program)>,
}

impl Conditions {
    fn new() -> Conditions {
        let env = Arc::new(Env::stdlib());
        let programs = expressions().into_iter().map(|expression| {
            let program = env.compile(&expression).unwrap();
            (expression, program)
        });
        Conditions {
            programs: programs.collect(),
            env,
        }
    }

    /// Whether the gate is asked: no condition is false, and none fails.
    fn ask(&self, request: &Value, object: &Value, old: &Value) -> bool {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, value) in [("request", request), ("object", object), ("oldObject", old)] {
            context.add_variable(name, value).unwrap();
        }
        self.programs.iter().all(|(expression, program)| {
            let value = program.execute(&context);
            match value.unwrap_or_else(|error| panic!("{error}: {expression}")) {
                cel::Value::Bool(holds) => holds,
                other => panic!("{other:?}: {expression}"),
            }
        })
    }
}

fn expressions() -> Vec<String> {
    let conditions = match_conditions();
    let expression = |it: &Value| it["expression"].as_str().unwrap().to_owned();
    conditions.iter().map(expression).collect()
}

/// An update, as an API server sends it.
#[derive(Clone, Debug)]
struct Update {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    resource: &'static str,
    subresource: &'static str,
    user: &'static str,
    old: Value,
    new: Value,
}

impl Update {
    fn is_asked(&self, conditions: &Conditions) -> bool {
        let kind = json!({"group": self.group, "version": self.version, "kind": self.kind});
        let resource = json!({"resource": self.resource});
        let request = json!({"operation": "UPDATE", "kind": kind, "resource": resource});
        conditions.ask(&request, &self.new, &self.old)
    }

    fn understood(&self) -> Understood {
        let group = if self.subresource == "scale" {
            "apps"
        } else {
            self.group
        };
        let resource = json!({"group": group, "version": "v1", "resource": self.resource});
        let body = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": {
            "uid": "u-1", "name": "web", "namespace": "shop", "operation": "UPDATE",
            "kind": {"group": self.group, "version": self.version, "kind": self.kind},
            "resource": resource, "subResource": self.subresource,
            "userInfo": {"username": self.user, "groups": []}, "object": self.new, "oldObject": self.old,
        }});
        understand(body.to_string().as_bytes(), &[])
            .unwrap()
            .understood
    }
}

/// What is written at a place: a JSON pointer, and a value or nothing.
type Written = (String, Option<Value>);

fn set(object: &mut Value, (pointer, value): &Written) {
    let (above, last) = pointer.rsplit_once('/').unwrap();
    let mut here = object;
    for step in above.split('/').skip(1) {
        if !here.is_object() {
            *here = json!({});
        }
        here = here
            .as_object_mut()
            .unwrap()
            .entry(step)
            .or_insert(Value::Null);
    }
    if !here.is_object() {
        *here = json!({});
    }
    let last = last.replace("~1", "/");
    match value {
        Some(value) => {
            here.as_object_mut().unwrap().insert(last, value.clone());
        }
        None => {
            here.as_object_mut().unwrap().remove(&last);
        }
    }
}

fn pod_specs() -> Vec<Value> {
    vec![
        json!({"containers": [{"image": "a"}]}),
        json!({"containers": [{"image": "b"}]}),
        json!({"containers": [{"image": "a", "command": ["sh"]}]}),
        json!({"containers": [{"image": "a", "resources": {"limits": {}}}]}),
        json!({"containers": [{"image": "a"}], "nodeSelector": {"disk": "ssd"}}),
        json!({"containers": [{"image": "a"}], "schedulingGates": [{"name": "a"}]}),
    ]
}

fn plain() -> Vec<Value> {
    vec![
        json!(0),
        json!(1),
        json!(5),
        json!(true),
        json!(false),
        json!("true"),
        json!("false"),
        json!("OnDelete"),
        json!("kubernetes.io/job-controller"),
        json!("a"),
        json!({"a": 1}),
        json!([]),
        Value::Null,
    ]
}

/// Every place that decides something, and some that do not, with values.
fn places(kind: &WorkloadKind) -> Vec<(String, Vec<Value>)> {
    let mut places: Vec<(String, Vec<Value>)> = Vec::new();
    for path in kind.pod_specs {
        match path.iter().position(|step| *step == "*") {
            None => {
                let at = path.join("/");
                places.push((format!("/{at}"), pod_specs()));
                if let Some(template) = at.strip_suffix("/spec") {
                    places.push((format!("/{template}/metadata/labels"), plain()));
                }
            }
            Some(list) => {
                let items = pod_specs().into_iter().flat_map(|spec| {
                    let below = path[list + 1..].iter().rev();
                    let item = below.fold(spec, |value, step| json!({*step: value}));
                    [Value::Null, json!(0), json!(1)].map(|replicas| {
                        let mut item = item.clone();
                        item["replicas"] = replicas;
                        json!([item])
                    })
                });
                places.push((format!("/{}", path[..list].join("/")), items.collect()));
            }
        }
    }
    let activations = kind.activations.iter().chain(kind.steering);
    let activations = activations.map(Activation::field);
    let activations = activations.filter(|field| !field.contains('*'));
    let others = [
        "/metadata/labels/a",
        "/metadata/resourceVersion",
        "/spec/minReadySeconds",
    ];
    let fields = kind.runtime_fields.iter().copied();
    for field in fields.chain(activations).chain(others) {
        // An API server stores nothing but numbers where numbers are compared.
        let is_compared =
            kind.is_partitioned() && (field.ends_with("replicas") || field.ends_with("partition"));
        let values = match is_compared {
            true => [0, 1, 2, 5].map(Value::from).to_vec(),
            false => plain(),
        };
        places.push((field.to_owned(), values));
    }
    places
}

fn update_of(kind: &'static WorkloadKind) -> BoxedStrategy<Update> {
    let written = || {
        let places = places(kind);
        (0..places.len()).prop_flat_map(move |index| {
            let (place, values) = places[index].clone();
            let value = prop::option::weighted(0.8, prop::sample::select(values));
            value.prop_map(move |value| (place.clone(), value))
        })
    };
    let old = prop::collection::vec(written(), 0..8);
    let changed = prop::collection::vec(written(), 0..3);
    let is_status = if kind.steering.is_empty() {
        Just(false).boxed()
    } else {
        any::<bool>().boxed()
    };
    let user = prop::sample::select(vec![
        "alice",
        "system:serviceaccount:kube-system:deployment-controller",
        "system:kube-controller-manager",
    ]);
    let updates =
        (old, changed, is_status, user).prop_map(move |(old, changed, is_status, user)| {
            let api_version = match kind.group() {
                "" => kind.version.to_owned(),
                group => format!("{group}/{}", kind.version),
            };
            let mut before =
                json!({"apiVersion": api_version, "kind": kind.name, "metadata": {"name": "web"}});
            old.iter().for_each(|written| set(&mut before, written));
            let mut after = before.clone();
            changed.iter().for_each(|written| set(&mut after, written));
            // An API server lets one change the status alone, or everything but the status.
            let kept: &[&str] = if is_status {
                &["metadata", "spec"]
            } else {
                &["status"]
            };
            for field in kept {
                set(
                    &mut after,
                    &(format!("/{field}"), before.get(field).cloned()),
                );
            }
            Update {
                group: kind.group(),
                version: kind.version,
                kind: kind.name,
                resource: kind.plural,
                subresource: if is_status { "status" } else { "" },
                user,
                old: before,
                new: after,
            }
        });
    updates.boxed()
}

fn scaling() -> BoxedStrategy<Update> {
    let replicas = || prop::option::of(0..4_i64);
    let scale = |replicas: Option<i64>| {
        let mut scale =
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {}, "spec": {}});
        set(
            &mut scale,
            &("/spec/replicas".to_owned(), replicas.map(Value::from)),
        );
        scale
    };
    let resource = prop::sample::select(vec!["deployments", "statefulsets"]);
    let updates = (replicas(), replicas(), resource).prop_map(move |(old, new, resource)| Update {
        group: "autoscaling",
        version: "v1",
        kind: "Scale",
        resource,
        subresource: "scale",
        user: "alice",
        old: scale(old),
        new: scale(new),
    });
    updates.boxed()
}

fn governed(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
) -> BoxedStrategy<Update> {
    let places = [
        "/spec/a",
        "/metadata/labels/a",
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/ownerReferences",
    ];
    let values = vec![json!({}), json!("a"), json!("b"), json!([{"uid": "a"}])];
    let written = move || {
        let value = prop::option::of(prop::sample::select(values.clone()));
        (prop::sample::select(places.to_vec()), value)
            .prop_map(|(place, value)| (place.to_owned(), value))
    };
    let old = prop::collection::vec(written(), 0..4);
    let changed = prop::collection::vec(written(), 0..3);
    let subresources = match kind {
        "Namespace" => vec!["", "status", "finalize"],
        _ => vec![""],
    };
    let subresource = prop::sample::select(subresources);
    let updates = (old, changed, subresource).prop_map(move |(old, changed, subresource)| {
        let api_version = format!("{group}/{version}");
        let api_version = api_version.trim_start_matches('/');
        let mut before =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}});
        old.iter().for_each(|written| set(&mut before, written));
        let mut after = before.clone();
        changed.iter().for_each(|written| set(&mut after, written));
        Update {
            group,
            version,
            kind,
            resource: "",
            subresource,
            user: "alice",
            old: before,
            new: after,
        }
    });
    updates.boxed()
}

#[test]
fn a_condition_skips_only_what_is_not_ours() {
    let conditions = Conditions::new();
    let mut strategies: Vec<_> = TABLE.iter().map(update_of).collect();
    strategies.push(scaling());
    strategies.push(governed("", "v1", "Namespace"));
    strategies.push(governed(GROUP, "v1alpha1", "PromotionPolicy"));
    for strategy in strategies {
        let (mut asked, mut skipped) = (0, 0);
        let count = (
            std::cell::RefCell::new(&mut asked),
            std::cell::RefCell::new(&mut skipped),
        );
        let mut runner = TestRunner::new(Config::with_cases(300));
        let run = runner.run(&strategy, |update| {
            if update.is_asked(&conditions) {
                **count.0.borrow_mut() += 1;
                return Ok(());
            }
            **count.1.borrow_mut() += 1;
            let understood = update.understood();
            prop_assert!(
                matches!(understood, Understood::NotOurs(_)),
                "{understood:?}"
            );
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            asked > 20 && skipped > 20,
            "{asked} asked, {skipped} skipped"
        );
    }
}

/// Who stops something is never held up, also while no gate answers.
#[test]
fn pauses_and_aborts_are_not_asked() {
    let conditions = Conditions::new();
    let rollout = |field: &str, value: bool| {
        let mut rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"},
            "spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}, "status": {"phase": "Paused"}});
        set(&mut rollout, &(field.to_owned(), Some(json!(value))));
        rollout
    };
    for (field, subresource) in [("/spec/paused", ""), ("/status/abort", "status")] {
        let update = |old: bool, new: bool| Update {
            group: "argoproj.io",
            version: "v1alpha1",
            kind: "Rollout",
            resource: "rollouts",
            subresource,
            user: "alice",
            old: rollout(field, old),
            new: rollout(field, new),
        };
        let (stops, goes_on) = (update(false, true), update(true, false));
        assert!(!stops.is_asked(&conditions), "{field}");
        let not_ours = Understood::NotOurs(NotOurs::NothingThatRuns);
        assert_eq!(stops.understood(), not_ours, "{field}");
        assert!(goes_on.is_asked(&conditions), "{field}");
        assert!(matches!(goes_on.understood(), Understood::Change(_)));
    }
}

#[test]
fn conditions_never_look_at_who_asks_and_are_few_enough() {
    let expressions = expressions();
    assert!(expressions.len() <= 64);
    for expression in expressions {
        for word in ["userInfo", "authorizer"] {
            assert!(!expression.contains(word), "{expression}");
        }
    }
    // A condition that fails would deny.
    let created =
        json!({"operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Pod"}});
    assert!(Conditions::new().ask(&created, &json!({}), &Value::Null));
}

#[test]
fn what_controllers_do_all_the_time_is_not_asked() {
    let conditions = Conditions::new();
    let set_of = |replicas: u8, condition: &str| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"annotations": {"a": condition}, "managedFields": [condition]},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": "a"}]}}},
            "status": {"observedGeneration": replicas}})
    };
    let scaled = |old: u8, new: u8| Update {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        resource: "replicasets",
        subresource: "",
        user: "alice",
        old: set_of(old, "before"),
        new: set_of(new, "after"),
    };
    for (old, new) in [(3, 3), (1, 5), (5, 1), (1, 0), (0, 0)] {
        assert!(!scaled(old, new).is_asked(&conditions), "{old} → {new}");
        let not_ours = scaled(old, new).understood();
        assert_eq!(not_ours, Understood::NotOurs(NotOurs::NothingThatRuns));
    }
    assert!(scaled(0, 1).is_asked(&conditions));
}

#[test]
fn a_statefulset_that_grows_is_asked_about_only_if_its_partition_lets_the_present_template_start() {
    let conditions = Conditions::new();
    let set_of = |replicas: u8, partition: u8| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {},
            "spec": {"replicas": replicas, "updateStrategy": {"rollingUpdate": {"partition": partition}},
                "template": {"spec": {"containers": [{"image": "a"}]}}}})
    };
    let grows = |partition: u8, old: u8, new: u8| Update {
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        resource: "statefulsets",
        subresource: "",
        user: "alice",
        old: set_of(old, partition),
        new: set_of(new, partition),
    };
    for (partition, old, new) in [(0, 1, 5), (3, 1, 3), (3, 4, 5), (3, 5, 1), (3, 3, 3)] {
        let update = grows(partition, old, new);
        assert!(!update.is_asked(&conditions), "{partition}: {old} → {new}");
        let not_ours = Understood::NotOurs(NotOurs::NothingThatRuns);
        assert_eq!(update.understood(), not_ours);
    }
    for (partition, old, new) in [(3, 3, 4), (3, 1, 5), (0, 0, 1)] {
        let update = grows(partition, old, new);
        assert!(update.is_asked(&conditions), "{partition}: {old} → {new}");
        assert!(matches!(update.understood(), Understood::Change(_)));
    }
}
