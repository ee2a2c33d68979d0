//! Which images are asked about, and what the policies say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::attest::VerifiedStatement;
use promotion_gate_core::attest::predicate::Approval;
use promotion_gate_core::gate::{
    ApprovalOutlook, Approver, Change, Enforcement, Finding, ImageReference, Requirement, Snapshot,
    Subject, Target, TrustRoots, Ungoverned, accepted_statements, approval_outlook, approval_roots,
};
use tokio::time::Instant;

use crate::cli::deciding::{Purpose, Recorded, Sources, as_source, namespaces_of};
use crate::cli::world::Input;
use crate::oci::{Client, Descriptor, Reference, Registry as _};
use crate::review::{Review, ReviewInputs, review};

/// The rules that wait for people and for time.
const NOT_OBJECTIVE: [&str; 3] = ["approvals", "noFreeze", "canary"];
/// The most images of one approval.
const MAXIMUM_IMAGES: usize = 200;

/// What is asked about.
pub(in crate::cli) struct Question<'a> {
    pub(in crate::cli) images: &'a [ImageReference],
    /// Manifests, if there are no images.
    pub(in crate::cli) files: &'a [String],
    pub(in crate::cli) environment: &'a str,
    pub(in crate::cli) recorded: &'a Recorded,
    /// How long the reading may take.
    pub(in crate::cli) timeout: Duration,
    pub(in crate::cli) scope: QuestionScope,
}

/// Which images of a question are meant, and what runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum QuestionScope {
    /// A Pod for each image that is named; of manifests, the images that need an approval.
    Approvals,
    /// One Pod of all images that are named; of manifests, every image.
    Together,
}

/// The reviews of everything that is asked about.
pub(in crate::cli) struct Judged {
    pub(in crate::cli) inputs: ReviewInputs,
    has_policies: bool,
    /// Whether the objects are known, and not images alone.
    is_of_manifests: bool,
    pub(in crate::cli) reviews: Vec<Review>,
    /// Each image, with its descriptor.
    images: BTreeMap<Subject, (Descriptor, BTreeSet<String>)>,
}

/// One image that is asked about.
pub(in crate::cli) struct Asked<'a> {
    pub(in crate::cli) subject: Subject,
    pub(in crate::cli) descriptor: Descriptor,
    /// As it is written where it was asked for.
    pub(in crate::cli) written: Vec<String>,
    /// Provenance and change records by signers whom the policies accept.
    pub(in crate::cli) statements: Vec<Arc<VerifiedStatement>>,
    /// What the policies say.
    pub(in crate::cli) findings: Vec<PolicyFinding<'a>>,
}

/// What a policy says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct PolicyFinding<'a> {
    pub(in crate::cli) policy: &'a str,
    pub(in crate::cli) enforcement: Enforcement,
    pub(in crate::cli) finding: &'a Finding,
    /// Whether approvals and time do not change it.
    pub(in crate::cli) is_objective: bool,
}

impl Judged {
    pub(in crate::cli) async fn read(
        args: &Question<'_>,
        sources: &mut Sources,
    ) -> anyhow::Result<Judged> {
        let now = Timestamp::now();
        let client = Arc::clone(&sources.client);
        let mut descriptors = BTreeMap::new();
        let input = Input::read(args.files)?;
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
                    environment: Some(args.environment),
                    within: args.timeout,
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
        let inputs = ReviewInputs {
            snapshot: Arc::new(snapshot),
            collector: Arc::clone(&sources.collector),
            records: as_source(records.as_ref()),
            incidents: sources.incidents(),
            deadline: Instant::now() + args.timeout,
            audit_only: false,
        };
        let mut reviews = Vec::new();
        for change in changes {
            reviews.push(review(change, &inputs, now).await);
        }
        let mut judged = Judged {
            inputs,
            has_policies: sources.has_policies(),
            is_of_manifests: !args.files.is_empty(),
            reviews,
            images: BTreeMap::new(),
        };
        judged.name_images(args, &client, &mut descriptors).await?;
        Ok(judged)
    }

