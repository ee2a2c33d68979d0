//! Release records at a real API server with the real controllers: what is admitted is recorded before the answer, and upkeep rests
//! on that, whatever becomes of the registry and of the gate.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{
    Certificate, ControlPlane, Cosign, Gate, LocalSigstore, Ran, Registry, Serving, Tagged, User,
    deployment, until,
};

const DEVELOPER: &str = "dev@example.com";
const AUTOSCALER: &str = "--as=system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const REPLICA_SETS: &str = "--as=system:serviceaccount:kube-system:replicaset-controller";

/// A cluster whose namespace `shop` is governed by a policy that requires signatures.
struct Bed {
    plane: ControlPlane,
    gate: Gate,
    registry: Registry,
    sigstore: std::sync::Arc<LocalSigstore>,
}

impl Bed {
    fn start() -> Bed {
        let sigstore = LocalSigstore::shared();
        let plane = ControlPlane::start();
        for namespace in ["shop", "promotion-gate"] {
            plane.create_namespace(namespace);
        }
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        let bed = Bed {
            plane,
            gate: Gate::new(&sigstore),
            registry: Registry::distribution(),
            sigstore,
        };
        bed.govern(&bed.gate, "Enforce");
        bed
    }

    fn govern(&self, gate: &Gate, enforcement: &str) {
        let signer = json!([{"keyless": {"issuer": self.sigstore.issuer.url(), "identity": DEVELOPER, "trustRoots": ["local"]}}]);
        let requirements = json!([{"digestPinned": {}}, {"signature": {"anyOf": signer}}]);
        let more = json!({
            "environment": "production",
            "enforcement": enforcement,
            "match": {"namespaces": {"names": ["shop"]}},
        });
        gate.spec(requirements, more);
    }

    fn signed(&self, tag: &str) -> Tagged {
        let image = self.registry.push("app", tag, tag);
        let signed = Cosign::v3().sign_keyless(&image, DEVELOPER, &self.sigstore);
        signed.ok();
        image
    }

    /// Starts a gate, and lets the API server ask it alone.
    fn serve(&self) -> Serving {
        let serving = self.start_gate();
        self.plane.register(&serving);
        self.is_asked(&serving);
        serving
    }

    fn start_gate(&self) -> Serving {
        self.gate
            .serve(&["--kubeconfig", &self.plane.kubeconfig_of_gate()])
    }

    fn is_asked(&self, serving: &Serving) {
        until("the webhook is asked", || {
            let probe = deployment("probe", "registry.example/probe@sha256:0");
            let dry = ["create", "--dry-run=server", "-f", "-"];
            self.plane.kubectl_as(User::Alice, dry, &probe);
            serving.log().contains("probe").then_some(())
        });
    }

    fn apply(&self, name: &str, image: &Tagged) -> Ran {
        let apply = ["apply", "-f", "-"];
        self.plane
            .kubectl_as(User::Alice, apply, &deployment(name, &image.by_digest()))
    }

    fn record(&self, image: &Tagged) -> Option<Value> {
        let name = image.digest.replace(':', "-");
        let get = ["get", "releaserecord", &name, "-n", "shop", "-o", "json"];
        let got = self.plane.kubectl(get);
        got.is_ok()
            .then(|| serde_json::from_str(&got.stdout).unwrap())
    }

    fn entries(&self, image: &Tagged) -> Vec<Value> {
        let record = self.record(image).unwrap_or_default();
        let entries = record.pointer("/spec/entries").and_then(Value::as_object);
        entries
            .into_iter()
            .flatten()
            .map(|(_, it)| it.clone())
            .collect()
    }

    fn pods(&self, app: &str) -> usize {
        let label = format!("app={app}");
        let get = ["get", "pods", "-n", "shop", "-l", &label, "-o", "name"];
        self.plane.kubectl(get).ok().lines().count()
    }

