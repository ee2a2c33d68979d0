//! Release records: what rests on them, and what becomes of them.

use std::thread;

use serde_json::{Value, json};

use super::scenario;
use crate::harness::{BEFORE, Cluster, Image, Person, Scenario, Shop};
use crate::support::until;

pub fn scenarios() -> Vec<Scenario> {
    let key = scenario(
        12,
        "a record is deleted and comes back, the key is lost: upkeep goes on",
        a_record_and_the_key_are_lost,
    );
    vec![
        scenario(
            12,
            "two replicas write one record at once, 200 times: no entry is lost",
            two_replicas_write_one_record,
        ),
        scenario(
            12,
            "50 Deployments share one sidecar, and all of them go on",
            a_shared_sidecar,
        ),
        scenario(
            12,
            "v2 is admitted while v1's ReplicaSet still makes Pods",
            two_versions_at_once,
        ),
        scenario(
            12,
            "what was rolled out a moment ago is rolled back in a freeze, and rolled forward again",
            a_rollback_in_a_freeze,
        ),
        Scenario { alone: true, ..key },
        scenario(
            12,
            "a record that nothing names is deleted when its time is over, and no earlier",
            an_unused_record_is_collected,
        ),
        scenario(
            13,
            "what ran under Audit serves upkeep, and no rollback or activation",
            audit_serves_upkeep_only,
        ),
        scenario(
            13,
            "what ran before the gate came goes on, and is not activated on that",
            a_baseline_serves_upkeep_only,
        ),
        scenario(
            13,
            "the same digest with another command is another Deploy",
            another_command_is_another_deploy,
        ),
        scenario(14, "a revoked digest is refused, upkeep too", revoked),
        Scenario {
            alone: true,
            ..scenario(
                15,
                "a tagged workload under Audit, then Enforce, and replicas that have just started: upkeep passes",
                a_tag_under_audit,
            )
        },
    ]
}

fn two_replicas_write_one_record(cluster: &Cluster) {
    let shop = Shop::open(cluster, "races");
    let image = shop.signed("web");
    let gates = &cluster.gates;
    let write = |replica: usize, name: &str| {
        let deployment = shop.deployment(name, &image, 1);
        let answer = gates.ask(replica, &shop.review(Person::Alice.name(), &deployment));
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
    };
    for round in 0..200 {
        let names = [format!("one-{round}"), format!("other-{round}")];
        thread::scope(|scope| {
            for (replica, name) in names.iter().enumerate() {
                scope.spawn(move || write(replica, name));
            }
        });
        let entries = shop.record(&image);
        for name in names {
            let is_there = entries
                .iter()
                .any(|entry| entry["workload"]["name"] == json!(name));
            assert!(is_there, "round {round}: {name} is not in {entries:#?}");
        }
    }
    until("the record is within its bound", || {
        (shop.record(&image).len() <= 100).then_some(())
    });
}

fn an_unused_record_is_collected(cluster: &Cluster) {
    const GATE: &str = "--as=system:serviceaccount:promotion-gate:promotion-gate";
    let shop = Shop::open(cluster, "unused");
    let name = |letter: &str| format!("sha256-{}", letter.repeat(64));
    let days_ago = |days: i64| {
        let now = jiff::Timestamp::now();
        (now - jiff::SignedDuration::from_hours(24 * days)).to_string()
    };
    // Time is shifted: the gate itself would have written the first one a month ago. Without an entry that was seen, a record has
    // five minutes.
    let write = |letter: &str, days: i64, by: &str| {
        let record = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ReleaseRecord",
            "metadata": {"name": name(letter), "namespace": shop.name},
            "spec": {
                "digest": format!("sha256:{}", letter.repeat(64)),
                "lastUsed": days_ago(days), "entries": {},
            },
        });
        let create = ["create", by, "-f", "-"];
        let token = Person::Admin.token();
        cluster.plane.kubectl_by(token, create, &record.to_string())
    };
    let refusal = write("d", 40, "--as=alice@example.com").refused();
    assert!(refusal.contains("forbidden"), "{refusal}");
    write("d", 40, GATE).ok();
    write("e", 0, GATE).ok();
    let image = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    shop.runs("web", 1);
    // A governor who adopts something makes the gate compare at once.
    let adopt =
        json!({"spec": {"adopt": [{"namespaces": ["unused"], "createdBefore": days_ago(1)}]}});
    let adopt = adopt.to_string();
    let patch = [
        "patch",
        "gateconfiguration",
        "promotion-gate",
        "--type=merge",
        "-p",
        &adopt,
    ];
    cluster.kubectl(Person::Grace, patch).ok();
    let exists = |record: &str| {
        let get = ["get", "releaserecord", record];
        shop.kubectl(Person::Admin, get).is_ok()
    };
    until("the unused record is deleted", || {
        (!exists(&name("d"))).then_some(())
    });
    assert!(exists(&name("e")));
    assert_eq!(shop.record(&image).len(), 1);
    let alarmed = cluster.gates.log_lines(&name("d")).into_iter();
    let alarmed: Vec<_> = alarmed.filter(|line| line["level"] == "ERROR").collect();
    assert!(
        alarmed.is_empty(),
        "what the collector deletes stays deleted: {alarmed:#?}"
    );
}

