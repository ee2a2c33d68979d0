//! Change freezes at a real API server with the real controllers: people wait, and what runs goes on running.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Address, ControlPlane, Gate, HttpServer, Ran, Serving, Shared, User, until};

const AUTOSCALER: &str = "--as=system:serviceaccount:kube-system:horizontal-pod-autoscaler";

/// A cluster with controllers and the webhook, shared by the tests. Each test has namespaces and environments of its own.
struct Bed {
    plane: ControlPlane,
    _serving: Serving,
    gate: Gate,
    /// Where the freeze endpoint will be.
    endpoint: Address,
}

/// Each namespace with its environment, and what its policy says beside that.
fn policies() -> [(&'static str, &'static str, Value); 7] {
    [
        ("shop", "production", json!({})),
        (
            "guarded",
            "production",
            json!({"ephemeralContainers": "Judge"}),
        ),
        ("brief", "brief", json!({})),
        ("warned", "soon", json!({"warnBefore": "24h"})),
        ("strict", "strict", json!({})),
        ("lax", "lax", json!({})),
        ("planned", "planned", json!({})),
    ]
}

impl Bed {
    fn start() -> Bed {
        let endpoint = Address::free();
        let host = json!({"host": endpoint.to_string(), "plainHttp": true});
        let gate = Gate::configured(&json!({"registries": [host]}));
        let plane = ControlPlane::start();
        for (namespace, environment, no_freeze) in policies() {
            plane.create_namespace(namespace);
            let policy = json!({
                "apiVersion": "promotion-gate.dev/v1alpha1",
                "kind": "PromotionPolicy",
                "metadata": {"name": namespace},
                "spec": {
                    "environment": environment,
                    "match": {"namespaces": {"names": [namespace]}},
                    "requirements": [{"noFreeze": no_freeze}],
                },
            });
            let file = format!("policies/{namespace}.yaml");
            gate.write(&file, &policy.to_string());
        }
        plane.create_namespace("promotion-gate");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        let serving = gate.serve_cluster(&plane.admin_kubeconfig(), &["--policy", "policies"]);
        serving.is_ready();
        plane.register(&serving);
        plane.start_controllers();
        let bed = Bed {
            plane,
            _serving: serving,
            gate,
            endpoint,
        };
        until("the webhook is asked", || {
            bed.try_deploy("shop").ok();
            bed._serving.log().contains("probe").then_some(())
        });
        bed
    }

    fn shared() -> std::sync::Arc<Bed> {
        static SHARED: Shared<Bed> = Shared::new();
        SHARED.join(Bed::start)
    }

