use promotion_gate_core::attest::TrustRoot;
use promotion_gate_core::gate::{
    Actor, Change, ChangeEffect, ChangedObject, Collected, Enforcement, Evidence, ImageUse,
    Injected, Operation, Parent, Pin, Role, Snapshot, Unavailability, Workload, judge,
};

use super::super::key::SigningKey;
use super::super::memory::{Memory, RecordName};
use super::super::writing::replacing;
use super::*;
use crate::api;

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn workload(name: &str) -> Workload {
    Workload {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
    }
}

fn change(images: &[&str]) -> Change {
    let image = |written: &&str| ImageUse {
        field: "spec".to_owned(),
        role: Role::Container,
        reference: written.parse().unwrap(),
    };
    Change {
        id: "1".to_owned(),
        operation: Operation::Create,
        effect: ChangeEffect::Runs,
        workload: workload("web"),
        actor: Some(Actor::default()),
        dry_run: false,
        object: ChangedObject {
            uid: Some("7".to_owned()),
            template: Some(Digest::sha256(b"v1")),
            ..ChangedObject::default()
        },
        images: images.iter().map(image).collect(),
        unreadable: Vec::new(),
    }
}

/// A snapshot with one policy that requires digests.
fn pinned(enforcement: Enforcement) -> Snapshot {
    let policy = serde_json::json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "PromotionPolicy",
        "metadata": {"name": "pinned"},
        "spec": {
            "environment": "production",
            "enforcement": format!("{enforcement:?}"),
            "requirements": [{"digestPinned": {}}],
        },
    });
    let file = ("policy.yaml".to_owned(), policy.to_string().into_bytes());
    let set = api::load(&[file], &Default::default());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    Snapshot {
        policies: set.policies,
        ..Snapshot::default()
    }
}

fn review(change: Change, pins: Vec<Pin>, snapshot: &Snapshot) -> Review {
    let records = Collected::Unavailable(Unavailability::default());
    let promotion = Promotion::new(change, pins, records, &[], Timestamp::UNIX_EPOCH);
    let evidence = Evidence::default();
    let verdict = judge(
        &promotion,
        &evidence,
        &snapshot.governing(&promotion.change),
    );
    Review {
        promotion,
        evidence,
        verdict,
    }
}

fn by_digest() -> (String, Pin) {
    let image = format!("registry.example/app@{DIGEST}");
    (image, Pin::Written(DIGEST.parse().unwrap()))
}

#[test]
fn an_admitted_deploy_is_recorded_with_why_it_was_admitted() {
    let (image, pin) = by_digest();
    let recorded = |change: Change, pin: Pin, snapshot: &Snapshot| {
        let review = review(change, vec![pin], snapshot);
        entries(&review, snapshot)
    };
    let enforced = recorded(
        change(&[&image]),
        pin.clone(),
        &pinned(Enforcement::Enforce),
    );
    let [only] = enforced.as_slice() else {
        panic!("{enforced:?}");
    };
    assert_eq!(only.subject.name(), DIGEST.replace(':', "-"));
    assert_eq!(only.namespace.as_deref(), Some("shop"));
    let entry = &only.entry;
    assert_eq!(entry.by, WrittenBy::Policy);
    assert_eq!(entry.complied, ["pinned".to_owned()].into());
    assert!(entry.environments.is_empty(), "nothing that takes time");
    assert_eq!(entry.state, EntryState::Pending);
    assert_eq!(entry.runs, EntryRuns::Running);

    let ungoverned = recorded(change(&[&image]), pin.clone(), &Snapshot::default());
    assert_eq!(ungoverned[0].entry.by, WrittenBy::Ungoverned);
    assert!(ungoverned[0].entry.complied.is_empty());

    let audited = recorded(
        change(&["registry.example/app:v1"]),
        Pin::NotNeeded,
        &pinned(Enforcement::Audit),
    );
    assert_eq!(audited.len(), 1);
    assert!(audited[0].subject.name().starts_with("ref-"));
    assert_eq!(audited[0].entry.by, WrittenBy::Audit);
    assert!(audited[0].entry.environments.is_empty());

    let mut staged = change(&[&image]);
    staged.object.is_staged = true;
    let staged = recorded(staged, pin.clone(), &Snapshot::default());
    assert_eq!(staged[0].entry.runs, EntryRuns::Staged);
    let mut dry = change(&[&image]);
    dry.dry_run = true;
    assert!(recorded(dry, pin, &Snapshot::default()).is_empty());
}