    fn scale(&self, name: &str, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        let scale = ["scale", "deployment", name, &replicas, "-n", "shop"];
        self.plane.kubectl_as(User::Alice, scale, "").ok();
    }

    fn has_pods(&self, app: &str, number: usize) {
        until(&format!("{app} has {number} Pods"), || {
            (self.pods(app) == number).then_some(())
        });
    }

    /// Creates a Pod as the controller of ReplicaSets, of a ReplicaSet that does not exist.
    fn pod_of_controller(&self, name: &str, image: &str) -> Ran {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-0", "controller": true,
            "uid": "6e2f1d0a-0000-4000-8000-000000000000"}]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "ownerReferences": owner},
            "spec": {"containers": [{"name": "main", "image": image}]},
        });
        let create = ["create", REPLICA_SETS, "-f", "-"];
        self.plane.kubectl_as(User::Admin, create, &pod.to_string())
    }

    /// An Event on the gate's Deployment tells an alarm.
    fn has_alarm(&self, reason: &str) -> String {
        let field = format!(
            "--field-selector=involvedObject.kind=Deployment,involvedObject.name=promotion-gate,reason={reason}"
        );
        until(&format!("the alarm {reason} is told"), || {
            let shown = "-o=jsonpath={.items[*].message}";
            let get = ["get", "events", "-n=promotion-gate", &field, shown];
            let told = self.plane.kubectl(get).ok();
            (!told.is_empty()).then_some(told)
        })
    }

    fn has_baseline(&self) {
        until("what ran before is recorded", || {
            let get = [
                "get",
                "gateconfiguration",
                "promotion-gate",
                "-o",
                "jsonpath={.status.recordBaseline.at}",
            ];
            let got = self.plane.kubectl(get);
            (got.is_ok() && !got.stdout.is_empty()).then_some(())
        });
    }
}

#[test]
fn upkeep_rests_on_what_was_recorded_before_the_answer_while_the_registry_is_down() {
    let mut bed = Bed::start();
    let image = bed.signed("v1");
    let serving = bed.serve();

    bed.has_baseline();

    // 1. As soon as the request is answered, the record stands.
    bed.apply("web", &image).ok();
    let entries = bed.entries(&image);
    assert_eq!(entries.len(), 1, "{entries:?}");
    let entry = &entries[0];
    assert_eq!(entry["by"], "Policy");
    assert_eq!(entry["complied"], json!(["signed"]));
    // The policy requires no approvals, of which the record would speak.
    assert_eq!(entry["environments"], json!([]));
    assert_eq!(entry["state"], "Pending");
    assert_eq!(entry["runs"], "Running");
    assert_eq!(entry["workload"]["kind"], "Deployment");
    assert!(entry["workload"]["uid"].is_string() && entry["signature"].is_string());

    // 2. The controllers' objects are upkeep, which asks no registry; and the Deployment was seen.
    bed.registry.stop();
    bed.plane.start_controllers();
    bed.has_pods("web", 1);
    until("the entry is observed", || {
        (bed.entries(&image)[0]["state"] == "Observed").then_some(())
    });
    bed.scale("web", 3);
    bed.has_pods("web", 3);
    let kubectl = [
        "delete",
        "pods",
        "-n",
        "shop",
        "-l",
        "app=web",
        "--wait=false",
    ];
    bed.plane.kubectl(kubectl).ok();
    bed.has_pods("web", 3);
    assert!(!serving.log().contains(
        "\"decision\":\"deny\",\"admitted\":false,\"audit_only\":false,\"dry_run\":false"
    ));

    // 3. A gate that starts anew knows it from the records alone.
    drop(serving);
    let serving = bed.serve();
    bed.scale("web", 4);
    bed.has_pods("web", 4);

    // 4. Scaled to zero, what ran here and complied starts again.
    bed.scale("web", 0);
    bed.has_pods("web", 0);
    bed.scale("web", 2);
    bed.has_pods("web", 2);
    drop(serving);
}

