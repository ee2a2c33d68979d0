//! Which images are asked about, and what the policies say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::attest::VerifiedStatement;
use promotion_gate_core::attest::predicate::Approval;
use promotion_gate_core::gate::{
    ApprovalOutlook, Approver, Change, Enforcement, Finding, ImageReference, Snapshot, Subject,
    Target, TrustRoots, Ungoverned, accepted_statements, approval_outlook, approval_roots,
};
use tokio::time::Instant;

use super::Args;
use crate::cli::deciding::{Purpose, Sources, as_source, namespaces_of};
use crate::cli::world::Input;
use crate::oci::{Client, Descriptor, Reference, Registry as _};
use crate::review::{Review, ReviewInputs, review};

/// The rules that an approval is not asked to agree with: they wait for people and for time.
const NOT_OBJECTIVE: [&str; 3] = ["approvals", "noFreeze", "canary"];
/// The most images of one approval.
const MAXIMUM_IMAGES: usize = 200;

/// The reviews of everything that is asked about.
pub(super) struct Judged {
    snapshot: Arc<Snapshot>,
    has_policies: bool,
    reviews: Vec<Review>,
    /// Each image, with its descriptor.
    images: BTreeMap<Subject, (Descriptor, BTreeSet<String>)>,
}

/// One image that is asked about.
pub(super) struct Asked<'a> {
    pub(super) subject: Subject,
    pub(super) descriptor: Descriptor,
    /// As it is written where it was asked for.
    pub(super) written: Vec<String>,
    /// Provenance and change records by signers whom the policies accept.
    pub(super) statements: Vec<Arc<VerifiedStatement>>,
    /// What the policies say, each with its name.
    pub(super) findings: Vec<(&'a str, Enforcement, &'a Finding)>,
}

impl Judged {
    pub(super) async fn read(args: &Args, sources: &mut Sources) -> anyhow::Result<Judged> {
        let now = Timestamp::now();
        let client = Arc::clone(&sources.client);
        let mut descriptors = BTreeMap::new();
        let input = Input::read(&args.files)?;
        let mut changes = match args.files.is_empty() {
            true => of_images(args, sources, &mut descriptors).await?,
            false => sources.changes(&input).await?,
        };
        match args.recorded.workload(sources)? {
            Some(_) if !args.files.is_empty() => {
                bail!("`--workload` belongs to images; manifests say which workloads they are")
            }
            Some(workload) => changes
                .iter_mut()
                .for_each(|change| change.workload = workload.clone()),
            None => {}
        }
        let namespaces = namespaces_of(&changes);
        let mut snapshot = match sources.has_policies() {
            true => {
                let purpose = Purpose {
                    namespaces: &namespaces,
                    labels: &input.namespaces(),
                    at: now,
                    asked_at: None,
                    environment: Some(&args.environment),
                    within: Duration::from_secs(args.timeout),
                };
                let mut snapshot = sources.snapshot(&purpose).await?;
                narrow(&mut snapshot, args, sources.place())?;
                snapshot
            }
            false => sources.config.snapshot(),
        };
        // Only the policies of the environment are asked.
        snapshot.ungoverned = Ungoverned::Allow;
        let records = args.recorded.read(sources, &namespaces).await?;
        let snapshot = Arc::new(snapshot);
        let inputs = ReviewInputs {
            snapshot: Arc::clone(&snapshot),
            collector: Arc::clone(&sources.collector),
            records: as_source(records.as_ref()),
            incidents: None,
            deadline: Instant::now() + Duration::from_secs(args.timeout),
            audit_only: false,
        };
        let mut reviews = Vec::new();
        for change in changes {
            reviews.push(review(change, &inputs, now).await);
        }
        let mut judged = Judged {
            snapshot,
            has_policies: sources.has_policies(),
            reviews,
            images: BTreeMap::new(),
        };
        judged.name_images(args, &client, &mut descriptors).await?;
        Ok(judged)
    }

