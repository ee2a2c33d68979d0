//! The controllers that are trusted, each for exactly what it makes of objects that were judged before. A controller is recognised
//! by its user name alone.

use super::promotion::{Actor, Workload};
use super::world::{ControllerPreset, TrustedController};

/// The user name of the built-in controllers if `kube-controller-manager` runs without `--use-service-account-credentials`.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
/// The built-in controllers have service accounts in this namespace.
const SYSTEM_ACCOUNTS: &str = "system:serviceaccount:kube-system:";
/// The built-in controller that changes numbers of replicas.
const AUTOSCALER: &str = "horizontal-pod-autoscaler";

/// API group (empty for the core group) and name of a kind.
pub type GroupKind = (&'static str, &'static str);

/// The built-in controllers with the kind of the objects that each creates for an object that was judged before (service accounts
/// of `kube-system`; Kubernetes, `pkg/controlplane/controller` and `bootstrappolicy/controller_policy.go`).
const BUILT_IN: &[(&str, GroupKind)] = &[
    ("deployment-controller", ("apps", "ReplicaSet")),
    ("replicaset-controller", ("", "Pod")),
    ("statefulset-controller", ("", "Pod")),
    ("daemon-set-controller", ("", "Pod")),
    ("job-controller", ("", "Pod")),
    ("replication-controller", ("", "Pod")),
    ("cronjob-controller", ("batch", "Job")),
];

/// The built-in controllers that create Pods, with the kind of the objects for which they create them.
const MAKERS_OF_PODS: &[(&str, GroupKind)] = &[
    ("replicaset-controller", ("apps", "ReplicaSet")),
    ("statefulset-controller", ("apps", "StatefulSet")),
    ("daemon-set-controller", ("apps", "DaemonSet")),
    ("job-controller", ("batch", "Job")),
    ("replication-controller", ("", "ReplicationController")),
];

impl ControllerPreset {
    /// The kinds of the objects that it creates.
    pub fn makes(self) -> &'static [GroupKind] {
        match self {
            ControllerPreset::ArgoRollouts => &[
                ("apps", "ReplicaSet"),
                ("argoproj.io", "AnalysisRun"),
                ("argoproj.io", "Experiment"),
                ("batch", "Job"),
            ],
            ControllerPreset::Keda => &[("batch", "Job")],
        }
    }

    /// The kinds of the objects that it makes them for. It is trusted because these are judged.
    pub fn parents(self) -> &'static [GroupKind] {
        match self {
            ControllerPreset::ArgoRollouts => &[
                ("argoproj.io", "Rollout"),
                ("argoproj.io", "AnalysisTemplate"),
                ("argoproj.io", "ClusterAnalysisTemplate"),
                ("argoproj.io", "AnalysisRun"),
                ("argoproj.io", "Experiment"),
            ],
            ControllerPreset::Keda => &[("keda.sh", "ScaledJob")],
        }
    }

    fn scales(self) -> bool {
        self == ControllerPreset::Keda
    }
}

impl Actor {
    /// The built-in controller that creates Pods for such an object.
    pub fn maker_of_pods(parent: &Workload) -> Option<Actor> {
        let kind = (parent.group.as_str(), parent.kind.as_str());
        let mut makers = MAKERS_OF_PODS.iter();
        let (controller, _) = makers.find(|(_, makes_for)| *makes_for == kind)?;
        Some(Actor {
            username: format!("{SYSTEM_ACCOUNTS}{controller}"),
            groups: Vec::new(),
        })
    }

    /// Whether the requester is one of these built-in controllers.
    pub fn is_built_in(&self, controllers: &[&str]) -> bool {
        let account = self.username.strip_prefix(SYSTEM_ACCOUNTS);
        self.username == CONTROLLER_MANAGER
            || account.is_some_and(|account| controllers.contains(&account))
    }

    /// Whether the requester is a controller that is trusted by the configuration.
    pub fn is_preset(&self, preset: ControllerPreset, trusted: &[TrustedController]) -> bool {
        self.presets(trusted).any(|it| it == preset)
    }

    /// Whether the requester is a controller that is trusted to change numbers of replicas.
    pub fn is_autoscaler(&self, trusted: &[TrustedController]) -> bool {
        self.is_built_in(&[AUTOSCALER]) || self.presets(trusted).any(ControllerPreset::scales)
    }