#[test]
fn a_resolved_tag_is_recorded_by_reference_and_by_digest() {
    let resolved = Pin::Resolved(Collected::Known(DIGEST.parse().unwrap()));
    let change = change(&["registry.example/app:v1", "registry.example/app:v1"]);
    let pins = vec![resolved.clone(), resolved];
    let snapshot = Snapshot::default();
    let entries = entries(&review(change, pins, &snapshot), &snapshot);
    assert_eq!(entries.len(), 2, "the same image twice is recorded once");
    assert_eq!(entries[0].entry.digest.as_deref(), Some(DIGEST));
    assert_eq!(entries[1].entry.digest, None);
}

#[test]
fn an_environment_is_that_of_a_policy_that_requires_approvals() {
    let policy = |name: &str, requirement: serde_json::Value| {
        let policy = serde_json::json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": name},
            "spec": {"environment": "production", "requirements": [{"digestPinned": {}}, requirement]},
        });
        (format!("{name}.yaml"), policy.to_string().into_bytes())
    };
    let approvals = serde_json::json!({"approvals": {
        "from": [{"person": "alice"}], "differentFromAuthor": false, "trustRoots": ["sigstore"],
    }});
    let images = serde_json::json!({"allowedImages": {"patterns": ["**"]}});
    let files = [policy("approved", approvals), policy("images", images)];
    let root = TrustRoot::public_good().unwrap();
    let roots = BTreeMap::from([("sigstore".to_owned(), Arc::new(root))]);
    let set = api::load(&files, &roots);
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    let policies = set.policies;
    let of = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned());
        environments(&names.collect(), &policies)
    };
    assert_eq!(of(&["approved"]), ["production".to_owned()].into());
    assert!(of(&["images"]).is_empty());
}

#[test]
fn the_ages_of_scans_are_judged_by_the_policies_that_bound_them_and_allowed_the_change() {
    let policy = |name: &str, requirement: serde_json::Value| {
        let policy = serde_json::json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": name},
            "spec": {"requirements": [{"digestPinned": {}}, {"vulnerabilities": requirement}]},
        });
        (format!("{name}.yaml"), policy.to_string().into_bytes())
    };
    let signed_by = serde_json::json!({"keyless": {"issuer": "https://issuer.example", "identity": "scan@example.com"}});
    let bounded =
        serde_json::json!({"maximumSeverity": "Low", "signedBy": signed_by, "maximumAge": "1d"});
    let of_database = serde_json::json!({
        "maximumSeverity": "Low", "signedBy": signed_by, "maximumDatabaseAge": "1d",
    });
    let files = [
        policy("bounded", bounded),
        policy("of-database", of_database),
        policy(
            "unbounded",
            serde_json::json!({"maximumSeverity": "Low", "signedBy": signed_by}),
        ),
    ];
    let root = TrustRoot::public_good().unwrap();
    let roots = BTreeMap::from([("sigstore".to_owned(), Arc::new(root))]);
    let set = api::load(&files, &roots);
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    let (image, pin) = by_digest();
    let review = review(change(&[&image]), vec![pin], &Snapshot::default());
    let of = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let judged = ages_judged(&names, &set.policies, &review.promotion);
        let ages = judged.into_iter().flat_map(Policy::bounded_scan_ages);
        ages.collect::<Vec<_>>()
    };
    let all = ["bounded", "of-database", "unbounded"];
    assert_eq!(of(&all), ["bounded", "of-database (database)"]);
    assert!(of(&["unbounded"]).is_empty(), "the others did not allow it");
}

#[test]
fn ages_that_were_judged_now_are_written_beside_what_is_known() {
    let known = kept(&written(1, EntryState::Observed));
    let judged_by = |policy: &str| WrittenEntry {
        ages_judged: [policy.to_owned()].into(),
        ..written(2, EntryState::Pending)
    };
    let scanned = new(&judged_by("scanned"));
    assert!(!is_known(Some(&known), &scanned));
    let replaced = replacing_known(Some(&known), &scanned);
    assert_eq!(replaced.state, EntryState::Observed);
    let known = kept(&replaced);
    assert!(is_known(Some(&known), &scanned));
    let both = replacing_known(Some(&known), &new(&judged_by("another"))).ages_judged;
    assert_eq!(both, ["another".to_owned(), "scanned".to_owned()].into());
}

