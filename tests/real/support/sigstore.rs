//! A Sigstore of the test's own: identity provider, certificate authority, transparency log and
//! timestamp authority, with the trusted root that names them. Service accounts of the test's clusters
//! sign with it too.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::authority::Authority;
use super::issuer::Issuer;
use super::program::{Address, Program, command, run};
use super::shared::Shared;

pub struct LocalSigstore {
    pub issuer: Issuer,
    pub fulcio_url: String,
    pub rekor_url: String,
    /// With its path, as clients want it.
    pub timestamp_url: String,
    folder: TempDir,
    _programs: [Program; 3],
}

/// From when on the services count as trusted: any time before they were started.
const START: &str = "2020-01-01T00:00:00Z";

impl LocalSigstore {
    /// The one that tests share which ask for it at the same time.
    pub fn shared() -> std::sync::Arc<LocalSigstore> {
        static SHARED: Shared<LocalSigstore> = Shared::new();
        SHARED.join(LocalSigstore::start)
    }

    /// One of its own, whose trusted root no other knows.
    pub fn start() -> LocalSigstore {
        let folder = TempDir::new().unwrap();
        let issuer = Issuer::start();
        let (fulcio, rekor, timestamp) = (Address::free(), Address::free(), Address::free());
        let programs = [
            start_fulcio(&folder, fulcio, &issuer.url()),
            start_rekor(&folder, rekor),
            start_timestamp(&folder, timestamp),
        ];
        write(
            &folder,
            "fulcio.pem",
            &fulcio.http_get("/api/v1/rootCert").unwrap(),
        );
        write(
            &folder,
            "timestamp.pem",
            &timestamp.http_get("/api/v1/timestamp/certchain").unwrap(),
        );

        let sigstore = LocalSigstore {
            issuer,
            fulcio_url: fulcio.url(),
            rekor_url: rekor.url(),
            timestamp_url: format!("{}/api/v1/timestamp", timestamp.url()),
            folder,
            _programs: programs,
        };
        sigstore.create_trusted_root();
        sigstore.create_signing_config();
        sigstore
    }

    pub fn trusted_root(&self) -> PathBuf {
        self.folder.path().join("trusted_root.json")
    }

    pub fn signing_config(&self) -> PathBuf {
        self.folder.path().join("signing_config.json")
    }

    fn create_trusted_root(&self) {
        let LocalSigstore {
            fulcio_url,
            rekor_url,
            timestamp_url,
            ..
        } = self;
        let fulcio = format!("url={fulcio_url},certificate-chain=fulcio.pem,start-time={START}");
        let rekor =
            format!("url={rekor_url},public-key=rekor.pub,start-time={START},origin=127.0.0.1");
        let tsa = format!("url={timestamp_url},certificate-chain=timestamp.pem,start-time={START}");
        let args = ["--fulcio", &fulcio, "--rekor", &rekor, "--tsa", &tsa];
        self.create("trusted-root", "trusted_root.json", &args);
    }

    fn create_signing_config(&self) {
        let service = |url: &str, version: u8| {
            format!("url={url},api-version={version},start-time={START},operator=test")
        };
        let fulcio = service(&self.fulcio_url, 1);
        let rekor = service(&self.rekor_url, 2);
        let oidc = service(&self.issuer.url(), 1);
        let tsa = service(&self.timestamp_url, 1);
        let mut args = vec!["--fulcio", &fulcio, "--oidc-provider", &oidc];
        args.extend(["--rekor", &rekor, "--rekor-config", "ANY"]);
        args.extend(["--tsa", &tsa, "--tsa-config", "ANY"]);
        self.create("signing-config", "signing_config.json", &args);
    }

    fn create(&self, what: &str, file: &str, args: &[&str]) {
        let mut cosign = command("cosign3", self.folder.path());
        run(cosign.args([what, "create", "--out", file]).args(args), b"").ok();
    }
}

/// How long another run of tests on this machine may use its Fulcio.
const OTHER_RUN: Duration = Duration::from_secs(1200);

/// Each Fulcio listens on a socket of this name, so there can be one on a machine.
fn wait_for_fulcio_of_other_runs() {
    let socket = SocketAddr::from_abstract_name("fulcio-legacy-grpc-socket").unwrap();
    let begun = Instant::now();
    while UnixStream::connect_addr(&socket).is_ok() {
        let waited = begun.elapsed();
        assert!(waited < OTHER_RUN, "another Fulcio runs on this machine");
        thread::sleep(Duration::from_secs(1));
    }
}

fn start_fulcio(folder: &TempDir, http: Address, issuer: &str) -> Program {
    // As YAML: a JSON file is read with other field names. Every API server of the tests is an issuer, as those of EKS are for the
    // public-good instance.
    let people = format!(
        "oidc-issuers:\n  \"{issuer}\":\n    issuer-url: \"{issuer}\"\n    client-id: sigstore\n    type: email\n"
    );
    let authority = Authority::of_api_servers().pem();
    let authority = authority.replace('\n', "\n      ");
    let clusters = format!(
        "meta-issuers:\n  \"https://127.0.0.1:*\":\n    client-id: sigstore\n    type: kubernetes\n    ca-cert: |\n      {authority}\n"
    );
    let config = format!("{people}{clusters}");
    write(folder, "fulcio.yaml", &config);
    let args = [
        ["--host", "127.0.0.1"],
        ["--port", &http.port()],
        ["--grpc-host", "127.0.0.1"],
        ["--grpc-port", &Address::free().port()],
        ["--metrics-port", &Address::free().port()],
        ["--ca", "ephemeralca"],
        ["--ct-log-url", ""],
        ["--config-path", "fulcio.yaml"],
    ];
    wait_for_fulcio_of_other_runs();
    Program::start(
        "fulcio",
        folder,
        ["serve"].into_iter().chain(args.into_iter().flatten()),
    )
    .until(|| http.http_get("/api/v1/rootCert").is_some())
}

fn start_rekor(folder: &TempDir, http: Address) -> Program {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    write(folder, "rekor.pem", &key.serialize_pem());
    write(folder, "rekor.pub", &key.public_key_pem());
    let args = [
        // The origin of its checkpoints too, so without the port.
        ["--hostname", "127.0.0.1"],
        ["--http-port", &http.port()],
        ["--grpc-port", &Address::free().port()],
        ["--http-metrics-port", &Address::free().port()],
        ["--signer-filepath", "rekor.pem"],
        ["--storage-dir", "log"],
        ["--checkpoint-interval", "1s"],
    ];
    Program::start(
        "rekor-server",
        folder,
        ["serve"].into_iter().chain(args.into_iter().flatten()),
    )
    .until(|| http.http_get("/healthz").is_some())
}

fn start_timestamp(folder: &TempDir, http: Address) -> Program {
    let args = [
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        &http.port(),
        "--timestamp-signer",
        "memory",
        "--disable-ntp-monitoring",
    ];
    Program::start("timestamp-server", folder, args)
        .until(|| http.http_get("/api/v1/timestamp/certchain").is_some())
}

fn write(folder: &TempDir, name: &str, content: &str) {
    fs::write(folder.path().join(name), content).unwrap();
}
