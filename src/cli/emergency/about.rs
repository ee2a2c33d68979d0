//! Which images an emergency change is about, and what the policies and people say about them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use promotion_gate_core::gate::{
    Approver, Decision, Digest, EmergencyOutlook, Enforcement, ImageReference, ListedDeclaration,
    Subject, command_line, emergency_outlook,
};
use tokio::time::Instant;

use crate::cli::approve::question::{Asked, Judged, Question, QuestionScope};
use crate::cli::deciding::{Deciding, Recorded, Sources, namespaces_of};
use crate::review::{Review, add_emergencies};

// Which images, for which environment, by which policies.
#[derive(Debug, clap::Args)]
pub(super) struct About {
    /// The images, as they run together in one workload; a tag is resolved once
    #[arg(value_name = "IMAGE", required_unless_present = "files")]
    images: Vec<ImageReference>,
    /// Rendered manifests: files, folders, or `-`; may be given several times
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "PATH|-",
        conflicts_with = "images"
    )]
    files: Vec<String>,
    /// The environment, as policies name it
    #[arg(long, value_name = "NAME")]
    pub(super) environment: String,
    #[command(flatten)]
    deciding: Deciding,
    #[command(flatten)]
    recorded: Recorded,
    /// Time limit for reading the evidence, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// What the policies and people say.
pub(super) struct Case {
    pub(super) judged: Judged,
    environment: String,
    /// Whether images were named, and no manifests.
    is_of_images: bool,
}

/// What an emergency change does or would do for one object under one policy.
pub(super) struct Outlook {
    /// The object, as people name it.
    pub(super) object: String,
    pub(super) namespace: Option<String>,
    pub(super) enforcement: Enforcement,
    pub(super) outlook: EmergencyOutlook,
}

impl About {
    pub(super) fn of_images(
        images: Vec<ImageReference>,
        environment: &str,
        deciding: &Deciding,
        recorded: &Recorded,
        timeout: u64,
    ) -> About {
        About {
            images,
            files: Vec::new(),
            environment: environment.to_owned(),
            deciding: deciding.clone(),
            recorded: recorded.clone(),
            timeout,
        }
    }

    /// Opens the sources, for the namespace in `scopes` if none is given.
    pub(super) async fn open(&self, scopes: &[(String, String)]) -> anyhow::Result<Sources> {
        let deciding = self.deciding.clone();
        let scope = scopes.iter().find(|(name, _)| name == "namespace");
        let deciding = match scope {
            Some((_, namespace)) if self.files.is_empty() => deciding.or_in(namespace),
            _ => deciding,
        };
        deciding.open().await
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    fn question(&self) -> Question<'_> {
        Question {
            images: &self.images,
            files: &self.files,
            environment: &self.environment,
            recorded: &self.recorded,
            timeout: self.timeout(),
            scope: QuestionScope::Together,
        }
    }
}

impl Case {
    pub(super) async fn read(about: &About, sources: &mut Sources) -> anyhow::Result<Case> {
        let began = Instant::now();
        let mut judged = Judged::read(&about.question(), sources).await?;
        let inputs = judged.inputs.clone();
        for review in &mut judged.reviews {
            add_emergencies(review, &inputs, began).await;
        }
        let case = Case {
            judged,
            environment: about.environment.clone(),
            is_of_images: about.files.is_empty(),
        };
        if case.outlooks(None).is_empty() {
            bail!(
                "no policy of the environment `{}` that governs here has a section `emergency`, so that no emergency change can be declared",
                about.environment
            );
        }
        Ok(case)
    }

    /// What an emergency change does or would do, for each object under each policy of the environment. `by` is the person who is about
    /// to sign.
    pub(super) fn outlooks(&self, by: Option<&Approver>) -> Vec<Outlook> {
        let mut outlooks = Vec::new();
        for review in &self.judged.reviews {
            let governing = self
                .judged
                .inputs
                .snapshot
                .governing(&review.promotion.change);
            let (promotion, evidence) = (&review.promotion, &review.evidence);
            for outlook in emergency_outlook(promotion, evidence, &governing, &review.verdict, by) {
                if outlook.environment != self.environment {
                    continue;
                }
                let policies = review.verdict.policies().iter();
                let mut own = policies.filter(|it| it.policy() == outlook.policy);
                outlooks.push(Outlook {
                    object: self.object_of(review),
                    namespace: review.promotion.change.workload.namespace.clone(),
                    enforcement: own
                        .next()
                        .map_or(Enforcement::Enforce, |it| it.enforcement()),
                    outlook,
                });
            }
        }
        outlooks
    }

