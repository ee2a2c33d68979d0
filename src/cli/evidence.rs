//! `evidence IMAGE`: shows everything that is attached to an image: what it is, where it was found, who signed it and when, and
//! under which trust root it is accepted, or why it is not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use promotion_gate_core::attest::{
    Anchor, AnchorId, Origin, PublicKey, SignatureForm, Signer, TimeSource, Transparency,
};
use promotion_gate_core::gate::{
    Collected, EvidenceSource, ImageEvidence, ImageNeeds, ImageReference, Repository, Subject,
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::out::write_json;
use super::render::Output;
use super::render::human::word;
use super::render::json::CheckDecision;
use super::world;
use crate::collect::{CacheSizes, CollectLimits, Collector, Freshness, resolve_tag};
use crate::config::Config;
use crate::oci::{Layout, Registry};
use crate::text::line;

/// Show what is attached to an image, and whether and why it is accepted
///
/// Every signature and attestation is verified under every trust root of the configuration (`sigstore` and `github` are built
/// in) and under the given keys. Exit codes: 0 the listing is complete, 1 wrong usage or a failure of the tool, 3 something
/// could not be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate evidence ghcr.io/example/app:v1.2.3
  promotion-gate evidence --tree ghcr.io/example/app:v1.2.3
  promotion-gate evidence --key cosign.pub registry.example/app@sha256:…
  promotion-gate evidence --repository registry.example/signatures registry.example/app:v1.2.3
  promotion-gate evidence --output json oci-layout:./image:v1 | jq '.unaccepted'")]
pub(super) struct Args {
    /// The image: a reference, or `oci-layout:DIR[:tag|@digest]`
    image: String,
    /// Show also each platform of an index, and what is attached to it
    #[arg(long)]
    tree: bool,
    /// The repository that holds the evidence, as `host/path`, if it is not the image's own
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// A public key (PEM) to verify with, besides the trust roots; may be given several times
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// The configuration: trust roots, registries, credentials
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Time limit for reading, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// The version of the JSON schema.
const VERSION: &str = "promotion-gate.dev/evidence/v1alpha1";

/// Everything that is attached to an image.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Report {
    version: &'static str,
    image: String,
    digest: String,
    /// The repository that was read instead of the image's own.
    repository: Option<String>,
    /// The second repository that was read too, if the configuration names one.
    evidence_repository: Option<String>,
    #[serde(flatten)]
    attached: Attached,
    /// The platforms of an index; filled by `--tree` alone.
    platforms: Vec<PlatformReport>,
}

/// What is attached to one manifest.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Attached {
    accepted: Vec<Accepted>,
    unaccepted: Vec<Refused>,
    /// How many attached artifacts are not evidence by their declared type, such as SBOMs: the number of each type.
    others: BTreeMap<String, usize>,
    /// Look-ups that the registry does not support: the answer did not come from a registry, but was a web page, for example.
    unsupported: Vec<String>,
    /// What could not be read; the listing is complete if this is empty.
    unread: Vec<String>,
}