#[test]
fn a_controllers_pod_with_an_image_that_was_never_recorded_is_judged_as_a_deploy() {
    let bed = Bed::start();
    let image = bed.signed("v1");
    let evil = bed.registry.push("app", "evil", "evil");
    // What ran before the gate came is recorded once, and its upkeep goes on.
    let before = bed.registry.push("app", "before", "before");
    bed.apply("old", &before).ok();
    let _serving = bed.serve();
    bed.has_baseline();
    assert_eq!(bed.entries(&before)[0]["by"], "Baseline");
    bed.pod_of_controller("of-old", &before.by_digest()).ok();

    let refusal = bed.pod_of_controller("evil", &evil.by_digest()).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    // The same image complies: it is judged, admitted and recorded.
    bed.pod_of_controller("good", &image.by_digest()).ok();
    assert_eq!(bed.entries(&image)[0]["workload"]["kind"], "Pod");
}

#[test]
fn what_had_no_replicas_when_the_gate_came_is_woken_by_an_autoscaler_and_not_by_a_person() {
    let bed = Bed::start();
    let image = bed.registry.push("app", "before", "before");
    // Both run the same image, so that its record alone does not say which of them ran.
    for (name, replicas) in [("runs", 1), ("sleeps", 0), ("stops", 1)] {
        let mut object: Value =
            serde_json::from_str(&deployment(name, &image.by_digest())).unwrap();
        object["spec"]["replicas"] = json!(replicas);
        let apply = ["apply", "-f", "-"];
        let object = object.to_string();
        bed.plane.kubectl_as(User::Alice, apply, &object).ok();
    }
    let serving = bed.serve();
    bed.has_baseline();
    let entries = bed.entries(&image);
    assert_eq!(entries.len(), 3, "{entries:?}");
    for entry in entries {
        assert_eq!(
            (&entry["by"], &entry["runs"]),
            (&json!("Baseline"), &json!("Running"))
        );
    }
    bed.scale("stops", 0);
    let wake = |name: &str, more: &[&str]| {
        let path = format!("/apis/apps/v1/namespaces/shop/deployments/{name}/scale");
        let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"replicas": 1}});
        let replace = ["replace", "--raw", path.as_str(), "-f", "-"];
        let args = replace.iter().chain(more).copied();
        bed.plane.kubectl_as(User::Admin, args, &scale.to_string())
    };
    for name in ["sleeps", "stops"] {
        let refusal = wake(name, &[]).refused();
        assert!(refusal.contains("[unsigned]"), "{refusal}");
        wake(name, &[AUTOSCALER]).ok();
    }
    drop(serving);
}

