//! `verify-bundle`: the client protocol of the Sigstore conformance suite.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use promotion_gate_core::attest::{
    self, Anchor, Artifact, ArtifactSignature, PublicKey, Signer, TrustRoot,
};
use promotion_gate_core::gate::{Digest, RequiredTransparency};

use crate::files::read_file;
use crate::text;

/// The largest bundle, key or trust root, in bytes.
const MAXIMUM_FILE: u64 = 8 << 20;
/// The largest artifact, in bytes.
const MAXIMUM_ARTIFACT: u64 = 1 << 30;

/// Verify a Sigstore bundle about a file or a digest, as the gate does
///
/// By default, the signature needs the transparency that a policy requires by default: with a certificate, a log entry if the
/// trust root lists a log, otherwise a timestamp; with a key, a log entry or a timestamp.
///
/// Exit codes: 0 the bundle is accepted, 1 it is not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate verify-bundle --bundle app.sigstore.json --key cosign.pub app.tar
  promotion-gate verify-bundle --bundle app.sigstore.json --certificate-identity alice@example.com \\
      --certificate-oidc-issuer https://accounts.google.com sha256:…")]
pub(super) struct Args {
    /// The bundle file
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The identity that the certificate must name
    #[arg(
        long,
        value_name = "IDENTITY",
        requires = "certificate_oidc_issuer",
        required_unless_present = "key"
    )]
    certificate_identity: Option<String>,
    /// The issuer that the certificate must name
    #[arg(long, value_name = "URL", requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// The public key (PEM) of the expected signer
    #[arg(long, value_name = "FILE", conflicts_with = "certificate_identity")]
    key: Option<PathBuf>,
    /// The trust root; the public-good instance when absent
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// The required transparency of the signature; as in policies when absent
    #[arg(long, value_enum)]
    transparency: Option<Required>,
    /// Not supported: give the staging instance's root with `--trusted-root`
    #[arg(long, hide = true)]
    staging: bool,
    /// The artifact, or its digest as `sha256:HEX`
    #[arg(value_name = "FILE|DIGEST")]
    artifact: String,
}

/// The required transparency of a signature, from strict to lax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Required {
    /// A log entry with an inclusion proof
    InclusionProof,
    /// A log entry
    Log,
    /// A log entry or a signed timestamp
    Timestamp,
    /// Nothing, for keys alone: log entries and timestamps are not checked
    None,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.staging {
        bail!("the staging instance is not built in; give its root with `--trusted-root FILE`");
    }
    let signature = args.verify(&args.anchor()?)?;
    args.check_transparency(&signature)?;
    for unusable in &signature.ignored {
        print_error!("note: not used: {}", text::line(&unusable.to_string()));
    }
    let now = jiff::Timestamp::now();
    if let Some(future) = signature.times.iter().find(|time| time.at > now) {
        bail!(
            "not accepted (signed-in-the-future): its verified time {} is in the future",
            future.at
        );
    }
    print_line!("accepted: signed {}", args.expected(&signature.signer)?);
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Whether log entries and timestamps are not checked.
    fn is_unwitnessed(&self) -> bool {
        self.transparency == Some(Required::None)
    }

    /// The key or trust root that the bundle is verified under.
    fn anchor(&self) -> anyhow::Result<Anchor> {
        if self.is_unwitnessed() && self.key.is_none() {
            bail!(
                "`--transparency none` is for keys: a certificate without a verified time proves nothing"
            );
        }
        let root = match &self.trusted_root {
            Some(file) => {
                TrustRoot::parse(&file.display().to_string(), &read(file, MAXIMUM_FILE)?)?
            }
            None => TrustRoot::public_good()?,
        };
        let root = Arc::new(root);
        let Some(file) = &self.key else {
            return Ok(Anchor::Root(root));
        };
        let pem =
            String::from_utf8(read(file, MAXIMUM_FILE)?).context("the key is not UTF-8 text")?;
        Ok(Anchor::Key {
            key: Arc::new(PublicKey::from_pem(&pem)?),
            root: (!self.is_unwitnessed()).then_some(root),
        })
    }

    fn verify(&self, anchor: &Anchor) -> anyhow::Result<ArtifactSignature> {
        let bundle = read(&self.bundle, MAXIMUM_FILE)?;
        let digest = self
            .artifact
            .starts_with("sha256:")
            .then(|| self.artifact.parse::<Digest>())
            .transpose()?;
        let bytes;
        let artifact = match &digest {
            Some(digest) => Artifact::Digest(digest),
            None => {
                bytes = read(Path::new(&self.artifact), MAXIMUM_ARTIFACT)?;
                Artifact::Bytes(&bytes)
            }
        };
        attest::verify_artifact(&bundle, artifact, anchor).map_err(|unaccepted| {
            anyhow::anyhow!(
                "not accepted ({}): {}",
                unaccepted.reason,
                unaccepted.detail
            )
        })
    }

    fn check_transparency(&self, signature: &ArtifactSignature) -> anyhow::Result<()> {
        let required = match self.transparency {
            None => RequiredTransparency::by_default(&signature.signer, signature.has_logs),
            Some(Required::InclusionProof) => RequiredTransparency::InclusionProof,
            Some(Required::Log) => RequiredTransparency::Log,
            Some(Required::Timestamp) => RequiredTransparency::Timestamp,
            Some(Required::None) => RequiredTransparency::None,
        };
        if !required.is_met(signature.transparency, &signature.times) {
            bail!(
                "not accepted (not-transparent-enough): the required log entry or timestamp is missing; `--transparency` sets what is required"
            );
        }
        Ok(())
    }

    /// How the expected signer signed.
    fn expected(&self, signer: &Signer) -> anyhow::Result<String> {
        let issuer = &self.certificate_oidc_issuer;
        match (signer, &self.certificate_identity, issuer) {
            (Signer::Certificate(actual), Some(identity), Some(issuer)) => {
                if actual.identity() != identity || actual.issuer() != Some(issuer) {
                    bail!("not accepted (other-signer): signed by {signer}");
                }
                Ok(format!("by {identity} of {issuer}"))
            }
            (Signer::Key(fingerprint), None, None) => {
                let unchecked = match self.is_unwitnessed() {
                    true => "; log entries and timestamps were not checked",
                    false => "",
                };
                Ok(format!("with key {fingerprint}{unchecked}"))
            }
            _ => bail!(
                "not accepted (other-signer): it is not signed with the given key or by the given identity"
            ),
        }
    }
}

fn read(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    read_file(path, limit).with_context(|| format!("`{shown}` cannot be read"))
}
