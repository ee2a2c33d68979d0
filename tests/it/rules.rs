//! What each rule says, case by case: `tests/cases/<rule>/{allow,deny,unavailable}-*.yaml`. A case runs the rule it stands
//! under alone, and names the outcome and the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate::api::{ChangeFreezeSpec, FeedStates, freeze, schedule};
use promotion_gate_core::documents;
use promotion_gate_core::gate::{
    Actor, AdmittedBy, Age, Automation, ChangeKind, Collected, Digest, Directory, Evidence, Group,
    ImageEvidence, ImageRecords, KeptAuthors, KeptRejection, Labels, Member, Operation, People,
    Person, PersonalIdentity, Pin, Promotion, RecordEntry, RecordedSource, Records, Requirement,
    Role, ScanAge, Unavailability, Validity,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, ISSUER, judge, promotion, snapshot};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    /// The policy entry.
    requirement: Value,
    /// Further entries of the policy, which are judged too.
    #[serde(default)]
    also: Vec<Value>,
    /// The people of the directory, by name; none is a directory that cannot be read. Each has the e-mail address
    /// `NAME@example.com`.
    #[serde(default)]
    people: Option<BTreeMap<String, TestPerson>>,
    /// Bots of the directory, each with the GitHub login `NAME[bot]`.
    #[serde(default)]
    automation: Vec<String>,
    /// The name of the cluster.
    #[serde(default)]
    cluster: Option<String>,
    /// The user who deploys.
    #[serde(default)]
    deployer: Option<String>,
    /// The groups of the user who deploys.
    #[serde(default)]
    deployer_groups: Vec<String>,
    /// The labels of the workload.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The labels of the namespace; not known when absent.
    #[serde(default)]
    namespace_labels: Option<Labels>,
    /// The time of the review; now when absent.
    #[serde(default)]
    at: Option<Timestamp>,
    /// The change freezes, each as the `spec` of a `ChangeFreeze`; none is files that cannot be read.
    #[serde(default)]
    freezes: Option<Vec<ChangeFreezeSpec>>,
    /// Whether the image is in a container that is added to a running Pod.
    #[serde(default)]
    debugging: bool,
    /// Whether a built-in controller makes the change.
    #[serde(default)]
    upkeep: bool,
    image: String,
    /// What a tag resolves to.
    #[serde(default)]
    resolve: Option<Resolve>,
    #[serde(default)]
    attached: Vec<Attached>,
    #[serde(default)]
    registry: Registry,
    /// What release records say of the workload; none is no records at all.
    #[serde(default)]
    record: Option<Vec<TestEntry>>,
    /// Rejections of the digest that the cluster keeps.
    #[serde(default)]
    rejections: Vec<TestRejection>,
    /// The authors of the digest that the cluster keeps, as a directory lists identities.
    #[serde(default)]
    authors: Vec<Value>,
    outcome: String,
    reason: String,
}

