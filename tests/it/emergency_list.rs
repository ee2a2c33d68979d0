//! `emergency list`: what a cluster admitted by emergency changes, from records that the gate signed, and whether it was reviewed.

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::approve::said;
use crate::cli::Ran;
use crate::emergency_command::{Emergency, declared};

async fn cluster(it: &Emergency) -> ApiServer {
    let cluster = ApiServer::start().await;
    it.bench.write("kubeconfig", &cluster.kubeconfig());
    cluster
}

/// An admission by an emergency change, whose review is due in some hours.
fn entry(it: &Emergency, declaration: &str, hours: i64, requester: &str) -> Value {
    let now = Timestamp::now();
    json!({
        "workload": {
            "group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop",
            "name": "web", "uid": "u",
        },
        "template": Digest::sha256(b"template").to_string(),
        "state": "Observed", "runs": "Running", "by": "Waiver", "complied": [],
        "environments": [], "at": now.to_string(), "decision": "1", "revision": "1",
        "emergency": [{
            "declaration": declaration, "environment": "production", "incident": "INC1",
            "incidentState": "unverified", "declaredBy": ["ada"], "approvedBy": ["ben"],
            "requester": requester, "policies": ["prod"], "waived": ["approvals"],
            "images": [it.image], "expires": now.to_string(),
            // A verified time has whole seconds, so that a review in the same second would be earlier.
            "admitted": (now - SignedDuration::from_mins(1)).to_string(),
            "reviewDue": (now + SignedDuration::from_hours(hours)).to_string(),
        }],
    })
}

fn list(it: &Emergency, more: &[&str]) -> Ran {
    let args = [
        "emergency",
        "list",
        "--policy",
        "policies",
        "--config",
        "gate.yaml",
    ];
    let cluster = ["--from-cluster", "--kubeconfig", "kubeconfig"];
    it.bench.run(&[&args[..], &cluster, more].concat(), "")
}

fn listed(it: &Emergency) -> (i32, Value) {
    let ran = list(it, &["--output", "json"]);
    let json = serde_json::from_str(&ran.stdout);
    (
        ran.code,
        json.unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_is_listed_with_the_state_of_its_review() {
    let it = Emergency::new().await;
    let declaration = declared(&it.declare("ada", &[]));
    said(&it.by("ben", "approve", &[]), 0, "read back");
    let cluster = cluster(&it).await;
    cluster.holds(&it.digest, &[]);
    said(&list(&it, &[]), 0, "no emergency change was used");

    cluster.holds(&it.digest, &[entry(&it, &declaration, 48, "deployer")]);
    let ran = list(&it, &[]);
    for words in [
        &*format!("due {declaration} of `production`"),
        "incident      INC1 (unverified)",
        "Deployment shop/web",
        "declared by   ada; agreed: ben",
        "review due    ",
        &*format!("--declaration {declaration} --verdict VERDICT"),
        &it.image,
    ] {
        said(&ran, 0, words);
    }
    said(
        &list(&it, &["--environment", "staging"]),
        0,
        "no emergency change was used",
    );

    cluster.holds(&it.digest, &[entry(&it, &declaration, -1, "deployer")]);
    let (code, report) = listed(&it);
    assert_eq!(code, 2, "{report}");
    assert_eq!(report["version"], "promotion-gate.dev/emergencies/v1alpha1");
    assert_eq!(report["emergencies"][0]["state"], "overdue");
    assert_eq!(
        report["emergencies"][0]["declaration"],
        declaration.as_str()
    );

    let verdict = [
        "--verdict",
        "unjustified",
        "--reason",
        "a restart was enough",
    ];
    said(&it.by("cleo", "review", &verdict), 0, "read back");
    let (code, report) = listed(&it);
    assert_eq!(code, 0, "{report}");
    let reviewed = &report["emergencies"][0];
    assert_eq!(reviewed["state"], "reviewed");
    assert_eq!(reviewed["verdict"], "unjustified");
    assert_eq!(reviewed["reviewer"], "cleo");
    said(&list(&it, &[]), 0, "reviewed by   cleo: unjustified");

    // It is used again: the review is not one of that.
    let mut again = entry(&it, &declaration, 48, "deployer");
    let mut later = again["emergency"][0].clone();
    later["requester"] = json!("another deployer");
    later["admitted"] = json!((Timestamp::now() + SignedDuration::from_mins(1)).to_string());
    let marks = again["emergency"].as_array_mut().unwrap();
    marks.insert(0, later);
    cluster.holds(&it.digest, &[again]);
    let (code, report) = listed(&it);
    assert_eq!(report["emergencies"].as_array().unwrap().len(), 1);
    assert_eq!(
        (code, &report["emergencies"][0]["state"]),
        (0, &json!("due"))
    );

    // The person who asked the cluster for the change does not review it, whatever identity signs.
    cluster.holds(&it.digest, &[entry(&it, &declaration, -1, "cleo")]);
    let (code, report) = listed(&it);
    assert_eq!(
        (code, &report["emergencies"][0]["state"]),
        (2, &json!("overdue"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_the_gate_did_not_sign_is_not_listed_and_without_a_cluster_there_is_nothing_to_list()
 {
    let it = Emergency::new().await;
    let declaration = declared(&it.declare("ada", &[]));
    let cluster = cluster(&it).await;
    cluster.holds(&it.digest, &[entry(&it, &declaration, -1, "deployer")]);
    let (code, _) = listed(&it);
    assert_eq!(code, 2);
    // The same with a later due time.
    let later = (Timestamp::now() + SignedDuration::from_hours(48)).to_string();
    {
        let mut record = cluster.record.lock().unwrap();
        let entries = &mut record.as_mut().unwrap()["spec"]["entries"];
        let entries = entries.as_object_mut().unwrap();
        for entry in entries.values_mut() {
            entry["emergency"][0]["reviewDue"] = json!(later);
        }
    }
    said(&list(&it, &[]), 0, "no emergency change was used");
    let without = it
        .bench
        .run(&["emergency", "list", "--policy", "policies"], "");
    said(&without, 1, "give `--from-cluster`");
}
