//! `crds`: prints the custom resource definitions, to apply to a cluster.

use std::process::ExitCode;

use crate::api::definitions;

/// Print the custom resource definitions, to apply to a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  promotion-gate crds | kubectl apply --server-side -f -")]
pub(super) struct Args {}

pub(super) fn run(_: Args) -> anyhow::Result<ExitCode> {
    write_output!("{}", yaml()?);
    Ok(ExitCode::SUCCESS)
}

/// Every custom resource definition as a YAML document.
fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for definition in definitions()? {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_in_deploy_equal_what_the_binary_prints() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/deploy/crds/promotionpolicies.yaml"
        );
        let deployed = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            deployed,
            super::yaml().unwrap(),
            "run `promotion-gate crds > deploy/crds/promotionpolicies.yaml`"
        );
    }
}
