//! `noFreeze`: no change freeze of the policy's environment lasts.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::rollback_to;
use super::{Class, Entry, EvidenceUse, Judgement, Rule, Scope, WorkloadCheck, WorkloadRule};
use crate::gate::age::Age;
use crate::gate::evidence::Collected;
use crate::gate::policy::Policy;
use crate::gate::promotion::{Operation, Promotion, Role};
use crate::gate::schedule::{Cause, Freeze, Frozen, Schedule, Until};
use crate::reason::{Reason, reasons};

/// **What it requires**: no `ChangeFreeze` lasts for the policy's `environment`. Of freezes that overlap, all count. A freeze whose
/// calendar or endpoint was not read for too long counts as lasting, unless its `whenStale` says `Open`.
///
/// A freeze stops changes that somebody asks for: a new or changed workload, and workloads that are started (unpaused, scaled from
/// zero). It never stops controllers that keep running what runs: Pods are replaced, Jobs retry, autoscalers scale. Containers that
/// `kubectl debug` adds are exempt unless `ephemeralContainers: Judge` says otherwise. `warnBefore: 24h` warns the deployer of a
/// freeze that begins within that time.
///
/// A rollback passes if every freeze that lasts lets it (`mayPass.rollback`). A change is a rollback if its workload goes back to a
/// template that ran here before, complied with this policy, and was replaced within the policy's `rollbackWindow`; release
/// records show that.
///
/// **Why**: freezes that stand in one delivery tool are walked around with `kubectl apply`. Here one document holds for every way
/// of deploying, and says why and until when.
///
/// **Example**:
///
/// ```yaml
/// - noFreeze: {warnBefore: 24h}
/// ```
///
/// **How to satisfy it**: wait until the freeze ends; the denial says when. `promotion-gate freeze now --environment production`
/// tells a pipeline before it deploys, `promotion-gate freeze list` shows what comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoFreeze {
    /// Warn the deployer of a freeze that begins within this time, such as `24h`.
    #[serde(default)]
    pub warn_before: Option<Age>,
    /// What holds for containers that `kubectl debug` adds to a running Pod.
    #[serde(default)]
    pub ephemeral_containers: EphemeralContainers,
}

/// What holds for ephemeral containers during a freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum EphemeralContainers {
    /// They may be added.
    #[default]
    Exempt,
    /// They have to wait.
    Judge,
}

reasons! {
    OF_THIS_RULE:
    NOT_FROZEN = "not-frozen", "No change freeze lasts.", "";
    FREEZE_NEAR = "freeze-near", "No change freeze lasts, and one begins soon.", "";
    DEBUGGING = "debugging-is-exempt", "Only ephemeral containers are added, which freezes do not stop.", "";
    ROLLBACK_PASSES = "rollback-passes",
        "A change freeze lasts, and the change is a rollback, which every such freeze lets pass (`mayPass`).", "";
    FROZEN = "frozen", "A change freeze lasts.",
        "Wait until it ends, or ask its owner. The detail names each freeze, why it lasts, and until when.";
    FREEZE_UNKNOWN = "freeze-unknown",
        "The calendar or endpoint of a freeze was not read for too long, so that it counts as lasting.",
        "Repair the connection: the detail says what was tried. `whenStale: Open` accepts the risk instead.";
    FREEZES_UNREADABLE = "freezes-unreadable", "The change freezes could not be read.",
        "Correct the files that the detail names.";
}

impl Entry for NoFreeze {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = None;
}

impl Rule for NoFreeze {
    fn class(&self) -> Class {
        Class::ChangeControl
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Workload(self)
    }

    fn fits(&self, policy: &Policy) -> Result<(), String> {
        match policy.environment {
            Some(_) => Ok(()),
            None => Err("a freeze is about an environment, and this policy does not name one; set `environment` in `spec`".to_owned()),
        }
    }
}

