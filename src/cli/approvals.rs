//! `approvals IMAGE`: who approved an image, what and when, and whether it counts for the policies.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    ApprovalEffect, ApprovalListing, ImageReference, ListedApproval, ListedApprovals, ListedWord,
    Outcome, Policy, Workload, list_approvals,
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::deciding::{Deciding, FEEDS, Purpose, Recorded, Sources, as_source, namespaces_of};
use super::out::{write_json, write_json_line};
use super::render::Output;
use super::render::human::{GREEN, RED, YELLOW};
use super::watch::watch;
use crate::review::{ReviewInputs, review};
use crate::text::line;

/// The version of the JSON schema.
const VERSION: &str = "promotion-gate.dev/approvals/v1alpha1";

/// Show who approved an image, when, and whether it counts and why
///
/// Each policy with the requirement `approvals` is listed, with its answer: by the rule that decides in the cluster, for a Pod of
/// this image. With `--namespace` only policies that govern it are listed; without, the policies of the environment count wherever
/// they govern, and approvals that are limited to a namespace do not count.
///
/// With `--from-cluster`, rejections that the cluster keeps count, and so do its release records, as for the webhook: such as that the
/// digest was admitted to the environment before, so that no waiting time begins again, or, with `--workload`, which commit runs.
///
/// Exit codes: 0 every listed policy has its approvals, 1 wrong usage or a failure of the tool, 2 approvals are missing or the image
/// is rejected, 3 it could not be decided.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate approvals --policy policies/ --environment production ghcr.io/example/app:v1.2.3
  promotion-gate approvals --from-cluster --namespace payments ghcr.io/example/app@sha256:…
  promotion-gate approvals --policy policies/ --people people/ --environment production --watch ghcr.io/example/app:v1.2.3
  promotion-gate approvals --policy policies/ --environment production --output json ghcr.io/example/app:v1.2.3")]
pub(super) struct Args {
    /// The image
    image: String,
    /// The environment whose policies are listed
    #[arg(long, value_name = "NAME", required_unless_present = "namespace")]
    environment: Option<String>,
    #[command(flatten)]
    deciding: Deciding,
    #[command(flatten)]
    recorded: Recorded,
    /// Go on, and print the list again whenever it changes
    #[arg(long)]
    watch: bool,
    /// How often the registry is asked with `--watch`, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Output format; with `--watch`, JSON is one line for each change
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Time limit for reading, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Who approved an image.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApprovalsReport {
    /// `promotion-gate.dev/approvals/v1alpha1`
    version: &'static str,
    image: String,
    /// The digest that was judged, if it is known.
    digest: Option<String>,
    /// One entry for each requirement `approvals` of a policy.
    policies: Vec<PolicyApprovals>,
}

/// The approvals under one requirement of a policy.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PolicyApprovals {
    policy: String,
    environment: String,
    /// The name that the policy gives to the requirement.
    requirement: Option<String>,
    /// `pass`, `fail`, `undecided` or `skip`.
    outcome: &'static str,
    /// Stable id of the reason, such as `approvals-missing`.
    reason: &'static str,
    /// The reason in words.
    detail: String,
    /// What to do next.
    hint: Option<String>,
    /// The open seats; empty if all are filled.
    open_seats: String,
    /// Every statement, oldest first.
    statements: Vec<Statement>,
}

/// An approval or a rejection, with its signer and its effect.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Statement {
    /// The person in the people directory.
    person: Option<String>,
    /// The certificate's identity, or the key; absent for a rejection that the cluster keeps.
    signer: Option<String>,
    /// `approved`, `rejected`, or `unreadable`.
    decision: &'static str,
    /// The latest verified time of the signature.
    #[schemars(with = "Option<String>")]
    at: Option<Timestamp>,
    environment: Option<String>,
    reason: Option<String>,
    /// The id of the change (ticket).
    change: Option<String>,
    #[schemars(with = "Option<String>")]
    valid_until: Option<Timestamp>,
    scopes: BTreeMap<String, String>,
    /// The rules that denied the image when the person approved it all the same (`approve --anyway`).
    despite: Vec<String>,
    /// Whether it counts: an approval for a seat, a rejection against the image.
    counts: bool,
    /// The seat that the person fills: a group, or the person's own name.
    seat: Option<String>,
    /// Why it does not count.
    why: Option<String>,
    /// Where it was found.
    source: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let reference = args.image.parse::<ImageReference>()?;
    let mut sources = args.deciding.open().await?;
    let wanted = Wanted {
        reference,
        environment: args.environment,
        workload: args.recorded.workload(&sources)?,
        recorded: args.recorded,
        timeout: Duration::from_secs(args.timeout),
    };
    let first = wanted.look(&mut sources).await?;
    let print = |report: &ApprovalsReport| print(report, args.output, args.watch);
    print(&first.0)?;
    if !args.watch {
        return Ok(first.1);
    }
    let again = async || wanted.look(&mut sources).await;
    watch(Duration::from_secs(args.interval), first, again, print).await
}

