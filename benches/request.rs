//! What a whole HTTPS request costs the webhook's process, beside a server that does nothing but parse the same JSON and give a
//! constant answer in the same TLS and HTTP configuration. Both get the same load, and report the CPU that the system counted
//! for their process; memory is what the process holds afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on fails; it prints what it found"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, body::Bytes, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use promotion_gate::sandbox::registry::SandboxRegistryOptions;
use promotion_gate::sandbox::{
    SandboxIdentity, SandboxRegistry, SandboxSigner, Sigstore, TlsIdentity, attach_bundle,
    push_image,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

const BUILDER: &str =
    "https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v1";
const REQUESTS: usize = 4_000;
const CONNECTIONS: usize = 8;
/// Policies and namespaces of a large cluster.
const POLICIES: usize = 1_000;
const NAMESPACES: usize = 5_000;
/// Images of which the webhook hears afterwards.
const IMAGES: usize = 1_000;
/// The kernel counts CPU in these parts of a second (`USER_HZ`).
const TICKS: f64 = 100.0;

fn main() {
    if let Some(folder) = std::env::var_os("ECHO") {
        return echo(Path::new(&folder));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(compare());
}

/// The server that the webhook is compared with.
#[tokio::main]
async fn echo(folder: &Path) {
    let chain = CertificateDer::pem_file_iter(folder.join("tls.crt")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = fs::read_to_string(folder.join("echo")).unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| async {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let review: Value = serde_json::from_slice(&body).unwrap();
                let answer = json!({
                    "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                    "response": {"uid": review["request"]["uid"], "allowed": true},
                });
                let answer = Full::new(Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::new(answer))
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

async fn compare() {
    let folder = tempfile::tempdir().unwrap();
    let registry = SandboxRegistry::start(SandboxRegistryOptions {
        referrers_api: true,
    })
    .await
    .unwrap();
    let sigstore = Sigstore::create().unwrap();
    let tls = TlsIdentity::create().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("tls.crt", &tls.certificate_pem);
    write("tls.key", &tls.key_pem);
    write("root.json", &sigstore.trusted_root().to_string());
    write(
        "gate.yaml",
        "{apiVersion: promotion-gate.dev/v1alpha1, kind: GateConfiguration, trustRoots: [{name: sandbox, file: root.json}]}",
    );
    write(
        "policies.yaml",
        &format!("{}\n---\n{}\n", policy("one"), policy("two")),
    );
    let images: Vec<_> = (0..3).map(|n| image(&registry, &sigstore, n, 1)).collect();
    let (usual, bare) = (admission(&images), bare_admission(&images));

    let configuration = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
        "trustRoots": [{"name": "sandbox", "file": "root.json"}],
        "namespaces": (0..NAMESPACES).map(|n| json!({"name": format!("team-{n}"), "labels": {"team": n.to_string()}}))
            .chain([json!({"name": "shop", "labels": {"team": "shop"}})])
            .collect::<Vec<_>>(),
    });
    write("many.yaml", &configuration.to_string());
    let many = (0..POLICIES).map(|n| of_team(n).to_string());
    let many: Vec<_> = many
        .chain([policy("one").to_string(), policy("two").to_string()])
        .collect();
    write("many-policies.yaml", &many.join("\n---\n"));

    let free = |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let addresses: Vec<_> = (0..5).map(free).collect();
    let [gate, probe, echo, large, large_probe] = addresses.as_slice() else {
        return;
    };
    write("echo", echo);
    let serve = |policies: &str, configuration: &str, address: &str, probe: &str| {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        serve
            .args(["serve", "--policy", policies, "--config", configuration])
            .args(["--tls-cert", "tls.crt", "--tls-key", "tls.key"])
            .args(["--address", address, "--probe-address", probe]);
        Server::start(serve, folder.path(), address)
    };
    let mut constant = Command::new(std::env::current_exe().unwrap());
    constant.env("ECHO", folder.path());
    let large = serve("many-policies.yaml", "many.yaml", large, large_probe);
    let serve = serve("policies.yaml", "gate.yaml", gate, probe);
    let constant = Server::start(constant, folder.path(), echo);

    let authority = reqwest::Certificate::from_pem(tls.authority_pem.as_bytes()).unwrap();
    let client = || {
        let builder = reqwest::Client::builder().tls_certs_only([authority.clone()]);
        builder.build().unwrap()
    };
    let whole = Comparison {
        constant: &constant,
        serve: &serve,
        registry: &registry,
    };
    whole.run("a usual Deployment", &client, &usual).await;
    whole.run("nothing but the images", &client, &bare).await;
    println!("resident memory of promotion-gate: {}", serve.memory());
    load(&large, &client, &usual, REQUESTS).await;
    let cost = load(&large, &client, &usual, REQUESTS).await;
    println!(
        "with {POLICIES} policies and {NAMESPACES} namespaces: {cost:.3} ms of CPU per request, {}",
        large.memory()
    );
    for n in 3..3 + IMAGES {
        let image = [image(&registry, &sigstore, n, 4)];
        load(&serve, &client, &admission(&image), CONNECTIONS).await;
    }
    println!(
        "the same with {IMAGES} images of 4 statements more: {}",
        serve.memory()
    );
}

/// The two servers under the same load.
struct Comparison<'a> {
    constant: &'a Server,
    serve: &'a Server,
    registry: &'a SandboxRegistry,
}

impl Comparison<'_> {
    async fn run(&self, what: &str, client: &impl Fn() -> reqwest::Client, body: &str) {
        let servers = [self.constant, self.serve];
        for server in servers {
            load(server, client, body, REQUESTS / 4).await;
        }
        self.registry.take_requests();
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..3 {
            for (server, costs) in servers.into_iter().zip(&mut costs) {
                costs.push(load(server, client, body, REQUESTS).await);
            }
        }
        let asked = self.registry.take_requests();
        assert!(asked.is_empty(), "the reviews were warm");
        let [constant, gate] = costs.map(|mut costs| {
            costs.sort_by(f64::total_cmp);
            costs
        });
        println!(
            "{what}, {} bytes: CPU per request, milliseconds, of three runs of {REQUESTS} requests, in order",
            body.len()
        );
        println!("  constant answer: {constant:.3?}");
        println!("  promotion-gate:  {gate:.3?}");
        println!("  ratio of the middle ones: {:.2}", gate[1] / constant[1]);
    }
}

fn policy(name: &str) -> Value {
    let signer = json!({"keyless": {"issuer": "https://issuer.example", "identity": BUILDER, "trustRoots": ["sandbox"]}});
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": name},
        "spec": {"requirements": [
            {"digestPinned": {}},
            {"allowedImages": {"patterns": ["127.0.0.1:*/**"]}},
            {"signature": {"anyOf": [signer]}},
            {"provenance": {"builders": [{"id": BUILDER, "signedBy": signer}], "anySource": true}},
        ]},
    })
}