/// A platform of an index.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PlatformReport {
    /// Such as `linux/arm64`; absent if the index does not name one.
    platform: Option<String>,
    digest: String,
    #[serde(flatten)]
    attached: Attached,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    /// `signature`, or the predicate type of an attestation.
    what: String,
    /// `bundle`, `simplesigning` or `message`; absent for attestations.
    form: Option<&'static str>,
    /// Where it was found.
    source: String,
    /// The trust root or key under which it was verified.
    anchor: String,
    /// The certificate's identity, or the key.
    signer: String,
    /// The certificate's issuer.
    issuer: Option<String>,
    /// The certificate's further claims.
    claims: BTreeMap<String, String>,
    /// Verified times, earliest first.
    times: Vec<Time>,
    /// `inclusionProof`, `signedEntry` or `absent`.
    transparency: &'static str,
    /// Annotations that the signature itself carries.
    annotations: BTreeMap<String, String>,
    /// Log entries and timestamps that are ignored, and why.
    ignored: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Time {
    #[schemars(with = "String")]
    at: jiff::Timestamp,
    by: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Refused {
    source: String,
    reason: &'static str,
    detail: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let anchors = anchors(&config, &args.keys)?;
    let (registry, reference) = source(&args.image, &config)?;
    let digest = match reference.digest() {
        Some(digest) => digest.clone(),
        None => match resolve_tag(&*registry, &reference, deadline).await {
            Collected::Known(digest) | Collected::Partial(digest, _) => digest,
            Collected::Unavailable(unavailability) => bail!("{unavailability}"),
        },
    };
    let repository = args.repository.as_deref().map(repository).transpose()?;
    let subject = Subject {
        repository: repository
            .clone()
            .unwrap_or_else(|| reference.repository().clone()),
        digest,
    };
    let second = registry.evidence_repository(&subject.repository);
    let collector = Collector::new(registry, CollectLimits::default(), CacheSizes::default());
    let names: BTreeMap<_, _> = anchors
        .iter()
        .map(|(anchor, name)| (anchor.id(), name.clone()))
        .collect();
    let wanted = ImageNeeds {
        anchors: (anchors.into_iter())
            .map(|(anchor, _)| (anchor.id(), anchor))
            .collect(),
        platforms: args.tree,
        can_hurt: false,
        heard: None,
    };
    let needs = BTreeMap::from([(subject.clone(), wanted)]);
    let mut allowance = collector.allowance(deadline);
    let gathering = collector.gather(&needs, Freshness::FromCache, &mut allowance);
    let gathered = gathering.await;
    let mut report = Report {
        version: VERSION,
        image: args.image,
        digest: subject.digest.to_string(),
        repository: repository.map(|repository| repository.to_string()),
        evidence_repository: second.map(|repository| repository.to_string()),
        attached: Attached::of(gathered.evidence.about(&subject), &names),
        platforms: Vec::new(),
    };
    if args.tree {
        let index = gathered.evidence.index(&subject);
        let unavailabilities = index.unavailabilities().iter().map(ToString::to_string);
        report.attached.unread.extend(unavailabilities);
        let manifests = index.value().and_then(Option::as_ref);
        for manifest in manifests.iter().flat_map(|index| &index.manifests) {
            let subject = Subject {
                repository: subject.repository.clone(),
                digest: manifest.digest.clone(),
            };
            report.platforms.push(PlatformReport {
                platform: manifest.platform.as_ref().map(ToString::to_string),
                digest: manifest.digest.to_string(),
                attached: Attached::of(gathered.evidence.about(&subject), &names),
            });
        }
    }
    match args.output {
        Output::Human if args.tree => tree(&report),
        Output::Human => human(&report),
        Output::Json => write_json(&report)?,
    }
    let complete = report
        .manifests()
        .all(|attached| attached.unread.is_empty());
    Ok(match complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(3),
    })
}

/// Every configured trust root; every given key with the logs and timestamp authorities of each trust root, and without any.
fn anchors(config: &Config, keys: &[PathBuf]) -> anyhow::Result<Vec<(Anchor, String)>> {
    let roots = &config.world.trust_roots;
    let mut anchors: Vec<_> = roots
        .iter()
        .map(|(name, root)| {
            (
                Anchor::Root(Arc::clone(root)),
                format!("trust root `{name}`"),
            )
        })
        .collect();
    for file in keys {
        let shown = file.display();
        let pem = std::fs::read_to_string(file)
            .with_context(|| format!("the key `{shown}` cannot be read"))?;
        let key = Arc::new(
            PublicKey::from_pem(&pem).with_context(|| format!("`{shown}` is not a usable key"))?,
        );
        for (name, root) in roots {
            let anchor = Anchor::Key {
                key: Arc::clone(&key),
                root: Some(Arc::clone(root)),
            };
            anchors.push((
                anchor,
                format!("key `{shown}` with the log and time of `{name}`"),
            ));
        }
        anchors.push((
            Anchor::Key { key, root: None },
            format!("key `{shown}` alone"),
        ));
    }
    Ok(anchors)
}

/// Parses the name of a repository; a tag or a digest is an error.
fn repository(written: &str) -> anyhow::Result<Repository> {
    let reference = written.parse::<ImageReference>()?;
    if reference.tag().is_some() || reference.digest().is_some() {
        bail!("`--repository {written}`: a repository has neither a tag nor a digest");
    }
    Ok(reference.repository().clone())
}

/// The registry that holds the image, and the image's reference there.
fn source(image: &str, config: &Config) -> anyhow::Result<(Arc<dyn Registry>, ImageReference)> {
    match image.strip_prefix("oci-layout:") {
        Some(layout) => {
            let (layout, reference) = Layout::named(layout)?;
            Ok((Arc::new(layout), reference))
        }
        None => {
            let reference = image.parse::<ImageReference>()?;
            Ok((world::registry(config)?, reference))
        }
    }
}

