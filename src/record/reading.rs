//! Records for people: read once from a cluster, each entry with whether it counts; what runs without a record; and the request of a
//! governor to adopt it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use promotion_gate_core::gate::Workload;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::entry::{KeptRecord, read_record};
use super::identity::{Adoption, CONFIGURATION, GateState, configurations, listed_keys, said};
use super::key::PublicKeys;
use super::live::{live_objects, unrecorded};
use super::memory::Memory;
use super::names::RecordSubject;
use super::resource;
use super::watching::name_of;
use crate::api::WrittenEntry;
use crate::cluster::Cluster;

/// How many records are listed at once.
const PAGE: u32 = 250;

/// A record as it stands in the cluster.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The digest or reference that it is about.
    pub image: String,
    /// When it last let something pass.
    pub last_used: Option<Timestamp>,
    /// The entries that count, by key.
    pub entries: BTreeMap<String, WrittenEntry>,
    /// The keys of entries that do not count, and why.
    pub refused: BTreeMap<String, &'static str>,
}

/// An image that runs without a record, and the object that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// The object.
    pub workload: Workload,
    /// The digest or reference.
    pub image: String,
}

/// Reads the records of a namespace, or of all.
///
/// # Errors
/// What could not be read.
pub async fn read_records(
    cluster: &Cluster,
    namespace: Option<&str>,
) -> anyhow::Result<Vec<ReadRecord>> {
    let reader = Reader::new(cluster).await?;
    let mut records = Vec::new();
    for object in reader.list(namespace).await? {
        records.extend(reader.read(&object));
    }
    records.sort_by(|a, b| (&a.namespace, &a.image).cmp(&(&b.namespace, &b.image)));
    Ok(records)
}

/// What runs without a record that counts.
///
/// # Errors
/// What could not be read.
pub async fn read_unrecorded(
    cluster: &Cluster,
    namespace: Option<&str>,
    gate: &str,
) -> anyhow::Result<Vec<Unrecorded>> {
    let reader = Reader::new(cluster).await?;
    let mut memory = Memory::default();
    for object in reader.list(None).await? {
        let (Some(name), Some((record, _))) = (name_of(&object), reader.kept(&object)) else {
            continue;
        };
        memory.apply(name, record);
    }
    let objects = live_objects(cluster).await.map_err(anyhow::Error::msg)?;
    let missing = unrecorded(&objects, &memory, gate);
    let mut found: Vec<_> = missing
        .into_values()
        .filter(|(_, object)| {
            namespace.is_none() || object.workload.namespace.as_deref() == namespace
        })
        .map(|(subject, object)| Unrecorded {
            workload: object.workload.clone(),
            image: shown(subject),
        })
        .collect();
    found.sort_by(|a, b| (&a.workload, &a.image).cmp(&(&b.workload, &b.image)));
    Ok(found)
}

/// Asks the gate to record what runs now in these namespaces (`*` for all) as baseline, in the configuration resource, which only
/// governors may change. Gives what was asked.
///
/// # Errors
/// Why the configuration cannot be changed.
pub async fn ask_to_adopt(
    cluster: &Cluster,
    namespaces: &[String],
    now: Timestamp,
) -> anyhow::Result<AskedAdoption> {
    let api = configurations(cluster.client());
    for _ in 0..4 {
        let found = api.get_opt(CONFIGURATION).await.map_err(said);
        let Some(found) = found.map_err(anyhow::Error::msg)? else {
            bail!(
                "there is no GateConfiguration `{CONFIGURATION}`; the gate makes it when it starts"
            );
        };
        let asked = found.data.pointer("/spec/adopt").and_then(Value::as_array);
        let mut asked = asked.cloned().unwrap_or_default();
        asked.push(json!({"namespaces": namespaces, "createdBefore": now}));
        // The gate has seen the older ones.
        let asked = asked.split_off(asked.len().saturating_sub(MAXIMUM_ASKED));
        let patch = json!({
            "metadata": {"resourceVersion": found.resource_version()},
            "spec": {"adopt": asked},
        });
        let patch = Patch::Merge(patch);
        match api
            .patch(CONFIGURATION, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {
                let asked = Adoption {
                    namespaces: namespaces.to_vec(),
                    created_before: now,
                };
                return Ok(AskedAdoption { id: asked.id() });
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let why = said(error);
                return Err(anyhow!(
                    "the GateConfiguration `{CONFIGURATION}` cannot be changed: {why}"
                ));
            }
        }
    }
    bail!("the GateConfiguration `{CONFIGURATION}` changes too often; try again")
}

