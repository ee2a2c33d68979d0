//! `doctor`: can the gate of a cluster be passed, and does what it was given have an effect?
//!
//! * `checks` — the table of what is looked for
//! * `registration`, `guards`, `served`, `people`, `rights`, `installation`, `documents` — how it is found, in what was read
//! * `report` — what was found

mod checks;
mod documents;
mod guards;
mod installation;
mod people;
mod registration;
mod report;
mod rights;
mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Resource;
use kube::api::{ApiResource, ListParams};
use promotion_gate_core::gate::Snapshot;

use super::cluster::connect;
use super::render::Output;
use super::webhook_configuration::{Service, service};
use crate::admission::{Endpoint, Registration};
use crate::api::Kind;
use crate::cluster::{ApiFailure, Cluster, in_time};
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
/// Reads the webhook configuration, the admission policies, roles and bindings, the Deployment and the Pods of the gate, namespaces and
/// the resources of the gate, with the rights of the kubeconfig, and changes nothing. Says who could pass, change or stop the gate, why
/// it matters and what to do. Only RBAC is seen: not other authorizers, nor what a network plug-in really enforces.
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
    /// The address at which the API server asks the gate, where the webhook configuration has none of a Service
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The lowest severity that makes the command fail
    #[arg(long, value_enum, default_value_t = Severity::Critical)]
    fail_on: Severity,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    answers(&cluster).await?;
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

/// Whether the API server answers at all.
async fn answers(cluster: &Cluster) -> anyhow::Result<()> {
    let client = cluster.client();
    let asked = in_time(async {
        match client.apiserver_version().await {
            // An answer all the same.
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            answer => answer.map(drop),
        }
    });
    asked.await.context("the cluster cannot be reached")
}

async fn examine(cluster: &Cluster, args: &Args) -> anyhow::Result<DoctorReport> {
    let now = Timestamp::now();
    let mut report = DoctorReport::new();
    let Service(namespace, name) = &args.service;
    let service = (namespace.as_str(), name.as_str());

    let known = snapshot(cluster, now, &mut report).await?;
    let snapshot = known.as_ref().map(|known| &known.snapshot);
    let installed = installed(cluster, service, &mut report).await;
    let own: [&str; 2] = ["kube-system", namespace];
    let configured = snapshot.map(|it| &it.world.infrastructure_namespaces);
    let written = installed.as_ref().and_then(Installation::infrastructure);
    let infrastructure = configured.into_iter().chain(&written).flatten();
    let exempt: BTreeSet<_> = infrastructure.map(String::as_str).chain(own).collect();
    if let (Some(configured), Some(written)) = (configured, &written) {
        let different = configured.symmetric_difference(written);
        let different = different.filter(|it| !own.contains(&it.as_str()));
        let different = different.map(|name| format!("`{name}`"));
        report.find_any(&checks::INFRASTRUCTURE_DIFFERS, different.collect());
    }
    if let Some(known) = &known
        && known.is_complete
        && let Some(namespaces) = namespaces(cluster, &mut report).await
    {
        documents::check(&known.snapshot, &namespaces, &exempt, &mut report);
    }

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
            endpoint: match &args.url {
                Some(url) => Endpoint::Url(url.clone()),
                None => Endpoint::Service {
                    namespace: namespace.clone(),
                    name: name.clone(),
                },
            },
            ca_bundle: None,
            infrastructure: exempt.iter().map(|&it| it.to_owned()).collect(),
            audited: installed
                .as_ref()
                .map(Installation::audited)
                .unwrap_or_default(),
        };
        let expected = expected.configuration()?;
        registration::check(&found, &expected, known.is_some(), now, &mut report);
    }

    let mut account = "promotion-gate".to_owned();
    if let Some(found) = installed {
        if args.url.is_some() && found.service.is_none() {
            report.cannot_check(
                "the gate",
                "it has an address, and no Service in the cluster",
            );
        } else {
            installation::check(&found, service, &mut report);
        }
        account = found.account().map_or(account, str::to_owned);
    }

    let user = format!("system:serviceaccount:{namespace}:{account}");
    let policies = list(cluster, None).await;
    let bindings = list(cluster, None).await;
    let (guards, let_in) = match read(
        both(policies, bindings),
        "the admission policies",
        &mut report,
    ) {
        Some((policies, bindings)) => (
            guards::check(&policies, &bindings, &user, &mut report),
            guards::let_in(&policies),
        ),
        None => (guards::InForce(false), BTreeSet::new()),
    };
    if let Some(found) = read(list(cluster, None).await, "APIServices", &mut report) {
        served::check(&found, &mut report);
    }

    let Some(snapshot) = snapshot else {
        let why = "the GateConfiguration, which names governors, could not be read";
        report.cannot_check("who holds which rights", why);
        return Ok(report);
    };
    if let Some(rights) = read(
        rights(cluster).await,
        "roles and their bindings",
        &mut report,
    ) {
        let mut policies = snapshot.policies.iter();
        let place = people::Place {
            service,
            account: &account,
            configuration: &args.webhook,
            exempt,
            world: &snapshot.world,
            selects_by_label: policies.any(|policy| policy.namespaces.selector.is_some()),
            guards,
            let_in,
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

/// What runs in the namespace of the gate; without its Pods, if these cannot be read.
async fn installed(
    cluster: &Cluster,
    service: (&str, &str),
    report: &mut DoctorReport,
) -> Option<Installation> {
    let found = installation(cluster, service).await;
    let found = read(found, "the Deployment of the gate", report)?;
    let pods = list(cluster, Some(service.0)).await;
    let pods = read(pods, "the Pods of the gate, and their nodes", report);
    Some(Installation {
        pods: pods.unwrap_or_default(),
        ..found
    })
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
        pods: Vec::new(),
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

/// What the resources of the gate say.
struct Known {
    snapshot: Snapshot,
    /// Whether every kind could be read.
    is_complete: bool,
}

/// What the resources of the gate say, with their mistakes in the report; `None` if the GateConfiguration cannot be read.
async fn snapshot(
    cluster: &Cluster,
    now: Timestamp,
    report: &mut DoctorReport,
) -> anyhow::Result<Option<Known>> {
    let config = Config::load(None)?;
    // What the gate writes for each digest: there can be very many, and nobody edits them.
    let kinds = Kind::ALL.into_iter();
    let kinds = kinds.filter(|it| it.collected_prefix().is_none());
    let reads = kinds.map(|kind| async move { (kind, Once::resources(cluster, &[kind]).await) });
    let (mut resources, mut unread) = (Vec::new(), Vec::new());
    for (kind, read) in join_all(reads).await {
        match read {
            Ok(read) => resources.extend(read),
            Err(failure) => unread.push((kind, failure)),
        }
    }
    if let Some((_, failure)) = unread.first() {
        let kinds: Vec<_> = unread.iter().map(|(kind, _)| kind.name()).collect();
        let what = format!("resources of the gate ({})", kinds.join(", "));
        report.cannot_check(&what, failure);
    }
    if unread
        .iter()
        .any(|(kind, _)| *kind == Kind::GateConfiguration)
    {
        return Ok(None);
    }
    let once = Once::of(&[], &resources, &config);
    let is_complete = unread.is_empty();
    if is_complete {
        documents::check_mistakes(&once, report);
    }
    let (feeds, _) = once.feeds();
    let snapshot = once.snapshot(config.snapshot(), &feeds, now);
    Ok(Some(Known {
        snapshot,
        is_complete,
    }))
}