#[test]
fn upkeep_is_not_recorded() {
    let (image, pin) = by_digest();
    let mut of_controller = change(&[&image]);
    of_controller.workload.group = String::new();
    of_controller.workload.kind = "Pod".to_owned();
    of_controller.actor = Some(Actor {
        username: "system:serviceaccount:kube-system:replicaset-controller".to_owned(),
        groups: Vec::new(),
    });
    let snapshot = Snapshot::default();
    let review = review(of_controller, vec![pin], &snapshot);
    assert!(entries(&review, &snapshot).is_empty());
}

fn written(at: i64, state: EntryState) -> WrittenEntry {
    WrittenEntry {
        workload: WrittenWorkload::new(&workload("web"), Some(&"7".to_owned())),
        template: Digest::sha256(b"v1").to_string(),
        state,
        runs: EntryRuns::Running,
        by: WrittenBy::Policy,
        complied: ["pinned".to_owned()].into(),
        environments: BTreeSet::new(),
        ages_judged: BTreeSet::new(),
        source: None,
        digest: None,
        emergency: Vec::new(),
        at: Timestamp::from_second(at).unwrap(),
        observed_at: None,
        decision: at.to_string(),
        revision: "r".to_owned(),
    }
}

fn kept(written: &WrittenEntry) -> KeptEntry {
    KeptEntry {
        entry: Arc::new(written.parse(None).unwrap()),
        digest: None,
        has_emergency: !written.emergency.is_empty(),
        written: serde_json::to_string(written).unwrap().into(),
    }
}

/// What is to be recorded of a workload that leaves no other template.
fn new(entry: &WrittenEntry) -> NewEntry {
    let subject = RecordSubject::Digest(Digest::sha256(b"image"));
    NewEntry::new(subject, Some("shop".to_owned()), entry.clone())
}

#[test]
fn an_entry_that_says_nothing_new_is_not_written() {
    let pending = kept(&written(1, EntryState::Pending));
    let again = written(2, EntryState::Pending);
    assert!(is_known(Some(&pending), &new(&again)));
    assert!(!is_known(None, &new(&again)));
    let mut other = again.clone();
    other.workload.name = "another-pod".to_owned();
    let other = new(&other);
    assert!(
        !is_known(Some(&pending), &other),
        "the first may never come"
    );
    let observed = kept(&written(1, EntryState::Observed));
    assert!(is_known(Some(&observed), &other));
}

#[test]
fn what_returns_from_another_template_runs_anew_and_ran_before_until_the_same_time() {
    let time = |second| Timestamp::from_second(second).unwrap();
    let first = WrittenEntry {
        observed_at: Some(time(2)),
        ..written(1, EntryState::Observed)
    };
    let again = NewEntry {
        leaves_another: true,
        ..new(&written(50, EntryState::Pending))
    };
    assert!(!is_known(Some(&kept(&first)), &again));
    let entry = replacing_known(Some(&kept(&first)), &again);
    assert_eq!(
        entry.state,
        EntryState::Observed,
        "its Pods can be replaced"
    );
    assert_eq!((entry.at, entry.observed_at), (time(1), Some(time(50))));
    assert!(is_known(Some(&kept(&entry)), &again), "it is written once");
    let pending = written(1, EntryState::Pending);
    assert!(
        is_known(Some(&kept(&pending)), &again),
        "it has not run yet"
    );
}

#[test]
fn a_request_that_was_never_stored_changes_nothing_of_what_was_seen() {
    let (image, pin) = by_digest();
    let key = |is_staged: bool, enforcement| {
        let mut change = change(&[&image]);
        change.object.is_staged = is_staged;
        let snapshot = pinned(enforcement);
        let review = review(change, vec![pin.clone()], &snapshot);
        entries(&review, &snapshot).remove(0).key
    };
    let seen = key(true, Enforcement::Enforce);
    assert_eq!(key(true, Enforcement::Audit), seen, "it says the same");
    assert_ne!(key(false, Enforcement::Enforce), seen, "it would run");
}