/// What is asked for.
struct Wanted {
    reference: ImageReference,
    environment: Option<String>,
    recorded: Recorded,
    workload: Option<Workload>,
    timeout: Duration,
}

impl Wanted {
    async fn look(&self, sources: &mut Sources) -> anyhow::Result<(ApprovalsReport, ExitCode)> {
        let now = Timestamp::now();
        let mut change = sources.pod(std::slice::from_ref(&self.reference))?;
        if let Some(workload) = &self.workload {
            change.workload = workload.clone();
        }
        let namespaces = namespaces_of(std::slice::from_ref(&change));
        let purpose = Purpose {
            namespaces: &namespaces,
            labels: &BTreeMap::new(),
            at: now,
            asked_at: None,
            environment: self.environment.as_deref(),
            within: FEEDS,
        };
        let mut snapshot = sources.snapshot(&purpose).await?;
        if let Some(environment) = &self.environment {
            let of = |policy: &Policy| policy.environment.as_ref() == Some(environment);
            snapshot.policies.retain(of);
        }
        let records = self.recorded.read(sources, &namespaces).await?;
        let inputs = ReviewInputs {
            snapshot: snapshot.into(),
            collector: Arc::clone(&sources.collector),
            records: as_source(records.as_ref()),
            incidents: sources.incidents(),
            deadline: Instant::now() + self.timeout,
            audit_only: false,
        };
        let review = review(change, &inputs, now).await;
        let governing = inputs.snapshot.governing(&review.promotion.change);
        let listed = list_approvals(&review.promotion, &review.evidence, &governing);
        if listed.is_empty() {
            bail!("{}", self.nothing(sources.place()));
        }
        let worst = listed.iter().map(|listed| listed.finding.outcome).min();
        let code = match worst {
            Some(Outcome::Fail) => ExitCode::from(2),
            Some(Outcome::Undecided) => ExitCode::from(3),
            _ => ExitCode::SUCCESS,
        };
        let digest = review.promotion.pins.first().and_then(|pin| pin.digest());
        let report = ApprovalsReport {
            version: VERSION,
            image: self.reference.as_written().to_owned(),
            digest: digest.map(ToString::to_string),
            policies: listed.into_iter().map(PolicyApprovals::of).collect(),
        };
        Ok((report, code))
    }

    fn nothing(&self, namespace: Option<&str>) -> String {
        let of = match &self.environment {
            Some(environment) => format!(" of the environment `{environment}`"),
            None => String::new(),
        };
        let here = match namespace {
            Some(namespace) => format!(" that governs the namespace `{namespace}`"),
            None => String::new(),
        };
        format!("no policy{of}{here} has the requirement `approvals`")
    }
}

impl PolicyApprovals {
    fn of(listed: ListedApprovals) -> PolicyApprovals {
        let ListedApprovals {
            policy,
            environment,
            finding,
            listing,
            ..
        } = listed;
        let ApprovalListing {
            open_seats,
            statements,
        } = listing;
        PolicyApprovals {
            policy,
            environment,
            requirement: finding.requirement,
            outcome: finding.outcome.id(),
            reason: finding.reason,
            detail: finding.detail,
            hint: finding.hint,
            open_seats,
            statements: statements.into_iter().map(Statement::of).collect(),
        }
    }
}

