//! The gate as an operator lives with it: installed, upgraded, rolled back and uninstalled by real Helm, its certificates, and the ways
//! back in. The replicas are those of the chart's Deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rights::rights;
use super::scenario;
use crate::harness::{Cluster, Installed, Load, NAMESPACE, OVERLAP, Person, SHOP, Scenario};
use crate::support::until;

/// The rate in CI, where other things run besides.
const FEW: u32 = 25;
/// A namespace whose Pods ran before the gate came.
const EARLIER: &str = "earlier";
/// A namespace that is deleted after the gate is gone.
const LEFT: &str = "left";
const CERTIFICATES: &str = "promotion-gate-certificates";
const CONFIGURATION: &str = "validatingwebhookconfiguration/promotion-gate";
const BOUND_GUARD: &str = "validatingadmissionpolicybinding/promotion-gate-configuration";

pub fn scenarios() -> Vec<Scenario> {
    const DRAINED: &str = "the gate is installed under Enforce where Pods run that it would deny, all nodes are drained one after another, and no Pod is lost";
    const UPGRADED: &str = "Helm upgrades, rolls back and uninstalls the gate under load: no wrong answer, no request lost, nothing left that blocks, and it installs again";
    const RENEWED: &str =
        "certificates are replaced and deleted under load: no wrong answer, and no request lost";
    let all = [
        (scenario(21, DRAINED, |it| drained(it, 12)), false),
        (scenario(21, DRAINED, |it| drained(it, 200)), true),
        (scenario(22, UPGRADED, upgraded), true),
        (scenario(23, RENEWED, |it| replaced(it, FEW)), false),
        (scenario(23, RENEWED, renewed), true),
        (
            scenario(
                24,
                "with all replicas gone, what `recover` prints lets the cluster go on, and the gate comes back under Enforce",
                recovered,
            ),
            true,
        ),
        (
            scenario(
                26,
                "the roles of the gate allow all that the scenarios made it ask for, and else only what the listed cases need",
                rights,
            ),
            false,
        ),
        (
            scenario(
                27,
                "figures: from `helm install` to the first denial, the start with 100 policies, memory",
                figures,
            ),
            true,
        ),
    ];
    all.map(|(scenario, long)| Scenario {
        alone: true,
        long,
        ..scenario
    })
    .into()
}

/// The nodes of the Pods of a namespace that run, and how many each has.
fn nodes_of(installed: &Installed, namespace: &str) -> BTreeMap<String, usize> {
    let nodes = "jsonpath={range .items[*]}{.spec.nodeName}{\"\\n\"}{end}";
    let running = "--field-selector=status.phase=Running";
    let listed = ["get", "pods", "-n", namespace, running, "-o", nodes];
    let mut found = BTreeMap::new();
    for node in installed.kubectl(listed).ok().lines() {
        *found.entry(node.to_owned()).or_default() += 1;
    }
    found
}

/// How many Pods of a namespace run, and not on this node.
fn running(installed: &Installed, namespace: &str, besides: &str) -> usize {
    let nodes = nodes_of(installed, namespace).into_iter();
    let elsewhere = nodes.filter(|(node, _)| node != besides);
    elsewhere.map(|(_, pods)| pods).sum()
}

/// Waits until so many Pods run, and none on this node.
fn all_run(installed: &Installed, pods: usize, besides: &str) {
    let deadline = Instant::now() + Duration::from_secs(900);
    loop {
        let now = running(installed, EARLIER, besides);
        if now == pods {
            return;
        }
        assert!(Instant::now() < deadline, "{now} of {pods} run");
        sleep(Duration::from_millis(500));
    }
}

