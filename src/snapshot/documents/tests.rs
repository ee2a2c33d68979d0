use serde_json::{Value, json};

use jiff::Timestamp;
use promotion_gate_core::gate::{KeptSigner, MayBe, Snapshot};

use super::super::unreadable::snapshot;
use super::*;
use crate::api::Kind;

/// The documents of a cluster that changes, as one process sees them.
#[derive(Default)]
struct Cluster {
    documents: Documents,
    resources: BTreeMap<ResourceName, Resource>,
    uids: u32,
}

fn name(kind: Kind, name: &str) -> ResourceName {
    let name = name.to_owned();
    ResourceName { kind, name }
}

impl Cluster {
    fn apply(&mut self, kind: Kind, of: &str, spec: Value) -> Settlement {
        self.set(kind, of, spec);
        self.settle()
    }

    fn set(&mut self, kind: Kind, of: &str, spec: Value) {
        self.uids += 1;
        let new = Resource::new(name(kind, of), self.uids.to_string());
        let resource = self.resources.entry(name(kind, of)).or_insert(new);
        resource.generation += 1;
        resource.spec = spec;
    }

    fn delete(&mut self, kind: Kind, of: &str) -> Settlement {
        self.resources.remove(&name(kind, of));
        self.settle()
    }

    fn settle(&mut self) -> Settlement {
        let resources: Vec<_> = self.resources.values().cloned().map(Arc::new).collect();
        self.documents.replace_resources(&resources);
        let config = Config::load(None).unwrap();
        let settled = self.documents.settle(&config, |_| Vec::new());
        assert_eq!(settled.set.problems, []);
        self.documents.accept(&settled, &config);
        settled
    }

    /// Another process that sees the same cluster, with what statuses say.
    fn restarted(&self) -> Cluster {
        Cluster {
            documents: Documents::default(),
            resources: self.resources.clone(),
            uids: self.uids,
        }
    }

    fn files(&mut self, folder: &tempfile::TempDir) -> Settlement {
        let read = PolicyFiles::read(&[folder.path().to_owned()]);
        self.documents.files = Arc::new(read);
        self.settle()
    }
}

/// The policies that count, each with its number of requirements.
fn policies(settled: &Settlement) -> Vec<(&str, usize)> {
    let policies = settled.set.policies.iter();
    policies
        .map(|policy| (policy.name.as_str(), policy.requirements.len()))
        .collect()
}

/// What does not count, and why.
fn refused(settled: &Settlement) -> Vec<(&str, Version, String)> {
    let refused = settled.refused.iter();
    refused
        .map(|(name, (version, why))| (name.name.as_str(), *version, why.join("; ")))
        .collect()
}

fn policy(requirements: usize) -> Value {
    let entries: Vec<_> = (0..requirements)
        .map(|index| json!({"name": index.to_string(), "digestPinned": {}}))
        .collect();
    json!({"requirements": entries})
}

fn typo() -> Value {
    json!({"enforcment": "Audit", "requirements": [{"digestPinned": {}}]})
}

fn person(name: &str, user: &str) -> Value {
    json!({"people": [{"name": name, "identities": [{"kubernetes": {"user": user}}]}]})
}

const POLICY: Kind = Kind::PromotionPolicy;
const PEOPLE: Kind = Kind::PeopleDirectory;

#[test]
fn a_mistyped_resource_keeps_its_last_valid_version_and_blocks_no_other_one() {
    let mut cluster = Cluster::default();
    let settled = cluster.apply(POLICY, "a", policy(1));
    assert_eq!(
        (policies(&settled), refused(&settled).len()),
        (vec![("a", 1)], 0)
    );

    let settled = cluster.apply(POLICY, "a", typo());
    assert_eq!(policies(&settled), [("a", 1)]);
    let [(of, version, why)] = &refused(&settled)[..] else {
        panic!("{:?}", refused(&settled));
    };
    assert_eq!((*of, *version), ("a", Version::LastValid));
    assert_eq!(
        why,
        "PromotionPolicy/a (cluster): spec.enforcment: unknown field `enforcment`, did you mean `enforcement`?"
    );

    let settled = cluster.apply(POLICY, "b", policy(2));
    assert_eq!(policies(&settled), [("a", 1), ("b", 2)]);
    let settled = cluster.apply(POLICY, "a", policy(3));
    assert_eq!(
        (policies(&settled), refused(&settled).len()),
        (vec![("a", 3), ("b", 2)], 0)
    );
    let settled = cluster.delete(POLICY, "b");
    assert_eq!(policies(&settled), [("a", 3)]);
}