#[test]
fn entries_of_vanished_objects_go_first_then_pending_ones_then_the_oldest() {
    let entry = |at: i64, state, name: &str| {
        let mut written = written(at, state);
        written.workload.name = name.to_owned();
        kept(&written)
    };
    let now = Timestamp::from_second(10_000).unwrap();
    let mut entries: BTreeMap<_, _> = (0..98)
        .map(|number| {
            let of = entry(2000 + number, EntryState::Observed, "web");
            (format!("observed-{number:02}"), of)
        })
        .collect();
    entries.insert("fresh".to_owned(), entry(9900, EntryState::Pending, "gone"));
    let waiting = entry(9000, EntryState::Pending, "web");
    entries.insert("waiting".to_owned(), waiting);
    let is_gone = |entry: &RecordEntry| entry.workload.name == "gone";
    assert!(to_drop(&entries, is_gone, now).is_empty(), "100 may stay");
    let gone = entry(9999, EntryState::Observed, "gone");
    entries.insert("gone".to_owned(), gone);
    let dropped = to_drop(&entries, is_gone, now);
    assert_eq!(dropped.len(), 11);
    assert_eq!(
        dropped[..4],
        ["gone", "waiting", "observed-00", "observed-01"]
    );
    assert!(!dropped.contains(&"fresh".to_owned()));
}

#[test]
fn what_runs_stays_in_a_record_that_a_burst_of_requests_fills() {
    let now = Timestamp::from_second(10_000).unwrap();
    let mut entries: BTreeMap<_, _> = (0..100)
        .map(|number| {
            let of = kept(&written(9900 + number, EntryState::Pending));
            (format!("pending-{number:02}"), of)
        })
        .collect();
    let runs = kept(&written(1, EntryState::Observed));
    entries.insert("runs".to_owned(), runs);
    let dropped = to_drop(&entries, |entry| !entry.observed, now);
    assert_eq!(dropped.len(), 11);
    assert!(!dropped.contains(&"runs".to_owned()));
}

/// A record of the namespace with UID `n` in the cluster `c`, with one entry.
fn stored(key: &SigningKey, namespace: &str) -> DynamicObject {
    let name = DIGEST.replace(':', "-");
    let mut written = written(1, EntryState::Observed);
    written.ages_judged = ["scanned".to_owned()].into();
    let id = entry_key(&written);
    let Value::Object(mut fields) = serde_json::to_value(&written).unwrap() else {
        panic!("an entry is an object");
    };
    let place = Place {
        cluster: "c",
        namespace: "n",
        record: &name,
        key: &id,
    };
    key.sign(place, &mut fields);
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "namespace": namespace, "uid": "9", "resourceVersion": "5"},
        "spec": {"digest": DIGEST, "entries": {id: fields}},
    }))
    .unwrap()
}

#[test]
fn an_entry_that_is_copied_to_another_namespace_cluster_or_digest_does_not_count() {
    let key = SigningKey::generate().unwrap();
    let keys = key.public();
    let counting = |object: &DynamicObject, cluster: &str, namespace: &str| {
        let read = read_record(object, &keys, cluster, namespace, None);
        read.map(|(record, refused)| (record.entries.len(), refused.len()))
    };
    let object = stored(&key, "shop");
    assert_eq!(counting(&object, "c", "n"), Some((1, 0)));
    assert_eq!(counting(&object, "other", "n"), Some((0, 1)));
    assert_eq!(counting(&object, "c", "other"), Some((0, 1)));
    // Under the UID of its namespace, but another name: the entry itself names the namespace.
    assert_eq!(counting(&stored(&key, "else"), "c", "n"), Some((0, 1)));
    let mut renamed = object.clone();
    let other = Digest::sha256(b"other");
    renamed.data["spec"]["digest"] = other.to_string().into();
    assert_eq!(counting(&renamed, "c", "n"), None, "the name is another");
    renamed.metadata.name = Some(other.to_string().replace(':', "-"));
    assert_eq!(counting(&renamed, "c", "n"), Some((0, 1)));
    let stranger = SigningKey::generate().unwrap();
    assert_eq!(counting(&stored(&stranger, "shop"), "c", "n"), Some((0, 1)));
}

