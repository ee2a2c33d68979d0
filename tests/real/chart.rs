//! The Helm chart, by real Helm: each of its options at a real API server, and upgrade, rollback and uninstallation.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Certificate, ControlPlane, Ran, User, command, run, until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAMESPACE: &str = "promotion-gate";
const IMAGE: &str = "image.repository=registry.example/promotion-gate";
const CONFIGURATIONS: &str = "validatingwebhookconfiguration";
const GUARDED: &str = "only governors may change the webhook configuration";
/// Kinds of other operators, which the API server of the tests does not know.
const OF_OTHERS: [&str; 2] = ["cert-manager.io/v1", "monitoring.coreos.com/v1"];

/// Sets of options of the chart, and what each adds or leaves out: a kind and how many of it.
const OPTIONS: [(&str, &str, usize); 12] = [
    (
        "replicas=1,auditOnly=true",
        "ValidatingWebhookConfiguration",
        1,
    ),
    (
        "auditNamespaces={lab,play}",
        "ValidatingWebhookConfiguration",
        1,
    ),
    (
        "hostNetwork=true,listenAddress=[::],ports.webhook=10260,ports.probes=10261",
        "Deployment",
        1,
    ),
    ("certificates.mode=certManager", "Certificate", 2),
    (
        "certificates.mode=certManager,certificates.injector=system:serviceaccount:pki:cainjector",
        "Certificate",
        2,
    ),
    ("certificates.mode=files", "Certificate", 0),
    (
        "webhook.create=false,certificates.mode=files",
        "ValidatingWebhookConfiguration",
        0,
    ),
    ("crds.install=false", "CustomResourceDefinition", 0),
    ("guards.enabled=false", "ValidatingAdmissionPolicy", 0),
    ("networkPolicy.enabled=true", "NetworkPolicy", 1),
    ("priorityClassName=ours", "ResourceQuota", 0),
    (
        "monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true",
        "ConfigMap",
        2,
    ),
];

fn chart() -> String {
    format!("{ROOT}/deploy/helm/promotion-gate")
}

fn helm(home: &Path, args: &[&str]) -> Ran {
    run(command("helm", home).args(args), b"")
}