fn a_shared_sidecar(cluster: &Cluster) {
    let shop = Shop::open(cluster, "sidecars");
    let sidecar = shop.signed("sidecar");
    let images: Vec<_> = (0..5)
        .map(|image| shop.signed(&format!("app-{image}")))
        .collect();
    let name = |number: usize| format!("app-{number}");
    for number in 0..50 {
        let mut deployment = shop.deployment(&name(number), &images[number % images.len()], 1);
        let containers = &mut deployment["spec"]["template"]["spec"]["containers"];
        let sidecar = json!({"name": "sidecar", "image": sidecar});
        containers.as_array_mut().unwrap().push(sidecar);
        deployment["spec"]["template"]["metadata"]["labels"]["tier"] = json!("all");
        shop.apply(Person::Alice, &deployment).ok();
    }
    let running = || {
        let running = [
            "get",
            "pods",
            "--field-selector=status.phase=Running",
            "-o",
            "name",
        ];
        shop.kubectl(Person::Admin, running)
            .ok()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all_run = |before: &[String]| {
        until("all of them run", || {
            let running = running();
            (running.len() == 50 && running.iter().all(|pod| !before.contains(pod)))
                .then_some(running)
        })
    };
    let before = all_run(&[]);
    assert_eq!(shop.record(&sidecar).len(), 50);
    let judged = shop.decisions().into_iter().filter(|line| {
        let user = line["user"].as_str().unwrap();
        user.starts_with("system:") && line["change"] != "upkeep"
    });
    let judged: Vec<_> = judged.collect();
    assert!(judged.is_empty(), "upkeep is no Deploy: {judged:#?}");
    shop.registry.lock().unwrap().stop();
    let delete = [
        "delete",
        "pods",
        "--all",
        "--wait=false",
        "--grace-period=0",
    ];
    shop.kubectl(Person::Admin, delete).ok();
    all_run(&before);
    shop.upkeep_was_never_denied();
}

fn two_versions_at_once(cluster: &Cluster) {
    let shop = Shop::open(cluster, "versions");
    let (one, two) = (shop.signed("one"), shop.signed("two"));
    let deployment = |image: &Image| {
        let mut deployment = shop.deployment("web", image, 3);
        // The new Pods never count as available, so that the old ones stay.
        deployment["spec"]["minReadySeconds"] = json!(3600);
        deployment["spec"]["progressDeadlineSeconds"] = json!(7200);
        deployment["spec"]["strategy"] =
            json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
        shop.apply(Person::Alice, &deployment).ok();
    };
    deployment(&one);
    shop.runs("web", 3);
    deployment(&two);
    shop.runs("web", 4);
    shop.registry.lock().unwrap().stop();
    shop.replaces_pods("web", 4, "of both versions");
    let pods = shop.get(&["pods", "-l", "app=web"]);
    let pods = pods["items"].as_array().unwrap().iter();
    let old = pods.filter(|pod| pod["spec"]["containers"][0]["image"] == json!(one));
    assert!(old.count() >= 3);
    shop.upkeep_was_never_denied();
}

fn a_rollback_in_a_freeze(cluster: &Cluster) {
    let fields = json!({"environment": "undone"});
    let shop = Shop::open_with(cluster, "undone", &[json!({"noFreeze": {}})], &fields);
    let [one, two, three] = ["one", "two", "three"].map(|name| shop.signed(name));
    let deploy = |name: &str, image: &Image| {
        shop.apply(Person::Alice, &shop.deployment(name, image, 1))
            .ok();
        until("the admission was seen in the cluster", || {
            let entries = shop.record(image);
            let own = entries
                .iter()
                .find(|entry| entry["workload"]["name"] == json!(name))?;
            (own["state"] == "Observed").then_some(())
        });
    };
    // Another workload runs what is rolled out, so that no upkeep of the second one has to look at its record.
    for (name, image) in [("other", &one), ("web", &one), ("web", &two)] {
        deploy(name, image);
    }
    shop.freeze_with("undone", &json!({"rollback": true}));
    let undo = ["rollout", "undo", "deployment/web"];
    shop.kubectl(Person::Alice, undo).ok();
    shop.kubectl(Person::Alice, undo).ok();
    let new = shop.deployment("web", &three, 1);
    let refusal = shop.apply(Person::Alice, &new).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
}

fn a_record_and_the_key_are_lost(cluster: &Cluster) {
    let shop = Shop::open(cluster, "losses");
    let image = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 2))
        .ok();
    shop.runs("web", 2);
    shop.registry.lock().unwrap().stop();

    // Nobody but the gate may; where a guard is missing, the record comes back.
    let delete = ["delete", "releaserecord", "--all"];
    shop.kubectl(Person::Admin, delete).refused();
    let binding = "validatingadmissionpolicybinding/promotion-gate-records";
    let get = ["get", binding, "-o", "json"];
    let guard = cluster.kubectl(Person::Admin, get).ok();
    cluster.kubectl(Person::Admin, ["delete", binding]).ok();
    until("the guard is gone", || {
        shop.kubectl(Person::Admin, delete).is_ok().then_some(())
    });
    until("the record is back", || {
        (!shop.record(&image).is_empty()).then_some(())
    });
    let mut guard: Value = serde_json::from_str(&guard).unwrap();
    for field in ["resourceVersion", "uid"] {
        guard["metadata"].as_object_mut().unwrap().remove(field);
    }
    cluster.apply(Person::Admin, &guard).ok();
    shop.replaces_pods("web", 2, "after its record was deleted");

    let secret = [
        "delete",
        "secret",
        "promotion-gate-record-key",
        "-n",
        "promotion-gate",
    ];
    cluster.kubectl(Person::Admin, secret).ok();
    cluster.gates.restart_all();
    shop.replaces_pods("web", 2, "after the key was lost");
    shop.registry.lock().unwrap().start();
    let another = shop.signed("another");
    shop.apply(Person::Alice, &shop.deployment("another", &another, 1))
        .ok();
    shop.runs("another", 1);
    shop.registry.lock().unwrap().stop();
    cluster.gates.restart_all();
    shop.replaces_pods("another", 1, "with a record of the new key");
    shop.upkeep_was_never_denied();
}

