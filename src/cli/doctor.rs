//! `doctor`: can the gate of a cluster be passed, and does what it was given have an effect?
//!
//! * `checks` — the table of what is looked for
//! * `registration`, `guards`, `people`, `rights`, `installation`, `documents` — how it is found, in what was read
//! * `report` — what was found

mod checks;
mod documents;
mod guards;
mod installation;
mod people;
mod registration;
mod report;
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Resource;
use kube::api::{ApiResource, ListParams};
use promotion_gate_core::gate::{Snapshot, World};

use super::cluster::{Live, connect};
use super::render::Output;
use super::webhook_configuration::{Service, service};
use crate::admission::{Endpoint, Registration};
use crate::api::Kind;
use crate::cluster::{ApiFailure, Cluster};
use crate::config::Config;
use crate::snapshot::Once;
use checks::Severity;
use installation::Installation;
use report::DoctorReport;
use rights::Rights;

/// Something was found.
const FOUND: u8 = 2;
/// Nothing was found, but not everything could be looked at.
const INCOMPLETE: u8 = 3;

/// Look for ways past the gate of a cluster, and for documents without an effect
///
/// Reads the webhook configuration, the admission policies, roles and bindings, the Deployment of the gate, namespaces and the
/// resources of the gate, with the rights of the kubeconfig, and changes nothing. Says who could pass, change or stop the gate, why it
/// matters and what to do. Only RBAC is seen: not other authorizers, nor what a network plug-in really enforces.
///
/// Exit codes: 0 nothing of the severity of `--fail-on` was found, 1 wrong usage, or the cluster cannot be reached, 2 something was found,
/// 3 nothing was found, but something could not be looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate doctor
  promotion-gate doctor --kubeconfig prod.kubeconfig --fail-on warning
  promotion-gate doctor --output json | jq '.findings[] | select(.severity == \"critical\")'")]
