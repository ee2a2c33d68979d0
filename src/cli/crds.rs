//! `crds`: prints the custom resource definitions, to apply to a cluster.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;

use crate::api::definitions;

/// Print the custom resource definitions, to apply to a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate crds | kubectl apply --server-side -f -
  promotion-gate crds PeopleDirectory                   one kind")]
pub(super) struct Args {
    /// The kind of resource; all of them when absent
    #[arg(value_name = "KIND")]
    kind: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    write_output!("{}", yaml(args.kind.as_deref())?);
    Ok(ExitCode::SUCCESS)
}

/// Custom resource definitions, each as a YAML document: of one kind, or of every kind.
fn yaml(kind: Option<&str>) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut known = Vec::new();
    for definition in definitions()? {
        let own = definition.pointer("/spec/names/kind");
        let own = own.and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind.is_none_or(|kind| kind == own) {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&definition)?);
        }
        known.push(format!("`{own}`"));
    }
    if let (Some(kind), true) = (kind, text.is_empty()) {
        bail!(
            "there is no resource `{kind}`; known are {}",
            known.join(", ")
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_in_deploy_equal_what_the_binary_prints() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        let kinds = [
            ("promotionpolicies.yaml", "PromotionPolicy"),
            ("peopledirectories.yaml", "PeopleDirectory"),
            ("changefreezes.yaml", "ChangeFreeze"),
            ("incidentchecks.yaml", "IncidentCheck"),
            ("gateconfigurations.yaml", "GateConfiguration"),
            ("trustroots.yaml", "TrustRoot"),
            ("revocations.yaml", "Revocation"),
            ("rejections.yaml", "Rejection"),
            ("authorrecords.yaml", "AuthorRecord"),
            ("vexrecords.yaml", "VexRecord"),
            ("emergencychangerecords.yaml", "EmergencyChangeRecord"),
            ("releaserecords.yaml", "ReleaseRecord"),
        ];
        let mut all = String::new();
        for (file, kind) in kinds {
            let deployed = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
            let printed = super::yaml(Some(kind)).unwrap();
            assert_eq!(
                deployed, printed,
                "run `promotion-gate crds {kind} > deploy/crds/{file}`"
            );
            all.push_str(&printed);
        }
        assert_eq!(super::yaml(None).unwrap(), all);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), kinds.len());
        super::yaml(Some("Deployment")).unwrap_err();
    }
}
