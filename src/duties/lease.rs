//! Which replica does what one does for all: the one that holds the Lease `promotion-gate` in the gate's namespace.
//!
//! Clocks of two machines are never compared: a Lease is over when this process has seen it unchanged for its duration, and a holder
//! gives up some time before that.

use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cluster::{Cluster, cause};
use crate::config::host_name;

/// The name of the Lease.
const NAME: &str = "promotion-gate";
/// How long a Lease lasts that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// The longest duration that is believed of a Lease, whoever wrote it.
const MAXIMUM_DURATION: Duration = Duration::from_secs(60);
/// How much earlier its holder gives up.
const MARGIN: Duration = Duration::from_secs(5);
/// How often it is renewed or looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The Lease, as one process sees it.
pub struct Lease {
    api: Api<LeaseObject>,
    identity: String,
    /// Until when this process holds it.
    held_until: watch::Sender<Option<Instant>>,
    /// Until when it is left to others.
    left_until: watch::Sender<Option<Instant>>,
    /// When another process was last seen to renew it.
    renewed_elsewhere: watch::Sender<Option<Instant>>,
}

/// A Lease of somebody, and since when it was seen unchanged.
struct Observed {
    version: Option<String>,
    since: Instant,
}

impl Lease {
    /// Nobody holds it as far as this process knows.
    pub fn new(cluster: &Cluster) -> Lease {
        let mut random = [0; 4];
        // Without randomness the name of the host has to tell processes apart.
        let _ = rand::fill(&mut random);
        Lease {
            api: Api::namespaced(cluster.client(), cluster.namespace()),
            identity: format!("{}_{}", host_name(), hex::encode(random)),
            held_until: watch::Sender::new(None),
            left_until: watch::Sender::new(None),
            renewed_elsewhere: watch::Sender::new(None),
        }
    }

    /// Whether this process holds it now.
    pub fn is_held(&self) -> bool {
        self.held_until
            .borrow()
            .is_some_and(|until| Instant::now() < until)
    }

    /// When another process was last seen to take or renew it.
    pub fn renewed_elsewhere(&self) -> Option<Instant> {
        *self.renewed_elsewhere.borrow()
    }

    /// Waits until this process holds it.
    pub async fn held(&self) {
        let mut changes = self.held_until.subscribe();
        while !self.is_held() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until this process does not hold it any more.
    pub async fn lost(&self) {
        let mut changes = self.held_until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Takes, renews or watches the Lease for ever.
    pub async fn keep(&self) {
        let mut observed = Observed {
            version: None,
            since: Instant::now(),
        };
        let mut said = String::new();
        loop {
            let began = Instant::now();
            let attempt = timeout(PATIENCE, self.attempt(&mut observed, began)).await;
            let failed = match attempt {
                Ok(Ok(())) => String::new(),
                Ok(Err(error)) => cause(&error),
                Err(_) => "no answer in time".to_owned(),
            };
            if !failed.is_empty() && failed != said {
                tracing::warn!(
                    error = failed,
                    "the Lease `{NAME}` cannot be read or written"
                );
            }
            said = failed;
            sleep(EVERY).await;
        }
    }

    /// Gives the Lease back, so that another replica does not have to wait for its end.
    pub async fn release(&self) {
        if !self.is_held() {
            return;
        }
        self.held_until.send_replace(None);
        let release = async {
            let lease = self.api.get(NAME).await?;
            if holder(&lease) == Some(&self.identity) {
                self.write(Some(lease), None).await?;
            }
            Ok::<(), kube::Error>(())
        };
        // The Lease ends by itself where this fails.
        let _ = timeout(PATIENCE, release).await;
    }

    /// Gives the Lease back, and leaves it to other replicas for some time.
    pub fn leave_for(&self, time: Duration) {
        self.left_until.send_replace(Some(Instant::now() + time));
        self.held_until.send_replace(None);
    }

    async fn attempt(&self, observed: &mut Observed, began: Instant) -> kube::Result<()> {
        let lease = self.api.get_opt(NAME).await?;
        let mine = lease.as_ref().and_then(holder) == Some(&self.identity);
        let is_free = match &lease {
            None => true,
            Some(lease) => holder(lease).is_none_or(str::is_empty) || observed.is_over(lease),
        };
        let is_left = self.left_until.borrow().is_some_and(|until| began < until);
        if !mine && !is_free {
            self.renewed_elsewhere.send_replace(Some(observed.since));
        }
        if is_left || !mine && !is_free {
            self.held_until.send_replace(None);
            return match mine {
                true => self.write(lease, None).await,
                false => Ok(()),
            };
        }
        match self.write(lease, Some(&self.identity)).await {
            Ok(()) => {
                self.held_until
                    .send_replace(Some(began + DURATION - MARGIN));
                Ok(())
            }
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.held_until.send_replace(None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, lease: Option<LeaseObject>, holder: Option<&str>) -> kube::Result<()> {
        let now = MicroTime(Timestamp::now());
        let before = lease.as_ref().and_then(|lease| lease.spec.clone());
        let before = before.unwrap_or_default();
        let is_same = before.holder_identity.as_deref() == holder;
        let spec = LeaseSpec {
            holder_identity: Some(holder.unwrap_or_default().to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: match is_same {
                true => before.acquire_time,
                false => Some(now.clone()),
            },
            lease_transitions: Some(
                before
                    .lease_transitions
                    .unwrap_or(0)
                    .saturating_add(i32::from(!is_same)),
            ),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let parameters = PostParams::default();
        match lease {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.api.replace(NAME, &parameters, &lease).await?;
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                };
                let new = LeaseObject {
                    metadata,
                    spec: Some(spec),
                };
                self.api.create(&parameters, &new).await?;
            }
        }
        Ok(())
    }
}

impl Observed {
    /// Whether the Lease was seen unchanged for its whole duration.
    fn is_over(&mut self, lease: &LeaseObject) -> bool {
        let version = &lease.metadata.resource_version;
        if self.version != *version {
            self.version.clone_from(version);
            self.since = Instant::now();
        }
        let written = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds);
        let written = written.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = written.map_or(DURATION, Duration::from_secs);
        let duration = duration.clamp(DURATION, MAXIMUM_DURATION);
        self.since.elapsed() > duration
    }
}

fn holder(lease: &LeaseObject) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str) -> LeaseObject {
        let mut lease = LeaseObject::default();
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_when_it_was_seen_unchanged_for_its_duration_whatever_its_times_say() {
        let mut observed = Observed {
            version: None,
            since: Instant::now(),
        };
        assert!(!observed.is_over(&lease("1")));
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(!observed.is_over(&lease("1")));
        assert!(!observed.is_over(&lease("2")), "it was renewed");
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(!observed.is_over(&lease("2")));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(observed.is_over(&lease("2")));
    }

    #[tokio::test(start_paused = true)]
    async fn attack_a_lease_that_was_written_once_to_last_for_decades_ends_after_a_minute() {
        let mut observed = Observed {
            version: None,
            since: Instant::now(),
        };
        let mut endless = lease("1");
        endless.spec = Some(LeaseSpec {
            lease_duration_seconds: Some(i32::MAX),
            ..LeaseSpec::default()
        });
        assert!(!observed.is_over(&endless));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(observed.is_over(&endless));
    }
}