#[test]
fn a_resource_that_was_never_valid_is_unreadable() {
    let mut cluster = Cluster::default();
    cluster.set(POLICY, "good", policy(1));
    let settled = cluster.apply(POLICY, "bad", typo());
    assert_eq!(policies(&settled), [("good", 1)]);
    assert_eq!(refused(&settled)[0].1, Version::Unreadable);
}

#[test]
fn after_a_restart_the_last_valid_version_is_that_of_the_status() {
    let mut cluster = Cluster::default();
    cluster.apply(POLICY, "a", policy(2));
    cluster.apply(POLICY, "a", typo());
    let settled = cluster.restarted().settle();
    assert_eq!(
        refused(&settled)[0].1,
        Version::Unreadable,
        "no status was written"
    );

    let status = |last: Value| {
        json!({"observedGeneration": 2, "lastValidSpec": last,
        "conditions": [{"type": "Ready", "status": "False"}]})
    };
    for (last, version, expected) in [
        (policy(2), Version::LastValid, vec![("a", 2)]),
        (typo(), Version::Unreadable, vec![]),
        (json!("forged"), Version::Unreadable, vec![]),
    ] {
        for resource in cluster.resources.values_mut() {
            resource.status = status(last.clone());
        }
        let settled = cluster.restarted().settle();
        assert_eq!(
            (policies(&settled), refused(&settled)[0].1),
            (expected, version),
            "{last}"
        );
    }
}

#[test]
fn a_resource_that_was_created_anew_has_no_earlier_version() {
    let mut cluster = Cluster::default();
    cluster.apply(POLICY, "a", policy(1));
    cluster.resources.clear();
    let settled = cluster.apply(POLICY, "a", typo());
    assert_eq!(refused(&settled)[0].1, Version::Unreadable);
}

#[test]
fn of_directories_that_contradict_each_other_the_change_is_refused() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut cluster = Cluster::default();
        cluster.apply(PEOPLE, first, person("alice", "alice"));
        let settled = cluster.apply(PEOPLE, second, person("bob", "alice"));
        let names: Vec<_> = refused(&settled).iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, [second]);
        let people = settled.set.people.unwrap();
        assert_eq!(people.people()[0].name, "alice");

        let settled = cluster.apply(PEOPLE, second, person("bob", "bob"));
        assert_eq!(refused(&settled), []);
        let settled = cluster.apply(PEOPLE, first, person("alice", "bob"));
        let [(of, version, why)] = &refused(&settled)[..] else {
            panic!("{:?}", refused(&settled));
        };
        assert_eq!((*of, *version), (first, Version::LastValid));
        assert!(why.contains("PeopleDirectory/"), "{why}");
        assert!(!why.contains("(cluster):1"), "no lines: {why}");
    }
}

#[test]
fn a_name_in_a_file_and_in_the_cluster_is_a_problem_of_the_one_that_came_later() {
    const A: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: a}, spec: {requirements: [{digestPinned: {}}]}}";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("other.yaml"),
        A.replace("name: a", "name: other"),
    )
    .unwrap();
    let mut cluster = Cluster::default();
    cluster.files(&folder);
    cluster.apply(POLICY, "a", policy(2));
    std::fs::write(folder.path().join("a.yaml"), A).unwrap();
    let settled = cluster.files(&folder);
    assert_eq!(settled.files, Version::LastValid);
    assert_eq!(policies(&settled), [("other", 1), ("a", 2)]);
    let why = settled.problems.join("; ");
    assert!(
        why.contains("PromotionPolicy/a (cluster)") && why.contains("a.yaml"),
        "{why}"
    );

    let mut cluster = Cluster::default();
    cluster.files(&folder);
    let settled = cluster.apply(POLICY, "a", policy(2));
    assert_eq!(settled.files, Version::Current);
    let [(_, version, why)] = &refused(&settled)[..] else {
        panic!("{:?}", refused(&settled));
    };
    assert_eq!(*version, Version::Unreadable);
    assert!(
        why.contains("another policy has the name `a` too") && why.contains("a.yaml:1"),
        "{why}"
    );
}

