//! Policies that can be read and probably do not mean what they say.

use promotion_gate::api;
use serde_json::{Value, json};

use super::{HEAD, SIGNER, said};
use crate::facts::FACTS;

#[test]
fn a_label_that_cannot_match_warns_where_another_one_can() {
    let load = |matches: Value| {
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": "p"},
            "spec": {"match": {"namespaces": matches}, "requirements": [{"digestPinned": {}}]},
        });
        let sources = [("p.yaml".to_owned(), policy.to_string().into_bytes())];
        let set = api::load(&sources, &FACTS.trust_roots());
        (set.problems.len(), set.warnings.len())
    };
    let term = |operator: &str, values: &[&str]| {
        json!({"selector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": operator, "values": values},
        ]}})
    };
    assert_eq!(load(term("In", &["Shop"])), (1, 0));
    assert_eq!(load(term("In", &["shop", "Shop"])), (0, 1));
    assert_eq!(load(term("NotIn", &["kube_system"])), (0, 1));
    let contradiction = json!({"matchLabels": {"tier": "a"}, "matchExpressions": [
        {"key": "tier", "operator": "NotIn", "values": ["a"]},
    ]});
    assert_eq!(load(json!({"selector": contradiction})), (1, 0));
    assert_eq!(
        load(json!({"names": ["shop"], "selector": contradiction})),
        (0, 1)
    );
}

