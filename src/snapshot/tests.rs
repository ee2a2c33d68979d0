use std::collections::BTreeSet;

use promotion_gate_core::gate::Collected;

use super::report::gone;
use super::*;
use crate::collect::{CacheSizes, CollectLimits};
use crate::oci::Client;

const STRICT: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: strict}, spec: {requirements: [{digestPinned: {}}]}}";
const CUT: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: cut}, spec: {requirements: [{digestPinned: {}}]}}";

const ROOTED: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: rooted}, spec: {requirements: [{digestPinned: {}}, {signature: {anyOf: [{keyless: {issuer: 'https://issuer.example', identity: a@example.com, trustRoots: [ours, theirs]}}]}}]}}";
const CONFIGURATION: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: GateConfiguration, trustRoots: [{name: ours, file: ours.json}, {name: theirs, file: theirs.json}]}";

/// Policies and a configuration with its trust roots, on disk and in force.
struct Watched {
    folder: tempfile::TempDir,
    sources: Arc<Sources>,
    metrics: Metrics,
}

impl Watched {
    fn new(policy: &str) -> Watched {
        Watched::below(policy, "policy.yaml")
    }

    /// With the policies that a path below the folder names.
    fn below(policy: &str, path: &str) -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &[u8]| {
            std::fs::write(folder.path().join(file), text).unwrap();
        };
        write("policy.yaml", policy.as_bytes());
        write("gate.yaml", CONFIGURATION.as_bytes());
        for root in ["ours.json", "theirs.json"] {
            write(root, &Watched::trusted_root());
        }
        let metrics = Metrics::new();
        let config = Config::load(Some(&folder.path().join("gate.yaml"))).unwrap();
        let client = Arc::new(Client::new(config.client_options()).unwrap());
        let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
        let collector = Arc::new(Collector::new(client, limits, sizes));
        let files = SnapshotFiles {
            policies: vec![folder.path().join(path)],
            config,
        };
        Watched {
            sources: Sources::load(files, None, collector, &metrics),
            folder,
            metrics,
        }
    }

    fn trusted_root() -> Vec<u8> {
        let sigstore = crate::sandbox::Sigstore::create().unwrap();
        sigstore.trusted_root().to_string().into_bytes()
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn poll(&self) {
        self.sources.poll(&self.metrics, Timestamp::now());
    }

    /// What is wrong; nothing where it is empty.
    fn problems(&self) -> String {
        let readiness = self.sources.readiness();
        assert!(readiness.ready, "{readiness:?}");
        readiness.problems.join("\n")
    }

    fn in_force(&self) -> String {
        self.sources.snapshot().policies[0].name.clone()
    }

    /// The anchors under which the policies in force accept anything.
    fn anchors(&self) -> BTreeSet<String> {
        let snapshot = self.sources.snapshot();
        let requirements = snapshot.policies[0].requirements.iter();
        let needs = requirements
            .flat_map(|named| named.requirement.needs(&snapshot.world).anchors.into_keys());
        needs.map(|anchor| anchor.to_string()).collect()
    }
}

#[test]
fn a_trust_root_is_removed_and_another_replaced_in_one_edit() {
    let watched = Watched::new(ROOTED);
    let before = watched.anchors();
    assert_eq!(before.len(), 2);
    let theirs = Watched::trusted_root();
    watched.write("theirs.json", &theirs);
    let without = CONFIGURATION.replace("{name: ours, file: ours.json}, ", "");
    watched.write("gate.yaml", without);
    watched.poll();
    assert_eq!(
        watched.anchors(),
        before,
        "seen once, it may be half written"
    );
    watched.poll();
    let now = promotion_gate_core::gate::Digest::sha256(&theirs);
    assert_eq!(
        watched.anchors(),
        BTreeSet::from([format!("root:{}", now.hex())])
    );
    assert_eq!(watched.in_force(), "rooted");
    let text = watched.problems();
    for said in [
        "the policy `rooted` in force names the trust root `ours`, which is not configured",
        "policy.yaml:1:",
        "unknown trust root `ours`",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }

    watched.write("gate.yaml", CONFIGURATION);
    watched.poll();
    watched.poll();
    assert_eq!(watched.anchors().len(), 2);
    assert_eq!(watched.problems(), "");
}

