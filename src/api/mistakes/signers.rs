//! Identities and claims of certificates.

use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::Glob;
use serde_json::Value;

use super::Mistakes;

/// Issuers whose identities have a known shape, with an example of it (Fulcio, "OIDC usage").
const SHAPES: &[(&str, &str, &str)] = &[
    (
        "https://token.actions.githubusercontent.com",
        "https://*/*/*/.github/workflows/*@refs/**",
        "https://github.com/OWNER/NAME/.github/workflows/FILE@refs/heads/BRANCH",
    ),
    (
        "https://gitlab.com",
        "https://gitlab.com/**//**@**",
        "https://gitlab.com/GROUP/NAME//.gitlab-ci.yml@refs/heads/BRANCH",
    ),
];

/// Claims of certificates whose values have a known shape, with an example of it (Fulcio, `docs/oid-info.md`).
const CLAIMS: &[(&[&str], &str, &str)] = &[
    (
        &["sourceRepository", "sourceRepositoryUri"],
        "*://*/*/**",
        "https://github.com/OWNER/NAME",
    ),
    (
        &["sourceRepositoryOwnerUri"],
        "*://*/**",
        "https://github.com/OWNER",
    ),
    (
        &["sourceRepositoryRef", "githubWorkflowRef"],
        "refs/**",
        "refs/heads/main",
    ),
    (&["githubWorkflowRepository"], "*/*", "OWNER/NAME"),
    (
        &["buildSignerUri", "buildConfigUri"],
        "*://**@**",
        "https://github.com/OWNER/NAME/.github/workflows/FILE@refs/heads/BRANCH",
    ),
    (
        &["runInvocationUri"],
        "*://**",
        "https://github.com/OWNER/NAME/actions/runs/1/attempts/1",
    ),
];

impl Mistakes {
    /// Looks at every certificate identity below `value`.
    pub(super) fn signers(&mut self, value: &Value, here: &Path) {
        match value {
            Value::Object(fields) => {
                if let Some(keyless) = fields.get("keyless") {
                    self.keyless(keyless, &here.key("keyless"));
                }
                for (key, value) in fields {
                    self.signers(value, &here.key(key));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.signers(item, &here.index(index));
                }
            }
            _ => {}
        }
    }

    fn keyless(&mut self, keyless: &Value, here: &Path) {
        self.claims(keyless, &here.key("claims"));
        let Some(issuer) = keyless.get("issuer").and_then(Value::as_str) else {
            return;
        };
        if !issuer.contains("://") {
            let message = format!("issuers are addresses; write `https://{issuer}`");
            self.warn(here.key("issuer"), message);
        }
        let known = SHAPES
            .iter()
            .find(|(known, _, _)| *known == issuer.trim_end_matches('/'));
        let Some((known, shape, example)) = known else {
            return;
        };
        if issuer != *known {
            let message = format!("no certificate names the issuer `{issuer}`; write `{known}`");
            self.warn(here.key("issuer"), message);
        }
        let identity = keyless.get("identity");
        let glob = identity
            .and_then(|identity| identity.get("glob"))
            .and_then(Value::as_str);
        let written = identity.and_then(Value::as_str).or(glob).unwrap_or("**");
        // The identity of a reusable workflow can also name a commit.
        let (_, reference) = written.rsplit_once('@').unwrap_or_default();
        if reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit()) {
            return;
        }
        if let (Ok(shape), Ok(pattern)) = (Glob::parse(shape), Glob::parse(written))
            && !pattern.intersects(&shape)
        {
            let message = format!(
                "`{written}` matches no identity of `{known}`, which looks like `{example}`; `*` stays within a part of it, `**` crosses parts"
            );
            self.warn(here.key("identity"), message);
        }
    }

    fn claims(&mut self, keyless: &Value, here: &Path) {
        let claims = keyless.get("claims").and_then(Value::as_object);
        for (claim, value) in claims.into_iter().flatten() {
            let glob = value.get("glob").and_then(Value::as_str);
            let known = CLAIMS
                .iter()
                .find(|(names, ..)| names.contains(&claim.as_str()));
            let (Some((_, shape, example)), Some(written)) = (known, value.as_str().or(glob))
            else {
                continue;
            };
            if let (Ok(shape), Ok(pattern)) = (Glob::parse(shape), Glob::parse(written))
                && !pattern.intersects(&shape)
            {
                let message = format!(
                    "`{written}` matches no claim `{claim}`, which looks like `{example}`; `*` stays within a part of it, `**` crosses parts"
                );
                self.warn(here.key(claim), message);
            }
        }
    }
}
