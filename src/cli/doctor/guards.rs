//! Are the admission policies that guard the gate in force, and as this version ships them?

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use promotion_gate_core::documents;
use serde::Serialize;
use serde_json::Value;

use super::checks;
use super::report::DoctorReport;

/// As shipped; they name the gate's own account.
const SHIPPED: &str = include_str!("../../../deploy/manifests/guards.yaml");
const ACCOUNT_AS_SHIPPED: &str = "system:serviceaccount:promotion-gate:promotion-gate";
/// The user name of a service account, before its namespace and name.
pub(super) const ACCOUNT: &str = "system:serviceaccount:";
const NAMESPACE_AS_SHIPPED: &str = r#"resourceNames: ["promotion-gate"]"#;

/// The names of the policies and of their bindings.
pub(super) const NAMES: [&str; 4] = [
    CONFIGURATION,
    "promotion-gate-records",
    "promotion-gate-registration",
    "promotion-gate-namespace",
];
/// The policy with the variable that names the account of cert-manager with `certificates.mode: certManager` of the chart, and the variable
/// as shipped.
const CONFIGURATION: &str = "promotion-gate-configuration";
const INJECTOR: &str = "injector";
const NO_INJECTOR: &str = r#"expression: '""'"#;

/// Says what is missing or different. `account` is the user name of the gate's service account.
pub(super) fn check(
    policies: &[ValidatingAdmissionPolicy],
    bindings: &[ValidatingAdmissionPolicyBinding],
    account: &str,
    report: &mut DoctorReport,
) -> InForce {
    let (mut missing, mut changed) = (Vec::new(), Vec::new());
    let mut text = as_shipped(account);
    if let Some(account) = injector(policies) {
        text = text.replace(NO_INJECTOR, &format!("expression: '{account}'"));
    }
    let (shipped, _) = documents::read("guards.yaml", text.as_bytes());
    for shipped in shipped.iter().map(|document| &document.value) {
        let field = |pointer: &str| shipped.pointer(pointer).and_then(Value::as_str);
        let (kind, name) = (field("/kind"), field("/metadata/name"));
        let (Some(kind), Some(name)) = (kind, name) else {
            continue;
        };
        let named = |of: Option<&String>| of.is_some_and(|of| of == name);
        let spec = match kind {
            "ValidatingAdmissionPolicy" => {
                let found = policies.iter().find(|it| named(it.metadata.name.as_ref()));
                found.map(|found| value(&found.spec))
            }
            _ => {
                let found = bindings.iter().find(|it| named(it.metadata.name.as_ref()));
                found.map(|found| value(&found.spec))
            }
        };
        let shown = format!("{kind} `{name}`");
        match (spec, shipped.get("spec")) {
            (Some(found), Some(expected)) => {
                let different = difference(expected, &found, "spec");
                changed.extend(different.map(|place| format!("{shown}: `{place}`")));
            }
            _ => missing.push(shown),
        }
    }
    let in_force = InForce(missing.is_empty() && changed.is_empty());
    report.find_any(&checks::GUARDS_MISSING, missing);
    report.find_any(&checks::GUARDS_CHANGED, changed);
    in_force
}

/// The guards of a gate with this account.
fn as_shipped(account: &str) -> String {
    let namespace = account.split(':').nth(2).unwrap_or_default();
    let names = format!(r#"resourceNames: ["{namespace}"]"#);
    let text = SHIPPED.replace(ACCOUNT_AS_SHIPPED, account);
    text.replace(NAMESPACE_AS_SHIPPED, &names)
}

/// The service account, in quotes, that the policies let write `caBundle`. The chart takes its name from the operator.
fn injector(policies: &[ValidatingAdmissionPolicy]) -> Option<&str> {
    let mut policies = policies.iter();
    let policy = policies.find(|it| it.metadata.name.as_deref() == Some(CONFIGURATION))?;
    let mut variables = policy.spec.as_ref()?.variables.iter().flatten();
    let injector = variables.find(|it| it.name == INJECTOR)?;
    let expression = injector.expression.as_str();
    let account = expression.strip_prefix('"')?.strip_suffix('"')?;
    let (namespace, name) = account.strip_prefix(ACCOUNT)?.split_once(':')?;
    let is_of_name = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.')
    };
    let is_name = |text: &str| !text.is_empty() && text.chars().all(is_of_name);
    (is_name(namespace) && is_name(name)).then_some(expression)
}