#[test]
fn a_trust_root_that_is_renamed_is_never_missing() {
    let watched = Watched::new(ROOTED);
    let before = watched.anchors();
    let renamed = |text: &str| text.replace("name: ours", "name: new");
    watched.write("gate.yaml", renamed(CONFIGURATION));
    watched.write("policy.yaml", ROOTED.replace("[ours,", "[new,"));
    for _ in 0..3 {
        watched.poll();
        assert_eq!(watched.anchors(), before);
    }
    assert_eq!(watched.problems(), "");
}

#[test]
fn policies_wait_for_the_trust_root_that_they_name() {
    let watched = Watched::new(STRICT);
    watched.write("policy.yaml", ROOTED.replace("[ours,", "[new,"));
    watched.poll();
    watched.poll();
    assert_eq!(watched.in_force(), "strict");
    let text = watched.problems();
    assert!(text.contains("unknown trust root `new`"), "{text}");

    watched.write(
        "gate.yaml",
        CONFIGURATION.replace("name: ours", "name: new"),
    );
    watched.poll();
    watched.poll();
    assert_eq!(watched.in_force(), "rooted");
    assert_eq!(watched.problems(), "");
}

#[test]
fn policies_written_during_a_reload_use_the_new_configuration() {
    let watched = Watched::new(ROOTED);
    watched.write(
        "gate.yaml",
        CONFIGURATION.replace("name: ours", "name: new"),
    );
    watched.poll();
    watched.write("policy.yaml", CUT);
    watched.poll();
    assert_eq!(watched.in_force(), "rooted");
    assert_eq!(watched.anchors().len(), 1);
    watched.write("policy.yaml", ROOTED);
    watched.poll();
    let text = watched.problems();
    assert!(text.contains("unknown trust root `ours`"), "{text}");
}

#[test]
fn a_damaged_policy_file_removes_no_policy() {
    let watched = Watched::below(STRICT, "");
    for text in [
        "",
        "api",
        "strict",
        "# the policy",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
        "{{ template }}",
    ] {
        watched.write("policy.yaml", text);
        watched.write("other.yaml", CUT);
        watched.poll();
        watched.poll();
        assert_eq!(watched.in_force(), "strict", "{text}");
        let said = watched.problems();
        assert!(said.contains("policy.yaml"), "{text}: {said}");
    }
    std::fs::remove_file(watched.folder.path().join("policy.yaml")).unwrap();
    watched.poll();
    watched.poll();
    assert_eq!(watched.in_force(), "cut");
    assert_eq!(watched.problems(), "");
}

#[test]
fn a_file_that_holds_fewer_policies_is_named_with_those_that_are_gone() {
    let both = format!("{STRICT}\n---\n{CUT}\n");
    let load = |files: &[(&str, &str)]| {
        let files = files.iter();
        let files: Vec<_> = files
            .map(|(file, text)| ((*file).to_owned(), text.as_bytes().to_vec()))
            .collect();
        crate::api::load(&files, &Default::default())
    };
    let before = load(&[("a.yaml", &both)]).files;
    for (now, expected) in [
        (
            &[("a.yaml", STRICT)][..],
            vec!["`a.yaml` held documents that are gone: `cut`; it holds 1 of 2 documents now"],
        ),
        (
            &[("b.yaml", STRICT)],
            vec!["`a.yaml` held documents that are gone: `cut`; the file does not exist any more"],
        ),
        (&[("a.yaml", STRICT), ("b.yaml", CUT)], vec![]),
    ] {
        assert_eq!(gone(&before, &load(now)), expected);
    }
}

#[test]
fn a_policy_that_moves_to_another_file_is_not_lost() {
    let watched = Watched::below(STRICT, "");
    let map = "\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n";
    watched.write("policy.yaml", format!("{STRICT}{map}"));
    watched.poll();
    watched.poll();
    watched.write("policy.yaml", map);
    watched.write("moved.yaml", STRICT);
    watched.poll();
    watched.poll();
    assert_eq!(watched.in_force(), "strict");
    assert_eq!(watched.problems(), "");
}

#[test]
fn a_state_between_two_valid_ones_is_never_taken_over() {
    let watched = Watched::new(STRICT);
    for _ in 0..3 {
        watched.write("policy.yaml", CUT);
        watched.poll();
        assert_eq!(watched.in_force(), "strict");
        watched.write("policy.yaml", STRICT);
        watched.poll();
        assert_eq!(watched.in_force(), "strict");
    }
    watched.write("policy.yaml", CUT);
    watched.poll();
    watched.poll();
    assert_eq!(watched.in_force(), "cut");
}