/// An admission of the image to the workload, which complied and was seen running.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TestEntry {
    ago: Age,
    #[serde(default)]
    another_template: bool,
    #[serde(default)]
    another_digest: bool,
    #[serde(default)]
    another_workload: bool,
    #[serde(default)]
    is_pending: bool,
    #[serde(default)]
    is_staged: bool,
    #[serde(default)]
    by_waiver: bool,
    /// The policies that it complied with; the case's when absent.
    #[serde(default)]
    complied: Option<BTreeSet<String>>,
    /// The policies that judged the ages of scans; those that it complied with when absent.
    #[serde(default)]
    ages_judged: Option<BTreeSet<String>>,
    #[serde(default)]
    environment: Option<String>,
    /// The repository and the commit of the source.
    #[serde(default)]
    source: Option<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestRejection {
    by: String,
    #[serde(default)]
    environment: Option<String>,
    ago: Age,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TestPerson {
    /// Further identities, as a directory lists them.
    also: Vec<Value>,
    groups: Vec<String>,
    /// When the person is active.
    from: Option<Value>,
    until: Option<Value>,
}

fn directory(people: &BTreeMap<String, TestPerson>, automation: &[String]) -> People {
    let moment =
        |value: &Option<Value>| value.clone().map(|it| serde_json::from_value(it).unwrap());
    let mut directory = Directory::default();
    let mut groups: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    for (name, person) in people {
        let email =
            json!({"certificate": {"issuer": ISSUER, "email": format!("{name}@example.com")}});
        let identities = [email].into_iter().chain(person.also.clone());
        directory.people.push(Person {
            name: name.clone(),
            display_name: None,
            identities: identities
                .map(|it| serde_json::from_value(it).unwrap())
                .collect(),
            validity: Validity::new(moment(&person.from), moment(&person.until)).unwrap(),
        });
        for group in &person.groups {
            groups.entry(group).or_default().push(Member {
                person: name.clone(),
                validity: Validity::default(),
            });
        }
    }
    directory.groups = groups
        .into_iter()
        .map(|(name, members)| Group {
            name: name.to_owned(),
            members,
        })
        .collect();
    directory.automation = automation
        .iter()
        .map(|name| Automation {
            name: name.clone(),
            identities: vec![
                serde_json::from_value(json!({"github": {"login": format!("{name}[bot]")}}))
                    .unwrap(),
            ],
        })
        .collect();
    People::merge(&[directory]).unwrap()
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Resolve {
    Answers,
    Down,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Registry {
    #[default]
    Answers,
    AnswersInPart,
    Down,
}

#[test]
fn every_rule_says_in_every_case_what_the_case_expects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut failures = Vec::new();
    for rule in Requirement::NAMES {
        let mut files: Vec<_> = fs::read_dir(folder.join(rule))
            .unwrap_or_else(|error| panic!("the rule `{rule}` has no cases: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for file in &files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let (kind, _) = name.split_once('-').unwrap();
            let kind = ["allow", "deny", "unavailable"]
                .into_iter()
                .find(|known| *known == kind)
                .unwrap_or_else(|| panic!("`{name}` names neither allow, deny nor unavailable"));
            *kinds.entry(kind).or_default() += 1;
            let case = read(file);
            let (outcome, reason) = run(rule, &case);
            let fits = match kind {
                "allow" => outcome == "pass" || outcome == "skip",
                "deny" => outcome == "fail",
                _ => outcome == "undecided" || outcome == "pass",
            };
            if (&outcome, &reason) != (&case.outcome, &case.reason) || !fits {
                failures.push(format!("{rule}/{name}: {outcome}, {reason}"));
            }
        }
        assert_eq!(kinds.len(), 3, "`{rule}` lacks cases: {kinds:?}");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn read(file: &Path) -> Case {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).unwrap();
    let key = FACTS
        .key
        .public_pem()
        .trim_end()
        .replace('\n', "\n            ");
    let text = text
        .replace("DIGEST", &format!("sha256:{}", "1".repeat(64)))
        .replace("PUBLIC_KEY", &key);
    let (mut documents, problems) = documents::read(&name, text.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    let value = documents.remove(0).value;
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn run(rule: &str, case: &Case) -> (String, String) {
    let down = || Unavailability("the registry does not answer".to_owned());
    let requirements: Vec<_> = [&case.requirement].into_iter().chain(&case.also).collect();
    let policy = FACTS.policy(
        "case",
        &json!({
            "environment": "production",
            "requirements": requirements,
            "uncovered": "Allow",
            "tags": "Resolve",
        }),
    );
    let mut promotion = promotion(std::slice::from_ref(&case.image));
    let digest = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
    match case.resolve {
        Some(Resolve::Answers) => promotion.pins = vec![Pin::Resolved(Collected::Known(digest))],
        Some(Resolve::Down) => {
            promotion.pins = vec![Pin::Resolved(Collected::Unavailable(down()))];
        }
        None => {}
    }
    let mut evidence = Evidence::default();
    let (image, pin) = promotion.images().next().unwrap();
    if let Some(subject) = pin.subject(&image.reference) {
        let mut attached = ImageEvidence::default();
        for one in &case.attached {
            FACTS.add(&mut attached, &subject.digest, one);
        }
        let attached = Arc::new(attached);
        let collected = match case.registry {
            Registry::Answers => Collected::Known(attached),
            Registry::AnswersInPart => Collected::Partial(attached, vec![down()]),
            Registry::Down => Collected::Unavailable(down()),
        };
        evidence.images.insert(subject, collected);
    }
    promotion.change.actor = case.deployer.as_ref().map(|user| Actor {
        username: user.clone(),
        groups: case.deployer_groups.clone(),
    });
    promotion.change.object.labels = case.labels.clone();
    if case.debugging {
        promotion.change.operation = Operation::Update;
        promotion.change.images[0].role = Role::EphemeralContainer;
    }
    if case.upkeep {
        promotion.kind = ChangeKind::Upkeep { recorded: false };
    }
    promotion.at = case.at.unwrap_or(promotion.at);
    if let Some(entries) = &case.record {
        promotion.change.object.template = Some(Digest::sha256(b"template"));
        let records = records(entries, &promotion);
        let present = records.workload.iter().max_by_key(|entry| entry.at);
        promotion.change.object.before = present.map(|entry| entry.template.clone());
        promotion.records = Collected::Known(records);
    }
    let mut snapshot = snapshot(vec![policy]);
    let digest = || {
        let (_, pin) = promotion.images().next().unwrap();
        pin.digest().unwrap().clone()
    };
    if !case.rejections.is_empty() {
        let kept = case.rejections.iter().map(|kept| KeptRejection {
            name: format!("by-{}", kept.by),
            environment: kept.environment.clone().unwrap_or("production".to_owned()),
            namespace: None,
            emergency: None,
            is_closure: false,
            person: kept.by.clone(),
            at: promotion.at - kept.ago.duration(),
            reason: None,
        });
        let kept = (digest(), kept.collect());
        snapshot.world.rejections = BTreeMap::from([kept]);
    }
    if !case.authors.is_empty() {
        let identity = |it: &Value| serde_json::from_value::<PersonalIdentity>(it.clone()).unwrap();
        let identities = case
            .authors
            .iter()
            .map(|it| identity(it).identity().clone());
        let kept = KeptAuthors {
            identities: identities.collect(),
            statements: BTreeSet::new(),
        };
        snapshot.world.authors = BTreeMap::from([(digest(), kept)]);
    }
    if let Some(freezes) = &case.freezes {
        let read = |(index, spec): (usize, &ChangeFreezeSpec)| {
            freeze(&format!("freeze-{}", index + 1), spec, Path::new("")).unwrap()
        };
        let freezes = freezes.iter().enumerate().map(read).collect();
        let schedule = schedule(freezes, &FeedStates::new(), promotion.at);
        snapshot.world.freezes = Collected::Known(Arc::new(schedule));
    }
    if let Some(people) = &case.people {
        let people = directory(people, &case.automation);
        snapshot.world.people = Collected::Known(Arc::new(people));
    }
    if let (Some(labels), Some(namespace)) =
        (&case.namespace_labels, &promotion.change.workload.namespace)
    {
        let namespaces = &mut snapshot.world.namespaces;
        namespaces.insert(namespace.clone(), labels.clone());
    }
    if let Some(cluster) = &case.cluster {
        snapshot.world.cluster = Collected::Known(cluster.clone());
    }
    let verdict = judge(&promotion, &evidence, &snapshot);
    let findings = verdict.policies()[0].findings();
    let finding = findings
        .iter()
        .find(|finding| finding.rule == rule)
        .unwrap();
    (finding.outcome.id().to_owned(), finding.reason.to_owned())
}

fn records(entries: &[TestEntry], promotion: &Promotion) -> Records {
    let (image, pin) = promotion.images().next().unwrap();
    let entry = |given: &TestEntry| {
        let mut workload = promotion.change.workload.clone();
        if given.another_workload {
            workload.name = "another".to_owned();
        }
        let template = promotion.change.object.template.clone();
        let digest = pin.digest().cloned();
        let another = Digest::sha256(b"another");
        let source = given.source.clone();
        let environment = given.environment.as_deref().unwrap_or("production");
        let own = || BTreeSet::from(["case".to_owned()]);
        let complied = given.complied.clone().unwrap_or_else(own);
        let ages_judged = given.ages_judged.clone();
        let of_all = || {
            let each = complied.iter();
            let ages = each
                .flat_map(|name| [ScanAge::Scan, ScanAge::Database].map(|age| age.judged_by(name)));
            ages.collect()
        };
        let ages_judged = ages_judged.unwrap_or_else(of_all);
        Arc::new(RecordEntry {
            digest: match given.another_digest {
                true => Some(another.clone()),
                false => digest,
            },
            workload,
            uid: None,
            template: match given.another_template {
                true => another,
                false => template.unwrap(),
            },
            observed: !given.is_pending,
            running: !given.is_staged,
            complied,
            by: match given.by_waiver {
                true => AdmittedBy::Waiver,
                false => AdmittedBy::Policy,
            },
            environments: BTreeSet::from([environment.to_owned()]),
            ages_judged,
            source: source.map(|(repository, commit)| RecordedSource { repository, commit }),
            at: promotion.at - given.ago.duration(),
        })
    };
    let all: Vec<_> = entries.iter().map(entry).collect();
    // The records of the image are found by its digest, or by its reference where that has none.
    let by_tag = image.reference.digest().is_none();
    let of_image = all
        .iter()
        .filter(|it| by_tag || it.digest.as_ref() == pin.digest());
    let of_digest = all.iter().filter(|it| it.digest.as_ref() == pin.digest());
    let complied = of_digest.filter(|it| it.by == AdmittedBy::Policy && !it.complied.is_empty());
    let complied: Vec<_> = complied.collect();
    let of_workload = all
        .iter()
        .filter(|it| it.workload == promotion.change.workload);
    Records {
        images: vec![ImageRecords {
            entries: of_image.cloned().collect(),
            environments: of_each(&complied, |it| &it.environments),
            ages_judged: of_each(&complied, |it| &it.ages_judged),
            ..ImageRecords::default()
        }],
        workload: of_workload.cloned().collect(),
        has_baseline: true,
    }
}

fn of_each(
    entries: &[&Arc<RecordEntry>],
    names: fn(&RecordEntry) -> &BTreeSet<String>,
) -> BTreeSet<String> {
    let names = entries.iter().flat_map(|entry| names(entry));
    names.cloned().collect()
}