    /// Puts a freeze of an environment into the folder of the policies.
    fn freeze(&self, name: &str, environment: &str, source: &Value) {
        let mut spec =
            json!({"environments": [environment], "reason": format!("Reason of {name}")});
        let source = source.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(source);
        let freeze = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "ChangeFreeze",
            "metadata": {"name": name},
            "spec": spec,
        });
        let file = format!("policies/freeze-{name}.yaml");
        self.gate.write(&file, &freeze.to_string());
    }

    fn apply(&self, object: &Value) -> Ran {
        let apply = ["apply", "-f", "-"];
        self.plane
            .kubectl_as(User::Alice, apply, &object.to_string())
    }

    /// Asks whether a Deployment may be deployed, without doing so.
    fn try_deploy(&self, namespace: &str) -> Ran {
        let create = ["create", "--dry-run=server", "-f", "-"];
        let probe = deployment(namespace, "probe", 1, "1").to_string();
        self.plane.kubectl_as(User::Alice, create, &probe)
    }

    /// Waits until somebody who deploys is denied with these words.
    fn denied(&self, namespace: &str, words: &str) -> String {
        until(&format!("`{namespace}` is denied: {words}"), || {
            let tried = self.try_deploy(namespace);
            let is_expected = !tried.is_ok() && tried.stderr.contains(words);
            is_expected.then_some(tried.stderr)
        })
    }

    fn allowed(&self, namespace: &str) -> Ran {
        until(&format!("`{namespace}` is open"), || {
            let tried = self.try_deploy(namespace);
            tried.is_ok().then_some(tried)
        })
    }

    /// Runs kubectl as a developer in the namespace `shop`.
    fn developer<const N: usize>(&self, args: [&str; N]) -> Ran {
        let args = ["-n", "shop"].into_iter().chain(args);
        self.plane.kubectl_as(User::Alice, args, "")
    }

    /// The Pods of the namespace `shop` with this label that have not ended.
    fn pods(&self, app: &str) -> BTreeSet<String> {
        let (label, ended) = (
            format!("-l=app={app}"),
            "--field-selector=status.phase!=Failed",
        );
        let path = "-o=jsonpath={.items[*].metadata.name}";
        let pods = self.developer(["get", "pods", &label, ended, path]).ok();
        pods.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until there are so many of them.
    fn counted(&self, app: &str, count: usize) -> BTreeSet<String> {
        until(&format!("{count} Pods of `{app}`"), || {
            let pods = self.pods(app);
            (pods.len() == count).then_some(pods)
        })
    }

    /// Does for Pods what a node does.
    fn set_status(&self, pods: &BTreeSet<String>, status: &Value) -> Ran {
        let status = json!({"status": status}).to_string();
        let patch = [
            "patch",
            "-n",
            "shop",
            "--subresource=status",
            "-p",
            &status,
            "pods",
        ];
        let pods = pods.iter().map(String::as_str);
        self.plane.kubectl(patch.into_iter().chain(pods))
    }

    /// Makes the Pods of a Deployment ready until its rollout is complete.
    fn complete(&self, app: &str) {
        let deployment = format!("deployment/{app}");
        let ready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        until(&format!("the rollout of `{app}` is complete"), || {
            // A Pod can be replaced meanwhile.
            self.set_status(&self.pods(app), &ready);
            let status = ["rollout", "status", &deployment, "--watch=false"];
            let status = self.developer(status).ok();
            status.contains("successfully rolled out").then_some(())
        });
    }
}

fn image(version: &str) -> String {
    format!("registry.example/app:{version}")
}

fn deployment(namespace: &str, name: &str, replicas: u32, version: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": pod_template(name, version),
        },
    })
}

fn job(name: &str, is_suspended: bool) -> Value {
    let mut template = pod_template(name, "1");
    template["spec"]["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"suspend": is_suspended, "template": template},
    })
}

fn pod_template(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image(version)}]},
    })
}

const HOUR: i64 = 3600;

/// To the minute, as messages begin it.
fn in_utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A time from now, to the second.
fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap()
}

fn window(from: Timestamp, until: Timestamp) -> Value {
    json!({"windows": [{"from": from.to_string(), "until": until.to_string()}]})
}