const PEOPLE: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PeopleDirectory, metadata: {name: all}, spec: {people: [{name: alice, identities: [{kubernetes: {user: alice}}]}]}}";

impl Watched {
    /// The names of the people in force, or why they are not known.
    fn people(&self) -> Result<Vec<String>, String> {
        match &self.sources.snapshot().world.people {
            Collected::Known(people) => {
                let people = people.people().iter();
                Ok(people.map(|person| person.name.clone()).collect())
            }
            unknown => Err(unknown.unavailabilities()[0].to_string()),
        }
    }
}

#[test]
fn people_are_taken_over_with_the_policies_and_kept_while_files_are_broken() {
    let watched = Watched::below(STRICT, "");
    assert!(
        watched
            .people()
            .unwrap_err()
            .contains("no people directory")
    );
    let taken_over = |text: &str| {
        watched.write("people.yaml", text);
        watched.poll();
        watched.poll();
        (watched.people(), watched.problems())
    };
    let alice = || Ok(vec!["alice".to_owned()]);
    assert_eq!(taken_over(PEOPLE), (alice(), String::new()));
    for broken in [
        "",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
        &PEOPLE.replace("user", "usr"),
        &PEOPLE.replace(
            "[{name: alice",
            "[{name: bob, identities: [{kubernetes: {user: alice}}]}, {name: alice",
        ),
    ] {
        let (people, problems) = taken_over(broken);
        assert_eq!(people, alice(), "{broken}");
        assert!(problems.contains("people.yaml"), "{broken}: {problems}");
    }
    let (people, problems) = taken_over(&PEOPLE.replace("name: alice", "name: anna"));
    assert_eq!(
        (people, problems),
        (Ok(vec!["anna".to_owned()]), String::new())
    );

    watched.write("policy.yaml", "strict");
    let (people, _) = taken_over(PEOPLE);
    assert_eq!(people, Ok(vec!["anna".to_owned()]), "read together");
    watched.write(
        "gate.yaml",
        CONFIGURATION.replace("trustRoots", "cluster: prod, trustRoots"),
    );
    watched.poll();
    watched.poll();
    assert_eq!(
        watched.people(),
        Ok(vec!["anna".to_owned()]),
        "under another configuration"
    );
    let cluster = || watched.sources.snapshot().world.cluster.clone();
    assert!(matches!(cluster(), Collected::Unavailable(_)));

    watched.write("policy.yaml", STRICT);
    std::fs::remove_file(watched.folder.path().join("people.yaml")).unwrap();
    watched.poll();
    watched.poll();
    assert!(
        watched
            .people()
            .unwrap_err()
            .contains("no people directory")
    );
    assert_eq!(watched.problems(), "");
    assert_eq!(cluster(), Collected::Known("prod".to_owned()));
}

#[test]
fn people_that_were_never_valid_are_unknown_and_not_absent() {
    let broken = format!("{STRICT}\n---\n{}", PEOPLE.replace("user", "usr"));
    let watched = Watched::new(&broken);
    let why = watched.people().unwrap_err();
    assert!(
        why.contains("could not be read") && why.contains("`user`"),
        "{why}"
    );
    assert!(!watched.sources.readiness().ready);
}

const FROZEN: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: strict}, spec: {environment: production, requirements: [{noFreeze: {}}]}}";
const FREEZE: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: ChangeFreeze, metadata: {name: always}, spec: {environments: [production], reason: r, windows: [{from: '2020-01-01T00:00:00Z', until: '2200-01-01T00:00:00Z'}]}}";
const CALENDAR: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: ChangeFreeze, metadata: {name: calendar}, spec: {environments: [production], reason: r, timeZone: UTC, calendar: {file: freezes.ics}}}";
const NO_EVENTS: &str =
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//example//EN\r\nEND:VCALENDAR\r\n";

impl Watched {
    /// The freezes that last now, or why they are not known.
    fn frozen(&self) -> Result<Vec<String>, String> {
        match &self.sources.snapshot().world.freezes {
            Collected::Known(schedule) => {
                let frozen = schedule.frozen_at("production", Timestamp::now());
                Ok(frozen.iter().map(ToString::to_string).collect())
            }
            unknown => Err(unknown.unavailabilities()[0].to_string()),
        }
    }