/// The documents of a text.
fn documents_of(text: &str) -> Vec<Value> {
    let (documents, problems) = promotion_gate_core::documents::read("text", text.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    let values = documents.into_iter().map(|document| document.value);
    values.collect()
}

/// The documents of a file of the repository.
fn documents(file: &str) -> Vec<Value> {
    documents_of(&fs::read_to_string(Path::new(ROOT).join(file)).unwrap())
}

/// The documents that the chart makes.
fn rendered(home: &Path, options: &[&str]) -> Vec<Value> {
    let chart = chart();
    let template = ["template", NAMESPACE, &chart, "--namespace", NAMESPACE];
    let always = ["--kube-version=1.30", "--set", IMAGE];
    documents_of(&helm(home, &[&template[..], &always, options].concat()).ok())
}

#[test]
fn the_plain_manifests_are_what_the_chart_makes() {
    let folder = TempDir::new().unwrap();
    let made = folder.path().join("manifests");
    fs::create_dir(&made).unwrap();
    let script = run(
        Command::new(format!("{ROOT}/deploy/helm/manifests"))
            .arg(&made)
            .env("HOME", folder.path())
            .env(
                "PATH",
                format!("{ROOT}/target/real-tools/bin:/usr/bin:/bin"),
            ),
        b"",
    );
    script.ok();
    let files = |folder: &Path| {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let (made, shipped) = (
        files(&made),
        files(&Path::new(ROOT).join("deploy/manifests")),
    );
    assert!(made.len() > 5, "{made:?}");
    assert_eq!(made, shipped, "run deploy/helm/manifests");
}

#[test]
fn an_api_server_accepts_what_each_option_makes() {
    let plane = ControlPlane::start();
    plane.create_namespace(NAMESPACE);
    let home = plane.folder.path();
    for (options, kind, count) in OPTIONS {
        let lint = ["lint", "--strict", "--set", IMAGE, "--set", options];
        let chart = chart();
        helm(home, &[&lint[..], &[&chart]].concat()).ok();
        let mut objects = rendered(home, &["--set", options]);
        if options == "certificates.mode=certManager" {
            let shipped = documents("certs/cert-manager.yaml");
            assert_eq!(shipped.len(), 4);
            assert!(
                shipped.iter().all(|it| objects.contains(it)),
                "{objects:#?}"
            );
        }
        let found = objects.iter().filter(|object| object["kind"] == kind);
        assert_eq!(found.count(), count, "{options}: {kind}");
        objects.retain(|object| !OF_OTHERS.iter().any(|of| object["apiVersion"] == *of));
        accepts(&plane, &objects);
    }
    let mut objects = rendered(home, &[&placed(home)]);
    objects.retain(|object| !OF_OTHERS.iter().any(|of| object["apiVersion"] == *of));
    accepts(&plane, &objects);

    let chart = chart();
    let kubeconfig = plane.admin_kubeconfig();
    let install = ["install", NAMESPACE, &chart, "--dry-run=client"];
    let install = [&install[..], &["--kubeconfig", &kubeconfig]].concat();
    let by_hand = "webhook.create=false,certificates.mode=files";
    let notes = |namespace: &str, options: &str| {
        let set = ["--set", IMAGE, "--set", options, "--namespace", namespace];
        let said = helm(home, &[&install[..], &set].concat()).ok();
        said.split("NOTES:").nth(1).unwrap().to_owned()
    };
    let said = notes(NAMESPACE, by_hand);
    let first = "kubectl delete validatingwebhookconfiguration promotion-gate";
    assert!(said.contains(first), "{said}");
    assert!(!said.contains("`ca.crt`"), "{said}");
    let said = notes(NAMESPACE, "certificates.mode=files");
    assert!(!said.contains(first), "{said}");
    assert!(
        said.contains("`kubectl create secret tls` makes no `ca.crt`"),
        "{said}"
    );
    // The packaged chart does not have the file.
    let file = "/promotion-gate/blob/v0.1.0/deploy/resources.yaml";
    assert!(said.contains(file), "{said}");
    assert!(!said.contains("--service"), "{said}");

    let denied = "requests are denied meanwhile";
    let said = notes(NAMESPACE, "replicas=1");
    assert!(said.contains(denied), "{said}");
    let said = notes("security", "replicas=1,auditOnly=true");
    assert!(!said.contains(denied), "{said}");
    assert!(said.contains("requests are admitted meanwhile"), "{said}");
    for command in ["doctor", "recover"] {
        let told = format!("promotion-gate {command} --service security/promotion-gate");
        assert!(said.contains(&told), "{said}");
    }
}

fn accepts(plane: &ControlPlane, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let dry = ["apply", "--server-side", "--dry-run=server"];
    let dry = dry.into_iter().chain(["--validate=strict", "-f", "-"]);
    plane.kubectl_as(User::Admin, dry, &list.to_string()).ok();
}

/// A file of values, as an argument: where the Pods run, how nodes pull the image, who may read metrics, and labels.
fn placed(home: &Path) -> String {
    let by_name = json!({"matchLabels": {"kubernetes.io/metadata.name": "observability"}});
    let disk = json!({"key": "disk", "operator": "In", "values": ["ssd"]});
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [disk]}]});
    let own = json!({"topologyKey": "rack", "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "promotion-gate"}}});
    let labels = json!({"enabled": true, "labels": {"release": "prometheus"}});
    let values = json!({
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [own]},
        },
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "imagePullSecrets": [{"name": "registry"}],
        "webhook": {"infrastructureNamespaces": ["cilium", "rook-ceph"]},
        "networkPolicy": {"enabled": true, "metricsFrom": [{"namespaceSelector": by_name}]},
        "monitoring": {
            "serviceMonitor": labels, "prometheusRule": labels,
            "dashboard": {"enabled": true, "labels": {"folder": "gate"}},
        },
    });
    let file = home.join("placed.yaml");
    fs::write(&file, values.to_string()).unwrap();
    format!("--values={}", file.display())
}

