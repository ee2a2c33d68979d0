//! Certificates that the gate makes itself, and the webhook configuration that it keeps, with the rights of `deploy/manifests/rbac.yaml`.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use super::{ANSWER, ask};
use crate::support::{Address, ControlPlane, Gate, Ran, Serving, User, until};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
const NAMESPACE: &str = "promotion-gate";
const SECRET: &str = "promotion-gate-certificates";
pub(super) const WEBHOOK: &str = "promotion-gate";
const WEBHOOKS: &str = "validatingwebhookconfigurations";
const DAY: u64 = 24 * 60 * 60;

/// A control plane with all that a gate needs, a gate without a certificate, and a webhook configuration that asks nobody yet.
pub(super) struct World {
    pub(super) plane: ControlPlane,
    pub(super) gate: Gate,
    pub(super) kubeconfig: String,
    pub(super) https: Address,
}

impl World {
    pub(super) fn new() -> World {
        let plane = ControlPlane::start();
        let apply = ["apply", "--server-side", "-f"];
        let crds = format!("{DEPLOY}/crds");
        plane.kubectl(apply.into_iter().chain([&*crds])).ok();
        plane.create_namespace("shop");
        plane.create_namespace(NAMESPACE);
        let rbac = format!("{DEPLOY}/manifests/rbac.yaml");
        plane.kubectl(apply.into_iter().chain([&*rbac])).ok();
        let gate = Gate::configured(&json!({}));
        gate.requirements(json!([{"digestPinned": {}}]));
        let kubeconfig = plane.kubeconfig("gate", "gate-account");
        let world = World {
            kubeconfig: kubeconfig.display().to_string(),
            plane,
            gate,
            https: Address::free(),
        };
        world.create(&empty_configuration());
        world
    }

    /// Starts a gate that the webhook configuration leads to.
    fn serve(&self) -> Serving {
        self.serve_at(self.https)
    }

    fn serve_at(&self, https: Address) -> Serving {
        self.serve_by(&self.gate, https, "2s")
    }

    fn serve_by(&self, gate: &Gate, https: Address, overlap: &str) -> Serving {
        let overlap = format!("--ca-overlap={overlap}");
        let url = format!("--webhook-url=https://{}/validate", self.https);
        let flags = [
            "--certificates-secret",
            SECRET,
            "--manage-webhook",
            WEBHOOK,
            &overlap,
            &url,
        ];
        gate.serve_without_files(&self.kubeconfig, https, &flags)
    }

    fn create(&self, object: &Value) {
        let create = ["create", "-f", "-"];
        self.plane
            .kubectl_as(User::Admin, create, &object.to_string())
            .ok();
    }

    fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let ran = (self.plane).kubectl(["get", kind, name, "-n", NAMESPACE, "-o", "json"]);
        ran.is_ok()
            .then(|| serde_json::from_str(&ran.ok()).unwrap())
    }

    /// A field of the Secret.
    fn field(&self, field: &str) -> Option<String> {
        let secret = self.get("secret", SECRET)?;
        let text = secret["data"][field].as_str()?;
        Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
    }

    pub(super) fn entries(&self) -> Value {
        let configuration = self.get("validatingwebhookconfiguration", WEBHOOK);
        configuration.map_or(Value::Null, |it| it["webhooks"].clone())
    }

    /// The CAs by which the API server verifies the gate (PEM).
    pub(super) fn bundle(&self) -> String {
        let entries = self.entries();
        let text = entries[0]["clientConfig"]["caBundle"].as_str();
        let bytes = STANDARD.decode(text.unwrap_or_default()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn patch(&self, kind: &str, name: &str, how: &str, patch: &Value) -> Ran {
        let (how, patch) = (format!("--type={how}"), format!("--patch={patch}"));
        (self.plane).kubectl(["patch", kind, name, "-n", NAMESPACE, &how, &patch])
    }

    pub(super) fn is_asked(&self) {
        until("the gate is asked", || {
            ask(&self.plane).stderr.contains(ANSWER).then_some(())
        });
    }

    /// Which resources the gate changed, in this order, of the Secret and the webhook configuration.
    fn changed_by_the_gate(&self) -> Vec<String> {
        let user = "system:serviceaccount:promotion-gate:promotion-gate";
        let read = |line: String| -> Value { serde_json::from_str(&line).unwrap() };
        let requests = self.plane.requests_of(user).into_iter().map(read);
        let of_interest = requests.filter(|request| {
            let name = &request["objectRef"]["name"];
            (*name == SECRET || *name == WEBHOOK)
                && ["update", "patch"]
                    .iter()
                    .any(|verb| request["verb"] == *verb)
                && request["responseStatus"]["code"] == 200
        });
        let resources = of_interest.map(|request| request["objectRef"]["resource"].clone());
        let resources = resources.map(|resource| resource.as_str().unwrap().to_owned());
        resources
            .filter(|it| it == "secrets" || it == WEBHOOKS)
            .collect()
    }

    /// Requests go on while something happens, and each one that the gate did not answer is given.
    fn lost_during(&self, happens: impl FnOnce(&dyn Fn())) -> Vec<String> {
        let (running, answered) = (AtomicBool::new(true), AtomicUsize::new(0));
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut lost = Vec::new();
                while running.load(Ordering::Relaxed) {
                    let asked = ask(&self.plane);
                    if !asked.stderr.contains(ANSWER) {
                        lost.push(asked.stderr);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                lost
            });
            // Ends the load also where `happens` fails.
            let ends = Ends(&running);
            happens(&|| {
                let before = answered.load(Ordering::Relaxed);
                until("more requests are answered", || {
                    (answered.load(Ordering::Relaxed) >= before + 15).then_some(())
                });
            });
            drop(ends);
            load.join().unwrap()
        })
    }
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// As the Helm chart makes it.
fn empty_configuration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK, "labels": {"app.kubernetes.io/name": "promotion-gate"}},
    })
}

fn secret(kind: &str, data: &[(&str, &str)]) -> Value {
    let data = data
        .iter()
        .map(|(field, text)| (*field, STANDARD.encode(text)));
    let data: serde_json::Map<_, _> = data
        .map(|(field, text)| (field.to_owned(), json!(text)))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": SECRET, "namespace": NAMESPACE}, "data": data,
    })
}

/// A CA and a certificate that it issued for 127.0.0.1, valid between these days from now on: `ca.crt`, `ca.key`, `tls.crt`, `tls.key`.
pub(super) fn made_by_somebody(days: std::ops::Range<i64>) -> [String; 4] {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.unwrap().as_secs() / DAY).unwrap();
    let at = |day: i64| {
        let seconds = u64::try_from(now + day).unwrap() * DAY;
        (SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).into()
    };
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (at(days.start), at(days.end));
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertifiedIssuer::self_signed(params, ca_key).unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = (at(days.start), at(days.end));
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &ca).unwrap();
    [
        ca.pem(),
        ca.key().serialize_pem(),
        leaf.pem(),
        key.serialize_pem(),
    ]
}

fn opaque([ca, ca_key, leaf, key]: &[String; 4]) -> Value {
    let data = [
        ("ca.crt", ca),
        ("ca.key", ca_key),
        ("tls.crt", leaf),
        ("tls.key", key),
    ];
    secret("Opaque", &data.map(|(field, text)| (field, text.as_str())))
}

/// Whether a gate presents a certificate that these CAs vouch for.
fn is_verified(https: Address, authorities: &str) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let Ok(stream) = TcpStream::connect(https.to_string()) else {
        return false;
    };
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok() && stream.flush().is_ok()
}