    fn metric(&self) -> String {
        let text = self.metrics.text();
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with("promotion_gate_frozen{"));
        lines.next().unwrap_or_default().to_owned()
    }

    /// The names of the freezes after a change of a file.
    fn frozen_after(&self, file: &str, text: &str) -> Vec<String> {
        self.write(file, text);
        self.poll();
        self.poll();
        let frozen = self.frozen().unwrap();
        let name = |text: &String| text.split('`').nth(1).unwrap().to_owned();
        frozen.iter().map(name).collect()
    }
}

#[test]
fn a_freeze_is_taken_over_and_kept_while_its_file_is_broken() {
    let watched = Watched::below(FROZEN, "");
    assert_eq!(watched.frozen(), Ok(Vec::new()));
    assert_eq!(
        watched.metric(),
        "promotion_gate_frozen{environment=\"production\"} 0"
    );
    assert_eq!(watched.frozen_after("freeze.yaml", FREEZE), ["always"]);
    assert_eq!(
        watched.metric(),
        "promotion_gate_frozen{environment=\"production\"} 1"
    );
    for broken in [
        "",
        &FREEZE.replace("until", "untill"),
        &FREEZE.replace("2200", "2010"),
    ] {
        assert_eq!(
            watched.frozen_after("freeze.yaml", broken),
            ["always"],
            "{broken}"
        );
        assert!(watched.problems().contains("freeze.yaml"), "{broken}");
    }
    let over = FREEZE.replace("2200", "2021");
    assert_eq!(watched.frozen_after("freeze.yaml", &over), [""; 0]);
    assert_eq!(watched.frozen_after("freeze.yaml", FREEZE), ["always"]);
    std::fs::remove_file(watched.folder.path().join("freeze.yaml")).unwrap();
    watched.poll();
    watched.poll();
    assert_eq!(watched.frozen(), Ok(Vec::new()));
    let without = FROZEN.replace("noFreeze", "digestPinned");
    assert_eq!(watched.frozen_after("policy.yaml", &without), [""; 0]);
    assert_eq!(watched.metric(), "");
}

#[test]
fn freezes_that_were_never_valid_are_unknown_and_not_absent() {
    let broken = format!("{FROZEN}\n---\n{}", FREEZE.replace("until", "untill"));
    let watched = Watched::new(&broken);
    let why = watched.frozen().unwrap_err();
    assert!(
        why.contains("could not be read") && why.contains("`untill`"),
        "{why}"
    );
}

#[test]
fn freezes_stay_as_they_were_while_policies_are_broken_under_a_new_configuration() {
    let watched = Watched::below(FROZEN, "");
    assert_eq!(watched.frozen_after("freeze.yaml", FREEZE), ["always"]);
    watched.write("policy.yaml", "strict");
    let configuration = CONFIGURATION.replace("trustRoots", "cluster: prod, trustRoots");
    assert_eq!(
        watched.frozen_after("gate.yaml", &configuration),
        ["always"]
    );
}

#[tokio::test]
async fn what_a_feed_says_reaches_reviews() {
    let watched = Watched::below(FROZEN, "");
    let ask = async |seconds| {
        let moment = ClockReading {
            at: Timestamp::now(),
            uptime: Duration::from_secs(seconds),
        };
        watched
            .sources
            .feeds()
            .ask_due(moment, &watched.metrics)
            .await;
        watched.poll();
        watched.frozen().unwrap()
    };
    assert_eq!(watched.frozen_after("freeze.yaml", CALENDAR), ["calendar"]);
    let frozen = ask(0).await;
    assert!(
        frozen[0].contains("its feed was never read: ") && frozen[0].contains("freezes.ics"),
        "{frozen:?}"
    );
    watched.write("freezes.ics", NO_EVENTS);
    assert_eq!(ask(3600).await, [""; 0]);
    let event = "BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20200101T000000Z\r\nSUMMARY:Stocktaking\r\nDTSTART:20200101T000000Z\r\nDTEND:22000101T000000Z\r\nEND:VEVENT\r\nEND:VCALENDAR";
    watched.write("freezes.ics", NO_EVENTS.replace("END:VCALENDAR", event));
    let frozen = ask(7200).await;
    assert!(frozen[0].contains("(r: Stocktaking)"), "{frozen:?}");
}

