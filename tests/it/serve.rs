//! The webhook as the API server meets it.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use promotion_gate::admission::Audited;
use promotion_gate::collect::{CacheSizes, CollectLimits, Collector};
use promotion_gate::config::Config;
use promotion_gate::oci::Client;
use promotion_gate::sandbox::{SandboxRegistry, TlsIdentity, admission_review, push_image};
use promotion_gate::serve::{CertificateOptions, Clients, Listening, Options, serve};
use promotion_gate::snapshot::SnapshotFiles;
use promotion_gate_core::gate::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::facts::FACTS;
use crate::images::{by_digest, registry, signed};
use crate::server::{Manner, Reply, Server};
use crate::support::until;

pub const SIGNED: &str = r#"
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: signed}
spec:
  requirements:
  - digestPinned: {}
  - signature: {anyOf: [{keyless: {issuer: "https://issuer.example", identity: release@example.com, trustRoots: [sandbox]}}]}
"#;

pub const CONFIGURATION: &str = "\
apiVersion: promotion-gate.dev/v1alpha1
kind: GateConfiguration
trustRoots: [{name: sandbox, file: root.json}]
";

pub struct Gate {
    pub folder: TempDir,
    listening: Listening,
    client: reqwest::Client,
    task: JoinHandle<anyhow::Result<()>>,
    stop: Option<oneshot::Sender<Duration>>,
}

impl Gate {
    pub async fn start(policy: &str) -> Gate {
        Gate::with(policy, |_| {}).await
    }

    async fn with(policy: &str, change: impl FnOnce(&mut Options)) -> Gate {
        // Fails only where another test was first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(folder.path().join("policies/policy.yaml"), policy).unwrap();
        write_identity(folder.path());
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let mut options = Options {
            address: anywhere,
            probe_address: anywhere,
            certificate: CertificateOptions::Files {
                chain: folder.path().join("tls.crt"),
                key: folder.path().join("tls.key"),
            },
            webhook: None,
            clients: None,
            cluster: None,
            audited: Audited::default(),
            connections: 100,
            drain: Duration::from_secs(5),
            poll: Duration::from_millis(20),
        };
        change(&mut options);
        fs::write(folder.path().join("root.json"), FACTS.trusted_root()).unwrap();
        fs::write(folder.path().join("gate.yaml"), CONFIGURATION).unwrap();
        let config = Config::load(Some(&folder.path().join("gate.yaml"))).unwrap();
        let registry = Arc::new(Client::new(config.client_options()).unwrap());
        let collector = Collector::new(registry, CollectLimits::default(), CacheSizes::default());
        let files = SnapshotFiles {
            policies: vec![folder.path().join("policies")],
            config,
        };
        let (started, listening) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<Duration>();
        let task = tokio::spawn(async move {
            let started = |at| started.send(at).unwrap();
            let stopped = async move { stopped.await.unwrap_or_default() };
            serve(options, files, Arc::new(collector), started, stopped).await
        });
        Gate {
            client: client(&folder, |builder| builder),
            listening: listening.await.unwrap(),
            folder,
            task,
            stop: Some(stop),
        }
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    pub fn policy(&self, text: &str) {
        self.write("policies/policy.yaml", text);
    }

    pub fn configuration(&self, text: &str) {
        self.write("gate.yaml", text);
    }

    fn url(&self, rest: &str) -> String {
        format!("https://{}{rest}", self.listening.address)
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        let request = self.client.post(self.url("/validate?timeout=10s"));
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The response to an AdmissionReview `uid-1`.
    pub async fn response(&self, body: impl Into<reqwest::Body>) -> Value {
        let (status, text) = self.post(body).await;
        assert_eq!(status, 200, "{text}");
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["response"]["uid"], "uid-1");
        answer["response"].take()
    }

    /// Whether an image may run, and the message.
    pub async fn says(&self, image: &str) -> (bool, String) {
        let response = self.response(review(image).to_string()).await;
        assert!(response.get("patch").is_none());
        let message = response["status"]["message"].as_str();
        let allowed = response["allowed"].as_bool().unwrap();
        (allowed, message.unwrap_or_default().to_owned())
    }

    /// What the deployer of an image is warned of.
    pub async fn warnings(&self, image: &str) -> Vec<String> {
        let response = self.response(review(image).to_string()).await;
        let warnings = response["warnings"].as_array().cloned();
        let warnings = warnings.unwrap_or_default().into_iter();
        warnings.map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listening.address).await.unwrap()
    }

