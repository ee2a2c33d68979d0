//! Who signs: the cluster's UID, the signing key in a Secret of the gate's namespace, and all public keys in the status of the
//! configuration resource. Every replica may make the Secret; the API server lets one of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Error, ResourceExt as _};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::duties::EVERYWHERE;
use super::key::{PublicKeys, SigningKey};
use super::{Problem, ReleaseRecords};
use crate::api::{API_VERSION, GROUP};

/// The Secret with the signing key.
const SECRET: &str = "promotion-gate-record-key";
/// The field of the Secret with the key: PKCS #8, DER.
const SECRET_FIELD: &str = "ed25519.pkcs8";
/// The name of the configuration resource.
pub(super) const CONFIGURATION: &str = "promotion-gate";
/// How often the Secret and the status are read, until records can be signed and a baseline was taken, and after that.
const AT_FIRST: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(30);
/// The pause before they are read because an entry names a key that is not known.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How far the clocks of replicas may be apart, in seconds.
const CLOCKS: i64 = 60;
/// How long an adoption of everything lets a new key be made, in seconds.
const CONSENT: i64 = 3600;

/// What entries are signed with and checked by.
pub(super) struct Identity {
    /// The UID of the namespace `kube-system`.
    pub(super) cluster: String,
    pub(super) key: SigningKey,
    pub(super) public: PublicKeys,
}

/// What the configuration resource says about records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GateState {
    /// When what ran before the gate came was recorded.
    pub(super) baseline: Option<Timestamp>,
    /// When a replica was first asked to admit something: from then on, the webhook answers.
    pub(super) asked: Option<Timestamp>,
    /// What governors asked to adopt.
    pub(super) adoptions: Vec<Adoption>,
    /// Which of it was adopted.
    pub(super) adopted: BTreeSet<String>,
}

/// What a governor asked to adopt as baseline: what was created before a time in these namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Adoption {
    /// Names; `*` for every namespace.
    pub(super) namespaces: Vec<String>,
    pub(super) created_before: Timestamp,
}

/// What the status said, and does not say any more.
struct LostState {
    /// Whether this replica read it before. Otherwise it is known from the records that there was a status.
    is_remembered: bool,
    baseline: Timestamp,
    asked: Timestamp,
}

impl GateState {
    pub(super) fn of(configuration: &DynamicObject) -> GateState {
        let data = &configuration.data;
        let time = |value: &Value| value.as_str()?.parse().ok();
        let baseline = data.pointer("/status/recordBaseline/at").and_then(time);
        let asked = data.pointer("/status/recordBaseline/asked").and_then(time);
        let adopted = data.pointer("/status/adopted").and_then(Value::as_array);
        let adopted = adopted.into_iter().flatten().filter_map(Value::as_str);
        let adoptions = data.pointer("/spec/adopt").and_then(Value::as_array);
        let adoption = |value: &Value| {
            let namespaces = value.get("namespaces")?.as_array()?.iter();
            Some(Adoption {
                namespaces: namespaces
                    .filter_map(|name| name.as_str().map(str::to_owned))
                    .collect(),
                created_before: value.get("createdBefore").and_then(time)?,
            })
        };
        GateState {
            baseline,
            asked,
            adopted: adopted.map(str::to_owned).collect(),
            adoptions: adoptions
                .into_iter()
                .flatten()
                .filter_map(adoption)
                .collect(),
        }
    }

    /// What governors asked to adopt and was not adopted yet.
    pub(super) fn waiting(&self) -> Vec<Adoption> {
        let waiting = self.adoptions.iter();
        let waiting = waiting.filter(|adoption| !self.adopted.contains(&adoption.id()));
        waiting.cloned().collect()
    }

    /// Whether a governor has just adopted whatever runs, so that records under lost keys are not missed.
    fn gives_up_old_records(&self, now: Timestamp) -> bool {
        self.of_everything().any(|at| {
            let age = now.as_second() - at.as_second();
            (0..CONSENT).contains(&age)
        })
    }

