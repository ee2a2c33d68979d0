//! The ways in which people change what runs.

use serde_json::json;

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::{command, run, until};

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            11,
            "server-side apply, `kubectl edit`, `set image` and `rollout undo` are judged",
            every_way_to_change_is_judged,
        ),
        scenario(
            11,
            "scaling from zero, unpausing and a staged ReplicaSet wait for the end of a freeze, and what ran before does not",
            what_was_staged_waits,
        ),
        scenario(
            11,
            "scheduling gates, a pause during scaling and `OnDelete` are waited for too (attack A5)",
            what_was_held_back_otherwise_waits,
        ),
        scenario(
            11,
            "a StatefulSet that is scaled beyond its partition starts the staged template, which waits for the end of a freeze (attack A5)",
            what_a_partition_holds_back_waits,
        ),
    ]
}

fn every_way_to_change_is_judged(cluster: &Cluster) {
    let shop = Shop::open(cluster, "changes");
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    let unsigned = shop.unsigned("bad");
    let server_side = |image: &String| {
        let object = shop.deployment("web", image, 1).to_string();
        let apply = ["apply", "--server-side", "-f", "-"];
        cluster
            .plane
            .kubectl_by(Person::Alice.token(), apply, &object)
    };
    server_side(&one).ok();
    let refusal = server_side(&unsigned).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");

    let edit = |from: &str, to: &str| {
        let kubeconfig = cluster.plane.kubeconfig("alice", Person::Alice.token());
        let mut kubectl = command("kubectl", cluster.plane.folder.path());
        kubectl
            .env("KUBE_EDITOR", format!("sed -i s#{from}#{to}#"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["-n", &shop.name, "edit", "deployment", "web"]);
        run(&mut kubectl, b"")
    };
    let refusal = edit(&one, &unsigned).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    edit(&one, &two).ok();
    let set = |image: &String| {
        let image = format!("main={image}");
        shop.kubectl(Person::Alice, ["set", "image", "deployment/web", &image])
    };
    set(&unsigned).refused();
    shop.runs("web", 1);
    let undo = ["rollout", "undo", "deployment/web"];
    shop.kubectl(Person::Alice, undo).ok();
    until("the first image runs again", || {
        let pods = shop.get(&["pods", "-l", "app=web"]);
        let pods = pods["items"].as_array().unwrap();
        let is_first =
            |pod: &serde_json::Value| pod["spec"]["containers"][0]["image"] == json!(one);
        (pods.len() == 1 && pods.iter().all(is_first)).then_some(())
    });
    shop.upkeep_was_never_denied();
}

fn what_was_staged_waits(cluster: &Cluster) {
    let fields = json!({"environment": "staging"});
    let shop = Shop::open_with(cluster, "staging", &[json!({"noFreeze": {}})], &fields);
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    for name in ["ran", "paused"] {
        shop.apply(Person::Alice, &shop.deployment(name, &one, 1))
            .ok();
        shop.runs(name, 1);
    }
    shop.apply(Person::Alice, &shop.deployment("staged", &one, 0))
        .ok();
    let mut staged_set = shop.workload("ReplicaSet", "staged-set", &one);
    staged_set["spec"]["replicas"] = json!(0);
    shop.apply(Person::Alice, &staged_set).ok();
    let mut paused = shop.deployment("paused", &two, 1);
    paused["spec"]["paused"] = json!(true);
    shop.apply(Person::Alice, &paused).ok();
    let scale = |workload: &str, replicas: u32| {
        let replicas = format!("--replicas={replicas}");
        shop.kubectl(Person::Alice, ["scale", workload, &replicas])
    };
    let resume = || shop.kubectl(Person::Alice, ["rollout", "resume", "deployment/paused"]);
    shop.freeze("staging");
    for refusal in [
        scale("deployment/staged", 1),
        scale("replicaset/staged-set", 1),
        resume(),
    ] {
        let refusal = refusal.refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    }
    // In the night somebody stops what ran, and starts it again.
    scale("deployment/ran", 0).ok();
    scale("deployment/ran", 2).ok();
    shop.runs("ran", 2);
    let restart = ["rollout", "restart", "deployment/ran"];
    shop.kubectl(Person::Alice, restart).ok();
    shop.lift_freeze();
    scale("deployment/staged", 1).ok();
    scale("replicaset/staged-set", 1).ok();
    resume().ok();
    shop.runs("staged", 1);
    shop.runs("staged-set", 1);
    shop.upkeep_was_never_denied();
}

fn what_was_held_back_otherwise_waits(cluster: &Cluster) {
    let fields = json!({"environment": "held"});
    let shop = Shop::open_with(cluster, "held", &[json!({"noFreeze": {}})], &fields);
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    let apply = |object: &serde_json::Value| shop.apply(Person::Alice, object).ok();
    let patch = |workload: &str, patch: serde_json::Value| {
        let patch = patch.to_string();
        let patch = ["patch", workload, "--type=merge", "-p", &patch];
        shop.kubectl(Person::Alice, patch)
    };
    // 1. What keeps each of them from running.
    let mut gated = shop.pod("gated", &one);
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/later"}]);
    apply(&gated);
    let mut paused = shop.deployment("paused", &one, 0);
    paused["spec"]["paused"] = json!(true);
    apply(&paused);
    let scale = ["scale", "deployment/paused", "--replicas=1"];
    shop.kubectl(Person::Alice, scale).ok();
    let on_delete = |image: &String| {
        let mut set = shop.workload("StatefulSet", "set", image);
        set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        apply(&set);
    };
    on_delete(&one);
    shop.runs("set", 1);
    on_delete(&two);
    // 2. Each way in which it would run.
    let start = || {
        [
            patch("pod/gated", json!({"spec": {"schedulingGates": null}})),
            patch("deployment/paused", json!({"spec": {"paused": false}})),
            patch(
                "statefulset/set",
                json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}),
            ),
        ]
    };
    shop.freeze("held");
    for refusal in start() {
        let refusal = refusal.refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    }
    shop.lift_freeze();
    for started in start() {
        started.ok();
    }
    shop.runs("gated", 1);
    shop.runs("paused", 1);
    until("the second image runs", || {
        let pod = shop.get(&["pods", "-l", "app=set"]);
        (pod["items"][0]["spec"]["containers"][0]["image"] == json!(two)).then_some(())
    });
    shop.upkeep_was_never_denied();
}

