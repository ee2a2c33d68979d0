//! What commands put together before they can review: policies, input and a collector, from arguments and configuration.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use promotion_gate_core::documents::{self, Document, Path as Place, Problem};
use promotion_gate_core::gate::{ImageReference, TrustRoots};
use serde_json::{Value, json};

use crate::admission;
use crate::api::{self, PolicySet};
use crate::collect::{CacheSizes, CollectLimits, Collector};
use crate::config::Config;
use crate::oci::{Client, Registry};
use crate::text;

/// The most files that the input may hold.
const MAXIMUM_FILES: usize = 20_000;
/// The deepest folder.
const MAXIMUM_DEPTH: usize = 32;
/// How deep `List` objects may nest.
const MAXIMUM_LISTS: usize = 8;

/// What is said of input that holds nothing.
pub(super) const NO_OBJECTS: &str =
    "there is no object in the input: did the command before the pipe fail?";

/// The policies under `paths`; an error shows every problem of every file.
pub(super) fn policies(paths: &[PathBuf], roots: &TrustRoots) -> anyhow::Result<PolicySet> {
    let (_, set) = api::load_paths(paths, roots);
    if !set.problems.is_empty() {
        bail!("the policies cannot be used:\n{}", lines(&set.problems));
    }
    if set.policies.is_empty() {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect();
        bail!(
            "there is no policy in {}: nothing would be judged",
            paths.join(", ")
        );
    }
    remarks(&set);
    Ok(set)
}

/// Prints what is odd about policies that can be used, on standard error.
pub(super) fn remarks(set: &PolicySet) {
    for warning in &set.warnings {
        complain!("warning: {warning}");
    }
    if !set.skipped.is_empty() {
        complain!("note: {}", set.skipped);
    }
}

/// A collector that reads the registries as the configuration says.
pub(super) fn collector(config: &Config) -> anyhow::Result<Arc<Collector>> {
    let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
    Ok(Arc::new(Collector::new(registry(config)?, limits, sizes)))
}

/// The registries, as the configuration says.
pub(super) fn registry(config: &Config) -> anyhow::Result<Arc<dyn Registry>> {
    let client = Client::new(config.client_options());
    Ok(Arc::new(
        client.context("the registry client does not start")?,
    ))
}

/// The manifests that a command was given.
#[derive(Default)]
pub(super) struct Input {
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

/// One object of the input, and where it stands.
pub(super) struct Object<'a> {
    pub(super) file: &'a str,
    pub(super) line: u64,
    pub(super) value: &'a Value,
    /// The document that holds it, and which of the input's that is.
    pub(super) document: &'a Document,
    pub(super) index: usize,
    /// Where in the document it stands; empty for the document itself.
    pub(super) path: String,
}

impl Input {
    /// Reads files, folders and (`-`) standard input. What cannot be understood is among the problems; what cannot be
    /// opened is an error.
    pub(super) fn read(paths: &[String]) -> anyhow::Result<Input> {
        let mut input = Input::default();
        for path in paths {
            if path == "-" {
                let bytes =
                    bounded(std::io::stdin().lock()).context("standard input cannot be read")?;
                input.add("-", &bytes);
                continue;
            }
            let mut files = Vec::new();
            manifests_under(Path::new(path), 0, &mut files)?;
            for file in files {
                let name = file.display().to_string();
                let open = std::fs::File::open(&file)
                    .with_context(|| format!("`{name}` cannot be opened"))?;
                let bytes = bounded(open).with_context(|| format!("`{name}` cannot be read"))?;
                input.add(&name, &bytes);
            }
        }
        Ok(input)
    }

    /// One file.
    pub(super) fn of(name: &str, bytes: &[u8]) -> Input {
        let mut input = Input::default();
        input.add(name, bytes);
        input
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        let (mut documents, problems) = documents::read(name, bytes);
        for document in &mut documents {
            complete(&mut document.value, 0);
            lists(
                document,
                &document.value,
                &Place::default(),
                0,
                &mut self.problems,
            );
        }
        self.documents.extend(documents);
        self.problems.extend(problems);
    }

