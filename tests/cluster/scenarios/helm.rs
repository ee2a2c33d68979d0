//! Real Helm, and what `docs/deployers.md` says of it: what a denial leaves behind, and how the shipped script avoids it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scenario;
use crate::harness::{Cluster, Image, Person, Scenario, Shop};
use crate::support::{Ran, command, run, until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ENVIRONMENT: &str = "helm";

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        16,
        "Helm leaves half a release when it is denied, takes it back where asked to, and rolls back in a freeze; the script waits first",
        helm_deploys_what_is_approved,
    )]
}

/// A person who deploys a chart with Helm.
struct Deployer<'a> {
    shop: &'a Shop<'a>,
    folder: TempDir,
}

impl<'a> Deployer<'a> {
    fn new(shop: &'a Shop<'a>) -> Deployer<'a> {
        let deployer = Deployer {
            shop,
            folder: TempDir::new().unwrap(),
        };
        let object = |kind: &str, name: &str, annotations: Value| {
            json!({
                "apiVersion": "v1", "kind": kind,
                "metadata": {"name": name, "annotations": annotations},
                "data": {"image": "{{ .Values.image }}"},
            })
        };
        let hook = json!({"helm.sh/hook": "pre-install,pre-upgrade"});
        let mut web = shop.workload("Deployment", "web", &"{{ .Values.image }}".to_owned());
        web["metadata"] = json!({"name": "web"});
        let chart = json!({"apiVersion": "v2", "name": "payments", "version": "0.1.0"});
        for (file, content) in [
            ("chart/Chart.yaml", &chart),
            (
                "chart/templates/settings.yaml",
                &object("ConfigMap", "settings", json!({})),
            ),
            (
                "chart/templates/before.yaml",
                &object("ConfigMap", "before", hook),
            ),
            ("chart/templates/web.yaml", &web),
        ] {
            let path = deployer.folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.to_string()).unwrap();
        }
        // What the script runs.
        let bin = deployer.folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let helm = Path::new(ROOT).join("target/real-tools/bin/helm");
        let gate = env!("CARGO_BIN_EXE_promotion-gate");
        for (program, name) in [
            (helm.as_path(), "helm"),
            (Path::new(gate), "promotion-gate"),
        ] {
            symlink(program, bin.join(name)).unwrap();
        }
        deployer
    }

    fn kubeconfig(&self) -> String {
        let plane = &self.shop.cluster.plane;
        let file = plane.kubeconfig("helm", Person::Alice.token());
        file.display().to_string()
    }

    fn helm(&self, args: &[&str]) -> Ran {
        let mut helm = command("helm", self.folder.path());
        helm.args(["--kubeconfig", &self.kubeconfig(), "-n", &self.shop.name]);
        run(helm.args(args), b"")
    }

    /// `helm ACTION payments` with this image.
    fn helm_with(&self, action: &str, image: &Image, more: &[&str]) -> Ran {
        let value = format!("image={image}");
        let args = [action, "payments", "./chart", "--set", &value];
        self.helm(&[&args[..], more].concat())
    }

    /// Starts `deploy/helm/deploy`.
    fn script(&self, image: &Image) -> Child {
        let cluster = self.shop.cluster;
        let configuration = cluster.gates.gate.path("gate.yaml");
        let options = format!(
            "--from-cluster --config {} --interval 1 --timeout 2m",
            configuration.display()
        );
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        Command::new(format!("{ROOT}/deploy/helm/deploy"))
            .args([ENVIRONMENT, &self.shop.name, "payments", "./chart"])
            .args(["--set", &format!("image={image}"), "--timeout", "90s"])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.kubeconfig())
            .env("WAIT_OPTIONS", options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The script has not begun to deploy, and says what it waits for.
    fn waits(&self, script: &mut Child) {
        use std::io::{BufRead as _, BufReader};
        let mut said = BufReader::new(script.stdout.take().unwrap()).lines();
        let line = said.find(|line| line.as_ref().unwrap().contains("approvals"));
        assert!(line.is_some(), "{:?}", script.wait_with_error());
        // Whatever else it says is read, so that it does not stop.
        std::thread::spawn(move || said.count());
    }

    /// Status and revision of the release, if there is one.
    fn release(&self) -> Option<(String, u64)> {
        let found = self.helm(&["status", "payments", "-o", "json"]);
        let status: Value = serde_json::from_str(&found.stdout).ok()?;
        let name = status["info"]["status"].as_str()?;
        Some((name.to_owned(), status["version"].as_u64()?))
    }

    fn status(&self) -> Option<String> {
        self.release().map(|(status, _)| status)
    }

    /// The image in one of the ConfigMaps of the chart.
    fn image_in(&self, name: &str) -> Option<Image> {
        let get = ["get", "configmap", name, "-o", "jsonpath={.data.image}"];
        let found = self.shop.kubectl(Person::Admin, get);
        found.is_ok().then_some(found.stdout)
    }

    /// The image that the Deployment names.
    fn runs(&self) -> Option<Image> {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        let get = ["get", "deployment", "web", "-o", path];
        let found = self.shop.kubectl(Person::Admin, get);
        found.is_ok().then_some(found.stdout)
    }
}