    /// Takes the digest of each image from its review, so that the approved digest is the judged one.
    async fn name_images(
        &mut self,
        args: &Question<'_>,
        client: &Client,
        descriptors: &mut BTreeMap<Subject, Descriptor>,
    ) -> anyhow::Result<()> {
        let wanted = |review: &Review, field: &str| {
            !self.has_policies
                || args.scope == QuestionScope::Together
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

    /// Every image that is asked about.
    pub(in crate::cli) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.images.keys()
    }

    pub(in crate::cli) fn has_policies(&self) -> bool {
        self.has_policies
    }

    /// Every image that is asked about, with what the policies say about it and the objects that run it.
    pub(in crate::cli) fn asked(&self) -> Vec<Asked<'_>> {
        let each = self.images.iter().map(|(subject, (descriptor, written))| {
            let mut asked = Asked {
                subject: subject.clone(),
                descriptor: descriptor.clone(),
                written: written.iter().cloned().collect(),
                statements: Vec::new(),
                findings: Vec::new(),
            };
            for review in self.reviews.iter().filter(|review| runs(review, subject)) {
                let governing = self.inputs.snapshot.governing(&review.promotion.change);
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
                    let about = about.map(|finding| PolicyFinding {
                        policy: policy.policy(),
                        enforcement: policy.enforcement(),
                        finding,
                        is_objective: self.is_objective(policy.policy(), finding),
                    });
                    asked.findings.extend(about);
                }
            }
            asked.findings.sort();
            asked.findings.dedup_by(|a, b| {
                let (one, other) = (a.finding, b.finding);
                a.policy == b.policy && (one.rule, &one.detail) == (other.rule, &other.detail)
            });
            asked
        });
        each.collect()
    }

    /// The rules that deny and that neither approvals nor time can change, as `rule: reason`, of policies that enforce.
    pub(in crate::cli) fn denials(&self) -> Vec<String> {
        let policies = self
            .reviews
            .iter()
            .flat_map(|review| review.verdict.policies());
        let enforced = policies.filter(|policy| policy.enforcement() == Enforcement::Enforce);
        let findings = enforced.flat_map(|policy| {
            let findings = policy.findings().iter();
            findings.filter(move |it| self.is_objective(policy.policy(), it))
        });
        let denies = findings.filter(|it| it.outcome.denies());
        let mut denials: BTreeSet<_> = denies
            .map(|it| format!("{}: {}", it.rule, it.reason))
            .collect();
        if !self.has_policies {
            denials.insert("(policies): not judged, since none were given".to_owned());
        }
        denials.into_iter().collect()
    }

    /// Whether a finding stays the same until the deployment, whatever people and time do. Of an image alone it is not known what will
    /// run it, so that an expression is only shown; so is one that is about who deploys it, when or how.
    fn is_objective(&self, policy: &str, finding: &Finding) -> bool {
        let named = || {
            let mut policies = self.inputs.snapshot.policies.iter();
            let policy = policies.find(|it| it.name == policy)?;
            let named = policy.requirements.get(finding.requirement_index?)?;
            Some(&named.requirement)
        };
        match named() {
            Some(Requirement::ExpressionRule(rule)) => {
                self.is_of_manifests && !rule.depends_on_request()
            }
            _ => !NOT_OBJECTIVE.contains(&finding.rule),
        }
    }

    pub(in crate::cli) fn trust_roots(&self) -> &TrustRoots {
        &self.inputs.snapshot.world.trust_roots
    }

    pub(in crate::cli) fn approval_roots(&self, environment: &str) -> BTreeSet<String> {
        let reviews = self.reviews.iter();
        let roots = reviews.flat_map(|review| {
            approval_roots(
                &self.inputs.snapshot.governing(&review.promotion.change),
                environment,
            )
        });
        roots.collect()
    }

    pub(in crate::cli) fn outlooks(
        &self,
        approver: &Approver,
        said: &Approval,
    ) -> Vec<ApprovalOutlook> {
        let each = self.reviews.iter().flat_map(|review| {
            let governing = self.inputs.snapshot.governing(&review.promotion.change);
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
fn narrow(snapshot: &mut Snapshot, args: &Question<'_>, place: Option<&str>) -> anyhow::Result<()> {
    let environment = Some(args.environment);
    let named: BTreeSet<_> = snapshot
        .policies
        .iter()
        .filter_map(|it| it.environment.clone())
        .collect();
    if !named.contains(args.environment) {
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

/// Pods of the images, which stand for whatever will run them. A tag is resolved here, once.
async fn of_images(
    args: &Question<'_>,
    sources: &Sources,
    descriptors: &mut BTreeMap<Subject, Descriptor>,
) -> anyhow::Result<Vec<Change>> {
    let mut images = Vec::new();
    for image in args.images {
        let (subject, descriptor) = resolved(&sources.client, image).await?;
        let pinned = match image.digest() {
            Some(_) => image.clone(),
            None => format!("{}@{}", image.as_written(), subject.digest).parse()?,
        };
        descriptors.insert(subject, descriptor);
        images.push(pinned);
    }
    let pods = match args.scope {
        QuestionScope::Approvals => images.chunks(1).collect(),
        QuestionScope::Together => vec![images.as_slice()],
    };
    pods.into_iter().map(|images| sources.pod(images)).collect()
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
