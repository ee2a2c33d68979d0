//! Policies that are wrong, and what is said about them.

mod files;
mod mistakes;
mod resources;

use promotion_gate::api;
use promotion_gate_core::gate::Requirement;

use crate::facts::FACTS;

const HEAD: &str =
    "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: p}\nspec:\n";
const SIGNER: &str =
    "{keyless: {issuer: \"https://i.example\", anyIdentity: true, trustRoots: [sandbox]}}";

fn problems(text: &str) -> Vec<String> {
    let sources = [("p.yaml".to_owned(), text.as_bytes().to_vec())];
    let set = api::load(&sources, &FACTS.trust_roots());
    assert!(set.problems.is_empty() || set.policies.is_empty() || text.contains("---"));
    set.problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn said(spec: &str, expected: &str) {
    let problems = problems(&format!("{HEAD}{spec}"));
    assert!(
        problems.iter().any(|problem| problem.contains(expected)),
        "{expected}: {problems:#?}"
    );
    assert!(
        problems
            .iter()
            .all(|problem| problem.starts_with("p.yaml:")),
        "{problems:#?}"
    );
}

#[test]
fn a_field_that_nobody_knows_is_refused_with_a_suggestion() {
    said(
        "  requirments: []\n",
        "p.yaml:5:3: spec.requirments: unknown field `requirments`, did you mean `requirements`?",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  enforcment: Warn\n",
        "did you mean `enforcement`?",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  enforcement: warn\n",
        "spec.enforcement",
    );
    said(
        "  requirements: [{digestPinned: {strict: true}}]\n",
        "unknown field `strict`",
    );
    said(
        "  requirements: [{signature: {anyOf: [{keyless: {isuer: x}}]}}]\n",
        "unknown field `isuer`, did you mean `issuer`?",
    );
}

#[test]
fn a_requirement_of_a_later_version_is_refused_by_name() {
    let known: Vec<_> = Requirement::NAMES
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let known = known.join(", ");
    for name in ["canary", "licences", "freeze"] {
        let expected =
            format!("requirement `{name}` is not known to this version; known are {known}");
        said(&format!("  requirements: [{{{name}: {{}}}}]\n"), &expected);
    }
}

#[test]
fn a_section_about_emergencies_that_could_not_work_is_refused_at_its_place() {
    let with = |emergency: &str| {
        format!(
            "  environment: production\n  requirements: [{{digestPinned: {{}}}}, {{noFreeze: {{}}}}]\n  emergency: {{{emergency}}}\n"
        )
    };
    let seats = "from: [{group: on-call}, {group: security-team}]";
    let sound =
        format!("{seats}, waives: [noFreeze], incident: {{check: pager, minimumSeverity: P2}}");
    let check = "---\napiVersion: promotion-gate.dev/v1alpha1\nkind: IncidentCheck\nmetadata: {name: pager}\nspec: {preset: PagerDuty, url: https://api.pagerduty.com}\n";
    let sound = format!("{HEAD}{}{check}", with(&sound));
    assert_eq!(problems(&sound), Vec::<String>::new());
    let without = sound.replace("  environment: production\n", "");
    let without = problems(&without);
    assert!(
        without
            .iter()
            .any(|it| it.contains("an emergency change is declared for an environment")),
        "{without:?}"
    );
    for (section, expected) in [
        (
            format!("{seats}, waives: [noFreze]"),
            "unknown value `noFreze`",
        ),
        (
            format!("{seats}, waives: [noFreze]"),
            "did you mean `noFreeze`?",
        ),
        (format!("{seats}, waives: []"), "spec.emergency.waives"),
        (
            "from: [], waives: [noFreeze]".to_owned(),
            "spec.emergency.from",
        ),
        (
            "from: [{group: a}, {group: a}], waives: [noFreeze]".to_owned(),
            "names the group `a` twice",
        ),
        (
            format!("{seats}, waives: [noFreeze], maximumValidity: 25h"),
            "the most is `24h`",
        ),
        (
            format!("{seats}, waives: [noFreeze], incident: {{minimumSeverity: P2}}"),
            "check",
        ),
        (
            format!(
                "{seats}, waives: [noFreeze], incident: {{check: pager, minimumSeverity: high}}"
            ),
            "spec.emergency.incident.minimumSeverity",
        ),
        (
            format!("{seats}, waives: [noFreeze], trustRoots: [nowhere]"),
            "spec.emergency.trustRoots[0]: unknown trust root `nowhere`",
        ),
        (
            format!("{seats}, waives: [noFreeze], transparency: None"),
            "the least is `Timestamp`",
        ),
        (
            format!("{seats}, waives: [noFreeze], reviewIn: 2d"),
            "did you mean `reviewWithin`?",
        ),
    ] {
        said(&with(&section), expected);
    }
}

#[test]
fn a_section_about_emergencies_that_is_probably_a_mistake_gives_a_warning() {
    let warned = |emergency: &str, expected: &str| {
        let text = format!(
            "{HEAD}  environment: production\n  requirements: [{{digestPinned: {{}}}}, {{allowedImages: {{patterns: [\"**\"]}}}}, {{signature: {{anyOf: [{SIGNER}]}}}}, {{noFreeze: {{}}}}]\n  emergency: {{{emergency}}}\n"
        );
        let sources = [("p.yaml".to_owned(), text.into_bytes())];
        let set = api::load(&sources, &FACTS.trust_roots());
        assert_eq!(set.problems.len(), 0, "{:?}", set.problems);
        let warnings: Vec<_> = set.warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.iter().any(|it| it.contains(expected)),
            "{warnings:#?}"
        );
    };
    warned(
        "from: [{group: on-call, count: 2}], waives: [approvals]",
        "`approvals` has no effect",
    );
    warned(
        "from: [{group: on-call, count: 2}], waives: [allowedImages, noFreeze]",
        "`allowedImages` has no effect: the registry of an image that is refused by its name is not asked",
    );
    warned(
        "from: [{group: on-call, count: 2}], waives: [signature]",
        "stays uncovered",
    );
    warned(
        "from: [{group: on-call}], waives: [noFreeze]",
        "one person alone",
    );
    warned(
        "from: [{group: on-call, count: 2}], waives: [noFreeze]",
        "no people directory that was read names the group `on-call`",
    );
}