#[test]
fn a_pod_with_a_sidecar_that_an_injector_may_add_is_upkeep_and_the_sidecar_is_recorded() {
    let bed = Bed::start();
    let image = bed.signed("v1");
    let sidecar = bed.signed("sidecar");
    let unsigned = bed.registry.push("mesh", "unsigned", "unsigned");
    let _serving = bed.serve();
    bed.has_baseline();
    bed.apply("web", &image).ok();
    bed.plane.start_controllers();
    bed.has_pods("web", 1);
    let replica_set = {
        let get = ["get", "rs", "-n", "shop", "-l", "app=web", "-o", "json"];
        let list: Value = serde_json::from_str(&bed.plane.kubectl(get).ok()).unwrap();
        list["items"][0].clone()
    };
    // From here on, a policy lets nothing in but what an injector adds.
    let signer = json!([{"keyless": {"issuer": bed.sigstore.issuer.url(), "identity": DEVELOPER, "trustRoots": ["local"]}}]);
    let injected = json!([{"patterns": ["127.0.0.1:*/**"], "signature": {"anyOf": signer}}]);
    bed.gate.spec(
        json!([{"allowedImages": {"patterns": ["nowhere.example/*"]}}]),
        json!({"match": {"namespaces": {"names": ["shop"]}}, "injected": injected}),
    );
    until("the policy is in force", || {
        let dry = ["create", "--dry-run=server", "-f", "-"];
        let other = deployment("other", &image.by_digest());
        let tried = bed.plane.kubectl_as(User::Alice, dry, &other);
        (!tried.is_ok()).then_some(())
    });
    let create = |name: &str, uid: &Value, user: &str, added: &Tagged| {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
            "name": replica_set["metadata"]["name"], "uid": uid}]);
        let containers = json!([
            {"name": "main", "image": image.by_digest()},
            {"name": "mesh", "image": added.by_digest()},
        ]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "ownerReferences": owner},
            "spec": {"containers": containers},
        });
        let create = ["create", user, "-f", "-"];
        bed.plane.kubectl_as(User::Admin, create, &pod.to_string())
    };
    let uid = &replica_set["metadata"]["uid"];
    let no_owner = json!("6e2f1d0a-0000-4000-8000-000000000000");
    // Neither a person, nor an owner that is not there, nor an image that nobody signed.
    create("person", uid, "--as=alice@example.com", &sidecar).refused();
    create("orphan", &no_owner, REPLICA_SETS, &sidecar).refused();
    let refusal = create("unsigned", uid, REPLICA_SETS, &unsigned).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    assert_eq!(bed.record(&sidecar), None);

    create("meshed", uid, REPLICA_SETS, &sidecar).ok();
    let entry = until("the sidecar is recorded", || bed.entries(&sidecar).pop());
    assert_eq!(entry["by"], "Injected");
    assert_eq!(entry["workload"]["kind"], "ReplicaSet");
    assert_eq!(entry["workload"]["uid"], *uid);
    assert_eq!(entry["state"], "Observed");
    assert_eq!(entry["complied"], json!([]));
}

#[test]
fn a_tag_that_was_moved_under_a_running_workload_raises_an_alarm() {
    let bed = Bed::start();
    let image = bed.signed("v1");
    let signer = json!([{"keyless": {"issuer": bed.sigstore.issuer.url(), "identity": DEVELOPER, "trustRoots": ["local"]}}]);
    bed.gate.spec(
        json!([{"signature": {"anyOf": signer}}]),
        json!({"tags": "Resolve", "match": {"namespaces": {"names": ["shop"]}}}),
    );
    let serving = bed.serve();
    let deploy = deployment("web", &image.by_tag());
    bed.plane
        .kubectl_as(User::Alice, ["apply", "-f", "-"], &deploy)
        .ok();
    drop(serving);
    let moved = bed.registry.push("app", "v1", "other");
    assert_ne!(moved.digest, image.digest);
    // A replica that has the duties looks at once, and then once an hour.
    let serving = bed.serve();
    let told = bed.has_alarm("TagMoved");
    assert!(
        told.contains(&moved.digest) && told.contains("shop"),
        "{told}"
    );
    assert!(serving.log().contains("\"alarm\":\"tag-moved\""));
    let metrics = serving.probes.http_get("/metrics").unwrap();
    for line in [
        "promotion_gate_alarms_total{reason=\"tag-moved\"} 1",
        "promotion_gate_tags_moved 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn a_forged_admission_review_buys_nothing() {
    let bed = Bed::start();
    let evil = bed.registry.push("app", "evil", "evil");
    bed.govern(&bed.gate, "Audit");
    let serving = bed.serve();
    bed.has_baseline();
    // 1. Somebody in the cluster tells the gate of a Deployment that does not exist. It is admitted and recorded.
    let forged = forged_review(&evil.by_digest());
    let answer = post(&format!("https://{}/validate", serving.https), forged);
    assert!(answer.contains("\"allowed\":true"), "{answer}");
    assert_eq!(bed.entries(&evil)[0]["state"], "Pending");
    // 2. Nothing in the cluster shows it, so that the record does not serve a controller's Pod, nor a person's.
    bed.govern(&bed.gate, "Enforce");
    until("the policy enforces", || {
        let dry = ["create", "--dry-run=server", "-f", "-"];
        let other = deployment("other", &evil.by_digest());
        let tried = bed.plane.kubectl_as(User::Alice, dry, &other);
        (!tried.is_ok()).then_some(())
    });
    let refusal = bed.pod_of_controller("evil", &evil.by_digest()).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    assert_eq!(bed.entries(&evil)[0]["state"], "Pending");
}

fn post(url: &str, body: String) -> String {
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
    let client = client.build().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = async { client.post(url).body(body).send().await?.text().await };
    runtime.block_on(answer).unwrap()
}

fn forged_review(image: &str) -> String {
    let mut object: Value = serde_json::from_str(&deployment("evil", image)).unwrap();
    object["metadata"]["uid"] = json!("6e2f1d0a-0000-4000-8000-000000000000");
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": "CREATE", "namespace": "shop", "name": "evil",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "userInfo": {"username": "alice@example.com"}, "object": object, "oldObject": null, "dryRun": false,
        },
    })
    .to_string()
}

