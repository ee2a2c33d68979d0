//! What holds under load.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::scenario;
use crate::harness::{Cluster, Load, Person, Scenario, Shop};
use crate::support::until;

/// The rate that is wanted; less where the machine does not sustain it.
const PER_SECOND: u32 = 200;
const WORKLOADS: usize = 1000;
const PODS: usize = 5000;
const IMAGES: usize = 50;
/// MiB that a replica may use.
const MEMORY: u64 = 256;

pub fn scenarios() -> Vec<Scenario> {
    let all = [
        scenario(
            7,
            "a replica restarts, the API server restarts, etcd stalls, under load: no wrong answer, and nothing is lost that the API server did not lose",
            parts_fail_under_load,
        ),
        scenario(
            8,
            "a policy is edited under load: every decision names one revision, and is its decision",
            a_policy_is_edited_under_load,
        ),
        scenario(
            10,
            "5,000 Pods of 1,000 workloads and 50 images come up, a replica stays within 256 MiB, and after a restart upkeep asks no registry",
            many_pods,
        ),
        scenario(
            10,
            "a warm upkeep costs no more than a warm Deploy, and what the write of a record costs",
            costs,
        ),
    ];
    let all = all.map(|scenario| Scenario {
        alone: true,
        long: scenario.number != 8,
        ..scenario
    });
    all.into()
}

fn parts_fail_under_load(cluster: &Cluster) {
    let shop = Shop::open(cluster, "loaded");
    let (signed, unsigned) = (shop.signed("web"), shop.unsigned("bad"));
    let load = Load::new(&shop, [(&signed, true), (&unsigned, false)]);
    let second = || sleep(Duration::from_secs(1));
    let some_time = || sleep(Duration::from_secs(15));

    // What the same cluster sustains without the gate.
    let ungoverned = Shop::ungoverned(cluster, "unguarded");
    cluster.unregister();
    let plain = Load::new(&ungoverned, [(&signed, true), (&unsigned, true)]);
    plain.during(PER_SECOND, second);
    let without = plain.during(PER_SECOND, some_time);
    println!("  without the webhook: {without}");
    cluster.register();
    until("the gate is asked", || {
        let probe = shop.pod("probe", &unsigned).to_string();
        let create = ["create", "--dry-run=server", "-f", "-"];
        let probe = cluster.plane.kubectl_by("alice", create, &probe);
        (!probe.is_ok()).then_some(())
    });
    let rate = PER_SECOND.min(without.per_second());
    load.during(rate, second);
    let with = load.during(rate, some_time);
    println!("  with the webhook: {with}");
    with.has_no_wrong_answer();
    with.lost_nothing();

    let report = load.during(rate, || {
        for replica in cluster.gates.numbers() {
            second();
            cluster.gates.stop(replica);
            cluster.gates.start(replica);
        }
    });
    println!("  every replica stopped and started: {report}");
    report.has_no_wrong_answer();
    report.lost_nothing();

    let report = load.during(rate, || {
        second();
        cluster.gates.kill(0);
        second();
        cluster.gates.start(0);
        second();
    });
    println!("  a replica killed and started: {report}");
    report.has_no_wrong_answer();
    let under_way = report
        .failed
        .iter()
        .all(|why| why.contains("failed calling webhook"));
    assert!(under_way, "{:#?}", report.failed);

    let report = load.during(rate, || {
        second();
        cluster.plane.restart_api_server();
        some_time();
    });
    println!("  the API server killed and started: {report}");
    report.has_no_wrong_answer();

    let report = load.during(rate, || {
        second();
        cluster.plane.signal("etcd", Signal::STOP);
        sleep(Duration::from_secs(20));
        cluster.plane.signal("etcd", Signal::CONT);
        some_time();
    });
    println!("  etcd stalled for 20 s: {report}");
    report.has_no_wrong_answer();
    let after = load.during(rate, some_time);
    println!("  afterwards: {after}");
    after.has_no_wrong_answer();
    after.lost_nothing();
}

fn a_policy_is_edited_under_load(cluster: &Cluster) {
    let shop = Shop::open(cluster, "edited");
    let (signed, unsigned) = (shop.signed("web"), shop.unsigned("bad"));
    let load = Load::new(&shop, [(&signed, true), (&unsigned, false)]);
    let strict = || shop.basics();
    let lax = || vec![json!({"digestPinned": {}})];
    load.during(50, || {
        for _ in 0..4 {
            shop.govern_by(lax(), &json!({}));
            shop.govern_by(strict(), &json!({}));
        }
    });
    // By its revision, each decision about the unsigned image is either a denial or an admission.
    let digest = unsigned.split_once('@').unwrap().1;
    let lines = cluster.gates.log_lines("\"edited\"").into_iter();
    let lines = lines.filter(|line| line["images"].to_string().contains(digest));
    let mut revisions = BTreeSet::new();
    let mut decisions = 0;
    for line in lines {
        let revision = line["revision"].as_str().unwrap().to_owned();
        revisions.insert((revision, line["decision"].to_string()));
        decisions += 1;
    }
    assert!(decisions > 20, "{decisions}");
    assert_eq!(revisions.len(), 2, "{revisions:#?}");
}

