//! `attest vsa`: signs what the gate of a cluster knows of the images that run there, for the gate of the next environment.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::predicate::{
    SummaryPolicy, SummaryResult, SummaryVerifier, VerificationSummary,
};
use promotion_gate_core::gate::{
    ChangedObject, Collected, ImageReference, Policy, Snapshot, Subject, Workload,
};
use promotion_gate_sign::SignedWord;
use serde_json::Value;
use tokio::time::Instant;

use super::before;
use crate::admission;
use crate::api::{EntryRuns, WrittenBy};
use crate::cli::approve::question::Asked;
use crate::cli::approve::signer::{SignerArgs, Signing};
use crate::cli::approve::{attach_for_gate, note_repeated};
use crate::cli::deciding::{Deciding, Purpose, Recorded, Sources};
use crate::cluster::ObjectName;
use crate::oci::{Reference, Registry as _};
use crate::record::{ReadRecord, RunningImage, RunningWorkload, read_records, running_images};
use crate::text::line;

/// The exit code where something was left out: it does not run, or did not comply.
const LEFT_OUT: u8 = 2;
/// The most workloads of one run.
const MAXIMUM_WORKLOADS: usize = 500;
/// The most levels.
const MAXIMUM_LEVELS: usize = 32;

/// Sign that images were admitted to this cluster, complied, and run there, for the gate of the next environment
///
/// Reads the release records of a namespace, whose signatures are verified, and what runs there now. For each image of a workload that
/// every policy of the environment allowed (none of them by an emergency change), it signs a SLSA verification summary (VSA), and
/// attaches it to the image. The workload must run: its status says so. The summary says since when the workload has had this template:
/// not before the gate has seen it, and from now on if the records do not show it. The rule `verificationSummary` of the next environment
/// requires it. A run that comes again signs another summary only if that says more: something else, or a time that is longer by a fifth.
///
/// Run it as a Job or CronJob in the cluster, with an identity or a key of its own that no pipeline has: its holder decides what the
/// next environment accepts. `docs/promotion-chain.md` shows how.
///
/// Exit codes: 0 every summary is attached (or would be, with `--dry-run`), 1 wrong usage or a failure, 2 something was left out: it
/// does not run, did not comply, or was not seen yet.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate attest vsa --from-cluster --namespace shop --environment staging \\
      --verifier https://staging.example.com/promotion-gate --key verifier.key --signing-config signing.json
  promotion-gate attest vsa --from-cluster --namespace shop --workload Deployment/web --environment staging \\
      --verifier https://staging.example.com/promotion-gate --level SLSA_BUILD_LEVEL_3
  promotion-gate attest vsa --from-cluster --namespace shop --environment staging \\
      --verifier https://staging.example.com/promotion-gate --dry-run")]
pub(super) struct VsaArgs {
    /// The environment of this cluster: all policies of it must have allowed the image
    #[arg(long, value_name = "NAME")]
    environment: String,
    /// The id of the verifier, a URI, which the policy of the next environment names
    #[arg(long, value_name = "URI", value_parser = uri)]
    verifier: String,
    /// A level that the policies of the environment ensure for each image, such as `SLSA_BUILD_LEVEL_3`; may be given several times
    #[arg(long = "level", value_name = "LEVEL")]
    levels: Vec<String>,
    #[command(flatten)]
    deciding: Deciding,
    #[command(flatten)]
    recorded: Recorded,
    #[command(flatten)]
    signer: SignerArgs,
    /// Show what would be signed, and sign nothing
    #[arg(long)]
    dry_run: bool,
    /// Time limit for reading the cluster and the registry, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn uri(written: &str) -> Result<String, String> {
    match written.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(written.to_owned()),
        _ => Err("expected a URI, such as `https://staging.example.com/promotion-gate`".to_owned()),
    }
}