#[test]
fn a_thousand_policies_of_which_some_are_mistyped_are_settled_in_a_few_rounds() {
    let mut cluster = Cluster::default();
    for index in 0..1000 {
        let spec = if index % 10 == 0 { typo() } else { policy(1) };
        cluster.set(POLICY, &format!("p{index}"), spec);
    }
    let began = std::time::Instant::now();
    let settled = cluster.settle();
    assert_eq!(
        (settled.set.policies.len(), settled.refused.len()),
        (900, 100)
    );
    assert!(
        began.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_freeze_of_the_cluster_cannot_make_the_gate_send_a_file_of_its_choice() {
    let freeze = |file: &str| {
        json!({"environments": ["production"], "reason": "r",
        "endpoint": {"url": "https://attacker.example/", "tokenFile": file}})
    };
    for (file, version) in [
        (
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            Some(Version::Unreadable),
        ),
        ("../tls/tls.key", Some(Version::Unreadable)),
        ("tokens/itsm", None),
    ] {
        let mut cluster = Cluster::default();
        let settled = cluster.apply(Kind::ChangeFreeze, "itsm", freeze(file));
        let found = refused(&settled).first().map(|(_, version, _)| *version);
        assert_eq!(found, version, "{file}: {:?}", refused(&settled));
    }
}

#[test]
fn a_trust_root_that_is_gone_is_the_fault_of_no_other_change() {
    let rooted = json!({"requirements": [{"digestPinned": {}}, {"signature": {"anyOf": [{"keyless": {
        "issuer": "https://issuer.example", "identity": "a@example.com", "trustRoots": ["ours"]}}]}}]});
    let root = crate::sandbox::Sigstore::create().unwrap();
    let root = json!({"inline": root.trusted_root()});
    let mut cluster = Cluster::default();
    cluster.set(Kind::TrustRoot, "ours", root.clone());
    let settled = cluster.apply(POLICY, "rooted", rooted);
    assert_eq!(refused(&settled), []);
    cluster.set(Kind::TrustRoot, "theirs", root);
    cluster.set(PEOPLE, "all", person("alice", "alice"));
    let settled = cluster.delete(Kind::TrustRoot, "ours");
    let [(of, version, why)] = &refused(&settled)[..] else {
        panic!("{:?}", refused(&settled));
    };
    assert_eq!((*of, *version), ("rooted", Version::LastValid));
    assert!(why.contains("unknown trust root `ours`"), "{why}");
    assert_eq!(policies(&settled), [("rooted", 2)]);
}

#[test]
fn an_incident_check_that_is_gone_is_the_fault_of_no_other_change() {
    let asking = |check: &str| {
        json!({"environment": "production", "requirements": [{"digestPinned": {}}, {"noFreeze": {}}],
        "emergency": {"from": [{"group": "leads", "count": 2}], "incident": {"check": check}, "waives": ["noFreeze"]}})
    };
    let check = json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"});
    let mut cluster = Cluster::default();
    let settled = cluster.apply(POLICY, "asking", asking("pager"));
    let [(of, version, why)] = &refused(&settled)[..] else {
        panic!("{:?}", refused(&settled));
    };
    assert_eq!((*of, *version), ("asking", Version::Unreadable));
    assert!(
        why.contains("there is no `IncidentCheck` with the name `pager`"),
        "{why}"
    );
    let settled = cluster.apply(Kind::IncidentCheck, "pager", check);
    assert_eq!(refused(&settled), []);
    assert!(settled.set.incident_checks.contains_key("pager"));
    let settled = cluster.delete(Kind::IncidentCheck, "pager");
    let [(of, version, _)] = &refused(&settled)[..] else {
        panic!("{:?}", refused(&settled));
    };
    assert_eq!((*of, *version), ("asking", Version::LastValid));
    assert!(settled.set.incident_checks.is_empty());
    assert_eq!(settled.set.policies.len(), 1);
}

fn authors(of: &str) -> Value {
    let digest = promotion_gate_core::gate::Digest::sha256(of.as_bytes()).to_string();
    json!({"digest": digest, "identities": [{"github": {"login": "ada"}}]})
}

#[test]
fn a_resource_that_contradicts_no_other_is_read_once() {
    let read = || crate::api::READ.with_borrow(|read| read.get(&Kind::AuthorRecord).copied());
    let mut cluster = Cluster::default();
    for index in 0..50 {
        let name = index.to_string();
        cluster.set(Kind::AuthorRecord, &name, authors(&name));
    }
    cluster.apply(Kind::PromotionPolicy, "a", policy(1));
    cluster.apply(Kind::PromotionPolicy, "b", policy(2));
    let settled = cluster.apply(Kind::AuthorRecord, "new", authors("new"));
    assert_eq!((settled.set.authors.len(), read()), (51, Some(51)));
    // Nor does a request to change a policy.
    let config = Config::load(None).unwrap();
    let of = name(Kind::PromotionPolicy, "c");
    let wrong = json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": "c"}, "spec": typo()});
    let problems = cluster.documents.problems_with(&of, &wrong, &config);
    assert_eq!((problems.len(), read()), (1, Some(51)));
}

#[test]
fn a_mistyped_record_of_authors_keeps_its_last_valid_version_and_blocks_no_other_one() {
    let mut cluster = Cluster::default();
    cluster.apply(Kind::AuthorRecord, "a", authors("a"));
    let valid = cluster.settle().set.revision;
    let settled = cluster.apply(Kind::AuthorRecord, "a", json!({"digest": "sha256:a"}));
    assert_eq!(settled.set.authors.len(), 1);
    let [(_, version, why)] = &refused(&settled)[..] else {
        panic!("{:?}", refused(&settled));
    };
    assert_eq!(*version, Version::LastValid, "{why}");
    assert_eq!(settled.set.revision, valid);
    let last = cluster.documents.last_valid(&name(Kind::AuthorRecord, "a"));
    assert_eq!(last, Some(authors("a")));
    let never = cluster.apply(Kind::AuthorRecord, "b", json!({"digest": 1}));
    assert_eq!(refused(&never)[1].1, Version::Unreadable);
    assert_eq!(never.set.authors.len(), 1);
}

#[test]
fn what_is_kept_about_a_digest_counts_although_the_rest_cannot_be_read() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let with = |kind: Kind, spec: Value| {
        let mut cluster = Cluster::default();
        let settled = cluster.apply(kind, "typo", spec);
        let [(_, version, _)] = &refused(&settled)[..] else {
            panic!("{:?}", refused(&settled));
        };
        assert_eq!(*version, Version::Unreadable);
        let rest = Snapshot::default();
        let now = Timestamp::UNIX_EPOCH;
        let world = snapshot(settled, &cluster.documents, rest, &Default::default(), now).world;
        (world.revocations, world.unreadable_kept)
    };
    let one: promotion_gate_core::gate::Digest = digest.parse().unwrap();
    let (revoked, _) = with(
        Kind::Revocation,
        json!({"digest": digest, "reason": "stolen key", "untill": "x"}),
    );
    assert_eq!(revoked[&one].reason, "stolen key");
    let (revoked, _) = with(Kind::Revocation, json!({"digest": digest, "reason": " "}));
    assert!(
        revoked[&one].reason.contains("it cannot be read"),
        "{revoked:?}"
    );
    let (_, kept) = with(
        Kind::Rejection,
        json!({"digest": digest, "environment": "production", "persn": "ada"}),
    );
    let rejects = MayBe::Rejection(Some("production".to_owned()));
    assert_eq!(kept[&one][0].may_be, rejects);
    let (_, kept) = with(
        Kind::AuthorRecord,
        json!({"digest": digest, "identities": []}),
    );
    assert_eq!(kept[&one][0].may_be, MayBe::Authors);
    let key = format!("sha256:{}", "b".repeat(64));
    for (signer, read) in [
        (
            json!({"key": key}),
            Some(KeptSigner::Key(key.parse().unwrap())),
        ),
        (json!({"key": "x"}), None),
    ] {
        let spec = json!({"digest": digest, "signer": signer, "statements": []});
        let (_, kept) = with(Kind::VexRecord, spec);
        assert_eq!(kept[&one][0].may_be, MayBe::Vex(read));
    }
    // Without a digest it says nothing.
    let (revoked, _) = with(
        Kind::Revocation,
        json!({"digest": "sha256:a", "reason": "x"}),
    );
    assert!(revoked.is_empty());
}

#[test]
fn a_deletion_says_what_other_documents_lack_after_it() {
    let approvals = json!({"environment": "production", "requirements": [{"digestPinned": {}}, {"approvals": {
        "from": [{"group": "leads"}], "differentFromAuthor": false}}]});
    let group = json!({
        "people": [{"name": "alice", "identities": [{"kubernetes": {"user": "alice"}}]}],
        "groups": [{"name": "leads", "members": ["alice"]}],
    });
    let mut cluster = Cluster::default();
    cluster.set(PEOPLE, "leads", group);
    cluster.set(PEOPLE, "others", person("bob", "bob"));
    let settled = cluster.apply(POLICY, "approved", approvals);
    assert_eq!(refused(&settled), []);
    let config = Config::load(None).unwrap();
    let without = |kind, of: &str| cluster.documents.lacking_without(&name(kind, of), &config);
    let lacking = without(PEOPLE, "leads");
    let [one] = &lacking[..] else {
        panic!("{lacking:?}");
    };
    assert!(
        one.contains("PromotionPolicy/approved") && one.contains("leads"),
        "{one}"
    );
    assert_eq!(without(PEOPLE, "others"), [] as [&str; 0]);
    assert_eq!(without(POLICY, "approved"), [] as [&str; 0]);
}