#[test]
fn values_of_placement_pull_secrets_peers_and_labels_arrive_where_they_belong() {
    let folder = TempDir::new().unwrap();
    let home = folder.path();
    let values = placed(home);
    let given = fs::read_to_string(home.join("placed.yaml")).unwrap();
    let given: Value = serde_json::from_str(&given).unwrap();
    let objects = rendered(home, &[&values]);
    let of_kind = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.unwrap_or_else(|| panic!("{kind}"))
    };
    let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
    for field in [
        "affinity",
        "nodeSelector",
        "tolerations",
        "imagePullSecrets",
    ] {
        assert_eq!(pod[field], given[field], "{field}");
    }
    let args = pod["containers"][0]["args"].as_array().unwrap();
    for namespace in ["cilium", "rook-ceph"] {
        let argument = format!("--infrastructure-namespace={namespace}");
        assert!(args.iter().any(|it| *it == *argument), "{args:?}");
    }
    let of_metrics = &of_kind("NetworkPolicy")["spec"]["ingress"][1];
    assert_eq!(of_metrics["from"], given["networkPolicy"]["metricsFrom"]);
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        let labels = &of_kind(kind)["metadata"]["labels"];
        assert_eq!(labels["release"], "prometheus", "{kind}");
        assert_eq!(labels["app.kubernetes.io/name"], "promotion-gate", "{kind}");
    }
    let is_dashboard = |object: &&Value| object["metadata"]["labels"]["folder"] == "gate";
    assert_eq!(objects.iter().filter(is_dashboard).count(), 1);

    // Where nothing else is said, the Pods are spread over nodes, also beside a node affinity.
    let preferred = json!([{"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]);
    let of_node = json!({"preferredDuringSchedulingIgnoredDuringExecution": preferred});
    let beside = format!("--set-json=affinity.nodeAffinity={of_node}");
    let nothing = "--set=affinity.podAntiAffinity=null";
    for (options, of_node) in [
        (&[][..], &Value::Null),
        (&[nothing][..], &Value::Null),
        (&[&*beside][..], &of_node),
        (&[&*beside, nothing][..], &of_node),
    ] {
        let objects = rendered(home, options);
        let deployment = objects
            .iter()
            .find(|it| it["kind"] == "Deployment")
            .unwrap();
        let affinity = &deployment["spec"]["template"]["spec"]["affinity"];
        let terms =
            "/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm";
        let key = &affinity.pointer(terms).unwrap()["topologyKey"];
        assert_eq!(key, "kubernetes.io/hostname");
        assert_eq!(&affinity["nodeAffinity"], of_node);
    }
}

/// A kubelet updates no volume that lacks a required key, and starts no Pod with it: a lost authority may only raise an alarm.
#[test]
fn pods_of_files_wait_for_the_certificate_and_the_key_and_not_for_the_authority() {
    let folder = TempDir::new().unwrap();
    let volume = |options: &str| {
        let objects = rendered(folder.path(), &["--set", options]);
        let deployment = objects
            .iter()
            .find(|it| it["kind"] == "Deployment")
            .unwrap();
        let volumes = &deployment["spec"]["template"]["spec"]["volumes"];
        let mut volumes = volumes.as_array().unwrap().iter();
        volumes.find(|it| it["name"] == "tls").unwrap().clone()
    };
    let files = "certificates.mode=files,certificates.secretName=own-tls";
    let item = |key: &str| json!({"key": key, "path": key});
    let required =
        json!({"secret": {"name": "own-tls", "items": [item("tls.crt"), item("tls.key")]}});
    let optional =
        json!({"secret": {"name": "own-tls", "optional": true, "items": [item("ca.crt")]}});
    let sources = json!([required, optional]);
    assert_eq!(volume(files)["projected"]["sources"], sources);
    let by_hand = format!("{files},webhook.create=false");
    assert_eq!(volume(&by_hand)["secret"]["secretName"], "own-tls");
}

/// Whoever has taken over cert-manager's account may at most replace the CA, and elsewhere than with `certManager` not even that.
#[test]
fn attack_the_account_of_cert_manager_changes_nothing_but_ca_bundles_and_deletes_nothing() {
    let plane = ControlPlane::start();
    let home = plane.folder.path();
    let injector = "system:serviceaccount:cert-manager:cert-manager-cainjector";
    let bind = ["create", "clusterrolebinding", "injector"];
    let to = format!("--user={injector}");
    let to = ["--clusterrole=cluster-admin", &to];
    plane.kubectl(bind.into_iter().chain(to)).ok();
    let apply = |object: &Value| {
        let apply = ["apply", "--server-side", "-f", "-"];
        plane.kubectl_as(User::Admin, apply, &object.to_string())
    };
    let objects = rendered(home, &["--set", "certificates.mode=certManager"]);
    let of_group = |group: &str| {
        let found = objects.iter().filter(|it| {
            let version = it["apiVersion"].as_str().unwrap();
            version.starts_with(group) && !it["kind"].as_str().unwrap().contains("Webhook")
        });
        found.for_each(|object| _ = apply(object).ok());
    };
    of_group("apiextensions.k8s.io");
    let governed = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
        "metadata": {"name": "promotion-gate"},
        "spec": {"governors": {"users": ["grace@example.com"]}},
    });
    until("the definitions are served", || {
        apply(&governed).is_ok().then_some(())
    });
    // It asks about the resources of the gate, and nobody answers.
    apply(&documents("deploy/webhook.yaml")[0]).ok();
    of_group("admissionregistration.k8s.io");
    let by_injector = |args: &[&str]| {
        let user = format!("--as={injector}");
        plane.kubectl(args.iter().copied().chain([&*user]))
    };
    let patch = |operation: &str, path: &str, value: Value| {
        let patch = json!([{"op": operation, "path": path, "value": value}]).to_string();
        let patch = ["--type=json", "--patch", &patch];
        by_injector(&[&["patch", CONFIGURATIONS, "promotion-gate"][..], &patch].concat())
    };
    // A dry run: once it is stored, the same change again changes nothing, and passes.
    until("the guards are in force", || {
        let patch = r#"{"webhooks": []}"#;
        let patch = ["--dry-run=server", "--type=merge", "--patch", patch];
        let patch = [&["patch", CONFIGURATIONS, "promotion-gate"][..], &patch].concat();
        by_injector(&patch).stderr.contains(GUARDED).then_some(())
    });
    let authority = || json!(STANDARD.encode(Certificate::new("gate.example").pem));
    patch("add", "/webhooks/0/clientConfig/caBundle", authority()).ok();
    patch("add", "/webhooks/1/clientConfig/caBundle", authority()).ok();
    let condition = json!({"name": "never", "expression": "false"});
    let elsewhere = "https://elsewhere.example/validate";
    let definition = "customresourcedefinition/changefreezes.promotion-gate.dev";
    let names = r#"{"spec": {"names": {"shortNames": ["x"]}}}"#;
    for refused in [
        patch("replace", "/webhooks/0/timeoutSeconds", json!(1)),
        patch("add", "/webhooks/0/matchConditions/0", condition),
        patch(
            "replace",
            "/webhooks/0/rules/0/operations",
            json!(["CREATE"]),
        ),
        patch(
            "replace",
            "/webhooks/0/clientConfig",
            json!({"url": elsewhere}),
        ),
        patch(
            "replace",
            "/webhooks/0/clientConfig/service/name",
            json!("own"),
        ),
        patch("add", "/webhooks/0/clientConfig/service/port", json!(1)),
        patch("remove", "/webhooks/0", Value::Null),
        by_injector(&["delete", CONFIGURATIONS, "promotion-gate"]),
        by_injector(&["delete", definition]),
        by_injector(&["patch", definition, "--type=merge", "--patch", names]),
    ] {
        let said = refused.refused();
        assert!(said.contains(GUARDED), "{said}");
    }
}