    /// The times of adoptions of everything.
    fn of_everything(&self) -> impl Iterator<Item = Timestamp> {
        let all = self.adoptions.iter();
        let all = all.filter(|it| it.namespaces.iter().any(|name| name == "*"));
        all.map(|it| it.created_before)
    }

    /// Why the last adoption of everything lets no new key be made, as the end of a sentence; empty if there is none. The clock is
    /// shown by the minute, so that the sentence does not change all the time.
    fn why_not_given_up(&self, now: Timestamp) -> String {
        let minutes = CONSENT / 60;
        let now = now.as_second() / 60 * 60;
        let now = Timestamp::from_second(now).unwrap_or_default();
        self.of_everything().max().map_or_else(String::new, |at| {
            format!("; the last one is of {at:.0}, and only one of the last {minutes} minutes counts: it is {now:.0} here")
        })
    }
}

impl Adoption {
    /// Tells it from others.
    pub(super) fn id(&self) -> String {
        let text = json!([self.namespaces, self.created_before]).to_string();
        Digest::sha256(text.as_bytes()).to_string()
    }
}

pub(super) fn configurations(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", "GateConfiguration");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gateconfigurations");
    Api::all_with(client, &resource)
}

impl From<String> for Problem {
    fn from(why: String) -> Problem {
        Problem {
            why,
            needs_webhook: false,
        }
    }
}

impl ReleaseRecords {
    /// Keeps the key, the public keys and the state of the configuration current.
    pub(super) async fn keep_identity(self: Arc<ReleaseRecords>) {
        loop {
            match self.read_identity().await {
                Ok(()) => self.problem.store(None),
                Err(problem) => {
                    let why = format!("the keys cannot be read or published: {}", problem.why);
                    let problem = Problem { why, ..problem };
                    let known = self.problem.load_full();
                    if known.is_none_or(|known| *known != problem) {
                        let why = &problem.why;
                        tracing::error!(why, "release records cannot be signed or verified");
                    }
                    self.problem.store(Some(Arc::new(problem)));
                }
            }
            let is_settled = self.identity.load().is_some() && self.gate.load().baseline.is_some();
            let pause = sleep(if is_settled { LATER } else { AT_FIRST });
            tokio::select! {
                () = pause => {}
                () = self.unknown_key.notified() => sleep(AT_ONCE).await,
            }
        }
    }

    async fn read_identity(&self) -> Result<(), Problem> {
        let client = self.cluster.client();
        let known = self.identity.load_full();
        let cluster = match &known {
            Some(known) => known.cluster.clone(),
            None => {
                let namespaces: Api<Namespace> = Api::all(client.clone());
                let read = namespaces.get_metadata("kube-system").await.map_err(said)?;
                read.metadata.uid.unwrap_or_default()
            }
        };
        let configuration = configuration(&configurations(client.clone())).await?;
        let state = GateState::of(&configuration);
        let listed = listed_keys(&configuration);
        let secrets: Api<Secret> = Api::namespaced(client.clone(), self.cluster.namespace());
        let in_secret = secrets.get_opt(SECRET).await.map_err(said)?;
        let key = match in_secret {
            Some(secret) => key_of(&secret)?,
            None => {
                let had_keys = !listed.0.is_empty() || known.is_some();
                if !had_keys && self.records_exist().await? {
                    if !state.gives_up_old_records(Timestamp::now()) {
                        return Err(Problem {
                            why: format!(
                                "the Secret `{SECRET}` is lost, and with it the public keys in the status of the GateConfiguration `{CONFIGURATION}`, so that no record can be verified; restore one of them, or let a governor adopt whatever runs now: `promotion-gate record adopt --all-namespaces`{}",
                                state.why_not_given_up(Timestamp::now())
                            ),
                            needs_webhook: true,
                        });
                    }
                    self.metrics.alarms.raise(
                        "record-keys-given-up",
                        "the keys of all release records are lost, and a governor adopted whatever runs: a new key is made"
                    );
                } else if had_keys {
                    self.metrics.alarms.raise(
                        "record-key-lost",
                        &format!("the key of release records is lost (Secret `{SECRET}`): a new one is made, and what the old one signed goes on counting"),
                    );
                }
                make_key(&secrets).await?
            }
        };
        let mut public = listed.clone();
        if let Some(known) = &known {
            public.0.extend(known.public.0.clone());
        }
        public.0.extend(key.public().0);
        let lost = self.lost_state(&state, &listed).await?;
        let state = match public != listed || lost.is_some() {
            true => self.write_status(&public, lost.as_ref()).await?,
            false => state,
        };
        let is_new = known.is_none_or(|known| known.public != public);
        let asked_in_future = state.asked.is_some_and(is_in_the_future);
        let was_asked = state.asked.is_some();
        self.gate.store(Arc::new(state));
        let identity = Identity {
            cluster,
            key,
            public,
        };
        self.identity.store(Some(Arc::new(identity)));
        if is_new {
            self.keys_changed.notify_one();
        }
        if asked_in_future {
            // By a clock that was wrong. Otherwise everything would be adopted once more when that time comes.
            tracing::warn!("`status.recordBaseline.asked` is in the future; it is corrected");
            self.note_asked(long_ago()).await?;
        } else if self.asked.load(Ordering::Relaxed) && !was_asked {
            // The replica with the duties learns that the webhook answers.
            self.note_asked(Timestamp::now()).await?;
        }
        Ok(())
    }

