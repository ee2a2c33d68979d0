//! What `deploy/` and `policies/` hold, switched to `Enforce`, behind a real API server.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Certificate, ControlPlane, Gate, LocalSigstore, User, until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where the images of the example are, and what takes its place here: no registry listens there.
const EXAMPLE: &str = "ghcr.io/example/";
const UNREACHABLE: &str = "127.0.0.1:1/example/";
const SERVICE: &str = "promotion-gate.promotion-gate.svc";
/// Of the API server's range of Services.
const SERVICE_ADDRESS: &str = "127.96.0.10";

#[test]
fn shipped_policies_deny_nothing_outside_their_namespaces() {
    let gate = Gate::new(&LocalSigstore::shared());
    for folder in ["policies", "policies/production", "policies/staging"] {
        for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".yaml") {
                let text = fs::read_to_string(&path).unwrap();
                // Files of several folders have the same name.
                let file = format!("policies/{}-{name}", folder.replace('/', "-"));
                gate.write(&file, &enforcing(&text.replace(EXAMPLE, UNREACHABLE)));
            }
        }
    }
    let api_server = Certificate::new("api-server");
    gate.write("clients.crt", &api_server.pem);
    let clients = ["--client-ca", "clients.crt", "--client-name", "api-server"];
    let serving = gate.serve_as(&Certificate::new(SERVICE), SERVICE_ADDRESS, &clients);
    // With port 443, as shipped, the name of the Service alone is enough.
    let service = format!("{SERVICE}:{}", serving.port());
    let plane = ControlPlane::start_presenting(&api_server, &service);
    let apply = |object: &Value| {
        let args = ["apply", "--server-side", "-f", "-"];
        plane.kubectl_as(User::Admin, args, &object.to_string())
    };

    for namespace in ["promotion-gate", "shop", "prod-shop", "stage-shop"] {
        plane.create_namespace(namespace);
    }
    let accounts = [
        ("default", "kube-system"),
        ("promotion-gate", "promotion-gate"),
    ];
    for (account, namespace) in accounts {
        let create = ["create", "serviceaccount", account, "-n", namespace];
        plane.kubectl(create).ok();
    }
    let mut service = documents("deploy/manifests/service.yaml").remove(0);
    service["spec"]["clusterIP"] = json!(SERVICE_ADDRESS);
    service["spec"]["ports"][0]["port"] = json!(serving.port());
    let deployment = documents("deploy/manifests/deployment.yaml").remove(0);
    let policy = documents("deploy/manifests/network-policy.yaml").remove(0);
    for object in [&service, &deployment, &policy] {
        apply(object).ok();
    }
    let template = &deployment["spec"]["template"];
    for mut object in documents("deploy/webhook.yaml") {
        for webhook in object["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!(serving.encoded_ca_bundle());
            webhook["clientConfig"]["service"]["port"] = json!(serving.port());
            // No answer is an error here, in the namespaces of the infrastructure too.
            webhook["failurePolicy"] = json!("Fail");
        }
        apply(&object).ok();
    }

    let pod = |namespace: &str, name: &str, spec: &Value, controller: &str| {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name},
            "spec": spec,
        });
        let user = format!("--as=system:serviceaccount:kube-system:{controller}");
        let args = [&*user, "create", "-f", "-"];
        plane.kubectl_as(User::Admin, args, &pod.to_string())
    };
    let image = |image: &str| json!({"containers": [{"name": "main", "image": image}]});
    let mut round = 0;
    let refusal = until("the webhook is asked", || {
        round += 1;
        let (name, spec) = (format!("probe-{round}"), image("nginx:1"));
        let ran = pod("prod-shop", &name, &spec, "replicaset-controller");
        (!ran.is_ok()).then(|| ran.refused())
    });
    assert!(refusal.contains("[image-not-allowed]"), "{refusal}");
    for name in ["observe-first", "production-registries"] {
        assert!(refusal.contains(&format!("`{name}`")), "{refusal}");
    }

    // Of the gate's image and of an application in staging, the evidence cannot be read.
    let digest = "1".repeat(64);
    let gates = |repository: &str| {
        let mut spec = template["spec"].clone();
        spec["containers"][0]["image"] = json!(format!("{repository}@sha256:{digest}"));
        spec
    };
    let own = gates(&format!("{UNREACHABLE}promotion-gate"));
    let app = image(&format!("{UNREACHABLE}app@sha256:{digest}"));
    for (namespace, spec, policy) in [
        ("promotion-gate", &own, "`gate-image`"),
        ("stage-shop", &app, "`staging-applications`"),
    ] {
        let ran = pod(namespace, "unsigned", spec, "replicaset-controller");
        let refusal = ran.refused();
        assert!(refusal.contains(policy), "{refusal}");
    }

    let proxy = image("registry.k8s.io/kube-proxy:v1.33.0");
    // Another image of the gate's namespace, for which `gate-image` is not.
    let other = &gates("registry.example/promotion-gate");
    let web = image("registry.example/web:1");
    for (namespace, name, spec, controller) in [
        ("kube-system", "kube-proxy", &proxy, "daemon-set-controller"),
        ("promotion-gate", "gate-1", other, "replicaset-controller"),
        ("shop", "web-1", &web, "replicaset-controller"),
    ] {
        pod(namespace, name, spec, controller).ok();
        let asked = format!("\"namespace\":\"{namespace}\",\"name\":\"{name}\"");
        let log = serving.log();
        let line = log.lines().find(|line| line.contains(&asked));
        let line = line.unwrap_or_else(|| panic!("{name} was not asked about: {log}"));
        assert!(line.contains("\"decision\":\"allow\""), "{line}");
    }
}

/// The documents of a file of the repository.
fn documents(file: &str) -> Vec<Value> {
    let bytes = fs::read(Path::new(ROOT).join(file)).unwrap();
    let (documents, problems) = promotion_gate_core::documents::read(file, &bytes);
    assert!(problems.is_empty(), "{problems:?}");
    documents
        .into_iter()
        .map(|document| document.value)
        .collect()
}

fn enforcing(policy: &str) -> String {
    let all = policy.replace("enforcement: Warn", "enforcement: Enforce");
    assert!(!all.contains("enforcement: Audit"), "{all}");
    all
}