#[test]
fn the_gate_takes_the_arguments_and_the_configuration_of_the_chart() {
    let folder = TempDir::new().unwrap();
    let home = folder.path();
    let values = home.join("values.yaml");
    let of_process = json!({
        "registries": [{"host": "registry.example:5000", "plainHttp": true}],
        "cluster": "prod-eu1",
    });
    let given = json!({
        "configuration": of_process,
        "extraArgs": ["--log-format=text", "--client-ca=/clients/ca.crt"],
        "extraVolumes": [{"name": "clients", "configMap": {"name": "clients"}}],
        "extraVolumeMounts": [{"name": "clients", "mountPath": "/clients"}],
    });
    fs::write(&values, given.to_string()).unwrap();
    let values = format!("--values={}", values.display());
    for mode in ["selfManaged", "certManager", "files"] {
        for audit in ["false", "true"] {
            let set =
                format!("certificates.mode={mode},auditOnly={audit},auditNamespaces={{lab,play}}");
            let objects = rendered(home, &["--set", &set, &values]);
            let of_kind = |kind: &str| {
                let found = objects.iter().find(|object| object["kind"] == kind);
                found.unwrap_or_else(|| panic!("{kind}"))
            };
            let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            let args = container["args"].as_array().unwrap().iter();
            let args: Vec<_> = args.map(|arg| arg.as_str().unwrap()).collect();
            for namespace in ["lab", "play"] {
                let arg = format!("--audit-namespace={namespace}");
                assert!(args.contains(&&*arg), "{args:?}");
            }
            let mut gate = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
            // Every argument is read before the help is printed.
            let ran = run(gate.args(args).arg("--help"), b"");
            assert!(ran.is_ok(), "{mode}: {ran}");
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert!(mounts.iter().all(|it| it["readOnly"] == true), "{mounts:?}");
            let volumes = pod["volumes"].as_array().unwrap();
            assert_eq!(mounts.len(), volumes.len());

            let file = home.join("gate.yaml");
            let text = of_kind("ConfigMap")["data"]["gate.yaml"].as_str().unwrap();
            fs::write(&file, text).unwrap();
            let config = promotion_gate::config::Config::load(Some(&file)).unwrap();
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        }
    }
}

