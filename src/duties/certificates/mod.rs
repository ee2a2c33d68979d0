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

use plan::{Authority, Certificates, KnownAuthorities, RenewalStep};

pub(super) use plan::certificates;
pub use plan::{CertificateSettings, Serving};

/// How often the Secret is read, where nothing says that it changed; and while something is wrong.
const TICKS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1));
/// The most steps of a renewal at once.
const MAXIMUM_STEPS: usize = 4;
/// From which difference on the clocks of this machine and of the API server are reported.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
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
    known: KnownAuthorities,
    warned_of_skew: bool,
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
                let problem = self.look(&mut memory, &lease).await.err();
                let wait = match problem.is_some() || self.serving.borrow().is_none() {
                    true => TICKS.1,
                    false => TICKS.0.min(self.overlap() / 4).max(TICKS.1 / 4),
                };
                self.report(problem);
                tokio::select! {
                    () = changed.notified() => {}
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
        let certificates = match &memory.certificates {
            Some(_) if !lease.is_held() => return Ok(()),
            Some(remembered) => {
                self.metrics.alarms.raise(
                    "certificates-deleted",
                    &format!("somebody deleted the certificates in the {}; they are written again as they were", self.shown()),
                );
                remembered.clone()
            }
            None => {
                let now = self.now(memory).await;
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
        for _ in 0..MAXIMUM_STEPS {
            let certificates = self.read(&secret)?;
            let before = memory.certificates.replace(certificates.clone());
            if !lease.is_held() {
                return Ok(());
            }
            if before.is_some_and(|before| !certificates.share_authority_with(&before)) {
                self.metrics.alarms.raise(
                    "certificate-authority-replaced",
                    &format!("somebody replaced the CA in the {}: the API server will trust the new one, and the certificate that it issued is served after the overlap", self.shown()),
                );
            }
            let settings = &self.secret.settings;
            if certificates.next_step(Timestamp::now(), settings) == RenewalStep::Nothing {
                return Ok(());
            }
            // Clients compare validity with the clock of the API server.
            let now = self.now(memory).await;
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
                Some(written) => secret = written,
                // Somebody else changed it; it is read again.
                None => return Ok(()),
            }
            tracing::info!(secret = self.shown(), "certificates are renewed");
        }
        memory.certificates = Some(self.read(&secret)?);
        Ok(())
    }

    fn read(&self, secret: &Secret) -> Result<Certificates, String> {
        let shown = self.shown();
        let own = "delete it, so that the gate makes its own again, or name another one with `--certificates-secret`";
        if let Some(other) = secret.type_.as_deref().filter(|it| *it != TYPE) {
            return Err(format!(
                "the {shown} was not made by the gate: its type is `{other}`; name another one with `--certificates-secret`, or use it as files (`--tls-cert`, `--tls-key`)"
            ));
        }
        let data = secret.data.clone().unwrap_or_default();
        Certificates::read(&data)
            .map_err(|why| format!("the {shown} cannot be used: {why}; restore it, or {own}"))
    }

    /// Writes the Secret, if it is still as it was read. `None` if it is not.
    async fn write(
        &self,
        mut secret: Secret,
        certificates: &Certificates,
    ) -> Result<Option<Secret>, String> {
        secret.data = Some(certificates.data());
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
        let (at, now, settings) = (Instant::now(), Timestamp::now(), &self.secret.settings);
        memory.known.see(certificates, at);
        let bundle = memory.known.bundle(certificates, at, now, settings);
        self.bundle.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&bundle);
            *known = Some(bundle);
            is_new
        });
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

    /// The time by the clock of the API server; by this machine's if that is not known.
    async fn now(&self, memory: &mut Memory) -> Timestamp {
        let here = Timestamp::now();
        let there = match self.cluster.time().await {
            Ok(there) => there,
            Err(why) => {
                tracing::warn!(why, "the time of the API server is not known");
                return here;
            }
        };
        let skew = here.duration_since(there);
        if skew.abs() > SKEW && !memory.warned_of_skew {
            memory.warned_of_skew = true;
            tracing::warn!(
                seconds = skew.as_secs(),
                "the clock of this machine differs from that of the API server"
            );
        }
        there
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

    fn overlap(&self) -> Duration {
        Duration::try_from(self.secret.settings.overlap).unwrap_or_default()
    }

    fn about(&self, why: &str) -> String {
        format!("the {} cannot be read or written: {why}", self.shown())
    }

    fn shown(&self) -> String {
        format!("Secret `{}` in `{}`", self.secret.name, self.namespace)
    }
}
