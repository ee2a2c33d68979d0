//! Argo CD's real controller, and what `docs/deployers.md` and `docs/wait.md` say of it: what a denial leaves, when it tries again, and
//! the PreSync Job that waits. Nodes do not run containers here: the test runs the arguments of the Job, and reports how they ended.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scenario;
use crate::harness::{ArgoCd, Cluster, Image, Person, Scenario, Shop, shipped};
use crate::support::{run, until as until_at_once};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ENVIRONMENT: &str = "argo-cd";
const CONTROLLER: &str = "system:serviceaccount:argocd:argocd-application-controller";
const WAITING: &str = "promotion-gate-wait";
/// Between two looks, each of which starts a program: what Argo CD does takes seconds.
const PAUSE: Duration = Duration::from_millis(400);

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        20,
        "Argo CD leaves half a version when it is denied and tries again as set; its Job waits before anything is applied; in a freeze it heals and prunes",
        argo_cd_goes_on_when_it_may,
    )]
}

/// An Application of Argo CD, and the Git repository that it follows.
struct Application<'a> {
    shop: &'a Shop<'a>,
    argo: ArgoCd,
    repository: TempDir,
}

impl<'a> Application<'a> {
    fn new(shop: &'a Shop<'a>) -> Application<'a> {
        let application = Application {
            shop,
            argo: ArgoCd::start(&shop.cluster.plane),
            repository: TempDir::new().unwrap(),
        };
        application.git(&["init", "-q", "-b", "main"]);
        application
    }

    fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args([
            "-c",
            "user.name=alice",
            "-c",
            "user.email=alice@example.com",
        ])
        .args(args)
        .current_dir(&self.repository)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", self.repository.path());
        run(&mut git, b"").ok()
    }

    /// A commit, of which Argo CD is told, as by a webhook of the Git server.
    fn release(&self, image: &Image, more: &[Value]) {
        self.commit(image, more);
        self.refresh();
    }

    /// A commit whose manifests run this image, with more objects.
    fn commit(&self, image: &Image, more: &[Value]) {
        let deploy = self.repository.path().join("deploy");
        if deploy.exists() {
            fs::remove_dir_all(&deploy).unwrap();
        }
        fs::create_dir(&deploy).unwrap();
        let mut objects = vec![
            self.config_map("settings", image),
            self.shop.deployment("web", image, 1),
        ];
        objects.extend_from_slice(more);
        for (number, object) in objects.iter().enumerate() {
            fs::write(deploy.join(format!("{number}.yaml")), object.to_string()).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "-m", "Release"]);
    }

    fn config_map(&self, name: &str, image: &Image) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.shop.name},
            "data": {"image": image},
        })
    }

    /// A ConfigMap of the wave after the Deployment.
    fn after(&self, image: &Image) -> Value {
        let mut after = self.config_map("after", image);
        after["metadata"]["annotations"] = json!({"argocd.argoproj.io/sync-wave": "1"});
        after
    }

    /// The Job as it is shipped, with the values of this application. The test ends its Pod.
    fn job(&self, gate: &Image, image: &Image) -> Value {
        let mut job = shipped("deploy/argo-cd/presync-job.yaml").remove(0);
        let template = &mut job["spec"]["template"];
        template["metadata"] = json!({"annotations": {"takes": "1h"}});
        let container = &mut template["spec"]["containers"][0];
        container["image"] = json!(gate);
        for arg in container["args"].as_array_mut().unwrap() {
            let value = match arg.as_str().unwrap().split('=').next().unwrap() {
                "--environment" => format!("--environment={ENVIRONMENT}"),
                "--namespace" => format!("--namespace={}", self.shop.name),
                "--workload" => "--workload=Deployment/web".to_owned(),
                "--timeout" => "--timeout=5s".to_owned(),
                name if name.contains("@sha256:") => image.clone(),
                _ => continue,
            };
            *arg = json!(value);
        }
        job
    }

    /// The Application as it is shipped, with another `syncPolicy`.
    fn follow(&self, policy: &Value) {
        let mut application = shipped("deploy/argo-cd/application.yaml").remove(0);
        let spec = &mut application["spec"];
        spec["source"]["repoURL"] = json!(format!("file://{}", self.repository.path().display()));
        spec["destination"]["namespace"] = json!(self.shop.name);
        spec["syncPolicy"] = policy.clone();
        let replace = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let plane = &self.shop.cluster.plane;
        let application = application.to_string();
        plane
            .kubectl_by(Person::Admin.token(), replace, &application)
            .ok();
    }

    /// Argo CD compares again, and decides whether it syncs.
    fn refresh(&self) {
        let refresh = "argocd.argoproj.io/refresh=normal";
        let of = ["application", "payments", "-n", "argocd"];
        let annotate = ["annotate"].into_iter().chain(of);
        let annotate = annotate.chain([refresh, "--overwrite"]);
        self.shop.cluster.kubectl(Person::Admin, annotate).ok();
        until("Argo CD has compared", || {
            let found = self.shop.cluster.get(of);
            let asked = found.pointer("/metadata/annotations/argocd.argoproj.io~1refresh");
            asked.is_none().then_some(())
        });
    }

    fn status(&self) -> Value {
        let get = ["application", "payments", "-n", "argocd"];
        self.shop.cluster.get(get)["status"].clone()
    }

    /// A condition of the Application says this.
    #[track_caller]
    fn complains(&self, text: &str) {
        let conditions = self.status()["conditions"].to_string();
        assert!(conditions.contains(text), "{conditions}");
    }

    /// Waits until the state of the last operation is as expected, and returns it.
    fn until_operation(&self, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the operation of Argo CD: {what}"), || {
            let operation = self.status()["operationState"].clone();
            expected(&operation).then_some(operation)
        })
    }

    /// Waits until this reason was given, and Argo CD tries again for the nth time.
    fn is_denied(&self, reason: &str, retry: u64) -> Value {
        self.until_operation(&format!("{reason}, retry {retry}"), |operation| {
            said(operation).contains(reason) && operation["retryCount"].as_u64() >= Some(retry)
        })
    }

    /// Waits until the head of the repository was synced, and returns the operation.
    fn is_synced(&self) -> Value {
        let head = self.git(&["rev-parse", "HEAD"]);
        self.until_operation("the head is synced", |operation| {
            operation["phase"] == "Succeeded" && operation["syncResult"]["revision"] == head
        })
    }

    fn terminate(&self) {
        self.argo.run("argocd app terminate-op payments").ok();
        self.until_operation("ended", |operation| operation["phase"] == "Failed");
    }

    /// The ConfigMap, the Deployment and the ConfigMap of the next wave name these images.
    #[track_caller]
    fn has_applied(&self, expected: [Option<&Image>; 3]) {
        let web = "jsonpath={.spec.template.spec.containers[0].image}";
        let settings = "jsonpath={.data.image}";
        let applied = [
            ("configmap", "settings", settings),
            ("deployment", "web", web),
            ("configmap", "after", settings),
        ]
        .map(|(kind, name, path)| {
            let get = ["get", kind, name, "-o", path];
            let found = self.shop.kubectl(Person::Admin, get);
            found.is_ok().then_some(found.stdout)
        });
        assert_eq!(applied.each_ref().map(Option::as_ref), expected);
    }

    /// How many requests of Argo CD were denied.
    fn denials(&self) -> u64 {
        let decisions = self.shop.decisions().into_iter();
        let denied =
            decisions.filter(|line| line["user"] == CONTROLLER && line["admitted"] == false);
        denied.count() as u64
    }

    /// Each failed attempt of an operation was denied at most once. Before it there were so many denials.
    #[track_caller]
    fn asked_once_for_each_attempt(&self, operation: &Value, before: u64) {
        let denied = self.denials() - before;
        let failed = operation["retryCount"].as_u64();
        assert!(Some(denied) <= failed, "{denied} denials: {operation}");
    }

    /// Waits for the Pod of the Job, runs its container, and reports to the cluster how it ended.
    fn node_runs_the_job(&self) -> (Option<i32>, String) {
        let cluster = self.shop.cluster;
        let pod = until("the Pod of the Job runs", || {
            let pods = cluster.get(["pods", "-n", WAITING, "-l", "job-name=wait-payments"]);
            let mut pods = pods["items"].as_array().unwrap().iter();
            let running = pods.find(|pod| {
                pod["status"]["phase"] == "Running"
                    && pod["metadata"]["deletionTimestamp"].is_null()
            });
            running.cloned()
        });
        let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        let configuration = cluster.gates.gate.path("gate.yaml");
        let mut wait = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        wait.args(args.iter().map(|arg| arg.as_str().unwrap()))
            .args(["--interval=1", "--config"])
            .arg(configuration)
            .env("KUBECONFIG", self.kubeconfig_of_the_job());
        let ran = run(&mut wait, b"");
        let phase = if ran.is_ok() { "Succeeded" } else { "Failed" };
        let ended = json!({"exitCode": ran.code, "reason": "Completed"});
        let status = json!({"status": {
            "phase": phase,
            "containerStatuses": [{
                "name": "wait", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": ended},
            }],
        }});
        let (name, status) = (
            pod["metadata"]["name"].as_str().unwrap(),
            status.to_string(),
        );
        let patch = ["patch", "pod", name, "-n", WAITING, "--subresource=status"];
        let patch = patch.into_iter().chain(["--type=merge", "-p", &status]);
        cluster.kubectl(Person::Admin, patch).ok();
        (ran.code, ran.stdout)
    }

    fn kubeconfig_of_the_job(&self) -> PathBuf {
        let plane = &self.shop.cluster.plane;
        plane.kubeconfig_of(WAITING, WAITING)
    }

    fn the_job_exists(&self) -> bool {
        let get = ["get", "job", "wait-payments", "-n", WAITING];
        self.shop.cluster.kubectl(Person::Admin, get).is_ok()
    }
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    until_at_once(what, || {
        let found = probe();
        if found.is_none() {
            sleep(PAUSE);
        }
        found
    })
}

