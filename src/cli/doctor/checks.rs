//! The table of what `doctor` looks for: why it matters, and what to do about it.

use schemars::JsonSchema;
use serde::Serialize;

/// How much a finding weakens the gate.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Worth knowing.
    Note,
    /// Some people can pass or stop the gate, or a document does not do what it seems to.
    Warning,
    /// The gate can be passed, or it is not asked.
    Critical,
}

/// One thing that `doctor` looks for.
#[derive(Debug)]
pub(super) struct Check {
    /// Stable, in kebab case.
    pub(super) id: &'static str,
    /// The severity, unless what was found makes it worse.
    pub(super) severity: Severity,
    /// What was found, in a few words.
    pub(super) title: &'static str,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
}

macro_rules! checks {
    ($($name:ident $severity:ident $id:literal $title:literal $why:literal $remedy:literal;)+) => {
        $(pub(super) const $name: Check = Check {
            id: $id, severity: Severity::$severity, title: $title, why: $why, remedy: $remedy,
        };)+
        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[&Check] = &[$(&$name),+];
    };
}

checks! {
    WEBHOOK_MISSING Critical "webhook-missing"
        "the API server does not ask the gate"
        "Without its entries in a ValidatingWebhookConfiguration, every workload is admitted unseen."
        "Apply `deploy/webhook.yaml`, or what `promotion-gate webhook-configuration` prints for your namespaces.";
    WEBHOOK_FAILURE_POLICY Critical "webhook-failure-policy"
        "a request is admitted when the gate does not answer"
        "If the gate is slow or stopped, requests are admitted without a decision. Only the entries for the infrastructure and for audited namespaces may have `failurePolicy: Ignore`."
        "Set `failurePolicy: Fail`: apply the configuration that `promotion-gate webhook-configuration` prints. Where the gate writes it (`--manage-webhook`), it does that itself: wait half a minute after an upgrade, then read its log.";
    WEBHOOK_ENDPOINT Critical "webhook-endpoint"
        "the API server asks something else than the gate"
        "What is asked instead of the gate decides, and may admit everything."
        "Apply the configuration that `promotion-gate webhook-configuration` prints. Name the Service of the gate with `--service`, or its address with `--url`.";
    WEBHOOK_RULES Critical "webhook-rules"
        "the API server does not ask about some resources"
        "A kind, subresource or operation that the webhook is not registered for is admitted unseen."
        "Apply the configuration that `promotion-gate webhook-configuration` of this version prints.";
    WEBHOOK_SELECTOR Critical "webhook-selector"
        "the webhook leaves out namespaces or objects"
        "A request in a namespace that a selector leaves out, or for an object whose labels an `objectSelector` leaves out, is admitted unseen. The author of a change writes the labels of objects."
        "Remove the selector, or name the namespace under `spec.infrastructureNamespaces` of the GateConfiguration if nodes or the gate need it to start, and apply the configuration again.";
    WEBHOOK_CONDITIONS Critical "webhook-conditions"
        "the webhook has conditions that this version does not print"
        "A request for which a condition is false is admitted unseen."
        "Apply the configuration that `promotion-gate webhook-configuration` of this version prints.";
    WEBHOOK_MATCH_POLICY Critical "webhook-match-policy"
        "the webhook matches only the API versions that it lists"
        "With `matchPolicy: Exact`, the same object sent in another API version is admitted unseen."
        "Set `matchPolicy: Equivalent`.";
    WEBHOOK_CA_BUNDLE Critical "webhook-ca-bundle"
        "the API server cannot verify the gate's certificate"
        "Every governed request is refused while the `caBundle` is missing, unreadable or expired."
        "See to the certificate: the CA injector of cert-manager, or `promotion-gate webhook-configuration --ca-bundle FILE`.";
    WEBHOOK_CA_EXPIRES Warning "webhook-ca-expires"
        "an authority in the `caBundle` expires within 14 days"
        "From then on, every governed request is refused unless the bundle holds a later one that signed the gate's certificate."
        "Renew the authority and the certificate.";
    WEBHOOK_INFRASTRUCTURE Warning "webhook-infrastructure-missing"
        "the entry for the infrastructure namespaces is missing, or the gate is not asked by it about everything"
        "In these namespaces, something is admitted unseen even while the gate answers."
        "Apply the configuration that `promotion-gate webhook-configuration` prints.";
    WEBHOOK_AUDITED Warning "webhook-audited-missing"
        "the entry for the audited namespaces is missing, or the gate is not asked by it about everything"
        "In these namespaces, something is admitted unseen even while the gate answers."
        "Apply the configuration that `promotion-gate webhook-configuration` prints with the same `--audit-namespace`.";
    WEBHOOK_LOCKS_OUT Warning "webhook-locks-out"
        "a request is denied when the gate does not answer, where it has to be admitted"
        "While no replica answers, the Pods of the infrastructure namespaces cannot start, and the gate's own are among them. Where denials are only recorded, an outage of the gate stops every change."
        "Set `failurePolicy: Ignore` for this entry: apply the configuration that `promotion-gate webhook-configuration` prints.";
    WEBHOOK_TIMEOUT Warning "webhook-timeout"
        "the gate has less than 5 seconds to answer"
        "A first look at an image asks registries. With too little time, such requests are refused as undecided."
        "Set `timeoutSeconds: 10`.";
    INFRASTRUCTURE_DIFFERS Warning "infrastructure-differs"
        "the gate's arguments and the GateConfiguration name different infrastructure namespaces"
        "The webhook configuration is written from the arguments, and what runs is compared with the release records by the GateConfiguration. `doctor` does not see namespaces that the configuration file names."
        "Name the same namespaces in `webhook.infrastructureNamespaces` of the chart (`--infrastructure-namespace`) and under `spec.infrastructureNamespaces` of the GateConfiguration.";
    AUDIT_ONLY Critical "audit-only"
        "the gate runs with `--audit-only` and denies nothing"
        "Every workload is admitted, whatever the policies say."
        "Remove `--audit-only` from the arguments of the Deployment when you want the gate to deny.";
    NAMESPACES_AUDITED Warning "namespaces-audited"
        "the gate denies nothing in some namespaces"
        "With `--audit-namespace`, every workload is admitted there, whatever the policies say, and without an answer too."
        "Remove the namespaces from the arguments of the Deployment when you want the gate to deny there.";
    GATE_MISSING Critical "gate-missing"
        "the Service of the webhook leads to no Deployment"
        "Nothing answers the API server, so that every governed request is refused."
        "Install the gate, or name its Service with `--service`.";
    GATE_DOWN Critical "gate-down"
        "no replica of the gate is ready"
        "Every governed request is refused."
        "Look at its log and at `/readyz`; `promotion-gate recover` prints the ways back in.";
    GATE_ALONE Warning "gate-alone"
        "fewer than two replicas of the gate are ready"
        "While a single replica restarts or moves, every governed request is refused."
        "Run three replicas.";
    GATE_ON_ONE_NODE Warning "gate-on-one-node"
        "all ready replicas of the gate run on one node"
        "When this node fails, every governed request is refused until replicas run elsewhere."
        "Give the cluster a second node that the Pods tolerate, and see that their affinity spreads them.";
    DRAINS_BLOCKED Warning "drains-blocked"
        "a PodDisruptionBudget does not let any replica go"
        "Nodes that the gate runs on cannot be drained."
        "Set `maxUnavailable: 1` in the PodDisruptionBudget of the gate.";
    PORT_OPEN Warning "port-open"
        "every Pod can reach the webhook's port"
        "A stranger can ask for reviews, which takes time and connections from the API server."
        "Apply a NetworkPolicy (`networkPolicy.enabled` of the chart, or `deploy/manifests/network-policy.yaml`), or require client certificates (`serve --client-ca`).";
    NO_GOVERNORS Critical "no-governors"
        "nobody is named as a governor"
        "Everybody whom RBAC allows may change policies, people and freezes, with a warning only."
        "Name users or groups under `spec.governors` of the GateConfiguration.";
    GUARDS_MISSING Critical "guards-missing"
        "an admission policy that guards the gate does not exist or is not bound"
        "No webhook is asked about webhook configurations. Without the guards, who may edit those can switch the gate off, and who may write release records can forge them."
        "Apply `deploy/manifests/guards.yaml`.";
    GUARDS_CHANGED Critical "guards-changed"
        "an admission policy that guards the gate is not as this version ships it"
        "A condition or selector that was added may let somebody pass."
        "Compare it with `deploy/manifests/guards.yaml`, and apply that again.";
    SERVED_ELSEWHERE Critical "served-elsewhere"
        "the API server does not itself serve what the gate decides by, or what registers and guards it"
        "An APIService with a Service leads every read and write of its resources to that Service, which can answer with policies and governors of its own."
        "Find out who did it. Delete the APIService (for the gate's own, first the binding `promotion-gate-registration`, and apply it again afterwards): the API server makes it again. Restart an API server whose discovery lacks the resources after that.";
    ADMINISTRATORS Warning "administrators"
        "they may do everything in the cluster, and are not governors"
        "They can remove the guards and the gate, act as anybody, and change every right. They are not named again below."
        "Keep this right to the fewest people, or make them governors, who are known to decide.";
    MAY_CHANGE_WEBHOOK Critical "may-change-webhook"
        "they may change or delete the webhook configuration"
        "Without the guards, that switches the gate off."
        "Apply `deploy/manifests/guards.yaml` and name governors, or take the right away.";
    MAY_CHANGE_GUARDS Warning "may-change-guards"
        "they may change or delete the admission policies that guard the gate, or who serves these"
        "Nothing in the API guards those. Without them, the webhook configuration can be deleted. An APIService leads resources to another server."
        "Take the right away, or make them governors.";
    MAY_CHANGE_DEFINITIONS Critical "may-change-definitions"
        "they may change the definitions of the gate's resources, or who serves these"
        "Without the guards, a deleted definition takes all policies with it, and an APIService leads the gate to policies and governors of another server."
        "Apply `deploy/manifests/guards.yaml` and name governors, or take the right away.";
    MAY_MUTATE Warning "may-mutate-requests"
        "they may have requests of others changed before these are judged and stored"
        "A mutating webhook or policy, also one of Kyverno or Gatekeeper, adds governors or policies to what a governor writes, and keys to what the gate writes. For the gate, the author is still the governor."
        "Limit these rights to the webhook configurations that a controller needs, with `resourceNames`, or take them away. docs/beside-other-controllers.md says how Kyverno leaves the gate's resources out.";
    MAY_CHANGE_RESOURCES Critical "may-change-resources"
        "they may change what the gate decides by"
        "While no governors are named, a change of a policy is admitted with a warning."
        "Name governors, or take the right away.";
    MAY_CHANGE_GATE Warning "may-change-gate"
        "they may change or stop the gate itself, read its keys or run commands in it"
        "With another image, other arguments, a shell in its Pod or its signing key, the gate says what they want. Without its Pods, network or Lease, requests are refused, at once or when its certificate ends."
        "Take the right away in the gate's namespace.";
    MAY_IMPERSONATE Warning "may-impersonate"
        "they may act as somebody whom the gate trusts"
        "As a governor they change policies; as a controller of Kubernetes they have Pods admitted as upkeep."
        "Limit `impersonate` with `resourceNames` to identities that the gate does not trust.";
    MAY_MINT_TOKENS Warning "may-mint-tokens"
        "they may get tokens of service accounts that the gate trusts"
        "With such a token they act as a governor, as a trusted controller or as the gate."
        "Take `create` of `serviceaccounts/token` and the rights to Secrets away in these namespaces.";
    MAY_GET_CERTIFICATES Warning "may-approve-certificates"
        "they may have certificates signed in the name of somebody whom the gate trusts"
        "Together with an update of `certificatesigningrequests/approval`, `approve` for the signer `kubernetes.io/kube-apiserver-client` gives a client certificate with any name and group, except `system:masters`."
        "Take `approve` for this signer away.";
    MAY_RUN_EXEMPT Warning "may-run-in-exempt-namespaces"
        "they may run or change workloads where a missing answer admits, or where accounts run that the gate trusts"
        "In an infrastructure namespace a request is admitted when the gate does not answer. A Pod in a namespace may use every account of it."
        "Take these rights away in these namespaces, and keep them few.";
    MAY_GRANT Warning "may-grant-rights"
        "they may give themselves every right"
        "`escalate` and `bind` let a role be written or bound that holds more than its author has."
        "Take `escalate` and `bind` away.";
    MAY_RELABEL Warning "may-relabel-namespaces"
        "they may change the labels of namespaces by which policies are selected"
        "While no governors are named, a namespace is taken out of a policy by a label."
        "Name governors, or select namespaces by name.";
    NO_POLICIES Critical "no-policies"
        "the cluster holds no PromotionPolicy"
        "Nothing is judged. The gate may have policies in files, which `doctor` does not see."
        "Apply a policy; start with `enforcement: Audit`.";
    DOCUMENT_REFUSED Critical "document-refused"
        "a resource has a mistake and does not count as it is written"
        "Its last valid version counts, or what it might govern is denied."
        "Correct it: `kubectl describe` shows the mistake, `promotion-gate check --from-cluster` the place.";
    DOCUMENT_WARNING Warning "document-warning"
        "a resource probably does not mean what its author meant"
        "It counts as it is written."
        "Correct it.";
    POLICY_WITHOUT_EFFECT Warning "policy-without-effect"
        "a policy matches no namespace of the cluster"
        "What it requires is required of nothing."
        "Correct `spec.match`, or delete the policy.";
    POLICY_DOES_NOT_ENFORCE Note "policy-does-not-enforce"
        "a policy does not deny"
        "With `enforcement: Warn` or `Audit` everything is admitted."
        "Set `enforcement: Enforce` when its denials are those that you want.";
    FREEZE_WITHOUT_EFFECT Warning "freeze-without-effect"
        "a change freeze is of an environment that no policy with `noFreeze` names"
        "It stops nothing."
        "Correct `spec.environments`, or add `noFreeze` to the policy of the environment.";
    NAMESPACE_UNGOVERNED Warning "namespace-ungoverned"
        "namespaces that no policy governs"
        "With `ungoverned: Allow`, every workload there is admitted."
        "Match them with a policy, or set `ungoverned: Deny` in the GateConfiguration.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_check_has_an_id_of_its_own_and_stands_on_its_page() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
        let page = std::fs::read_to_string(file).unwrap();
        let ids: BTreeSet<_> = ALL.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for check in ALL {
            let severity = format!("{:?}", check.severity).to_lowercase();
            let row = format!("| `{}` | {severity} | {} |", check.id, check.title);
            assert!(page.contains(&row), "docs/doctor.md lacks the line\n{row}");
        }
    }
}
