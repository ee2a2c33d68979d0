//! The records of the cluster → memory. A lost watch keeps what is known.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::{Instant, sleep};

use super::entry::{KeptRecord, read_record};
use super::identity::said;
use super::key::Refused;
use super::memory::RecordName;
use super::{Lost, Problem, ReleaseRecords};

/// How long a failed list of namespaces waits.
const RETRY: Duration = Duration::from_secs(2);
/// How many namespaces are listed at once.
const PAGE: u32 = 500;
/// How many records, of up to 100 entries each, are listed at once.
pub(super) const PAGE_OF_RECORDS: u32 = 50;
/// After how many seconds a watch begins again: sooner than a silent connection is given up.
const WATCHED: u32 = 60;

impl ReleaseRecords {
    /// Keeps memory as the cluster is. Once other public keys are known, every record is read again.
    pub(super) async fn watch(self: Arc<ReleaseRecords>) {
        self.keys_changed.notified().await;
        loop {
            if let Err(why) = self.list_namespaces().await {
                tracing::warn!(why, "the namespaces cannot be listed for release records");
                sleep(RETRY).await;
                continue;
            }
            let watched = watcher::Config::default().page_size(PAGE_OF_RECORDS);
            let events = watcher(self.everywhere(), watched.timeout(WATCHED));
            let mut events = pin!(events.default_backoff());
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = self.keys_changed.notified() => break,
                };
                match event {
                    Some(Ok(event)) => {
                        self.lost.store(None);
                        self.take_in_event(event).await;
                    }
                    Some(Err(error)) => {
                        let error = error.to_string();
                        tracing::warn!(
                            error,
                            "the watch of release records broke; what is known stays"
                        );
                        if self.lost.load().is_none() {
                            let (since, why) = (Instant::now(), format!("{error:.300}"));
                            self.lost.store(Some(Arc::new(Lost { since, why })));
                        }
                        if !self.listed.load(Ordering::Relaxed) {
                            let why = format!(
                                "they cannot be listed: {error:.300}; if the kind is not known, run `kubectl apply --server-side -f deploy/crds`"
                            );
                            let needs_webhook = false;
                            let problem = Problem { why, needs_webhook };
                            self.problem.store(Some(Arc::new(problem)));
                        }
                    }
                    None => break,
                }
            }
        }
    }

    async fn take_in_event(&self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.memory_mut().begin_listing(),
            Event::InitApply(object) | Event::Apply(object) => self.take_in(&object, false).await,
            Event::InitDone => {
                let gone = self.memory_mut().end_listing();
                self.listed.store(true, Ordering::Relaxed);
                for (name, record) in gone {
                    self.deleted(name, record);
                }
            }
            Event::Delete(object) => {
                if let Some(name) = name_of(&object) {
                    let version = object.metadata.resource_version.unwrap_or_default();
                    let removed = self.memory_mut().remove_deleted(&name, &version);
                    if let Some(record) = removed {
                        self.deleted(name, record);
                    }
                }
            }
        }
        let records = i64::try_from(self.memory().len()).unwrap_or(i64::MAX);
        self.metrics.records.set(records);
    }

    /// Takes over a state of a record, as a watch or the answer to a write shows it (`own`).
    pub(super) async fn take_in(&self, object: &DynamicObject, own: bool) {
        let Some(name) = name_of(object) else {
            return;
        };
        // A record that is new may be of a namespace that was made again under its name.
        let is_known = {
            let memory = self.memory();
            let uid = object.metadata.uid.as_deref();
            memory
                .get(&name)
                .is_some_and(|known| Some(&*known.uid) == uid)
        };
        let live = !own && !is_known && self.listed.load(Ordering::Relaxed);
        let Some(read) = self.read(object, &name, live).await else {
            let record = &name.name;
            tracing::error!(
                namespace = name.namespace,
                record,
                "a release record is not one of ours, and does not count"
            );
            self.metrics.refuse_entry("not-a-record");
            return;
        };
        let (record, refused) = read;
        for (_, why) in &refused {
            self.metrics.refuse_entry(why);
        }
        if refused
            .iter()
            .any(|(_, why)| *why == Refused::UnknownKey.id())
        {
            self.unknown_key.notify_one();
        }
        if let Some((key, why)) = refused.first() {
            let (namespace, count) = (&name.namespace, refused.len());
            tracing::error!(
                namespace,
                record = name.name,
                key,
                why,
                count,
                "entries of a release record do not count"
            );
        }
        self.memory_mut().apply(name, record);
    }

    async fn read(
        &self,
        object: &DynamicObject,
        name: &RecordName,
        live: bool,
    ) -> Option<(KeptRecord, Vec<(String, &'static str)>)> {
        let identity = self.identity.load_full()?;
        let uid = self.namespace_uid(&name.namespace, live).await;
        let uid = uid.ok().flatten().unwrap_or_default();
        let memory = self.memory();
        let known = memory.get(name);
        read_record(object, &identity.public, &identity.cluster, &uid, known)
    }

    /// The UID of a namespace: as last read, or read now. `None` if there is no such namespace.
    pub(super) async fn namespace_uid(
        &self,
        name: &str,
        live: bool,
    ) -> Result<Option<String>, String> {
        let known = self.uids().get(name).cloned();
        if let (Some(known), false) = (known, live) {
            return Ok(Some(known));
        }
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        let read = namespaces.get_metadata_opt(name).await.map_err(said)?;
        let Some(uid) = read.map(|read| read.metadata.uid.unwrap_or_default()) else {
            self.uids().remove(name);
            return Ok(None);
        };
        self.uids().insert(name.to_owned(), uid.clone());
        Ok(Some(uid))
    }

    async fn list_namespaces(&self) -> Result<(), String> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = namespaces.list_metadata(&page).await.map_err(said)?;
            for namespace in listed.items {
                let metadata = namespace.metadata;
                if let (Some(name), Some(uid)) = (metadata.name, metadata.uid) {
                    self.uids().insert(name, uid);
                }
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

pub(super) fn name_of(object: &DynamicObject) -> Option<RecordName> {
    Some(RecordName {
        namespace: object.metadata.namespace.clone()?,
        name: object.metadata.name.clone()?,
    })
}
