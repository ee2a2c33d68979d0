//! What commands need before they can review, from arguments and configuration: policies, input and a collector.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::documents::{self, Document, Path as Place, Problem};
use promotion_gate_core::gate::{Freeze, ImageReference, TrustRoots};
use serde_json::{Value, json};

use super::cluster::Live;
use crate::admission;
use crate::api::{self, FeedStates, PolicySet};
use crate::collect::{CacheSizes, CollectLimits, Collector};
use crate::config::Config;
use crate::feeds::{feeds_of, read_once};
use crate::files::{EntryKind, Walk, read_stream};
use crate::oci::{Client, Registry};
use crate::snapshot::{Once, debts_without_cluster};
use crate::text;
use crate::tuf::read_once as read_roots;

/// The most levels of nested `List` objects.
const MAXIMUM_LISTS: usize = 8;

/// The error about input without an object.
pub(super) const NO_OBJECTS: &str = "there is no object in the input (did the command before the pipe fail?); `--allow-empty` accepts that";

// The arguments that name the manifests of a command.
#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// Manifests: files, folders, or `-` for standard input
    #[arg(required = true, value_name = "PATH|-")]
    pub(super) inputs: Vec<String>,
    /// Accept input without any object, such as a chart that renders to nothing
    #[arg(long)]
    pub(super) allow_empty: bool,
}

/// The documents under `paths` and of a cluster; an error shows every problem of every file. Prints warnings.
pub(super) fn documents(
    paths: &[PathBuf],
    live: Option<&Live>,
    config: &Config,
) -> anyhow::Result<Once> {
    let once = documents_again(paths, live, config)?;
    for refused in once.refused() {
        print_error!("warning: {refused}");
    }
    remarks(once.set());
    if live.is_none() {
        for warning in debts_without_cluster(&once.set().policies) {
            print_error!("warning: {warning}");
        }
    }
    Ok(once)
}

/// The same without warnings, for a command that has printed them.
pub(super) fn documents_again(
    paths: &[PathBuf],
    live: Option<&Live>,
    config: &Config,
) -> anyhow::Result<Once> {
    let resources = live.map(|live| live.resources.as_slice());
    let once = Once::of(paths, resources.unwrap_or_default(), config);
    if !once.problems().is_empty() {
        let problems = once.problems().iter();
        let problems: Vec<_> = problems
            .map(|problem| with_excerpt(problem, once.excerpt(problem)))
            .collect();
        bail!("the policies cannot be used:\n{}", problems.join("\n"));
    }
    if once.set().policies.is_empty() && once.refused().is_empty() {
        let paths = paths.iter().map(|path| format!("`{}`", path.display()));
        let cluster = live.map(|_| "the cluster".to_owned());
        let places: Vec<_> = paths.chain(cluster).collect();
        bail!(
            "there is no policy in {}: nothing would be judged",
            places.join(", ")
        );
    }
    Ok(once)
}

/// A problem, indented, and below it the place in the file that it points to.
fn with_excerpt(problem: &str, excerpt: Option<&str>) -> String {
    let excerpt = excerpt.iter().flat_map(|excerpt| excerpt.lines());
    let excerpt = excerpt.map(|line| format!("\n      {}", text::line(line)));
    format!("  {problem}{}", excerpt.collect::<String>())
}

/// Prints warnings about policies that can be used, on standard error.
pub(super) fn remarks(set: &PolicySet) {
    for warning in &set.warnings {
        print_error!("warning: {warning}");
    }
    if !set.skipped.is_empty() {
        print_error!("note: {}", set.skipped);
    }
}

/// What the feeds of the freezes of some environments say; each is asked once. `at` is the instant that endpoints are asked about.
pub(super) async fn feeds(
    freezes: &[Freeze],
    environments: &BTreeSet<String>,
    config: &Config,
    at: Option<Timestamp>,
    within: Duration,
) -> FeedStates {
    let named = feeds_of(freezes).into_iter().filter(|(name, ..)| {
        let mut asked = freezes.iter().filter(|freeze| freeze.name == *name);
        asked.any(|freeze| {
            environments
                .iter()
                .any(|environment| freeze.is_of(environment))
        })
    });
    let named: Vec<_> = named.collect();
    match named.is_empty() {
        true => FeedStates::new(),
        false => read_once(&named, &config.client_options(), at, within).await,
    }
}

/// The trust roots in repositories: those of resources as their statuses say them, and those of files, whose repositories are asked
/// once. Prints warnings.
pub(super) async fn repository_roots(once: &Once, config: &Config, within: Duration) -> TrustRoots {
    let (roots, problems) = repository_roots_again(once, config, within).await;
    for problem in problems {
        print_error!("warning: {problem}");
    }
    roots
}

/// The same with what there is to warn of, for a command that reads them again and again.
pub(super) async fn repository_roots_again(
    once: &Once,
    config: &Config,
    within: Duration,
) -> (TrustRoots, Vec<String>) {
    let (mut roots, mut problems, repositories) = once.roots(config, Timestamp::now());
    if repositories.is_empty() {
        return (roots, problems);
    }
    let (read, unread) = read_roots(repositories, &config.client_options(), within).await;
    let unread = unread.into_iter();
    problems
        .extend(unread.map(|(name, why)| format!("the trust root `{name}` cannot be read: {why}")));
    roots.extend(read);
    (roots, problems)
}