fn scale(shop: &Shop, name: &str, replicas: u32) -> crate::support::Ran {
    let replicas = format!("--replicas={replicas}");
    shop.kubectl(Person::Alice, ["scale", "deployment", name, &replicas])
}

fn audit_serves_upkeep_only(cluster: &Cluster) {
    let shop = Shop::open_with(cluster, "audited", &[], &json!({"enforcement": "Audit"}));
    let (unsigned, signed) = (shop.unsigned("bad"), shop.signed("good"));
    for name in ["web", "rolled-back"] {
        shop.apply(Person::Alice, &shop.deployment(name, &unsigned, 1))
            .ok();
        shop.runs(name, 1);
    }
    shop.apply(Person::Alice, &shop.deployment("rolled-back", &signed, 1))
        .ok();
    shop.govern(&[], &json!({}));
    shop.replaces_pods("web", 1, "under Enforce");
    let undo = ["rollout", "undo", "deployment/rolled-back"];
    let refusal = shop.kubectl(Person::Alice, undo).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    scale(&shop, "web", 0).ok();
    let refusal = scale(&shop, "web", 1).refused();
    assert!(refusal.contains("[unsigned]"), "{refusal}");
    shop.upkeep_was_never_denied();
}

fn a_baseline_serves_upkeep_only(cluster: &Cluster) {
    let policy = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
        "metadata": {"name": BEFORE},
        "spec": {
            "match": {"namespaces": {"names": [BEFORE]}},
            "requirements": [{"allowedImages": {"patterns": ["registry.example/**"]}}],
        },
    });
    cluster.apply(Person::Grace, &policy).ok();
    let kubectl = |by, args: &[&str]| {
        let args = ["-n", BEFORE].into_iter().chain(args.iter().copied());
        cluster.kubectl(by, args)
    };
    let pods = || {
        let running = [
            "get",
            "pods",
            "--field-selector=status.phase=Running",
            "-o",
            "name",
        ];
        kubectl(Person::Admin, &running).ok()
    };
    let before = pods();
    let delete = [
        "delete",
        "pods",
        "--all",
        "--wait=false",
        "--grace-period=0",
    ];
    kubectl(Person::Admin, &delete).ok();
    until("another Pod runs", || {
        let now = pods();
        (!now.is_empty() && now != before).then_some(())
    });
    kubectl(
        Person::Alice,
        &["scale", "deployment", "old", "--replicas=0"],
    )
    .ok();
    let refusal = kubectl(
        Person::Alice,
        &["scale", "deployment", "old", "--replicas=1"],
    )
    .refused();
    assert!(refusal.contains("[image-not-allowed]"), "{refusal}");
}