/// The user names of the service accounts that expressions of the guards name.
pub(super) fn let_in(policies: &[ValidatingAdmissionPolicy]) -> BTreeSet<String> {
    let of_guards = policies.iter().filter(|policy| {
        let name = policy.metadata.name.as_deref();
        name.is_some_and(|name| NAMES.contains(&name))
    });
    let specs = of_guards.map(|policy| value(&policy.spec).to_string());
    let mut accounts = BTreeSet::new();
    for text in specs {
        accounts.extend(text.split(ACCOUNT).skip(1).map(|rest| {
            let is_of_name =
                |letter: &char| letter.is_ascii_alphanumeric() || "-.:".contains(*letter);
            let name: String = rest.chars().take_while(is_of_name).collect();
            format!("{ACCOUNT}{name}")
        }));
    }
    accounts
}

/// Whether all guards are there, as shipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct InForce(pub(super) bool);

fn value(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

/// The first place where two values differ, beside what an API server adds itself.
fn difference(expected: &Value, found: &Value, place: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let differs = expected.iter().find_map(|(key, value)| {
                let other = found.get(key).unwrap_or(&Value::Null);
                difference(value, other, &format!("{place}.{key}"))
            });
            let added = found.iter().find(|(key, value)| {
                !expected.contains_key(*key) && !is_added_by_api_servers(key, value)
            });
            differs.or_else(|| added.map(|(key, _)| format!("{place}.{key}")))
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let mut pairs = expected.iter().zip(found).enumerate();
            pairs.find_map(|(at, (expected, found))| {
                difference(expected, found, &format!("{place}[{at}]"))
            })
        }
        (Value::String(expected), Value::String(found))
            if expected.split_whitespace().eq(found.split_whitespace()) =>
        {
            None
        }
        (expected, found) => (expected != found).then(|| place.to_owned()),
    }
}

