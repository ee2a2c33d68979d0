//! The roles and bindings of a cluster → who may do something (RBAC alone: other authorizers are not seen).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

/// A user, a group or a service account of a binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

/// The groups that every user, or every service account, is in.
const OF_EVERYBODY: [&str; 3] = [
    "system:authenticated",
    "system:unauthenticated",
    "system:serviceaccounts",
];

impl Holder {
    fn of(subject: &Subject, namespace: Option<&str>) -> Option<Holder> {
        let name = subject.name.clone();
        match subject.kind.as_str() {
            "User" => Some(Holder::User(name)),
            "Group" => Some(Holder::Group(name)),
            "ServiceAccount" => {
                let namespace = subject.namespace.as_deref().or(namespace)?;
                Some(Holder::account(namespace, &name))
            }
            _ => None,
        }
    }

    pub(super) fn account(namespace: &str, name: &str) -> Holder {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Holder::ServiceAccount { namespace, name }
    }

    /// Whether everybody in the cluster has what it has.
    pub(super) fn is_everybody(&self) -> bool {
        matches!(self, Holder::Group(name) if OF_EVERYBODY.contains(&name.as_str()))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::User(name) => write!(f, "user `{name}`"),
            Holder::Group(name) => write!(f, "group `{name}`"),
            Holder::ServiceAccount { namespace, name } => {
                write!(f, "service account `{namespace}/{name}`")
            }
        }
    }
}

/// Something that may be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right<'a> {
    /// Any of these verbs.
    pub(super) verbs: &'a [&'a str],
    pub(super) group: &'a str,
    /// Plural, with `/` and the subresource where it is about one.
    pub(super) resource: &'a str,
    /// `None` for objects without a namespace.
    pub(super) namespace: Option<&'a str>,
    /// Any object of these names; any object at all where there are none.
    pub(super) names: &'a [String],
}

/// The roles and bindings of a cluster.
#[derive(Debug, Default)]
pub(super) struct Rights {
    cluster_roles: BTreeMap<String, Vec<PolicyRule>>,
    roles: BTreeMap<(String, String), Vec<PolicyRule>>,
    /// With the namespace of the binding; `None` for what counts in the whole cluster.
    bindings: Vec<(Option<String>, RoleRef, Vec<Holder>)>,
}

impl Rights {
    pub(super) fn new(
        cluster_roles: Vec<ClusterRole>,
        roles: Vec<Role>,
        cluster_bindings: Vec<ClusterRoleBinding>,
        bindings: Vec<RoleBinding>,
    ) -> Rights {
        let holders = |subjects: Option<Vec<Subject>>, namespace: Option<&str>| {
            let subjects = subjects.unwrap_or_default();
            let holders = subjects.iter();
            holders
                .filter_map(|subject| Holder::of(subject, namespace))
                .collect()
        };
        let of_cluster = cluster_bindings
            .into_iter()
            .map(|binding| (None, binding.role_ref, holders(binding.subjects, None)));
        let of_namespaces = bindings.into_iter().map(|binding| {
            let namespace = binding.metadata.namespace.unwrap_or_default();
            let holders = holders(binding.subjects, Some(&namespace));
            (Some(namespace), binding.role_ref, holders)
        });
        Rights {
            cluster_roles: (cluster_roles.into_iter())
                .map(|role| {
                    let name = role.metadata.name.unwrap_or_default();
                    (name, role.rules.unwrap_or_default())
                })
                .collect(),
            roles: (roles.into_iter())
                .map(|role| {
                    let place = role.metadata.namespace.unwrap_or_default();
                    let name = role.metadata.name.unwrap_or_default();
                    ((place, name), role.rules.unwrap_or_default())
                })
                .collect(),
            bindings: of_cluster.chain(of_namespaces).collect(),
        }
    }

    /// Who holds a right.
    pub(super) fn holders(&self, right: Right<'_>) -> BTreeSet<&Holder> {
        let giving = self.bindings.iter().filter(|(namespace, role, _)| {
            let counts = match namespace {
                None => true,
                Some(namespace) => right.namespace == Some(namespace.as_str()),
            };
            counts
                && self
                    .rules(namespace.as_deref(), role)
                    .iter()
                    .any(|rule| right.is_in(rule))
        });
        giving.flat_map(|(_, _, holders)| holders).collect()
    }

    fn rules(&self, namespace: Option<&str>, role: &RoleRef) -> &[PolicyRule] {
        let rules = match (role.kind.as_str(), namespace) {
            ("ClusterRole", _) => self.cluster_roles.get(&role.name),
            ("Role", Some(namespace)) => {
                (self.roles).get(&(namespace.to_owned(), role.name.clone()))
            }
            _ => None,
        };
        rules.map_or(&[], Vec::as_slice)
    }
}

impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verbs.join("/"), self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match self.namespace {
            Some(namespace) => write!(f, " in `{namespace}`"),
            None => Ok(()),
        }
    }
}

