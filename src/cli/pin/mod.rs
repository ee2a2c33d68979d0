//! `pin`: adds the digests that tags name to manifests, and leaves every other byte unchanged.

mod edit;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures::StreamExt as _;
use promotion_gate_core::gate::{Collected, ImageReference};
use tokio::time::Instant;

use super::world::{self, Given, Input, NO_OBJECTS, manifests_under};
use crate::admission;
use crate::collect::resolve_tag;
use crate::config::Config;
use crate::text;
use edit::Edit;

/// Tags that are resolved concurrently.
const SIDE_BY_SIDE: usize = 16;

/// Add the digest that each tag names to manifests (`name:tag@sha256:…`)
///
/// Without `--write`, the changes are listed. With it, each file is replaced in one step, and every byte except the references
/// stays unchanged. Standard input is written to standard output with the digests. Exit codes: 0 everything is pinned, 1 wrong
/// usage or a reference that cannot be edited, 2 with `--check`: something is not pinned, 3 a tag could not be resolved.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate pin deploy/                       list the changes
  promotion-gate pin --write deploy/               write the changes
  promotion-gate pin --check deploy/               fail in CI if a reference has no digest
  helm template . | promotion-gate pin - > rendered.yaml")]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    /// Write the changes to the files
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Report references without a digest and ask no registry; the exit code is 2 if there are any
    #[arg(long)]
    check: bool,
    /// The configuration: registries, credentials
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Time limit for resolving all tags, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// A file, and its references without a digest.
struct Manifest {
    name: String,
    /// `None` for standard input.
    path: Option<PathBuf>,
    bytes: Vec<u8>,
    unpinned: Vec<(ImageReference, Edit)>,
    objects: usize,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut manifests = Vec::new();
    for input in &args.given.inputs {
        if input == "-" {
            manifests.push(Manifest::read(
                "-",
                None,
                world::bounded(std::io::stdin().lock())?,
            )?);
            continue;
        }
        for file in manifests_under(input)? {
            let name = file.display().to_string();
            let open =
                std::fs::File::open(&file).with_context(|| format!("`{name}` cannot be opened"))?;
            let bytes = world::bounded(open).with_context(|| format!("`{name}` cannot be read"))?;
            manifests.push(Manifest::read(&name, Some(file), bytes)?);
        }
    }
    if manifests.iter().all(|manifest| manifest.objects == 0) && !args.given.allow_empty {
        bail!("{NO_OBJECTS}");
    }
    if args.check {
        return Ok(check(&manifests));
    }
    let config = Config::load(args.config.as_deref())?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let digests = resolve(&manifests, &config, deadline).await?;
    let mut unresolved = BTreeSet::new();
    let mut pinned = Vec::new();
    for manifest in &manifests {
        match manifest.edits(&digests) {
            Ok(edits) => {
                let bytes = edit::apply(&manifest.name, &manifest.bytes, &edits);
                let bytes = bytes.map_err(|why| anyhow!("nothing is changed: {why}"))?;
                pinned.push((manifest, edits, bytes));
            }
            Err(unavailabilities) => unresolved.extend(unavailabilities),
        }
    }
    for (manifest, edits, bytes) in pinned {
        manifest.put(&args, &edits, &bytes)?;
    }
    for unavailability in &unresolved {
        print_error!("{unavailability}");
    }
    Ok(match unresolved.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(3),
    })
}

fn check(manifests: &[Manifest]) -> ExitCode {
    let mut missing = 0;
    for manifest in manifests {
        for (_, edit) in &manifest.unpinned {
            let (line, column) = edit.at;
            print_line!(
                "{}:{line}:{column}: `{}` has no digest",
                text::line(&manifest.name),
                text::line(&edit.written)
            );
            missing += 1;
        }
    }
    if missing == 0 {
        return ExitCode::SUCCESS;
    }
    print_error!("{missing} images are not pinned; `promotion-gate pin --write` pins them");
    ExitCode::from(2)
}

/// What each reference without a digest resolves to. Each reference is resolved once.
async fn resolve(
    manifests: &[Manifest],
    config: &Config,
    deadline: Instant,
) -> anyhow::Result<BTreeMap<String, Result<String, String>>> {
    let registry = world::registry(config)?;
    let wanted: BTreeMap<String, &ImageReference> = manifests
        .iter()
        .flat_map(|manifest| &manifest.unpinned)
        .map(|(reference, _)| (reference.to_string(), reference))
        .collect();
    let resolved = futures::stream::iter(wanted).map(|(normal, reference)| {
        let registry = &registry;
        async move {
            let digest = match resolve_tag(&**registry, reference, deadline).await {
                Collected::Known(digest) | Collected::Partial(digest, _) => {
                    Ok(format!("@{digest}"))
                }
                Collected::Unavailable(unavailability) => Err(unavailability.to_string()),
            };
            (normal, digest)
        }
    });
    Ok(resolved.buffer_unordered(SIDE_BY_SIDE).collect().await)
}