#[test]
fn people_wait_during_a_freeze_and_what_runs_goes_on() {
    let bed = Bed::shared();
    let one = format!("--image={}", image("1"));
    // 1. Nothing is frozen: people deploy, and the controllers make ReplicaSets and Pods.
    for (name, replicas) in [("web", 3), ("rolling", 3), ("staged", 0)] {
        bed.apply(&deployment("shop", name, replicas, "1")).ok();
    }
    let mut paused = deployment("shop", "paused", 1, "1");
    paused["spec"]["paused"] = json!(true);
    bed.apply(&paused).ok();
    for kind in ["StatefulSet", "DaemonSet"] {
        let name = kind.to_lowercase();
        bed.apply(&json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod_template(&name, "1")},
        }))
        .ok();
    }
    bed.apply(&job("retrying", false)).ok();
    bed.apply(&job("suspended", true)).ok();
    let schedule = ["create", "cronjob", "yearly", "--schedule=0 0 1 1 *", &one];
    bed.developer(schedule).ok();
    for namespace in ["shop", "guarded"] {
        let run = ["run", "one", &one, "-n", namespace];
        bed.plane.kubectl_as(User::Alice, run, "").ok();
    }
    for name in ["web", "rolling"] {
        bed.counted(name, 3);
        bed.complete(name);
    }
    let tried = bed.counted("retrying", 1);
    // A rollout begins. It waits for a first new Pod that never gets ready.
    bed.apply(&deployment("shop", "rolling", 3, "2")).ok();
    let versions = || {
        let path = "-o=jsonpath={.items[*].spec.containers[0].image}";
        bed.developer(["get", "pods", "-l=app=rolling", path]).ok()
    };
    until("the rollout has begun", || {
        versions().contains(&image("2")).then_some(())
    });

    // 2. A freeze appears: people wait, and read why and until when.
    let end = after(24 * HOUR);
    bed.freeze("year-end", "production", &window(after(-HOUR), end));
    let denial = bed.denied("shop", "[frozen]");
    let said = format!(
        "`production` is frozen by `year-end` (Reason of year-end) until {}",
        in_utc(end)
    );
    assert!(denial.contains(&said), "expected {said}: {denial}");
    let refused = |ran: Ran| {
        let refusal = ran.refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    };
    let web = "deployment/web";
    refused(bed.apply(&deployment("shop", "new", 1, "1")));
    let label = r#"{"spec": {"template": {"metadata": {"labels": {"inject": "yes"}}}}}"#;
    refused(bed.developer(["patch", web, "-p", label]));
    refused(bed.developer(["set", "image", web, &format!("main={}", image("2"))]));
    refused(bed.developer(["set", "image", "pod/one", &format!("one={}", image("2"))]));
    refused(bed.developer(["run", "bare", &one]));
    refused(bed.developer(["create", "job", "manual", "--from=cronjob/yearly"]));
    bed.developer(["create", "configmap", "settings", "--from-literal=a=b"])
        .ok();

    // 3. What runs goes on. A Pod that is evicted is replaced,
    let before = bed.pods("web");
    let evicted = before.first().unwrap();
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted, "namespace": "shop"},
    });
    let path = format!("/api/v1/namespaces/shop/pods/{evicted}/eviction");
    let create = ["create", "--raw", &path, "-f", "-"];
    bed.plane
        .kubectl_as(User::Admin, create, &eviction.to_string())
        .ok();
    let after = until("another Pod replaces the evicted one", || {
        let pods = bed.pods("web");
        (pods.len() == 3 && pods != before).then_some(pods)
    });
    assert!(!after.contains(evicted), "{after:?}");
    // a ReplicaSet that is deleted too,
    let delete = ["delete", "replicasets", "-n", "shop", "-l=app=web"];
    bed.plane.kubectl(delete).ok();
    until("other Pods replace those of the ReplicaSet", || {
        let pods = bed.pods("web");
        (pods.len() == 3 && pods.is_disjoint(&after)).then_some(())
    });
    // so is a Pod with a name of its own, and a node that joins gets its Pods,
    bed.developer(["delete", "pod/statefulset-0"]).ok();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}});
    let create = ["create", "-f", "-"];
    bed.plane
        .kubectl_as(User::Admin, create, &node.to_string())
        .ok();
    for app in ["statefulset", "daemonset"] {
        bed.counted(app, 1);
    }
    // a Job tries again,
    let failed = json!({"phase": "Failed", "containerStatuses": [{
        "name": "main", "image": image("1"), "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "finishedAt": "2020-01-01T00:00:00Z"}},
    }]});
    bed.set_status(&tried, &failed).ok();
    until("the Job tries again", || {
        let pods = bed.pods("retrying");
        (pods.len() == 1 && pods.is_disjoint(&tried)).then_some(())
    });
    // the autoscaler scales,
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 5},
    });
    let path = "/apis/apps/v1/namespaces/shop/deployments/web/scale";
    let replace = ["replace", "--raw", path, "-f", "-", AUTOSCALER];
    bed.plane
        .kubectl_as(User::Admin, replace, &scale.to_string())
        .ok();
    bed.counted("web", 5);
    // people restart and scale what runs,
    bed.developer(["set", "resources", web, "--limits=cpu=1"])
        .ok();
    bed.developer(["rollout", "restart", web]).ok();
    bed.complete("web");
    bed.developer(["patch", web, "-p", r#"{"spec": {"replicas": 2}}"#])
        .ok();
    bed.counted("web", 2);
    // and debug it, unless the policy says otherwise,
    let debug = |namespace| {
        let debug = ["debug", "one", &one, "-n", namespace, "--attach=false"];
        bed.plane.kubectl_as(User::Alice, debug, "")
    };
    debug("shop").ok();
    refused(debug("guarded"));
    // and the rollout that began before goes on to its end.
    assert!(versions().contains(&image("1")), "{}", versions());
    bed.complete("rolling");
    let versions = versions();
    assert!(
        versions.split(' ').all(|version| version == image("2")),
        "{versions}"
    );

    // 4. What was staged is not started, by whatever path. Scaling from zero starts what the scaled object runs.
    let start = r#"{"spec": {"replicas": 3}}"#;
    refused(bed.developer(["patch", "deployment/staged", "-p", start]));
    refused(bed.apply(&deployment("shop", "staged", 3, "1")));
    refused(bed.developer([
        "patch",
        "job/suspended",
        "-p",
        r#"{"spec": {"suspend": false}}"#,
    ]));
    refused(bed.developer(["rollout", "resume", "deployment/paused"]));
    refused(bed.developer(["scale", "deployment/staged", "--replicas=1"]));
    for app in ["staged", "suspended", "paused"] {
        assert_eq!(bed.pods(app), BTreeSet::new(), "{app}");
    }
    bed.developer(["scale", web, "--replicas=3"]).ok();
    bed.counted("web", 3);
    bed.developer(["delete", web]).ok();
}

#[test]
fn a_freeze_ends_by_itself_and_one_that_is_near_is_a_warning() {
    let bed = Bed::shared();
    let later = after(2 * HOUR);
    bed.freeze("maintenance", "soon", &window(later, after(3 * HOUR)));
    let end = after(20);
    bed.freeze("closing", "brief", &window(after(-HOUR), end));
    let denial = bed.denied("brief", "[frozen]");
    assert!(denial.contains(&in_utc(end)), "{denial}");
    let warning = format!("`soon` is frozen from {}", in_utc(later));
    until("the deployer is warned", || {
        let tried = bed.try_deploy("warned");
        assert!(tried.is_ok(), "{tried}");
        let mut lines = tried.stderr.lines();
        let is_warned = |line: &str| {
            line.starts_with("Warning: ")
                && line.contains(&warning)
                && line.contains("`maintenance`")
        };
        lines.any(is_warned).then_some(())
    });
    bed.allowed("brief");
    let now = Timestamp::now();
    assert!(now >= end, "open at {now}, before {end}");
}

#[test]
fn feeds_freeze_and_what_they_do_not_say_any_more_is_unknown() {
    let bed = Bed::shared();
    let (url, maximum_age) = (format!("{}/check", bed.endpoint.url()), "12s");
    let event = |day: i64| {
        let time = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let (start, end) = (after((24 * day - 1) * HOUR), after((24 * day + 1) * HOUR));
        let lines = [
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            "PRODID:-//example//freezes//EN",
            "BEGIN:VEVENT",
            "UID:1@example.com",
            &format!("DTSTAMP:{}", time(start)),
            &format!("DTSTART:{}", time(start)),
            &format!("DTEND:{}", time(end)),
            "SUMMARY:Inventory",
            "END:VEVENT",
            "END:VCALENDAR",
            "",
        ];
        bed.gate.write("policies/freezes.ics", &lines.join("\r\n"));
        end
    };
    event(7);
    let calendar = json!({"calendar": {"file": "./freezes.ics"}, "timeZone": "Europe/Berlin"});
    bed.freeze("calendar", "planned", &calendar);
    let server = HttpServer::start(bed.endpoint, |path| {
        let is_asked = path.starts_with("/check?environment=") && path.contains("&at=2");
        is_asked.then(|| json!({"freeze_active": true, "reason": "Ledger migration"}))
    });
    let endpoint = |when_stale| json!({"endpoint": {"url": url, "maximumAge": maximum_age, "whenStale": when_stale}});
    bed.freeze("itsm", "strict", &endpoint("Frozen"));
    bed.freeze("itsm-lax", "lax", &endpoint("Open"));
    for namespace in ["strict", "lax"] {
        let denial = bed.denied(namespace, "Ledger migration");
        assert!(denial.contains("[frozen]"), "{denial}");
        assert!(denial.contains("until when is unknown"), "{denial}");
    }
    bed.allowed("planned");
    let end = event(0);
    drop(server);

    let denial = bed.denied("strict", "[freeze-unknown]");
    assert!(denial.contains("could not decide"), "{denial}");
    let said = "`strict` may be frozen: `itsm` (Reason of itsm): its feed was last read at";
    assert!(denial.contains(said), "{denial}");
    bed.allowed("lax");
    let denial = bed.denied("planned", "(Reason of calendar: Inventory)");
    assert!(denial.contains(&in_utc(end)), "{denial}");
}
