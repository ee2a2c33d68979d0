//! Attacks on emergency changes that use what is missing, cannot be read, or is in the way.

use promotion_gate_core::gate::{MayBe, UnreadableKept, World};

use super::*;

#[test]
fn an_incident_that_the_declarer_opened_a_minute_before_is_rejected() {
    let case = |opened_by: &str, required: Value| {
        let incident = incident(|it| {
            it.created_at = Some(at(-11));
            it.created_by = Some(opened_by.to_owned());
        });
        Case::new().asking(required, incident)
    };
    let other = json!({"openedBeforeDeclaration": true, "openedByOther": true});
    for account in ["ben", "ben@example.com", "Ben@home.example", "k8s-ben"] {
        case(account, other.clone()).denied("emergency-incident", "was opened by");
    }
    case("monitoring", other).passes();
    // A policy that asks only when it was opened accepts it.
    case("ben", json!({"openedBeforeDeclaration": true})).passes();
}

#[test]
fn an_incident_whose_answer_cannot_be_used_never_passes_as_an_unreachable_tracker() {
    let why = vec![Unavailability("the answer is too large".to_owned())];
    let case = Case::new().asking(
        json!({"whenUnreachable": "Allow"}),
        Collected::Partial(None, why),
    );
    case.denied("emergency-incident-unknown", "the answer is too large");
}

#[test]
fn a_rejection_is_not_waived_because_a_trust_root_of_the_approvals_is_gone() {
    let mut case = Case::new().emergency("trustRoots", json!(["sandbox"]));
    let approvals = &mut case.spec["requirements"][2]["approvals"];
    approvals["from"] = json!([{"person": "eve"}]);
    approvals["trustRoots"] = json!(["sandbox", "sigstore"]);
    let rejected = word("eve@example.com", "rejected", 3, json!({"emergency": null}));
    let case = case.and(rejected);
    case.denied("emergency-does-not-waive", "`approvals` (rejected)");
    let case = case.knowing(|world| drop(world.trust_roots.remove("sigstore")));
    case.denied(
        "emergency-does-not-waive",
        "`approvals` (trust-root-missing)",
    );
}

#[test]
fn an_author_fills_no_seat_because_what_names_the_authors_cannot_be_read() {
    // `ada` is the author, and would fill a seat if two people were enough because the authors are not known.
    let statements = || {
        vec![
            declared("ada@example.com", json!({})),
            agreed("cleo@example.com"),
        ]
    };
    let by_author = Case::with(statements());
    by_author.denied("emergency-not-agreed", "`ada` does not count: an author");
    let kept = by_author.knowing(|world: &mut World| {
        let unreadable = UnreadableKept {
            resource: "`AuthorRecord` `a`".to_owned(),
            why: "`spec` is missing".to_owned(),
            may_be: MayBe::Authors,
        };
        world
            .unreadable_kept
            .insert(IMAGE.clone(), vec![unreadable]);
    });
    kept.denied("emergency-undecided", "cannot be read");
    let mut of_another_root = Case::with(statements()).emergency("trustRoots", json!(["sandbox"]));
    let approvals = &mut of_another_root.spec["requirements"][2]["approvals"];
    approvals["authorsFrom"][0]["provenance"]["builders"][0]["signedBy"]["keyless"]["trustRoots"] =
        json!(["sigstore"]);
    of_another_root.passes();
    // The approval is there, so that the approvals are undecided because of the authors alone.
    let approved = json!({"emergency": null});
    let approved = word("cleo@example.com", "approved", 5, approved);
    let of_another_root = of_another_root.and(approved);
    of_another_root.passes();
    let gone = of_another_root.knowing(|world| drop(world.trust_roots.remove("sigstore")));
    gone.denied("emergency-undecided", "could name an author");
}

#[test]
fn an_author_fills_no_seat_because_the_labels_of_the_namespace_are_not_known() {
    let approved = json!({"emergency": null});
    let mut case = Case::with(vec![
        declared("ada@example.com", json!({})),
        agreed("cleo@example.com"),
        word("cleo@example.com", "approved", 5, approved),
    ]);
    case.spec["requirements"] = json!([{"digestPinned": {}}, signature(), {"noFreeze": {}}]);
    let case = case
        .emergency("waives", json!(["noFreeze"]))
        .emergency("trustRoots", json!(["sandbox"]))
        .frozen(json!({}));
    let decision = |labels: Option<&str>| {
        let mut snapshot = case.snapshot();
        let selector = json!({"matchLabels": {"tier": "production"}});
        let spec = json!({
            "environment": "production", "match": {"namespaces": {"selector": selector}},
            "requirements": [{"digestPinned": {}}, approvals()],
        });
        snapshot.policies.push(FACTS.policy("labelled", &spec));
        if let Some(tier) = labels {
            let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
            snapshot.world.namespaces.insert("shop".to_owned(), labels);
        }
        judge(&case.promotion(), &case.evidence(), &snapshot).decision()
    };
    assert_eq!(decision(Some("production")), Decision::Deny);
    assert_eq!(decision(None), Decision::Deny);
    // Where no policy says who wrote it, two people are enough.
    assert_eq!(decision(Some("test")), Decision::Allow);
}

/// More declarations than are judged, by a person who may not agree.
fn many_by_eve() -> Vec<Attached> {
    let each = (0..70).map(|at| {
        let predicate = declaration(json!({"reason": format!("reason {at}")}));
        signed("eve@example.com", CHANGE, predicate, 1)
    });
    each.collect()
}

#[test]
fn a_declaration_is_not_hidden_behind_many_newer_ones_by_people_who_may_not_agree() {
    let mut all = many_by_eve();
    all.push(declared("ben@example.com", json!({})));
    all.push(agreed("cleo@example.com"));
    assert_eq!(
        Case::with(all).passes().declared_by,
        ["ben".to_owned()].into()
    );
}

#[test]
fn attack_a_declaration_by_a_person_who_may_not_agree_is_hidden_behind_many_newer_ones_of_another()
{
    let mut all = many_by_eve();
    all.push(declared("dan@example.com", json!({})));
    all.push(agreed("ben@example.com"));
    all.push(agreed("cleo@example.com"));
    let mut reversed = all.clone();
    reversed.reverse();
    for statements in [all, reversed] {
        let case = Case::with(statements);
        let case = case.emergency("from", json!([{"person": "ben"}, {"person": "cleo"}]));
        assert_eq!(case.passes().declared_by, ["dan".to_owned()].into());
    }
}

#[test]
fn an_image_that_is_refused_by_its_name_does_not_pass_although_the_policy_lists_allowed_images() {
    let mut case = Case::new().emergency("waives", json!(["approvals", "allowedImages"]));
    let allowed = json!({"allowedImages": {"patterns": ["elsewhere.example/**"]}});
    case.spec["requirements"]
        .as_array_mut()
        .unwrap()
        .push(allowed);
    let why = "cannot waive `allowedImages`, because the registry of an image that is refused by its name is not asked";
    case.denied("emergency-does-not-waive", why);
}