#[test]
fn on_the_network_of_nodes_the_old_replica_ends_before_the_new_one_starts() {
    let folder = TempDir::new().unwrap();
    let strategy = |options: &[&str]| {
        let mut objects = rendered(folder.path(), options);
        objects.retain(|object| object["kind"] == "Deployment");
        objects.remove(0)["spec"]["strategy"]["rollingUpdate"].take()
    };
    assert_eq!(strategy(&[]), json!({"maxUnavailable": 0}));
    let on_nodes = strategy(&["--set", "hostNetwork=true"]);
    assert_eq!(on_nodes, json!({"maxSurge": 0, "maxUnavailable": 1}));
    // Where the Pods have addresses of their own, the port of the kubelet is free.
    rendered(folder.path(), &["--set", "ports.webhook=10250"]);
}

#[test]
fn a_namespace_that_others_use_is_refused() {
    let folder = TempDir::new().unwrap();
    let chart = chart();
    let template = ["template", "gate", &chart, "--kube-version=1.30"];
    let template = [&template[..], &["--set", IMAGE, "--namespace"]].concat();
    for shared in ["kube-system", "kube-public", "kube-node-lease", "default"] {
        let ran = helm(folder.path(), &[&template[..], &[shared]].concat());
        let said = ran.refused();
        assert!(said.contains("is not the gate's alone"), "{shared}: {said}");
    }
    helm(folder.path(), &[&template[..], &["security"]].concat()).ok();
}