impl Manifest {
    fn read(name: &str, path: Option<PathBuf>, bytes: Vec<u8>) -> anyhow::Result<Manifest> {
        let input = Input::of(name, &bytes);
        let mut problems = input.problems().to_vec();
        problems.extend(input.unusable());
        if !problems.is_empty() {
            bail!("nothing is changed:\n{}", world::lines(&problems));
        }
        input.remarks();
        let mut unpinned = Vec::new();
        for object in input.objects() {
            let Some(images) = admission::images(object.value) else {
                continue;
            };
            for field in images.fields {
                let place = object.problem(&field.path, "");
                // `Input::unusable` has reported a reference that does not parse.
                if let Ok(reference) = field.written.parse::<ImageReference>()
                    && reference.digest().is_none()
                {
                    let edit = Edit {
                        document: object.index,
                        path: place.path.to_string(),
                        at: (place.line, place.column),
                        written: field.written,
                        digest: String::new(),
                    };
                    unpinned.push((reference, edit));
                }
            }
        }
        Ok(Manifest {
            name: name.to_owned(),
            path,
            bytes,
            unpinned,
            objects: input.objects().len(),
        })
    }

    /// The edits in the order of the text; if a tag could not be resolved, a message for each such reference.
    fn edits(
        &self,
        digests: &BTreeMap<String, Result<String, String>>,
    ) -> Result<Vec<Edit>, Vec<String>> {
        let said = |edit: &Edit, why: &str| {
            let (line, column) = edit.at;
            format!("{}:{line}:{column}: {why}", self.name)
        };
        let mut edits = Vec::new();
        let mut unavailabilities = Vec::new();
        for (reference, edit) in &self.unpinned {
            match digests.get(&reference.to_string()) {
                Some(Ok(digest)) => edits.push(Edit {
                    digest: digest.clone(),
                    ..edit.clone()
                }),
                Some(Err(unavailability)) => unavailabilities.push(said(edit, unavailability)),
                None => {
                    unavailabilities.push(said(edit, &format!("`{reference}` was not resolved")))
                }
            }
        }
        if !unavailabilities.is_empty() {
            return Err(unavailabilities);
        }
        edits.sort_by_key(|edit| edit.at);
        Ok(edits)
    }

    fn put(&self, args: &Args, edits: &[Edit], bytes: &[u8]) -> anyhow::Result<()> {
        let Some(path) = &self.path else {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(bytes).and_then(|()| out.flush());
            return written.context("standard output cannot be written");
        };
        for edit in edits {
            let (line, column) = edit.at;
            print_line!(
                "{}:{line}:{column}: {}{}",
                text::line(&self.name),
                text::line(&edit.written),
                edit.digest
            );
        }
        if args.write && !edits.is_empty() {
            replace(path, bytes).with_context(|| format!("`{}` cannot be written", self.name))?;
        }
        Ok(())
    }
}

/// Replaces a file in one step and keeps its permissions. A link stays, and its target is replaced.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let path = path.canonicalize()?;
    let folder = path.parent().context("the path has no parent folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Where the corpora are present.
    #[test]
    fn pinning_changes_the_images_of_real_manifests_alone() {
        let shared = std::env::var_os("PROMOTION_GATE_SHARED").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
            PathBuf::from,
        );
        let corpora = shared.join("corpora");
        if !corpora.exists() {
            let line = format!(
                "corpus manifests: skipped, because {} does not exist\n",
                corpora.display()
            );
            return std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
        let folder = corpora.join("manifests/files");
        let files = manifests_under(&folder.display().to_string()).unwrap();
        let digest = format!("@sha256:{}", "1".repeat(64));
        let (mut images, mut skipped) = (0, 0);
        for file in &files {
            let bytes = std::fs::read(file).unwrap();
            let name = file.display().to_string();
            let Ok(manifest) = Manifest::read(&name, None, bytes.clone()) else {
                skipped += 1;
                continue;
            };
            let digests = manifest.unpinned.iter();
            let digests = digests
                .map(|(reference, _)| (reference.to_string(), Ok(digest.clone())))
                .collect();
            let edits = manifest.edits(&digests).unwrap();
            images += edits.len();
            let pinned = edit::apply(&name, &bytes, &edits).unwrap();
            let without = String::from_utf8(pinned).unwrap().replace(&digest, "");
            assert!(without.as_bytes() == bytes, "{name}");
        }
        print_line!(
            "corpus manifests (pin): {images} images pinned in {} files, {skipped} skipped as unreadable",
            files.len() - skipped
        );
        assert!(images > 500 && skipped < files.len() / 10);
    }
}