impl Report {
    fn manifests(&self) -> impl Iterator<Item = &Attached> {
        let platforms = self.platforms.iter().map(|platform| &platform.attached);
        std::iter::once(&self.attached).chain(platforms)
    }
}

impl Attached {
    fn of(collected: Collected<&ImageEvidence>, names: &BTreeMap<AnchorId, String>) -> Attached {
        let mut report = Attached {
            unread: collected
                .unavailabilities()
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..Attached::default()
        };
        let Some(evidence) = collected.value() else {
            return report;
        };
        for (source, signature) in &evidence.signatures {
            let form = match signature.form() {
                SignatureForm::CosignBundle => "bundle",
                SignatureForm::SimpleSigning => "simplesigning",
                SignatureForm::MessageSignature => "message",
            };
            report.accepted.push(Accepted {
                what: "signature".to_owned(),
                form: Some(form),
                annotations: signature.annotations().clone(),
                ..Accepted::of(source, signature, names)
            });
        }
        for (source, statement) in &evidence.statements {
            report.accepted.push(Accepted {
                what: statement.predicate_type().to_owned(),
                ..Accepted::of(source, statement, names)
            });
        }
        report.others = evidence.others.clone();
        let unsupported = evidence.unsupported.iter();
        report.unsupported = unsupported.map(ToString::to_string).collect();
        for refused in &evidence.unaccepted {
            report.unaccepted.push(Refused {
                source: refused.source.to_string(),
                reason: refused.why.reason.id,
                detail: refused.why.detail.clone(),
            });
        }
        report
            .accepted
            .sort_by(|a, b| (&a.what, &a.source, &a.anchor).cmp(&(&b.what, &b.source, &b.anchor)));
        report
    }
}

fn anchor(names: &BTreeMap<AnchorId, String>, id: &AnchorId) -> String {
    names.get(id).cloned().unwrap_or_else(|| id.to_string())
}

impl Accepted {
    /// Whether the other says the same of the same thing, but for what accepts it.
    fn is_like(&self, other: &Accepted) -> bool {
        let anchor = self.anchor.clone();
        *self
            == Accepted {
                anchor,
                ..other.clone()
            }
    }

    fn of(
        source: &EvidenceSource,
        origin: &Origin,
        names: &BTreeMap<AnchorId, String>,
    ) -> Accepted {
        let (signer, issuer, claims) = match origin.signer() {
            Signer::Certificate(certificate) => {
                let claims = certificate
                    .claims()
                    .iter()
                    .map(|(claim, value)| (claim.to_string(), value.clone()));
                (
                    certificate.identity().to_owned(),
                    certificate.issuer().map(str::to_owned),
                    claims.collect(),
                )
            }
            Signer::Key(fingerprint) => (format!("key {fingerprint}"), None, BTreeMap::new()),
        };
        let mut times: Vec<_> = (origin.times().iter())
            .map(|time| Time {
                at: time.at,
                by: match time.by {
                    TimeSource::Log => "log",
                    TimeSource::TimestampAuthority => "timestampAuthority",
                },
            })
            .collect();
        times.sort_by_key(|time| time.at);
        Accepted {
            what: String::new(),
            form: None,
            source: source.to_string(),
            anchor: anchor(names, origin.anchor()),
            signer,
            issuer,
            claims,
            times,
            transparency: match origin.transparency() {
                Transparency::InclusionProof => "inclusionProof",
                Transparency::SignedEntry => "signedEntry",
                Transparency::Absent => "absent",
            },
            annotations: BTreeMap::new(),
            ignored: origin.ignored().iter().map(ToString::to_string).collect(),
        }
    }
}

/// Prints the index, its platforms and what is attached to each, one line each.
fn tree(report: &Report) {
    print_line!("{}", report.image);
    print_line!("{}", report.digest);
    if let Some(second) = &report.evidence_repository {
        print_line!("also read: {second}");
    }
    report.attached.branches("");
    for platform in &report.platforms {
        let name = platform.platform.as_deref().unwrap_or("no platform named");
        print_line!("└─ {} {}", line(name), platform.digest);
        platform.attached.branches("   ");
    }
}

impl Attached {
    /// Whether everything was read and nothing was found.
    fn is_empty(&self) -> bool {
        self.accepted.is_empty()
            && self.unaccepted.is_empty()
            && self.others.is_empty()
            && self.unread.is_empty()
    }

