//! Flux's real kustomize-controller, and what `docs/deployers.md` says of it: a denial leaves nothing half applied, and it tries again by
//! itself. The source-controller does not run: the test serves the archive and writes the status of the GitRepository.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::scenario;
use crate::harness::{Cluster, Image, Person, Scenario, Shop, shipped};
use crate::support::{Address, HttpServer, until};

const ENVIRONMENT: &str = "flux";
const NAMESPACE: &str = "flux-system";

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        17,
        "Flux applies nothing when one object is denied, and goes on by itself after the approval and after the freeze",
        flux_goes_on_when_it_may,
    )]
}

/// A Git repository of manifests that a Kustomization of Flux follows.
struct Repository<'a> {
    shop: &'a Shop<'a>,
    address: Address,
    archives: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    _server: HttpServer,
}

impl<'a> Repository<'a> {
    fn new(shop: &'a Shop<'a>) -> Repository<'a> {
        let address = Address::free();
        let archives = Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new()));
        let served = Arc::clone(&archives);
        let server = HttpServer::start_with_bytes(address, move |path| {
            served.lock().unwrap().get(path).cloned()
        });
        Repository {
            shop,
            address,
            archives,
            _server: server,
        }
    }

    /// A commit whose manifests run this image.
    fn commit(&self, image: &Image) {
        let folder = TempDir::new().unwrap();
        let deploy = folder.path().join("deploy");
        fs::create_dir(&deploy).unwrap();
        let settings = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": self.shop.name},
            "data": {"image": image},
        });
        let web = self.shop.workload("Deployment", "web", image);
        for (name, object) in [("settings", settings), ("web", web)] {
            fs::write(deploy.join(format!("{name}.yaml")), object.to_string()).unwrap();
        }
        let archive = Command::new("tar")
            .args(["-czf", "-", "-C"])
            .arg(folder.path())
            .arg("deploy")
            .output()
            .unwrap();
        assert!(archive.status.success(), "{archive:?}");
        let digest = hex::encode(Sha256::digest(&archive.stdout));
        let path = format!("/{digest}.tar.gz");
        let size = archive.stdout.len();
        self.archives
            .lock()
            .unwrap()
            .insert(path.clone(), archive.stdout);
        let status = json!({"status": {
            "observedGeneration": 1,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored artifact",
                "lastTransitionTime": Timestamp::now().to_string(), "observedGeneration": 1,
            }],
            "artifact": {
                "digest": format!("sha256:{digest}"), "path": path, "size": size,
                "url": format!("http://{}{path}", self.address),
                "revision": format!("main@sha1:{}", &digest[..40]),
                "lastUpdateTime": Timestamp::now().to_string(),
            },
        }});
        let patch = status.to_string();
        let patch = [
            "patch",
            "gitrepository",
            "payments",
            "-n",
            NAMESPACE,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        self.shop.cluster.kubectl(Person::Admin, patch).ok();
    }

    /// The Kustomization as it is shipped, but for how often it tries again.
    fn follow(&self) {
        let file = "deploy/flux/kustomization-settings.yaml";
        let mut kustomization = shipped(file).remove(0);
        kustomization["spec"]["retryInterval"] = json!("2s");
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": "payments", "namespace": NAMESPACE},
            "spec": {"url": "https://git.example/payments", "interval": "1m"},
        });
        for object in [source, kustomization] {
            self.shop.apply(Person::Admin, &object).ok();
        }
    }

    /// Waits until the Kustomization is ready, or not, with this in its message.
    fn is_ready(&self, expected: &str, message: &str) {
        let get = ["kustomization", "payments", "-n", NAMESPACE];
        until(
            &format!("the Kustomization has Ready={expected}: {message}"),
            || {
                let found = self.shop.cluster.get(get);
                let conditions = found.pointer("/status/conditions")?.as_array()?;
                let ready = conditions.iter().find(|found| found["type"] == "Ready")?;
                let said = ready["message"].as_str()?;
                (ready["status"] == expected && said.contains(message)).then_some(())
            },
        );
    }

    /// The image that the ConfigMap names, and the one that the Deployment runs.
    fn applied(&self) -> [Option<Image>; 2] {
        [
            ("configmap", "settings", "jsonpath={.data.image}"),
            (
                "deployment",
                "web",
                "jsonpath={.spec.template.spec.containers[0].image}",
            ),
        ]
        .map(|(kind, name, path)| {
            let found = self
                .shop
                .kubectl(Person::Admin, ["get", kind, name, "-o", path]);
            found.is_ok().then_some(found.stdout)
        })
    }
}

fn flux_goes_on_when_it_may(cluster: &Cluster) {
    cluster.plane.start_flux();
    let shop = Shop::ungoverned(cluster, "flux");
    shop.govern_with_approvals(ENVIRONMENT);
    let (one, two) = (shop.push_signed("one"), shop.push_signed("two"));
    let [first, second] = [&one, &two].map(|image| image.by_digest());
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let repository = Repository::new(&shop);
    repository.follow();

    repository.commit(&first);
    repository.is_ready("False", "[approvals-missing]");
    assert_eq!(repository.applied(), [None, None]);
    shop.approve(&one, ENVIRONMENT, later);
    repository.is_ready("True", "Applied revision");
    assert_eq!(
        repository.applied(),
        [Some(first.clone()), Some(first.clone())]
    );
    shop.runs("web", 1);

    shop.approve(&two, ENVIRONMENT, later);
    shop.freeze(ENVIRONMENT);
    repository.commit(&second);
    repository.is_ready("False", "[frozen]");
    assert_eq!(repository.applied(), [Some(first.clone()), Some(first)]);
    shop.lift_freeze();
    repository.is_ready("True", "Applied revision");
    assert_eq!(repository.applied(), [Some(second.clone()), Some(second)]);
    // Only its dry runs were denied.
    shop.upkeep_was_never_denied();
}
