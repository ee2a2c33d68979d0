//! A TUF repository that go-tuf makes, and what cosign reads from it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http_server::HttpServer;
use super::program::{Address, Ran, command, run};

pub struct TufRepository {
    folder: TempDir,
    address: Address,
    server: Option<HttpServer>,
}

impl TufRepository {
    /// A repository with a trust root, and served.
    pub fn with(trusted_root: &Path) -> TufRepository {
        let mut repository = TufRepository {
            folder: TempDir::new().unwrap(),
            address: Address::free(),
            server: None,
        };
        repository.publish(trusted_root, &[]);
        repository.start();
        repository
    }

    /// Publishes a trust root under the next versions.
    pub fn publish(&self, trusted_root: &Path, flags: &[&str]) {
        let mut command = command("tuf-repository", self.folder.path());
        command.args(["-site", "site", "-keys", "keys"]).args(flags);
        run(command.arg("-target").arg(trusted_root), b"").ok();
    }

    pub fn start(&mut self) {
        let site = self.folder.path().join("site");
        let answer = move |path: &str| fs::read(site.join(path.trim_start_matches('/'))).ok();
        self.server = Some(HttpServer::start_with_bytes(self.address, answer));
    }

    pub fn stop(&mut self) {
        self.server = None;
    }

    /// The `spec` of a `TrustRoot`.
    pub fn spec(&self, refresh: &str) -> Value {
        let root = fs::read(self.folder.path().join("site/1.root.json")).unwrap();
        let root: Value = serde_json::from_slice(&root).unwrap();
        json!({"tuf": {"url": self.address.url(), "initialRoot": root, "refresh": refresh}})
    }

    /// What `cosign initialize` says that begins with the first root, and the trust root that it has then.
    pub fn read_by_cosign(&self) -> (Ran, Option<Vec<u8>>) {
        let home = TempDir::new().unwrap();
        let mut cosign = command("cosign3", home.path());
        cosign.args(["initialize", "--mirror", &self.address.url(), "--root"]);
        let ran = run(cosign.arg(self.folder.path().join("site/1.root.json")), b"");
        let at = self.address.to_string().replace(':', "-");
        let file = format!(".sigstore/root/{at}/targets/trusted_root.json");
        (ran, fs::read(home.path().join(file)).ok())
    }
}