#[test]
fn memory_keeps_the_newest_state_of_a_record_and_finds_it_again() {
    let key = SigningKey::generate().unwrap();
    let object = stored(&key, "shop");
    let read = |object: &DynamicObject| {
        let (record, _) = read_record(object, &key.public(), "c", "n", None).unwrap();
        record
    };
    let name = RecordName {
        namespace: "shop".to_owned(),
        name: DIGEST.replace(':', "-"),
    };
    let mut memory = Memory::default();
    memory.apply(name.clone(), read(&object));
    let mut older = object.clone();
    older.metadata.resource_version = Some("4".to_owned());
    older.data["spec"]["entries"] = serde_json::json!({});
    memory.apply(name.clone(), read(&older));

    let (image, pin) = by_digest();
    let of = |namespace: &str| {
        let mut change = change(&[&image]);
        change.workload.namespace = Some(namespace.to_owned());
        let found = memory.look_up(&change, std::slice::from_ref(&pin), "promotion-gate");
        (found.images[0].entries.len(), found.workload.len())
    };
    let judged = |namespace: &str| {
        let mut change = change(&[&image]);
        change.workload.namespace = Some(namespace.to_owned());
        let found = memory.look_up(&change, std::slice::from_ref(&pin), "promotion-gate");
        found.images[0].ages_judged.len()
    };
    assert_eq!((judged("shop"), judged("other")), (1, 1));
    assert_eq!(of("shop"), (1, 1));
    assert_eq!(of("other"), (0, 0), "a record serves its namespace alone");
    assert!(memory.remove_deleted(&name, "4").is_none());
    assert!(memory.remove_deleted(&name, "6").is_some());
    assert_eq!(memory.len(), 0);
}

#[test]
fn a_patch_of_an_entry_leaves_nothing_of_what_it_replaces() {
    let mut before = written(1, EntryState::Observed);
    before.source = Some(WrittenSource {
        repository: "https://example.com/app".to_owned(),
        commit: "a".to_owned(),
    });
    let mut kept = kept(&before);
    let mut fields = kept.fields();
    fields.insert("later".to_owned(), Value::Bool(true));
    kept.written = Value::Object(fields).to_string().into();
    let Value::Object(new) = serde_json::to_value(written(2, EntryState::Observed)).unwrap() else {
        panic!("an entry is an object");
    };
    let patch = replacing(new, Some(&kept));
    assert_eq!(patch["source"], Value::Null);
    assert_eq!(patch["later"], Value::Null);
    assert_eq!(patch["decision"], "2");
}

#[test]
fn what_an_injector_added_is_recorded_for_the_owner_of_the_pod() {
    let (image, pin) = by_digest();
    let sidecar = "registry.example/mesh:v1";
    let resolved = Pin::Resolved(Collected::Known(Digest::sha256(b"mesh")));
    let recorded = |enforcement, dry_run| {
        let snapshot = pinned(enforcement);
        let pod = Change {
            dry_run,
            workload: Workload {
                group: String::new(),
                kind: "Pod".to_owned(),
                ..workload("web-1-x")
            },
            ..change(&[&image, sidecar])
        };
        let mut review = review(pod, vec![pin.clone(), resolved.clone()], &snapshot);
        let parent = Parent {
            workload: Workload {
                kind: "ReplicaSet".to_owned(),
                ..workload("web-1")
            },
            uid: "2".to_owned(),
            template: Digest::sha256(b"v1"),
            images: [image.clone()].into(),
        };
        review.promotion.kind = ChangeKind::Upkeep { recorded: true };
        review.promotion.injected = Some(Injected {
            parent,
            images: [1].into(),
        });
        entries(&review, &snapshot)
    };
    let entries = recorded(Enforcement::Enforce, false);
    let names: Vec<_> = entries.iter().map(|entry| entry.subject.name()).collect();
    let digest = Digest::sha256(b"mesh");
    assert_eq!(names[0], format!("sha256-{}", digest.hex()));
    assert!(
        names[1].starts_with("ref-") && names.len() == 2,
        "{names:?}"
    );
    for new in &entries {
        assert_eq!(new.namespace.as_deref(), Some("shop"));
        let entry = &new.entry;
        assert_eq!(entry.workload.kind, "ReplicaSet");
        assert_eq!(entry.workload.uid.as_deref(), Some("2"));
        assert_eq!(entry.state, EntryState::Observed, "the owner was read");
        assert!(entry.complied.is_empty(), "it serves upkeep alone");
    }
    assert_eq!(entries[1].entry.digest, Some(digest.to_string()));
    assert_eq!(recorded(Enforcement::Enforce, true), []);
}

