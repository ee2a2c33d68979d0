//! `pin`: tags become digests where they stand, and nothing else changes.

use std::fs;
use std::path::Path;

use promotion_gate::sandbox::{SandboxRegistry, push_image};
use promotion_gate_core::gate::Digest;
use tempfile::TempDir;

use crate::cli::{Ran, run};
use crate::images::registry;

struct Folder {
    folder: TempDir,
    registry: SandboxRegistry,
    digest: Digest,
}

impl Folder {
    async fn new() -> Folder {
        let registry = registry().await;
        let digest = push_image(&registry, "app", "v1", "v1").unwrap();
        Folder {
            folder: TempDir::new().unwrap(),
            registry,
            digest,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, args: &[&str], input: &str) -> Ran {
        run(self.path(), args, input)
    }

    /// Manifests of every layout, with `image` in each.
    fn manifests(&self, more: &str) -> String {
        let image = format!("{}/app:v1{more}", self.registry.host());
        format!(
            "# first\n\
             apiVersion: v1\n\
             kind: Pod\n\
             metadata: {{name: a}}\n\
             spec:\n\
             \x20 initContainers: [{{name: i,   image: \"{image}\"}}]   # kept\n\
             \x20 containers:\n\
             \x20 - image: {image} # this too\n\
             \x20   name: c\n\
             ---\r\n\
             {{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\r\n\
             \t{{\"apiVersion\": \"batch/v1\", \"kind\": \"CronJob\", \"metadata\": {{\"name\": \"b\"}}, \"spec\": {{\"jobTemplate\": \
             {{\"spec\": {{\"template\": {{\"spec\": {{\"containers\": [{{\"name\": \"c\", \"image\": \"{image}\"}}]}}}}}}}}}}}}]}}\n\
             ---\n\
             kind: ConfigMap\n\
             apiVersion: v1\n\
             metadata: {{name: c}}\n\
             data: {{image: app:v1}}\n"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_puts_digests_where_tags_are_and_changes_no_other_byte() {
    let folder = Folder::new().await;
    let before = folder.manifests("");
    let after = folder.manifests(&format!("@{}", folder.digest));
    let file = folder.path().join("a.yaml");
    fs::write(&file, &before).unwrap();

    let ran = folder.run(&["pin", "a.yaml"], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    assert!(ran.stdout.starts_with("a.yaml:6:39: "), "{}", ran.stdout);
    assert_eq!(fs::read_to_string(&file).unwrap(), before);

    let ran = folder.run(&["pin", "--write", "a.yaml"], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), after);

    let ran = folder.run(&["pin", "--write", "a.yaml"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), after);

    let ran = folder.run(&["pin", "-"], &before);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, after.as_str()),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_check_exits_with_2_for_a_missing_digest() {
    let folder = Folder::new().await;
    let nowhere = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: c, image: \"registry.invalid/app:v1\"}\n";
    let ran = folder.run(&["pin", "--check", "-"], nowhere);
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.stdout,
        "-:6:22: `registry.invalid/app:v1` has no digest\n"
    );
    let pinned = folder.manifests(&format!("@{}", folder.digest));
    let ran = folder.run(&["pin", "--check", "-"], &pinned);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_tag_that_cannot_be_resolved_stays_as_it_is() {
    let folder = Folder::new().await;
    let text = folder.manifests("").replacen("app:v1", "app:gone", 1);
    let file = folder.path().join("a.yaml");
    fs::write(&file, &text).unwrap();
    let ran = folder.run(&["pin", "--write", "a.yaml"], "");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr.contains("a.yaml:6:39: ") && ran.stderr.contains("app:gone"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_shared_through_a_yaml_alias_is_not_pinned() {
    let folder = Folder::new().await;
    let image = format!("{}/app:v1", folder.registry.host());
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  initContainers:\n  - {{name: i, image: &x \"{image}\"}}\n  \
         containers:\n  - {{name: c, image: *x}}\n"
    );
    fs::write(folder.path().join("a.yaml"), &text).unwrap();
    let ran = folder.run(&["pin", "--write", "a.yaml"], "");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("alias"), "{}", ran.stderr);
    assert_eq!(
        fs::read_to_string(folder.path().join("a.yaml")).unwrap(),
        text
    );
}