fn said(operation: &Value) -> &str {
    operation["message"].as_str().unwrap_or_default()
}

/// The `syncPolicy` that is shipped, with less time between the attempts.
fn shipped_policy(automated: &Value) -> Value {
    let application = shipped("deploy/argo-cd/application.yaml").remove(0);
    let mut policy = application["spec"]["syncPolicy"].clone();
    policy["retry"]["backoff"] = json!({"duration": "2s", "factor": 1});
    policy["automated"] = automated.clone();
    policy
}

/// The namespace of the Jobs, with the policy that is shipped but for the gate's image.
fn let_jobs_wait(shop: &Shop<'_>, gate: &Image) {
    let cluster = shop.cluster;
    let file = format!("{ROOT}/deploy/argo-cd/wait.yaml");
    cluster.kubectl(Person::Admin, ["apply", "-f", &file]).ok();
    let mut policy = shipped("deploy/argo-cd/policy.yaml").remove(0);
    let (repository, _) = gate.split_once('@').unwrap();
    policy["spec"]["requirements"][1]["allowedImages"]["patterns"] = json!([repository]);
    shop.apply(Person::Grace, &policy).ok();
}

fn argo_cd_goes_on_when_it_may(cluster: &Cluster) {
    let shop = Shop::ungoverned(cluster, "argo-cd");
    shop.govern_with_approvals(ENVIRONMENT);
    let gate = shop.unsigned("gate");
    let_jobs_wait(&shop, &gate);
    let application = Application::new(&shop);
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let images = ["one", "two", "three", "four", "five"].map(|name| shop.push_signed(name));
    let [first, second, third, fourth, fifth] = [0, 1, 2, 3, 4].map(|at| images[at].by_digest());
    let approve = |at: usize| shop.approve(&images[at], ENVIRONMENT, later);

    without_retry_a_denial_is_the_end(&application, &first, || approve(0));
    with_the_shipped_settings_it_goes_on(&application, [&first, &second, &third], || approve(1));
    in_a_freeze_it_heals_and_prunes(&application, &second);
    approve(2);
    the_job_gates_the_sync(&application, &gate, [&second, &third]);
    without_hooks_the_webhook_decides(&application, &gate, &fourth, || approve(3));
    with_server_side_diff_a_denial_is_not_shown(&application, [&fourth, &fifth], || approve(4));
    shop.upkeep_was_never_denied_beside(CONTROLLER);
}

