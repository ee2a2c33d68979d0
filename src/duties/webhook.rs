//! The webhook configuration, filled in by the replica that holds the Lease: it goes live once that replica is ready, its `caBundle`
//! follows the certificates, and what somebody changes in it is put right. It is never created here.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Error};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::certificates::certificates;
use super::{Lease, PATIENCE};
use crate::admission::{Audited, Endpoint, Registration};
use crate::cluster::{Cluster, cause, in_time};
use crate::files::read_regular_file;
use crate::metrics::Metrics;

/// Who changes the fields, as the API server notes it.
const MANAGER: &str = "promotion-gate-webhook";
/// How often the configuration is read, where nothing says that it changed; and while it is not as it should be.
const TICKS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1));
/// The pause after something was put right, so that two programs that disagree do not write all the time.
const AFTER_REPAIR: Duration = Duration::from_secs(5);
/// How long this replica is ready before the configuration goes live: a Service does not lead to it at once.
const READY_FOR: Duration = Duration::from_secs(3);
/// How long a replica that is not ready keeps the Lease, and how long it then leaves it to others.
const UNREADY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The largest file with CAs.
const MAXIMUM_BUNDLE: u64 = 1 << 20;

/// The webhook configuration that is kept.
#[derive(Clone, Debug)]
pub struct ManagedWebhook {
    /// Its name.
    pub name: String,
    /// Where the API server reaches the gate.
    pub endpoint: Endpoint,
    /// The namespaces in which an answer that does not come lets in.
    pub infrastructure: BTreeSet<String>,
    /// Where denials are only recorded.
    pub audited: Audited,
    /// The CAs of the gate's certificate (PEM), where it does not make them itself; without a file, `caBundle` is left alone.
    pub authorities: Option<PathBuf>,
}

/// Where `caBundle` comes from.
pub(crate) enum BundleSource {
    /// The certificates that the gate makes.
    SelfManaged(watch::Receiver<Option<String>>),
    /// A file.
    File(PathBuf),
    /// Another program writes it, such as cert-manager.
    Foreign,
}

/// Keeps a webhook configuration.
pub(crate) struct WebhookKeeper {
    cluster: Cluster,
    webhook: ManagedWebhook,
    bundle: BundleSource,
    metrics: Arc<Metrics>,
    /// Why it cannot be kept.
    problem: watch::Sender<Option<String>>,
}

/// What one replica knows while it holds the Lease.
#[derive(Default)]
struct Memory {
    ready_since: Option<Instant>,
    unready_since: Option<Instant>,
    /// What was wanted when the configuration was right, and what it was then.
    right: Option<(Value, Value)>,
}

impl WebhookKeeper {
    pub(crate) fn new(
        cluster: Cluster,
        webhook: ManagedWebhook,
        bundle: BundleSource,
        metrics: Arc<Metrics>,
    ) -> WebhookKeeper {
        let problem = watch::Sender::new(None);
        WebhookKeeper {
            cluster,
            webhook,
            bundle,
            metrics,
            problem,
        }
    }

    /// Why the configuration cannot be kept.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Keeps it while this replica holds the Lease, for ever.
    pub(crate) async fn keep(
        self: Arc<WebhookKeeper>,
        lease: Arc<Lease>,
        is_ready: impl Fn() -> bool,
    ) -> Infallible {
        loop {
            lease.held().await;
            let changed = Notify::new();
            let metadata: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> =
                Api::all(self.cluster.client());
            let watch = (self.cluster).notify_changes(metadata, &self.webhook.name, &changed);
            tokio::select! {
                () = lease.lost() => {}
                never = watch => match never {},
                never = self.keep_current(&changed, &lease, &is_ready) => match never {},
            }
            self.problem.send_replace(None);
        }
    }

