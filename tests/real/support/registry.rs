//! Registries of both kinds, and images to put there.

use std::fs;

use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{Address, Program, Ran, command, run};
use super::token_server::TokenServer;

/// A registry on loopback over plain HTTP.
pub struct Registry {
    pub address: Address,
    with_referrers: bool,
    /// How clients prove who they are (distribution); `null` where they need not.
    auth: Value,
    program: Option<Program>,
    folder: TempDir,
}

impl Registry {
    /// Distribution: it has no referrers API, so signatures are found by the fallback tag.
    pub fn distribution() -> Registry {
        Registry::new(false)
    }

    /// A registry with the referrers API of OCI 1.1. It keeps everything in memory.
    pub fn with_referrers() -> Registry {
        Registry::new(true)
    }

    pub fn both() -> [Registry; 2] {
        [Registry::distribution(), Registry::with_referrers()]
    }

    fn new(with_referrers: bool) -> Registry {
        let folder = TempDir::new().unwrap();
        let mut registry = Registry {
            address: Address::free(),
            with_referrers,
            auth: Value::Null,
            program: None,
            folder,
        };
        registry.start();
        registry
    }

    /// Starts it again after `stop`, on the same port; distribution still has its images.
    pub fn start(&mut self) {
        let (folder, address) = (&self.folder, self.address);
        let program = if self.with_referrers {
            Program::start(
                "registry-referrers",
                folder,
                ["--address", &address.to_string()],
            )
        } else {
            let mut config = serde_json::json!({
                "version": 0.1,
                "log": { "level": "info" },
                "storage": { "filesystem": { "rootdirectory": folder.path().join("images") } },
                "http": { "addr": address.to_string() },
            });
            if !self.auth.is_null() {
                config["auth"] = self.auth.clone();
            }
            fs::write(folder.path().join("config.yml"), config.to_string()).unwrap();
            Program::start("registry", folder, ["serve", "config.yml"])
        };
        self.program = Some(program.until(|| address.http("GET", "/v2/", "", b"").is_some()));
    }

    /// Starts distribution again, with its images, so that it takes the tokens of this server and no other request.
    pub fn require_tokens(&mut self, server: &TokenServer) {
        let file = self.folder.path().join("jwks.json");
        fs::write(&file, server.jwks().to_string()).unwrap();
        self.auth = server.configuration(&file.display().to_string());
        self.stop();
        self.start();
    }

    pub fn stop(&mut self) {
        self.program = None;
    }

    /// Puts a small image under `name:tag`. `content` makes its digest: equal for equal content.
    pub fn push(&self, name: &str, tag: &str, content: &str) -> Tagged {
        let image = format!("{}/{name}:{tag}", self.address);
        self.push_as(&image, content);
        let digest = self.crane(["digest", &image]).ok();
        Tagged {
            repository: format!("{}/{name}", self.address),
            tag: tag.to_owned(),
            digest,
        }
    }

    /// Puts a small image there, whatever the name stands for.
    pub fn push_as(&self, image: &str, content: &str) {
        // Two empty blocks are a layer without files.
        fs::write(self.folder.path().join("layer.tar"), [0; 1024]).unwrap();
        self.crane(["append", "--new_layer", "layer.tar", "--new_tag", image])
            .ok();
        let label = format!("content={content}");
        self.crane(["mutate", image, "--label", &label, "--tag", image])
            .ok();
    }

    /// Puts a small image for this architecture under `name:architecture`.
    pub fn push_for(&self, name: &str, architecture: &str) -> Tagged {
        let image = self.push(name, architecture, architecture);
        let (tag, platform) = (image.by_tag(), format!("linux/{architecture}"));
        self.crane(["mutate", &tag, "--set-platform", &platform, "--tag", &tag])
            .ok();
        let digest = self.crane(["digest", &tag]).ok();
        Tagged { digest, ..image }
    }

    /// Puts an index of images under `name:tag`.
    pub fn index(&self, name: &str, tag: &str, images: &[Tagged]) -> Tagged {
        let index = format!("{}/{name}:{tag}", self.address);
        let mut append = command("crane", self.folder.path());
        append.args(["--insecure", "index", "append", "--tag", &index]);
        for image in images {
            append.args(["--manifest", &image.by_tag()]);
        }
        run(&mut append, b"").ok();
        let digest = self.crane(["digest", &index]).ok();
        Tagged {
            repository: format!("{}/{name}", self.address),
            tag: tag.to_owned(),
            digest,
        }
    }

    /// Attaches a manifest that says it is a bundle, and holds `content` instead.
    pub fn attach_junk(&self, image: &Tagged, content: &str) {
        const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        const INDEX: &str = "application/vnd.oci.image.index.v1+json";
        let name = image.repository.rsplit_once('/').unwrap().1;
        let blob = |kind: &str, bytes: &str| {
            let digest = Digest::sha256(bytes.as_bytes());
            let uploads = format!("/v2/{name}/blobs/uploads/");
            let (head, _) = self.address.http("POST", &uploads, "", b"").unwrap();
            let location = |line: &str| Some(line.split_once(": ")?.1.to_owned());
            let location = head
                .lines()
                .find(|line| line.to_ascii_lowercase().starts_with("location:"))
                .and_then(location)
                .unwrap();
            let location = location.trim();
            let path = location
                .strip_prefix(&format!("http://{}", self.address))
                .unwrap_or(location);
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest={digest}");
            let octets = "application/octet-stream";
            let (head, said) = self
                .address
                .http("PUT", &path, octets, bytes.as_bytes())
                .unwrap();
            assert!(head.contains(" 201 "), "{head}\n{said}");
            json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
        };
        let put = |reference: &str, kind: &str, manifest: &Value| {
            let path = format!("/v2/{name}/manifests/{reference}");
            let body = manifest.to_string();
            let (head, said) = self
                .address
                .http("PUT", &path, kind, body.as_bytes())
                .unwrap();
            assert!(head.contains(" 201 "), "{head}\n{said}");
            body
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": blob("application/vnd.oci.empty.v1+json", "{}"),
            "layers": [blob(BUNDLE, content)],
            "subject": {"mediaType": MANIFEST, "digest": image.digest, "size": 1},
        });
        let digest = Digest::sha256(manifest.to_string().as_bytes()).to_string();
        let body = put(&digest, MANIFEST, &manifest);
        if !self.with_referrers {
            let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": body.len(), "artifactType": BUNDLE});
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            put(&image.digest.replace(':', "-"), INDEX, &index);
        }
    }

    pub fn crane<const N: usize>(&self, args: [&str; N]) -> Ran {
        run(
            command("crane", self.folder.path())
                .arg("--insecure")
                .args(args),
            b"",
        )
    }
}

/// An image as it was pushed.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// With the registry's address.
    pub repository: String,
    pub tag: String,
    /// `sha256:…`
    pub digest: String,
}

impl Tagged {
    pub fn by_tag(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    pub fn by_digest(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }

    /// The tag under which an attachment is found by name: `.sig` and `.att` for cosign's legacy
    /// layout, empty for the fallback of the referrers API.
    pub fn attached(&self, suffix: &str) -> String {
        format!(
            "{}:{}{suffix}",
            self.repository,
            self.digest.replace(':', "-")
        )
    }
}
