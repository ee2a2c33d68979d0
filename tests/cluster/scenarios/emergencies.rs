//! Emergency changes: what passes, what is owed for it, and what happens until it is reviewed.

use std::collections::BTreeMap;
use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, Image, Person, Scenario, Shop};
use crate::support::{Address, HttpServer, Ran, Tagged, until};

const ENVIRONMENT: &str = "on-call";
/// How long after its use a review is due.
const REVIEW_WITHIN: SignedDuration = SignedDuration::from_secs(100);
const RECORDS: &str = "emergencychangerecords";

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        alone: true,
        ..scenario(
            18,
            "an emergency change passes a freeze with two people and a live incident, and leaves a debt that its review closes and that blocks the next one when it is overdue",
            an_emergency_change_is_owed_for,
        )
    }]
}

/// A shop on call: people with keys, and an incident tracker.
struct OnCall<'a> {
    shop: Shop<'a>,
    kubeconfig: String,
    _tracker: HttpServer,
}

fn an_emergency_change_is_owed_for(cluster: &Cluster) {
    let on_call = OnCall::start(cluster);
    let shop = &on_call.shop;
    let first = shop.push_signed("first").by_digest();
    let mends = shop.push_signed("mends");
    on_call.deploy(&first).ok();
    shop.runs("web", 2);
    shop.freeze_with(ENVIRONMENT, &json!({"rollback": true, "emergency": true}));
    on_call.it_takes_two_people_and_a_live_incident(&mends);
    let declaration = on_call.it_passes_and_leaves_a_debt(&mends);
    on_call.another_freeze_holds(&declaration);
    on_call.it_runs_on_after_it_has_ended(&declaration);
    on_call.a_rollback_to_it_does_not_count(&first, &mends);
    let next = on_call.an_overdue_review_blocks_the_next_one(&declaration);
    on_call.the_review_of_a_person_who_agreed_closes_nothing(&mends, &declaration);
    on_call.its_review_closes_it(&mends, &declaration);
    on_call.deploy_when_it_may_pass(&next);
    on_call.a_record_that_a_person_deletes_is_restored(&declaration);
    on_call.a_governor_lifts_a_review();
    on_call.what_becomes_of_each_kind_of_workload_is_recorded();
    shop.upkeep_was_never_denied();
}