/// A collector that reads the configured registries.
pub(super) fn collector(config: &Config) -> anyhow::Result<Arc<Collector>> {
    Ok(collector_of(registry(config)?))
}

/// A collector that reads these registries.
pub(super) fn collector_of(registry: Arc<dyn Registry>) -> Arc<Collector> {
    let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
    Arc::new(Collector::new(registry, limits, sizes))
}

/// The configured registries.
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

/// One object of the input, and its place.
pub(super) struct Object<'a> {
    pub(super) file: &'a str,
    pub(super) line: u64,
    pub(super) value: &'a Value,
    /// The document that holds it, and the index of that document in the input.
    pub(super) document: &'a Document,
    pub(super) index: usize,
    /// Its path in the document; empty for the document itself.
    pub(super) path: Place,
}

impl Object<'_> {
    /// A problem with one of its fields; with the whole object if `field` is empty.
    pub(super) fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        let field = field.parse().unwrap_or_default();
        self.document.problem(self.path.join(&field), message)
    }

    /// The first field that seems to name an image, if this version does not know the kind.
    pub(super) fn unknown(&self) -> Option<Place> {
        let group = text_of(self.value, "apiVersion").split('/').next();
        let known = admission::images(self.value).is_some() || group == Some(api::GROUP);
        match admission::is_object(self.value) && !known {
            true => admission::image_in(self.value),
            false => None,
        }
    }
}

impl Input {
    /// Reads files, folders and (`-`) standard input. Input that cannot be parsed is among the problems; a file that cannot be
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
            for file in manifests_under(path)? {
                let name = file.display().to_string();
                let open = std::fs::File::open(&file)
                    .with_context(|| format!("`{name}` cannot be opened"))?;
                let bytes = bounded(open).with_context(|| format!("`{name}` cannot be read"))?;
                input.add(&name, &bytes);
            }
        }
        Ok(input)
    }

    /// The input of one file.
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
            let here = Place::default();
            flatten((document, index), &document.value, here, 0, &mut objects);
        }
        objects
    }

    /// The labels of the Namespace objects of the input, by name. A name is left out if its objects disagree.
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

    /// Input that no command can use: documents that are not objects, and images that can never be references.
    pub(super) fn unusable(&self) -> Vec<Problem> {
        let mut unusable = Vec::new();
        for object in self.objects() {
            // Problems of list items were reported when the list was read.
            if object.path == Place::default() && !admission::is_object(object.value) {
                unusable.push(object.problem("", admission::no_object(object.value)));
            }
            let images = admission::images(object.value).unwrap_or_default();
            for field in images.unreadable {
                unusable.push(object.problem(&field.field, field.why));
            }
            for field in images.fields {
                if let Err(error) = field.written.parse::<ImageReference>() {
                    let why = format!("{error}{}", unfilled(&field.written));
                    unusable.push(object.problem(&field.path, why));
                }
            }
        }
        unusable
    }

    /// Prints notes on standard error: what is not judged, and what is read in another way than its author may expect.
    pub(super) fn remarks(&self) {
        for object in self.objects() {
            let kind = text_of(object.value, "kind");
            if let Some(field) = object.unknown() {
                let why = format!(
                    "the kind `{kind}` of `{}` is not known to this version, and seems to name an image here: its images are not checked; Pods created from it are judged in the cluster",
                    text_of(object.value, "apiVersion")
                );
                remark(&object.problem(&field.to_string(), why));
            }
            let has_items = object.value.get("items").is_some();
            if has_items && !kind.is_empty() && !is_list_by_kind(object.value) {
                let why = format!(
                    "{ITEMS}, and not the `{kind}` itself; remove `items`, or write `kind: List`"
                );
                remark(&object.problem("items", why));
            }
        }
    }
}

/// Why an object with `items` is a list.
const ITEMS: &str =
    "`kubectl` takes any object with `items` at its top for a list and applies only these items";

fn remark(problem: &Problem) {
    print_error!("note: {}", text::line(&problem.to_string()));
}

/// A hint about an image with a placeholder. It is used only for a text that is not a reference: `placeholder/app:1` is one.
fn unfilled(written: &str) -> &'static str {
    if written.starts_with("ko://") {
        "; build it first: `ko resolve -f FILE` writes the image in"
    } else if MARKS.iter().any(|mark| written.contains(mark))
        || written.split(['/', ':', '@']).any(is_placeholder)
    {
        "; it holds a placeholder: check the rendered manifests"
    } else {
        ""
    }
}

/// Characters around the names of placeholders.
const MARKS: &[&str] = &["$", "{", "<", "((", "[[", "@@", "...", "…"];

