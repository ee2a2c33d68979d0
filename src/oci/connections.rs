//! Which connections stay open between requests. Connections are kept to a bounded number of hosts, so that an attacker with
//! many hosts cannot use up file descriptors or memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most hosts to which connections are kept.
const HOSTS: usize = 64;
/// The most connections that are kept to one host.
const CONNECTIONS: usize = 4;
/// The most unused connections that are kept.
pub(super) const MOST: usize = HOSTS * CONNECTIONS;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Two clients with the same options: one keeps connections, one closes them.
pub(super) struct Pools {
    keeping: reqwest::Client,
    closing: reqwest::Client,
}

impl Pools {
    pub(super) fn new(
        builder: impl Fn() -> reqwest::ClientBuilder,
    ) -> Result<Pools, reqwest::Error> {
        let keeping = builder()
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(CONNECTIONS);
        Ok(Pools {
            keeping: keeping.build()?,
            closing: builder().pool_max_idle_per_host(0).build()?,
        })
    }

    pub(super) fn client(&self, keep: bool) -> reqwest::Client {
        match keep {
            true => self.keeping.clone(),
            false => self.closing.clone(),
        }
    }
}

/// The hosts to which connections are kept.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<String, Instant>>);

impl Kept {
    /// Whether a connection to `host` is kept after the request that is made now.
    pub(super) fn keeps(&self, host: &str) -> bool {
        let now = Instant::now();
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = hosts.get_mut(host) {
            *used = now;
            return true;
        }
        if hosts.len() >= HOSTS {
            // A request may take a while, and its connection is kept unused afterwards.
            hosts.retain(|_, used| now.duration_since(*used) < 2 * IDLE);
        }
        let room = hosts.len() < HOSTS;
        if room {
            hosts.insert(host.to_owned(), now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_kept_for_some_hosts_and_those_in_use() {
        let kept = Kept::default();
        assert!(kept.keeps("sound"));
        let many = (0..500).filter(|n| kept.keeps(&format!("host-{n}")));
        assert_eq!(many.count(), HOSTS - 1);
        tokio::time::advance(IDLE + IDLE / 2).await;
        assert!(kept.keeps("sound"));
        assert!(!kept.keeps("another"));
        tokio::time::advance(IDLE).await;
        assert!(kept.keeps("another"));
        assert!(kept.keeps("sound"));
    }
}