trait WaitWithError {
    fn wait_with_error(&mut self) -> String;
}

impl WaitWithError for Child {
    fn wait_with_error(&mut self) -> String {
        use std::io::Read as _;
        let mut said = String::new();
        let mut stderr = self.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        said
    }
}

fn helm_deploys_what_is_approved(cluster: &Cluster) {
    let shop = Shop::ungoverned(cluster, "helm");
    shop.govern_with_approvals(ENVIRONMENT);
    cluster
        .kubectl(
            Person::Admin,
            ["apply", "-f", &format!("{ROOT}/deploy/argo-cd/wait.yaml")],
        )
        .ok();
    let may_read = ["create", "clusterrolebinding", "helm-waits"];
    let may_read = may_read.into_iter();
    let may_read = may_read.chain(["--clusterrole=promotion-gate-wait", "--group=developers"]);
    cluster.kubectl(Person::Admin, may_read).ok();
    let (one, two) = (shop.push_signed("one"), shop.push_signed("two"));
    let [first, second] = [&one, &two].map(|image| image.by_digest());
    let deployer = Deployer::new(&shop);
    what_a_denied_installation_leaves(&deployer, &first);
    let expires = Timestamp::now() + SignedDuration::from_secs(60);
    let installed = the_script_installs(&deployer, &first, || {
        shop.approve(&one, ENVIRONMENT, expires);
    });
    what_a_denied_upgrade_leaves(&deployer, &first, &second);
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    the_script_installs(&deployer, &second, || {
        shop.approve(&two, ENVIRONMENT, later);
    });
    // The approval of the first version has expired, and a freeze begins.
    until("the approval has expired", || {
        (Timestamp::now() > expires).then_some(())
    });
    shop.freeze_with(ENVIRONMENT, &json!({"rollback": true}));
    let rolled_back = deployer.helm(&["rollback", "payments", &installed.to_string()]);
    rolled_back.ok();
    assert_eq!(deployer.runs().as_ref(), Some(&first));
    let third = shop.signed("three");
    let refused = deployer.helm_with("upgrade", &third, &[]).refused();
    assert!(refused.contains("[frozen]"), "{refused}");
    shop.upkeep_was_never_denied();
}

fn what_a_denied_installation_leaves(deployer: &Deployer<'_>, image: &Image) {
    let refused = deployer.helm_with("install", image, &[]).refused();
    assert!(refused.contains("[approvals-missing]"), "{refused}");
    assert_eq!(deployer.status().as_deref(), Some("failed"));
    assert_eq!(deployer.image_in("settings").as_ref(), Some(image));
    assert_eq!(deployer.runs(), None);
    deployer.helm(&["uninstall", "payments"]).ok();
    // Taken back, but for what hooks made.
    let atomic = deployer.helm_with("install", image, &["--atomic"]);
    let refused = atomic.refused();
    assert!(refused.contains("[approvals-missing]"), "{refused}");
    assert_eq!(deployer.status(), None);
    assert_eq!(deployer.image_in("settings"), None);
    assert_eq!(deployer.image_in("before").as_ref(), Some(image));
}

fn what_a_denied_upgrade_leaves(deployer: &Deployer<'_>, ran: &Image, image: &Image) {
    let refused = deployer.helm_with("upgrade", image, &[]).refused();
    assert!(refused.contains("[approvals-missing]"), "{refused}");
    assert_eq!(deployer.status().as_deref(), Some("failed"));
    assert_eq!(deployer.image_in("settings").as_ref(), Some(image));
    assert_eq!(deployer.runs().as_ref(), Some(ran));
    let atomic = deployer.helm_with("upgrade", image, &["--atomic"]);
    let refused = atomic.refused();
    assert!(refused.contains("[approvals-missing]"), "{refused}");
    assert_eq!(deployer.status().as_deref(), Some("deployed"));
    assert_eq!(deployer.image_in("settings").as_ref(), Some(ran));
    assert_eq!(deployer.image_in("before").as_ref(), Some(image));
    assert_eq!(deployer.runs().as_ref(), Some(ran));
}

/// The script applies nothing before the approval, and everything then. Returns the revision of the release.
fn the_script_installs(deployer: &Deployer<'_>, image: &Image, approve: impl FnOnce()) -> u64 {
    let before = (
        deployer.release(),
        deployer.image_in("settings"),
        deployer.runs(),
    );
    let mut script = deployer.script(image);
    deployer.waits(&mut script);
    let meanwhile = (
        deployer.release(),
        deployer.image_in("settings"),
        deployer.runs(),
    );
    assert_eq!(meanwhile, before);
    approve();
    let status = script.wait().unwrap();
    assert!(status.success(), "{status}: {}", script.wait_with_error());
    let (status, revision) = deployer.release().unwrap();
    assert_eq!(status, "deployed");
    assert_eq!(deployer.image_in("settings").as_ref(), Some(image));
    assert_eq!(deployer.runs().as_ref(), Some(image));
    let shop = deployer.shop;
    shop.runs("web", 1);
    until("the admission was seen in the cluster", || {
        let entries = shop.record(image);
        let observed = |entry: &Value| entry["state"] == "Observed";
        entries.iter().any(observed).then_some(())
    });
    revision
}