impl OnCall<'_> {
    fn start(cluster: &Cluster) -> OnCall<'_> {
        let shop = Shop::ungoverned(cluster, "on-call");
        let gate = &cluster.gates.gate;
        let signing = cluster.sigstore.signing_config();
        fs::copy(signing, gate.path("signing.json")).unwrap();
        let key = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            gate.write(&format!("{name}.key"), &key.serialize_pem());
            json!({"key": {"pem": key.public_key_pem()}})
        };
        let people = json!([
            {"name": "ben-on-call", "identities": [key("ben"), key("ben-at-home")]},
            {"name": "cleo-on-call", "identities": [key("cleo")]},
            {"name": "eve-on-call", "identities": [key("eve")]},
        ]);
        let directory = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PeopleDirectory",
            "metadata": {"name": "on-call"}, "spec": {"people": people},
        });
        shop.apply(Person::Grace, &directory).ok();
        let address = Address::free();
        let tracker = HttpServer::start(address, move |path| {
            let is_open = match path {
                "/incidents/INC1" => true,
                "/incidents/INC2" => false,
                _ => return None,
            };
            let (_, id) = path.rsplit_once('/')?;
            Some(json!({"id": id, "open": is_open, "severity": "P1"}))
        });
        let check = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "IncidentCheck",
            "metadata": {"name": "on-call"},
            "spec": {
                "request": {"url": format!("http://{address}/incidents/{{id}}")},
                "ids": ["INC*"],
                "expression": "body.id != id ? null : {'open': body.open, 'severity': body.severity}",
                "auth": {"secretKey": "on-call", "header": "X-Api-Key"},
            },
        });
        shop.apply(Person::Grace, &check).ok();
        let kubeconfig = cluster.plane.kubeconfig("on-call", Person::Admin.token());
        let on_call = OnCall {
            shop,
            kubeconfig: kubeconfig.display().to_string(),
            _tracker: tracker,
        };
        on_call.shop.govern(
            &[json!({"noFreeze": {}})],
            &json!({
                "environment": ENVIRONMENT,
                "emergency": {
                    "from": [{"person": "ben-on-call"}, {"person": "cleo-on-call"}],
                    "incident": {"check": "on-call", "minimumSeverity": "P2"},
                    "waives": ["noFreeze"],
                    "trustRoots": ["local"], "transparency": "Timestamp",
                    "reviewWithin": format!("{}s", REVIEW_WITHIN.as_secs()),
                    "blockOnOverdueReview": true,
                },
            }),
        );
        on_call
    }

    fn deploy(&self, image: &Image) -> Ran {
        let deployment = self.shop.deployment("web", image, 2);
        self.shop.apply(Person::Alice, &deployment)
    }

    /// Runs `promotion-gate emergency` as the person with this key.
    fn emergency(&self, verb: &str, image: &Image, who: &str, more: &[&str]) -> Ran {
        let key = format!("{who}.key");
        let about = ["emergency", verb, image, "--environment", ENVIRONMENT];
        let from = ["--from-cluster", "--kubeconfig", &self.kubeconfig];
        let place = ["--config", "gate.yaml", "--namespace", &self.shop.name];
        let signer = ["--signing-config", "signing.json", "--yes", "--key", &key];
        let args = [&about[..], &from, &place, &signer, more].concat();
        self.shop.cluster.gates.gate.run_with(&args, "", &[])
    }

    fn declare(&self, image: &Image, incident: &str, valid: &str) -> String {
        let said = [
            "--incident",
            incident,
            "--reason",
            "mends it",
            "--valid",
            valid,
            "--anyway",
        ];
        let shown = self.emergency("declare", image, "ben", &said).ok();
        let mut lines = shown.lines();
        let declared = lines.find_map(|line| line.strip_prefix("declared as "));
        declared.unwrap_or_else(|| panic!("{shown}")).to_owned()
    }

    fn agree(&self, image: &Image, declaration: &str) {
        let said = ["--declaration", declaration, "--anyway"];
        self.emergency("approve", image, "cleo", &said).ok();
    }

    fn review(&self, image: &Image, declaration: &str, who: &str, more: &[&str]) -> Ran {
        let said = [
            "--declaration",
            declaration,
            "--verdict",
            "justified",
            "--reason",
            "it was",
        ];
        self.emergency("review", image, who, &[&said, more].concat())
    }

    /// The record of a declaration, once it holds.
    fn record(&self, declaration: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the record of {declaration}: {what}"), || {
            let records = self.shop.cluster.get([RECORDS]);
            let records = records["items"].as_array().unwrap();
            let own = |record: &&Value| record["spec"]["declaration"] == declaration;
            records.iter().find(own).filter(|it| holds(it)).cloned()
        })
    }

    fn is(&self, declaration: &str, state: &str) -> Value {
        self.record(declaration, state, |record| {
            record["status"]["state"] == state
        })
    }

    fn it_takes_two_people_and_a_live_incident(&self, mends: &Tagged) {
        let image = mends.by_digest();
        let refused = |expected: &str| {
            let refusal = self.deploy(&image).refused();
            assert!(refusal.contains(expected), "{expected}: {refusal}");
        };
        refused("[frozen]");
        // One person alone, and the same person by another identity.
        let declaration = self.declare(&image, "INC2", "1h");
        refused("[emergency-not-agreed]");
        let said = ["--declaration", &declaration, "--anyway"];
        self.emergency("approve", &image, "ben-at-home", &said).ok();
        refused("[emergency-not-agreed]");
        self.agree(&image, &declaration);
        // The credential of the tracker is in a Secret that is not there yet.
        refused("[emergency-incident-unknown]");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "promotion-gate-incident-checks", "namespace": "promotion-gate"},
            "stringData": {"on-call": "key"},
        });
        self.shop.apply(Person::Admin, &secret).ok();
        refused("[emergency-incident]");
        let close = [
            "--declaration",
            &*declaration,
            "--reason",
            "another one follows",
        ];
        self.emergency("close", &image, "ben", &close).ok();
        assert_eq!(self.shop.cluster.get([RECORDS])["items"], json!([]));
    }

    fn deploy_when_it_may_pass(&self, image: &Image) -> Ran {
        let deployed = until("the emergency change lets the image pass", || {
            let deployed = self.deploy(image);
            deployed.is_ok().then_some(deployed)
        });
        self.shop.runs("web", 2);
        deployed
    }

    fn it_passes_and_leaves_a_debt(&self, mends: &Tagged) -> String {
        let image = mends.by_digest();
        let declaration = self.declare(&image, "INC1", "60s");
        self.agree(&image, &declaration);
        let warned = self.deploy_when_it_may_pass(&image).stderr;
        assert!(warned.contains("review due"), "{warned}");
        let record = self.record(&declaration, "the change is ready", |record| {
            record["status"]["outcome"] == "ready"
        });
        let spec = &record["spec"];
        assert_eq!(spec["declaredBy"], json!(["ben-on-call"]));
        assert_eq!(spec["approvedBy"], json!(["cleo-on-call"]));
        assert_eq!(spec["requesters"], json!([Person::Alice.name()]));
        assert_eq!(spec["incident"], json!({"id": "INC1", "state": "verified"}));
        assert_eq!(spec["uses"][0]["image"], json!(image));
        assert_eq!(spec["uses"].as_array().unwrap().len(), 1);
        declaration
    }

    /// Every freeze that lasts has to let emergency changes pass.
    fn another_freeze_holds(&self, declaration: &str) {
        let strict = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ChangeFreeze",
            "metadata": {"name": "on-call-strict"},
            "spec": {
                "environments": [ENVIRONMENT], "reason": "Audit", "mayPass": {"rollback": true, "emergency": false},
                "windows": [{"from": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}],
            },
        });
        self.shop.apply(Person::Grace, &strict).ok();
        let gates = &self.shop.cluster.gates;
        let probe = self.shop.pod("probe", &"probe:1".to_owned());
        let mut probe = self.shop.review(Person::Alice.name(), &probe);
        probe["request"]["dryRun"] = json!(true);
        for replica in gates.numbers() {
            until("every replica knows of the strict freeze", || {
                let answer = gates.ask(replica, &probe).to_string();
                answer.contains("on-call-strict").then_some(())
            });
        }
        let again = self.shop.push_signed("again").by_digest();
        let second = self.declare(&again, "INC1", "10m");
        self.agree(&again, &second);
        let refusal = self.deploy(&again).refused();
        let half =
            "the policy lets emergency changes pass, and the freeze `on-call-strict` does not";
        assert!(refusal.contains(half), "{refusal}");
        let delete = ["delete", "changefreeze", "on-call-strict"];
        self.shop.kubectl(Person::Grace, delete).ok();
        assert!(self.is_owed(declaration));
    }

    fn what_becomes_of_each_kind_of_workload_is_recorded(&self) {
        let shop = &self.shop;
        let image = shop.push_signed("each").by_digest();
        let declaration = self.declare(&image, "INC1", "30m");
        self.agree(&image, &declaration);
        let with_fate = |mut object: Value, fate: &str| {
            object["spec"]["template"]["metadata"]["labels"]["fate"] = json!(fate);
            object
        };
        let mut fails = with_fate(shop.job("fails", &image), "fails");
        fails["spec"]["backoffLimit"] = json!(0);
        let mut rollout = shop.workload("Rollout", "canary", &image);
        rollout["apiVersion"] = json!("argoproj.io/v1alpha1");
        rollout["spec"]["replicas"] = json!(1);
        rollout["spec"]["strategy"] = json!({"canary": {}});
        let crashes = shop.deployment("crashes", &image, 1);
        let each = [
            (shop.workload("StatefulSet", "set", &image), "ready"),
            (shop.workload("DaemonSet", "agent", &image), "ready"),
            (shop.job("done", &image), "ready"),
            (fails, "failed"),
            (rollout, "ready"),
            (with_fate(crashes, "crashes"), "failed"),
        ];
        for (object, _) in &each {
            shop.apply(Person::Alice, object).ok();
        }
        let expected: BTreeMap<_, _> = each
            .iter()
            .map(|(object, outcome)| {
                let kind = object["kind"].as_str().unwrap();
                let name = object["metadata"]["name"].as_str().unwrap();
                let shown = format!("{kind} {}/{name}", shop.name);
                (shown, (*outcome).to_owned())
            })
            .collect();
        let record = self.record(&declaration, "every outcome is known", |record| {
            let outcomes = record["status"]["outcomes"].as_array();
            let text = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
            let outcomes = outcomes.into_iter().flatten();
            let known: BTreeMap<_, _> = outcomes
                .map(|it| (text(it, "workload"), text(it, "outcome")))
                .collect();
            known == expected
        });
        assert_eq!(record["status"]["outcome"], "failed");
    }

    fn is_owed(&self, declaration: &str) -> bool {
        let record = self.record(declaration, "is there", |_| true);
        let state = record["status"]["state"].as_str().unwrap_or("open");
        ["open", "due", "overdue"].contains(&state)
    }

    /// Its Pods are replaced and moved to other nodes, and all replicas of the gate start again.
    fn it_runs_on_after_it_has_ended(&self, declaration: &str) {
        let record = self.record(declaration, "has ended", |record| {
            ["due", "overdue"]
                .map(|it| json!(it))
                .contains(&record["status"]["state"])
        });
        let ended: Timestamp = record["spec"]["expires"].as_str().unwrap().parse().unwrap();
        assert!(ended <= Timestamp::now());
        let drain = [
            "drain",
            "node-1",
            "--ignore-daemonsets",
            "--force",
            "--grace-period=0",
        ];
        let cluster = self.shop.cluster;
        cluster.kubectl(Person::Admin, drain).ok();
        self.shop
            .replaces_pods("web", 2, "after the emergency change has ended");
        cluster.kubectl(Person::Admin, ["uncordon", "node-1"]).ok();
        cluster.gates.restart_all();
        self.shop
            .replaces_pods("web", 2, "after the gate has started again");
        assert!(self.is_owed(declaration));
    }

    fn a_rollback_to_it_does_not_count(&self, first: &Image, mends: &Tagged) {
        self.deploy(first).ok();
        self.shop.runs("web", 2);
        let refusal = self.deploy(&mends.by_digest()).refused();
        assert!(refusal.contains("[frozen]"), "{refusal}");
    }

    fn an_overdue_review_blocks_the_next_one(&self, declaration: &str) -> Image {
        self.is(declaration, "overdue");
        self.record(declaration, "it was rolled back", |record| {
            record["status"]["outcome"] == "rolledBack"
        });
        let next = self.shop.push_signed("next").by_digest();
        let second = self.declare(&next, "INC1", "30m");
        self.agree(&next, &second);
        let refusal = self.deploy(&next).refused();
        let short = &declaration[.."sha256:".len() + 12];
        assert!(
            refusal.contains("[emergency-review-overdue]") && refusal.contains(short),
            "{refusal}"
        );
        assert!(
            refusal.contains("promotion-gate emergency review"),
            "{refusal}"
        );
        let alarms = self.alarms("emergency-review-overdue");
        assert_eq!(alarms.len(), 1, "{alarms:#?}");
        self.tells_on_the_record(declaration, "EmergencyChangeUsed");
        self.tells_on_the_record(declaration, "ReviewOverdue");
        next
    }

    /// `kubectl describe` shows the Event on the record of the declaration.
    fn tells_on_the_record(&self, declaration: &str, reason: &str) {
        let record = self.record(declaration, "is there", |_| true);
        let name = record["metadata"]["name"].as_str().unwrap();
        until(&format!("{reason} is told on the record"), || {
            let describe = ["describe", RECORDS, name];
            let shown = self.shop.cluster.kubectl(Person::Admin, describe).ok();
            shown.contains(reason).then_some(())
        });
    }

    fn alarms(&self, reason: &str) -> Vec<Value> {
        let lines = self.shop.cluster.gates.log_lines(reason).into_iter();
        lines.filter(|line| line["alarm"] == reason).collect()
    }

    fn the_review_of_a_person_who_agreed_closes_nothing(&self, mends: &Tagged, declaration: &str) {
        let image = mends.by_digest();
        let refused = self.review(&image, declaration, "ben-at-home", &[]);
        assert!(!refused.is_ok(), "{refused}");
        self.review(&image, declaration, "ben-at-home", &["--anyway"])
            .ok();
        // Reviews are looked for every 5 minutes, and at once by a replica that starts.
        self.shop.cluster.gates.restart_all();
        let record = self.record(declaration, "says why a review does not count", |record| {
            let refused = record["status"]["refusedReviews"].as_array();
            refused.is_some_and(|refused| !refused.is_empty())
        });
        let why = record["status"]["refusedReviews"][0].as_str().unwrap();
        assert!(why.contains("`ben-on-call` declared"), "{why}");
        assert_eq!(record["status"]["state"], "overdue");
    }

    fn its_review_closes_it(&self, mends: &Tagged, declaration: &str) {
        let image = mends.by_digest();
        self.review(&image, declaration, "eve", &["--follow-up", "add a test"])
            .ok();
        self.shop.cluster.gates.restart_all();
        let record = self.is(declaration, "reviewed");
        let review = &record["status"]["review"];
        assert_eq!(review["verdict"], "justified");
        assert_eq!(review["reviewer"], "eve-on-call");
        assert_eq!(review["followUps"], json!(["add a test"]));
        self.tells_on_the_record(declaration, "Reviewed");
    }

    fn a_record_that_a_person_deletes_is_restored(&self, declaration: &str) {
        let record = self.is(declaration, "reviewed");
        let name = record["metadata"]["name"].as_str().unwrap();
        let cluster = self.shop.cluster;
        let bob = |args: &[&str]| {
            let args = args.iter().copied();
            cluster.kubectl(Person::Bob, args).refused()
        };
        let spec = json!({"spec": {"reviewDue": "2100-01-01T00:00:00Z"}}).to_string();
        let status = json!({"status": {"state": "reviewed"}}).to_string();
        for refusal in [
            bob(&["patch", RECORDS, name, "--type=merge", "-p", &spec]),
            bob(&[
                "patch",
                RECORDS,
                name,
                "--type=merge",
                "--subresource=status",
                "-p",
                &status,
            ]),
            bob(&["delete", RECORDS, name]),
        ] {
            assert!(refusal.contains(Person::Bob.name()), "{refusal}");
        }
        // While no webhook is asked, nothing refuses the deletion.
        cluster.unregister();
        until("the record can be deleted", || {
            cluster
                .kubectl(Person::Bob, ["delete", RECORDS, name])
                .is_ok()
                .then_some(())
        });
        let restored = self.is(declaration, "reviewed");
        assert_ne!(restored["metadata"]["uid"], record["metadata"]["uid"]);
        assert_eq!(restored["spec"], record["spec"]);
        assert_eq!(restored["status"]["review"], record["status"]["review"]);
        assert_eq!(self.alarms("emergency-record-deleted").len(), 1);
        cluster.register();
    }

    fn a_governor_lifts_a_review(&self) {
        let records = self.shop.cluster.get([RECORDS]);
        let records = records["items"].as_array().unwrap();
        let owed = |record: &&Value| record["status"]["review"].is_null();
        let record = records.iter().find(owed).unwrap();
        let (name, declaration) = (&record["metadata"]["name"], &record["spec"]["declaration"]);
        let (name, declaration) = (name.as_str().unwrap(), declaration.as_str().unwrap());
        let cluster = self.shop.cluster;
        until("the webhook is asked again", || {
            let delete = ["delete", RECORDS, name, "--dry-run=server"];
            let asked = cluster.kubectl(Person::Bob, delete);
            (!asked.is_ok()).then_some(())
        });
        cluster
            .kubectl(Person::Grace, ["delete", RECORDS, name])
            .ok();
        let lifted = self.is(declaration, "lifted");
        assert_eq!(lifted["status"]["lifted"]["by"], Person::Grace.name());
        self.tells_on_the_record(declaration, "Lifted");
        assert_eq!(self.alarms("emergency-record-deleted").len(), 1);
    }
}
