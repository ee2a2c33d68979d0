//! People as a test names them → the accounts and signers that they stand for, and the statements that they make.

use promotion_gate_core::attest::predicate::{APPROVAL, CHANGE};
use promotion_gate_core::gate::{Identity, People, SourcePlatform};
use serde_json::{Map, Value, json};

use super::format::{ApprovalSpec, ChangeRecordSpec, SignerSpec, Spec};
use super::provenance::COMMIT;

/// Adds every person with a certificate identity to the signers of a test, unless it has a signer of that name.
pub(super) fn add_signers(spec: &mut Spec, people: &People) {
    for person in people.people() {
        let certificate = person.identities().find_map(|identity| match identity {
            Identity::Certificate { issuer, name } => Some((issuer.clone(), name.clone())),
            _ => None,
        });
        let Some((issuer, identity)) = certificate else {
            continue;
        };
        let signer = spec.signers.entry(person.name.clone());
        signer.or_insert_with(|| SignerSpec {
            identity: Some(identity),
            issuer: Some(issuer),
            ..SignerSpec::default()
        });
    }
}

/// An account of a platform, as a change record names it: of a person of the directory, or `github:LOGIN`,
/// `gitlab:[HOST/]LOGIN`.
pub(super) fn account(
    name: &str,
    people: Option<&People>,
) -> Result<(SourcePlatform, Value), String> {
    if let Some((platform, login)) = name.split_once(':') {
        let platform = match platform {
            "github" => SourcePlatform::GitHub,
            "gitlab" => SourcePlatform::GitLab,
            _ => {
                return Err(format!(
                    "`{name}` is not an account; write `github:LOGIN` or `gitlab:LOGIN`"
                ));
            }
        };
        return Ok(match login.rsplit_once('/') {
            Some((host, login)) => (platform, json!({"host": host, "login": login})),
            None => (platform, json!({ "login": login })),
        });
    }
    let person = people.and_then(|people| people.person(name));
    let person = person.ok_or_else(|| {
        format!("the people directories do not name `{name}`; an account is written `github:LOGIN`")
    })?;
    let account = person.identities().find_map(|identity| match identity {
        Identity::Account(account) => Some(account),
        _ => None,
    });
    let account = account.ok_or_else(|| {
        format!("the directory does not list an account of `{name}` on GitHub or GitLab; write `github:LOGIN`")
    })?;
    let mut written = json!({"host": account.host(), "login": account.login()});
    if let (Some(id), Some(fields)) = (account.id(), written.as_object_mut()) {
        fields.insert("id".to_owned(), id.into());
    }
    Ok((account.platform(), written))
}

/// The statement of an approval or rejection.
pub(super) fn approval(
    written: &ApprovalSpec,
    decision: &str,
    environment: &str,
) -> (&'static str, Value) {
    let mut predicate = Map::new();
    predicate.insert("environment".to_owned(), environment.into());
    predicate.insert("decision".to_owned(), decision.into());
    for (field, text) in [
        ("reason", &written.reason),
        ("validUntil", &written.valid_until),
    ] {
        if let Some(text) = text {
            predicate.insert(field.to_owned(), text.as_str().into());
        }
    }
    if let Some(change) = &written.change {
        predicate.insert("change".to_owned(), json!({ "id": change }));
    }
    if !written.scopes.is_empty() {
        predicate.insert("scopes".to_owned(), json!(written.scopes));
    }
    (APPROVAL, Value::Object(predicate))
}

/// The statement of a change record. Its authors opened the pull request.
pub(super) fn change_record(
    written: &ChangeRecordSpec,
    people: Option<&People>,
) -> Result<(&'static str, Value), String> {
    let to = written.to.as_deref().unwrap_or(COMMIT);
    let identity = |name: &String| {
        let (platform, account) = account(name, people)?;
        Ok(json!({ platform.to_string(): account }))
    };
    let authors = written
        .authors
        .iter()
        .map(|name| Ok(json!({"identity": identity(name)?, "did": "opened", "pullRequest": 1})));
    let authors: Vec<Value> = authors.collect::<Result<_, String>>()?;
    let reviewers: Vec<Value> = written
        .reviewers
        .iter()
        .map(identity)
        .collect::<Result<_, String>>()?;
    let mut predicate = json!({
        "repository": written.repository,
        "to": to,
        "commits": [to],
        "authors": authors,
        "reviewers": reviewers,
        "unknownAuthors": written.unknown_authors,
    });
    if let Some(fields) = predicate.as_object_mut() {
        for (field, text) in [
            ("from", &written.from),
            ("reason", &written.reason),
            ("securityImpact", &written.security_impact),
            ("testing", &written.testing),
            ("backOutPlan", &written.back_out_plan),
        ] {
            if let Some(text) = text {
                fields.insert(field.to_owned(), text.as_str().into());
            }
        }
    }
    Ok((CHANGE, predicate))
}