/// A policy for the namespaces of one team.
fn of_team(n: usize) -> Value {
    let mut policy = policy(&format!("team-{n}"));
    policy["spec"]["match"] =
        json!({"namespaces": {"selector": {"matchLabels": {"team": n.to_string()}}}});
    policy
}

/// An image with a signature and provenances.
fn image(registry: &SandboxRegistry, sigstore: &Sigstore, n: usize, provenances: usize) -> Value {
    let identity = SandboxIdentity::new(BUILDER, "https://issuer.example");
    let signer = SandboxSigner::Identity(&identity);
    let digest = push_image(registry, "app", &format!("v{n}"), &n.to_string()).unwrap();
    let signing = sigstore.signing();
    let signature = signing.sign(signer, &digest, &BTreeMap::new()).unwrap();
    attach_bundle(registry, "app", &digest, &signature).unwrap();
    for build in 0..provenances {
        let predicate = json!({
            "buildDefinition": {
                "buildType": "https://example.com/build/v1",
                "externalParameters": {"build": build},
            },
            "runDetails": {"builder": {"id": BUILDER}},
        });
        let kind = "https://slsa.dev/provenance/v1";
        let signing = sigstore.signing();
        let provenance = signing.attest(signer, &digest, kind, &predicate).unwrap();
        attach_bundle(registry, "app", &digest, &provenance).unwrap();
    }
    json!({"name": format!("c{n}"), "image": format!("{}/app@{digest}", registry.host())})
}