fn drained(cluster: &Cluster, workloads: usize) {
    const EACH: usize = 5;
    let installed = cluster.installed();
    installed.uninstall_for_good();
    installed.plane.create_namespace_with(EARLIER, &json!({}));
    let image = format!("registry.example/earlier@sha256:{}", "b".repeat(64));
    let deployment = |name: String| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": EARLIER},
            "spec": {
                "replicas": EACH, "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": image}]},
                },
            },
        })
    };
    let deployments: Vec<_> = (0..workloads)
        .map(|number| deployment(format!("app-{number}")))
        .collect();
    for some in deployments.chunks(100) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": some}).to_string();
        let create = ["create", "-f", "-"];
        let created = installed
            .plane
            .kubectl_by(Person::Alice.token(), create, &list);
        created.ok();
    }
    let pods = workloads * EACH;
    all_run(installed, pods, "");
    installed.install();
    // The nodes have no zones.
    assert_eq!(nodes_of(installed, NAMESPACE).len(), 3);
    let policy = installed.policy(&[SHOP, EARLIER]);
    installed.apply(Person::Grace, &policy).ok();
    let another = deployment("another".to_owned()).to_string();
    until("what does not run yet is denied", || {
        let create = ["create", "--dry-run=server", "-f", "-"];
        let alice = Person::Alice.token();
        let refused = installed.plane.kubectl_by(alice, create, &another);
        (!refused.is_ok()).then_some(())
    });
    for node in ["node-1", "node-2", "node-3"] {
        let began = Instant::now();
        let drain = ["drain", node, "--ignore-daemonsets"];
        let drain = drain
            .into_iter()
            .chain(["--delete-emptydir-data", "--timeout=600s"]);
        installed.kubectl(drain).ok();
        all_run(installed, pods, node);
        println!(
            "  {node} is drained, and {pods} Pods run ({:.0?})",
            began.elapsed()
        );
        installed.kubectl(["uncordon", node]).ok();
    }
    let failed = ["events", "-n", EARLIER, "--field-selector"];
    let failed = failed.into_iter().chain(["reason=FailedCreate"]);
    let failed = installed.get(failed).unwrap();
    assert_eq!(failed["items"], json!([]));
    installed.is_rolled_out();
    let delete = ["delete", "namespace", EARLIER, "--timeout=600s"];
    installed.kubectl(delete).ok();
    let policy = installed.policy(&[SHOP]);
    installed.apply(Person::Grace, &policy).ok();
}

