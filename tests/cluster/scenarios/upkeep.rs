//! What controllers do goes on, whatever happens to the gate and to what it reads.

use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, Person, Scenario, Shop};
use crate::support::until;

pub fn scenarios() -> Vec<Scenario> {
    let upkeep = scenario(
        2,
        "upkeep is never denied in a freeze: Pods deleted, a node drained, all nodes replaced, Jobs and CronJobs run",
        upkeep_is_never_denied,
    );
    vec![
        scenario(
            1,
            "a Deployment by a person is judged, what controllers make of it is upkeep",
            a_deployment_is_judged_once,
        ),
        Scenario {
            alone: true,
            ..upkeep
        },
    ]
}

fn a_deployment_is_judged_once(cluster: &Cluster) {
    let shop = Shop::open(cluster, "deploys");
    let signed = shop.signed("web");
    shop.apply(Person::Alice, &shop.deployment("web", &signed, 3))
        .ok();
    shop.runs("web", 3);
    let mut asked: Vec<_> = shop
        .decisions()
        .iter()
        .map(|line| {
            assert_eq!(line["admitted"], true, "{line}");
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            (text("kind"), text("user"))
        })
        .collect();
    asked.sort();
    asked.dedup();
    let controller = |name: &str| format!("system:serviceaccount:kube-system:{name}");
    let expected = [
        ("Deployment", Person::Alice.name().to_owned()),
        ("Pod", controller("replicaset-controller")),
        ("ReplicaSet", controller("deployment-controller")),
    ];
    let expected = expected.map(|(kind, user)| (kind.to_owned(), user));
    assert_eq!(asked, expected);

    let unsigned = shop.unsigned("bad");
    // Administrators and governors deploy nothing else.
    for person in [Person::Admin, Person::Alice, Person::Bob, Person::Grace] {
        let refusal = shop
            .apply(person, &shop.deployment("bad", &unsigned, 1))
            .refused();
        assert!(refusal.contains("[unsigned]"), "{refusal}");
    }
    shop.upkeep_was_never_denied();
}

/// Workloads of every kind, which controllers keep running.
struct Workloads<'a> {
    shop: &'a Shop<'a>,
    nodes: usize,
}

impl Workloads<'_> {
    fn deploy<'a>(shop: &'a Shop<'a>) -> Workloads<'a> {
        let image = |name: &str| shop.signed(name);
        let web = image("web");
        let mut set = shop.workload("StatefulSet", "db", &image("db"));
        set["spec"]["replicas"] = json!(2);
        set["spec"]["serviceName"] = json!("db");
        let mut retries = shop.job("retries", &image("retries"));
        retries["spec"]["backoffLimit"] = json!(100);
        retries["spec"]["template"]["metadata"]["labels"]["fate"] = json!("fails");
        let mut many = shop.job("many", &image("many"));
        many["spec"]["completions"] = json!(1000);
        many["spec"]["parallelism"] = json!(2);
        // A Pod that is deleted delays its own index only.
        many["spec"]["completionMode"] = json!("Indexed");
        many["spec"]["backoffLimitPerIndex"] = json!(10);
        many["spec"]["template"]["metadata"]["annotations"] = json!({"takes": "2s"});
        for object in [
            shop.deployment("web", &web, 4),
            set,
            shop.workload("DaemonSet", "agent", &image("agent")),
            retries,
            many,
            shop.cron_job("ticks", &image("ticks"), "* * * * *"),
        ] {
            shop.apply(Person::Alice, &object).ok();
        }
        let nodes = shop.cluster.get(["nodes"])["items"]
            .as_array()
            .unwrap()
            .len();
        let workloads = Workloads { shop, nodes };
        workloads.all_run();
        workloads
    }

    fn all_run(&self) {
        self.shop.runs("web", 4);
        self.shop.runs("db", 2);
        self.shop.runs("agent", self.nodes);
    }

    /// Pods are deleted, a node is drained, a Job goes on.
    fn go_on(&self, why: &str) {
        let (shop, admin) = (self.shop, Person::Admin);
        let before = shop.runs("web", 4);
        shop.kubectl(
            admin,
            [
                "delete",
                "pods",
                "--all",
                "--wait=false",
                "--grace-period=0",
            ],
        )
        .ok();
        until(&format!("other Pods run, {why}"), || {
            let now = shop.pods("web");
            (now.len() == 4 && now.is_disjoint(&before)).then_some(())
        });
        self.all_run();
        let drain = [
            "drain",
            "node-1",
            "--ignore-daemonsets",
            "--force",
            "--delete-emptydir-data",
            "--grace-period=0",
        ];
        shop.cluster.kubectl(admin, drain).ok();
        self.all_run();
        shop.cluster.kubectl(admin, ["uncordon", "node-1"]).ok();
        let done = || shop.get(&["job", "many"])["status"]["succeeded"].as_u64();
        let before = done();
        until(&format!("the Job has its next Pod, {why}"), || {
            (done() > before).then_some(())
        });
        shop.upkeep_was_never_denied();
    }

    /// Every node is replaced by another.
    fn replace_nodes(&mut self) {
        let plane = &self.shop.cluster.plane;
        let nodes = self.shop.cluster.get(["nodes"]);
        for node in nodes["items"].as_array().unwrap() {
            let name = node["metadata"]["name"].as_str().unwrap();
            plane.kubectl(["delete", "node", name]).ok();
        }
        for node in nodes["items"].as_array().unwrap() {
            plane.create_node(node["metadata"]["name"].as_str().unwrap());
        }
        plane.create_node("another");
        self.nodes += 1;
        self.all_run();
        plane.kubectl(["delete", "node", "another"]).ok();
        self.nodes -= 1;
        self.all_run();
        self.shop.upkeep_was_never_denied();
    }

    /// The CronJob makes one more Job, and the Job that fails has been tried again.
    fn tick(&self) {
        let last = || self.shop.get(&["cronjob", "ticks"])["status"]["lastScheduleTime"].clone();
        let before = last();
        until("the CronJob runs", || (last() != before).then_some(()));
        until("its Job completes", || {
            let jobs = self.shop.get(&["jobs"]);
            let complete = |job: &Value| job["status"]["succeeded"] == 1;
            let jobs = jobs["items"].as_array().unwrap().iter();
            let ticks = jobs.filter(|job| {
                let name = job["metadata"]["name"].as_str().unwrap();
                name.starts_with("ticks-")
            });
            ticks.into_iter().all(complete).then_some(())
        });
        until("the Job that fails is tried again", || {
            let failed = self.shop.get(&["job", "retries"])["status"]["failed"].as_u64();
            (failed >= Some(2)).then_some(())
        });
        self.shop.upkeep_was_never_denied();
    }
}

fn upkeep_is_never_denied(cluster: &Cluster) {
    let fields = json!({"environment": "production"});
    let shop = Shop::open_with(cluster, "lives", &[json!({"noFreeze": {}})], &fields);
    let other = shop.signed("other");
    let mut workloads = Workloads::deploy(&shop);

    shop.freeze("production");
    workloads.go_on("in a freeze");
    workloads.replace_nodes();
    workloads.tick();
    let refusal = shop
        .apply(Person::Alice, &shop.deployment("other", &other, 1))
        .refused();
    assert!(refusal.contains("[frozen]"), "{refusal}");
    shop.lift_freeze();
}