    /// Takes the digest of each image from its review, so that the approved digest is the judged one.
    async fn name_images(
        &mut self,
        args: &Args,
        client: &Client,
        descriptors: &mut BTreeMap<Subject, Descriptor>,
    ) -> anyhow::Result<()> {
        let wanted = |review: &Review, field: &str| {
            !self.has_policies
                || review.verdict.policies().iter().any(|policy| {
                    let mut findings = policy.findings().iter();
                    findings.any(|finding| match &finding.target {
                        Target::Image(image) => image.field == field && finding.rule == "approvals",
                        _ => false,
                    })
                })
        };
        let mut images: BTreeMap<Subject, (Descriptor, BTreeSet<String>)> = BTreeMap::new();
        for review in &self.reviews {
            for (image, pin) in review.promotion.images() {
                if !args.files.is_empty() && !wanted(review, &image.field) {
                    continue;
                }
                let written = image.reference.as_written();
                let subject = match pin.subject(&image.reference) {
                    Some(subject) => subject,
                    None => resolved(client, &image.reference).await?.0,
                };
                let descriptor = match descriptors.get(&subject) {
                    Some(descriptor) => descriptor.clone(),
                    None => {
                        let reference = Reference::Digest(subject.digest.clone());
                        let found = client.resolve(&subject.repository, &reference).await;
                        found.with_context(|| format!("`{written}` cannot be read"))?
                    }
                };
                let named = images
                    .entry(subject)
                    .or_insert((descriptor, BTreeSet::new()));
                named.1.insert(written.to_owned());
            }
        }
        if images.len() > MAXIMUM_IMAGES {
            bail!(
                "{} images are too many for one approval; at most {MAXIMUM_IMAGES}",
                images.len()
            );
        }
        self.images = images;
        Ok(())
    }

    pub(super) fn has_policies(&self) -> bool {
        self.has_policies
    }

    /// Every image that is asked about, with what the policies say about it and the objects that run it.
    pub(super) fn asked(&self) -> Vec<Asked<'_>> {
        let each = self.images.iter().map(|(subject, (descriptor, written))| {
            let mut asked = Asked {
                subject: subject.clone(),
                descriptor: descriptor.clone(),
                written: written.iter().cloned().collect(),
                statements: Vec::new(),
                findings: Vec::new(),
            };
            for review in self.reviews.iter().filter(|review| runs(review, subject)) {
                let governing = self.snapshot.governing(&review.promotion.change);
                let statements = accepted_statements(subject, &review.evidence, &governing);
                for statement in statements {
                    if asked
                        .statements
                        .iter()
                        .all(|it| it.digest() != statement.digest())
                    {
                        asked.statements.push(statement);
                    }
                }
                for policy in review.verdict.policies() {
                    let about = policy.findings().iter().filter(|it| is_about(it, subject));
                    let about = about.map(|it| (policy.policy(), policy.enforcement(), it));
                    asked.findings.extend(about);
                }
            }
            asked.findings.sort();
            asked
                .findings
                .dedup_by(|a, b| a.0 == b.0 && (a.2.rule, &a.2.detail) == (b.2.rule, &b.2.detail));
            asked
        });
        each.collect()
    }

    /// The rules that deny and are no matter of approval or time, as `rule: reason`, of policies that enforce.
    pub(super) fn denials(&self) -> Vec<String> {
        let policies = self
            .reviews
            .iter()
            .flat_map(|review| review.verdict.policies());
        let enforced = policies.filter(|policy| policy.enforcement() == Enforcement::Enforce);
        let findings = enforced.flat_map(|policy| policy.findings());
        let denies = findings.filter(|it| it.outcome.denies() && is_objective(it));
        let mut denials: BTreeSet<_> = denies
            .map(|it| format!("{}: {}", it.rule, it.reason))
            .collect();
        if !self.has_policies {
            denials.insert("(policies): not judged, since none were given".to_owned());
        }
        denials.into_iter().collect()
    }

    pub(super) fn trust_roots(&self) -> &TrustRoots {
        &self.snapshot.world.trust_roots
    }

    pub(super) fn approval_roots(&self, environment: &str) -> BTreeSet<String> {
        let reviews = self.reviews.iter();
        let roots = reviews.flat_map(|review| {
            approval_roots(
                &self.snapshot.governing(&review.promotion.change),
                environment,
            )
        });
        roots.collect()
    }

    pub(super) fn outlooks(&self, approver: &Approver, said: &Approval) -> Vec<ApprovalOutlook> {
        let each = self.reviews.iter().flat_map(|review| {
            let governing = self.snapshot.governing(&review.promotion.change);
            approval_outlook(
                &review.promotion,
                &review.evidence,
                &governing,
                approver,
                said,
            )
        });
        let mut outlooks: Vec<_> = each.collect();
        outlooks.dedup();
        outlooks
    }
}