    async fn keep_current(
        &self,
        changed: &Notify,
        lease: &Lease,
        is_ready: &impl Fn() -> bool,
    ) -> Infallible {
        let mut memory = Memory::default();
        let mut bundle = match &self.bundle {
            BundleSource::SelfManaged(bundle) => Some(bundle.clone()),
            _ => None,
        };
        loop {
            let (is_ready, now) = (is_ready(), Instant::now());
            memory.ready_since = is_ready.then(|| memory.ready_since.unwrap_or(now));
            memory.unready_since = (!is_ready).then(|| memory.unready_since.unwrap_or(now));
            if (memory.unready_since).is_some_and(|since| now.duration_since(since) >= UNREADY.0) {
                tracing::warn!("this replica is not ready, and leaves the Lease to another one");
                lease.leave_for(UNREADY.1);
            }
            let looked = self.look(&mut memory).await;
            let is_right = matches!(looked, Ok(true));
            self.report(looked.err());
            let new_bundle = async {
                match &mut bundle {
                    Some(bundle) => bundle.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                true = new_bundle => {}
                () = sleep(if is_right { TICKS.0 } else { TICKS.1 }) => {}
            }
        }
    }

    /// Reads the configuration and puts it right. Whether it is, or there is none.
    async fn look(&self, memory: &mut Memory) -> Result<bool, String> {
        let Some(live) = read(&self.cluster, &self.webhook.name).await? else {
            memory.right = None;
            return Ok(true);
        };
        if live.metadata.deletion_timestamp.is_some() {
            return Ok(true);
        }
        let bundle = match &self.bundle {
            BundleSource::SelfManaged(bundle) => match bundle.borrow().clone() {
                Some(bundle) => Some(bundle.into_bytes()),
                None => return Ok(false),
            },
            BundleSource::File(file) => Some(authorities(file).map_err(|why| {
                let name = &self.webhook.name;
                format!(
                    "the webhook configuration `{name}` {}: {why}",
                    unkept(&live)
                )
            })?),
            BundleSource::Foreign => None,
        };
        let bundle = bundle.map(|bundle| STANDARD.encode(bundle));
        let entries = webhooks(&live);
        let is_settled = (memory.ready_since).is_some_and(|since| since.elapsed() >= READY_FOR);
        let wanted = match is_settled {
            true => {
                let known = memory.right.as_ref().map(|(_, entries)| entries);
                wanted(&self.webhook, [Some(&entries), known], bundle)?
            }
            // What is live goes on with certificates that are right; another version of it waits for a replica that is ready.
            false => with_bundle(entries.clone(), bundle.as_deref()),
        };
        let is_known = |right: &(Value, Value)| *right == (wanted.clone(), entries.clone());
        if wanted == entries || memory.right.as_ref().is_some_and(is_known) {
            memory.right = Some((wanted, entries));
            return Ok(is_settled);
        }
        let was_right = (memory.right.as_ref()).is_some_and(|(before, _)| *before == wanted);
        let Some(written) = self.write(&live, &wanted).await? else {
            return Ok(false);
        };
        let name = &self.webhook.name;
        let is_first = entries.as_array().is_none_or(Vec::is_empty);
        memory.right = Some((wanted.clone(), webhooks(&written)));
        if was_right {
            let what = difference(&entries, &wanted);
            self.metrics.alarms.raise(
                "webhook-configuration-changed",
                &format!(
                    "somebody changed the webhook configuration `{name}` ({what}); it is put right"
                ),
            );
            sleep(AFTER_REPAIR).await;
        } else if is_first {
            tracing::info!(name, "the webhook configuration is live: the gate is asked");
        } else {
            tracing::info!(name, "the webhook configuration is brought up to date");
        }
        Ok(is_settled)
    }

    /// Writes the entries, if the configuration is still as it was read. `None` if it is not.
    async fn write(
        &self,
        live: &DynamicObject,
        wanted: &Value,
    ) -> Result<Option<DynamicObject>, String> {
        // Not an apply: that would leave what others add to our entries, such as a condition that is never met.
        let patch = json!({
            "metadata": {"resourceVersion": live.metadata.resource_version},
            "webhooks": wanted,
        });
        let how = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = api(&self.cluster);
        let name = &self.webhook.name;
        let patch = Patch::Merge(patch);
        let why = match timeout(PATIENCE, api.patch(name, &how, &patch)).await {
            Ok(Ok(written)) => return Ok(Some(written)),
            Ok(Err(Error::Api(status))) if matches!(status.code, 404 | 409) => return Ok(None),
            Ok(Err(error)) => cause(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        Err(format!(
            "the webhook configuration `{name}` cannot be written: {why}"
        ))
    }

    fn report(&self, problem: Option<String>) {
        self.problem.send_if_modified(|known| {
            let is_new = *known != problem;
            if is_new && let Some(problem) = &problem {
                (self.metrics.alarms).raise("webhook-configuration-failed", problem);
            }
            *known = problem;
            is_new
        });
    }
}

/// The CAs (PEM) by which the API server verifies the gate: of every entry of a configuration; empty if it is not there.
pub(super) async fn bundles(cluster: &Cluster, name: &str) -> Result<Vec<Vec<u8>>, String> {
    let Some(live) = read(cluster, name).await? else {
        return Ok(Vec::new());
    };
    let entries = webhooks(&live);
    let entries = entries.as_array().into_iter().flatten();
    let bundle = |entry: &Value| {
        let text = entry.pointer("/clientConfig/caBundle");
        let bytes = STANDARD.decode(text.and_then(Value::as_str).unwrap_or_default());
        bytes.unwrap_or_default()
    };
    Ok(entries.map(bundle).collect())
}

async fn read(cluster: &Cluster, name: &str) -> Result<Option<DynamicObject>, String> {
    let found = in_time(api(cluster).get_opt(name)).await;
    found.map_err(|error| {
        format!(
            "the webhook configuration `{name}` cannot be read: {}",
            error.why
        )
    })
}

/// As values and not as types, so that no field is lost that a later API server knows.
fn api(cluster: &Cluster) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
    Api::all_with(cluster.client(), &resource)
}

/// What happens to a configuration while its CAs cannot be read.
fn unkept(live: &DynamicObject) -> &'static str {
    match webhooks(live).as_array().is_none_or(Vec::is_empty) {
        true => "stays empty, and the API server does not ask the gate",
        false => "stays as it is, and changes of it are not undone",
    }
}

fn webhooks(configuration: &DynamicObject) -> Value {
    let entries = configuration.data.get("webhooks");
    entries.cloned().unwrap_or_else(|| json!([]))
}

/// The entries as they should be. Where another program writes `caBundle`, it is taken from what is live, or from what was right before.
fn wanted(
    webhook: &ManagedWebhook,
    live_and_known: [Option<&Value>; 2],
    bundle: Option<String>,
) -> Result<Value, String> {
    let registration = Registration {
        endpoint: webhook.endpoint.clone(),
        ca_bundle: bundle,
        infrastructure: webhook.infrastructure.clone(),
        audited: webhook.audited.clone(),
    };
    let configuration = registration.configuration();
    let mut configuration = configuration.map_err(|error| error.to_string())?;
    let entries = configuration.get_mut("webhooks").map(Value::take);
    let mut wanted = entries.unwrap_or_default();
    for entry in wanted.as_array_mut().into_iter().flatten() {
        // The API server adds it where it is left out.
        entry["objectSelector"] = json!({});
        if registration.ca_bundle.is_some() {
            continue;
        }
        let all = live_and_known.into_iter().flatten();
        let all = all.flat_map(|entries| entries.as_array().into_iter().flatten());
        let same: Vec<_> = all.filter(|it| it["name"] == entry["name"]).collect();
        let mut bundles = (same.iter()).filter_map(|it| it.pointer("/clientConfig/caBundle"));
        match bundles.next() {
            Some(bundle) => set_bundle(entry, bundle),
            // Nobody can be verified before another program has written the CA. What denied before goes on to deny.
            None if same.iter().all(|it| it["failurePolicy"] != "Fail") => {
                entry["failurePolicy"] = json!("Ignore");
            }
            None => {}
        }
    }
    Ok(wanted)
}

/// The entries as they are, with other CAs.
fn with_bundle(mut entries: Value, bundle: Option<&str>) -> Value {
    for entry in entries.as_array_mut().into_iter().flatten() {
        if let Some(bundle) = bundle {
            set_bundle(entry, &json!(bundle));
        }
    }
    entries
}

fn set_bundle(entry: &mut Value, bundle: &Value) {
    let client = entry.get_mut("clientConfig").and_then(Value::as_object_mut);
    if let Some(client) = client {
        client.insert("caBundle".to_owned(), bundle.clone());
    }
}

/// Which fields of which entries are not as they should be.
fn difference(live: &Value, wanted: &Value) -> String {
    let named = |entries: &Value, name: &Value| {
        let mut entries = entries.as_array().into_iter().flatten();
        entries.find(|entry| entry["name"] == *name).cloned()
    };
    let mut differing = BTreeSet::new();
    for (these, others) in [(live, wanted), (wanted, live)] {
        for entry in these.as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap_or_default();
            match (entry, named(others, &entry["name"])) {
                (Value::Object(fields), Some(other)) => {
                    let fields = fields
                        .iter()
                        .filter(|(key, value)| other.get(*key) != Some(*value));
                    differing.extend(fields.map(|(key, _)| format!("{key} of {name}")));
                }
                _ => {
                    differing.insert(format!("the entry {name}"));
                }
            }
        }
    }
    let differing: Vec<_> = differing.into_iter().take(8).collect();
    differing.join(", ")
}