fn is_added_by_api_servers(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => {
            (key == "matchPolicy" && text == "Equivalent") || (key == "scope" && text == "*")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CERT_MANAGER: &str = r#""system:serviceaccount:cert-manager:cert-manager-cainjector""#;

    type Found = (
        Vec<ValidatingAdmissionPolicy>,
        Vec<ValidatingAdmissionPolicyBinding>,
    );

    fn shipped(account: &str) -> Found {
        let text = as_shipped(account);
        let (documents, _) = documents::read("guards.yaml", text.as_bytes());
        let of = |kind: &str| {
            let documents = documents.iter().map(|document| document.value.clone());
            documents
                .filter(|value| value["kind"] == kind)
                .collect::<Vec<_>>()
        };
        let policies = of("ValidatingAdmissionPolicy").into_iter();
        let bindings = of("ValidatingAdmissionPolicyBinding").into_iter();
        (
            policies
                .map(|it| serde_json::from_value(it).unwrap())
                .collect(),
            bindings
                .map(|it| serde_json::from_value(it).unwrap())
                .collect(),
        )
    }

    fn found(change: impl FnOnce(&mut Found)) -> Vec<(&'static str, Vec<String>)> {
        let account = "system:serviceaccount:gate:gate";
        let mut guards = shipped(account);
        change(&mut guards);
        let mut report = DoctorReport::new();
        check(&guards.0, &guards.1, account, &mut report);
        let findings = report.findings().iter();
        findings.map(|it| (it.id, it.about.clone())).collect()
    }

    #[test]
    fn the_guards_as_shipped_have_no_hole_whatever_the_account_of_the_gate() {
        assert_eq!(found(|_| {}), []);
    }

    #[test]
    fn a_service_account_in_the_place_of_cert_manager_is_no_hole_and_anything_else_is_one() {
        let with = |account: &str| {
            found(|(policies, _)| {
                let variables = policies[0].spec.as_mut().unwrap().variables.as_mut();
                let mut variables = variables.unwrap().iter_mut();
                let injector = variables.find(|it| it.name == INJECTOR).unwrap();
                injector.expression = account.to_owned();
            })
        };
        assert_eq!(with(CERT_MANAGER), []);
        assert_eq!(with(r#""system:serviceaccount:pki:cainjector""#), []);
        let place = "ValidatingAdmissionPolicy `promotion-gate-configuration`: `spec.variables[2].expression`";
        for other in [
            "request.userInfo.username",
            r#""eve@example.com""#,
            r#""system:serviceaccount:eve""#,
            r#""system:serviceaccount:pki:cainjector" + variables.users[0] + "a""#,
        ] {
            let changed = [("guards-changed", vec![place.to_owned()])];
            assert_eq!(with(other), changed, "{other}");
        }
    }

    #[test]
    fn the_accounts_that_guards_let_in_are_read_from_their_expressions() {
        let account = "system:serviceaccount:gate:gate";
        let (mut policies, _) = shipped(account);
        let collectors = [
            "generic-garbage-collector",
            "namespace-controller",
            "storage-version-migrator-controller",
        ];
        let collectors = collectors.map(|it| format!("system:serviceaccount:kube-system:{it}"));
        let mut expected: BTreeSet<_> =
            collectors.into_iter().chain([account.to_owned()]).collect();
        assert_eq!(let_in(&policies), expected);

        let variables = policies[0].spec.as_mut().unwrap().variables.as_mut();
        let mut variables = variables.unwrap().iter_mut();
        variables.find(|it| it.name == INJECTOR).unwrap().expression = CERT_MANAGER.to_owned();
        expected.insert(CERT_MANAGER.trim_matches('"').to_owned());
        assert_eq!(let_in(&policies), expected);
    }

    #[test]
    fn each_hole_in_the_guards_is_found() {
        assert_eq!(
            found(|(policies, _)| {
                policies.remove(0);
            }),
            [(
                "guards-missing",
                vec!["ValidatingAdmissionPolicy `promotion-gate-configuration`".to_owned()]
            )]
        );
        assert_eq!(
            found(|(_, bindings)| {
                bindings.remove(1);
            }),
            [(
                "guards-missing",
                vec!["ValidatingAdmissionPolicyBinding `promotion-gate-records`".to_owned()]
            )]
        );
        let audits = found(|(_, bindings)| {
            bindings[0].spec.as_mut().unwrap().validation_actions = Some(vec!["Audit".to_owned()]);
        });
        assert_eq!(audits, [("guards-changed", vec!["ValidatingAdmissionPolicyBinding `promotion-gate-configuration`: `spec.validationActions[0]`".to_owned()])]);
        let exempt = found(|(policies, _)| {
            let spec = policies[1].spec.as_mut().unwrap();
            spec.match_conditions = Some(vec![
                serde_json::from_value(
                    json!({"name": "not-eve", "expression": "request.userInfo.username != 'eve'"}),
                )
                .unwrap(),
            ]);
        });
        assert_eq!(
            exempt,
            [(
                "guards-changed",
                vec![
                    "ValidatingAdmissionPolicy `promotion-gate-records`: `spec.matchConditions`"
                        .to_owned()
                ]
            )]
        );
        let another = found(|(policies, _)| {
            let spec = policies[1].spec.as_mut().unwrap();
            let variable = &mut spec.variables.as_mut().unwrap()[0];
            variable.expression = "request.userInfo.username == \"eve\"".to_owned();
        });
        assert_eq!(another, [("guards-changed", vec!["ValidatingAdmissionPolicy `promotion-gate-records`: `spec.variables[0].expression`".to_owned()])]);
    }
}