#[test]
fn gates_that_write_one_record_at_once_lose_no_entry() {
    const DEPLOYMENTS: usize = 40;
    let bed = Bed::start();
    let image = bed.signed("v1");
    let one = bed.serve();
    // A second gate is asked about every request too, by a registration of its own.
    let second = Gate::new(&bed.sigstore);
    bed.govern(&second, "Enforce");
    let other = second.serve(&["--kubeconfig", &bed.plane.kubeconfig_of_gate()]);
    let registration = other.registration(&other.ca_bundle);
    let registration = registration.replace(
        "\"name\":\"promotion-gate\"",
        "\"name\":\"promotion-gate-2\"",
    );
    bed.plane
        .kubectl_as(User::Admin, ["apply", "-f", "-"], &registration)
        .ok();
    bed.is_asked(&other);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= DEPLOYMENTS {
                        break;
                    }
                    // An API server that is too slow for the write of the record is tried again, as the denial says.
                    until("the Deployment goes in", || {
                        let applied = bed.apply(&format!("web-{number}"), &image);
                        let late = ["[record-not-written]", "context deadline exceeded"];
                        let is_late = late.iter().any(|it| applied.stderr.contains(it));
                        (!is_late).then(|| applied.ok())
                    });
                }
            });
        }
    });
    // A request that one gate denied so may have an entry of the other.
    let entries = bed.entries(&image);
    let names = entries.iter().map(|it| it["workload"]["name"].to_string());
    assert_eq!(names.collect::<BTreeSet<_>>().len(), DEPLOYMENTS);
    drop(one);
}

#[test]
fn records_survive_deletion_and_the_loss_of_the_key_and_go_with_their_namespace() {
    let mut bed = Bed::start();
    let image = bed.signed("v1");
    let other = bed.signed("v2");
    let serving = bed.serve();
    // The first baseline marks what it sees, which would change the entries below.
    bed.has_baseline();
    let dry = ["apply", "--dry-run=server", "-f", "-"];
    let object = deployment("dry", &other.by_digest());
    bed.plane.kubectl_as(User::Alice, dry, &object).ok();
    assert_eq!(bed.record(&other), None, "a dry run leaves no record");

    bed.apply("web", &image).ok();
    let before = bed.entries(&image);
    let name = image.digest.replace(':', "-");
    let delete = ["delete", "releaserecord", &name, "-n", "shop"];
    bed.plane.kubectl(delete).ok();
    until("the record comes back", || {
        (bed.entries(&image) == before).then_some(())
    });
    assert!(serving.log().contains("somebody deleted a release record"));
    bed.has_alarm("RecordDeleted");

    // A new key is made, and what the old one signed goes on counting.
    let delete = [
        "delete",
        "secret",
        "promotion-gate-record-key",
        "-n",
        "promotion-gate",
    ];
    bed.plane.kubectl(delete).ok();
    let keys = || {
        let get = [
            "get",
            "gateconfiguration",
            "promotion-gate",
            "-o",
            "jsonpath={.status.recordKeys[*].id}",
        ];
        bed.plane.kubectl(get).ok().split_whitespace().count()
    };
    drop(serving);
    let serving = bed.serve();
    assert_eq!(keys(), 2);
    assert!(serving.log().contains("the key of release records is lost"));
    bed.has_baseline();
    bed.registry.stop();
    bed.plane.start_controllers();
    bed.has_pods("web", 1);

    let delete = ["delete", "namespace", "shop", "--wait=false"];
    bed.plane.kubectl(delete).ok();
    until("the namespace goes, with its records", || {
        (!bed.plane.kubectl(["get", "namespace", "shop"]).is_ok()).then_some(())
    });
}