fn upgraded(cluster: &Cluster) {
    let installed = cluster.installed();
    installed.install();
    installed.is_settled();
    // Something with a release record in a namespace of its own.
    installed.plane.create_namespace_with(LEFT, &json!({}));
    let policy = installed.policy(&[SHOP, LEFT]);
    installed.apply(Person::Grace, &policy).ok();
    let image = format!("--image={}", installed.signed);
    let deploy = ["create", "deployment", "web", "-n", LEFT, &image];
    let alice = Person::Alice.token();
    installed.plane.kubectl_by(alice, deploy, "").ok();
    until("the admission is recorded", || {
        let records = installed.get(["releaserecords", "-n", LEFT])?;
        (!records["items"].as_array()?.is_empty()).then_some(())
    });

    let rate = installed.sustained;
    let load = installed.load();
    let report = load.during(rate, || {
        installed.upgrade(&["--set", "podAnnotations.version=second"]);
        installed.is_rolled_out();
    });
    println!("  helm upgrade: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();
    let report = load.during(rate, || {
        installed.helm(Person::Grace, &["rollback", NAMESPACE]).ok();
        installed.is_rolled_out();
        installed.is_settled();
    });
    println!("  helm rollback: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();
    too_early(installed, &policy);

    let (signed, unsigned) = (&installed.signed, &installed.unsigned);
    let admitted = [(&**signed, true), (&**signed, true)];
    let report = Load::of(&installed.plane, SHOP, admitted).during(rate, || {
        installed.uninstall();
        until("the replicas have ended", || {
            (installed.pods.count() == 0).then_some(())
        });
    });
    println!("  helm uninstall: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();
    installed.dry_run(unsigned).ok();
    for (kind, name) in [
        ("validatingwebhookconfiguration", "promotion-gate"),
        ("validatingadmissionpolicy", "promotion-gate-configuration"),
        ("validatingadmissionpolicy", "promotion-gate-records"),
        ("clusterrole", "promotion-gate"),
    ] {
        assert!(installed.get([kind, name]).is_none(), "{kind} {name}");
    }
    // By an administrator who is no governor: nobody is asked any more.
    let bob = Person::Bob.token();
    let delete = ["delete", "namespace", LEFT, "--timeout=60s"];
    installed.plane.kubectl_by(bob, delete, "").ok();
    installed.uninstall_for_good();
    assert_eq!(installed.definitions(), Vec::<String>::new());

    installed.install();
    let report = load.during(rate, || sleep(Duration::from_secs(2)));
    println!("  installed again: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();
}

/// A policy that uses a rule of a newer version comes while replicas of the older one are replaced: they refuse it, and the policy as it
/// was before counts.
fn too_early(installed: &Installed, policy: &Value) {
    const ENTRY: &str =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/requirements/items";
    const ONE_RULE: &str = "x-kubernetes-validations";
    const NEWER: &str = "properties/ruleOfANewerVersion";
    let of_entry = |name: &str| format!("{ENTRY}/{name}");
    let definition = "customresourcedefinition/promotionpolicies.promotion-gate.dev";
    let patch = |patch: Value| {
        let patch = patch.to_string();
        let change = ["patch", definition, "--type=json", "-p", &patch];
        let by = Person::Grace.token();
        installed.plane.kubectl_by(by, change, "").ok();
    };
    let mut newer = policy.clone();
    let entries = newer["spec"]["requirements"].as_array_mut().unwrap();
    entries.push(json!({"ruleOfANewerVersion": {}}));
    let refused = installed.apply(Person::Grace, &newer).refused();
    assert!(refused.contains("exactly one rule per entry"), "{refused}");

    let as_shipped = installed.get([definition]).unwrap();
    patch(json!([
        {"op": "remove", "path": of_entry(ONE_RULE)},
        {"op": "add", "path": of_entry(NEWER), "value": {"type": "object"}},
    ]));
    let report = installed.load().during(installed.sustained, || {
        until(
            "the newer definition takes it, and the gate refuses it",
            || {
                let refused = installed.apply(Person::Grace, &newer).refused();
                let by_gate = "`ruleOfANewerVersion` is not known to this version";
                refused.contains(by_gate).then_some(())
            },
        );
        let restart = ["rollout", "restart", "deployment/promotion-gate", "-n"];
        let restart = restart.into_iter().chain([NAMESPACE]);
        installed.kubectl(restart).ok();
        installed.is_rolled_out();
        installed.is_settled();
    });
    println!("  a rule of a newer version, and all replicas replaced: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();
    let found = installed.get(["promotionpolicy", "signed"]).unwrap();
    let requirements = &found["spec"]["requirements"];
    assert_eq!(requirements, &policy["spec"]["requirements"]);

    let one_rule = as_shipped.pointer(&of_entry(ONE_RULE)).unwrap();
    patch(json!([
        {"op": "remove", "path": of_entry(NEWER)},
        {"op": "add", "path": of_entry(ONE_RULE), "value": one_rule},
    ]));
}

/// A field of the Secret with the certificates.
fn field(installed: &Installed, field: &str) -> Option<String> {
    let secret = installed.get(["secret", CERTIFICATES, "-n", NAMESPACE])?;
    secret["data"][field].as_str().map(str::to_owned)
}

/// The newest CA of the Secret.
fn authority(installed: &Installed) -> Option<String> {
    use base64::Engine as _;
    let text = field(installed, "ca.crt")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (first, _) = text.split_once("-----END")?;
    Some(first.to_owned())
}

/// Waits until something is there that was not before, and gives it.
fn next(what: &str, before: &str, now: impl Fn() -> Option<String>) -> String {
    until(what, || now().filter(|now| now != before))
}

fn replaced(cluster: &Cluster, per_second: u32) {
    let installed = cluster.installed();
    installed.install();
    let rate = per_second.min(installed.sustained);
    let load = installed.load();
    let patch = |kind: &str, patch: &Value| {
        let patch = patch.to_string();
        let change = ["patch", kind, "-n", NAMESPACE, "--type=json", "-p", &patch];
        let by = Person::Grace.token();
        installed.plane.kubectl_by(by, change, "").ok();
    };
    let take_away = |field: &str| json!([{"op": "remove", "path": format!("/data/{field}")}]);
    let secret = format!("secret/{CERTIFICATES}");
    let serving = || field(installed, "tls.crt");
    let a_second = || sleep(Duration::from_secs(1));

    let report = load.during(rate, || {
        let (old_authority, old) = (authority(installed).unwrap(), serving().unwrap());
        patch(&secret, &take_away("ca.key"));
        next("there is a new CA", &old_authority, || authority(installed));
        next("it has issued a certificate", &old, serving);
        a_second();
    });
    println!("  another CA: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();

    let report = load.during(rate, || {
        let old = serving().unwrap();
        patch(&secret, &take_away("tls.crt"));
        next("there is a new certificate", &old, serving);
        a_second();
    });
    println!("  another certificate: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();

    let report = load.during(rate, || {
        let old = serving();
        let delete = ["delete", "secret", CERTIFICATES, "-n", NAMESPACE];
        installed.kubectl(delete).ok();
        until("the Secret is as it was", || {
            (serving() == old).then_some(())
        });
        a_second();
    });
    println!("  the Secret deleted: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();

    // The API server verifies nobody meanwhile.
    let bundles = || {
        let configuration = installed.get([CONFIGURATION]).unwrap();
        let entries = configuration["webhooks"].as_array().unwrap().iter();
        let bundles = entries.map(|entry| entry["clientConfig"]["caBundle"].clone());
        bundles.collect::<Vec<_>>()
    };
    let report = load.during(rate, || {
        a_second();
        let before = bundles();
        let remove = |entry: usize| json!({"op": "remove", "path": format!("/webhooks/{entry}/clientConfig/caBundle")});
        let delete = ["delete", "secret", CERTIFICATES, "-n", NAMESPACE];
        installed.kubectl(delete).ok();
        patch(CONFIGURATION, &json!([remove(0), remove(1)]));
        until("`caBundle` is as it was", || {
            (bundles() == before).then_some(())
        });
        a_second();
    });
    println!("  the Secret and `caBundle` deleted: {report}");
    report.has_no_wrong_answer();
    let is_unverified = |why: &String| why.contains("failed calling webhook");
    assert!(
        report.failed.iter().all(is_unverified),
        "{:#?}",
        report.failed
    );
    let after = load.during(rate, a_second);
    after.has_no_wrong_answer();
    after.lost_nothing();
}

/// Certificates that are valid for seconds, at the rate that the cluster sustains.
fn renewed(cluster: &Cluster) {
    let installed = cluster.installed();
    replaced(cluster, u32::MAX);
    let values = installed.plane.folder.path().join("short.yaml");
    let short = [OVERLAP, "--certificate-validity=12s", "--ca-validity=36s"];
    fs::write(&values, json!({"extraArgs": short}).to_string()).unwrap();
    installed.upgrade(&["--values", &values.display().to_string()]);
    installed.is_rolled_out();
    installed.is_settled();
    let load = installed.load();
    let report = load.during(installed.sustained, || {
        // The certificates so far are valid for long.
        let take_away = r#"[{"op": "remove", "path": "/data/ca.key"}]"#;
        let secret = format!("secret/{CERTIFICATES}");
        let patch = ["patch", &secret, "-n", NAMESPACE, "--type=json", "-p"];
        let patch = patch.into_iter().chain([take_away]);
        installed.kubectl(patch).ok();
        let (mut authorities, mut certificates) = (BTreeSet::new(), BTreeSet::new());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(120) {
            authorities.extend(authority(installed));
            certificates.extend(field(installed, "tls.crt"));
            sleep(Duration::from_secs(1));
        }
        println!(
            "  {} CAs and {} certificates in two minutes",
            authorities.len(),
            certificates.len()
        );
        assert!(authorities.len() > 3 && certificates.len() > 9);
    });
    println!("  certificates that are valid for 12 s: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();
    installed.helm(Person::Grace, &["rollback", NAMESPACE]).ok();
    installed.is_rolled_out();
    installed.is_settled();
}

/// The commands that `recover` prints for one of its steps; without that for the log, which only a real node has.
fn printed(installed: &Installed, step: u8) -> String {
    let text = installed.shell(Person::Bob, "promotion-gate recover").ok();
    let (_, after) = text.split_once(&format!("\n# {step}. ")).unwrap();
    let lines = after.lines().take_while(|line| !line.is_empty());
    let commands = lines.filter(|line| line.starts_with("kubectl ") && !line.contains(" logs "));
    let commands: Vec<_> = commands.collect();
    assert!(!commands.is_empty(), "{text}");
    commands.join("\n")
}

/// Goes the last way that `recover` prints, until everything is admitted.
fn stop_asking(installed: &Installed) {
    for command in printed(installed, 3).lines() {
        // The deletion of the binding counts a little later.
        until(command, || {
            installed.shell(Person::Bob, command).is_ok().then_some(())
        });
    }
    until("everything is admitted", || {
        installed.dry_run(&installed.unsigned).is_ok().then_some(())
    });
}

fn recovered(cluster: &Cluster) {
    let installed = cluster.installed();
    installed.install();
    installed.is_settled();
    let (signed, unsigned) = (&installed.signed, &installed.unsigned);
    // The shipped policy about the gate's own image, which is in a registry that does not answer.
    let shipped = crate::harness::shipped("policies/gate-image.yaml");
    for policy in &shipped {
        installed.apply(Person::Grace, policy).ok();
    }
    let gone = || {
        installed.pods.hold();
        let refused = installed.dry_run(signed).refused();
        assert!(refused.contains("failed calling webhook"), "{refused}");
    };
    let is_admitted = |image: &String| {
        until("it is admitted", || {
            installed.dry_run(image).is_ok().then_some(())
        });
    };

    // Step 1: the Deployment starts again in a cluster that asks a gate that is not there.
    gone();
    let restart = printed(installed, 1);
    let (restart, wait) = restart.rsplit_once('\n').unwrap();
    installed.shell(Person::Bob, restart).ok();
    installed.pods.resume();
    installed.shell(Person::Bob, wait).ok();
    installed.denies();
    is_admitted(signed);
    installed.is_settled();

    // Step 2: a governor lets in what nobody judges. A replica that runs sets it back.
    gone();
    installed.shell(Person::Grace, &printed(installed, 2)).ok();
    is_admitted(unsigned);
    installed.pods.resume();
    until("a replica has set it back", || {
        let configuration = installed.get([CONFIGURATION])?;
        (configuration["webhooks"][0]["failurePolicy"] == "Fail").then_some(())
    });
    installed.denies();

    // Step 3: anybody with the right to delete the two objects stops the questions.
    gone();
    stop_asking(installed);
    let image = format!("--image={unsigned}");
    let deploy = ["create", "deployment", "hotfix", "-n", SHOP, &image];
    let alice = Person::Alice.token();
    installed.plane.kubectl_by(alice, deploy, "").ok();

    // The way back: what was deleted is installed again, and what came in meanwhile is adopted.
    installed.pods.resume();
    installed.upgrade(&[]);
    installed.is_rolled_out();
    installed.denies();
    assert!(installed.get([BOUND_GUARD]).is_some());
    let adopt = "promotion-gate record adopt --all-namespaces";
    let adopted = installed.shell(Person::Grace, adopt).ok();
    assert!(adopted.contains("0 are left"), "{adopted}");
    let delete = ["delete", "pods", "-n", SHOP, "-l", "app=hotfix"];
    let delete = delete.into_iter().chain(["--grace-period=0"]);
    installed.kubectl(delete).ok();
    until("its Pod is replaced", || {
        (running(installed, SHOP, "") == 1).then_some(())
    });
    let delete = ["delete", "deployment", "hotfix", "-n", SHOP];
    installed.kubectl(delete).ok();
    for policy in &shipped {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let delete = ["delete", "promotionpolicy", name];
        let by = Person::Grace.token();
        installed.plane.kubectl_by(by, delete, "").ok();
    }
}

fn figures(cluster: &Cluster) {
    const POLICIES: usize = 100;
    const STARTS: usize = 10;
    let installed = cluster.installed();
    installed.uninstall_for_good();
    let began = Instant::now();
    installed.install();
    println!(
        "  install, rollout status, apply governors and a policy, first denial: {:.1?}",
        began.elapsed()
    );
    installed.is_settled();
    println!("  at rest: {:?} MiB", installed.pods.memory());
    let report = installed
        .load()
        .during(installed.sustained, || sleep(Duration::from_secs(30)));
    println!("  under load: {:?} MiB; {report}", installed.pods.memory());
    for number in 0..POLICIES {
        let mut policy = installed.policy(&[&format!("namespace-{number}")]);
        policy["metadata"]["name"] = json!(format!("policy-{number}"));
        installed.apply(Person::Grace, &policy).ok();
    }
    let mut starts: Vec<_> = (0..STARTS).map(|_| installed.pods.start_once()).collect();
    starts.sort();
    println!(
        "  from the start to ready with {POLICIES} policies: {:.0?} (median), {:.0?} (slowest)",
        starts[STARTS / 2],
        starts[STARTS - 1]
    );
}
