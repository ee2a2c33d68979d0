//! Certificates that the gate makes for itself: a CA and a serving certificate in a Secret. The first replica makes them, the replica
//! that holds the Lease renews them, and all replicas take over what the Secret says.
//!
//! * `plan`: what is in the Secret, and what is due at an instant

mod plan;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Error};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::{Lease, PATIENCE, webhook};
use crate::cluster::{Cluster, cause, in_time};
use crate::metrics::Metrics;

use plan::{
    Authority, Certificates, KnownAuthorities, RenewalStep, ReportedAuthorities, ServerClock,
};

pub(super) use plan::certificates;
pub use plan::{CertificateSettings, Serving};

/// How often the Secret is read, where nothing says that it changed; and while something is wrong.
const TICKS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1));
/// The most steps of a renewal at once.
const MAXIMUM_STEPS: usize = 4;
/// From which difference on the clocks of this machine and of the API server are reported.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// How long a Secret is missing before a replica that does not hold the Lease writes it again, and before one that never read it makes
/// other certificates than those that clients trust.
const MISSING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));
/// The type of the Secret.
const TYPE: &str = "Opaque";

/// Where the certificates are kept, and what they are like.
#[derive(Clone, Debug)]
pub struct CertificateSecret {
    /// The namespace of the Secret; the gate's own where it is not said.
    pub namespace: Option<String>,
    /// The name of the Secret.
    pub name: String,
    /// What certificates are made like.
    pub settings: CertificateSettings,
    /// The webhook configuration whose clients have to trust the CA.
    pub webhook: String,
}

/// The certificates of a gate that makes them itself.
pub struct SelfManaged {
    cluster: Cluster,
    namespace: String,
    secret: CertificateSecret,
    metrics: Arc<Metrics>,
    /// What is to be served.
    serving: watch::Sender<Option<Arc<Serving>>>,
    /// The CAs that clients have to trust (PEM).
    bundle: watch::Sender<Option<String>>,
    problem: watch::Sender<Option<String>>,
}

/// What this process knows of the Secret.
#[derive(Default)]
struct Memory {
    /// What it held when it could be read last.
    certificates: Option<Certificates>,
    reported: ReportedAuthorities,
    known: KnownAuthorities,
    /// Whether those that clients trusted at the start are among them.
    knows_trusted: bool,
    /// Since when the Secret is missing or empty.
    missing_since: Option<Instant>,
    clock: ServerClock,
    warned_of_clock: bool,
}

impl Memory {
    /// The time by the clock of the API server.
    fn now(&self) -> Timestamp {
        self.clock.time(Instant::now(), Timestamp::now())
    }
}

impl SelfManaged {
    /// Nothing is read yet.
    pub fn new(cluster: Cluster, secret: CertificateSecret, metrics: Arc<Metrics>) -> SelfManaged {
        let namespace = secret.namespace.as_deref();
        SelfManaged {
            namespace: namespace.unwrap_or(cluster.namespace()).to_owned(),
            cluster,
            secret,
            metrics,
            serving: watch::Sender::new(None),
            bundle: watch::Sender::new(None),
            problem: watch::Sender::new(None),
        }
    }

    /// What is to be served, as it changes.
    pub fn serving(&self) -> watch::Receiver<Option<Arc<Serving>>> {
        self.serving.subscribe()
    }

    /// The CAs that clients have to trust (PEM), as they change.
    pub fn bundle(&self) -> watch::Receiver<Option<String>> {
        self.bundle.subscribe()
    }

    /// What is wrong with the Secret.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Keeps the certificates current for ever.
    pub async fn keep(self: Arc<SelfManaged>, lease: Arc<Lease>) -> Infallible {
        let changed = Notify::new();
        let metadata: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(self.cluster.client(), &self.namespace);
        let mut memory = Memory::default();
        let keep = async {
            loop {
                let was_held = lease.is_held();
                let problem = self.look(&mut memory, &lease).await.err();
                let is_incomplete = problem.is_some()
                    || memory.missing_since.is_some()
                    || self.serving.borrow().is_none();
                let overlap = self.secret.settings.overlap();
                let wait = match is_incomplete {
                    true => TICKS.1,
                    false => TICKS.0.min(overlap / 4).max(TICKS.1 / 4),
                };
                self.report(problem);
                tokio::select! {
                    () = changed.notified() => {}
                    // What is due is renewed at once.
                    () = lease.held(), if !was_held => {}
                    () = sleep(wait) => {}
                }
            }
        };
        tokio::select! {
            never = self.cluster.notify_changes(metadata, &self.secret.name, &changed) => match never {},
            never = keep => never,
        }
    }