    /// What the status said of the first baseline, if that is lost: the configuration was deleted and made again, or its status
    /// overwritten. Otherwise whatever runs would be adopted a second time.
    async fn lost_state(
        &self,
        state: &GateState,
        listed: &PublicKeys,
    ) -> Result<Option<LostState>, String> {
        let known = self.gate.load_full();
        if state.baseline.is_some() {
            return Ok(None);
        }
        let is_lost =
            known.baseline.is_some() || listed.0.is_empty() && self.records_exist().await?;
        Ok(is_lost.then(|| LostState {
            is_remembered: known.baseline.is_some(),
            baseline: known.baseline.unwrap_or_else(Timestamp::now),
            asked: known.asked.unwrap_or_else(long_ago),
        }))
    }

    /// Adds the public keys to the status, and the state that was lost. Gives the state of the configuration then.
    async fn write_status(
        &self,
        public: &PublicKeys,
        lost: Option<&LostState>,
    ) -> Result<GateState, String> {
        let api = configurations(self.cluster.client());
        let (configuration, was_lost) = list_keys(&api, public, lost).await?;
        if was_lost {
            self.metrics.alarms.raise(
                "record-state-lost",
                &format!("the status of the GateConfiguration `{CONFIGURATION}` was lost; what runs is not adopted a second time: what has no release record is listed by `promotion-gate record list --unrecorded`"),
            );
        }
        Ok(GateState::of(&configuration))
    }

    async fn note_asked(&self, at: Timestamp) -> Result<(), String> {
        let asked = json!({"status": {"recordBaseline": {"asked": at}}});
        let asked = Patch::Merge(asked);
        let api = configurations(self.cluster.client());
        let params = PatchParams::default();
        let patched = api.patch_status(CONFIGURATION, &params, &asked).await;
        let patched = patched.map_err(said)?;
        match GateState::of(&patched).asked {
            Some(_) => Ok(()),
            None => Err(dropped("recordBaseline")),
        }
    }

    /// Takes over what a new state of the configuration resource says.
    pub(super) fn take_in_state(&self, configuration: &DynamicObject) {
        self.gate.store(Arc::new(GateState::of(configuration)));
    }

    async fn records_exist(&self) -> Result<bool, String> {
        let one = ListParams::default().limit(1);
        let listed = self.everywhere().list_metadata(&one).await;
        let listed = listed.map_err(|error| with_remedy("ReleaseRecord", error))?;
        Ok(!listed.items.is_empty())
    }
}