#[test]
fn a_governor_who_could_agree_to_an_emergency_change_is_refused() {
    let policy = format!(
        "{HEAD}  environment: production\n  requirements: [{{noFreeze: {{}}}}]\n  emergency: {{from: [{{group: on-call, count: 2}}], waives: [noFreeze]}}\n"
    );
    let people = "apiVersion: promotion-gate.dev/v1alpha1\nkind: PeopleDirectory\nmetadata: {name: p}\nspec: {people: [{name: ada, identities: [{kubernetes: {user: ada}}]}], groups: [{name: on-call, members: [ada]}]}\n";
    let configuration = "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\nmetadata: {name: promotion-gate}\nspec: {governors: {users: [ada]}}\n";
    let sources = [
        ("p.yaml".to_owned(), policy.into_bytes()),
        ("people.yaml".to_owned(), people.into()),
        ("gate.yaml".to_owned(), configuration.into()),
    ];
    let set = api::load(&sources, &FACTS.trust_roots());
    let set = set.under(&api::GateSettings::default());
    let problems: Vec<_> = set.problems.iter().map(ToString::to_string).collect();
    assert!(
        problems.iter().any(|it| it.contains("the governor `ada` is the person `ada`, who approves in the group `on-call` for the policy `p`")),
        "{problems:#?}"
    );
}

#[test]
fn evidence_about_tags_needs_digests_or_an_explicit_word() {
    let signature = format!("  requirements: [{{signature: {{anyOf: [{SIGNER}]}}}}]\n");
    said(
        &signature,
        "add `- digestPinned: {}`, or accept that race with `tags: Resolve`",
    );
    assert!(problems(&format!("{HEAD}{signature}  tags: Resolve\n")).is_empty());
}

#[test]
fn what_could_never_be_met_or_always_is_refused() {
    let signature =
        |body: &str| format!("  tags: Resolve\n  requirements: [{{signature: {body}}}]\n");
    said("  requirements: []\n", "spec.requirements");
    said(&signature("{anyOf: []}"), "no signature can be accepted");
    said(
        &signature(&format!("{{anyOf: [{SIGNER}], threshold: 0}}")),
        "threshold",
    );
    said(
        &signature(&format!("{{anyOf: [{SIGNER}], allOf: [{SIGNER}]}}")),
        "exactly one of `anyOf` and `allOf`",
    );
    said(
        &signature("{anyOf: [{}]}"),
        "spec.requirements[0].signature",
    );
    said(
        &signature("{anyOf: [{keyless: {issuer: \"https://i.example\"}}]}"),
        "anyIdentity",
    );
    said(
        &signature("{anyOf: [{keyless: {issuer: \"*\", anyIdentity: true}}]}"),
        "glob",
    );
    said(&signature("{anyOf: [{key: {pem: x}}]}"), "PUBLIC KEY");
    for group in ["anyOf", "allOf"] {
        let group = format!("{{{group}: [{SIGNER}]}}");
        said(
            &signature(&format!("{{threshold: 2, anyOf: [{SIGNER}, {group}]}}")),
            "cannot be combined with groups",
        );
        let once = signature(&format!("{{threshold: 1, anyOf: [{SIGNER}, {group}]}}"));
        assert_eq!(problems(&format!("{HEAD}{once}")), Vec::<String>::new());
        let both = group.replacen('{', "{keyless: {issuer: \"https://i.example\"}, ", 1);
        said(
            &signature(&format!("{{anyOf: [{both}]}}")),
            "a signer is either one of `keyless` and `key`, or a group",
        );
    }
    let twice = signature(&format!("{{threshold: 2, anyOf: [{SIGNER}, {SIGNER}]}}"));
    assert_eq!(problems(&format!("{HEAD}{twice}")), Vec::<String>::new());
    said(
        &signature(
            "{anyOf: [{keyless: {issuer: \"https://i.example\", anyIdentity: true, trustRoots: [gone]}}]}",
        ),
        "p.yaml:6:111: spec.requirements[0].signature.anyOf[0].keyless.trustRoots[0]: unknown trust root `gone`",
    );
    said(
        &signature(&format!(
            "{{allOf: [{SIGNER}, {{anyOf: [{{key: {{pem: \"{}\", trustRoots: [sandbox, gone]}}}}]}}]}}",
            FACTS.key.public_pem().replace('\n', "\\n")
        )),
        "signature.allOf[1].anyOf[0].key.trustRoots[1]: unknown trust root `gone`",
    );
    said(
        "  requirements: [{allowedImages: {patterns: []}}]\n",
        "patterns",
    );
    said(
        "  requirements: [{allowedImages: {patterns: [\"[a-z]*\"]}}]\n",
        "`*` matches any text",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  match: {images: []}\n",
        "spec.match.images",
    );
    said(
        "  requirements: [{digestPinned: {}}]\n  match: {namespaces: {}}\n",
        "leave `namespaces` out",
    );
    said(
        "  requirements: [{digestPinned: {}, allowedImages: {patterns: [x]}}]\n",
        "one rule per entry",
    );
}
