//! Argo Rollouts with its real controller.

use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::{command, run, until};

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        4,
        "a Rollout with `workloadRef` is a canary of what its Deployment names, and that is judged",
        a_canary_of_a_deployment,
    )]
}

/// A Rollout of a Deployment: one of two Pods is new until somebody promotes it.
fn canary(shop: &Shop, name: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": name, "namespace": shop.name},
        "spec": {
            "replicas": 2,
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}},
        },
    })
}

fn plugin(shop: &Shop, by: Person, args: &[&str]) {
    let plane = &shop.cluster.plane;
    let kubeconfig = plane.kubeconfig(&format!("{by:?}"), by.token());
    let mut plugin = command("kubectl-argo-rollouts", plane.folder.path());
    plugin.arg("--kubeconfig").arg(kubeconfig);
    run(plugin.args(["-n", &shop.name]).args(args), b"").ok();
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
    shop.apply(Person::Alice, &canary(&shop, "web")).ok();
    runs(&shop, "web", &[(&one, 2)]);
    let refusal = deployment(&shop.unsigned("bad")).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    deployment(&two).ok();
    runs(&shop, "web", &[(&one, 1), (&two, 1)]);
    plugin(&shop, Person::Alice, &["promote", "web"]);
    runs(&shop, "web", &[(&two, 2)]);
    shop.upkeep_was_never_denied();
}