fn without_retry_a_denial_is_the_end(
    application: &Application<'_>,
    image: &Image,
    approve: impl FnOnce(),
) {
    application.commit(image, &[application.after(image)]);
    let unlimited = json!({"backoff": {"duration": "1s"}});
    application.follow(&json!({"automated": {}, "retry": unlimited}));
    application.until_operation("it is not tried again", |operation| {
        operation["phase"] == "Failed" && said(operation).contains("[approvals-missing]")
    });
    application.follow(&json!({"automated": {}}));
    application.git(&["commit", "-q", "--allow-empty", "-m", "Again"]);
    application.refresh();
    let operation = application.is_denied("[approvals-missing]", 1);
    assert_eq!(operation["operation"]["retry"], json!({"limit": 5}));
    // The wave of the Deployment is applied in part, and the next one is not begun.
    application.has_applied([Some(image), None, None]);
    application.terminate();
    approve();
    application.refresh();
    application.complains("Failed last sync attempt");
    application.has_applied([Some(image), None, None]);
    application.argo.run("argocd app sync payments").ok();
    application.is_synced();
    application.has_applied([Some(image); 3]);
    application.shop.runs("web", 1);
}

fn with_the_shipped_settings_it_goes_on(
    application: &Application<'_>,
    [first, second, third]: [&Image; 3],
    approve: impl FnOnce(),
) {
    application.follow(&shipped_policy(&json!({})));
    let before = application.denials();
    application.release(second, &[application.after(second)]);
    application.is_denied("[approvals-missing]", 2);
    application.has_applied([Some(second), Some(first), Some(first)]);
    approve();
    let operation = application.is_synced();
    application.asked_once_for_each_attempt(&operation, before);
    // A newer commit takes the place of one that is denied.
    application.release(third, &[application.after(third)]);
    application.is_denied("[approvals-missing]", 1);
    application.release(second, &[application.after(second)]);
    application.is_synced();
    application.shop.runs("web", 1);
}