    /// The policies that enforce, deny an object, and know no emergency changes of the environment, each as a sentence.
    pub(super) fn denied_for_good(&self) -> BTreeSet<String> {
        let outlooks = self.outlooks(None);
        let each = self.judged.reviews.iter().flat_map(|review| {
            let object = self.object_of(review);
            let denials = review.verdict.policies().iter();
            let denials = denials.filter(|it| {
                it.decision() == Decision::Deny && it.enforcement() == Enforcement::Enforce
            });
            let outlooks = &outlooks;
            denials.filter_map(move |it| {
                let is_it = |known: &Outlook| known.object == object && known.outlook.policy == it.policy();
                (!outlooks.iter().any(is_it)).then(|| {
                    format!(
                        "the policy `{}` denies {object}, and no emergency change passes it: it has no section `emergency` for this environment",
                        it.policy()
                    )
                })
            })
        });
        each.collect()
    }

    /// The trust roots under which the policies accept statements about emergency changes.
    pub(super) fn trust_roots(&self) -> BTreeSet<String> {
        let outlooks = self.outlooks(None);
        let roots = outlooks.iter().flat_map(|it| &it.outlook.trust_roots);
        roots.cloned().collect()
    }

    /// Some of the images, with everything that people see of them.
    pub(super) fn images(&self, subjects: &BTreeSet<Subject>) -> Vec<Asked<'_>> {
        let mut asked = self.judged.asked();
        asked.retain(|it| subjects.contains(&it.subject));
        asked
    }

    /// The declaration that is meant, under each policy.
    ///
    /// # Errors
    /// If there is none, or several of those that are `meant` and none is named.
    pub(super) fn declaration<'o>(
        &self,
        outlooks: &'o [Outlook],
        named: Option<&Digest>,
        meant: impl Fn(&ListedDeclaration) -> bool,
    ) -> anyhow::Result<Vec<(&'o Outlook, &'o ListedDeclaration)>> {
        let each = outlooks.iter().flat_map(|outlook| {
            let declarations = outlook.outlook.declarations.iter();
            declarations.map(move |declared| (outlook, declared))
        });
        let all: Vec<_> = each.collect();
        let digests: BTreeSet<_> = match named {
            Some(named) => BTreeSet::from([named]),
            None => {
                let meant = all.iter().filter(|(_, declared)| meant(declared));
                meant.map(|(_, declared)| &declared.declaration).collect()
            }
        };
        let known = |digests: &BTreeSet<&Digest>| {
            let each = digests.iter().map(|it| format!("`{it}`"));
            each.collect::<Vec<_>>().join(", ")
        };
        let one = match digests.iter().collect::<Vec<_>>().as_slice() {
            [] => bail!(
                "no emergency change that is meant here is declared for these images in `{}`; `promotion-gate emergency status` shows what there is",
                self.environment
            ),
            [one] => **one,
            _ => bail!(
                "several emergency changes are declared: name one with `--declaration` ({})",
                known(&digests)
            ),
        };
        let found: Vec<_> = all
            .iter()
            .filter(|(_, declared)| declared.declaration == *one)
            .copied()
            .collect();
        if found.is_empty() {
            let all: BTreeSet<_> = all.iter().map(|(_, it)| &it.declaration).collect();
            let there = match all.is_empty() {
                true => "none is".to_owned(),
                false => known(&all),
            };
            bail!(
                "the emergency change `{one}` is not declared for these images; declared: {there}"
            );
        }
        Ok(found)
    }

    /// A command about images, complete, as a shell takes it.
    pub(super) fn command(
        &self,
        sources: &Sources,
        verb: &str,
        images: &BTreeSet<Subject>,
        said: &[&str],
    ) -> String {
        let mut words: Vec<String> = ["promotion-gate", "emergency", verb]
            .map(str::to_owned)
            .into();
        words.extend(images.iter().map(ToString::to_string));
        words.extend(["--environment".to_owned(), self.environment.clone()]);
        let changes: Vec<_> = self
            .judged
            .reviews
            .iter()
            .map(|it| it.promotion.change.clone())
            .collect();
        let namespaces = namespaces_of(&changes);
        if let (1, Some(namespace)) = (namespaces.len(), namespaces.first()) {
            words.extend(["--namespace".to_owned(), namespace.clone()]);
        }
        words.extend(said.iter().map(|word| (*word).to_owned()));
        if let Some(repository) = sources.given_repository() {
            words.extend(["--repository".to_owned(), repository]);
        }
        words.extend_from_slice(&self.judged.inputs.snapshot.world.approve_arguments);
        command_line(words.iter().map(String::as_str))
    }

    /// The object of a review, as people name it.
    fn object_of(&self, review: &Review) -> String {
        let workload = &review.promotion.change.workload;
        match &workload.namespace {
            _ if self.is_of_images => "these images".to_owned(),
            Some(namespace) => format!("{} {namespace}/{}", workload.kind, workload.name),
            None => format!("{} {}", workload.kind, workload.name),
        }
    }
}

/// The images of every workload that a declaration is attached to.
pub(super) fn declared_images(found: &[(&Outlook, &ListedDeclaration)]) -> BTreeSet<Subject> {
    let each = found.iter().flat_map(|(_, declared)| &declared.images);
    each.cloned().collect()
}
