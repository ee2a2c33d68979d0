//! cosign 3 (bundles) and cosign 2 (its legacy tags), signing as its users do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, slice};

use tempfile::TempDir;

use super::program::{Ran, command, run};
use super::registry::Tagged;
use super::sigstore::LocalSigstore;

/// One of both versions, with a home of its own.
pub struct Cosign {
    program: &'static str,
    home: TempDir,
    /// The repository that signatures and attestations are written to, if not the image's.
    repository: Option<String>,
}

/// A key pair as cosign makes them, without a password.
pub struct Key {
    private: PathBuf,
    pub public: PathBuf,
    _folder: TempDir,
}

impl Key {
    pub fn generate() -> Key {
        let folder = TempDir::new().unwrap();
        let mut cosign = command("cosign3", folder.path());
        run(
            cosign.arg("generate-key-pair").env("COSIGN_PASSWORD", ""),
            b"",
        )
        .ok();
        let file = |name| folder.path().join(name);
        Key {
            private: file("cosign.key"),
            public: file("cosign.pub"),
            _folder: folder,
        }
    }

    /// A key of another algorithm than cosign's own, taken over by `cosign import-key-pair`.
    pub fn import(algorithm: &'static rcgen::SignatureAlgorithm) -> Key {
        let folder = TempDir::new().unwrap();
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        let mut cosign = command("cosign3", folder.path());
        cosign.args(["import-key-pair", "--key", "key.pem", "--yes"]);
        run(cosign.env("COSIGN_PASSWORD", ""), b"").ok();
        let file = |name| folder.path().join(name);
        Key {
            private: file("import-cosign.key"),
            public: file("import-cosign.pub"),
            _folder: folder,
        }
    }

    pub fn private(&self) -> &Path {
        &self.private
    }

    pub fn public_pem(&self) -> String {
        fs::read_to_string(&self.public).unwrap()
    }
}

impl Cosign {
    /// Makes bundles, attached as referrers or under the fallback tag.
    pub fn v3() -> Cosign {
        Cosign {
            program: "cosign3",
            home: TempDir::new().unwrap(),
            repository: None,
        }
    }

    /// Makes the legacy layout: tags `sha256-….sig` and `sha256-….att`.
    pub fn v2() -> Cosign {
        Cosign {
            program: "cosign2",
            home: TempDir::new().unwrap(),
            repository: None,
        }
    }

    /// Writes to another repository than the image's (`COSIGN_REPOSITORY`).
    pub fn writing_to(self, repository: &str) -> Cosign {
        Cosign {
            repository: Some(repository.to_owned()),
            ..self
        }
    }

    /// Signs with a key and nothing else: no log, no timestamp.
    pub fn sign_with_key(&self, image: &Tagged, key: &Key, annotations: &[(&str, &str)]) -> Ran {
        let mut cosign = self.command("sign");
        with_key(&mut cosign, key).args(self.without_services());
        for (name, value) in annotations {
            cosign.args(["-a", &format!("{name}={value}")]);
        }
        self.on(&mut cosign, image)
    }

    /// Signs with a key and has the time attested.
    pub fn sign_with_key_and_time(
        &self,
        image: &Tagged,
        key: &Key,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("sign");
        with_key(&mut cosign, key).args(self.without_services());
        cosign.args(["--timestamp-server-url", &sigstore.timestamp_url]);
        self.on(&mut cosign, image)
    }

    /// Signs with a key, a log entry and a timestamp (cosign 3).
    pub fn sign_with_key_and_log(
        &self,
        image: &Tagged,
        key: &Key,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("sign");
        with_key(&mut cosign, key);
        with_services(&mut cosign, sigstore);
        self.on(&mut cosign, image)
    }

    /// Signs as a person: cosign 3 with a log entry and a timestamp, cosign 2 (whose log has no
    /// modern API) with a timestamp alone.
    pub fn sign_keyless(&self, image: &Tagged, email: &str, sigstore: &LocalSigstore) -> Ran {
        let mut cosign = self.command("sign");
        self.keyless(&mut cosign, email, sigstore);
        self.on(&mut cosign, image)
    }

    /// Signs as a person with the certificate alone: no log entry, no timestamp (cosign 2).
    pub fn sign_keyless_without_a_time(
        &self,
        image: &Tagged,
        email: &str,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("sign");
        cosign
            .args(["--identity-token", &sigstore.issuer.token(email)])
            .args(["--fulcio-url", &sigstore.fulcio_url])
            .args(["--tlog-upload=false", "--insecure-skip-verify=true"]);
        self.on(&mut cosign, image)
    }

    /// Attests a statement about an image as a person, with the same services as `sign_keyless`.
    pub fn attest_keyless(
        &self,
        image: &Tagged,
        predicate_type: &str,
        predicate: &serde_json::Value,
        email: &str,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("attest");
        self.keyless(&mut cosign, email, sigstore);
        self.with_predicate(&mut cosign, predicate_type, predicate);
        self.on(&mut cosign, image)
    }

    /// Attests a statement about an image with a key and nothing else.
    pub fn attest_with_key(
        &self,
        image: &Tagged,
        predicate_type: &str,
        predicate: &serde_json::Value,
        key: &Key,
    ) -> Ran {
        let mut cosign = self.command("attest");
        with_key(&mut cosign, key).args(self.without_services());
        self.with_predicate(&mut cosign, predicate_type, predicate);
        self.on(&mut cosign, image)
    }

