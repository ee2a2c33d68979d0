//! Registries of both kinds, and images to put there.

use std::fs;

use tempfile::TempDir;

use super::program::{Address, Program, Ran, command, run};

/// A registry on loopback over plain HTTP.
pub struct Registry {
    pub address: Address,
    with_referrers: bool,
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
            let config = serde_json::json!({
                "version": 0.1,
                "log": { "level": "info" },
                "storage": { "filesystem": { "rootdirectory": folder.path().join("images") } },
                "http": { "addr": address.to_string() },
            });
            fs::write(folder.path().join("config.yml"), config.to_string()).unwrap();
            Program::start("registry", folder, ["serve", "config.yml"])
        };
        self.program = Some(program.until(|| address.http_get("/v2/").is_some()));
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