    /// What was accepted, each once, with every trust root or key that accepts it with the same times.
    fn alike(&self) -> Vec<(&Accepted, Vec<&str>)> {
        let mut alike: Vec<(&Accepted, Vec<&str>)> = Vec::new();
        for accepted in &self.accepted {
            // They are in the order of their places.
            let near = alike.iter_mut().rev();
            let mut near = near.take_while(|(it, _)| it.source == accepted.source);
            match near.find(|(it, _)| it.is_like(accepted)) {
                Some((_, anchors)) => anchors.push(&accepted.anchor),
                None => alike.push((accepted, vec![&accepted.anchor])),
            }
        }
        alike
    }

    fn branches(&self, indent: &str) {
        for (accepted, anchors) in self.alike() {
            let said = word(CheckDecision::Allow).replace("allow", "accepted");
            print_line!(
                "{indent}└─ {said} {} by {}, under {}, found as {}",
                line(&accepted.what),
                line(&accepted.signer),
                anchors.join(", "),
                line(&accepted.source)
            );
        }
        for refused in &self.unaccepted {
            let said = word(CheckDecision::Deny).replace("deny", "not accepted");
            print_line!(
                "{indent}└─ {said} {}: {}, found as {}",
                refused.reason,
                line(&refused.detail),
                line(&refused.source)
            );
        }
        for (kind, count) in &self.others {
            print_line!("{indent}└─ no evidence: {}", artifacts(kind, *count));
        }
        for unsupported in &self.unsupported {
            print_line!("{indent}└─ not supported {}", line(unsupported));
        }
        for unread in &self.unread {
            let said = word(CheckDecision::Undecided).replace("undecided", "unread");
            print_line!("{indent}└─ {said} {}", line(unread));
        }
        if self.is_empty() {
            print_line!("{indent}└─ nothing is attached to it");
        }
    }
}

fn artifacts(kind: &str, count: usize) -> String {
    match count {
        1 => format!("an artifact `{}`", line(kind)),
        many => format!("{many} artifacts `{}`", line(kind)),
    }
}

fn human(report: &Report) {
    print_line!("{}\n  {}", report.image, report.digest);
    if let Some(second) = &report.evidence_repository {
        print_line!("  also read: {second}");
    }
    print_line!("");
    let report = &report.attached;
    for (accepted, anchors) in report.alike() {
        let form = accepted
            .form
            .map(|form| format!(" ({form})"))
            .unwrap_or_default();
        print_line!(
            "{} {}{form}",
            word(CheckDecision::Allow).replace("allow", "accepted"),
            line(&accepted.what)
        );
        print_line!("  signed by    {}", line(&accepted.signer));
        if let Some(issuer) = &accepted.issuer {
            print_line!("  issuer       {}", line(issuer));
        }
        for (claim, value) in &accepted.claims {
            print_line!("  {claim}: {}", line(value));
        }
        for time in &accepted.times {
            print_line!("  verified at  {} ({})", time.at, time.by);
        }
        if accepted.times.is_empty() {
            print_line!("  verified at  no verified time");
        }
        print_line!("  transparency {}", accepted.transparency);
        for ignored in &accepted.ignored {
            print_line!("  ignored      {}", line(ignored));
        }
        for (key, value) in &accepted.annotations {
            print_line!("  annotation   {}={}", line(key), line(value));
        }
        for anchor in anchors {
            print_line!("  under        {anchor}");
        }
        print_line!("  found as     {}\n", line(&accepted.source));
    }
    for refused in &report.unaccepted {
        print_line!(
            "{} {}",
            word(CheckDecision::Deny).replace("deny", "not accepted"),
            refused.reason
        );
        print_line!(
            "  {}\n  found as     {}\n",
            line(&refused.detail),
            line(&refused.source)
        );
    }
    for unread in &report.unread {
        print_line!(
            "{} {}\n",
            word(CheckDecision::Undecided).replace("undecided", "unread"),
            line(unread)
        );
    }
    for (kind, count) in &report.others {
        print_line!("no evidence\n  {}\n", artifacts(kind, *count));
    }
    for unsupported in &report.unsupported {
        print_line!("not supported\n  {}\n", line(unsupported));
    }
    if report.is_empty() {
        print_line!("nothing is attached to this image");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        crate::cli::render::assert_documented::<Report>("evidence");
    }
}