    /// Reads the Secret, takes over what it holds, and renews what is due if this replica holds the Lease.
    async fn look(&self, memory: &mut Memory, lease: &Lease) -> Result<(), String> {
        let found = in_time(self.api().get_opt(&self.secret.name)).await;
        let found = found.map_err(|error| self.about(&error.why));
        if found.is_ok() {
            self.ask_api_server(memory).await;
        }
        // Also without an answer, a certificate that was waited for may be served now.
        let done = match found {
            Err(why) => Err(why),
            Ok(None) => self.make(memory, lease, None).await,
            Ok(Some(secret)) if secret.data.as_ref().is_none_or(|data| data.is_empty()) => {
                self.make(memory, lease, Some(secret)).await
            }
            Ok(Some(secret)) => self.take_over(memory, lease, secret).await,
        };
        self.publish(memory);
        done
    }

    /// Makes the Secret: from memory, where it was deleted, so that clients go on to trust it; otherwise anew.
    async fn make(
        &self,
        memory: &mut Memory,
        lease: &Lease,
        empty: Option<Secret>,
    ) -> Result<(), String> {
        if let Some(empty) = &empty {
            self.check_type(empty)?;
        }
        let missing_since = *memory.missing_since.get_or_insert_with(Instant::now);
        let missing_for = missing_since.elapsed();
        let nothing_is_trusted = memory.knows_trusted && memory.known.is_empty();
        let remembered = memory.certificates.clone();
        let was_deleted = remembered.is_some();
        let certificates = match remembered {
            Some(_) if !lease.is_held() && missing_for < MISSING.0 => return Ok(()),
            Some(remembered) => remembered,
            // A replica that remembers them writes them again.
            None if !nothing_is_trusted && missing_for < MISSING.1 => return Ok(()),
            None => {
                let now = self.ask_time(memory).await;
                Certificates::new(now, &self.secret.settings)
                    .map_err(|error| format!("certificates cannot be made: {error}"))?
            }
        };
        let base = empty.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.name.clone()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        });
        if let Some(secret) = self.write(base, &certificates).await? {
            if was_deleted {
                self.metrics.alarms.raise(
                    "certificates-deleted",
                    &format!("somebody deleted the certificates in the {}; they are written again as they were", self.shown()),
                );
            }
            tracing::info!(secret = self.shown(), "certificates are made");
            self.take_over(memory, lease, secret).await?;
        }
        Ok(())
    }

    /// Takes over what the Secret holds, and renews what is due.
    async fn take_over(
        &self,
        memory: &mut Memory,
        lease: &Lease,
        mut secret: Secret,
    ) -> Result<(), String> {
        memory.missing_since = None;
        for _ in 0..MAXIMUM_STEPS {
            let certificates = self.read(&secret)?;
            memory.certificates = Some(certificates.clone());
            let (is_held, elsewhere) = (lease.is_held(), lease.renewed_elsewhere());
            let at = Instant::now();
            let is_added = (memory.reported).see(&certificates, at, is_held, elsewhere);
            if !is_held {
                return Ok(());
            }
            if is_added {
                self.metrics.alarms.raise(
                    "certificate-authority-replaced",
                    &format!("somebody put a CA into the {}: the API server will trust it, and a certificate in the Secret that it issued is served after the overlap", self.shown()),
                );
            }
            let settings = &self.secret.settings;
            if certificates.next_step(memory.now(), settings) == RenewalStep::Nothing {
                return Ok(());
            }
            let now = self.ask_time(memory).await;
            let renewed = match certificates.next_step(now, settings) {
                RenewalStep::Nothing => return Ok(()),
                RenewalStep::NewAuthority => certificates.with_authority(now, settings),
                RenewalStep::NewCertificate { only_if_trusted } => {
                    if only_if_trusted
                        && let Some(newest) = certificates.newest()
                        && !self.is_trusted(newest).await?
                    {
                        return Ok(());
                    }
                    certificates.with_certificate(now, settings)
                }
                RenewalStep::ForgetExpired => Ok(certificates.without_expired(now)),
            };
            let renewed =
                renewed.map_err(|error| format!("certificates cannot be renewed: {error}"))?;
            match self.write(secret, &renewed).await? {
                Some(written) => {
                    let renewed = self.read(&written)?;
                    memory.reported.note(&renewed);
                    memory.certificates = Some(renewed);
                    secret = written;
                }
                // Somebody else changed it; it is read again.
                None => return Ok(()),
            }
            tracing::info!(secret = self.shown(), "certificates are renewed");
        }
        Ok(())
    }

    fn read(&self, secret: &Secret) -> Result<Certificates, String> {
        let shown = self.shown();
        let own = "delete it, so that the gate makes its own again, or name another one with `--certificates-secret`";
        self.check_type(secret)?;
        let data = secret.data.clone().unwrap_or_default();
        Certificates::read(&data)
            .map_err(|why| format!("the {shown} cannot be used: {why}; restore it, or {own}"))
    }

    fn check_type(&self, secret: &Secret) -> Result<(), String> {
        let shown = self.shown();
        match secret.type_.as_deref().filter(|it| *it != TYPE) {
            None => Ok(()),
            Some(other) => Err(format!(
                "the {shown} was not made by the gate: its type is `{other}`; name another one with `--certificates-secret`, or use it as files (`--tls-cert`, `--tls-key`)"
            )),
        }
    }

    /// Writes the Secret, if it is still as it was read. `None` if it is not.
    async fn write(
        &self,
        mut secret: Secret,
        certificates: &Certificates,
    ) -> Result<Option<Secret>, String> {
        certificates.write_into(secret.data.get_or_insert_default());
        let (api, how) = (self.api(), PostParams::default());
        let is_there = secret.metadata.resource_version.is_some();
        let written = match is_there {
            true => timeout(PATIENCE, api.replace(&self.secret.name, &how, &secret)).await,
            false => timeout(PATIENCE, api.create(&how, &secret)).await,
        };
        match written.map_err(|_| self.about("no answer in time"))? {
            Ok(secret) => Ok(Some(secret)),
            // Another replica was faster, or somebody deleted it.
            Err(Error::Api(status)) if status.code == 409 || is_there && status.code == 404 => {
                Ok(None)
            }
            Err(error) => Err(self.about(&cause(&error))),
        }
    }

    /// Hands on what is to be served, and which CAs are to be trusted.
    fn publish(&self, memory: &mut Memory) {
        let Some(certificates) = &memory.certificates else {
            return;
        };
        let (at, now, settings) = (Instant::now(), memory.now(), &self.secret.settings);
        memory.known.see(certificates, at, settings);
        if memory.knows_trusted {
            let bundle = memory.known.bundle(certificates, at, now, settings);
            self.bundle.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&bundle);
                *known = Some(bundle);
                is_new
            });
        }
        if let Some(newest) = certificates.newest() {
            self.metrics
                .show_certificate_expiration("ca", newest.until());
        }
        let Some(next) = certificates.serving() else {
            return;
        };
        self.serving.send_if_modified(|served| {
            let takes_over = served.as_ref().is_none_or(|served| {
                **served != *next
                    && (!served.is_usable(now) || memory.known.may_serve(next, at, settings))
            });
            if takes_over {
                *served = Some(Arc::new(next.clone()));
            }
            takes_over
        });
    }

    /// Whether the API server verifies the webhook by this CA already.
    async fn is_trusted(&self, authority: &Authority) -> Result<bool, String> {
        let bundles = webhook::bundles(&self.cluster, &self.secret.webhook).await?;
        Ok(bundles.iter().all(|bundle| authority.is_in(bundle)))
    }

    /// Asks which CAs clients trust, once, and for the time of the API server where that is due.
    async fn ask_api_server(&self, memory: &mut Memory) {
        let (at, settings) = (Instant::now(), &self.secret.settings);
        // The keeper of the webhook configuration says why it cannot be read.
        if !memory.knows_trusted
            && let Ok(bundles) = webhook::bundles(&self.cluster, &self.secret.webhook).await
        {
            for bundle in bundles {
                memory.known.see_trusted(&bundle, at, settings);
            }
            memory.knows_trusted = true;
        }
        if memory.clock.is_old(at) {
            self.ask_time(memory).await;
        }
    }

    /// Asks for the time of the API server.
    async fn ask_time(&self, memory: &mut Memory) -> Timestamp {
        let told = match self.cluster.time().await {
            Ok(there) => {
                memory.clock.set(Instant::now(), there);
                let skew = Timestamp::now().duration_since(there);
                (skew.abs() > SKEW).then(|| {
                    format!(
                        "this machine's clock differs from it by {} s",
                        skew.as_secs()
                    )
                })
            }
            Err(why) => Some(format!("it is not known: {why}")),
        };
        if let Some(told) = told
            && !memory.warned_of_clock
        {
            memory.warned_of_clock = true;
            tracing::warn!(
                told,
                "the time of the API server, by which certificates are made"
            );
        }
        memory.now()
    }

    fn report(&self, problem: Option<String>) {
        self.problem.send_if_modified(|known| {
            let is_new = *known != problem;
            if is_new && let Some(problem) = &problem {
                tracing::error!(
                    problem,
                    "the certificates cannot be read or renewed; what is served stays"
                );
            }
            *known = problem;
            is_new
        });
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }

    fn about(&self, why: &str) -> String {
        format!("the {} cannot be read or written: {why}", self.shown())
    }

    fn shown(&self) -> String {
        format!("Secret `{}` in `{}`", self.secret.name, self.namespace)
    }
}
