//! `webhook-configuration`: prints what an API server needs to ask the gate.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate_core::gate::DnsLabel;

use crate::admission::{Audited, Endpoint, Registration};

/// Print the webhook configuration, by which an API server asks the gate
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate webhook-configuration | kubectl apply -f -
  promotion-gate webhook-configuration --infrastructure-namespace cilium --infrastructure-namespace cert-manager
  promotion-gate webhook-configuration --url https://gate.example:8443/validate --ca-bundle ca.crt")]
pub(super) struct Args {
    /// The Service of the gate; its namespace is the gate's own
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "promotion-gate/promotion-gate", value_parser = service)]
    service: Service,
    /// The address of a gate without a Service, with the path `/validate`
    #[arg(long, value_name = "URL", conflicts_with = "service")]
    url: Option<String>,
    /// The authority of the gate's certificate, PEM; without it, cert-manager writes the authority of the certificate NAME-tls
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// A namespace that nodes or the gate need in order to start: no answer lets in there, as in kube-system and the gate's own
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    infrastructure_namespace: Vec<String>,
    /// For a gate with `serve --audit-only`: no answer lets in everywhere
    #[arg(long)]
    audit_only: bool,
    /// For a gate with `serve --audit-namespace`: no answer lets in there
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    audit_namespace: Vec<String>,
}

const HEADER: &str = "\
# Made by `promotion-gate webhook-configuration`. Apply it last, when the gate is ready: from then on it is asked.
";

/// Namespace and name.
#[derive(Clone, Debug)]
pub(super) struct Service(pub(super) String, pub(super) String);

pub(super) fn service(text: &str) -> Result<Service, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Service(namespace.to_owned(), name.to_owned()))
        }
        _ => Err(
            "expected a namespace and a name, such as `promotion-gate/promotion-gate`".to_owned(),
        ),
    }
}

/// The name of one namespace. A selector takes any other text too, and then matches no namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let name = text.parse::<DnsLabel>().map(DnsLabel::into_string);
    name.map_err(|_| {
        "expected the name of one namespace, without wildcards; give the option once for each namespace".to_owned()
    })
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    write_output!("{}", yaml(args)?);
    Ok(ExitCode::SUCCESS)
}

fn yaml(args: Args) -> anyhow::Result<String> {
    let Service(namespace, name) = args.service;
    let mut infrastructure: BTreeSet<_> = args.infrastructure_namespace.into_iter().collect();
    infrastructure.extend(["kube-system".to_owned(), namespace.clone()]);
    let bundle = args.ca_bundle.map(|file| {
        let read = std::fs::read(&file);
        read.with_context(|| format!("`{}` cannot be read", file.display()))
    });
    let registration = Registration {
        endpoint: match args.url {
            Some(url) => Endpoint::Url(url),
            None => Endpoint::Service { namespace, name },
        },
        ca_bundle: bundle.transpose()?.map(|bundle| STANDARD.encode(bundle)),
        infrastructure,
        audited: Audited {
            everywhere: args.audit_only,
            namespaces: args.audit_namespace.into_iter().collect(),
        },
    };
    let configuration = serde_saphyr::to_string(&registration.configuration()?)?;
    Ok(format!("{HEADER}{configuration}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    fn printed(args: &[&str]) -> String {
        yaml(parsed(args).unwrap()).unwrap()
    }

    #[test]
    fn the_configuration_in_deploy_equals_what_the_binary_prints() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/webhook.yaml");
        let deployed = std::fs::read_to_string(file).unwrap();
        let told = "run `promotion-gate webhook-configuration > deploy/webhook.yaml`";
        assert_eq!(deployed, printed(&[]), "{told}");
    }

    #[test]
    fn address_authority_and_namespaces_are_the_operator_s() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "certificate").unwrap();
        let printed = printed(&[
            "--url=https://gate.example/validate",
            &format!("--ca-bundle={}", file.path().display()),
            "--infrastructure-namespace=cilium",
        ]);
        for said in [
            "url: https://gate.example/validate",
            "caBundle: Y2VydGlmaWNhdGU=",
            "- cilium",
        ] {
            assert_eq!(printed.matches(said).count(), 2, "{said}: {printed}");
        }
        assert!(!printed.contains("inject-ca-from"), "{printed}");
        assert!(parsed::<Args>(&["--service=gate"]).is_err());
    }

    #[test]
    fn a_value_that_names_no_single_namespace_is_refused() {
        for option in ["--audit-namespace", "--infrastructure-namespace"] {
            assert!(parsed::<Args>(&[&format!("{option}=lab")]).is_ok());
            for value in ["", "lab,sandbox", "team-*", "Lab", "lab.sandbox", "-lab"] {
                let refused = parsed::<Args>(&[&format!("{option}={value}")]).unwrap_err();
                let told = refused.to_string();
                assert!(told.contains("once for each namespace"), "{value}: {told}");
            }
        }
    }

    /// Of each entry: its name, `failurePolicy`, and the namespaces that its selector names.
    fn entries(args: &[&str]) -> Vec<(String, String, String)> {
        let printed: serde_json::Value = serde_saphyr::from_str(&printed(args)).unwrap();
        let entries = printed["webhooks"].as_array().unwrap().iter();
        entries
            .map(|entry| {
                let text = |field: &str| entry[field].as_str().unwrap().to_owned();
                let namespaces = &entry["namespaceSelector"]["matchExpressions"][0];
                let (operator, values) = (&namespaces["operator"], &namespaces["values"]);
                let namespaces = format!("{} {values}", operator.as_str().unwrap());
                (text("name"), text("failurePolicy"), namespaces)
            })
            .collect()
    }

    fn entry(name: &str, failure_policy: &str, namespaces: &str) -> (String, String, String) {
        let name = format!("{name}.promotion-gate.dev");
        (name, failure_policy.to_owned(), namespaces.to_owned())
    }

    #[test]
    fn an_audited_namespace_has_an_entry_of_its_own_by_which_no_answer_admits() {
        // The infrastructure comes first, so that no request is asked about twice.
        let printed = entries(&["--audit-namespace=lab", "--audit-namespace=kube-system"]);
        let expected = [
            entry(
                "validate",
                "Fail",
                r#"NotIn ["kube-system","lab","promotion-gate"]"#,
            ),
            entry(
                "infrastructure",
                "Ignore",
                r#"In ["kube-system","promotion-gate"]"#,
            ),
            entry("audited", "Ignore", r#"In ["lab"]"#),
        ];
        assert_eq!(printed, expected);
    }

    #[test]
    fn no_answer_admits_everywhere_under_audit_only() {
        let printed = entries(&["--audit-only"]);
        let expected = [
            entry(
                "validate",
                "Ignore",
                r#"NotIn ["kube-system","promotion-gate"]"#,
            ),
            entry(
                "infrastructure",
                "Ignore",
                r#"In ["kube-system","promotion-gate"]"#,
            ),
        ];
        assert_eq!(printed, expected);
    }
}