    /// A connection on which nothing was asked so far.
    async fn tls(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.folder.path().join("ca.crt")).unwrap())
            .unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(self.listening.address.ip());
        TlsConnector::from(Arc::new(config))
            .connect(name, self.connect().await)
            .await
            .unwrap()
    }

    pub async fn probe(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.listening.probe_address);
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until the probe says something.
    pub async fn until(&self, path: &str, part: &str) {
        until(part, async || self.probe(path).await.1.contains(part)).await;
    }

    /// Waits until a part was taken over for the nth time.
    pub async fn reloaded(&self, part: &str, times: u8) {
        let metric = format!("promotion_gate_{part}_reloads_total {times}\n");
        self.until("/metrics", &metric).await;
    }

    pub async fn close(mut self) {
        self.stop.take().unwrap().send(Duration::ZERO).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// Writes a new certificate of the webhook and its authority.
fn write_identity(folder: &Path) {
    let tls = TlsIdentity::create().unwrap();
    fs::write(folder.join("tls.key"), &tls.key_pem).unwrap();
    fs::write(folder.join("tls.crt"), &tls.certificate_pem).unwrap();
    fs::write(folder.join("ca.crt"), &tls.authority_pem).unwrap();
}

/// A client with connections of its own, that trusts the authority in the folder.
fn client(
    folder: &TempDir,
    change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> reqwest::Client {
    let authority = fs::read(folder.path().join("ca.crt")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let builder = reqwest::Client::builder().no_proxy();
    change(builder.tls_certs_only([authority])).build().unwrap()
}

fn review(image: &str) -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [{"name": "web", "image": image}]},
    });
    admission_review("uid-1", pod)
}

pub async fn images() -> (SandboxRegistry, String, String) {
    let registry = registry().await;
    let signed = signed(&registry, "signed", "release");
    let unsigned = push_image(&registry, "app", "unsigned", "unsigned").unwrap();
    let (signed, unsigned) = (
        by_digest(&registry, &signed),
        by_digest(&registry, &unsigned),
    );
    (registry, signed, unsigned)
}

