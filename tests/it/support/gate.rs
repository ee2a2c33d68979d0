//! A review from end to end within the test: the client, the caches, the decision.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use promotion_gate::collect::{CacheSizes, CollectLimits, Collector};
use promotion_gate::incidents::Incidents;
use promotion_gate::oci::{Client, ClientOptions};
use promotion_gate::review::{Review, ReviewInputs, review};
use promotion_gate_core::gate::{Change, Collected, People, Policy, Snapshot, World};
use tokio::time::Instant;

use super::facts::{promotion, snapshot};

pub struct Gate {
    pub collector: Arc<Collector>,
    snapshot: Arc<Snapshot>,
    pub patience: Duration,
    pub audit_only: bool,
    /// What is asked about incidents.
    pub incidents: Option<Arc<dyn Incidents>>,
}

impl Gate {
    pub fn new(policy: Policy) -> Gate {
        let client = Client::new(ClientOptions::default()).unwrap();
        Gate::reading(client, policy)
    }

    pub fn reading(client: Client, policy: Policy) -> Gate {
        let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
        Gate {
            collector: Arc::new(Collector::new(Arc::new(client), limits, sizes)),
            snapshot: Arc::new(snapshot(vec![policy])),
            patience: Duration::from_secs(30),
            audit_only: false,
            incidents: None,
        }
    }

    /// The same with people whom the world knows.
    pub fn knowing(mut self, people: People) -> Gate {
        let snapshot = Arc::get_mut(&mut self.snapshot).unwrap();
        snapshot.world.people = Collected::Known(Arc::new(people));
        self
    }

    /// The same in another world.
    pub fn seeing(mut self, change: impl FnOnce(&mut World)) -> Gate {
        change(&mut Arc::get_mut(&mut self.snapshot).unwrap().world);
        self
    }

    /// The same memory under another policy.
    pub fn under(&self, policy: Policy) -> Gate {
        Gate {
            collector: Arc::clone(&self.collector),
            snapshot: Arc::new(snapshot(vec![policy])),
            patience: self.patience,
            audit_only: self.audit_only,
            incidents: self.incidents.clone(),
        }
    }

    /// What is said of a Deployment with these images.
    pub async fn review(&self, images: &[String]) -> Review {
        self.review_of(promotion(images).change).await
    }

    pub async fn review_of(&self, change: Change) -> Review {
        let inputs = ReviewInputs {
            snapshot: Arc::clone(&self.snapshot),
            collector: Arc::clone(&self.collector),
            records: None,
            incidents: self.incidents.clone(),
            deadline: Instant::now() + self.patience,
            audit_only: self.audit_only,
        };
        review(change, &inputs, Timestamp::now()).await
    }

    /// The outcome and the reason of a rule about one image.
    pub async fn says(&self, rule: &str, image: &str) -> (String, String) {
        let review = self.review(&[image.to_owned()]).await;
        let finding = review.verdict.policies()[0]
            .findings()
            .iter()
            .find(|finding| finding.rule == rule)
            .unwrap();
        (finding.outcome.id().to_owned(), finding.reason.to_owned())
    }
}