fn what_a_partition_holds_back_waits(cluster: &Cluster) {
    let fields = json!({"environment": "partitioned"});
    let shop = Shop::open_with(cluster, "partitioned", &[json!({"noFreeze": {}})], &fields);
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    let apply = |name: &str, image: &String, partition: u32| {
        let mut set = shop.workload("StatefulSet", name, image);
        set["spec"]["replicas"] = json!(2);
        set["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": partition}});
        shop.apply(Person::Alice, &set).ok();
    };
    for name in ["set", "same"] {
        apply(name, &one, 0);
        shop.runs(name, 2);
    }
    apply("set", &two, 2);
    // Of this one, nothing is staged: the present template ran.
    apply("same", &one, 2);
    let scale = |set: &str, replicas: u32| {
        let replicas = format!("--replicas={replicas}");
        shop.kubectl(Person::Alice, ["scale", "statefulset", set, &replicas])
    };
    let patch = |replicas: u32| {
        let patch = json!({"spec": {"replicas": replicas}}).to_string();
        shop.kubectl(Person::Alice, ["patch", "statefulset", "set", "-p", &patch])
    };
    shop.freeze("partitioned");
    for refusal in [scale("set", 3), patch(3)] {
        let refusal = refusal.refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    }
    scale("set", 1).ok();
    shop.runs("set", 1);
    scale("set", 2).ok();
    shop.runs("set", 2);
    scale("same", 3).ok();
    shop.runs("same", 3);
    shop.lift_freeze();
    scale("set", 3).ok();
    shop.runs("set", 3);
    for (pod, image) in [("set-1", &one), ("set-2", &two)] {
        let pod = shop.get(&["pod", pod]);
        assert_eq!(pod["spec"]["containers"][0]["image"], json!(image));
    }
    // The staged template runs now, so that one more of its Pods is plain scaling.
    shop.freeze("partitioned");
    scale("set", 4).ok();
    shop.runs("set", 4);
    shop.upkeep_was_never_denied();
}