/// A user with the role `view` in a namespace may read its records.
#[test]
fn a_record_names_no_person() {
    let (image, pin) = by_digest();
    let asked = Change {
        actor: Some(Actor {
            username: "alice@example.com".to_owned(),
            groups: vec!["leads".to_owned()],
        }),
        ..change(&[&image])
    };
    let snapshot = pinned(Enforcement::Enforce);
    let review = review(asked, vec![pin], &snapshot);
    let entries = entries(&review, &snapshot);
    let written = serde_json::to_string(&entries[0].entry).unwrap();
    for name in ["alice", "leads"] {
        assert!(!written.contains(name), "{written}");
    }
}

fn marked(declaration: &str) -> WrittenEmergency {
    let at = Timestamp::UNIX_EPOCH;
    WrittenEmergency {
        declaration: declaration.to_owned(),
        environment: "production".to_owned(),
        incident: "INC1".to_owned(),
        incident_url: None,
        incident_state: "verified".to_owned(),
        incident_opened_by: None,
        declared_by: ["ben".to_owned()].into(),
        approved_by: ["cleo".to_owned()].into(),
        authors: BTreeSet::new(),
        unknown_author: false,
        requester: None,
        policies: ["pinned".to_owned()].into(),
        waived: ["noFreeze".to_owned()].into(),
        images: BTreeSet::new(),
        admitted: at,
        expires: at,
        review_due: at,
    }
}

/// An admission by emergency changes.
fn by_waiver(at: i64, state: EntryState, emergency: Vec<WrittenEmergency>) -> WrittenEntry {
    WrittenEntry {
        by: WrittenBy::Waiver,
        complied: BTreeSet::new(),
        emergency,
        ..written(at, state)
    }
}

/// The use of an emergency change by a Kubernetes user.
fn used(declaration: &str, requester: &str, at: i64) -> WrittenEmergency {
    WrittenEmergency {
        requester: Some(requester.to_owned()),
        admitted: Timestamp::from_second(at).unwrap(),
        ..marked(declaration)
    }
}

#[test]
fn each_emergency_change_is_recorded_although_the_template_was_admitted_by_another_one() {
    let of = |at: i64, state: EntryState, declaration: &str| {
        by_waiver(at, state, vec![used(declaration, "alice", at)])
    };
    let first = of(1, EntryState::Observed, "sha256:a");
    let same = of(1, EntryState::Pending, "sha256:a");
    assert!(is_known(Some(&kept(&first)), &new(&same)));
    let another = of(2, EntryState::Pending, "sha256:b");
    assert_eq!(entry_key(&first), entry_key(&another));
    assert!(!is_known(Some(&kept(&first)), &new(&another)));
    let both = replacing_known(Some(&kept(&first)), &new(&another));
    let names: Vec<_> = both.emergency.iter().map(|it| &*it.declaration).collect();
    assert_eq!(names, ["sha256:b", "sha256:a"]);
    assert_eq!(both.state, EntryState::Observed, "the object was seen");
    assert!(is_known(Some(&kept(&both)), &new(&same)));
    assert_eq!(replacing_known(None, &new(&another)), another);
    // What complied has an entry of its own.
    assert_ne!(
        entry_key(&first),
        entry_key(&written(1, EntryState::Observed))
    );
}

#[test]
fn attack_a_second_use_of_an_emergency_change_by_somebody_who_then_reviews_it_is_recorded() {
    let alice = used("sha256:a", "alice", 1);
    let first = by_waiver(1, EntryState::Observed, vec![alice.clone()]);
    let bob = used("sha256:a", "bob", 2);
    let second = by_waiver(2, EntryState::Pending, vec![bob.clone()]);
    assert_eq!(entry_key(&first), entry_key(&second));
    assert!(!is_known(Some(&kept(&first)), &new(&second)));
    let both = replacing_known(Some(&kept(&first)), &new(&second));
    assert_eq!(both.emergency, [bob, alice]);
    assert!(is_known(Some(&kept(&both)), &new(&second)));
    assert!(is_known(Some(&kept(&both)), &new(&first)));
}