    /// Attests a statement about an image with a key, and has the time attested.
    pub fn attest_with_key_and_time(
        &self,
        image: &Tagged,
        predicate_type: &str,
        predicate: &serde_json::Value,
        key: &Key,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("attest");
        with_key(&mut cosign, key).args(self.without_services());
        cosign.args(["--timestamp-server-url", &sigstore.timestamp_url]);
        self.with_predicate(&mut cosign, predicate_type, predicate);
        self.on(&mut cosign, image)
    }

    /// Does cosign itself accept the signature of `email`?
    pub fn verify_keyless(&self, image: &Tagged, email: &str, sigstore: &LocalSigstore) -> Ran {
        let mut cosign = self.command("verify");
        cosign
            .arg("--trusted-root")
            .arg(sigstore.trusted_root())
            .args(["--certificate-identity", email])
            .args(["--certificate-oidc-issuer", &sigstore.issuer.url()])
            .args(["--insecure-ignore-sct", "--use-signed-timestamps"]);
        if !self.is_v3() {
            cosign.arg("--insecure-ignore-tlog");
        }
        self.on(&mut cosign, image)
    }

    /// Does cosign itself accept a signature by the key?
    pub fn verify_with_key(&self, image: &Tagged, key: &Key) -> Ran {
        let mut cosign = self.command("verify");
        cosign
            .arg("--key")
            .arg(&key.public)
            .arg("--insecure-ignore-tlog");
        self.on(&mut cosign, image)
    }

    /// Does cosign itself accept an attestation by `email`, in a bundle?
    pub fn verify_attestation_keyless(
        &self,
        image: &Tagged,
        predicate_type: &str,
        email: &str,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("verify-attestation");
        cosign
            .args(["--type", predicate_type, "--trusted-root"])
            .arg(sigstore.trusted_root())
            .args(["--certificate-identity", email])
            .args(["--certificate-oidc-issuer", &sigstore.issuer.url()])
            .args(["--insecure-ignore-sct", "--use-signed-timestamps"]);
        self.with_bundles(&mut cosign);
        self.on(&mut cosign, image)
    }

    /// Does cosign itself accept an attestation by a key, in a bundle?
    pub fn verify_attestation_with_key(
        &self,
        image: &Tagged,
        predicate_type: &str,
        key: &Path,
        sigstore: &LocalSigstore,
    ) -> Ran {
        let mut cosign = self.command("verify-attestation");
        cosign
            .args(["--type", predicate_type, "--trusted-root"])
            .arg(sigstore.trusted_root())
            .arg("--key")
            .arg(key)
            .arg("--use-signed-timestamps");
        self.with_bundles(&mut cosign);
        self.on(&mut cosign, image)
    }

    /// Lets cosign 2 read bundles, as cosign 3 does anyway.
    fn with_bundles(&self, cosign: &mut Command) {
        if !self.is_v3() {
            cosign.arg("--new-bundle-format");
        }
    }

    fn keyless(&self, cosign: &mut Command, email: &str, sigstore: &LocalSigstore) {
        cosign.args(["--identity-token", &sigstore.issuer.token(email)]);
        if self.is_v3() {
            with_services(cosign, sigstore);
        } else {
            cosign
                .args(["--fulcio-url", &sigstore.fulcio_url])
                .args(["--timestamp-server-url", &sigstore.timestamp_url])
                .args(["--tlog-upload=false", "--insecure-skip-verify=true"]);
        }
    }

    fn with_predicate(&self, cosign: &mut Command, kind: &str, predicate: &serde_json::Value) {
        fs::write(
            self.home.path().join("predicate.json"),
            predicate.to_string(),
        )
        .unwrap();
        cosign.args(["--type", kind, "--predicate", "predicate.json"]);
    }

    fn without_services(&self) -> &'static [&'static str] {
        const WITHOUT: [&str; 2] = ["--tlog-upload=false", "--use-signing-config=false"];
        if self.is_v3() {
            &WITHOUT
        } else {
            slice::from_ref(&WITHOUT[0])
        }
    }

    pub fn name(&self) -> &'static str {
        self.program
    }

    fn is_v3(&self) -> bool {
        self.program == "cosign3"
    }

    fn command(&self, what: &str) -> Command {
        let mut cosign = command(self.program, self.home.path());
        cosign
            .arg(what)
            .arg("--allow-http-registry")
            .env("COSIGN_PASSWORD", "");
        if !what.starts_with("verify") {
            cosign.arg("--yes");
        }
        cosign
    }

    fn on(&self, cosign: &mut Command, image: &Tagged) -> Ran {
        if let Some(repository) = &self.repository {
            cosign.env("COSIGN_REPOSITORY", repository);
        }
        run(cosign.arg(image.by_digest()), b"")
    }
}

fn with_key<'c>(cosign: &'c mut Command, key: &Key) -> &'c mut Command {
    cosign.arg("--key").arg(&key.private)
}

fn with_services(cosign: &mut Command, sigstore: &LocalSigstore) {
    let files: [(&str, &Path); 2] = [
        ("--signing-config", &sigstore.signing_config()),
        ("--trusted-root", &sigstore.trusted_root()),
    ];
    for (flag, file) in files {
        cosign.arg(flag).arg(file);
    }
}