impl Right<'_> {
    /// As `rbacv1helpers.RuleAllows` of Kubernetes compares them.
    fn is_in(&self, rule: &PolicyRule) -> bool {
        let has = |list: &Option<Vec<String>>, wanted: &str| {
            let mut list = list.iter().flatten();
            list.any(|it| it == "*" || it == wanted)
        };
        let verbs = self.verbs.iter();
        let mut verbs = verbs.filter(|verb| has(&Some(rule.verbs.clone()), verb));
        let subresource = self.resource.split_once('/').map(|(_, sub)| sub);
        let of_all = subresource.map(|sub| format!("*/{sub}"));
        let resource = has(&rule.resources, self.resource)
            || of_all.is_some_and(|all| has(&rule.resources, &all));
        let limited = rule.resource_names.as_deref().unwrap_or_default();
        let named = |verb: &str| {
            // A request to create an object, or about a collection, is not matched by its name.
            let nameless = matches!(verb, "create" | "deletecollection")
                && self.resource.split('/').nth(1).is_none();
            limited.is_empty()
                || (!nameless
                    && (self.names.is_empty()
                        || limited.iter().any(|name| self.names.contains(name))))
        };
        has(&rule.api_groups, self.group) && resource && verbs.any(|verb| named(verb))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rights(rules: Value, namespace: Option<&str>) -> Rights {
        let of = |kind: &str, more: Value| {
            let mut object = json!({"metadata": {"name": "r", "namespace": namespace}});
            for (key, value) in more.as_object().unwrap() {
                object[key] = value.clone();
            }
            object["kind"] = json!(kind);
            object
        };
        let binding = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": "eve"}],
        });
        let roles =
            vec![serde_json::from_value(of("ClusterRole", json!({"rules": rules}))).unwrap()];
        match namespace {
            None => {
                let binding = serde_json::from_value(of("ClusterRoleBinding", binding)).unwrap();
                Rights::new(roles, vec![], vec![binding], vec![])
            }
            Some(_) => {
                let binding = serde_json::from_value(of("RoleBinding", binding)).unwrap();
                Rights::new(roles, vec![], vec![], vec![binding])
            }
        }
    }

    fn may(rights: &Rights, right: Right<'_>) -> bool {
        !rights.holders(right).is_empty()
    }

    const EXEC: Right<'static> = Right {
        verbs: &["create"],
        group: "",
        resource: "pods/exec",
        namespace: Some("gate"),
        names: &[],
    };

    #[test]
    fn a_subresource_is_given_by_its_own_name_or_by_a_star() {
        for (resource, given) in [
            ("pods/exec", true),
            ("*/exec", true),
            ("*", true),
            ("pods", false),
            ("pods/log", false),
        ] {
            let rules = json!([{"apiGroups": [""], "resources": [resource], "verbs": ["*"]}]);
            assert_eq!(may(&rights(rules, None), EXEC), given, "{resource}");
        }
    }

    #[test]
    fn a_binding_in_a_namespace_gives_nothing_elsewhere() {
        let rules = || json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        assert!(may(&rights(rules(), Some("gate")), EXEC));
        assert!(!may(&rights(rules(), Some("shop")), EXEC));
        let namespace = Right {
            namespace: None,
            resource: "namespaces",
            ..EXEC
        };
        assert!(!may(&rights(rules(), Some("gate")), namespace));
    }

    #[test]
    fn names_limit_a_right_except_that_to_create() {
        let names = ["gina".to_owned()];
        let right = Right {
            verbs: &["impersonate"],
            group: "",
            resource: "users",
            namespace: None,
            names: &names,
        };
        for (name, given) in [("gina", true), ("bob", false)] {
            let rules = json!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": [name]}]);
            assert_eq!(may(&rights(rules, None), right), given, "{name}");
        }
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"], "resourceNames": ["x"]}]);
        let pods = Right {
            resource: "pods",
            ..EXEC
        };
        assert!(!may(&rights(rules, None), pods));
        // A token is created of an account, whose name the request has.
        let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": ["x"]}]);
        let token = Right {
            resource: "serviceaccounts/token",
            ..EXEC
        };
        assert!(may(&rights(rules, None), token));
    }

    #[test]
    fn a_role_of_the_namespace_is_found_by_namespace_and_name() {
        let role = json!({"metadata": {"name": "r", "namespace": "gate"}, "rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}]});
        let binding = |namespace: &str| {
            json!({
                "metadata": {"name": "b", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "ci"}],
            })
        };
        let rights = |namespace| {
            let roles = vec![serde_json::from_value(role.clone()).unwrap()];
            let bindings = vec![serde_json::from_value(binding(namespace)).unwrap()];
            Rights::new(vec![], roles, vec![], bindings)
        };
        let expected = Holder::account("gate", "ci");
        assert_eq!(rights("gate").holders(EXEC), BTreeSet::from([&expected]));
        assert!(rights("shop").holders(EXEC).is_empty());
    }
}