#[test]
fn a_later_use_by_the_same_requester_takes_the_place_of_the_earlier_one_and_forgets_nobody() {
    let earlier = WrittenEmergency {
        approved_by: ["cleo".to_owned()].into(),
        review_due: Timestamp::from_second(100).unwrap(),
        ..used("sha256:a", "alice", 1)
    };
    let later = WrittenEmergency {
        approved_by: ["dan".to_owned()].into(),
        review_due: Timestamp::from_second(109).unwrap(),
        ..used("sha256:a", "alice", 10)
    };
    let first = by_waiver(1, EntryState::Observed, vec![earlier]);
    let second = by_waiver(10, EntryState::Pending, vec![later]);
    assert!(
        !is_known(Some(&kept(&first)), &new(&second)),
        "a use after the review needs another one"
    );
    let both = replacing_known(Some(&kept(&first)), &new(&second));
    let [mark] = both.emergency.as_slice() else {
        panic!("{:?}", both.emergency);
    };
    let time = |second| Timestamp::from_second(second).unwrap();
    assert_eq!((mark.admitted, mark.review_due), (time(10), time(100)));
    let people = ["cleo", "dan"].map(str::to_owned);
    assert_eq!(mark.approved_by, people.into());
    // The earlier one is written late.
    assert!(is_known(Some(&kept(&both)), &new(&first)));
    let late = replacing_known(Some(&kept(&both)), &new(&first));
    assert_eq!(late.emergency, both.emergency);
}

#[test]
fn of_more_uses_than_an_entry_holds_the_oldest_one_left_names_the_people_of_the_others() {
    let mut first = used("sha256:a", "user-0", 0);
    first.approved_by = ["dan".to_owned()].into();
    first.incident_opened_by = Some("stranger".to_owned());
    let mut entry = by_waiver(0, EntryState::Observed, vec![first]);
    for number in 1..=16 {
        let mut mark = used("sha256:a", &format!("user-{number}"), number);
        mark.review_due = mark.admitted;
        let next = by_waiver(number, EntryState::Pending, vec![mark]);
        entry = replacing_known(Some(&kept(&entry)), &new(&next));
    }
    assert_eq!(entry.emergency.len(), 16);
    let oldest = entry.emergency.last().unwrap();
    assert_eq!(oldest.requester.as_deref(), Some("user-1"));
    assert_eq!(
        oldest.approved_by,
        ["cleo", "dan"].map(str::to_owned).into()
    );
    assert_eq!(oldest.incident_opened_by.as_deref(), Some("stranger"));
    assert_eq!(oldest.review_due, Timestamp::UNIX_EPOCH);
}

#[test]
fn a_use_for_which_the_tracker_did_not_confirm_the_incident_is_recorded_beside_one_for_which_it_did()
 {
    let confirmed = used("sha256:a", "alice", 1);
    let unconfirmed = WrittenEmergency {
        incident_state: "unverified".to_owned(),
        ..used("sha256:a", "alice", 1)
    };
    let first = by_waiver(1, EntryState::Observed, vec![confirmed]);
    let second = by_waiver(1, EntryState::Pending, vec![unconfirmed]);
    assert!(!is_known(Some(&kept(&first)), &new(&second)));
    let both = replacing_known(Some(&kept(&first)), &new(&second));
    let states = both.emergency.iter().map(|it| it.incident_state.as_str());
    let states: BTreeSet<_> = states.collect();
    assert_eq!(states, ["unverified", "verified"].into());
}

#[test]
fn of_more_uses_than_an_entry_names_the_newest_stay() {
    let many = (1..=16).map(|at| used("sha256:a", &format!("user-{at}"), at));
    let full = by_waiver(16, EntryState::Observed, many.collect());
    let last = used("sha256:a", "bob", 17);
    let new = new(&by_waiver(17, EntryState::Pending, vec![last.clone()]));
    let entry = replacing_known(Some(&kept(&full)), &new);
    assert_eq!(entry.emergency.len(), MAXIMUM_EMERGENCIES);
    assert_eq!(entry.emergency[0], last);
    assert_eq!(entry.emergency[15].requester.as_deref(), Some("user-2"));
    assert!(is_known(Some(&kept(&entry)), &new));
}

#[test]
fn an_entry_without_the_mark_of_an_emergency_change_is_read_as_before() {
    let mut older = serde_json::to_value(written(1, EntryState::Pending)).unwrap();
    older.as_object_mut().unwrap().remove("emergency");
    let read: WrittenEntry = serde_json::from_value(older).unwrap();
    assert_eq!(read, written(1, EntryState::Pending));
}
