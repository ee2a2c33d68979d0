//! The promotion chain: what ran in staging is let into production, on the word of staging's verifier alone.

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::documents;
use serde_json::{Value, json};

use super::scenario;
use crate::harness::{Cluster, NAMESPACE, Person, Scenario, Shop, pod, shipped};
use crate::support::{ControlPlane, Gate, LocalSigstore, Ran, Serving, Tagged, User, until};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/promotion-chain.md");
/// The namespace that the page attests.
const OF_PAGE: &str = "stage-shop";
/// The service account of the page, and its CronJob.
const ACCOUNT: &str = "staging-verifier";
/// The extension field of summaries.
const RUNNING_SINCE: &str = "https://promotion-gate.dev/running-since";

pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(
        19,
        "what ran in staging is let into production once staging's service account has attested it; what another account, a pipeline or another cluster attests is not",
        staging_lets_into_production,
    )]
}

fn staging_lets_into_production(cluster: &Cluster) {
    let plane = &cluster.plane;
    let staging = Shop::open_with(
        cluster,
        "stage-chain",
        &[],
        &json!({"environment": "staging"}),
    );
    let verifier = Verifier::install(plane, &cluster.sigstore, &staging.name);
    let production = Shop::ungoverned(cluster, "prod-chain");
    let image = staging.push_signed("web").by_digest();
    let deploy = |shop: &Shop<'_>, image: &String| {
        shop.apply(Person::Alice, &shop.deployment("web", image, 1))
    };
    let requires = |issuer: &str, more: Value| {
        let requirements = vec![json!({"digestPinned": {}}), ran_in_staging(issuer, more)];
        production.govern_by(requirements, &json!({"environment": "production"}));
    };
    let refused = |saying: &[&str], image: &String| {
        let refusal = deploy(&production, image).refused();
        for saying in saying {
            assert!(refusal.contains(saying), "expected {saying}: {refusal}");
        }
    };

    // 1. Nothing runs yet, and nothing is attested.
    requires(&plane.issuer(), json!({}));
    refused(&["[no-verification-summary]"], &image);
    verifier.attest().failed(2, "nothing was signed");

    // 2. It runs in staging. Its controllers bring the gate to see it.
    deploy(&staging, &image).ok();
    staging.runs("web", 1);
    let observed: Timestamp = until("the entry is observed", || {
        let entries = staging.record(&image);
        let at = entries
            .iter()
            .find_map(|entry| entry["observedAt"].as_str());
        at.map(|at| at.parse().unwrap())
    });
    let dry = verifier.run(&["--dry-run"]).ok();
    let statement: Value = serde_json::from_str(dry.lines().last().unwrap()).unwrap();
    let since: Timestamp =
        serde_json::from_value(statement["predicate"][RUNNING_SINCE].clone()).unwrap();
    assert!(since >= observed, "{since} {observed}");

    // 3. No certificate is issued to a token whose keys Fulcio may not read, nor to one that was made for something else.
    let unknown = format!("is by `{}` for the audience `sigstore`", plane.issuer());
    let ran = verifier.attest();
    assert!(ran.stderr.contains(&unknown), "{ran}");
    ran.failed(1, "has to be configured for this issuer, and to reach it");
    verifier.publish_keys();
    let of_vault = token(plane, NAMESPACE, ACCOUNT, &["--audience=vault"]);
    let ran = verifier.attest_with(&of_vault);
    ran.failed(
        1,
        "for the audience `vault`: an authority normally asks for",
    );
    refused(&["[no-verification-summary]"], &image);

    // 4. An account of the same name that the users of a namespace made, and a pipeline, attest it in the words of the verifier.
    staging
        .kubectl(Person::Bob, ["create", "serviceaccount", ACCOUNT])
        .ok();
    let of_users = token(plane, &staging.name, ACCOUNT, &["--audience=sigstore"]);
    let pipeline = "pipeline@example.com";
    for (token, signer) in [
        (of_users, identity(&staging.name)),
        (cluster.sigstore.issuer.token(pipeline), pipeline.to_owned()),
    ] {
        verifier.attest_with(&token).ok();
        refused(&["[verifier-not-accepted]", &signer], &image);
    }

    // 5. The verifier attests it after it has run for some seconds, which may be enough or not.
    until("it has run for some seconds", || {
        let run_for = Timestamp::now().duration_since(since);
        (run_for > SignedDuration::from_secs(3)).then_some(())
    });
    verifier.attest().ok();
    refused(&["[not-run-long-enough]"], &image);
    requires(&plane.issuer(), json!({"minimumAge": "2s"}));
    deploy(&production, &image).ok();
    production.runs("web", 1);

    // 6. An image that ran in another cluster alone: attested there by the account of the same name and namespace, and by staging's.
    let elsewhere = Elsewhere::start(&cluster.sigstore, &staging.name);
    let there = Verifier::install(&elsewhere.plane, &cluster.sigstore, &staging.name);
    there.publish_keys();
    let other = staging.push_signed("other");
    elsewhere.runs(&staging, &other);
    let (there_alone, other) = (elsewhere.plane.issuer(), other.by_digest());
    requires(&plane.issuer(), json!({"minimumAge": null}));
    there.attest().ok();
    let signer = identity(NAMESPACE);
    refused(&["[verifier-not-accepted]", &signer, &there_alone], &other);
    there.attest_with(&verifier.token()).ok();
    refused(&["[other-environment]"], &other);
    // Nothing but the issuer and the name of the cluster kept it out.
    let of_there = json!({"minimumAge": null, "clusters": ["other"]});
    requires(&there_alone, of_there);
    deploy(&production, &other).ok();
    for shop in [&staging, &production] {
        shop.upkeep_was_never_denied();
    }
}

