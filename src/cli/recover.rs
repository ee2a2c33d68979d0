//! `recover`: prints the ways back in when the gate locks a cluster out. It asks nothing, because then nothing may answer.

use std::process::ExitCode;

use super::webhook_configuration::{Service, service};

/// Print the ways back in when nothing can be deployed, and what each of them switches off
///
/// Nothing is run and no cluster is asked: the commands are for somebody with the rights that each one names. Try them in this order.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate recover
  promotion-gate recover --service security/promotion-gate --deployment gate")]
pub(super) struct Args {
    /// The Service of the gate; its namespace is the gate's own
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "promotion-gate/promotion-gate", value_parser = service)]
    service: Service,
    /// The Deployment of the gate; named as the Service when absent
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
    /// The name of the webhook configuration
    #[arg(long, value_name = "NAME", default_value = "promotion-gate")]
    webhook: String,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    write_output!("{}", text(&args));
    Ok(ExitCode::SUCCESS)
}

fn text(args: &Args) -> String {
    let Service(namespace, name) = &args.service;
    let deployment = args.deployment.as_ref().unwrap_or(name);
    let webhook = &args.webhook;
    format!(
        r#"# The ways back in, in the order in which to try them. Nothing here was run.

# 1. Start the gate again. This switches nothing off: in `{namespace}` and `kube-system` a request is admitted when the gate does not
#    answer, so that the gate's own Pods can always start.
#    Needs: the right to change the Deployment.
kubectl --namespace {namespace} get pods
kubectl --namespace {namespace} logs deployment/{deployment} --tail=50
kubectl --namespace {namespace} rollout restart deployment/{deployment}
kubectl --namespace {namespace} rollout status deployment/{deployment} --timeout=2m

# 2. Go on asking, and admit when the gate does not answer. This switches off: denials while it is away. While it answers, it decides.
#    Needs: a governor (GateConfiguration, `spec.governors`), or the first command of step 3. Where the gate keeps the configuration
#    itself (`serve --manage-webhook`), a replica that runs sets this back.
kubectl patch validatingwebhookconfiguration {webhook} --type=json --patch='[{{"op": "test", "path": "/webhooks/0/name", "value": "validate.promotion-gate.dev"}}, {{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}}]'

# 3. Stop asking. This switches off: everything; whatever is applied is admitted, and changes of policies are not judged.
#    Needs: the right to delete these two objects. The gate is not asked. The API server refuses the second command for some seconds
#    after the first one: repeat it.
kubectl delete validatingadmissionpolicybinding promotion-gate-configuration
kubectl delete validatingwebhookconfiguration {webhook}

# 4. Only if release records or a `status` have to be changed by hand. This switches off: the guard of the gate's own records.
#    Needs: the right to delete the binding.
kubectl delete validatingadmissionpolicybinding promotion-gate-records

# Afterwards: apply the guards and the webhook configuration that you installed again (with Helm: `helm upgrade`), then look at what came in meanwhile. A governor
# has recorded what is to go on; what is in no release record cannot be replaced while a rule denies its image.
promotion-gate doctor --service {namespace}/{name} --webhook {webhook}
promotion-gate scan --from-cluster
promotion-gate record list --unrecorded
promotion-gate record adopt --all-namespaces
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_objects_of_this_installation() {
        let args = ["--service=security/gate", "--webhook=gate-webhook"];
        let text = text(&crate::cli::parsed(&args).unwrap());
        for command in [
            "kubectl --namespace security rollout restart deployment/gate\n",
            "kubectl patch validatingwebhookconfiguration gate-webhook --type=json",
            "kubectl delete validatingwebhookconfiguration gate-webhook\n",
            "promotion-gate doctor --service security/gate --webhook gate-webhook\n",
        ] {
            assert!(text.contains(command), "{command}: {text}");
        }
    }
}