fn in_a_freeze_it_heals_and_prunes(application: &Application<'_>, image: &Image) {
    let shop = application.shop;
    let heal = json!({"selfHeal": true, "prune": true});
    application.follow(&shipped_policy(&heal));
    shop.freeze(ENVIRONMENT);
    application.release(image, &[]);
    application.is_synced();
    application.has_applied([Some(image), Some(image), None]);
    shop.kubectl(Person::Admin, ["scale", "deployment/web", "--replicas=2"])
        .ok();
    until("Argo CD has healed the replicas", || {
        let web = shop.get(&["deployment", "web"]);
        (web["spec"]["replicas"] == 1).then_some(())
    });
    shop.replaces_pods("web", 1, "in a freeze");
    // What somebody deletes comes back after the freeze, and each attempt asks once.
    let before = application.denials();
    shop.kubectl(Person::Admin, ["delete", "deployment", "web"])
        .ok();
    application.is_denied("[frozen]", 1);
    shop.lift_freeze();
    shop.runs("web", 1);
    let operation = application.is_synced();
    application.asked_once_for_each_attempt(&operation, before);
}

fn the_job_gates_the_sync(
    application: &Application<'_>,
    gate: &Image,
    [second, third]: [&Image; 2],
) {
    let shop = application.shop;
    shop.freeze(ENVIRONMENT);
    application.release(third, &[application.job(gate, third)]);
    let (code, said) = application.node_runs_the_job();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("is frozen by"), "{said}");
    application.until_operation("the Job failed", |operation| {
        operation["retryCount"].as_u64() >= Some(1)
    });
    application.has_applied([Some(second), Some(second), None]);
    shop.lift_freeze();
    until("the Job ends with 0", || {
        let (code, _) = application.node_runs_the_job();
        (code == Some(0)).then_some(())
    });
    application.is_synced();
    application.has_applied([Some(third), Some(third), None]);
}

fn without_hooks_the_webhook_decides(
    application: &Application<'_>,
    gate: &Image,
    image: &Image,
    approve: impl FnOnce(),
) {
    application.release(image, &[application.job(gate, image)]);
    application.until_operation("it waits for the Job", |operation| {
        said(operation).contains("wait-payments")
    });
    let sync = "argocd app sync payments --strategy apply";
    let refused = application.argo.run(sync).refused();
    assert!(
        refused.contains("another operation is already in progress"),
        "{refused}"
    );
    application.terminate();
    until("the Job is deleted", || {
        (!application.the_job_exists()).then_some(())
    });
    application.argo.run(&format!("{sync} --async")).ok();
    application.is_denied("[approvals-missing]", 1);
    approve();
    application.is_synced();
    assert!(!application.the_job_exists());
    application.has_applied([Some(image), Some(image), None]);
}

fn with_server_side_diff_a_denial_is_not_shown(
    application: &Application<'_>,
    [ran, image]: [&Image; 2],
    approve: impl FnOnce(),
) {
    let option = "argocd.argoproj.io/compare-options=ServerSideDiff=true";
    let annotate = ["annotate", "application", "payments", "-n", "argocd"];
    let annotate = annotate.into_iter().chain([option, "--overwrite"]);
    let cluster = application.shop.cluster;
    cluster.kubectl(Person::Admin, annotate).ok();
    let before = application.denials();
    application.release(image, &[]);
    let head = application.git(&["rev-parse", "HEAD"]);
    until("the denied version is shown as synced", || {
        let sync = application.status()["sync"].clone();
        (sync["status"] == "Synced" && sync["revision"] == head).then_some(())
    });
    application.has_applied([Some(ran), Some(ran), None]);
    approve();
    // Comparing again at intervals does not ask again.
    let compared = application.status()["reconciledAt"].clone();
    until("Argo CD compares again", || {
        (application.status()["reconciledAt"] != compared).then_some(())
    });
    application.has_applied([Some(ran), Some(ran), None]);
    let refresh = "argocd app get payments --refresh";
    application.argo.run(refresh).ok();
    application.is_synced();
    application.has_applied([Some(image), Some(image), None]);
    // Only dry runs were denied.
    assert_eq!(application.denials(), before);
}