pub(super) async fn run(args: VsaArgs) -> anyhow::Result<ExitCode> {
    if args.levels.len() > MAXIMUM_LEVELS {
        bail!("more than {MAXIMUM_LEVELS} levels are given with `--level`");
    }
    let mut sources = args.deciding.clone().open().await?;
    let Some(cluster) = sources.cluster.clone() else {
        bail!("the release records are in a cluster: give `--from-cluster`");
    };
    let namespace = sources.place().map(str::to_owned);
    let namespace = namespace.context("`--namespace` is missing: whose workloads are attested?")?;
    let within = Duration::from_secs(args.timeout);
    let deadline = Instant::now() + within;
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    // 1. The policies that must have allowed what is attested.
    let namespaces = [namespace.clone()].into();
    let purpose = Purpose {
        namespaces: &namespaces,
        labels: &BTreeMap::new(),
        at: now,
        asked_at: None,
        environment: Some(&args.environment),
        within,
    };
    let snapshot = sources.snapshot(&purpose).await?;
    let policies = required(&snapshot, &sources, &args.environment)?;
    // 2. The records, each entry with a verified signature, and what runs now.
    let records = tokio::time::timeout_at(deadline, read_records(&cluster, Some(&namespace)));
    let records = records.await.with_context(|| {
        let seconds = args.timeout;
        format!("the release records were not read within {seconds} seconds; raise `--timeout`")
    })??;
    let workloads = match args.recorded.workload(&sources)? {
        Some(workload) => vec![of_kind(workload)?],
        None => recorded_workloads(&records)?,
    };
    let (mut found, mut left): (BTreeMap<Subject, RunningImage>, Vec<String>) =
        (BTreeMap::new(), Vec::new());
    for workload in &workloads {
        let name = ObjectName::from(workload);
        let object = cluster.read(&name, deadline).await;
        let object = object.map_err(|why| anyhow!("{why}"))?;
        let Some(object) = object else {
            // Without `--workload` it was found in a record, which outlives its object.
            if args.recorded.names_workload() {
                bail!(
                    "there is no {} `{}` in `{namespace}`",
                    workload.kind,
                    workload.name
                );
            }
            continue;
        };
        let changed = cluster.changed_object(&name, deadline).await;
        let changed = changed.map_err(|why| anyhow!("{why}"))?.unwrap_or_default();
        let referred = cluster.referred(&object, Some(&namespace)).await;
        let objects = [Some(&object), referred.as_ref()];
        let live = Live {
            workload,
            objects,
            changed: &changed,
            now,
        };
        match attested(&records, live, &policies) {
            Ok(images) => images.into_iter().for_each(|image| add(&mut found, image)),
            Err(why) => left.push(why),
        }
    }
    for why in &left {
        print_error!("left out: {}", line(why));
    }
    if found.is_empty() {
        print_error!("nothing runs in `{namespace}` that could be attested; nothing was signed");
        return Ok(ExitCode::from(LEFT_OUT));
    }
    // 3. Sign, attach and read back.
    sign(&args, &sources, &snapshot, found, (now, deadline)).await?;
    Ok(match left.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(LEFT_OUT),
    })
}