impl WorkloadRule for NoFreeze {
    fn check(&self, check: &WorkloadCheck<'_>) -> Judgement {
        let promotion = check.promotion;
        // 1. Debugging changes no workload.
        if self.ephemeral_containers == EphemeralContainers::Exempt && only_debugs(promotion) {
            let detail = "only ephemeral containers are added, which freezes do not stop";
            return Judgement::pass(DEBUGGING, detail.to_owned());
        }
        // 2. Unknown freezes are not "no freezes".
        let Collected::Known(schedule) = &check.world.freezes else {
            let why = check.world.freezes.unavailabilities().iter();
            let why: Vec<_> = why.map(ToString::to_string).collect();
            return Judgement::undecided(FREEZES_UNREADABLE, why.join("; "));
        };
        // 3. Every freeze of the environment counts.
        let environment = check.policy.environment.as_deref().unwrap_or_default();
        let frozen = schedule.frozen_at(environment, promotion.at);
        match frozen.as_slice() {
            [] => self.open(schedule, environment, promotion.at),
            frozen => match promotion.rolls_back_to(check.policy) {
                Some(until) => rollback(check, schedule, frozen, until),
                None => denial(check, schedule, frozen),
            },
        }
    }
}

/// Whether the change only adds ephemeral containers to a Pod.
fn only_debugs(promotion: &Promotion) -> bool {
    let change = &promotion.change;
    let mut images = change.images.iter();
    change.operation == Operation::Update
        && change.unreadable.is_empty()
        && !change.images.is_empty()
        && images.all(|image| image.role == Role::EphemeralContainer)
}

impl NoFreeze {
    /// Nothing is frozen; a freeze that begins soon is worth a warning.
    fn open(&self, schedule: &Schedule, environment: &str, at: Timestamp) -> Judgement {
        let near = self
            .warn_before
            .and_then(|within| schedule.next_start(environment, at, within.duration()));
        let ignored = schedule.ignored_at(environment, at);
        let ignored: Vec<_> = ignored
            .iter()
            .map(|(Freeze { name, .. }, why)| {
                format!("the change freeze `{name}` does not count (`whenStale: Open`): {why}")
            })
            .collect();
        let and_ignored = ignored.iter().map(|why| format!("; {why}"));
        let and_ignored = and_ignored.collect::<String>();
        let open = format!("no change freeze of `{environment}` lasts");
        let judgement = match near {
            None => Judgement::pass(NOT_FROZEN, format!("{open}{and_ignored}")),
            Some(near) => {
                let Freeze { name, .. } = near.freeze;
                let start = near.freeze.show(near.start);
                let detail = format!("{open}; `{name}` begins {start}{and_ignored}");
                let start = near.freeze.show_short(near.start);
                let warning = format!("`{environment}` is frozen from {start} (`{name}`)");
                Judgement::pass(FREEZE_NEAR, detail).warning(warning)
            }
        };
        ignored.into_iter().fold(judgement, Judgement::warning)
    }
}

