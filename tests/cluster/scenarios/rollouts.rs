//! Argo Rollouts with its real controller.

use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::{Ran, command, run, until};

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            4,
            "a Rollout with `workloadRef` is a canary of what its Deployment names, and that is judged",
            a_canary_of_a_deployment,
        ),
        scenario(
            4,
            "a canary with an analysis goes on in a freeze, by the trusted controller alone",
            a_canary_goes_on_in_a_freeze,
        ),
        scenario(
            4,
            "a canary of an inline template is not promoted in a freeze, by any field of its status (attacks A3 and A4)",
            nobody_promotes_in_a_freeze,
        ),
        scenario(
            4,
            "KEDA makes the Jobs of a ScaledJob in a freeze, and scales from zero what ran before",
            keda_goes_on_in_a_freeze,
        ),
    ]
}

/// A Rollout of a Deployment, of two Pods.
fn canary(shop: &Shop, name: &str, steps: &Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": name, "namespace": shop.name},
        "spec": {
            "replicas": 2,
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "strategy": {"canary": {"steps": steps}},
        },
    })
}

fn plugin(shop: &Shop, by: Person, args: &[&str]) -> Ran {
    let plane = &shop.cluster.plane;
    let kubeconfig = plane.kubeconfig(&format!("{by:?}"), by.token());
    let mut plugin = command("kubectl-argo-rollouts", plane.folder.path());
    plugin.arg("--kubeconfig").arg(kubeconfig);
    run(plugin.args(["-n", &shop.name]).args(args), b"")
}

/// Waits until so many ready Pods of the app run each image.
fn runs(shop: &Shop, app: &str, expected: &[(&String, usize)]) {
    until(&format!("{app} runs {expected:?}"), || {
        let ready = shop.pods(app);
        let pods = shop.get(&["pods", "-l", &format!("app={app}")]);
        let pods = pods["items"].as_array().unwrap();
        let count = |image: &String| {
            let runs = pods.iter().filter(|pod| {
                ready.contains(pod["metadata"]["name"].as_str().unwrap())
                    && pod["spec"]["containers"][0]["image"] == json!(image)
            });
            runs.count()
        };
        let fits = expected.iter().all(|(image, pods)| count(image) == *pods);
        (fits && ready.len() == expected.iter().map(|(_, pods)| pods).sum::<usize>()).then_some(())
    });
}

fn a_canary_of_a_deployment(cluster: &Cluster) {
    let shop = Shop::open(cluster, "canary");
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    let deployment = |image: &String| shop.apply(Person::Alice, &shop.deployment("web", image, 0));
    deployment(&one).ok();
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    shop.apply(Person::Alice, &canary(&shop, "web", &steps))
        .ok();
    runs(&shop, "web", &[(&one, 2)]);
    let refusal = deployment(&shop.unsigned("bad")).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    deployment(&two).ok();
    runs(&shop, "web", &[(&one, 1), (&two, 1)]);
    plugin(&shop, Person::Alice, &["promote", "web"]).ok();
    runs(&shop, "web", &[(&two, 2)]);
    shop.upkeep_was_never_denied();
}

fn a_canary_goes_on_in_a_freeze(cluster: &Cluster) {
    let fields = json!({"environment": "canaries"});
    let shop = Shop::open_with(cluster, "canaries", &[json!({"noFreeze": {}})], &fields);
    let (one, two, three) = (shop.signed("one"), shop.signed("two"), shop.signed("three"));
    let deployment = |image: &String| shop.apply(Person::Alice, &shop.deployment("web", image, 0));
    let job = shop.job("smoke", &shop.signed("smoke"))["spec"].clone();
    let metric = json!({"name": "smoke", "provider": {"job": {"spec": job}}});
    let analysis = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
        "metadata": {"name": "smoke", "namespace": shop.name},
        "spec": {"metrics": [metric]},
    });
    shop.apply(Person::Alice, &analysis).ok();
    let steps = json!([
        {"setWeight": 50},
        {"pause": {"duration": "10s"}},
        {"analysis": {"templates": [{"templateName": "smoke"}]}},
        {"pause": {}},
    ]);
    deployment(&one).ok();
    shop.apply(Person::Alice, &canary(&shop, "web", &steps))
        .ok();
    runs(&shop, "web", &[(&one, 2)]);
    deployment(&two).ok();
    runs(&shop, "web", &[(&one, 1), (&two, 1)]);
    shop.freeze("canaries");
    until("the analysis is successful", || {
        let analyses = shop.get(&["analysisruns"]);
        let analyses = analyses["items"].as_array().unwrap().iter();
        let done = analyses.filter(|run| run["status"]["phase"] == "Successful");
        (done.count() == 1).then_some(())
    });
    // A user who skips the rest lets the whole workload run what only a part of it was to run.
    let refusal = plugin(&shop, Person::Alice, &["promote", "web", "--full"]);
    assert!(refusal.refused().contains("[frozen]"));
    let refusal = deployment(&three).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    // Going back is always open.
    plugin(&shop, Person::Alice, &["abort", "web"]).ok();
    runs(&shop, "web", &[(&one, 2)]);
    shop.lift_freeze();
    shop.upkeep_was_never_denied();
}