    /// What could not be read.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every object, those within lists included.
    pub(super) fn objects(&self) -> Vec<Object<'_>> {
        let mut objects = Vec::new();
        for (index, document) in self.documents.iter().enumerate() {
            flatten((document, index), &document.value, "", 0, &mut objects);
        }
        objects
    }

    /// The labels of the Namespace objects of the input, by name; a name whose objects differ is left out.
    pub(super) fn namespaces(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut found: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
        for object in self.objects() {
            let field = |name: &str| object.value.get(name).and_then(Value::as_str);
            let name = object
                .value
                .pointer("/metadata/name")
                .and_then(Value::as_str);
            let (Some("v1"), Some("Namespace"), Some(name)) =
                (field("apiVersion"), field("kind"), name)
            else {
                continue;
            };
            let labels = object.value.pointer("/metadata/labels");
            let labels = labels.and_then(Value::as_object).into_iter().flatten();
            let labels = labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect();
            found.entry(name.to_owned()).or_default().push(labels);
        }
        let certain = found.into_iter().filter_map(|(name, labels)| {
            let (first, others) = labels.split_first()?;
            let same = others.iter().all(|other| other == first);
            same.then(|| (name, first.clone()))
        });
        certain.collect()
    }

    /// What no command can do anything with: documents that are no objects, and images that can never be references.
    pub(super) fn unusable(&self) -> Vec<String> {
        let mut unusable = Vec::new();
        for object in self.objects() {
            let (file, line) = (object.file, object.line);
            if !admission::is_object(object.value) {
                unusable.push(format!(
                    "{file}:{line}: {}",
                    admission::no_object(object.value)
                ));
            }
            for field in admission::images(object.value).unwrap_or_default().fields {
                if let Err(error) = field.written.parse::<ImageReference>() {
                    let text = format!(
                        "{file}:{line}: {}: {error}{}",
                        field.path,
                        unfilled(&field.written)
                    );
                    unusable.push(text::line(&text));
                }
            }
        }
        unusable
    }

    /// Objects of kinds that this version does not judge, and that seem to hold a pod template.
    pub(super) fn unjudged(&self) -> Vec<String> {
        let of = |object: &Object<'_>| {
            if admission::images(object.value).is_some() {
                return None;
            }
            let kind = object.value.get("kind").and_then(Value::as_str)?;
            let path = admission::pod_template_in(object.value)?;
            let text = format!(
                "{}:{}: the kind `{kind}` is not known to this version, and seems to hold a pod template at `{path}`: its images are not looked at here; the Pods that come of it are judged in the cluster",
                object.file, object.line
            );
            Some(text::line(&text))
        };
        self.objects().iter().filter_map(of).collect()
    }
}

/// What to do about an image in which something was to be filled in.
fn unfilled(written: &str) -> &'static str {
    if written.starts_with("ko://") {
        "; build it first: `ko resolve -f FILE` writes the image in"
    } else if written.contains("${")
        || written.contains("$(")
        || written.contains("{{")
        || written.contains('$')
    {
        "; something is to be filled in there: check what is rendered"
    } else {
        ""
    }
}

/// Says of the items of typed lists (`PodList`) what they are, where they do not say it themselves, as `kubectl` does.
fn complete(value: &mut Value, depth: usize) {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let (Some(kind), Some(version)) = (
        text("kind").and_then(|kind| kind.strip_suffix("List")),
        text("apiVersion"),
    ) else {
        return;
    };
    let (kind, version) = (kind.to_owned(), version.to_owned());
    let items = value.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        match item {
            Value::Object(fields)
                if !kind.is_empty()
                    && !fields.contains_key("kind")
                    && !fields.contains_key("apiVersion") =>
            {
                fields.insert("apiVersion".to_owned(), json!(version));
                fields.insert("kind".to_owned(), json!(kind));
            }
            _ if depth < MAXIMUM_LISTS => complete(item, depth + 1),
            _ => {}
        }
    }
}