#[test]
fn while_records_exist_that_no_key_verifies_a_new_key_waits_for_a_governor_who_adopts_what_runs() {
    let bed = Bed::start();
    let image = bed.signed("v1");
    let serving = bed.serve();
    bed.has_baseline();
    bed.apply("web", &image).ok();
    drop(serving);

    // 1. An attacker who wants the gate to forget takes the key and the public keys away.
    let delete = [
        "delete",
        "secret",
        "promotion-gate-record-key",
        "-n",
        "promotion-gate",
    ];
    bed.plane.kubectl(delete).ok();
    let patch = [
        "patch",
        "gateconfiguration",
        "promotion-gate",
        "--subresource=status",
        "--type=merge",
        "--patch={\"status\":{\"recordKeys\":null}}",
    ];
    bed.plane.kubectl(patch).ok();
    let kubeconfig = bed.plane.kubeconfig_of_gate();
    let flags = ["--policy", "policies", "--kubeconfig", &kubeconfig];
    let certificate = Certificate::new("127.0.0.1");
    let serving = bed.gate.start(&certificate, "127.0.0.1", &flags);
    until("the gate says what is lost", || {
        let log = serving.log();
        log.contains("record adopt --all-namespaces").then_some(())
    });
    let ready = until("requests are answered all the same", || {
        serving.probes.http_get("/readyz")
    });
    assert!(ready.contains("record adopt --all-namespaces"), "{ready}");
    bed.plane.register(&serving);
    until("what would have to be recorded is refused", || {
        let refusal = bed.apply("another", &image).refused();
        refusal.contains("cannot be recorded").then_some(())
    });
    let secret = [
        "get",
        "secret",
        "promotion-gate-record-key",
        "-n",
        "promotion-gate",
    ];
    bed.plane.kubectl(secret).refused();

    // 2. A governor adopts what runs: a new key is made, and what runs is recorded as baseline.
    let record = |arguments: &[&str]| {
        let connection = ["--kubeconfig", kubeconfig.as_str()];
        let arguments = [&["record"], arguments, &connection].concat();
        bed.gate.run(&arguments, "")
    };
    assert_eq!(record(&["verify"]).code, Some(2), "no entry counts");
    let adopted = record(&["adopt", "--all-namespaces"]).ok();
    assert!(adopted.contains("0 are left"), "{adopted}");
    record(&["list", "--unrecorded"]).ok();
    let listed = record(&["list", "--namespace", "shop"]).ok();
    assert!(
        listed.contains("Deployment/web") && listed.contains("Baseline"),
        "{listed}"
    );
    let shown = record(&["show", &image.by_digest()]).ok();
    assert!(shown.contains("Deployment/web by Baseline"), "{shown}");
    // What the lost key signed counts for nothing, and is removed.
    let verified = record(&["verify"]);
    let told = &verified.stdout;
    assert_eq!(verified.code, Some(0), "{told}");
    assert_eq!(bed.entries(&image).len(), 1);
}

