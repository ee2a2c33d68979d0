//! Who writes what only controllers write gains nothing.

use serde_json::json;

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            3,
            "a Pod by a person with forged owner references and labels is judged as a Deploy",
            forged_owners_buy_nothing,
        ),
        scenario(
            3,
            "`kubectl create job --from` is a Deploy",
            a_job_from_a_cron_job_is_a_deploy,
        ),
        scenario(
            3,
            "a forged AdmissionReview from inside the cluster admits nothing",
            a_forged_review_buys_nothing,
        ),
        scenario(
            5,
            "`kubectl debug` with an unsigned image is refused",
            a_debug_container_is_judged,
        ),
    ]
}

fn forged_owners_buy_nothing(cluster: &Cluster) {
    let fields = json!({"environment": "forged-owners"});
    let shop = Shop::open_with(
        cluster,
        "forged-owners",
        &[json!({"noFreeze": {}})],
        &fields,
    );
    let image = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    shop.runs("web", 1);
    let made = shop.get(&["pods", "-l", "app=web"])["items"][0].clone();
    let forged = |name: &str, image: &String| {
        let mut pod = shop.pod(name, image);
        for field in ["labels", "ownerReferences", "annotations"] {
            pod["metadata"][field] = made["metadata"][field].clone();
        }
        // Kept, so that the real controller does not delete one Pod too many.
        pod["metadata"]["labels"]["app"] = json!("forged");
        shop.apply(Person::Alice, &pod)
    };
    let refusal = forged("unsigned", &shop.unsigned("bad")).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    shop.freeze("forged-owners");
    let refusal = forged("frozen", &image).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    shop.lift_freeze();
}

fn a_job_from_a_cron_job_is_a_deploy(cluster: &Cluster) {
    let fields = json!({"environment": "job-from"});
    let shop = Shop::open_with(cluster, "job-from", &[json!({"noFreeze": {}})], &fields);
    let image = shop.signed("report");
    let yearly = shop.cron_job("report", &image, "0 0 1 1 *");
    shop.apply(Person::Alice, &yearly).ok();
    let run = |name: &str| {
        let from = ["create", "job", name, "--from=cronjob/report"];
        shop.kubectl(Person::Alice, from)
    };
    run("open").ok();
    shop.freeze("job-from");
    let refusal = run("frozen").refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    shop.lift_freeze();
}

fn a_forged_review_buys_nothing(cluster: &Cluster) {
    let shop = Shop::open(cluster, "forged-reviews");
    let unsigned = shop.unsigned("bad");
    let deployment = shop.deployment("bad", &unsigned, 1);
    let gates = &cluster.gates;
    for replica in gates.numbers() {
        for user in [
            Person::Alice.name(),
            "system:serviceaccount:kube-system:deployment-controller",
            "system:serviceaccount:kube-system:replicaset-controller",
        ] {
            for object in [&deployment, &shop.pod("bad", &unsigned)] {
                let answer = gates.ask(replica, &shop.review(user, object));
                assert_eq!(answer["response"]["allowed"], false, "{user}: {answer}");
            }
        }
    }
    let refusal = shop.apply(Person::Alice, &deployment).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
}

fn a_debug_container_is_judged(cluster: &Cluster) {
    let shop = Shop::open(cluster, "debugging");
    let (image, unsigned) = (shop.signed("web"), shop.unsigned("tools"));
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    let pods = shop.runs("web", 1);
    let pod = pods.first().unwrap();
    let debug = |image: &str| {
        let image = format!("--image={image}");
        shop.kubectl(Person::Alice, ["debug", pod, &image, "--attach=false"])
    };
    let refusal = debug(&unsigned).refused();
    assert!(refusal.contains("ephemeralContainers"), "{refusal}");
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    debug(&shop.signed("debugger")).ok();
    shop.upkeep_was_never_denied();
}