impl Statement {
    fn of(listed: ListedApproval) -> Statement {
        let (counts, seat, why) = match listed.effect {
            ApprovalEffect::FillsSeat(seat) => (true, Some(seat), None),
            ApprovalEffect::Counts | ApprovalEffect::Blocks => (true, None, None),
            ApprovalEffect::DoesNotCount(why) => (false, None, Some(why)),
        };
        let statement = Statement {
            person: listed.person,
            signer: listed.signer,
            decision: "unreadable",
            at: listed.times.map(|(_, latest)| latest),
            environment: None,
            reason: None,
            change: None,
            valid_until: None,
            scopes: BTreeMap::new(),
            despite: Vec::new(),
            counts,
            seat,
            why,
            source: listed.source,
        };
        match listed.word {
            ListedWord::Unreadable(why) => Statement {
                reason: Some(why),
                ..statement
            },
            ListedWord::Decision {
                is_approval,
                environment,
                reason,
                change,
                valid_until,
                scopes,
                despite,
            } => Statement {
                decision: if is_approval { "approved" } else { "rejected" },
                environment: Some(environment),
                reason,
                change,
                valid_until,
                scopes,
                despite,
                ..statement
            },
        }
    }

    fn print(&self) {
        let who = match (&self.person, &self.signer) {
            (Some(person), Some(signer)) => format!("{person} ({signer})"),
            (Some(who), None) | (None, Some(who)) => who.clone(),
            (None, None) => "(unknown)".to_owned(),
        };
        let at = match self.at {
            Some(at) => format!("{at:.0}"),
            None => "no verified time".to_owned(),
        };
        let effect = match (self.counts, self.decision, &self.seat, &self.why) {
            (true, "approved", Some(seat), _) => {
                format!("{GREEN}counts{GREEN:#}: seat of {}", line(seat))
            }
            (true, "approved", None, _) => {
                format!("{GREEN}counts{GREEN:#}: other people fill the seats")
            }
            (true, ..) => format!("{RED}blocks{RED:#}"),
            (false, _, _, why) => format!(
                "{YELLOW}does not count{YELLOW:#}: {}",
                line(why.as_deref().unwrap_or_default())
            ),
        };
        print_line!("  {at} {}  {}  {effect}", self.decision, line(&who));
        let mut more = Vec::new();
        more.extend(self.change.as_ref().map(|id| format!("change {id}")));
        let until = self.valid_until;
        more.extend(until.map(|until| format!("valid until {until:.0}")));
        let scopes = self.scopes.iter();
        more.extend(scopes.map(|(name, value)| format!("{name} {value}")));
        more.extend(self.reason.clone());
        more.extend(self.despite.iter().map(|why| format!("despite {why}")));
        if !more.is_empty() {
            print_line!("    {}", line(&more.join("; ")));
        }
    }
}

fn print(report: &ApprovalsReport, output: Output, is_one_of_many: bool) -> anyhow::Result<()> {
    if output == Output::Json {
        return match is_one_of_many {
            true => write_json_line(report),
            false => write_json(report),
        };
    }
    if is_one_of_many {
        print_line!("{:.0}", Timestamp::now());
    }
    match &report.digest {
        Some(digest) if !report.image.contains(digest.as_str()) => {
            print_line!("{} is {digest}", line(&report.image));
        }
        _ => print_line!("{}", line(&report.image)),
    }
    for policy in &report.policies {
        let word = match policy.outcome {
            "pass" => format!("{GREEN}pass{GREEN:#}"),
            "fail" => format!("{RED}fail{RED:#}"),
            other => format!("{YELLOW}{other}{YELLOW:#}"),
        };
        let name = policy.requirement.as_ref();
        let name = name.map(|name| format!(", requirement `{name}`"));
        print_line!(
            "{word} policy `{}` for `{}`{}: {}",
            line(&policy.policy),
            line(&policy.environment),
            line(&name.unwrap_or_default()),
            line(&policy.detail)
        );
        if policy.statements.is_empty() {
            print_line!("  no approval or rejection was read");
        }
        for statement in &policy.statements {
            statement.print();
        }
        if let Some(hint) = policy.hint.as_ref().filter(|_| policy.outcome != "pass") {
            print_line!("  next: {}", line(hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        super::super::render::assert_documented::<ApprovalsReport>("approvals");
    }
}