/// The requirement of the shipped policies of production. They say where the issuer of staging's cluster goes.
fn ran_in_staging(issuer: &str, more: Value) -> Value {
    let policies = shipped("policies/production/applications.yaml");
    let mut requirements = policies
        .iter()
        .flat_map(|policy| policy["spec"]["requirements"].as_array().unwrap());
    let named = requirements.find(|it| it["name"] == "ran-in-staging");
    let mut requirement = named.unwrap().clone();
    let rule = &mut requirement["verificationSummary"];
    rule["clusters"] = json!(["test"]);
    let keyless = &mut rule["verifiers"][0]["signedBy"]["keyless"];
    keyless["issuer"] = json!(issuer);
    keyless["trustRoots"] = json!(["local"]);
    let rule = rule.as_object_mut().unwrap();
    rule.extend(more.as_object().unwrap().clone());
    rule.retain(|_, value| !value.is_null());
    requirement
}

/// The name in the certificate of the verifier's account, if it is in this namespace.
fn identity(namespace: &str) -> String {
    format!("https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{ACCOUNT}")
}

/// A token that the API server signs.
fn token(plane: &ControlPlane, namespace: &str, account: &str, more: &[&str]) -> String {
    let create = ["create", "token", account, "--namespace", namespace];
    plane.kubectl(create.iter().chain(more).copied()).ok()
}

/// The container of the page's CronJob in a cluster, as a process of this machine, with its files in a folder.
struct Verifier<'a> {
    plane: &'a ControlPlane,
    folder: Gate,
    arguments: Vec<String>,
    projected: Projected,
}

/// A token that the kubelet writes into a file.
struct Projected {
    file: PathBuf,
    audience: String,
    seconds: u64,
}

impl<'a> Verifier<'a> {
    /// Creates what the page says, and a Pod like those of its CronJob.
    fn install(plane: &'a ControlPlane, sigstore: &LocalSigstore, namespace: &str) -> Verifier<'a> {
        let bob = |object: &Value, how: &[&str]| {
            let apply = ["apply", "-f", "-"].iter().chain(how).copied();
            let token = Person::Bob.token();
            plane.kubectl_by(token, apply, &object.to_string()).ok();
        };
        let mut pods = Vec::new();
        for object in of_page("kind: CronJob", namespace) {
            if object["kind"] == "CronJob" {
                bob(&object, &["--dry-run=server"]);
                pods.push(object["spec"]["jobTemplate"]["spec"]["template"]["spec"].clone());
            } else {
                bob(&object, &[]);
            }
        }
        let spec = pods.pop().unwrap();
        let metadata = json!({"name": ACCOUNT, "namespace": NAMESPACE});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        bob(&pod, &[]);

        let folder = Gate::new(sigstore);
        fs::copy(sigstore.signing_config(), folder.path("signing.json")).unwrap();
        let container = &spec["containers"][0];
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = |volume: &Value| {
            let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]);
            let path = mount.unwrap()["mountPath"].as_str().unwrap();
            let mounted = folder.path(path.strip_prefix('/').unwrap());
            fs::create_dir_all(&mounted).unwrap();
            mounted
        };
        let mut projected = None;
        for volume in spec["volumes"].as_array().unwrap() {
            let mounted = mount(volume);
            if !volume["configMap"].is_null() {
                for file in ["gate.yaml", "local.json"] {
                    fs::copy(folder.path(file), mounted.join(file)).unwrap();
                }
            }
            let source = &volume["projected"]["sources"][0]["serviceAccountToken"];
            if let Some(path) = source["path"].as_str() {
                projected = Some(Projected {
                    file: mounted.join(path),
                    audience: source["audience"].as_str().unwrap().to_owned(),
                    seconds: source["expirationSeconds"].as_u64().unwrap(),
                });
            }
        }
        let here = folder.path("").display().to_string();
        let given = container["args"].as_array().unwrap().iter();
        let given = given.map(|it| it.as_str().unwrap().replace("=/", &format!("={here}")));
        let kubeconfig = plane.kubeconfig_of(NAMESPACE, ACCOUNT);
        // Within a Pod, the cluster needs no name. A private Sigstore does.
        let more = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "--signing-config=signing.json".to_owned(),
            "--trust-root=local.json".to_owned(),
        ];
        Verifier {
            plane,
            arguments: given.chain(more).collect(),
            folder,
            projected: projected.unwrap(),
        }
    }

    /// Lets Fulcio read the keys of the cluster's issuer, as the page says.
    fn publish_keys(&self) {
        for object in of_page(
            "kind: ClusterRole, name: system:service-account-issuer-discovery",
            "",
        ) {
            let apply = ["apply", "-f", "-"];
            let token = Person::Bob.token();
            self.plane
                .kubectl_by(token, apply, &object.to_string())
                .ok();
        }
        let keys = ["get", "--raw=/openid/v1/jwks", "--as=system:anonymous"];
        until("everybody may read the keys", || {
            let asked = self.plane.kubectl(keys);
            asked.is_ok().then_some(())
        });
    }

    /// The token that the kubelet gives to the Pod.
    fn token(&self) -> String {
        let Projected {
            audience, seconds, ..
        } = &self.projected;
        let request = [
            &*format!("--audience={audience}"),
            &format!("--duration={seconds}s"),
            "--bound-object-kind=Pod",
            &format!("--bound-object-name={ACCOUNT}"),
        ];
        token(self.plane, NAMESPACE, ACCOUNT, &request)
    }

    fn attest(&self) -> Ran {
        self.attest_with(&self.token())
    }

    /// The same with another token in the file.
    fn attest_with(&self, token: &str) -> Ran {
        fs::write(&self.projected.file, token).unwrap();
        self.run(&[])
    }

    fn run(&self, more: &[&str]) -> Ran {
        let arguments = self.arguments.iter().map(String::as_str);
        let all: Vec<_> = arguments.chain(more.iter().copied()).collect();
        self.folder.run(&all, "")
    }
}

