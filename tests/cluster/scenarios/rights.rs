//! The roles of the gate, held against what the API server's audit log says that it asked for.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::harness::{Cluster, NAMESPACE};
use crate::support::ControlPlane;

/// Something that the shipped roles allow the gate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// The verb, the group and the resource.
    what: String,
    /// The name of the only object, if it is about one.
    object: Option<String>,
    /// Only in the namespace of the gate.
    in_own_namespace: bool,
}

impl Right {
    fn covers(&self, request: &Request) -> bool {
        let is_named = self.object.is_none() || self.object == request.object;
        let is_there = !self.in_own_namespace || request.namespace.as_deref() == Some(NAMESPACE);
        self.what == request.what && is_named && is_there
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        Ok(())
    }
}

/// What the gate asked the API server for.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Request {
    what: String,
    namespace: Option<String>,
    object: Option<String>,
}

fn granted() -> BTreeSet<Right> {
    let shipped = crate::harness::shipped("deploy/manifests/rbac.yaml");
    let roles = shipped.iter().filter(|object| {
        object["metadata"]["name"] == "promotion-gate"
            && object["kind"].as_str().unwrap().ends_with("Role")
    });
    let texts = |rule: &Value, field: &str| {
        let texts = rule[field].as_array().into_iter().flatten();
        let texts = texts.map(|it| it.as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    let mut granted = BTreeSet::new();
    for role in roles {
        for rule in role["rules"].as_array().unwrap() {
            let objects: Vec<_> = texts(rule, "resourceNames").into_iter().map(Some).collect();
            let objects = if objects.is_empty() {
                vec![None]
            } else {
                objects
            };
            for verb in texts(rule, "verbs") {
                for group in texts(rule, "apiGroups") {
                    for resource in texts(rule, "resources") {
                        granted.extend(objects.iter().map(|object| Right {
                            what: format!("{verb} {group}/{resource}"),
                            object: object.clone(),
                            in_own_namespace: role["kind"] == "Role",
                        }));
                    }
                }
            }
        }
    }
    granted
}

fn asked_for(plane: &ControlPlane) -> BTreeSet<Request> {
    let account = "system:serviceaccount:promotion-gate:promotion-gate";
    let requests = plane.requests_of(account);
    let requests = requests.iter().filter_map(|line| {
        let request: Value = serde_json::from_str(line).unwrap();
        let object = request.get("objectRef")?;
        let given = |field: &str| object[field].as_str().map(str::to_owned);
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let mut resource = text("resource").to_owned();
        if !text("subresource").is_empty() {
            resource = format!("{resource}/{}", text("subresource"));
        }
        let verb = request["verb"].as_str().unwrap();
        Some(Request {
            what: format!("{verb} {}/{resource}", text("apiGroup")),
            namespace: given("namespace"),
            object: given("name"),
        })
    });
    requests.collect()
}

/// What the gate asks for in cases that no scenario plays, each with the case.
const IN_OTHER_CASES: [(&str, &[&str]); 6] = [
    (
        "a change record names authors, which are kept until no release needs them (`tests/real/approvals.rs`)",
        &[
            "create promotion-gate.dev/authorrecords",
            "get promotion-gate.dev/authorrecords",
            "patch promotion-gate.dev/authorrecords",
            "delete promotion-gate.dev/authorrecords",
            "update promotion-gate.dev/authorrecords/status",
        ],
    ),
    (
        "OpenVEX documents take something back, which is kept until no release needs it (`tests/real/vex.rs`)",
        &[
            "create promotion-gate.dev/vexrecords",
            "get promotion-gate.dev/vexrecords",
            "patch promotion-gate.dev/vexrecords",
            "delete promotion-gate.dev/vexrecords",
            "update promotion-gate.dev/vexrecords/status",
        ],
    ),
    (
        "a rejection was kept by another replica, and is completed (`tests/real/approvals.rs`, `tests/real/emergency.rs`)",
        &[
            "get promotion-gate.dev/rejections",
            "patch promotion-gate.dev/rejections",
        ],
    ),
    (
        "an emergency change was reviewed a year ago (`src/duties/debts/tests.rs`)",
        &["delete promotion-gate.dev/emergencychangerecords"],
    ),
    (
        "a controller of such a kind, or its template, is the cause of a change; one function reads all kinds",
        &[
            "get /podtemplates",
            "get /replicationcontrollers",
            "get apps/controllerrevisions",
            "get argoproj.io/analysisruns",
            "get argoproj.io/analysistemplates",
            "get argoproj.io/clusteranalysistemplates",
            "get argoproj.io/experiments",
            "get keda.sh/scaledjobs",
        ],
    ),
    (
        "an emergency change let a workload of such a kind pass; one function watches all kinds (`tests/real/emergency/outcomes.rs`)",
        &[
            "watch /pods",
            "watch /replicationcontrollers",
            "watch apps/replicasets",
            "watch argoproj.io/analysisruns",
            "watch argoproj.io/experiments",
            "watch batch/cronjobs",
        ],
    ),
];

pub fn rights(cluster: &Cluster) {
    // Everybody may ask who they are.
    const OF_EVERYBODY: &str = "create authentication.k8s.io/selfsubjectreviews";
    assert!(
        cluster.runs_all,
        "what the gate asked for in all scenarios is looked at: run it with them, without a filter"
    );
    let mut asked = asked_for(&cluster.plane);
    asked.extend(asked_for(&cluster.installed().plane));
    asked.retain(|request| request.what != OF_EVERYBODY);
    let granted = granted();
    let is_granted = |request: &&Request| granted.iter().any(|it| it.covers(request));
    let missing: Vec<_> = asked.iter().filter(|it| !is_granted(it)).collect();
    assert!(missing.is_empty(), "not granted: {missing:#?}");
    let of_secrets = granted.iter().filter(|it| it.what.ends_with(" /secrets"));
    for right in of_secrets {
        let is_named = right.object.is_some() || right.what == "create /secrets";
        assert!(right.in_own_namespace && is_named, "{right}");
    }

    let in_other_cases = IN_OTHER_CASES.iter().flat_map(|(_, rights)| *rights);
    let in_other_cases: BTreeSet<_> = in_other_cases.copied().collect();
    let unknown = in_other_cases
        .iter()
        .filter(|what| granted.iter().all(|right| right.what != **what));
    let unknown: Vec<_> = unknown.collect();
    assert!(
        unknown.is_empty(),
        "named here, and not granted: {unknown:#?}"
    );
    let unused = granted.iter().filter(|right| {
        let is_used = asked.iter().any(|request| right.covers(request));
        !is_used && !in_other_cases.contains(&*right.what)
    });
    let unused: Vec<_> = unused.map(ToString::to_string).collect();
    assert!(unused.is_empty(), "granted, and not asked for: {unused:#?}");
}