/// Lists in which an object would go unseen: nested too deep, without a list of items, or of items that do not say what they
/// are (which a client fills in from the kind of the list).
fn lists(
    document: &Document,
    value: &Value,
    here: &Place,
    depth: usize,
    problems: &mut Vec<Problem>,
) {
    if !is_list(value) {
        return;
    }
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let below = here.key("items");
    let mut refuse = |place: Place, why: String| problems.push(document.problem(place, why));
    match value.get("items") {
        _ if depth >= MAXIMUM_LISTS => refuse(
            here.clone(),
            format!("lists are nested deeper than {MAXIMUM_LISTS}"),
        ),
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let place = below.index(index);
                if item.get("kind").is_none() || item.get("apiVersion").is_none() {
                    let why =
                        format!("the item of `{kind}` has no `apiVersion` and `kind`; add them");
                    problems.push(document.problem(place, why));
                } else {
                    lists(document, item, &place, depth + 1, problems);
                }
            }
        }
        Some(_) => refuse(below, "expected a list".to_owned()),
    }
}

/// Whether clients take a document for a list: any object with a list of `items` is one for `kubectl`
/// (`k8s.io/apimachinery`, `UnstructuredJSONScheme`), whatever its kind.
fn is_list(value: &Value) -> bool {
    let kind = value.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List"))
        || value.get("items").is_some_and(Value::is_array)
}

fn flatten<'a>(
    (document, index_of_document): (&'a Document, usize),
    value: &'a Value,
    path: &str,
    depth: usize,
    objects: &mut Vec<Object<'a>>,
) {
    if let (true, Some(items), true) = (
        is_list(value),
        value.get("items").and_then(Value::as_array),
        depth < MAXIMUM_LISTS,
    ) {
        for (index, item) in items.iter().enumerate() {
            let below = if path.is_empty() {
                format!("items[{index}]")
            } else {
                format!("{path}.items[{index}]")
            };
            flatten(
                (document, index_of_document),
                item,
                &below,
                depth + 1,
                objects,
            );
        }
        // What is no list by its kind may be an object as well.
        if admission::images(value).is_none() {
            return;
        }
    }
    let line = if path.is_empty() {
        document.line()
    } else {
        document.position(path).map_or(0, |(line, _)| line)
    };
    objects.push(Object {
        file: &document.file,
        line: u64::try_from(line).unwrap_or(0),
        value,
        document,
        index: index_of_document,
        path: path.to_owned(),
    });
}

/// The manifests under a path: the file itself, or every YAML and JSON file of the folder, in order.
pub(super) fn manifests_under(
    path: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let shown = path.display();
    let kind = std::fs::metadata(path).with_context(|| format!("`{shown}` cannot be read"))?;
    if !kind.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > MAXIMUM_DEPTH {
        bail!("`{shown}` lies deeper than {MAXIMUM_DEPTH} folders");
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("the folder `{shown}` cannot be read"))?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(|| format!("the folder `{shown}` cannot be read"))?;
    entries.sort();
    for entry in entries {
        let hidden = entry
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with('.'));
        let manifest = entry
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|e| matches!(e, "yaml" | "yml" | "json"));
        if entry.is_dir() && hidden || !(manifest || entry.is_dir()) {
            continue;
        }
        if entry.is_symlink() && entry.is_dir() {
            let entry = entry.display();
            bail!(
                "`{entry}` is a link to a folder, which is not followed; name it itself, or remove it"
            );
        }
        manifests_under(&entry, depth + 1, files)?;
        if files.len() > MAXIMUM_FILES {
            bail!("there are more than {MAXIMUM_FILES} files under `{shown}`");
        }
    }
    Ok(())
}

/// Reads at most one byte more than a document may have, so that what is too large is refused where it is parsed.
pub(super) fn bounded(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(documents::MAXIMUM_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    from.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}