#[test]
fn gates_that_start_together_agree_on_one_ca_and_go_live_by_themselves() {
    let world = World::new();
    let second = Address::free();
    let gates = [world.serve(), world.serve_at(second)];
    for gate in &gates {
        gate.is_ready();
    }
    let authority = world.field("ca.crt").unwrap();
    assert_eq!(authority.matches("BEGIN CERTIFICATE").count(), 1);
    for https in [world.https, second] {
        assert!(is_verified(https, &authority), "{https}");
    }
    world.is_asked();
    assert_eq!(world.bundle(), authority);
    for gate in &gates {
        gate.says(
            "/metrics",
            "certificate_expiration_timestamp_seconds{certificate=\"ca\"}",
        );
        gate.says(
            "/metrics",
            "certificate_expiration_timestamp_seconds{certificate=\"serving\"}",
        );
        let key = world.field("ca.key").unwrap();
        let line = key.lines().nth(1).unwrap();
        assert!(
            !gate.log().contains(line),
            "the key of the CA is in the log"
        );
    }
    // What the chart applies again does not take the entries away, nor does another field manager.
    let before = world.entries();
    let apply = ["apply", "--server-side", "--field-manager=helm", "-f", "-"];
    let empty = empty_configuration().to_string();
    world.plane.kubectl_as(User::Admin, apply, &empty).ok();
    assert_eq!(world.entries(), before);
}

#[test]
fn a_new_ca_takes_over_without_a_lost_request_and_a_deleted_secret_is_written_again_as_it_was() {
    let world = World::new();
    let gate = world.serve();
    gate.is_ready();
    world.is_asked();
    let before = world.field("ca.crt").unwrap();
    let lost = world.lost_during(|some_more| {
        some_more();
        let take_away = json!([{"op": "remove", "path": "/data/ca.key"}]);
        world.patch("secret", SECRET, "json", &take_away).ok();
        until("the certificate is one of the new CA", || {
            (!is_verified(world.https, &before)).then_some(())
        });
        assert!(is_verified(world.https, &world.bundle()));
        assert!(world.bundle().contains(&before));
        // The webhook goes live; then there is a new CA, which is trusted before its certificate is made.
        let order = [WEBHOOKS, "secrets", WEBHOOKS, "secrets"];
        assert_eq!(world.changed_by_the_gate(), order);
        some_more();
        let uid = world.get("secret", SECRET).unwrap()["metadata"]["uid"].clone();
        let data = world.get("secret", SECRET).unwrap()["data"].clone();
        world
            .plane
            .kubectl(["delete", "secret", SECRET, "-n", NAMESPACE])
            .ok();
        until("the Secret is there again", || {
            let again = world.get("secret", SECRET)?;
            assert_ne!(again["metadata"]["uid"], uid);
            (again["data"] == data).then_some(())
        });
        gate.says(
            "/metrics",
            "alarms_total{reason=\"certificates-deleted\"} 1",
        );
        some_more();
    });
    assert_eq!(lost, Vec::<String>::new());
}

#[test]
fn a_gate_that_comes_back_without_its_certificates_or_with_expired_ones_makes_new_ones() {
    let world = World::new();
    // Made by a clock that was a year slow: all of it has expired.
    world.create(&opaque(&made_by_somebody(-400..-30)));
    let mut gate = world.serve();
    gate.is_ready();
    world.is_asked();
    let first = world.bundle();
    gate.stop();
    world
        .plane
        .kubectl(["delete", "secret", SECRET, "-n", NAMESPACE])
        .ok();
    let mut gate = world.serve();
    gate.is_ready();
    until("the new CA is trusted", || {
        (world.bundle() != first).then_some(())
    });
    world.is_asked();
    gate.stop();
    // Made by a clock that was fast: none of it is valid yet.
    world
        .plane
        .kubectl(["delete", "secret", SECRET, "-n", NAMESPACE])
        .ok();
    world.create(&opaque(&made_by_somebody(30..700)));
    let gate = world.serve();
    gate.is_ready();
    world.is_asked();
}