async fn sign(
    args: &VsaArgs,
    sources: &Sources,
    snapshot: &Snapshot,
    found: BTreeMap<Subject, RunningImage>,
    (now, deadline): (Timestamp, Instant),
) -> anyhow::Result<()> {
    let cluster = match &snapshot.world.cluster {
        Collected::Known(cluster) => Some(cluster.clone()),
        _ => None,
    };
    let mut words = Vec::new();
    for (subject, image) in found {
        if image.since.is_none() {
            print_error!(
                "note: the records do not show since when `{subject}` has run, so it counts from now"
            );
        }
        let summary = args.summary(&subject, &image, &cluster, now);
        let word = SignedWord::VerificationSummary(summary.clone());
        let statement = word.statement(&[(subject.repository.name(), &subject.digest)])?;
        words.push((subject, (summary, image.since.is_some()), word, statement));
    }
    if args.dry_run {
        for (.., statement) in &words {
            print_line!("{}", line(&String::from_utf8_lossy(statement)));
        }
        return Ok(());
    }
    let roots = (&snapshot.world.trust_roots, &BTreeSet::new());
    let mut signing = Signing::prepare(&args.signer, &sources.config, roots, true).await?;
    let (anchor, signer) = (signing.anchor()?, signing.approver().identity);
    for (subject, (summary, is_since_known), word, statement) in &words {
        let before = before::newest(sources, subject, (&anchor, &signer), deadline).await;
        let due = before.and_then(|before| before::due(&before, summary, *is_since_known));
        if let Some(due) = due {
            print_line!("attested before {subject}: another summary is due at {due}");
            continue;
        }
        let reference = Reference::Digest(subject.digest.clone());
        let descriptor = sources
            .client
            .resolve(&subject.repository, &reference)
            .await;
        let asked = Asked {
            subject: subject.clone(),
            descriptor: descriptor.with_context(|| format!("`{subject}` cannot be read"))?,
            written: Vec::new(),
            statements: Vec::new(),
            findings: Vec::new(),
        };
        let bundle = signing.sign((statement, &subject.digest)).await?;
        note_repeated(&bundle);
        let attached = attach_for_gate(sources, &asked, &bundle, &anchor, word.noun()).await?;
        print_line!("attested {subject}: {attached}");
    }
    Ok(())
}

impl VsaArgs {
    fn summary(
        &self,
        subject: &Subject,
        image: &RunningImage,
        cluster: &Option<String>,
        now: Timestamp,
    ) -> VerificationSummary {
        let names: Vec<_> = image.complied.iter().map(String::as_str).collect();
        // The first part of a revision is the digest of the policies.
        let of_policies = image.revision.split(' ').next();
        let of_policies = of_policies.and_then(|revision| revision.split_once(':'));
        let digest = of_policies.map(|(algorithm, hex)| (algorithm.to_owned(), hex.to_owned()));
        VerificationSummary {
            verifier: SummaryVerifier {
                id: self.verifier.clone(),
            },
            time_verified: Some(now),
            resource_uri: subject.to_string(),
            policy: SummaryPolicy {
                uri: Some(format!(
                    "https://promotion-gate.dev/policies/{}",
                    names.join("+")
                )),
                digest: digest.into_iter().collect(),
            },
            verification_result: SummaryResult::Passed,
            verified_levels: self.levels.clone(),
            environment: Some(self.environment.clone()),
            cluster: cluster.clone(),
            running_since: Some(image.since.map_or(now, next_second)),
        }
    }
}

/// The time in whole seconds, never before the time itself.
fn next_second(time: Timestamp) -> Timestamp {
    let before = Timestamp::from_second(time.as_second()).unwrap_or(time);
    match before < time {
        true => before
            .saturating_add(SignedDuration::from_secs(1))
            .unwrap_or(time),
        false => before,
    }
}

/// The policies of the environment that govern the namespace. A namespace without any cannot have complied with one.
fn required<'s>(
    snapshot: &'s Snapshot,
    sources: &Sources,
    environment: &str,
) -> anyhow::Result<Vec<&'s Policy>> {
    let place = sources.namespace();
    // Which policies govern depends on the namespace alone, so that any image stands for those that run there.
    let change = sources.pod(&["attested".parse()?])?;
    let governing = snapshot.governing(&change);
    if let Some(unreadable) = governing.unreadable.first() {
        bail!(
            "{} cannot be read, and may govern `{place}`: {}",
            unreadable.source,
            unreadable.why
        );
    }
    let policies = governing.policies.iter().map(|(policy, _)| *policy);
    let of_environment = |policy: &&Policy| policy.environment.as_deref() == Some(environment);
    let policies: Vec<_> = policies.filter(of_environment).collect();
    if policies.is_empty() {
        bail!(
            "no policy of the environment `{environment}` governs the namespace `{place}`, so nothing there can have complied with one"
        );
    }
    Ok(policies)
}