/// The configuration resource, which is made where there is none.
async fn configuration(api: &Api<DynamicObject>) -> Result<DynamicObject, Problem> {
    let found = api.get_opt(CONFIGURATION).await;
    if let Some(found) = found.map_err(said)? {
        return Ok(found);
    }
    let empty = json!({
        "apiVersion": API_VERSION,
        "kind": "GateConfiguration",
        "metadata": {"name": CONFIGURATION},
        "spec": {},
    });
    let empty = serde_json::from_value(empty).map_err(|error| error.to_string())?;
    match api.create(&PostParams::default(), &empty).await {
        Err(Error::Api(status)) if status.code == 409 => {
            Ok(api.get(CONFIGURATION).await.map_err(said)?)
        }
        // A registered webhook is asked whether it may be made, which some replica has to answer.
        made => made.map_err(|error| {
            let needs_webhook = matches!(&error, Error::Api(status) if status.code == 500);
            let why = with_remedy("GateConfiguration", error);
            let why = format!("the GateConfiguration `{CONFIGURATION}` cannot be made: {why}");
            Problem { why, needs_webhook }
        }),
    }
}

pub(super) fn listed_keys(configuration: &DynamicObject) -> PublicKeys {
    let listed = configuration.data.pointer("/status/recordKeys");
    listed.map(PublicKeys::of_status).unwrap_or_default()
}