#[test]
fn what_somebody_changes_in_the_webhook_configuration_is_put_right_and_a_deleted_one_stays_deleted()
{
    let world = World::new();
    let gate = world.serve();
    gate.is_ready();
    world.is_asked();
    let right = world.entries();
    let kind = "validatingwebhookconfiguration";
    let never = json!({"name": "never", "expression": "false"});
    let changes = [
        json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
        json!([{"op": "add", "path": "/webhooks/0/matchConditions/0", "value": never}]),
        json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": STANDARD.encode(&made_by_somebody(-1..9)[0])}]),
        json!([{"op": "replace", "path": "/webhooks/0/objectSelector", "value": {"matchLabels": {"asked": "yes"}}}]),
        json!([{"op": "remove", "path": "/webhooks"}]),
    ];
    for (number, change) in changes.iter().enumerate() {
        world.patch(kind, WEBHOOK, "json", change).ok();
        let alarms = format!(
            "alarms_total{{reason=\"webhook-configuration-changed\"}} {}",
            number + 1
        );
        gate.says("/metrics", &alarms);
        assert_eq!(world.entries(), right, "{change}");
    }
    world.is_asked();

    world.plane.kubectl(["delete", kind, WEBHOOK]).ok();
    // Written again by the same replica, under the same Lease.
    world
        .plane
        .kubectl(["delete", "secret", SECRET, "-n", NAMESPACE])
        .ok();
    until("the Secret is there again", || world.get("secret", SECRET));
    assert!(world.get(kind, WEBHOOK).is_none());
    // One that is made later goes live again.
    world.create(&empty_configuration());
    world.is_asked();
    assert_eq!(world.entries(), right);
}

/// Who may write the Secret decides whom the API server trusts. It is noticed, and nothing fails.
#[test]
fn a_secret_replaced_by_somebody_with_a_ca_of_his_own_is_noticed_and_no_request_is_lost() {
    let world = World::new();
    let gate = world.serve();
    gate.is_ready();
    world.is_asked();
    let before = world.field("ca.crt").unwrap();
    let own = made_by_somebody(-1..700);
    let lost = world.lost_during(|some_more| {
        let data = json!({"data": opaque(&own)["data"]});
        world.patch("secret", SECRET, "merge", &data).ok();
        gate.says(
            "/metrics",
            "alarms_total{reason=\"certificate-authority-replaced\"} 1",
        );
        until("the certificate in the Secret is served", || {
            is_verified(world.https, &own[0]).then_some(())
        });
        some_more();
        until("the first CA is not trusted any more", || {
            (!world.bundle().contains(&before)).then_some(())
        });
        some_more();
    });
    assert_eq!(lost, Vec::<String>::new());
}

/// Who may write the Secret could have a second CA trusted for years, beside the one that is served.
#[test]
fn attack_a_ca_of_somebody_beside_the_gates_own_is_noticed_and_its_own_new_one_raises_no_alarm() {
    let world = World::new();
    let gate = world.serve();
    gate.is_ready();
    world.is_asked();
    let count = |text: String| text.matches("BEGIN CERTIFICATE").count();
    let take_away = json!([{"op": "remove", "path": "/data/ca.key"}]);
    world.patch("secret", SECRET, "json", &take_away).ok();
    until("there is a new CA", || {
        (count(world.field("ca.crt")?) == 2).then_some(())
    });
    until("its certificate is served", || {
        let newest = world.field("ca.crt")?;
        let newest = newest
            .split_inclusive("-----END CERTIFICATE-----\n")
            .next()?;
        is_verified(world.https, newest).then_some(())
    });
    let alarm = "alarms_total{reason=\"certificate-authority-replaced\"}";
    let metrics = gate.says("/metrics", "promotion_gate_certificate_broken 0");
    let counted = metrics.lines().filter(|line| line.contains(alarm));
    assert!(
        counted.clone().all(|line| line.ends_with(" 0")),
        "{metrics}"
    );
    let own = &made_by_somebody(-1..700)[0];
    let both = format!("{}{own}", world.field("ca.crt").unwrap());
    let both = json!({"data": {"ca.crt": STANDARD.encode(both)}});
    world.patch("secret", SECRET, "merge", &both).ok();
    gate.says("/metrics", &format!("{alarm} 1"));
    assert_eq!(count(world.field("ca.crt").unwrap()), 3);
}

#[test]
fn a_replica_that_starts_while_the_secret_is_missing_leaves_it_to_one_that_remembers_it() {
    let world = World::new();
    let mut first = world.serve();
    first.is_ready();
    world.is_asked();
    let second = world.serve_at(Address::free());
    second.is_ready();
    let authority = world.field("ca.crt").unwrap();
    // Nobody can take the Lease over for a while.
    first.stop();
    let delete = ["delete", "secret", SECRET, "-n", NAMESPACE];
    world.plane.kubectl(delete).ok();
    let third = Address::free();
    world.serve_at(third).is_ready();
    assert_eq!(world.field("ca.crt").unwrap(), authority);
}