/// A workload as it is stored now.
struct Live<'a> {
    workload: &'a Workload,
    /// The object, and the one that it refers to.
    objects: [Option<&'a Value>; 2],
    changed: &'a ChangedObject,
    now: Timestamp,
}

/// What the records show of the images of a workload, as far as the policies are about them.
fn attested(
    records: &[ReadRecord],
    live: Live<'_>,
    policies: &[&Policy],
) -> Result<Vec<RunningImage>, String> {
    let Workload { kind, name, .. } = live.workload;
    let found = live.objects.into_iter().flatten();
    let found: Vec<_> = found.filter_map(admission::images).collect();
    let mut unreadable = found.iter().flat_map(|images| &images.unreadable);
    if let Some(field) = unreadable.next() {
        return Err(format!("{kind} `{name}`: `{}` {}", field.field, field.why));
    }
    let fields = found.iter().flat_map(|images| &images.fields);
    let images = fields.map(|image| {
        let parsed = image.written.parse::<ImageReference>();
        parsed.map_err(|error| error.to_string())
    });
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let is_judged = |image: &ImageReference| policies.iter().any(|it| it.matches_image(image));
    let (images, others): (Vec<_>, Vec<_>) = images.into_iter().partition(is_judged);
    for other in others {
        print_error!(
            "note: `{}` of {kind} `{name}` is not attested: no policy of the environment is about it",
            line(other.as_written())
        );
    }
    let stored = live.objects[0].unwrap_or(&Value::Null);
    let required = policies.iter().map(|policy| policy.name.clone()).collect();
    let running = RunningWorkload {
        workload: live.workload,
        object: live.changed,
        stored,
        images: &images,
    };
    running_images(records, running, &required, live.now)
}

/// Adds an image. One that several workloads run has run as long as in the first of them.
fn add(found: &mut BTreeMap<Subject, RunningImage>, image: RunningImage) {
    let subject = Subject {
        repository: image.repository.clone(),
        digest: image.digest.clone(),
    };
    match found.get(&subject) {
        Some(known)
            if known
                .since
                .is_some_and(|known| image.since.is_none_or(|since| known <= since)) => {}
        _ => drop(found.insert(subject, image)),
    }
}

/// A workload as it is named on the command line, with the version of its kind.
fn of_kind(workload: Workload) -> anyhow::Result<Workload> {
    let version = admission::version(&workload.group, &workload.kind);
    let version =
        version.with_context(|| format!("`{}` is not a kind that runs", workload.kind))?;
    Ok(Workload {
        version: version.to_owned(),
        ..workload
    })
}

/// The workloads that the records of a namespace name as running.
fn recorded_workloads(records: &[ReadRecord]) -> anyhow::Result<Vec<Workload>> {
    let entries = records.iter().flat_map(|record| record.entries.values());
    let running = entries.filter(|it| it.runs == EntryRuns::Running && it.by == WrittenBy::Policy);
    let workloads: BTreeSet<_> = running
        .map(|entry| Workload {
            group: entry.workload.group.clone(),
            version: entry.workload.version.clone(),
            kind: entry.workload.kind.clone(),
            namespace: entry.workload.namespace.clone(),
            name: entry.workload.name.clone(),
        })
        .collect();
    if workloads.len() > MAXIMUM_WORKLOADS {
        bail!(
            "the records name {} workloads, and at most {MAXIMUM_WORKLOADS} are attested at once; name one with `--workload`",
            workloads.len()
        );
    }
    Ok(workloads.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_whole_seconds_an_image_does_not_run_before_it_was_seen() {
        for (seen, since) in [
            ("2026-12-01T10:00:00Z", "2026-12-01T10:00:00Z"),
            ("2026-12-01T10:00:00.000000001Z", "2026-12-01T10:00:01Z"),
            ("2026-12-01T10:00:59.9Z", "2026-12-01T10:01:00Z"),
        ] {
            assert_eq!(next_second(seen.parse().unwrap()).to_string(), since);
        }
    }
}
