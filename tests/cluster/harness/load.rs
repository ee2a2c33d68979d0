//! A steady load of admissions, each with an answer that is known beforehand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::shop::pod;
use super::{Person, Shop};
use crate::support::ControlPlane;

/// How long a client waits for an answer; longer than an API server waits for a webhook.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates two Pods by turns at a steady rate, as dry runs.
pub struct Load {
    client: reqwest::Client,
    url: String,
    /// Each Pod, and whether it is admitted.
    pods: [(Value, bool); 2],
    runtime: Runtime,
}

/// What became of the requests of a load.
#[derive(Default)]
pub struct Report {
    pub right: usize,
    /// Answers of the gate that are not the expected ones.
    pub wrong: Vec<String>,
    /// Calls without an answer of the gate.
    pub failed: Vec<String>,
    latencies: Vec<Duration>,
    took: Duration,
}

enum Answer {
    Right,
    Wrong(String),
    Failed(String),
}

impl Load {
    pub fn new(shop: &Shop, images: [(&str, bool); 2]) -> Load {
        Load::of(&shop.cluster.plane, &shop.name, images)
    }

    /// Of Pods in this namespace.
    pub fn of(plane: &ControlPlane, namespace: &str, images: [(&str, bool); 2]) -> Load {
        Load {
            client: client_of(plane),
            url: format!(
                "https://{}/api/v1/namespaces/{namespace}/pods?dryRun=All",
                plane.https
            ),
            pods: images.map(|(image, is_admitted)| (pod(namespace, "load", image), is_admitted)),
            runtime: Runtime::new().unwrap(),
        }
    }

    /// Keeps up the load while `work` goes on.
    pub fn during(&self, per_second: u32, work: impl FnOnce()) -> Report {
        let (stop, stopped) = oneshot::channel();
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.runtime.block_on(self.send(per_second, stopped)));
            work();
            stop.send(()).unwrap();
            load.join().unwrap()
        })
    }

    async fn send(&self, per_second: u32, mut stopped: oneshot::Receiver<()>) -> Report {
        let mut ticks = interval(Duration::from_secs(1) / per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let bodies = self.pods.each_ref();
        let bodies = bodies.map(|(pod, is_admitted)| (Arc::new(pod.to_string()), *is_admitted));
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        let mut report = Report::default();
        for round in 0.. {
            tokio::select! {
                _ = &mut stopped => break,
                _ = ticks.tick() => {}
            }
            let (body, admitted) = bodies[round % 2].clone();
            let call = self.client.post(&self.url).body(body.to_string());
            under_way.spawn(async move {
                let began = Instant::now();
                (call_for(call, admitted).await, began.elapsed())
            });
            while let Some(done) = under_way.try_join_next() {
                report.count(done.unwrap());
            }
        }
        while let Some(done) = under_way.join_next().await {
            report.count(done.unwrap());
        }
        report.took = began.elapsed();
        report
    }
}

async fn call_for(call: reqwest::RequestBuilder, admitted: bool) -> Answer {
    let call = call.header("Content-Type", "application/json");
    let answer = call.bearer_auth(Person::Alice.token()).send().await;
    let answer = match answer {
        Ok(answer) => (answer.status().as_u16(), answer.text().await),
        Err(error) => return Answer::Failed(format!("{error:?}")),
    };
    let (status, Ok(text)) = answer else {
        return Answer::Failed("the answer ended early".to_owned());
    };
    let is_denial = text.contains("denied the request");
    match (status, admitted) {
        (201, true) => Answer::Right,
        (_, false) if is_denial && text.contains("[unsigned]") => Answer::Right,
        (201, false) => Answer::Wrong(text),
        _ if is_denial => Answer::Wrong(text),
        _ => Answer::Failed(text),
    }
}

/// A client of the API server.
pub fn client_of(plane: &ControlPlane) -> reqwest::Client {
    let pem = std::fs::read(plane.folder.path().join("certs/apiserver.crt")).unwrap();
    let authorities = reqwest::Certificate::from_pem_bundle(&pem).unwrap();
    reqwest::Client::builder()
        .tls_certs_only(authorities)
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

impl Report {
    fn count(&mut self, (answer, took): (Answer, Duration)) {
        self.latencies.push(took);
        match answer {
            Answer::Right => self.right += 1,
            Answer::Wrong(text) => self.wrong.push(text),
            Answer::Failed(text) => self.failed.push(text),
        }
    }

    pub fn quantile(&self, hundredths: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let at = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }

    pub fn per_second(&self) -> u32 {
        (self.latencies.len() as f64 / self.took.as_secs_f64()).ceil() as u32
    }

    #[track_caller]
    pub fn has_no_wrong_answer(&self) {
        assert!(self.right > 0, "{self}");
        assert!(self.wrong.is_empty(), "{self}: {:#?}", self.wrong.first());
    }

    #[track_caller]
    pub fn lost_nothing(&self) {
        assert!(self.failed.is_empty(), "{self}: {:#?}", self.failed.first());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.latencies.len() as f64 / self.took.as_secs_f64();
        write!(
            f,
            "{} calls, {rate:.0}/s, p50 {:.1?}, p99 {:.1?}; {} right, {} wrong, {} failed",
            self.latencies.len(),
            self.quantile(50),
            self.quantile(99),
            self.right,
            self.wrong.len(),
            self.failed.len()
        )
    }
}