pub(super) struct Args {
    /// A kubeconfig file; as `kubectl` finds it when absent
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; the present one when absent
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The Service of the gate; its namespace is the gate's own
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "promotion-gate/promotion-gate", value_parser = service)]
    service: Service,
    /// The name of the webhook configuration
    #[arg(long, value_name = "NAME", default_value = "promotion-gate")]
    webhook: String,
    /// The lowest severity that makes the command fail
    #[arg(long, value_enum, default_value_t = Severity::Critical)]
    fail_on: Severity,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let mut report = examine(&cluster, &args).await?;
    report.sort();
    match args.output {
        Output::Human => report.print(),
        Output::Json => {
            let report = serde_json::to_value(&report);
            super::out::write_json(&report.context("the report cannot be written as JSON")?)?;
        }
    }
    Ok(if report.has(args.fail_on) {
        ExitCode::from(FOUND)
    } else if !report.is_complete() {
        ExitCode::from(INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

async fn examine(cluster: &Cluster, args: &Args) -> anyhow::Result<DoctorReport> {
    let now = Timestamp::now();
    let mut report = DoctorReport::new();
    let Service(namespace, name) = &args.service;
    let service = (namespace.as_str(), name.as_str());

    let snapshot = snapshot(cluster, now, &mut report).await?;
    let unknown = World::default();
    let world = snapshot.as_ref().map_or(&unknown, |it| &it.world);
    let configured = world.infrastructure_namespaces.iter().map(String::as_str);
    let exempt: BTreeSet<_> = configured.chain(["kube-system", namespace]).collect();
    if let Some(snapshot) = &snapshot
        && let Some(namespaces) = namespaces(cluster, &mut report).await
    {
        documents::check(snapshot, &namespaces, &exempt, &mut report);
    }

    let installed = read(
        installation(cluster, service).await,
        "the Deployment of the gate",
        &mut report,
    );
    if let Some(found) = read(
        list(cluster, None).await,
        "the webhook configuration",
        &mut report,
    ) {
        let found: Vec<
            k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration,
        > = found;
        let named = |it: &Option<String>| it.as_deref() == Some(&*args.webhook);
        let found: Vec<_> = found
            .into_iter()
            .filter(|it| named(&it.metadata.name))
            .collect();
        let expected = Registration {
            endpoint: Endpoint::Service {
                namespace: namespace.clone(),
                name: name.clone(),
            },
            ca_bundle: None,
            infrastructure: exempt.iter().map(|&it| it.to_owned()).collect(),
            audited: installed
                .as_ref()
                .map(Installation::audited)
                .unwrap_or_default(),
        };
        registration::check(&found, &expected.configuration()?, now, &mut report);
    }

    let mut account = "promotion-gate".to_owned();
    if let Some(found) = installed {
        installation::check(&found, service, &mut report);
        account = found.account().map_or(account, str::to_owned);
    }

    let user = format!("system:serviceaccount:{namespace}:{account}");
    let policies = list(cluster, None).await;
    let bindings = list(cluster, None).await;
    let guards = match read(
        both(policies, bindings),
        "the admission policies",
        &mut report,
    ) {
        Some((policies, bindings)) => guards::check(&policies, &bindings, &user, &mut report),
        None => guards::InForce(false),
    };

    if let Some(rights) = read(
        rights(cluster).await,
        "roles and their bindings",
        &mut report,
    ) {
        let mut policies = snapshot.iter().flat_map(|it| &it.policies);
        let place = people::Place {
            service,
            account: &account,
            configuration: &args.webhook,
            exempt,
            world,
            selects_by_label: policies.any(|policy| policy.namespaces.selector.is_some()),
            guards,
        };
        people::check(&rights, &place, &mut report);
    }
    Ok(report)
}

/// What was read; if it could not be, the report says so.
fn read<T>(read: Result<T, ApiFailure>, what: &str, report: &mut DoctorReport) -> Option<T> {
    read.map_err(|failure| report.cannot_check(what, failure))
        .ok()
}

fn both<A, B>(a: Result<A, ApiFailure>, b: Result<B, ApiFailure>) -> Result<(A, B), ApiFailure> {
    Ok((a?, b?))
}

/// Every object of a kind: those of a namespace, or of all.
async fn list<K>(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<K>, ApiFailure>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let resource = ApiResource::erase::<K>(&());
    let page = ListParams::default().limit(500);
    let objects = cluster.list_in(&resource, namespace, page).await?;
    let objects = objects.into_iter().map(|object| {
        object.try_parse().map_err(|error| ApiFailure {
            why: format!(
                "an object of the kind {} cannot be read: {error}",
                resource.kind
            ),
            is_transient: false,
        })
    });
    objects.collect()
}

async fn rights(cluster: &Cluster) -> Result<Rights, ApiFailure> {
    Ok(Rights::new(
        list(cluster, None).await?,
        list(cluster, None).await?,
        list(cluster, None).await?,
        list(cluster, None).await?,
    ))
}

async fn installation(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
) -> Result<Installation, ApiFailure> {
    let namespace = Some(namespace);
    let services: Vec<k8s_openapi::api::core::v1::Service> = list(cluster, namespace).await?;
    let mut services = services.into_iter();
    Ok(Installation {
        service: services.find(|it| it.metadata.name.as_deref() == Some(name)),
        deployments: list(cluster, namespace).await?,
        budgets: list(cluster, namespace).await?,
        networks: list(cluster, namespace).await?,
    })
}

async fn namespaces(
    cluster: &Cluster,
    report: &mut DoctorReport,
) -> Option<BTreeMap<String, BTreeMap<String, String>>> {
    let listed = list(cluster, None).await;
    let listed: Vec<k8s_openapi::api::core::v1::Namespace> = read(listed, "namespaces", report)?;
    let named = listed.into_iter().filter_map(|it| {
        let labels = it.metadata.labels.unwrap_or_default();
        Some((it.metadata.name?, labels))
    });
    Some(named.collect())
}

/// What the resources of the gate say, with their mistakes in the report.
async fn snapshot(
    cluster: &Cluster,
    now: Timestamp,
    report: &mut DoctorReport,
) -> anyhow::Result<Option<Snapshot>> {
    let config = Config::load(None)?;
    let live = Live::read(cluster.clone(), &Kind::ALL).await;
    let live = match live {
        Ok(live) => live,
        Err(error) => {
            report.cannot_check("the resources of the gate", format!("{error:#}"));
            return Ok(None);
        }
    };
    let once = Once::of(&[], &live.resources, &config);
    documents::check_mistakes(&once, report);
    let (feeds, _) = once.feeds();
    Ok(Some(once.snapshot(config.snapshot(), &feeds, now)))
}
