//! A namespace for one scenario, with a registry, a key and a policy of its own.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::{Cluster, Person};
use crate::support::{Cosign, Key, Ran, Registry, Tagged, until};

pub struct Shop<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
    pub registry: Mutex<Registry>,
    key: Key,
}

/// An image, as manifests name it.
pub type Image = String;

impl<'a> Shop<'a> {
    /// Opens a namespace whose policy requires pinned images of its registry that its key has signed.
    pub fn open(cluster: &'a Cluster, name: &str) -> Shop<'a> {
        Shop::open_with(cluster, name, &[], &json!({}))
    }

    /// The same with further requirements, and further fields of the policy.
    pub fn open_with(
        cluster: &'a Cluster,
        name: &str,
        requirements: &[Value],
        fields: &Value,
    ) -> Shop<'a> {
        let shop = Shop::ungoverned(cluster, name);
        shop.govern(requirements, fields);
        shop
    }

    /// A namespace without a policy.
    pub fn ungoverned(cluster: &'a Cluster, name: &str) -> Shop<'a> {
        cluster.plane.create_namespace_with(name, &json!({}));
        Shop {
            cluster,
            name: name.to_owned(),
            registry: Mutex::new(Registry::distribution()),
            key: Key::generate(),
        }
    }

    /// What the policy of the namespace requires before anything else.
    pub fn basics(&self) -> Vec<Value> {
        let key = json!({"pem": self.key.public_pem(), "transparency": "None"});
        vec![
            json!({"digestPinned": {}}),
            json!({"allowedImages": {"patterns": ["127.0.0.1:*/**"]}}),
            json!({"signature": {"anyOf": [{"key": key}]}}),
        ]
    }

    /// Puts the policy into force, and waits until every replica judges by it.
    pub fn govern(&self, requirements: &[Value], fields: &Value) {
        let all = self
            .basics()
            .into_iter()
            .chain(requirements.iter().cloned());
        self.govern_by(all.collect(), fields);
    }

    /// Puts a policy into force that also requires an approval with the key of the namespace, and that no freeze lasts.
    pub fn govern_with_approvals(&self, environment: &str) {
        let approver = format!("approver-of-{}", self.name);
        let directory = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PeopleDirectory",
            "metadata": {"name": self.name},
            "spec": {"people": [
                {"name": approver, "identities": [{"key": {"pem": self.public_key()}}]},
            ]},
        });
        self.apply(Person::Grace, &directory).ok();
        let approvals = json!({"approvals": {
            "from": [{"person": approver}], "differentFromAuthor": false,
            "trustRoots": ["local"], "transparency": "Timestamp",
        }});
        self.govern(
            &[json!({"noFreeze": {}}), approvals],
            &json!({"environment": environment}),
        );
    }

    pub fn govern_by(&self, requirements: Vec<Value>, fields: &Value) {
        let mut spec = json!({
            "match": {"namespaces": {"names": [self.name]}},
            "requirements": requirements,
        });
        let fields = fields.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PromotionPolicy",
            "metadata": {"name": self.name},
            "spec": spec,
        });
        let before = self.revisions();
        self.apply(Person::Grace, &policy).ok();
        until("every replica judges by the new policy", || {
            let now = self.revisions();
            let changed = |(now, before): (&String, &String)| now != before && !now.is_empty();
            now.iter().zip(&before).all(changed).then_some(())
        });
    }

    /// Freezes an environment, and waits until every replica knows it. Only one freeze of a namespace exists at a time.
    pub fn freeze(&self, environment: &str) {
        self.freeze_with(environment, &json!({}));
    }

    /// The same, with what may pass the freeze.
    pub fn freeze_with(&self, environment: &str, may_pass: &Value) {
        let freeze = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "ChangeFreeze",
            "metadata": {"name": self.name},
            "spec": {
                "environments": [environment], "reason": "Year-end close",
                "windows": [{"from": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}],
                "mayPass": may_pass,
            },
        });
        self.apply(Person::Grace, &freeze).ok();
        self.is_frozen(true);
    }

    pub fn lift_freeze(&self) {
        self.kubectl(Person::Grace, ["delete", "changefreeze", &self.name])
            .ok();
        self.is_frozen(false);
    }

    fn is_frozen(&self, expected: bool) {
        let mut probe = review(
            Person::Alice.name(),
            &self.pod("probe", &"probe:1".to_owned()),
        );
        probe["request"]["dryRun"] = json!(true);
        let gates = &self.cluster.gates;
        for replica in gates.numbers() {
            until("every replica knows of the freeze", || {
                let answer = gates.ask(replica, &probe).to_string();
                (answer.contains("[frozen]") == expected).then_some(())
            });
        }
    }

    /// By which policies each replica judges this namespace, as the names and revisions of its last decision about it.
    fn revisions(&self) -> Vec<String> {
        let mut probe = self.review(
            Person::Alice.name(),
            &self.pod("probe", &"probe:1".to_owned()),
        );
        probe["request"]["dryRun"] = json!(true);
        let gates = &self.cluster.gates;
        let asked = gates.numbers().map(|replica| {
            let uid = format!("{}-{replica}-{}", self.name, unique());
            probe["request"]["uid"] = json!(uid);
            gates.ask(replica, &probe);
            uid
        });
        let asked: Vec<_> = asked.collect();
        let lines = gates.log_lines(&format!("\"id\":\"{}-", self.name));
        let revision = |uid: &String| {
            let line = lines.iter().find(|line| line["id"] == json!(uid));
            let revision = line.and_then(|line| line["revision"].as_str());
            revision.unwrap_or_default().to_owned()
        };
        asked.iter().map(revision).collect()
    }

    /// An AdmissionReview about the creation of an object here.
    pub fn review(&self, user: &str, object: &Value) -> Value {
        review(user, object)
    }

    pub fn unsigned(&self, name: &str) -> Image {
        self.push(name).by_digest()
    }

    pub fn signed(&self, name: &str) -> Image {
        self.push_signed(name).by_digest()
    }

    pub fn push_signed(&self, name: &str) -> Tagged {
        let image = self.push(name);
        Cosign::v2().sign_with_key(&image, &self.key, &[]).ok();
        image
    }

    /// Approves an image with the key of the namespace, until then.
    pub fn approve(&self, image: &Tagged, environment: &str, until: jiff::Timestamp) {
        let valid_until = json!({"decision": "approved", "validUntil": until.to_string()});
        self.say(image, environment, &valid_until);
    }

    /// Signs a decision about an image with the key of the namespace.
    pub fn say(&self, image: &Tagged, environment: &str, decision: &Value) {
        let mut approval = json!({"environment": environment});
        let fields = decision.as_object().unwrap().clone();
        approval.as_object_mut().unwrap().extend(fields);
        let kind = "https://promotion-gate.dev/approval/v1";
        let sigstore = &self.cluster.sigstore;
        Cosign::v2()
            .attest_with_key_and_time(image, kind, &approval, &self.key, sigstore)
            .ok();
    }

    pub fn public_key(&self) -> String {
        self.key.public_pem()
    }

    pub fn push(&self, name: &str) -> Tagged {
        self.registry.lock().unwrap().push("app", name, name)
    }

    pub fn pod(&self, name: &str, image: &Image) -> Value {
        pod(&self.name, name, image)
    }

    /// A Deployment, StatefulSet, DaemonSet … with a template of this image.
    pub fn workload(&self, kind: &str, name: &str, image: &Image) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, image)},
        })
    }

    pub fn deployment(&self, name: &str, image: &Image, replicas: u32) -> Value {
        let mut deployment = self.workload("Deployment", name, image);
        deployment["spec"]["replicas"] = json!(replicas);
        deployment
    }

    pub fn job(&self, name: &str, image: &Image) -> Value {
        let mut template = template(name, image);
        template["spec"]["restartPolicy"] = json!("Never");
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"template": template},
        })
    }

    pub fn cron_job(&self, name: &str, image: &Image, schedule: &str) -> Value {
        let job = self.job(name, image);
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"schedule": schedule, "jobTemplate": {"spec": job["spec"]}},
        })
    }

    pub fn apply(&self, by: Person, object: &Value) -> Ran {
        self.cluster.apply(by, object)
    }

    /// Runs kubectl in this namespace.
    pub fn kubectl<const N: usize>(&self, by: Person, args: [&str; N]) -> Ran {
        let args = ["-n", &self.name].into_iter().chain(args);
        self.cluster.kubectl(by, args)
    }

    pub fn get(&self, args: &[&str]) -> Value {
        let args = ["-n", &self.name].into_iter().chain(args.iter().copied());
        self.cluster.get(args)
    }

    /// The names of the Pods with this label that are ready.
    pub fn pods(&self, app: &str) -> BTreeSet<String> {
        let pods = self.get(&["pods", "-l", &format!("app={app}")]);
        let ready = pods["items"].as_array().unwrap().iter().filter(|pod| {
            let conditions = pod["status"]["conditions"].as_array();
            let is =
                |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.is_some_and(|conditions| conditions.iter().any(is))
        });
        let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
        ready.map(name).collect()
    }

    /// Waits until so many Pods of an app are ready.
    pub fn runs(&self, app: &str, pods: usize) -> BTreeSet<String> {
        until(
            &format!("{pods} Pods of {app} in {} are ready", self.name),
            || {
                let ready = self.pods(app);
                (ready.len() == pods).then_some(ready)
            },
        )
    }

    /// The entries of an image's record here.
    pub fn record(&self, image: &Image) -> Vec<Value> {
        let (_, hex) = image.split_once("@sha256:").unwrap();
        let name = format!("sha256-{hex}");
        let get = ["get", "releaserecord", &name, "-o", "json"];
        let found = self.kubectl(Person::Admin, get);
        if !found.is_ok() {
            return Vec::new();
        }
        let record: Value = serde_json::from_str(&found.stdout).unwrap();
        let entries = record["spec"]["entries"].as_object().unwrap();
        entries.values().cloned().collect()
    }

    /// All Pods of an app are deleted, and others take their place.
    pub fn replaces_pods(&self, app: &str, pods: usize, why: &str) {
        let before = self.runs(app, pods);
        let label = format!("-l=app={app}");
        let delete = ["delete", "pods", &label, "--wait=false", "--grace-period=0"];
        self.kubectl(Person::Admin, delete).ok();
        until(
            &format!("{app} in {} has other Pods, {why}", self.name),
            || {
                let now = self.pods(app);
                (now.len() == pods && now.is_disjoint(&before)).then_some(())
            },
        );
    }

    /// The decisions of all replicas about this namespace, dry runs left out.
    pub fn decisions(&self) -> Vec<Value> {
        let lines = self
            .cluster
            .gates
            .log_lines(&format!("\"{}\"", self.name))
            .into_iter();
        let ours = lines.filter(|line| {
            line["message"] == "decision"
                && line["namespace"] == json!(self.name)
                && line["dry_run"] == false
        });
        ours.collect()
    }

    /// Nothing that a controller asked for was denied: by the gate's log, and by what the controllers say.
    #[track_caller]
    pub fn upkeep_was_never_denied(&self) {
        self.upkeep_was_never_denied_beside("");
    }

    /// The same where a deployer is a service account too.
    #[track_caller]
    pub fn upkeep_was_never_denied_beside(&self, deployer: &str) {
        let denied = self.decisions().into_iter().filter(|line| {
            let user = line["user"].as_str().unwrap();
            user.starts_with("system:") && user != deployer && line["admitted"] == false
        });
        let denied: Vec<_> = denied.collect();
        assert!(denied.is_empty(), "{denied:#?}");
        let events = self.get(&["events", "--field-selector", "reason=FailedCreate"]);
        let events = events["items"].as_array().unwrap();
        assert!(events.is_empty(), "{events:#?}");
    }
}

pub fn pod(namespace: &str, name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

pub fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

/// An AdmissionReview about the creation of an object, as an API server would send it.
pub fn review(user: &str, object: &Value) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().unwrap();
    let resource = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("forged-{}", unique()),
            "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": resource},
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "operation": "CREATE", "userInfo": {"username": user, "groups": ["system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": false,
        },
    })
}

fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