#[test]
fn a_replica_that_starts_after_the_secret_was_replaced_goes_on_to_trust_what_the_others_serve() {
    let world = World::new();
    let mut gate = world.serve_by(&world.gate, world.https, "2m");
    gate.is_ready();
    world.is_asked();
    let before = world.field("ca.crt").unwrap();
    let own = made_by_somebody(-1..700);
    let data = json!({"data": opaque(&own)["data"]});
    world.patch("secret", SECRET, "merge", &data).ok();
    until("both are trusted", || {
        let bundle = world.bundle();
        (bundle.contains(&before) && bundle.contains(&own[0])).then_some(())
    });
    gate.stop();
    let gate = world.serve_by(&world.gate, world.https, "2m");
    gate.says("/metrics", "promotion_gate_holds_lease 1");
    gate.is_ready();
    let ignore = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]);
    let kind = "validatingwebhookconfiguration";
    world.patch(kind, WEBHOOK, "json", &ignore).ok();
    until("the new replica keeps the configuration", || {
        (world.entries()[0]["failurePolicy"] == "Fail").then_some(())
    });
    let bundle = world.bundle();
    assert!(bundle.contains(&before) && bundle.contains(&own[0]));
}

#[test]
fn a_replica_that_does_not_become_ready_leaves_the_webhook_configuration_to_one_that_is() {
    let world = World::new();
    let broken = Gate::configured(&json!({}));
    broken.policy(
        "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nspec: {isuer: x}\n",
    );
    let unready = world.serve_by(&broken, Address::free(), "2s");
    unready.says("/metrics", "promotion_gate_holds_lease 1");
    let gate = world.serve();
    gate.is_ready();
    world.is_asked();
}

#[test]
fn an_empty_secret_of_another_type_is_not_filled_in() {
    let world = World::new();
    world.create(&secret("example.com/keys", &[]));
    let gate = world.serve();
    until("the gate is not ready and says why", || {
        let (head, body) = gate.probes.http("GET", "/readyz", "", b"")?;
        (head.contains("503") && body.contains("its type is `example.com/keys`")).then_some(())
    });
    assert_eq!(world.get("secret", SECRET).unwrap()["data"], Value::Null);
}

#[test]
fn a_secret_of_another_program_or_one_that_is_broken_is_left_alone_until_it_is_deleted() {
    let world = World::new();
    let [_, _, leaf, key] = made_by_somebody(-1..700);
    let foreign = secret(
        "kubernetes.io/tls",
        &[("tls.crt", &leaf), ("tls.key", &key)],
    );
    world.create(&foreign);
    let gate = world.serve();
    let told = |text: &str| {
        until("the gate is not ready and says why", || {
            let (head, body) = gate.probes.http("GET", "/readyz", "", b"")?;
            (head.contains("503") && body.contains(text)).then_some(())
        });
    };
    told("its type is `kubernetes.io/tls`");
    gate.says("/metrics", "promotion_gate_certificate_broken 1");
    assert_eq!(
        world.get("secret", SECRET).unwrap()["data"],
        foreign["data"]
    );
    world
        .plane
        .kubectl(["delete", "secret", SECRET, "-n", NAMESPACE])
        .ok();
    gate.is_ready();
    world.is_asked();

    // What is served stays while the Secret is broken, and its deletion brings it back.
    let right = world.field("ca.crt").unwrap();
    let broken = json!({"data": {"ca.crt": STANDARD.encode("nonsense")}});
    world.patch("secret", SECRET, "merge", &broken).ok();
    let answer = gate.says("/readyz", "`ca.crt` holds no certificate");
    assert!(answer.starts_with("ready"), "{answer}");
    assert!(answer.contains("delete it"), "{answer}");
    world.is_asked();
    assert_eq!(world.field("ca.crt").unwrap(), "nonsense");
    world
        .plane
        .kubectl(["delete", "secret", SECRET, "-n", NAMESPACE])
        .ok();
    until("the Secret is as it was", || {
        (world.field("ca.crt")? == right).then_some(())
    });
    world.is_asked();
}
