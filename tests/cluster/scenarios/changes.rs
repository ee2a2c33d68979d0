//! The ways in which people change what runs.

use serde_json::json;

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::{command, run, until};

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        11,
        "server-side apply, `kubectl edit`, `set image` and `rollout undo` are judged",
        every_way_to_change_is_judged,
    )]
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
