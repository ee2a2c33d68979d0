//! Entries that no known key verifies: what lost keys signed, or what was copied from another cluster. They never count, and go once a
//! governor adopts what runs.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::ReleaseRecords;
use super::duties::ATTEMPT;
use super::entry::read_record;
use super::identity::{Adoption, CONFIGURATION, configurations, listed_keys, said};
use super::key::{PublicKeys, Refused};
use super::live::matches_namespace;
use super::memory::RecordName;
use super::watching::{PAGE_OF_RECORDS, name_of};

impl ReleaseRecords {
    /// Removes the entries that no known key verifies from the records of the namespaces that a governor adopted.
    ///
    /// # Errors
    /// Why entries are left. It is tried again.
    pub(super) async fn remove_unverified(&self, adoptions: &[Adoption]) -> Result<(), String> {
        if adoptions.is_empty() {
            return Ok(());
        }
        let late = |_| "the API server did not answer in time".to_owned();
        let records = self.everywhere();
        let mut page = ListParams::default().limit(PAGE_OF_RECORDS);
        let mut left = Ok(());
        loop {
            let listed = timeout(ATTEMPT, records.list(&page)).await;
            let listed = listed.map_err(late)?.map_err(said)?;
            // A replica lists a new key before it signs with it. The keys are read after the records, so that each entry of theirs is
            // compared with the key that it was signed with.
            let keys = timeout(ATTEMPT, self.known_keys()).await.map_err(late)??;
            for object in listed.items {
                let removed = self.remove_unverified_of(&object, &keys, adoptions).await;
                left = left.and(removed);
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return left,
            }
        }
    }

    /// The public keys that this replica knows, and those that the configuration lists now.
    async fn known_keys(&self) -> Result<PublicKeys, String> {
        let configurations = configurations(self.cluster.client());
        let configuration = configurations.get(CONFIGURATION).await;
        let mut keys = listed_keys(&configuration.map_err(said)?);
        if let Some(identity) = self.identity.load_full() {
            keys.0.extend(identity.public.0.clone());
        }
        Ok(keys)
    }

    async fn remove_unverified_of(
        &self,
        object: &DynamicObject,
        keys: &PublicKeys,
        adoptions: &[Adoption],
    ) -> Result<(), String> {
        let mut adoptions = adoptions.iter();
        let Some(name) =
            name_of(object).filter(|name| adoptions.any(|it| it.is_of(Some(&name.namespace))))
        else {
            return Ok(());
        };
        let mut unverified = self.unverified(object, &name, keys, false).await?;
        if !unverified.is_empty() {
            // The namespace may have been made again.
            unverified = self.unverified(object, &name, keys, true).await?;
        }
        let version = object.metadata.resource_version.as_deref();
        if unverified.is_empty() {
            return Ok(());
        }
        let entries = unverified.len();
        let nothing: BTreeMap<_, _> = unverified
            .into_iter()
            .map(|key| (key, Value::Null))
            .collect();
        let removed = json!({"entries": nothing});
        let merged = self.merge_unchanged(&name, version.unwrap_or_default(), removed);
        let merged = timeout(ATTEMPT, merged).await;
        merged.map_err(|_| "the API server did not answer in time".to_owned())??;
        let RecordName { namespace, name } = &name;
        tracing::warn!(
            namespace,
            record = name,
            entries,
            "entries that no known key verifies are removed, since a governor adopted what runs"
        );
        Ok(())
    }

    /// The keys of the entries of a record that were not signed for it by a known key.
    async fn unverified(
        &self,
        object: &DynamicObject,
        name: &RecordName,
        keys: &PublicKeys,
        live: bool,
    ) -> Result<Vec<String>, String> {
        let uid = self.namespace_uid(&name.namespace, live).await?;
        let (Some(uid), Some(identity)) = (uid, self.identity.load_full()) else {
            return Ok(Vec::new());
        };
        let Some((_, refused)) = read_record(object, keys, &identity.cluster, &uid, None) else {
            return Ok(Vec::new());
        };
        let unverified = refused
            .into_iter()
            .filter(|(_, why)| Refused::ALL.iter().any(|refused| refused.id() == *why));
        Ok(unverified.map(|(key, _)| key).collect())
    }
}

impl Adoption {
    /// Whether what is in this namespace is adopted.
    pub(super) fn is_of(&self, namespace: Option<&str>) -> bool {
        matches_namespace(&self.namespaces, namespace)
    }
}