#[test]
fn mistyped_and_impossible_values_are_refused() {
    let folder = TempDir::new().unwrap();
    let chart = chart();
    let template = ["template", "gate", &chart, "--namespace", NAMESPACE];
    let template = [&template[..], &["--kube-version=1.30"]].concat();
    for (value, said) in [
        ("imgae.repository=x", "imgae"),
        ("image.repositry=x", "repositry"),
        ("image.digest=sha256:12", "/image/digest"),
        ("replicas=0", "/replicas"),
        ("certificates.mode=self-managed", "/certificates/mode"),
        ("certificates.injector=eve", "/certificates/injector"),
        (
            "image.repository=x,extraArgs={--address=0.0.0.0:9443}",
            "set `listenAddress` and `ports` instead",
        ),
        (
            "image.repository=x,extraArgs={--probe-address=0.0.0.0:9080}",
            "set `listenAddress` and `ports` instead",
        ),
        ("extraArgs={serve}", "/extraArgs/0"),
        ("extraArgs={--log-format,text}", "/extraArgs/1"),
        ("image.repository=r.example/pg:v1", "/image/repository"),
        ("image.repository=r.example/Pg", "/image/repository"),
        ("image.tag=.bad", "/image/tag"),
        ("listenAddress=999.1.1.1", "/listenAddress"),
        ("listenAddress=10.0.0", "/listenAddress"),
        ("listenAddress=[1]", "/listenAddress"),
        (
            "certificates.secretName=Bad_Name",
            "/certificates/secretName",
        ),
        (
            "image.repository=x,hostNetwork=true,ports.webhook=10250",
            "10250 is taken by the kubelet",
        ),
        (
            "image.repository=x,hostNetwork=true,ports.probes=10250",
            "10250 is taken by the kubelet",
        ),
        ("configuration.kind=GateConfiguration", "/configuration"),
        ("networkPolicy.webhookFrom=null", "webhookFrom"),
        (
            "monitoring.prometheusRule.labels.a=1",
            "/monitoring/prometheusRule/labels/a",
        ),
        (
            "image.repository=x,webhook.create=false",
            "webhook.create: `selfManaged`",
        ),
        ("auditNamespaces={A}", "auditNamespaces/0"),
        ("ports.webhook=443", "/ports/webhook"),
        (
            "image.repository=x,ports.webhook=9000,ports.probes=9000",
            "need two different ports",
        ),
        ("listenAddress=::", "/listenAddress"),
        (
            "webhook.infrastructureNamespaces={A}",
            "infrastructureNamespaces/0",
        ),
        ("replicas=2", "image.repository: name the repository"),
    ] {
        let ran = helm(folder.path(), &[&template[..], &["--set", value]].concat());
        let error = ran.refused();
        assert!(error.contains(said), "{value}: {error}");
    }
}

/// A cluster in which `grace` governs the gate, and `bob` has all rights and does not.
struct Installed {
    plane: ControlPlane,
    grace: String,
    bob: String,
}

impl Installed {
    /// Installs the chart, and names the governor.
    fn new() -> Installed {
        Installed::by(|installed| {
            let chart = chart();
            let install = ["install", NAMESPACE, &chart, "--create-namespace"];
            let install = [&install[..], &["--set", IMAGE]].concat();
            let notes = installed.helm(&installed.grace, &install).ok();
            assert!(
                notes.contains("rollout status deployment/promotion-gate"),
                "{notes}"
            );
        })
    }