/// The documents of the block of the page that says this, for a namespace.
fn of_page(saying: &str, namespace: &str) -> Vec<Value> {
    let page = fs::read_to_string(PAGE).unwrap();
    let blocks = page.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains(saying)).unwrap();
    let block = block.replace(OF_PAGE, namespace);
    let (documents, problems) = documents::read(PAGE, block.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    documents.into_iter().map(|it| it.value).collect()
}

/// Another cluster, with a gate of its own and a namespace of the same name.
struct Elsewhere {
    plane: ControlPlane,
    _gate: Gate,
    serving: Serving,
}

impl Elsewhere {
    fn start(sigstore: &LocalSigstore, namespace: &str) -> Elsewhere {
        let plane = ControlPlane::start();
        plane.create_namespace(NAMESPACE);
        plane.create_namespace(namespace);
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        let gate = Gate::new(sigstore);
        let serving = gate.serve_cluster(&plane.kubeconfig_of_gate(), &[]);
        serving.is_ready();
        let elsewhere = Elsewhere {
            plane,
            _gate: gate,
            serving,
        };
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy",
            "metadata": {"name": "staging"},
            "spec": {
                "environment": "staging", "match": {"namespaces": {"names": [namespace]}},
                "requirements": [{"allowedImages": {"patterns": ["127.0.0.1:*/**"]}}],
            },
        });
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "metadata": {"name": "promotion-gate"}, "spec": {"cluster": "other"},
        });
        let roles = shipped("deploy/manifests/rbac.yaml");
        for object in roles.into_iter().chain([policy, configuration]) {
            let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
            elsewhere
                .plane
                .kubectl_as(User::Admin, apply, &object.to_string())
                .ok();
        }
        elsewhere.plane.register(&elsewhere.serving);
        let apply = ["create", "--dry-run=server", "-f", "-"];
        let unwanted = pod(namespace, "probe", "registry.example/probe:1").to_string();
        until("the gate of the other cluster judges", || {
            let ran = elsewhere.plane.kubectl_as(User::Admin, apply, &unwanted);
            (!ran.is_ok()).then_some(())
        });
        elsewhere.plane.start_controllers();
        elsewhere.plane.complete(1);
        elsewhere
    }

    /// Deploys an image there, and waits until it runs and the gate has seen it.
    fn runs(&self, shop: &Shop<'_>, image: &Tagged) {
        let apply = ["apply", "-f", "-"];
        let named = shop.deployment("web", &image.by_digest(), 1).to_string();
        self.plane.kubectl_as(User::Admin, apply, &named).ok();
        let name = image.digest.replace(':', "-");
        let record = [
            "releaserecord",
            &name,
            "-o=jsonpath={.spec.entries.*.observedAt}",
        ];
        let ready = ["deployment", "web", "-o=jsonpath={.status.readyReplicas}"];
        for shown in [record, ready] {
            until(&format!("the other cluster shows {shown:?}"), || {
                let get = ["get", "-n", &shop.name].into_iter().chain(shown);
                let found = self.plane.kubectl(get);
                (found.is_ok() && !found.stdout.is_empty()).then_some(())
            });
        }
    }
}