#[test]
fn a_pattern_that_can_match_nothing_is_refused_with_the_remedy() {
    let provenance = |fields: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{provenance: {{builders: [{{id: \"https://b.example\", signedBy: {SIGNER}}}], {fields}}}}}]\n"
        )
    };
    let named = |name: &str| {
        format!(
            "  match: {{namespaces: {{names: [\"{name}\"]}}}}\n  requirements: [{{digestPinned: {{}}}}]\n"
        )
    };
    let selected = |selector: &str| {
        format!(
            "  match: {{namespaces: {{selector: {selector}}}}}\n  requirements: [{{digestPinned: {{}}}}]\n"
        )
    };
    for (spec, remedy) in [
        (
            "  match: {images: [\"r.example/app:*\"]}\n  requirements: [{digestPinned: {}}]\n"
                .to_owned(),
            "write `r.example/app`",
        ),
        (
            "  requirements: [{allowedImages: {patterns: [\"r.example/app:v*\"]}}]\n".to_owned(),
            "write `r.example/app`",
        ),
        (
            "  requirements: [{allowedImages: {patterns: [\"ghcr.io\"]}}]\n".to_owned(),
            "write `ghcr.io/**`",
        ),
        (
            "  requirements: [{allowedImages: {patterns: [\"ghcr.io/Example/*\"]}}]\n".to_owned(),
            "write `ghcr.io/example/*`",
        ),
        (named("prod-.*"), "no namespace matches `prod-.*`"),
        (named("Prod-*"), "no namespace matches `Prod-*`"),
        (named("^prod$"), "is a regular expression"),
        (named("-prod"), "begin and end with a letter"),
        (
            "  match: {namespaces: {selector: {matchLabels: {tier: \"prod*\"}}}}\n  requirements: [{digestPinned: {}}]\n"
                .to_owned(),
            "no label has the value `prod*`",
        ),
        (
            selected("{matchLabels: {tier: a}, matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}"),
            "no value of the label `tier` fulfils every term",
        ),
        (
            selected("{matchExpressions: [{key: tier, operator: In, values: [a]}, {key: tier, operator: NotIn, values: [a]}]}"),
            "list alternatives in one `In`",
        ),
        (
            selected("{matchExpressions: [{key: tier, operator: Exists}, {key: tier, operator: DoesNotExist}]}"),
            "remove the term that excludes them",
        ),
        (
            selected("{matchExpressions: [{key: tier, operator: In, values: [a]}, {key: tier, operator: In, values: [b]}]}"),
            "fulfils every term",
        ),
        (
            selected("{matchLabels: {kubernetes.io/metadata.name: Prod}}"),
            "under `match.namespaces.names`",
        ),
        (
            provenance("anySource: true, branches: [\"main$\"]"),
            "is a regular expression, which is not supported; write `main`;",
        ),
        (
            provenance("anySource: true, tags: [\"^v.*\"]"),
            "write `v**`;",
        ),
        (
            provenance("anySource: true, buildTypes: [\"^https://b/.*$\"]"),
            "write `{glob: \"https://b/**\"}`",
        ),
        (
            provenance("sources: [\"git@github.com:example/app.git\"]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("sources: [example/app]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("sources: [\"https://github.com/example\"]"),
            "write `https://github.com/example/NAME`, or `{glob: \"https://github.com/example/*\"}`",
        ),
        (
            provenance("sources: [\"https://gitlab.com/example\"]"),
            "write `https://gitlab.com/example/NAME`",
        ),
        (
            provenance("sources: [\"https://github.com/example/app/tree/main\"]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("anySource: true, branches: [refs/heads/main]"),
            "write `main`",
        ),
        (
            provenance("anySource: true, tags: [refs/tags/v1]"),
            "write `v1`",
        ),
        (
            provenance("anySource: true, branches: [refs/tags/v1]"),
            "write `main`",
        ),
        (
            provenance("anySource: true, branches: [\"release-[0-9]\"]"),
            "references of git cannot contain `[`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/example/app.git\"}]"),
            "write `https://github.com/example/app`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/example/*@refs/heads/main\"}]"),
            "references under `branches` or `tags`",
        ),
        (
            provenance("sources: [{glob: \"ssh://git@git.example/**.git\"}]"),
            "write `ssh://git@git.example/**`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/*\"}]"),
            "write `https://github.com/**`",
        ),
        (
            provenance("sources: [{glob: \"https://github.com/example\"}]"),
            "write `https://github.com/example/*`",
        ),
        (
            provenance("sources: [{glob: \"^https://github.com/example/.*$\"}]"),
            "is a regular expression",
        ),
        (
            provenance("anySource: true, buildTypes: [\"^https://b$\"]"),
            "is a regular expression",
        ),
    ] {
        said(&spec, remedy);
    }
}

/// That a sound policy is warned of in these words; of nothing where they are empty.
#[track_caller]
fn warned(spec: &str, expected: &str) {
    let sources = [("p.yaml".to_owned(), format!("{HEAD}{spec}").into_bytes())];
    let set = api::load(&sources, &FACTS.trust_roots());
    assert_eq!(set.problems, [], "{spec}");
    let warnings = set.warnings.iter().map(ToString::to_string);
    // There is no people directory here, which is warned of too.
    let warnings = warnings.filter(|warning| !warning.contains("no people directory"));
    let warnings: Vec<_> = warnings.collect();
    match expected {
        "" => assert!(warnings.is_empty(), "{spec}: {warnings:?}"),
        expected => assert!(
            warnings.iter().any(|warning| warning.contains(expected)),
            "{spec}: {warnings:?}"
        ),
    }
}

#[test]
fn seats_that_only_one_signer_can_fill_are_warned_of() {
    let person = |identity: &str| {
        format!(
            "{{keyless: {{issuer: \"https://i.example\", identity: {identity}, trustRoots: [sandbox]}}}}"
        )
    };
    let workflow = |reference: &str| {
        let of = "https://github.com/example/app/.github/workflows/release.yml";
        person(&format!("{{glob: \"{of}@{reference}\"}}"))
    };
    let (alice, bob) = (person("alice@example.com"), person("bob@example.com"));
    let shouted = person("ALICE@example.com");
    let anybody = person("{glob: \"*@example.com\"}");
    let (tags, main) = (workflow("refs/tags/v*"), workflow("refs/heads/main"));
    let key = format!(
        "{{key: {{pem: \"{}\"}}}}",
        FACTS.key.public_pem().replace('\n', "\\n")
    );
    let never = "requirements[0].signature: this can never be met";
    for (signers, expected) in [
        (format!("{{threshold: 2, anyOf: [{tags}]}}"), never),
        (format!("{{threshold: 2, anyOf: [{tags}, {main}]}}"), never),
        (
            format!("{{threshold: 2, anyOf: [{alice}, {shouted}]}}"),
            never,
        ),
        (format!("{{threshold: 2, anyOf: [{key}]}}"), never),
        (format!("{{threshold: 3, anyOf: [{alice}, {bob}]}}"), never),
        (format!("{{allOf: [{alice}, {alice}]}}"), never),
        (format!("{{allOf: [{tags}, {{anyOf: [{main}]}}]}}"), never),
        (
            format!("{{anyOf: [{bob}, {{allOf: [{alice}, {shouted}]}}]}}"),
            never,
        ),
        (
            format!("{{threshold: 2, anyOf: [{anybody}, {tags}]}}"),
            "`threshold: 2` is met by any 2 different signers that `*@example.com` (issuer `https://i.example`) matches",
        ),
        (
            format!("{{allOf: [{bob}, {{threshold: 2, anyOf: [{anybody}]}}]}}"),
            "is met by any 2",
        ),
        (format!("{{anyOf: [{anybody}, {tags}]}}"), ""),
        (format!("{{threshold: 2, anyOf: [{alice}, {bob}]}}"), ""),
        (format!("{{threshold: 2, anyOf: [{alice}, {key}]}}"), ""),
        (format!("{{allOf: [{anybody}, {alice}, {tags}]}}"), ""),
        (
            format!("{{allOf: [{alice}, {{anyOf: [{alice}, {bob}]}}]}}"),
            "",
        ),
        (format!("{{threshold: 1, anyOf: [{tags}]}}"), ""),
    ] {
        let spec = format!("  tags: Resolve\n  requirements: [{{signature: {signers}}}]\n");
        warned(&spec, expected);
    }
}

#[test]
fn what_probably_comes_from_another_tool_is_warned_of() {
    let allowed = |pattern: &str| {
        format!("  requirements: [{{allowedImages: {{patterns: [\"{pattern}\"]}}}}]\n")
    };
    for (pattern, expected) in [
        ("*", "write `**`"),
        ("*/*", "of Docker Hub alone"),
        ("ghcr.io/*", "write `ghcr.io/**`"),
        ("ghcr.io/example*", "write `ghcr.io/example**`"),
        ("registry.example/*", "write `registry.example/**`"),
        ("docker.io/*", ""),
        ("ghcr.io/example/*", ""),
        ("**", ""),
        ("registry.k8s.io/**", ""),
    ] {
        warned(&allowed(pattern), expected);
    }
    let shouted =
        "  match: {images: [\"GHCR.io/example/**\"]}\n  requirements: [{digestPinned: {}}]\n";
    warned(shouted, "write `ghcr.io/example/**`");
    let tagged = "  tags: Resolve\n  match: {images: [\"r.example/app:*\"]}\n  requirements: [{allowedImages: {patterns: [\"r.example/**\"]}}]\n";
    warned(tagged, "write `r.example/app` to match those too");
    let signed = |issuer: &str, identity: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{signature: {{anyOf: [{{keyless: {{issuer: \"{issuer}\", identity: {identity}, trustRoots: [sandbox]}}}}]}}}}]\n"
        )
    };
    let github = "https://token.actions.githubusercontent.com";
    for (issuer, identity, expected) in [
        (
            github,
            "{glob: \"https://github.com/example/*\"}",
            "`**` crosses parts",
        ),
        (
            github,
            "\"https://github.com/example/app/.github/workflows/release.yml\"",
            "which looks like",
        ),
        (github, "\"release@example.com\"", "which looks like"),
        (github, "{glob: \"https://github.com/example/**\"}", ""),
        (
            github,
            "\"https://github.com/example/app/.github/workflows/release.yml@refs/heads/main\"",
            "",
        ),
        (
            "https://token.actions.githubusercontent.com/",
            "{glob: \"https://github.com/example/**\"}",
            "write `https://token.actions.githubusercontent.com`",
        ),
        (
            "accounts.google.com",
            "\"a@example.com\"",
            "write `https://accounts.google.com`",
        ),
        (
            "https://gitlab.com",
            "{glob: \"https://gitlab.com/group/*\"}",
            "which looks like",
        ),
        (
            "https://gitlab.com",
            "{glob: \"https://gitlab.com/group/*//.gitlab-ci.yml@refs/heads/main\"}",
            "",
        ),
        (
            "https://i.example",
            "{glob: \"https://github.com/.*/x\"}",
            "begin with a dot",
        ),
        (
            "https://i.example",
            "{glob: \"https://github.com/(a|b)/x\"}",
            "one entry for each",
        ),
        (
            "https://i.example",
            "{glob: \"https://github.com/{a,b}/x\"}",
            "one entry for each",
        ),
        (
            "https://i.example",
            "{glob: \"release-[0-9]@example.com\"}",
            "character classes",
        ),
        (
            "https://i.example",
            "\"https://github.com/.+/x\"",
            "write `{glob: …}` with `*`",
        ),
        (
            "https://i.example",
            "\"(a|b)@example.com\"",
            "one entry for each",
        ),
        ("https://i.example", "\"https://ci.example/?job=1\"", ""),
        (
            github,
            "{glob: \"https://github.com/example/app/.github/workflows/*@main\"}",
            "which looks like",
        ),
        (
            github,
            "\"https://github.com/example/app/.github/workflows/release.yml@1111111111111111111111111111111111111111\"",
            "",
        ),
    ] {
        warned(&signed(issuer, identity), expected);
    }
    let claimed = |claims: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{signature: {{anyOf: [{{keyless: {{issuer: \"https://i.example\", anyIdentity: true, claims: {claims}, trustRoots: [sandbox]}}}}]}}}}]\n"
        )
    };
    for (claims, expected) in [
        (
            "{sourceRepositoryRef: main}",
            "which looks like `refs/heads/main`",
        ),
        (
            "{githubWorkflowRef: {glob: \"v*\"}}",
            "which looks like `refs/heads/main`",
        ),
        (
            "{sourceRepository: example/app}",
            "https://github.com/OWNER/NAME",
        ),
        (
            "{sourceRepositoryUri: {glob: \"https://github.com/*\"}}",
            "OWNER/NAME",
        ),
        (
            "{githubWorkflowRepository: \"https://github.com/example/app\"}",
            "`OWNER/NAME`",
        ),
        ("{runnerEnvironment: (a|b)}", "one entry for each"),
        (
            "{sourceRepositoryRef: {glob: \"refs/tags/v*\"}, sourceRepository: \"https://github.com/example/app\", githubWorkflowRepository: {glob: \"example/*\"}}",
            "",
        ),
    ] {
        warned(&claimed(claims), expected);
    }
    let built = |fields: &str| {
        format!(
            "  tags: Resolve\n  requirements: [{{provenance: {{builders: [{{id: \"https://b.example\", signedBy: {SIGNER}}}], {fields}}}}}]\n"
        )
    };
    for (fields, expected) in [
        (
            "anySource: true, branches: [\"release-.*\"]",
            "write `*` or `**` without it",
        ),
        (
            "anySource: true, branches: [\"(main|master)\"]",
            "one entry for each",
        ),
        (
            "anySource: true, branches: [\"{main,master}\"]",
            "one entry for each",
        ),
        (
            "anySource: true, branches: [\".+\"]",
            "write `*` or `**` without it",
        ),
        ("anySource: true, branches: [heads/main]", "write `main`"),
        (
            "anySource: true, tags: [\"v.*\"]",
            "write `*` or `**` without it",
        ),
        (
            "anySource: true, tags: [\"v1.*\"], branches: [main, \"release/*\"]",
            "",
        ),
        (
            "anySource: true, buildTypes: [\"https://b/.+\"]",
            "write `{glob: …}` with `*`",
        ),
        (
            "sources: [\"http://github.com/example/app\"]",
            "write `https://github.com/example/app`",
        ),
        (
            "sources: [\"ssh://git@github.com/example/app\"]",
            "write `https://github.com/example/app`",
        ),
        (
            "sources: [\"https://www.github.com/example/app\"]",
            "write `https://github.com/example/app`",
        ),
        (
            "sources: [\"https://git.example/app\", \"https://gitlab.com/a/b/c\", {glob: \"https://github.com/example/*\"}, {glob: \"ssh://git@**\"}, {glob: \"ssh://git@git.example/**\"}]",
            "",
        ),
    ] {
        warned(&built(fields), expected);
    }
}

#[test]
fn fields_of_other_tools_are_refused_with_what_to_use_instead() {
    let signature =
        |body: &str| format!("  tags: Resolve\n  requirements: [{{signature: {body}}}]\n");
    for (spec, expected) in [
        (
            "  authorities: [{}]\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "use `- signature: {anyOf: […]}` instead",
        ),
        (
            "  requirements: [{attestors: []}]\n".to_owned(),
            "use `- signature: {anyOf: […]}` instead",
        ),
        (
            "  images: []\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "use `match.images` instead",
        ),
        (
            signature("{anyOf: [{keyless: {issuer: \"https://i.example\", subject: x}}]}"),
            "unknown field `subject`; use `identity` instead",
        ),
        (
            signature("{anyOf: [{keyless: {issuer: \"https://i.example\", subjectRegExp: x}}]}"),
            "use `identity: {glob: …}` instead",
        ),
        (
            signature(
                "{anyOf: [{keyless: {issuer: \"https://i.example\", identity: {regex: x}}}]}",
            ),
            "use `glob` instead",
        ),
        (
            "  rules: []\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "unknown field `rules`; use `requirements` instead",
        ),
        (
            "  exclude: {}\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "unknown field `exclude`; use `match`, which names what is governed, instead",
        ),
        (
            "  keyless: {}\n  requirements: [{digestPinned: {}}]\n".to_owned(),
            "use `- signature: {anyOf: [{keyless: {…}}]}` instead",
        ),
        (
            "  requirements: [{digestPinned: {}}, {keyless: {}}]\n".to_owned(),
            "unknown field `keyless`; use `- signature: {anyOf: [{keyless: {…}}]}` instead",
        ),
        (
            signature(
                "{anyOf: [{keyless: {issuer: \"https://i.example\", certificate-identity: x}}]}",
            ),
            "unknown field `certificate-identity`; use `identity` instead",
        ),
        (
            signature(
                "{anyOf: [{keyless: {issuer: \"https://i.example\", certificateIdentity: x}}]}",
            ),
            "unknown field `certificateIdentity`; use `identity` instead",
        ),
        (
            signature("{attestors: []}"),
            "use `- signature: {anyOf: […]}` instead",
        ),
    ] {
        said(&spec, expected);
    }
}

#[test]
fn a_staleness_is_a_length_of_time() {
    for (staleness, expected) in [
        ("soon", "spec.staleness: `soon` is not a length of time"),
        ("1h30m", "write a whole number and `s`, `m`, `h` or `d`"),
        ("0s", "not between 1 second and 3660 days"),
        ("90", "spec.staleness"),
    ] {
        let spec = format!("  staleness: {staleness}\n  requirements: [{{digestPinned: {{}}}}]\n");
        said(&spec, expected);
    }
}

#[test]
fn approvals_that_ask_nobody_or_contradict_themselves_are_refused() {
    let among = |rest: &str| {
        format!(
            "  environment: production\n  requirements: [{{digestPinned: {{}}}}, {{approvals: {{{rest}}}}}]\n"
        )
    };
    let from = |from: &str| among(&format!("differentFromAuthor: false, from: [{from}]"));
    let team = |rest: &str| among(&format!("from: [{{group: team}}], {rest}"));
    let alone = |rest: &str| team(&format!("differentFromAuthor: false, {rest}"));
    let builder = |id: &str| {
        format!(
            "authorsFrom: [{{provenance: {{builders: [{{id: \"{id}\", signedBy: {SIGNER}}}]}}}}]"
        )
    };
    let record = format!("authorsFrom: [{{changeRecord: {{signedBy: {SIGNER}}}}}]");
    for (spec, expected) in [
        (from(""), "approvals.from: the list is empty"),
        (from("{group: team, count: 0}"), "the minimum is 1"),
        (from("{group: team, count: 101}"), "the maximum is 100"),
        (
            from("{person: ada, count: 1}"),
            "`count` belongs to `group`",
        ),
        (
            from("{person: ada, group: team}"),
            "exactly one of `group` and `person`",
        ),
        (from("{group: a}, {group: a}"), "names the group `a` twice"),
        (
            from("{person: a}, {person: a}"),
            "names the person `a` twice",
        ),
        (
            alone("trustRoots: []"),
            "approvals.trustRoots: the list is empty",
        ),
        (alone("transparency: None"), "the least is `Timestamp`"),
        (
            team("authorsFrom: [{}]"),
            "exactly one of `provenance` and `changeRecord`",
        ),
        (
            team("authorsFrom: [{provenance: {builders: []}}]"),
            "the list is empty",
        ),
        (
            team("deployerIsAuthor: true"),
            "who wrote the change must be known",
        ),
        (
            alone(&builder("https://b.example")),
            "`authorsFrom` has no effect",
        ),
        (alone("deployerIsAuthor: true"), "have no effect"),
        (alone("automationMayAuthor: true"), "have no effect"),
        (
            alone("minimumAge: 1h, maximumAge: 60m"),
            "already older than `maximumAge: 1h`",
        ),
        (team(&record), "add the requirement `provenance`"),
        (
            alone("trustRoots: [sandbox]").replace("environment: production", "tags: Resolve"),
            "set `environment` in `spec`",
        ),
    ] {
        said(&spec, expected);
    }
    let generator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/g.yml@refs/tags/v2";
    let with_record = format!(
        "  environment: production\n  requirements:\n  - digestPinned: {{}}\n  - provenance: {{anySource: true, builders: [{{id: \"https://b.example\", signedBy: {SIGNER}}}]}}\n  - approvals: {{from: [{{group: team}}], authorsFrom: [{{provenance: {{builders: [{{id: \"https://b.example\", signedBy: {SIGNER}}}]}}}}, {{changeRecord: {{signedBy: {SIGNER}}}}}]}}\n"
    );
    let only = "only provenance says who wrote the change";
    for (spec, expected) in [
        (from("{group: team, count: 100}, {person: team}"), ""),
        (alone("minimumAge: 1h, maximumAge: 61m"), ""),
        (team(&builder("https://b.example")), only),
        (team(&builder(generator)), ""),
        (with_record, ""),
    ] {
        warned(&spec, expected);
    }
}