    /// Installs it in some way, and names the governor.
    fn by(install: impl FnOnce(&Installed)) -> Installed {
        let plane = ControlPlane::start();
        for user in ["grace", "bob"] {
            let binding = ["create", "clusterrolebinding", user];
            let to = format!("--user={user}@example.com");
            let to = ["--clusterrole=cluster-admin", &to];
            plane.kubectl(binding.into_iter().chain(to)).ok();
        }
        let kubeconfig = |user: &str| plane.kubeconfig(user, user).display().to_string();
        let (grace, bob) = (kubeconfig("grace"), kubeconfig("bob"));
        let installed = Installed { plane, grace, bob };
        // Helm looks for it, and the API server makes it shortly after its start.
        until("kube-system is there", || {
            let get = ["get", "namespace", "kube-system"];
            installed.plane.kubectl(get).is_ok().then_some(())
        });
        install(&installed);
        assert!(installed.webhooks().is_null(), "nothing is asked yet");
        let governed = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "GateConfiguration",
            "metadata": {"name": "promotion-gate"},
            "spec": {"governors": {"users": ["grace@example.com"]}},
        });
        let governed = governed.to_string();
        until("the definitions are served", || {
            let apply = ["apply", "-f", "-"];
            let ran = installed.plane.kubectl_as(User::Admin, apply, &governed);
            ran.is_ok().then_some(())
        });
        until("the guards are in force", || {
            let label = ["label", "--dry-run=server"];
            let label = label
                .into_iter()
                .chain([CONFIGURATIONS, "promotion-gate", "a=b"]);
            let ran = installed.plane.kubectl_by("bob", label, "");
            ran.stderr.contains(GUARDED).then_some(())
        });
        installed
    }

    fn helm(&self, kubeconfig: &str, args: &[&str]) -> Ran {
        let here = ["--kubeconfig", kubeconfig, "--namespace", NAMESPACE];
        helm(self.plane.folder.path(), &[&here[..], args].concat())
    }

    /// Writes the webhooks as a replica that is ready does, with the rights that the chart gives it.
    fn fill_in(&self) {
        let shipped = documents("deploy/webhook.yaml").remove(0);
        let written = json!({"webhooks": shipped["webhooks"]}).to_string();
        let patch = ["patch", CONFIGURATIONS, "promotion-gate", "--type=merge"];
        let patch = patch.into_iter().chain(["--patch", &written]);
        self.plane.kubectl_by("gate-account", patch, "").ok();
        assert_eq!(self.webhooks().as_array().unwrap().len(), 2);
    }

    fn configuration(&self) -> Value {
        let get = ["get", CONFIGURATIONS, "promotion-gate"];
        let get = get.into_iter().chain(["-o", "json"]);
        serde_json::from_str(&self.plane.kubectl(get).ok()).unwrap()
    }

    fn webhooks(&self) -> Value {
        self.configuration()["webhooks"].clone()
    }

    fn exists(&self, kind: &str, name: &str) -> bool {
        let get = ["get", kind, name, "--namespace", NAMESPACE];
        let ran = self.plane.kubectl(get);
        assert!(ran.is_ok() || ran.stderr.contains("NotFound"), "{ran}");
        ran.is_ok()
    }
}

/// A copy of the chart as the next version, with another text in one of its definitions.
fn next_version(folder: &Path) -> String {
    let copy = folder.join("next");
    let copied = Command::new("cp")
        .arg("-rL")
        .arg(chart())
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    let edit = |file: &str, from: &str, to: &str| {
        let file = copy.join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).unwrap();
    };
    edit("Chart.yaml", "ersion: 0.1.0", "ersion: 0.2.0");
    edit("files/crds/revocations.yaml", "- pgrev", "- revoked");
    copy.display().to_string()
}