#[tokio::test]
async fn signed_images_are_admitted_and_others_denied_with_a_message() {
    let (_registry, signed, unsigned) = images().await;
    let gate = Gate::start(SIGNED).await;
    assert_eq!(gate.says(&signed).await, (true, String::new()));
    let (allowed, message) = gate.says(&unsigned).await;
    assert!(!allowed);
    assert!(
        message.starts_with(
            "Pod shop/web may not be deployed\npolicy `signed` denies it:\n- signature [unsigned]: "
        ),
        "{message}"
    );
    assert!(message.ends_with("decision uid-1"), "{message}");
    let (_, metrics) = gate.probe("/metrics").await;
    assert!(
        metrics.contains(r#"promotion_gate_decisions_total{decision="deny",admitted="false"} 1"#),
        "{metrics}"
    );
    gate.close().await;
}

#[tokio::test]
async fn only_http_1_and_2_over_tls_1_2_and_1_3_are_spoken() {
    let gate = Gate::start(SIGNED).await;
    write_identity(gate.folder.path());
    gate.reloaded("certificate", 1).await;
    let versions = [
        reqwest::tls::Version::TLS_1_2,
        reqwest::tls::Version::TLS_1_3,
    ];
    for version in versions {
        for http_1_only in [true, false] {
            let client = client(&gate.folder, |builder| {
                let builder = builder.tls_version_min(version).tls_version_max(version);
                if http_1_only {
                    builder.http1_only()
                } else {
                    builder
                }
            });
            let answer = client
                .post(gate.url("/validate"))
                .body("{}")
                .send()
                .await
                .unwrap();
            let spoken = if http_1_only {
                reqwest::Version::HTTP_11
            } else {
                reqwest::Version::HTTP_2
            };
            assert_eq!(answer.version(), spoken);
        }
    }
    gate.close().await;
}

#[tokio::test]
async fn what_is_no_admission_review_is_refused_and_never_admitted() {
    let gate = Gate::start(SIGNED).await;
    let mut old = review("nginx");
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut twice = review("nginx").to_string();
    twice = twice.replacen("\"uid\"", "\"uid\":\"uid-2\",\"uid\"", 1);
    let half = review("nginx").to_string()[..200].to_owned();
    let deep = format!("{{\"request\":{}", "[".repeat(1 << 20));
    for body in [
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "\u{0}".to_owned(),
        half,
        deep,
        twice,
        old.to_string(),
    ] {
        let (status, text) = gate.post(body.clone()).await;
        let allowed = serde_json::from_str::<Value>(&text)
            .ok()
            .map(|answer| answer["response"]["allowed"].clone());
        assert!(
            status == 400 || allowed == Some(json!(false)),
            "{body:.80}: {status} {text}"
        );
    }
    let (status, _) = gate.post(vec![b' '; (8 << 20) + 1]).await;
    assert_eq!(status, 413);
    let (_, text) = gate.post(old.to_string()).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("admissionReviewVersions: [v1]"),
        "{message}"
    );
    assert_eq!(
        gate.client
            .get(gate.url("/validate"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        gate.client
            .post(gate.url("/elsewhere"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    gate.close().await;
}

#[tokio::test]
async fn the_deadline_comes_from_the_api_server() {
    let silent = Server::start(|_| Reply::status(200).coming(Manner::Silent)).await;
    let gate = Gate::start(SIGNED).await;
    let image = format!("{}/app@{}", silent.host(), Digest::sha256(b"x"));
    let began = Instant::now();
    let request = gate.client.post(gate.url("/validate?timeout=1s"));
    let answer = request
        .body(review(&image).to_string())
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    // Without the parameter the deadline is that of the API server's longest time-out.
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("infrastructure problem"), "{message}");
    gate.close().await;
}

#[tokio::test]
async fn audit_only_admits_everything_and_counts_denials() {
    let (_registry, _, unsigned) = images().await;
    let gate = Gate::with(SIGNED, |options| options.audited.everywhere = true).await;
    assert_eq!(gate.says(&unsigned).await, (true, String::new()));
    let mut old = review("nginx");
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let (_, text) = gate.post(old.to_string()).await;
    assert!(text.contains("\"allowed\":true"), "{text}");
    let (_, metrics) = gate.probe("/metrics").await;
    assert!(
        metrics.contains(r#"promotion_gate_decisions_total{decision="deny",admitted="true"} 1"#),
        "{metrics}"
    );
    gate.close().await;
}

#[tokio::test]
async fn in_an_audited_namespace_denials_are_only_recorded_and_elsewhere_they_deny() {
    let (_registry, _, unsigned) = images().await;
    let gate = Gate::with(SIGNED, |options| {
        options.audited.namespaces = ["lab".to_owned()].into();
    })
    .await;
    let shop = review(&unsigned);
    let mut lab = shop.clone();
    lab["request"]["namespace"] = json!("lab");
    lab["request"]["object"]["metadata"]["namespace"] = json!("lab");
    assert_eq!(gate.response(shop.to_string()).await["allowed"], false);
    assert_eq!(gate.response(lab.to_string()).await["allowed"], true);
    let (_, metrics) = gate.probe("/metrics").await;
    for admitted in ["true", "false"] {
        let counted =
            format!(r#"promotion_gate_decisions_total{{decision="deny",admitted="{admitted}"}} 1"#);
        assert!(metrics.contains(&counted), "{metrics}");
    }
    // The namespace is that of the request, which the API server says, and not what the object says of itself.
    lab["request"]["namespace"] = json!("shop");
    assert_eq!(gate.response(lab.to_string()).await["allowed"], false);
    gate.close().await;
}

#[tokio::test]
async fn a_policy_that_warns_admits_with_short_warnings() {
    let (_registry, _, unsigned) = images().await;
    let gate = Gate::start(&SIGNED.replace("spec:", "spec:\n  enforcement: Warn")).await;
    let response = gate.response(review(&unsigned).to_string()).await;
    assert_eq!(response["allowed"], true);
    let warnings = response["warnings"].as_array().unwrap();
    assert!(!warnings.is_empty());
    assert!(
        warnings
            .iter()
            .all(|warning| warning.as_str().unwrap().chars().count() < 120)
    );
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_rotates_under_load_without_a_failure() {
    let (_registry, signed, _) = images().await;
    let gate = Gate::start(SIGNED).await;
    let old = gate.client.clone();
    let (running, answered) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load = {
        let (running, answered) = (Arc::clone(&running), Arc::clone(&answered));
        let (url, body) = (gate.url("/validate"), review(&signed).to_string());
        tokio::spawn(async move {
            while running.load(Ordering::Relaxed) {
                let answer = old.post(&url).body(body.clone()).send().await.unwrap();
                assert!(answer.text().await.unwrap().contains("\"allowed\":true"));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // The old client connects before the rotation: it does not know the new certificate.
    until("an answer", async || answered.load(Ordering::Relaxed) > 0).await;
    write_identity(gate.folder.path());
    gate.reloaded("certificate", 1).await;
    let before = answered.load(Ordering::Relaxed);
    let new = client(&gate.folder, |builder| builder);
    let answer = new
        .post(gate.url("/validate"))
        .body(review(&signed).to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.text().await.unwrap().contains("\"allowed\":true"));
    until("20 more answers", async || {
        assert!(!load.is_finished());
        answered.load(Ordering::Relaxed) >= before + 20
    })
    .await;
    running.store(false, Ordering::Relaxed);
    load.await.unwrap();

    gate.write("tls.crt", "no certificate");
    gate.until("/metrics", "promotion_gate_certificate_broken 1")
        .await;
    let again = client(&gate.folder, |builder| builder);
    assert!(
        again
            .post(gate.url("/validate"))
            .body("{}")
            .send()
            .await
            .is_ok()
    );
    gate.close().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_when_the_gate_stops() {
    let silent = Server::start(|_| Reply::status(200).coming(Manner::Silent)).await;
    let mut gate = Gate::start(SIGNED).await;
    let image = format!("{}/app@{}", silent.host(), Digest::sha256(b"x"));
    let request = gate
        .client
        .post(gate.url("/validate?timeout=2s"))
        .body(review(&image).to_string());
    let under_way = tokio::spawn(request.send());
    until("a request to the registry", async || {
        !silent.seen().is_empty()
    })
    .await;
    gate.stop.take().unwrap().send(Duration::ZERO).unwrap();
    gate.until("/readyz", "stopping").await;
    let answer = under_way.await.unwrap().unwrap();
    assert!(answer.text().await.unwrap().contains("\"allowed\":false"));
    gate.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn new_requests_are_answered_during_the_shutdown_delay() {
    let mut gate = Gate::start(SIGNED).await;
    gate.until("/metrics", "\npromotion_gate_ready 1\n").await;
    let shutdown_delay = Duration::from_secs(2);
    gate.stop.take().unwrap().send(shutdown_delay).unwrap();
    gate.until("/readyz", "stopping").await;
    gate.until("/metrics", "\npromotion_gate_ready 0\n").await;
    let (allowed, message) = gate.says("nginx").await;
    assert!(!allowed && message.contains("nginx"), "{message}");
    let late = gate.client.post(gate.url("/validate")).body("{}");
    gate.task.await.unwrap().unwrap();
    late.send().await.unwrap_err();
}

#[tokio::test]
async fn clients_are_told_to_leave_their_connections_during_the_shutdown_delay() {
    let mut gate = Gate::start(SIGNED).await;
    let client = client(&gate.folder, |builder| builder.http1_only());
    let url = gate.url("/validate");
    let ask = async || {
        let answer = client.post(&url);
        let answer = answer.body(review("nginx").to_string()).send().await;
        let answer = answer.unwrap();
        answer.headers().get("connection").cloned()
    };
    assert_eq!(ask().await, None);
    let stop = gate.stop.take().unwrap();
    stop.send(Duration::from_secs(2)).unwrap();
    gate.until("/readyz", "stopping").await;
    assert_eq!(ask().await.unwrap(), "close");
    gate.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_are_held_do_not_shut_the_webhook() {
    let gate = Gate::with(SIGNED, |options| options.connections = 16).await;
    let mut held: Vec<Box<dyn Any>> = Vec::new();
    for _ in 0..20 {
        held.push(Box::new(gate.connect().await));
        let mut without_request = gate.tls().await;
        without_request.write_all(b"POST /validate").await.unwrap();
        let mut harmless = gate.tls().await;
        let request = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n";
        harmless.write_all(request).await.unwrap();
        assert!(harmless.read_u8().await.is_ok());
        held.push(Box::new((without_request, harmless)));
    }
    assert!(!gate.says("nginx").await.0);
    // Each of these carried an AdmissionReview that was understood.
    for _ in 0..40 {
        let client = client(&gate.folder, |builder| builder);
        let answer = client.post(gate.url("/validate"));
        let answer = answer.body(review("nginx").to_string()).send().await;
        assert!(answer.unwrap().text().await.unwrap().contains("uid-1"));
        held.push(Box::new(client));
    }
    assert!(!gate.says("nginx").await.0);
    let (_, metrics) = gate.probe("/metrics").await;
    let open = metrics.lines().find_map(|line| {
        let open = line.strip_prefix("promotion_gate_connections ")?;
        open.parse::<usize>().ok()
    });
    assert!(open.unwrap() <= 17, "{metrics}");
    assert!(
        metrics.contains("promotion_gate_connections_refused_total 0\n"),
        "{metrics}"
    );
    gate.close().await;
}

#[tokio::test]
async fn probes_are_answered_while_connections_to_them_are_held() {
    let gate = Gate::start(SIGNED).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(gate.listening.probe_address)
            .await
            .unwrap();
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\n";
        stream.write_all(request).await.unwrap();
        held.push(stream);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gate.probe(path).await.0, 200);
    }
    gate.close().await;
}

#[tokio::test]
async fn under_audit_only_what_cannot_be_read_is_admitted_too() {
    let gate = Gate::with(SIGNED, |options| options.audited.everywhere = true).await;
    let mut large = review("nginx");
    large["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(8 << 20)});
    let cut = review("nginx").to_string();
    for body in [large.to_string(), cut[..cut.len() - 4].to_owned()] {
        // As API servers write it: the request is named at the beginning.
        let body = body.replacen(r#""request":{"#, r#""request":{"uid":"uid-1","#, 1);
        assert_eq!(gate.response(body).await["allowed"], true);
    }
    gate.close().await;
}

/// An authority of clients.
struct ClientAuthority(CertifiedIssuer<'static, KeyPair>);

impl ClientAuthority {
    fn new() -> ClientAuthority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ClientAuthority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn write(&self, folder: &Path) {
        fs::write(folder.join("clients.crt"), self.0.pem()).unwrap();
    }

    /// Certificate and key of a client.
    fn issue(&self, name: &str) -> reqwest::Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let pem = certificate.pem() + &key.serialize_pem();
        reqwest::Identity::from_pem(pem.as_bytes()).unwrap()
    }
}

#[tokio::test]
async fn with_client_ca_only_the_named_client_passes_the_handshake() {
    let authority = ClientAuthority::new();
    let folder = TempDir::new().unwrap();
    authority.write(folder.path());
    let gate = Gate::with(SIGNED, |options| {
        options.clients = Some(Clients {
            authorities: folder.path().join("clients.crt"),
            names: vec!["api-server".to_owned()],
        });
    })
    .await;
    let ask = |client: &reqwest::Client| {
        let request = client.post(gate.url("/validate"));
        request.body(review("nginx").to_string()).send()
    };
    let with = |identity| client(&gate.folder, |builder| builder.identity(identity));
    let api_server = with(authority.issue("api-server"));
    let answer = ask(&api_server).await.unwrap().text().await.unwrap();
    assert!(answer.contains("\"allowed\":false"), "{answer}");

    ask(&gate.client).await.unwrap_err();
    ask(&with(authority.issue("kubelet"))).await.unwrap_err();
    let stranger = ClientAuthority::new().issue("api-server");
    ask(&with(stranger)).await.unwrap_err();
    gate.until("/metrics", "promotion_gate_handshakes_failed_total 3\n")
        .await;

    // The authority is replaced: its clients are refused from then on, also on connections that are open.
    let next = ClientAuthority::new();
    next.write(folder.path());
    gate.reloaded("certificate", 1).await;
    gate.until("/metrics", "promotion_gate_connections 0\n")
        .await;
    ask(&api_server).await.unwrap_err();
    assert!(ask(&with(next.issue("api-server"))).await.is_ok());
    fs::write(folder.path().join("clients.crt"), "").unwrap();
    gate.until("/metrics", "promotion_gate_certificate_broken 1")
        .await;
    assert!(ask(&with(next.issue("api-server"))).await.is_ok());
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_announced_and_never_sent_keep_nobody_out() {
    let gate = Gate::start(SIGNED).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut connection = gate.tls().await;
        let head = format!(
            "POST /validate?timeout=10s HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            8 << 20
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.flush().await.unwrap();
        silent.push(connection);
    }
    for _ in 0..3 {
        let (status, text) = gate.post(review("nginx").to_string()).await;
        assert_eq!(status, 200, "{text}");
    }
    let (_, metrics) = gate.probe("/metrics").await;
    for expected in ["connections 21\n", "bodies_unread_total 0\n"] {
        assert!(metrics.contains(expected), "{metrics}");
    }
    drop(silent);
    gate.close().await;
}

#[test]
fn serve_lets_itself_open_as_many_files_as_it_may() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let tls = TlsIdentity::create().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("tls.crt", &tls.certificate_pem);
    write("tls.key", &tls.key_pem);
    write("policy.yaml", "");
    let serve = format!(
        "ulimit -Sn 100; exec {} serve --policy policy.yaml --tls-cert tls.crt --tls-key tls.key \
         --address 127.0.0.1:0 --probe-address 127.0.0.1:0",
        env!("CARGO_BIN_EXE_promotion-gate")
    );
    let mut child = std::process::Command::new("sh")
        .args(["-c", &serve])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        line.get("files")?.as_u64()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.unwrap() > 100, "{said:?}");
}