/// Whether a part of an image is a placeholder word: `REPLACE_ME`, `ImagePlaceholder`, `TAG`.
fn is_placeholder(part: &str) -> bool {
    let has = |kind: fn(&char) -> bool| part.chars().any(|c| kind(&c));
    let (capital, small) = (has(char::is_ascii_uppercase), has(char::is_ascii_lowercase));
    let word = part.replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let word = word.to_ascii_lowercase();
    let contains = |known: &&str| word.contains(*known);
    part.starts_with('%')
        || part.starts_with("__")
        || capital && !small && (part.contains('_') || NAMES.contains(&word.as_str()))
        || capital && REQUESTS.iter().any(contains)
}

/// Words in capitals that are placeholders if the part is nothing else.
const NAMES: &[&str] = &[
    "image",
    "registry",
    "repository",
    "tag",
    "version",
    "digest",
    "todo",
    "tbd",
    "xxx",
];
/// Words that make a part with a capital letter a placeholder.
const REQUESTS: &[&str] = &["placeholder", "replaceme", "changeme", "fixme"];

/// Adds `apiVersion` and `kind` to items of typed lists (`PodList`) that lack both, as `kubectl` does.
fn complete(value: &mut Value, depth: usize) {
    let Some(kind) = text_of(value, "kind").strip_suffix("List") else {
        return;
    };
    let (kind, version) = (kind.to_owned(), text_of(value, "apiVersion").to_owned());
    let items = value.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        let says_nothing =
            text_of(item, "kind").is_empty() && text_of(item, "apiVersion").is_empty();
        match item {
            Value::Object(fields) if says_nothing && !kind.is_empty() && !version.is_empty() => {
                fields.insert("apiVersion".to_owned(), json!(version));
                fields.insert("kind".to_owned(), json!(kind));
            }
            _ if depth < MAXIMUM_LISTS => complete(item, depth + 1),
            _ => {}
        }
    }
}

/// Problems of lists that would hide an object: lists nested too deep, without a list of items, or with items that lack
/// `apiVersion` or `kind` (which a client derives from the kind of the list).
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
    let kind = text_of(value, "kind");
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
                if !admission::is_object(item) {
                    let why = match is_list_by_kind(value) {
                        true => {
                            format!(
                                "the item of `{kind}` has no `apiVersion` or no `kind`; add them"
                            )
                        }
                        false => format!(
                            "the item of `{kind}` has no `apiVersion` or no `kind`; {ITEMS}: add them, or remove `items`"
                        ),
                    };
                    problems.push(document.problem(place, why));
                } else {
                    lists(document, item, &place, depth + 1, problems);
                }
            }
        }
        Some(_) => refuse(below, "expected a list".to_owned()),
    }
}

/// Whether clients read a document as a list: `kubectl` does so for any object with a list of `items` (`k8s.io/apimachinery`,
/// `UnstructuredJSONScheme`), of any kind.
fn is_list(value: &Value) -> bool {
    is_list_by_kind(value) || value.get("items").is_some_and(Value::is_array)
}

fn is_list_by_kind(value: &Value) -> bool {
    text_of(value, "kind").ends_with("List")
}

/// A text field of an object; empty if it is absent or not a text, as for `kubectl`.
fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    let text = value.get(field).and_then(Value::as_str);
    text.unwrap_or_default()
}

fn flatten<'a>(
    (document, index_of_document): (&'a Document, usize),
    value: &'a Value,
    path: Place,
    depth: usize,
    objects: &mut Vec<Object<'a>>,
) {
    if let (true, Some(items), true) = (
        is_list(value),
        value.get("items").and_then(Value::as_array),
        depth < MAXIMUM_LISTS,
    ) {
        for (index, item) in items.iter().enumerate() {
            let below = path.key("items").index(index);
            flatten(
                (document, index_of_document),
                item,
                below,
                depth + 1,
                objects,
            );
        }
        // An object that is not a list by its kind is kept too: not every client reads it as a list.
        if is_list_by_kind(value) {
            return;
        }
    }
    let line = document.problem(path.clone(), "").line;
    objects.push(Object {
        file: &document.file,
        line: u64::try_from(line).unwrap_or(0),
        value,
        document,
        index: index_of_document,
        path,
    });
}

/// The manifests at a path: the file itself, or the files below a folder, in the order of their names. Unlike a folder of
/// policies, a hidden file counts, as for `kubectl`.
pub(super) fn manifests_under(path: &str) -> anyhow::Result<Vec<PathBuf>> {
    let (files, refused) = Walk::default().below(Path::new(path), |entry| {
        let is_folder = entry.kind == EntryKind::Folder;
        if entry.is_named {
            return Ok(true);
        }
        if is_folder && entry.is_hidden() {
            if entry.name() != ".git" {
                let entry = text::line(&entry.path.display().to_string());
                print_error!("note: the hidden folder `{entry}` is not read; name it to read it");
            }
            return Ok(false);
        }
        if is_folder && entry.path.is_symlink() {
            return Err("is a link to a folder, which is not followed; give the folder as an argument, or remove the link".to_owned());
        }
        Ok(is_folder || entry.is_manifest())
    });
    match refused.first() {
        Some((path, why)) => bail!("`{}` {why}", path.display()),
        None => Ok(files),
    }
}

/// Reads as many bytes as a document may have.
pub(super) fn bounded(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    read_stream(from, documents::MAXIMUM_BYTES as u64)
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}