fn authorities(file: &Path) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let read = read_regular_file(file, MAXIMUM_BUNDLE);
    let read = read.map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    match certificates(&read) {
        Some(found) if !found.is_empty() => Ok(read),
        _ => Err(format!("`{shown}` holds no readable certificates")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook() -> ManagedWebhook {
        ManagedWebhook {
            name: "promotion-gate".to_owned(),
            endpoint: Endpoint::Url("https://gate.example/validate".to_owned()),
            infrastructure: ["kube-system".to_owned()].into(),
            audited: Audited::default(),
            authorities: None,
        }
    }

    fn wanted_of(live: &Value, bundle: Option<&str>) -> Value {
        wanted(&webhook(), [Some(live), None], bundle.map(str::to_owned)).unwrap()
    }

    fn policies(entries: &Value) -> Vec<&str> {
        let entries = entries.as_array().unwrap().iter();
        entries
            .map(|entry| entry["failurePolicy"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn the_entries_are_those_that_the_command_prints() {
        let registration = Registration {
            endpoint: webhook().endpoint,
            ca_bundle: Some("Q0E=".to_owned()),
            infrastructure: webhook().infrastructure,
            audited: Audited::default(),
        };
        let mut printed = registration.configuration().unwrap()["webhooks"].take();
        for entry in printed.as_array_mut().unwrap() {
            entry["objectSelector"] = json!({});
        }
        assert_eq!(wanted_of(&json!([]), Some("Q0E=")), printed);
    }

    #[test]
    fn the_ca_that_cert_manager_writes_is_left_alone_and_nothing_is_denied_before_it_is_there() {
        let first = wanted_of(&json!([]), None);
        assert_eq!(policies(&first), ["Ignore", "Ignore"]);
        assert_eq!(wanted_of(&first, None), first);
        let injected = with_bundle(first, Some("Q0E="));
        let live = wanted_of(&injected, None);
        assert_eq!(policies(&live), ["Fail", "Ignore"]);
        assert_eq!(live[0]["clientConfig"]["caBundle"], "Q0E=");
        assert_eq!(wanted_of(&live, None), live);
    }

    #[test]
    fn the_end_of_audit_only_makes_a_missing_answer_deny_and_keeps_the_ca_of_cert_manager() {
        let audited = Audited {
            everywhere: true,
            ..Audited::default()
        };
        let webhook = ManagedWebhook {
            audited,
            ..webhook()
        };
        let first = wanted(&webhook, [None, None], None).unwrap();
        let injected = with_bundle(first, Some("Q0E="));
        let live = wanted(&webhook, [Some(&injected), None], None).unwrap();
        assert_eq!(policies(&live), ["Ignore", "Ignore"]);
        let enforced = wanted_of(&live, None);
        assert_eq!(policies(&enforced), ["Fail", "Ignore"]);
        assert_eq!(enforced[0]["clientConfig"]["caBundle"], "Q0E=");
    }

    #[test]
    fn an_entry_whose_ca_is_taken_away_goes_on_to_deny() {
        let mut live = wanted_of(&json!([]), Some("Q0E="));
        let client = live[0]["clientConfig"].as_object_mut().unwrap();
        client.remove("caBundle");
        assert_eq!(policies(&wanted_of(&live, None)), ["Fail", "Ignore"]);
    }

    #[test]
    fn attack_an_entry_without_its_ca_that_admits_where_no_answer_comes_passes_for_a_first_one() {
        let right = wanted_of(&json!([]), Some("Q0E="));
        let first = wanted_of(&json!([]), None);
        let put_right = wanted(&webhook(), [Some(&first), Some(&right)], None).unwrap();
        assert_eq!(put_right, right);
        let nothing = json!([]);
        let put_right = wanted(&webhook(), [Some(&nothing), Some(&right)], None).unwrap();
        assert_eq!(put_right, right);
    }

    #[test]
    fn a_difference_is_told_by_field_and_entry() {
        let wanted = wanted_of(&json!([]), Some("Q0E="));
        let mut live = wanted.clone();
        live[0]["failurePolicy"] = json!("Ignore");
        let condition = json!({"name": "never", "expression": "false"});
        let conditions = live[1]["matchConditions"].as_array_mut().unwrap();
        conditions.push(condition);
        live.as_array_mut()
            .unwrap()
            .push(json!({"name": "other.example"}));
        assert_eq!(
            difference(&live, &wanted),
            "failurePolicy of validate.promotion-gate.dev, matchConditions of infrastructure.promotion-gate.dev, the entry other.example"
        );
    }
}