/// A rollback passes if every freeze that lasts lets it.
fn rollback(
    check: &WorkloadCheck<'_>,
    schedule: &Schedule,
    frozen: &[Frozen<'_>],
    until: Timestamp,
) -> Judgement {
    let environment = check.policy.environment.as_deref().unwrap_or_default();
    let refusing = frozen.iter().filter(|it| !it.freeze.may_pass.rollback);
    let refusing: Vec<_> = refusing.map(|it| format!("`{}`", it.freeze.name)).collect();
    let says = rollback_to(until);
    if refusing.is_empty() {
        let detail = format!(
            "{says}, which may pass; {}",
            lasting(environment, frozen, are_all_stale(frozen))
        );
        return Judgement::pass(ROLLBACK_PASSES, detail);
    }
    let denied = denial(check, schedule, frozen);
    Judgement {
        detail: format!(
            "{}; {says}, and no rollback passes {}",
            denied.detail,
            refusing.join(", ")
        ),
        ..denied
    }
}

fn are_all_stale(frozen: &[Frozen<'_>]) -> bool {
    let is_stale = |frozen: &Frozen<'_>| matches!(frozen.cause, Cause::Stale { .. });
    frozen.iter().all(is_stale)
}

/// Which freezes last, as a sentence.
fn lasting(environment: &str, frozen: &[Frozen<'_>], are_all_stale: bool) -> String {
    let each: Vec<_> = frozen.iter().map(Frozen::to_string).collect();
    let (says, joined) = match are_all_stale {
        true => ("may be frozen:", "; "),
        false => ("is frozen by", "; and by "),
    };
    format!("`{environment}` {says} {}", each.join(joined))
}

/// Which freezes last, why, until when, and what may pass.
fn denial(check: &WorkloadCheck<'_>, schedule: &Schedule, frozen: &[Frozen<'_>]) -> Judgement {
    let environment = check.policy.environment.as_deref().unwrap_or_default();
    let at = check.promotion.at;
    let are_all_stale = are_all_stale(frozen);
    let mut detail = lasting(environment, frozen, are_all_stale);
    let open_from = schedule.open_from(environment, at);
    let first = frozen.iter().map(|frozen| frozen.freeze).next();
    if let (Until::At(end), Some(freeze)) = (open_from, first) {
        let is_said = matches!(frozen, [only] if only.until == open_from);
        if !is_said {
            detail.push_str(&format!("; changes may pass from {}", freeze.show(end)));
        }
        // A year from now is computed already; a year from a far end is not.
        let year = at.saturating_add(jiff::SignedDuration::from_hours(24 * 366));
        let within = year.unwrap_or(at).duration_since(end);
        if let Some(next) = schedule.next_start(environment, end, within) {
            let Freeze { name, .. } = next.freeze;
            let start = next.freeze.show(next.start);
            detail.push_str(&format!("; the next freeze, `{name}`, begins {start}"));
        }
    }
    let judgement = match are_all_stale {
        true => Judgement::undecided(FREEZE_UNKNOWN, detail),
        false => Judgement::fail(FROZEN, detail),
    };
    judgement.hint(next_step(check, frozen, are_all_stale))
}

/// What the deployer can do, and what the freezes let through.
fn next_step(check: &WorkloadCheck<'_>, frozen: &[Frozen<'_>], are_all_stale: bool) -> String {
    let wait = match are_all_stale {
        true => "wait until the feed is read again",
        false => "wait until the freeze ends",
    };
    let mut owners: Vec<_> = frozen
        .iter()
        .filter_map(|frozen| frozen.freeze.owner.as_deref())
        .map(|owner| format!("`{owner}`"))
        .collect();
    owners.sort_unstable();
    owners.dedup();
    let ask = match owners.is_empty() {
        true => String::new(),
        false => format!(", or ask {}", owners.join(" and ")),
    };
    let all = |may: fn(&Freeze) -> bool| frozen.iter().all(|frozen| may(frozen.freeze));
    let has_records = check.promotion.records.value().is_some();
    let rollbacks = match (all(|freeze| freeze.may_pass.rollback), has_records) {
        (true, true) => "; a rollback to what ran before may pass",
        (true, false) => {
            "; a rollback may pass where there are release records (there are none here)"
        }
        (false, _) => "",
    };
    let emergencies = emergencies(check.policy, frozen);
    format!("{wait}{ask}; what runs is kept running{rollbacks}{emergencies}")
}

/// Whether an emergency change passes: the policy and every freeze that lasts have to let it.
fn emergencies(policy: &Policy, frozen: &[Frozen<'_>]) -> String {
    let refusing = frozen.iter().filter(|it| !it.freeze.may_pass.emergency);
    let refusing: Vec<_> = refusing.map(|it| format!("`{}`", it.freeze.name)).collect();
    let section = policy.emergency.as_ref();
    let is_waived = section.is_some_and(|section| section.waives_rule("noFreeze"));
    match (is_waived, refusing.as_slice()) {
        (true, []) => "; an emergency change may pass".to_owned(),
        (true, refusing) => format!(
            "; the policy lets emergency changes pass, and the freeze {} does not (`mayPass`)",
            refusing.join(", ")
        ),
        (false, []) => {
            "; the freeze lets emergency changes pass, and the policy does not (`emergency.waives`)"
                .to_owned()
        }
        (false, _) => String::new(),
    }
}
