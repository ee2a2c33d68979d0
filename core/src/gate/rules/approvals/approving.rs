//! The command that gives an approval, complete, as a hint shows it.

use super::{Approvals, ImageCheck, ScopeName};
use crate::gate::evidence::Collected;

/// The arguments of `promotion-gate approve` that this policy asks for here. Each is quoted for a shell where that is necessary:
/// names of namespaces and files are written by others.
pub(super) fn command(rule: &Approvals, check: &ImageCheck<'_>) -> String {
    let mut words = ["promotion-gate", "approve"].map(str::to_owned).to_vec();
    words.push(check.name());
    let mut add = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    let environment = check.policy.environment.as_deref();
    add("--environment", environment.unwrap_or_default());
    let (namespace, world) = (&check.promotion.change.workload.namespace, check.world);
    if let Some(namespace) = namespace {
        add("--namespace", namespace);
    }
    for scope in &rule.require_scopes {
        let value = match scope {
            ScopeName::Namespace => namespace.as_ref(),
            ScopeName::Cluster => known(&world.cluster),
            ScopeName::ClusterUid => known(&world.cluster_uid),
        };
        let placeholder = scope.as_str().to_uppercase();
        let value = value.unwrap_or(&placeholder);
        add("--scope", &format!("{}={value}", scope.as_str()));
    }
    if rule.change.as_ref().is_some_and(|change| change.required) {
        add("--change", "ID");
    }
    let evidence = check.evidence.value();
    if let Some(second) = evidence.and_then(|evidence| evidence.second_repository.as_ref()) {
        add("--repository", second.name());
    }
    words.extend_from_slice(&world.approve_arguments);
    command_line(words.iter().map(String::as_str))
}

/// A command as a POSIX shell reads it, on one line.
pub fn command_line<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.map(quoted).collect();
    words.join(" ")
}

fn known(value: &Collected<String>) -> Option<&String> {
    match value {
        Collected::Known(value) => Some(value),
        Collected::Partial(_, _) | Collected::Unavailable(_) => None,
    }
}

/// A word as a POSIX shell reads it, on one line.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => {
            let word = word.replace(char::is_control, " ");
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_others_named_is_one_word_of_a_shell() {
        for (word, shown) in [
            (
                "ghcr.io/example/app@sha256:6b95",
                "ghcr.io/example/app@sha256:6b95",
            ),
            ("namespace=shop", "namespace=shop"),
            ("", "''"),
            ("my policies", "'my policies'"),
            ("x; rm -rf ~", "'x; rm -rf ~'"),
            ("$(id)", "'$(id)'"),
            ("it's", r"'it'\''s'"),
            ("a\nb", "'a b'"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }
}