/// A Deployment as `kubectl apply` sends it and the API server asks about it: defaults filled in, managed fields, some 8 KB.
fn admission(images: &[Value]) -> String {
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "initialDelaySeconds": 5, "timeoutSeconds": 1,
               "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    };
    let labels = json!({"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "kubectl"});
    let containers: Vec<Value> = images
        .iter()
        .map(|image| {
            let mut container = json!({
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "env": (0..6).map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value of setting {n}")})).collect::<Vec<_>>(),
                "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "config", "mountPath": "/etc/app", "readOnly": true}],
                "livenessProbe": probe("/livez"), "readinessProbe": probe("/readyz"),
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true, "runAsNonRoot": true},
            });
            container.as_object_mut().unwrap().extend(image.as_object().unwrap().clone());
            container
        })
        .collect();
    let managed: serde_json::Map<_, _> = images
        .iter()
        .map(|image| {
            let fields = [
                "image",
                "env",
                "ports",
                "resources",
                "volumeMounts",
                "livenessProbe",
                "readinessProbe",
                "securityContext",
            ];
            let fields: serde_json::Map<_, _> = fields
                .iter()
                .map(|field| (format!("f:{field}"), json!({})))
                .collect();
            (
                format!("k:{{\"name\":{}}}", image["name"]),
                Value::Object(fields),
            )
        })
        .collect();
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "labels": labels, "uid": "0f4a2b9e-9a7d-4b8d-8a7c-0a4c3b1c2d3e", "generation": 1,
            "creationTimestamp": "2026-11-24T12:00:00Z", "annotations": {"example.com/owner": "team-shop"},
            "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "apps/v1",
                "time": "2026-11-24T12:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": managed}}}}}],
        },
        "spec": {
            "replicas": 3, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app.kubernetes.io/name": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "template": {"metadata": {"labels": labels}, "spec": {
                "containers": containers, "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                "serviceAccountName": "web", "schedulerName": "default-scheduler", "securityContext": {"runAsUser": 65532, "fsGroup": 65532},
                "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "config", "configMap": {"name": "web", "defaultMode": 420}}],
            }},
        },
        "status": {},
    });
    asked(&object)
}

/// A Deployment with nothing but its images.
fn bare_admission(images: &[Value]) -> String {
    asked(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": images}}},
    }))
}

fn asked(object: &Value) -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "6f8b1a52-8a52-4d4e-b5d2-1b2f8f1f0f35",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "requestKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "requestResource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": "web", "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:argocd:argocd-application-controller", "uid": "7c9f",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:argocd", "system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-client-side-apply"},
        },
    })
    .to_string()
}

/// Sends the same review over and over; the CPU that the server took for each, in milliseconds.
async fn load(
    server: &Server,
    client: &impl Fn() -> reqwest::Client,
    body: &str,
    requests: usize,
) -> f64 {
    let before = server.cpu();
    let workers = (0..CONNECTIONS).map(|_| {
        let client = client();
        async move {
            for _ in 0..requests / CONNECTIONS {
                let request = client.post(format!("https://{}/validate", server.address));
                let request = request.header("content-type", "application/json");
                let answer = request.body(body.to_owned()).send().await.unwrap();
                let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                assert_eq!(answer["response"]["allowed"], true, "{answer}");
            }
        }
    });
    futures::future::join_all(workers).await;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let requests = requests as f64;
    (server.cpu() - before) * 1000.0 / requests
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(mut command: Command, folder: &Path, address: &str) -> Server {
        let log = fs::File::create(folder.join(format!("{address}.log"))).unwrap();
        let process = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "{address} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server {
            process,
            address: address.to_owned(),
        }
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }

    /// Seconds of CPU so far (proc(5), `utime` and `stime`).
    fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / TICKS
    }

    fn memory(&self) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