/// Waits until the gate has done what was asked. Says whether it has.
///
/// # Errors
/// The configuration cannot be read, or the request was removed from it.
pub async fn adopted(
    cluster: &Cluster,
    asked: &AskedAdoption,
    within: Duration,
) -> anyhow::Result<bool> {
    let api = configurations(cluster.client());
    let deadline = Instant::now() + within;
    loop {
        let found = api.get_opt(CONFIGURATION).await.map_err(said);
        let found = found.map_err(anyhow::Error::msg)?;
        let state = found.as_ref().map(GateState::of).unwrap_or_default();
        if state.adopted.contains(&asked.id) {
            return Ok(true);
        }
        if !state.adoptions.iter().any(|held| held.id() == asked.id) {
            bail!(
                "somebody replaced `spec.adopt` of the GateConfiguration `{CONFIGURATION}` before the gate had read it; ask again"
            );
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(BETWEEN_READS).await;
    }
}

/// What the gate was asked to adopt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedAdoption {
    id: String,
}

/// How often it is looked whether an adoption is done.
const BETWEEN_READS: Duration = Duration::from_secs(1);
/// The most adoptions that the configuration keeps.
const MAXIMUM_ASKED: usize = 50;

/// What records are verified with.
struct Reader<'a> {
    cluster: &'a Cluster,
    uid: String,
    keys: PublicKeys,
    namespaces: BTreeMap<String, String>,
}

impl Reader<'_> {
    async fn new(cluster: &Cluster) -> anyhow::Result<Reader<'_>> {
        let configuration = configurations(cluster.client())
            .get_opt(CONFIGURATION)
            .await;
        let configuration = configuration.map_err(|error| {
            anyhow!(
                "the public keys of release records cannot be read: {}",
                said(error)
            )
        })?;
        let keys = configuration.as_ref().map(listed_keys).unwrap_or_default();
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        let mut page = ListParams::default().limit(PAGE);
        let mut uids = BTreeMap::new();
        loop {
            let listed = namespaces.list_metadata(&page).await;
            let listed = listed.context("the namespaces cannot be listed")?;
            for item in listed.items {
                if let (Some(name), Some(uid)) = (item.metadata.name, item.metadata.uid) {
                    uids.insert(name, uid);
                }
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        Ok(Reader {
            cluster,
            uid: uids.get("kube-system").cloned().unwrap_or_default(),
            keys,
            namespaces: uids,
        })
    }

    async fn list(&self, namespace: Option<&str>) -> anyhow::Result<Vec<DynamicObject>> {
        let client = self.cluster.client();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource()),
            None => Api::all_with(client, &resource()),
        };
        let mut page = ListParams::default().limit(PAGE);
        let mut objects = Vec::new();
        loop {
            let listed = api.list(&page).await;
            let listed = listed.context("the release records cannot be listed")?;
            objects.extend(listed.items);
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    /// The entries that count, and those that do not.
    fn kept(&self, object: &DynamicObject) -> Option<(KeptRecord, Vec<(String, &'static str)>)> {
        let namespace = object.metadata.namespace.as_deref()?;
        let uid = self.namespaces.get(namespace)?;
        read_record(object, &self.keys, &self.uid, uid, None)
    }

    fn read(&self, object: &DynamicObject) -> Option<ReadRecord> {
        let name = name_of(object)?;
        let Some((record, refused)) = self.kept(object) else {
            return Some(ReadRecord {
                namespace: name.namespace,
                image: "(not a record of the gate)".to_owned(),
                last_used: None,
                entries: BTreeMap::new(),
                refused: [(name.name.clone(), "not-a-record")].into(),
                name: name.name,
            });
        };
        let entries = record.entries.iter();
        Some(ReadRecord {
            namespace: name.namespace,
            name: name.name,
            image: shown(&record.subject),
            last_used: record.last_used,
            entries: entries
                .filter_map(|(key, kept)| Some((key.clone(), kept.parsed()?)))
                .collect(),
            refused: refused.into_iter().collect(),
        })
    }
}

pub(super) fn shown(subject: &RecordSubject) -> String {
    match subject {
        RecordSubject::Digest(digest) => digest.to_string(),
        RecordSubject::Reference(reference) => reference.clone(),
    }
}