fn another_command_is_another_deploy(cluster: &Cluster) {
    let fields = json!({"environment": "commands"});
    let shop = Shop::open_with(cluster, "commands", &[json!({"noFreeze": {}})], &fields);
    let image = shop.signed("web");
    let deployment = shop.deployment("web", &image, 1);
    shop.apply(Person::Alice, &deployment).ok();
    shop.runs("web", 1);
    shop.freeze("commands");
    // A restart of what ran and complied passes in a freeze.
    scale(&shop, "web", 0).ok();
    scale(&shop, "web", 1).ok();
    shop.runs("web", 1);
    let mut other = deployment.clone();
    other["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh"]);
    let refusal = shop.apply(Person::Alice, &other).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    shop.lift_freeze();
    // Staged with another command, and started in a freeze.
    other["metadata"]["name"] = json!("staged");
    other["spec"]["replicas"] = json!(0);
    shop.apply(Person::Alice, &other).ok();
    shop.freeze("commands");
    let refusal = scale(&shop, "staged", 1).refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    shop.lift_freeze();
    shop.upkeep_was_never_denied();
}

fn revoked(cluster: &Cluster) {
    let shop = Shop::open(cluster, "revoked");
    // Images of one name have one digest in all scenarios.
    let image = shop.signed("stolen");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    shop.runs("web", 1);
    let digest = image.split_once('@').unwrap().1;
    let revocation = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "Revocation",
        "metadata": {"name": "stolen-key"},
        "spec": {"digest": digest, "reason": "Built with a stolen key"},
    });
    cluster.apply(Person::Grace, &revocation).ok();
    until("a Deploy is refused", || {
        let deployment = shop.deployment("again", &image, 1);
        let create = ["create", "--dry-run=server", "-f", "-"];
        let tried =
            cluster
                .plane
                .kubectl_by(Person::Alice.token(), create, &deployment.to_string());
        (!tried.is_ok() && tried.stderr.contains("stolen key")).then_some(())
    });
    // What runs is not stopped, and is not started again.
    assert_eq!(shop.pods("web").len(), 1);
    let delete = [
        "delete",
        "pods",
        "-l=app=web",
        "--wait=false",
        "--grace-period=0",
    ];
    shop.kubectl(Person::Admin, delete).ok();
    until("the ReplicaSet says why it has no Pod", || {
        let events = shop.get(&["events", "--field-selector", "reason=FailedCreate"]);
        events.to_string().contains("stolen key").then_some(())
    });
    assert!(shop.pods("web").is_empty());
    cluster
        .kubectl(Person::Grace, ["delete", "revocation", "stolen-key"])
        .ok();
    shop.runs("web", 1);
}

fn a_tag_under_audit(cluster: &Cluster) {
    let fields = json!({"enforcement": "Audit"});
    let shop = Shop::open_with(cluster, "tagged", &[], &fields);
    let image = shop.push("web").by_tag();
    shop.apply(Person::Alice, &shop.deployment("web", &image, 2))
        .ok();
    shop.runs("web", 2);
    shop.govern(&[], &json!({}));
    shop.registry.lock().unwrap().stop();
    shop.replaces_pods("web", 2, "under Enforce");
    cluster.gates.restart_all();
    shop.replaces_pods("web", 2, "after the replicas have restarted");
    shop.apply(Person::Alice, &shop.deployment("other", &image, 1))
        .refused();
    shop.upkeep_was_never_denied();
}