fn many_pods(cluster: &Cluster) {
    let shop = Shop::open(cluster, "many");
    let began = Instant::now();
    let images: Vec<_> = (0..IMAGES)
        .map(|image| shop.signed(&format!("image-{image}")))
        .collect();
    println!("  {IMAGES} images are signed ({:.0?})", began.elapsed());
    let began = Instant::now();
    let replicas = u32::try_from(PODS / WORKLOADS).unwrap();
    let deployments: Vec<_> = (0..WORKLOADS)
        .map(|number| {
            let image = &images[number % images.len()];
            shop.deployment(&format!("app-{number}"), image, replicas)
        })
        .collect();
    for some in deployments.chunks(100) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": some});
        shop.apply(Person::Alice, &list).ok();
    }
    let running = || {
        let running = "--field-selector=status.phase=Running";
        let names = ["get", "pods", running, "-o", "name"];
        let names = shop.kubectl(Person::Admin, names).ok();
        names.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let all_run = |besides: &BTreeSet<String>| {
        let deadline = Instant::now() + Duration::from_secs(900);
        loop {
            let running = running();
            if running.len() == PODS && running.is_disjoint(besides) {
                return;
            }
            let count = running.len();
            assert!(Instant::now() < deadline, "{count} of {PODS} run");
            sleep(Duration::from_secs(2));
        }
    };
    all_run(&BTreeSet::new());
    println!("  {PODS} Pods run ({:.0?})", began.elapsed());
    shop.upkeep_was_never_denied();
    let decisions = shop.decisions();
    let number = |line: &serde_json::Value, field: &str| line[field].as_u64().unwrap();
    let requests: u64 = decisions
        .iter()
        .map(|line| number(line, "registry_requests"))
        .sum();
    let mut took: Vec<_> = decisions
        .iter()
        .map(|line| number(line, "milliseconds"))
        .collect();
    took.sort_unstable();
    println!(
        "  {} decisions, {requests} registry requests, p50 {} ms, p99 {} ms",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    for replica in cluster.gates.numbers() {
        let memory = cluster.gates.memory(replica);
        println!("  replica {replica}: {memory} MiB");
        assert!(memory <= MEMORY, "replica {replica}: {memory} MiB");
    }
    let began = Instant::now();
    cluster.gates.restart_all();
    println!("  all replicas restarted ({:.0?})", began.elapsed());
    let before = running();
    // Those of every fifth workload, by label: kubectl reads each object first that it is given by name.
    let label = format!("app in ({})", every_fifth(WORKLOADS));
    let of_label = ["get", "pods", "-l", &label, "-o", "name"];
    let gone = shop.kubectl(Person::Admin, of_label).ok();
    let gone: BTreeSet<_> = gone.lines().map(str::to_owned).collect();
    assert!(gone.len() == PODS / 5 && gone.is_subset(&before));
    let delete = ["delete", "pods", "-l", &label, "--wait=false"];
    shop.kubectl(Person::Admin, delete).ok();
    all_run(&gone);
    let upkeep = shop.decisions().into_iter().skip(decisions.len());
    let upkeep = upkeep.filter(|line| line["change"] == "upkeep");
    let asked: u64 = upkeep.map(|line| number(&line, "registry_requests")).sum();
    println!(
        "  {} of them made again after it: {asked} registry requests",
        gone.len()
    );
    assert_eq!(asked, 0);
    shop.upkeep_was_never_denied();
    let delete = ["delete", "deployment", "--all", "--wait=false"];
    shop.kubectl(Person::Admin, delete).ok();
}

/// The names of every fifth workload of [`many_pods`], for a label selector.
fn every_fifth(workloads: usize) -> String {
    let names = (0..workloads).step_by(5);
    let names: Vec<_> = names.map(|number| format!("app-{number}")).collect();
    names.join(",")
}

fn costs(cluster: &Cluster) {
    let shop = Shop::open(cluster, "costs");
    let image = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &image, 1))
        .ok();
    shop.runs("web", 1);
    let dry = |mut review: serde_json::Value| {
        review["request"]["dryRun"] = json!(true);
        review
    };
    let upkeep = "system:serviceaccount:kube-system:replicaset-controller";
    let upkeep = dry(shop.review(upkeep, &shop.pod("web", &image)));
    let deploy = dry(shop.review(Person::Alice.name(), &shop.pod("web", &image)));
    let upkeep = cluster.gates.cost(|_| upkeep.clone());
    let deploy = cluster.gates.cost(|_| deploy.clone());
    println!("  a warm upkeep: {upkeep}");
    println!("  a warm Deploy: {deploy}");
    let pods = cluster.gates.cost(|number| {
        let pod = shop.pod(&format!("web-{number}"), &image);
        shop.review(Person::Alice.name(), &pod)
    });
    println!("  a warm Deploy whose record is written: {pods}");
    assert!(upkeep.cpu <= deploy.cpu.mul_f64(1.1), "{upkeep} {deploy}");
}