fn nobody_promotes_in_a_freeze(cluster: &Cluster) {
    let fields = json!({"environment": "inline"});
    let shop = Shop::open_with(cluster, "inline", &[json!({"noFreeze": {}})], &fields);
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    let rollout = |image: &String| {
        let mut rollout = shop.workload("Rollout", "web", image);
        rollout["apiVersion"] = json!("argoproj.io/v1alpha1");
        rollout["spec"]["replicas"] = json!(2);
        let steps = json!([{"setWeight": 50}, {"pause": {}}]);
        rollout["spec"]["strategy"] = json!({"canary": {"steps": steps}});
        shop.apply(Person::Alice, &rollout)
    };
    rollout(&one).ok();
    runs(&shop, "web", &[(&one, 2)]);
    rollout(&two).ok();
    runs(&shop, "web", &[(&one, 1), (&two, 1)]);
    let status = || shop.get(&["rollout", "web"])["status"].clone();
    until("the canary waits", || {
        status()["pauseConditions"].is_array().then_some(())
    });
    shop.freeze("inline");
    let frozen = |ran: Ran| {
        let refusal = ran.refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    };
    let patch = |status: Value| {
        let patch = json!({"status": status}).to_string();
        let patch = [
            "patch",
            "rollout",
            "web",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        shop.kubectl(Person::Alice, patch)
    };
    frozen(plugin(&shop, Person::Alice, &["promote", "web", "--full"]));
    frozen(plugin(&shop, Person::Alice, &["promote", "web"]));
    frozen(patch(json!({"stableRS": status()["currentPodHash"]})));
    frozen(patch(json!({"stableRS": null})));
    frozen(patch(json!({"currentPodHash": status()["stableRS"]})));
    frozen(patch(
        json!({"canary": {"weights": null, "stablePingPong": "ping"}}),
    ));
    frozen(patch(
        json!({"blueGreen": {"scaleUpPreviewCheckPoint": true}}),
    ));
    // Going back is open, and going on from there is not.
    plugin(&shop, Person::Alice, &["abort", "web"]).ok();
    runs(&shop, "web", &[(&one, 2)]);
    frozen(plugin(&shop, Person::Alice, &["retry", "rollout", "web"]));
    shop.lift_freeze();
    plugin(&shop, Person::Alice, &["retry", "rollout", "web"]).ok();
    runs(&shop, "web", &[(&one, 1), (&two, 1)]);
    plugin(&shop, Person::Alice, &["promote", "web", "--full"]).ok();
    runs(&shop, "web", &[(&two, 2)]);
    shop.upkeep_was_never_denied();
}

/// KEDA itself does not run here: its account is impersonated.
fn keda_goes_on_in_a_freeze(cluster: &Cluster) {
    const KEDA: &str = "system:serviceaccount:keda:keda-operator";
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({
        "name": "v1alpha1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": anything},
    });
    let names = json!({"kind": "ScaledJob", "plural": "scaledjobs", "singular": "scaledjob"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledjobs.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    });
    cluster.apply(Person::Admin, &definition).ok();
    for account in [
        "keda:keda-operator",
        "kube-system:horizontal-pod-autoscaler",
    ] {
        let (_, name) = account.split_once(':').unwrap();
        let account = format!("--serviceaccount={account}");
        let role = "--clusterrole=cluster-admin";
        let bind = ["create", "clusterrolebinding", name, role, &account];
        cluster.kubectl(Person::Admin, bind).ok();
    }
    let fields = json!({"environment": "scaled"});
    let shop = Shop::open_with(cluster, "scaled", &[json!({"noFreeze": {}})], &fields);
    let (work, web) = (shop.signed("work"), shop.signed("web"));
    let job = shop.job("work", &work);
    let scaled = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
        "metadata": {"name": "work", "namespace": shop.name},
        "spec": {"jobTargetRef": job["spec"], "triggers": []},
    });
    let waited = [
        "wait",
        "--for=condition=Established",
        "crd/scaledjobs.keda.sh",
    ];
    cluster.kubectl(Person::Admin, waited).ok();
    cluster.apply(Person::Bob, &scaled).ok();
    shop.apply(Person::Alice, &shop.deployment("web", &web, 1))
        .ok();
    shop.runs("web", 1);
    let scale = |name: &str, replicas: u32, by: &str| {
        let (replicas, by) = (format!("--replicas={replicas}"), format!("--as={by}"));
        shop.kubectl(
            Person::Admin,
            [&*by, "scale", "deployment", name, &replicas],
        )
    };
    scale("web", 0, KEDA).ok();
    shop.apply(Person::Alice, &shop.deployment("staged", &web, 0))
        .ok();
    shop.freeze("scaled");

    let owner = shop.get(&["scaledjob", "work"])["metadata"]["uid"].clone();
    let make = |name: &str, image: &String, by: Option<&str>| {
        let mut job = shop.job(name, image);
        job["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "name": "work",
            "uid": owner, "controller": true,
        }]);
        let create = ["create", "-f", "-"].map(str::to_owned).into_iter();
        let create: Vec<_> = create.chain(by.map(|by| format!("--as={by}"))).collect();
        let token = by.map_or(Person::Alice, |_| Person::Admin).token();
        let create = create.iter().map(String::as_str);
        cluster.plane.kubectl_by(token, create, &job.to_string())
    };
    make("work-1", &work, Some(KEDA)).ok();
    let refusal = make("work-2", &shop.signed("other"), Some(KEDA)).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    let refusal = make("work-3", &work, None).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    for autoscaler in [
        KEDA,
        "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    ] {
        scale("web", 1, autoscaler).ok();
        shop.runs("web", 1);
        scale("web", 0, autoscaler).ok();
        let refusal = scale("staged", 1, autoscaler).refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    }
    shop.lift_freeze();
}