    /// Whether the requester is a trusted controller, and the object is of a kind that it creates.
    pub fn is_trusted_for(&self, workload: &Workload, trusted: &[TrustedController]) -> bool {
        let kind = (workload.group.as_str(), workload.kind.as_str());
        let built_in = |(controller, makes): &(&str, GroupKind)| {
            *makes == kind && self.is_built_in(&[controller])
        };
        BUILT_IN.iter().any(built_in)
            || self
                .presets(trusted)
                .any(|preset| preset.makes().contains(&kind))
    }

    fn presets(&self, trusted: &[TrustedController]) -> impl Iterator<Item = ControllerPreset> {
        let own = trusted.iter().filter(|it| it.username == self.username);
        own.map(|it| it.preset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGO: &str = "system:serviceaccount:argo-rollouts:argo-rollouts";
    const KEDA: &str = "system:serviceaccount:keda:keda-operator";

    fn trusted() -> Vec<TrustedController> {
        let trusted = |preset, username: &str| TrustedController {
            preset,
            username: username.to_owned(),
        };
        vec![
            trusted(ControllerPreset::ArgoRollouts, ARGO),
            trusted(ControllerPreset::Keda, KEDA),
        ]
    }

    fn actor(username: &str) -> Actor {
        Actor {
            username: username.to_owned(),
            groups: Vec::new(),
        }
    }

    fn account(name: &str) -> String {
        format!("{SYSTEM_ACCOUNTS}{name}")
    }

    fn makes(user: &str, (group, kind): (&str, &str), trusted: &[TrustedController]) -> bool {
        let workload = Workload {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: Some("shop".to_owned()),
            name: "web".to_owned(),
        };
        actor(user).is_trusted_for(&workload, trusted)
    }

    const POD: (&str, &str) = ("", "Pod");
    const JOB: (&str, &str) = ("batch", "Job");
    const REPLICA_SET: (&str, &str) = ("apps", "ReplicaSet");

    #[test]
    fn a_built_in_controller_is_trusted_for_the_kind_it_creates() {
        for (controller, kind) in BUILT_IN {
            assert!(makes(&account(controller), *kind, &[]));
            assert!(makes(CONTROLLER_MANAGER, *kind, &[]));
        }
    }

    #[test]
    fn no_other_pair_of_requester_and_kind_is_trusted() {
        for (user, kind) in [
            (account("deployment-controller"), POD),
            (account("replicaset-controller"), REPLICA_SET),
            (account("job-controller"), JOB),
            (account("replicaset-controller"), ("example.com", "Pod")),
            (account(AUTOSCALER), POD),
            (
                "system:serviceaccount:shop:replicaset-controller".to_owned(),
                POD,
            ),
            ("replicaset-controller".to_owned(), POD),
            ("system:node:replicaset-controller".to_owned(), POD),
            (CONTROLLER_MANAGER.to_owned(), ("apps", "Deployment")),
            ("alice@example.com".to_owned(), POD),
            (ARGO.to_owned(), POD),
            (ARGO.to_owned(), ("argoproj.io", "Rollout")),
            (format!("{ARGO}-2"), REPLICA_SET),
            (KEDA.to_owned(), REPLICA_SET),
            (KEDA.to_owned(), ("keda.sh", "ScaledJob")),
        ] {
            assert!(!makes(&user, kind, &trusted()), "{user} {kind:?}");
        }
    }

    #[test]
    fn a_preset_is_trusted_only_where_the_configuration_names_its_account() {
        for controller in trusted() {
            for kind in controller.preset.makes() {
                assert!(makes(&controller.username, *kind, &trusted()));
                assert!(!makes(&controller.username, *kind, &[]));
            }
        }
        assert!(actor(ARGO).is_preset(ControllerPreset::ArgoRollouts, &trusted()));
        assert!(!actor(KEDA).is_preset(ControllerPreset::ArgoRollouts, &trusted()));
        assert!(!actor(ARGO).is_preset(ControllerPreset::ArgoRollouts, &[]));
    }

    #[test]
    fn numbers_of_replicas_are_changed_by_the_autoscaler_and_by_keda() {
        for user in [&account(AUTOSCALER), CONTROLLER_MANAGER, KEDA] {
            assert!(actor(user).is_autoscaler(&trusted()), "{user}");
        }
        for user in [&account("deployment-controller"), ARGO, AUTOSCALER] {
            assert!(!actor(user).is_autoscaler(&trusted()), "{user}");
        }
        assert!(!actor(KEDA).is_autoscaler(&[]));
    }
}