/// Whether a rule says something that approvals and time do not change.
pub(super) fn is_objective(finding: &Finding) -> bool {
    !NOT_OBJECTIVE.contains(&finding.rule)
}

fn runs(review: &Review, subject: &Subject) -> bool {
    let mut images = review.promotion.images();
    images.any(|(image, pin)| pin.subject(&image.reference).as_ref() == Some(subject))
}

fn is_about(finding: &Finding, subject: &Subject) -> bool {
    match &finding.target {
        Target::Image(image) => image.digest.as_ref() == Some(&subject.digest),
        Target::Workload | Target::Field(_) => true,
    }
}

/// Keeps the policies of the environment. Of an image alone it is not known where it will run, so that each of them is asked.
fn narrow(snapshot: &mut Snapshot, args: &Args, place: Option<&str>) -> anyhow::Result<()> {
    let environment = Some(args.environment.as_str());
    let named: BTreeSet<_> = snapshot
        .policies
        .iter()
        .filter_map(|it| it.environment.clone())
        .collect();
    if !named.contains(&args.environment) {
        let named: Vec<_> = named.iter().map(|name| format!("`{name}`")).collect();
        bail!(
            "no policy is of the environment `{}`; the policies name {}",
            args.environment,
            match named.is_empty() {
                true => "none".to_owned(),
                false => named.join(", "),
            }
        );
    }
    let goes_anywhere = args.files.is_empty() && place.is_none();
    let is_asked = |of: Option<&str>| of == environment || !goes_anywhere && of.is_none();
    snapshot
        .policies
        .retain(|policy| is_asked(policy.environment.as_deref()));
    Ok(())
}

/// A Pod for each image, which stands for whatever will run it. A tag is resolved here, once.
async fn of_images(
    args: &Args,
    sources: &Sources,
    descriptors: &mut BTreeMap<Subject, Descriptor>,
) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for image in &args.images {
        let (subject, descriptor) = resolved(&sources.client, image).await?;
        let pinned = match image.digest() {
            Some(_) => image.clone(),
            None => format!("{}@{}", image.as_written(), subject.digest).parse()?,
        };
        descriptors.insert(subject, descriptor);
        changes.push(sources.pod(&[pinned])?);
    }
    Ok(changes)
}

/// The digest of an image, asked for once.
async fn resolved(
    client: &Client,
    image: &ImageReference,
) -> anyhow::Result<(Subject, Descriptor)> {
    let reference = match (image.digest(), image.tag()) {
        (Some(digest), _) => Reference::Digest(digest.clone()),
        (None, tag) => Reference::Tag(tag.unwrap_or("latest").to_owned()),
    };
    let descriptor = client.resolve(image.repository(), &reference).await;
    let descriptor =
        descriptor.with_context(|| format!("`{}` cannot be read", image.as_written()))?;
    let subject = Subject {
        repository: image.repository().clone(),
        digest: descriptor.digest.clone(),
    };
    Ok((subject, descriptor))
}