#[tokio::test]
async fn until_the_resources_of_a_cluster_are_read_everything_is_denied() {
    let watched = Watched::new(STRICT);
    let url = "https://127.0.0.1:1".parse().unwrap();
    let cluster = crate::cluster::Cluster::with(kube::Config::new(url)).unwrap();
    let config = Config::load(None).unwrap();
    let files = SnapshotFiles {
        policies: Vec::new(),
        config,
    };
    let collector = Arc::clone(&watched.sources.collector);
    let watches = Arc::new(Watches::new(cluster));
    let sources = Sources::load(files, Some(watches), collector, &watched.metrics);
    assert!(!sources.readiness().ready);
    for _ in 0..2 {
        sources.poll(&watched.metrics, Timestamp::now());
        let [unread] = &sources.snapshot().unreadable[..] else {
            panic!("{:?}", sources.snapshot().unreadable);
        };
        assert!(
            unread.why.contains("is not read from the cluster yet"),
            "{}",
            unread.why
        );
    }
}

#[test]
fn what_is_kept_about_a_digest_makes_no_policy_be_read_again() {
    use crate::api::READ;
    let watched = Watched::new(STRICT);
    watched.poll();
    let read = || READ.with_borrow(|read| read.get(&Kind::PromotionPolicy).copied());
    let before = read();
    assert!(before.is_some());
    let name = ResourceName {
        kind: Kind::Revocation,
        name: "r".to_owned(),
    };
    let digest = promotion_gate_core::gate::Digest::sha256(b"r");
    let mut revoked = Resource::new(name, "1".to_owned());
    revoked.spec = serde_json::json!({"digest": digest.to_string(), "reason": "leaked"});
    let revoke = |resources: &[Arc<Resource>]| {
        let mut parts = watched.sources.parts.lock().unwrap();
        let changed = parts.documents.replace_resources(resources);
        assert!(changed.alone && !changed.joint);
        parts.kept_changes += 1;
        drop(parts);
        watched.poll();
        let snapshot = watched.sources.snapshot();
        (snapshot.world.revocations.len(), snapshot.policies.len())
    };
    assert_eq!(revoke(&[Arc::new(revoked)]), (1, 1));
    assert_eq!(revoke(&[]), (0, 1));
    assert_eq!(read(), before);
}

/// What is left out of the resources of a cluster, as the snapshot shows it.
#[test]
fn more_rejections_than_are_read_leave_the_gate_ready_and_approvals_undecided() {
    let mut parts = Parts::default();
    parts.files.accept("1".to_owned(), Timestamp::now());
    parts.seen.is_complete = true;
    let mut snapshot = Snapshot::default();
    parts.seen.left_out.vex = Some("too many".to_owned());
    parts.show_cluster(&mut snapshot, true);
    assert!(snapshot.world.vex_partly.is_some() && snapshot.world.kept_partly.is_none());
    parts.seen.left_out.kept = Some("too many".to_owned());
    assert!(parts.readiness(true).ready);
    parts.show_cluster(&mut snapshot, true);
    assert!(snapshot.unreadable.is_empty());
    assert!(snapshot.world.kept_partly.is_some());
    // Of other kinds, what is left out may govern anything.
    parts.seen.left_out.other = Some("too many".to_owned());
    assert!(parts.readiness(true).ready);
    parts.show_cluster(&mut snapshot, true);
    assert_eq!(snapshot.unreadable.len(), 1);
}

#[test]
fn a_gate_that_is_ready_without_a_policy_says_so_loudly() {
    let (mut parts, metrics) = (Parts::default(), Metrics::new());
    let mut told = |snapshot: &Snapshot, is_ready| {
        let told = parts.warn_of_nothing(snapshot, is_ready, &metrics);
        (told.is_some(), metrics.text())
    };
    let mut snapshot = Snapshot::default();
    assert!(!told(&snapshot, false).0);
    for _ in 0..2 {
        let (is_told, text) = told(&snapshot, true);
        assert!(is_told && text.contains("promotion_gate_policies 0"));
        // The alarm is raised once.
        assert!(text.contains(r#"alarms_total{reason="no-policy"} 1"#));
    }
    snapshot.ungoverned = promotion_gate_core::gate::Ungoverned::Deny;
    assert!(!told(&snapshot, true).0);
}