#[test]
fn upgrade_and_rollback_keep_the_webhooks_that_the_gate_wrote_and_upgrade_the_definitions() {
    let installed = Installed::new();
    installed.fill_in();
    let written = installed.webhooks();
    let next = next_version(installed.plane.folder.path());
    let version = || {
        let configuration = installed.configuration();
        configuration["metadata"]["labels"]["app.kubernetes.io/version"].clone()
    };
    let short_names = || {
        let get = ["get", "crd", "revocations.promotion-gate.dev"];
        let get = get
            .into_iter()
            .chain(["-o", "jsonpath={.spec.names.shortNames}"]);
        installed.plane.kubectl(get).ok()
    };
    let before = (json!("0.1.0"), r#"["pgrev"]"#.to_owned());
    assert_eq!((version(), short_names()), before);

    let upgrade = ["upgrade", NAMESPACE, &next, "--reuse-values"];
    installed.helm(&installed.grace, &upgrade).ok();
    assert_eq!(
        (version(), short_names()),
        (json!("0.2.0"), r#"["revoked"]"#.to_owned())
    );
    assert_eq!(installed.webhooks(), written);

    let rollback = ["rollback", NAMESPACE, "1"];
    installed.helm(&installed.grace, &rollback).ok();
    assert_eq!(version(), "0.1.0");
    assert_eq!(installed.webhooks(), written);
}

#[test]
fn the_chart_takes_over_what_the_plain_manifests_installed() {
    let installed = Installed::by(|installed| {
        let all = format!("{ROOT}/deploy");
        let apply = ["apply", "--server-side", "--kustomize", &all];
        installed.plane.kubectl(apply).ok();
    });
    installed.fill_in();
    let written = installed.webhooks();
    let chart = chart();
    let install = ["install", NAMESPACE, &chart, "--set", IMAGE];
    installed.helm(&installed.grace, &install).refused();
    let take_over = [&install[..], &["--take-ownership"]].concat();
    installed.helm(&installed.grace, &take_over).ok();
    assert_eq!(installed.webhooks(), written);
    let annotations = &installed.configuration()["metadata"]["annotations"];
    assert_eq!(annotations["meta.helm.sh/release-name"], NAMESPACE);

    let uninstall = ["uninstall", NAMESPACE];
    installed.helm(&installed.grace, &uninstall).ok();
    assert!(!installed.exists(CONFIGURATIONS, "promotion-gate"));
}

#[test]
fn a_forced_upgrade_is_refused_before_it_takes_the_webhooks_away_and_a_plain_one_goes_on() {
    let installed = Installed::new();
    installed.fill_in();
    let written = installed.webhooks();
    let chart = chart();
    let upgrade = ["upgrade", NAMESPACE, &chart, "--reuse-values"];
    let forced = [&upgrade[..], &["--force"]].concat();
    let said = installed.helm(&installed.grace, &forced).refused();
    assert!(said.contains("take all `webhooks` away"), "{said}");
    assert_eq!(installed.webhooks(), written);
    let empty = json!({"webhooks": []}).to_string();
    let patch = ["patch", CONFIGURATIONS, "promotion-gate", "--type=merge"];
    let patch = patch.into_iter().chain(["--patch", &empty]);
    installed.plane.kubectl_by("grace", patch, "").refused();
    installed.helm(&installed.grace, &upgrade).ok();
    assert_eq!(installed.webhooks(), written);
}

#[test]
fn uninstallation_takes_the_webhooks_away_first_and_leaves_policies_and_records() {
    let installed = Installed::new();
    installed.fill_in();
    // By an administrator who is not a governor: refused, before anything is deleted.
    let uninstall = ["uninstall", NAMESPACE];
    let said = installed.helm(&installed.bob, &uninstall).refused();
    assert!(said.contains(GUARDED), "{said}");
    for (kind, name) in [
        (CONFIGURATIONS, "promotion-gate"),
        ("deployment", "promotion-gate"),
        ("service", "promotion-gate"),
        ("clusterrolebinding", "promotion-gate"),
    ] {
        assert!(installed.exists(kind, name), "{kind}");
    }
    assert_eq!(installed.webhooks().as_array().unwrap().len(), 2);

    let said = installed.helm(&installed.grace, &uninstall).ok();
    assert!(
        said.contains("promotionpolicies.promotion-gate.dev"),
        "{said}"
    );
    for (kind, name) in [
        (CONFIGURATIONS, "promotion-gate"),
        ("deployment", "promotion-gate"),
        ("service", "promotion-gate"),
        ("clusterrolebinding", "promotion-gate"),
        ("validatingadmissionpolicy", "promotion-gate-configuration"),
        ("validatingadmissionpolicybinding", "promotion-gate-records"),
    ] {
        assert!(!installed.exists(kind, name), "{kind}");
    }
    assert!(installed.exists("gateconfiguration", "promotion-gate"));
    let deleted = installed.plane.requests_of("grace@example.com");
    let first = |resource: &str| {
        let of = format!("\"resource\":\"{resource}\"");
        let mut lines = deleted.iter();
        let found =
            lines.position(|line| line.contains("\"verb\":\"delete\"") && line.contains(&of));
        found.unwrap_or_else(|| panic!("{resource}: {deleted:?}"))
    };
    for later in ["services", "deployments", "clusterrolebindings"] {
        assert!(
            first("validatingwebhookconfigurations") < first(later),
            "{later}"
        );
    }
}