#[test]
fn a_gate_that_starts_behind_its_own_webhook_makes_the_configuration_once_it_is_asked() {
    let bed = Bed::start();
    let serving = bed.serve();
    bed.has_baseline();
    // 1. No replica runs, the webhook is registered, and there is no GateConfiguration.
    let webhook = ["validatingwebhookconfiguration", "promotion-gate"];
    let get = ["get", webhook[0], webhook[1], "-o", "json"];
    let mut registered: Value = serde_json::from_str(&bed.plane.kubectl(get).ok()).unwrap();
    for field in ["resourceVersion", "uid"] {
        registered["metadata"]
            .as_object_mut()
            .unwrap()
            .remove(field);
    }
    drop(serving);
    bed.plane.kubectl(["delete", webhook[0], webhook[1]]).ok();
    let configuration = ["gateconfiguration", "promotion-gate"];
    until("the configuration is gone", || {
        let delete = ["delete", configuration[0], configuration[1]];
        bed.plane.kubectl(delete).is_ok().then_some(())
    });
    let create = ["create", "-f", "-"];
    let registered = registered.to_string();
    bed.plane.kubectl_as(User::Admin, create, &registered).ok();
    until("the API server asks nobody", || {
        let label = ["label", "namespace", "shop", "a=b", "--dry-run=server"];
        (!bed.plane.kubectl(label).is_ok()).then_some(())
    });

    // 2. The gate becomes ready, so that it can be asked.
    let serving = bed.start_gate();
    let ready = until("requests are answered", || {
        serving.probes.http_get("/readyz")
    });
    assert!(ready.contains("GateConfiguration"), "{ready}");
    bed.plane.register(&serving);
    until("the configuration is made", || {
        let get = ["get", configuration[0], configuration[1]];
        bed.plane.kubectl(get).is_ok().then_some(())
    });
    until("nothing is wrong any more", || {
        let ready = serving.probes.http_get("/readyz")?;
        (!ready.contains("release records")).then_some(())
    });
}

#[test]
fn a_configuration_that_is_made_again_has_nothing_adopted_a_second_time_but_what_is_in_audit() {
    let bed = Bed::start();
    let image = bed.signed("v1");
    let late = bed.registry.push("app", "late", "late");
    let serving = bed.serve();
    bed.has_baseline();
    bed.apply("web", &image).ok();
    drop(serving);
    // 1. While nobody is asked, somebody lets an image run that no policy would allow, and takes the configuration away.
    let webhook = ["validatingwebhookconfiguration", "promotion-gate"];
    bed.plane.kubectl(["delete", webhook[0], webhook[1]]).ok();
    until("nobody is asked", || {
        bed.apply("late", &late).is_ok().then_some(())
    });
    let configuration = ["gateconfiguration", "promotion-gate"];
    let delete = ["delete", configuration[0], configuration[1]];
    bed.plane.kubectl(delete).ok();

    // 2. The gate makes it again, and knows from the records that a baseline was taken.
    let serving = bed.serve();
    let told = bed.has_alarm("RecordStateLost");
    assert!(told.contains("record list --unrecorded"), "{told}");
    bed.has_baseline();
    serving.says("/metrics", "promotion_gate_unrecorded 1");
    assert_eq!(bed.record(&late), None);
    let refusal = bed.pod_of_controller("of-late", &late.by_digest());
    let refusal = refusal.refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    bed.pod_of_controller("of-web", &image.by_digest()).ok();

    // 3. In Audit the API server admits without asking while no replica answers, so what runs there is recorded all the same.
    drop(serving);
    let kubeconfig = bed.plane.kubeconfig_of_gate();
    let flags = ["--kubeconfig", &kubeconfig, "--audit-namespace=shop"];
    let audits = bed.gate.serve(&flags);
    bed.plane.register(&audits);
    let recorded = until("what runs in Audit is recorded", || bed.record(&late));
    assert!(
        recorded.to_string().contains("\"by\":\"Baseline\""),
        "{recorded}"
    );
}
