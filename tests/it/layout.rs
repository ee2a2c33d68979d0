//! Image layout directories as registries.

use std::fs;
use std::path::Path;

use promotion_gate::oci::{ErrorKind, Layout, Reference, Registry as _, Repository, Via};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::facts::FACTS;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

struct Directory {
    folder: TempDir,
    entries: Vec<Value>,
}

impl Directory {
    fn new() -> Directory {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(
            folder.path().join("oci-layout"),
            r#"{"imageLayoutVersion": "1.0.0"}"#,
        )
        .unwrap();
        Directory {
            folder,
            entries: Vec::new(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::sha256(bytes);
        fs::write(self.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": "application/octet-stream", "digest": digest.to_string(), "size": bytes.len()})
    }

    fn entry(&mut self, manifest: &Value, annotations: Value) -> Digest {
        let bytes = manifest.to_string().into_bytes();
        let mut entry = self.blob(&bytes);
        entry["mediaType"] = json!(MANIFEST);
        entry["annotations"] = annotations;
        self.entries.push(entry);
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        Digest::sha256(&bytes)
    }

    fn image(&mut self, annotations: Value) -> Digest {
        let config = self.blob(b"{}");
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        self.entry(&manifest, annotations)
    }

    /// As a referrer.
    fn bundle(&mut self, subject: &Digest, by: &str) {
        let bundle = FACTS.bundle(subject, by).to_string();
        let mut layer = self.blob(bundle.as_bytes());
        layer["mediaType"] = json!(BUNDLE);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
            "config": self.blob(b"{}"), "layers": [layer],
            "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": 0},
        });
        self.entry(&manifest, json!({}));
    }

    fn signatures(&mut self, subject: &Digest, annotations: Value) {
        let signature = FACTS.simple(subject, "release");
        let mut layer = self.blob(&signature.payload);
        layer["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
        layer["annotations"] = json!(signature.annotations);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": self.blob(b"{}"), "layers": [layer]});
        self.entry(&manifest, annotations);
    }
}

fn any() -> Repository {
    Repository::new("oci-layout.invalid", "image")
}

#[tokio::test]
async fn an_image_is_found_by_its_name_its_digest_or_as_the_only_one() {
    let mut directory = Directory::new();
    let image = directory.image(json!({"org.opencontainers.image.ref.name": "v1"}));
    directory.bundle(&image, "release");
    let path = directory.path().display().to_string();
    for written in [
        path.clone(),
        format!("{path}:v1"),
        format!("{path}@{image}"),
    ] {
        let (layout, reference) = Layout::named(&written).unwrap();
        let asked = match reference.digest() {
            Some(digest) => Reference::Digest(digest.clone()),
            None => Reference::Tag(reference.tag().unwrap().to_owned()),
        };
        assert_eq!(
            layout.resolve(&any(), &asked).await.unwrap().digest,
            image,
            "{written}"
        );
    }
    let (layout, _) = Layout::named(&format!("{path}:v2")).unwrap();
    let error = layout
        .resolve(&any(), &Reference::Tag("v2".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_layout_holds_evidence_as_referrer_tag_or_cosign_save() {
    let mut directory = Directory::new();
    let image = directory.image(json!({"kind": "dev.cosignproject.cosign/image"}));
    directory.bundle(&image, "release");
    let tag = format!("sha256-{}.sig", image.hex());
    directory.signatures(&image, json!({"org.opencontainers.image.ref.name": tag}));
    directory.signatures(&image, json!({"kind": "dev.cosignproject.cosign/sigs"}));
    let layout = Layout::open(directory.path()).unwrap();
    let found = layout.attached(&any(), &image).await;
    assert!(
        found.unavailability.is_empty() && found.cut.is_none(),
        "{found:?}"
    );
    let via: Vec<_> = found.listing.iter().map(|attached| attached.via).collect();
    assert_eq!(via, [Via::Referrers, Via::SigTag, Via::SigTag]);
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_names_is_refused() {
    let mut directory = Directory::new();
    let image = directory.image(json!({}));
    fs::write(
        directory.path().join("blobs/sha256").join(image.hex()),
        "other",
    )
    .unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    let error = layout.manifest(&any(), &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[tokio::test]
async fn a_link_that_leads_out_of_the_layout_is_not_followed() {
    let secret = TempDir::new().unwrap();
    let content = b"{\"secret\": true}";
    fs::write(secret.path().join("secret"), content).unwrap();
    let mut directory = Directory::new();
    directory.image(json!({}));
    let digest = Digest::sha256(content);
    let link = directory.path().join("blobs/sha256").join(digest.hex());
    std::os::unix::fs::symlink(secret.path().join("secret"), link).unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    layout.manifest(&any(), &digest).await.unwrap_err();
}

#[test]
fn what_is_no_layout_is_refused_with_its_place() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().display().to_string();
    assert!(
        Layout::named(&path)
            .err()
            .unwrap()
            .to_string()
            .contains(&path)
    );
    for text in [
        "",
        "[]",
        "{",
        r#"{"schemaVersion": 2, "manifests": 7}"#,
        r#"{"manifests": [{"digest": "sha256:../../x"}]}"#,
    ] {
        fs::write(folder.path().join("index.json"), text).unwrap();
        let refused = Layout::named(&path);
        assert!(refused.is_err(), "{text}");
    }
}
