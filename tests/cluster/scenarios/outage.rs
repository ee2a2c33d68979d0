//! What holds while parts of the system are down, and the way back.

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::until;

pub fn scenarios() -> Vec<Scenario> {
    let killed = scenario(
        6,
        "with all replicas killed nothing is let in, the infrastructure starts, and the way back is open",
        all_replicas_killed,
    );
    vec![Scenario {
        alone: true,
        ..killed
    }]
}

fn all_replicas_killed(cluster: &Cluster) {
    let shop = Shop::open(cluster, "killed");
    let image = shop.signed("web");
    let unsigned = shop.unsigned("bad");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    shop.runs("web", 1);
    cluster.gates.kill_all();

    let deploy = |name: &str, image: &String| {
        let pod = shop.pod(name, image);
        shop.apply(Person::Alice, &pod)
    };
    let refusal = deploy("signed", &image).refused();
    assert!(refusal.contains("failed calling webhook"), "{refusal}");
    deploy("unsigned", &unsigned).refused();
    // Nobody is asked about a deletion, and what the cluster stands on starts.
    let delete = ["delete", "deployment", "web"];
    shop.kubectl(Person::Alice, delete).ok();
    let mut proxy = shop.pod("proxy", &unsigned);
    proxy["metadata"]["namespace"] = "kube-system".into();
    shop.apply(Person::Admin, &proxy).ok();

    cluster.unregister();
    until("the API server has learned of it", || {
        deploy("unsigned", &unsigned).is_ok().then_some(())
    });
    let hotfix = shop.deployment("hotfix", &unsigned, 1);
    shop.apply(Person::Alice, &hotfix).ok();
    shop.runs("hotfix", 1);

    cluster.gates.start_all();
    cluster.register();
    until("the gate is asked again", || {
        let refused = deploy("again", &unsigned);
        shop.kubectl(
            Person::Admin,
            ["delete", "pod", "again", "--ignore-not-found"],
        )
        .ok();
        (!refused.is_ok()).then_some(())
    });
    deploy("signed", &image).ok();
    // What came in meanwhile goes on once a governor has adopted it.
    let kubeconfig = cluster.plane.kubeconfig("grace", Person::Grace.token());
    let kubeconfig = kubeconfig.display().to_string();
    let record = |args: &[&str]| {
        let args = [&["record"], args, &["--namespace", &shop.name]].concat();
        let args = [&args[..], &["--kubeconfig", &kubeconfig]].concat();
        cluster.gates.gate.run(&args, "")
    };
    let adopted = record(&["adopt"]).ok();
    assert!(adopted.contains("0 are left"), "{adopted}");
    record(&["list", "--unrecorded"]).ok();
    shop.replaces_pods("hotfix", 1, "since a governor adopted what runs");
}