/// Adds keys to those that the status lists, and the time of the baseline if it is not there. No key is ever taken out here. Gives the
/// configuration, and whether the baseline was added.
async fn list_keys(
    api: &Api<DynamicObject>,
    public: &PublicKeys,
    lost: Option<&LostState>,
) -> Result<(DynamicObject, bool), String> {
    for _ in 0..8 {
        let configuration = api.get(CONFIGURATION).await.map_err(said)?;
        let mut all = listed_keys(&configuration);
        all.0.extend(public.0.clone());
        // Where no replica remembers it, another one may have begun just now.
        let is_lost = |lost: &&LostState| {
            let state = GateState::of(&configuration);
            state.baseline.is_none()
                && (lost.is_remembered || listed_keys(&configuration).0.is_empty())
        };
        let lost = lost.filter(is_lost);
        let mut status = json!({"recordKeys": all.to_status()});
        if let (Some(lost), Some(status)) = (lost, status.as_object_mut()) {
            let baseline = json!({"at": lost.baseline, "asked": lost.asked});
            status.insert("recordBaseline".to_owned(), baseline);
        }
        let patch = json!({
            "metadata": {"resourceVersion": configuration.resource_version()},
            "status": status,
        });
        let patched = api
            .patch_status(CONFIGURATION, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match patched {
            Ok(patched) if listed_keys(&patched) == all => return Ok((patched, lost.is_some())),
            Ok(_) => {
                return Err(dropped("recordKeys"));
            }
            Err(Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(said(error)),
        }
    }
    Err("the status of the GateConfiguration changes too often".to_owned())
}

/// A time so long ago that the time is over in which everything is adopted.
fn long_ago() -> Timestamp {
    let over = SignedDuration::from_secs(2 * EVERYWHERE);
    Timestamp::now().saturating_sub(over).unwrap_or_default()
}

/// Whether a time is later than the clocks of replicas differ.
fn is_in_the_future(at: Timestamp) -> bool {
    at.as_second() - Timestamp::now().as_second() > CLOCKS
}

async fn make_key(secrets: &Api<Secret>) -> Result<SigningKey, String> {
    let made = SigningKey::generate().and_then(|key| Some((key.to_pkcs8()?, key)));
    let (bytes, key) = made.ok_or("this machine has no randomness")?;
    let mut secret = Secret {
        type_: Some("Opaque".to_owned()),
        data: Some([(SECRET_FIELD.to_owned(), ByteString(bytes))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(SECRET.to_owned());
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(key),
        // Another replica was faster.
        Err(Error::Api(status)) if status.code == 409 => {
            key_of(&secrets.get(SECRET).await.map_err(said)?)
        }
        Err(error) => Err(said(error)),
    }
}

fn key_of(secret: &Secret) -> Result<SigningKey, String> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(SECRET_FIELD));
    let key = bytes.and_then(|bytes| SigningKey::from_pkcs8(&bytes.0));
    key.ok_or_else(|| {
        format!("the Secret `{SECRET}` holds no Ed25519 key in `{SECRET_FIELD}` (PKCS #8); restore it, or delete it so that a new key is made")
    })
}

/// Why a field of the status does not stay.
pub(super) fn dropped(field: &str) -> String {
    format!(
        "the API server drops `status.{field}` of GateConfigurations; apply the definitions of this version: `kubectl apply --server-side -f deploy/crds`"
    )
}

pub(super) fn said(error: Error) -> String {
    match error {
        Error::Api(status) => status.message,
        other => other.to_string(),
    }
}

pub(super) fn with_remedy(kind: &str, error: Error) -> String {
    match &error {
        Error::Api(status) if status.code == 404 => format!(
            "the cluster does not know the kind {kind}; run `kubectl apply --server-side -f deploy/crds`"
        ),
        _ => said(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(spec: Value, status: Value) -> GateState {
        let object = json!({
            "apiVersion": API_VERSION, "kind": "GateConfiguration",
            "metadata": {"name": CONFIGURATION}, "spec": spec, "status": status,
        });
        GateState::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn lost_keys_are_given_up_only_by_a_recent_adoption_of_everything() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let adopted = |namespaces: Value| {
            let adopt =
                json!([{"namespaces": namespaces, "createdBefore": "2026-11-28T12:00:00Z"}]);
            state(json!({"adopt": adopt}), Value::Null)
        };
        let everything = adopted(json!(["*"]));
        assert!(everything.gives_up_old_records(at("2026-11-28T12:30:00Z")));
        assert!(!everything.gives_up_old_records(at("2026-11-28T13:30:00Z")));
        assert!(!everything.gives_up_old_records(at("2026-11-28T11:30:00Z")));
        assert!(!adopted(json!(["shop"])).gives_up_old_records(at("2026-11-28T12:30:00Z")));
        assert!(!GateState::default().gives_up_old_records(at("2026-11-28T12:30:00Z")));
        // Clocks that differ are the likely reason.
        assert_eq!(
            everything.why_not_given_up(at("2026-11-28T13:30:59Z")),
            "; the last one is of 2026-11-28T12:00:00Z, and only one of the last 60 minutes counts: it is 2026-11-28T13:30:00Z here"
        );
        assert_eq!(
            GateState::default().why_not_given_up(at("2026-11-28T13:30:00Z")),
            ""
        );
    }

    #[test]
    fn each_adoption_is_done_once() {
        let adopt = json!({"adopt": [
            {"namespaces": ["a"], "createdBefore": "2026-11-28T12:00:00Z"},
            {"namespaces": ["b"], "createdBefore": "2026-11-28T12:00:00Z"},
        ]});
        let asked = state(adopt.clone(), Value::Null).waiting();
        assert_eq!(asked.len(), 2);
        let waiting = state(adopt, json!({"adopted": [asked[0].id()]})).waiting();
        assert_eq!(waiting, asked[1..]);
    }

    #[test]
    fn the_baseline_stands_in_the_status() {
        let asked = json!({"recordBaseline": {"asked": "2026-11-28T12:00:00Z"}});
        let asked = state(json!({}), asked);
        assert!(asked.asked.is_some() && asked.baseline.is_none());
        let taken = json!({"recordBaseline": {"at": "2026-11-28T12:00:00Z"}});
        assert!(state(json!({}), taken).baseline.is_some());
        assert!(state(json!({}), json!({})).baseline.is_none());
        assert!(state(json!({}), Value::Null).baseline.is_none());
    }
}
