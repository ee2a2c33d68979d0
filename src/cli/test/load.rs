//! Test files → suites, or everything that is wrong with them, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::{self, Document, Path, Problem};
use promotion_gate_core::gate::{Actor, Change, Digest, ImageReference, Snapshot};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::cast::{Cast, KeyRole, keys_of, trust_root};
use super::format::{
    CaseSpec, EvidenceSpec, ExpectSpec, Form, HowSpec, PolicyTest, SignerSpec, Spec,
};
use super::provenance;
use crate::admission::{self, Manifests, Understood};
use crate::api::{self, Source};
use crate::cli::world::{self, Input};
use crate::collect::CollectLimits;
use crate::config::Config;
use crate::oci::{Layout, Repository};

/// The kind of the documents that are tests; what else is ours may lie beside them.
const KIND: &str = "PolicyTest";
const OTHER_KINDS: [&str; 2] = ["PromotionPolicy", "GateConfiguration"];
/// The name under which a bare digest is judged.
const NAME: &str = "digest.invalid/image";

/// What some paths hold.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) suites: Vec<Suite>,
    pub(super) problems: Vec<Problem>,
    /// Every file and folder that the result depends on.
    pub(super) read: BTreeSet<PathBuf>,
}

/// One test file, resolved.
pub(super) struct Suite {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) cases: Vec<Case>,
    /// The world as it is configured, with the policies.
    pub(super) real: Snapshot,
    /// The same world with a sandbox in it, for cases in which somebody signs.
    pub(super) staged: Option<(Cast, Snapshot)>,
    pub(super) limits: CollectLimits,
}

/// One case, resolved.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) at: Option<Timestamp>,
    pub(super) changes: Vec<Change>,
    /// Labels of the namespaces that the case speaks of.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) tags: Vec<(Repository, String, Digest)>,
    pub(super) images: Vec<(Repository, Digest)>,
    pub(super) evidence: Vec<Attached>,
    pub(super) expect: ExpectSpec,
}

/// Something attached to some of the case's images.
pub(super) struct Attached {
    pub(super) to: Vec<(Repository, Digest)>,
    pub(super) piece: Piece,
}

pub(super) enum Piece {
    Signed(Fact),
    Bundle(Vec<u8>),
    Layout(Arc<Layout>),
    Unavailable,
}

/// What somebody signs.
pub(super) struct Fact {
    pub(super) by: String,
    pub(super) form: Form,
    pub(super) logged: bool,
    pub(super) stamped: bool,
    pub(super) at: Timestamp,
    /// The digest that it is about; that of the image when absent.
    pub(super) about: Option<Digest>,
    pub(super) what: What,
}

pub(super) enum What {
    Signature(BTreeMap<String, String>),
    /// The type of the predicate, and the predicate.
    Statement(String, Value),
}

impl Case {
    /// Whether anything in it is signed in the sandbox.
    pub(super) fn is_staged(&self) -> bool {
        self.evidence
            .iter()
            .any(|attached| matches!(attached.piece, Piece::Signed(_)))
    }
}

/// Reads every test under `paths`. What cannot be opened is among the problems as well.
pub(super) fn load(paths: &[PathBuf], config: Option<&FilePath>, now: Timestamp) -> Loaded {
    let mut loaded = Loaded::default();
    for path in paths {
        loaded.read.insert(path.clone());
        let mut files = Vec::new();
        if let Err(error) = world::manifests_under(path, 0, &mut files) {
            loaded.refuse(path, format!("{error:#}"));
            continue;
        }
        let before = (loaded.suites.len(), loaded.problems.len());
        for file in files {
            loaded.file(&file, config, now);
        }
        if before == (loaded.suites.len(), loaded.problems.len()) {
            loaded.refuse(
                path,
                format!("there is no `kind: {KIND}` in it: nothing would be tested"),
            );
        }
    }
    loaded
}

impl Loaded {
    fn refuse(&mut self, file: &FilePath, why: String) {
        let file = file.display().to_string();
        self.problems.push(Problem::with_file(&file, why));
    }

    fn file(&mut self, path: &FilePath, config: Option<&FilePath>, now: Timestamp) {
        let bytes = match std::fs::File::open(path).and_then(world::bounded) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(path, format!("cannot be read: {error}")),
        };
        let (documents, problems) = documents::read(&path.display().to_string(), &bytes);
        self.problems.extend(problems);
        for document in documents {
            match is_test(&document) {
                Ok(false) => {}
                Ok(true) => {
                    let mut reading = Reading::of(&document, path, now);
                    let suite = reading.suite(config);
                    self.read.append(&mut reading.read);
                    // Problems of the policies come before those of the test itself, each in the order of its file.
                    let own = |problem: &Problem| *problem.file == *document.file;
                    reading.problems.sort_by_key(|problem| {
                        (
                            own(problem),
                            own(problem).then_some((problem.line, problem.column)),
                        )
                    });
                    match suite {
                        Some(suite) if reading.problems.is_empty() => self.suites.push(suite),
                        _ => self.problems.append(&mut reading.problems),
                    }
                }
                Err(problem) => self.problems.push(problem),
            }
        }
    }
}

/// Whether a document is a test; what is not ours at all is none of our business.
fn is_test(document: &Document) -> Result<bool, Problem> {
    let (version, kind) = (document.text("apiVersion"), document.text("kind"));
    let (Some(version), Some(kind)) = (version, kind) else {
        return Ok(false);
    };
    let at = |field: &str| Path::default().key(field);
    let ours = version.split_once('/').map(|(group, _)| group) == Some(api::GROUP);
    match (ours, kind) {
        (true, KIND) if version == api::API_VERSION => Ok(true),
        (_, KIND) => {
            let message = format!("expected `{}`, found `{version}`", api::API_VERSION);
            Err(document
                .problem(at("apiVersion"), message)
                .suggesting(version, [api::API_VERSION]))
        }
        (true, other) if !OTHER_KINDS.contains(&other) => {
            let message = format!("kind `{other}` is not known to this version");
            let known = OTHER_KINDS.into_iter().chain([KIND]);
            Err(document
                .problem(at("kind"), message)
                .suggesting(other, known))
        }
        _ => Ok(false),
    }
}

/// One document while it is resolved.
struct Reading<'d> {
    document: &'d Document,
    folder: &'d FilePath,
    now: Timestamp,
    problems: Vec<Problem>,
    read: BTreeSet<PathBuf>,
}

impl<'d> Reading<'d> {
    fn of(document: &'d Document, path: &'d FilePath, now: Timestamp) -> Reading<'d> {
        Reading {
            document,
            folder: path.parent().unwrap_or(FilePath::new("")),
            now,
            problems: Vec::new(),
            read: BTreeSet::new(),
        }
    }

    fn suite(&mut self, config: Option<&FilePath>) -> Option<Suite> {
        let test = match documents::decode::<PolicyTest>(self.document) {
            Ok(test) => test,
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        let spec = Path::default().key("spec");
        let config = self.config(&test.spec, config, &spec)?;
        let sources = self.sources(&test.spec, &spec);
        let set = api::load(&sources, &config.trust_roots);
        self.problems.extend(set.problems);
        if set.policies.is_empty() && self.problems.is_empty() {
            self.refuse(
                spec.key("policies"),
                "there is no policy in them: nothing would be judged",
            );
        }
        let keys = self.signers(&test.spec, &config, &sources, &spec.key("signers"));
        let mut names = BTreeSet::new();
        let mut cases = Vec::new();
        for (index, case) in test.spec.cases.iter().enumerate() {
            let here = spec.key("cases").index(index);
            if !names.insert(&case.name) {
                let why = format!("another case has the name `{}` too", case.name);
                self.refuse(here.key("name"), why);
            }
            cases.extend(self.case(case, &test.spec, &here));
        }
        let real = Snapshot {
            policies: set.policies,
            revision: set.revision,
            ..config.snapshot()
        };
        let mut staged = None;
        if self.problems.is_empty() && cases.iter().any(Case::is_staged) {
            match Cast::assemble(&config, &test.spec.signers, &keys) {
                Ok(cast) => {
                    let set = api::load(&cast.policies(&sources), &cast.trust_roots());
                    self.problems.extend(set.problems);
                    let snapshot = Snapshot {
                        policies: set.policies,
                        ..real.clone()
                    };
                    staged = Some((cast, snapshot));
                }
                Err(error) => self.refuse(spec.key("signers"), format!("{error:#}")),
            }
        }
        Some(Suite {
            file: self.document.file.to_string(),
            name: test.metadata.name,
            cases,
            real,
            staged,
            limits: config.collect_limits(),
        })
    }

    fn config(&mut self, test: &Spec, given: Option<&FilePath>, spec: &Path) -> Option<Config> {
        let own = test.config.as_ref().map(|own| self.folder.join(own));
        let file = own.as_deref().or(given);
        self.read.extend(file.map(FilePath::to_owned));
        match Config::load(file) {
            Ok(config) => Some(config),
            Err(error) => {
                self.refuse(spec.key("config"), format!("{error:#}"));
                None
            }
        }
    }

    fn sources(&mut self, test: &Spec, spec: &Path) -> Vec<Source> {
        let paths: Vec<_> = test
            .policies
            .iter()
            .map(|path| self.folder.join(path))
            .collect();
        self.read.extend(paths.iter().cloned());
        for (index, path) in paths.iter().enumerate() {
            if !path.exists() {
                let why = format!("`{}` does not exist", path.display());
                self.refuse(spec.key("policies").index(index), why);
            }
        }
        if !self.problems.is_empty() {
            return Vec::new();
        }
        let (sources, problems) = api::read_paths(&paths);
        self.problems.extend(problems);
        sources
    }

    /// The role of each signer's key, where it holds one.
    fn signers(
        &mut self,
        test: &Spec,
        config: &Config,
        sources: &[Source],
        here: &Path,
    ) -> BTreeMap<String, KeyRole> {
        let keys = keys_of(sources);
        let unread = sources.is_empty();
        let mut roles = BTreeMap::new();
        for (name, signer) in &test.signers {
            let here = here.key(name);
            let root = trust_root(signer);
            if !config.trust_roots.contains_key(root) {
                let why = format!("the configuration knows no trust root `{root}`");
                let known = config.trust_roots.keys().map(String::as_str);
                let problem = self.document.problem(here.key("trustRoot"), why);
                self.problems.push(problem.suggesting(root, known));
            }
            let SignerSpec {
                identity,
                issuer,
                claims,
                key,
                ..
            } = signer;
            match (identity, issuer, key) {
                (Some(_), Some(_), None) => {}
                (None, None, Some(key)) if claims.is_empty() => match role(key, &keys) {
                    Ok(role) => {
                        let taken = matches!(role, KeyRole::StandIn(_))
                            && roles.values().any(|other| *other == role);
                        if taken {
                            self.refuse(
                                here.key("key"),
                                "another signer stands in for this key too",
                            );
                        }
                        roles.insert(name.clone(), role);
                    }
                    // Policies that could not be read name keys that nobody knows.
                    Err(_) if unread => {}
                    Err(why) => self.refuse(here.key("key"), why),
                },
                _ => self.refuse(
                    here,
                    "expected `identity` and `issuer` (and `claims`, where wanted), or `key`",
                ),
            }
        }
        roles
    }

    fn case(&mut self, case: &CaseSpec, test: &Spec, here: &Path) -> Option<Case> {
        let before = self.problems.len();
        let at = (case.at.as_ref()).and_then(|at| self.parse::<Timestamp>(here.key("at"), at));
        let namespace = case.namespace.as_ref().or(test.namespace.as_ref());
        let namespace = namespace.map_or("default", String::as_str);
        let labels = case
            .namespace_labels
            .as_ref()
            .or(test.namespace_labels.as_ref());
        let mut labels = labels.cloned().unwrap_or_default();
        labels.insert(
            "kubernetes.io/metadata.name".to_owned(),
            namespace.to_owned(),
        );
        let mut namespaces = BTreeMap::from([(namespace.to_owned(), labels)]);
        let changes = self.changes(case, test, namespace, &mut namespaces, here);
        let mut tags = BTreeMap::new();
        for (written, digest) in &case.tags {
            let here = here.key("tags").key(written);
            let image = self.parse::<ImageReference>(here.clone(), written);
            let digest = self.parse::<Digest>(here, digest);
            if let (Some(image), Some(digest)) = (image, digest) {
                let tag = image.tag().unwrap_or("latest").to_owned();
                tags.insert((Repository::of(&image), tag), digest);
            }
        }
        let used: Vec<_> = (changes.iter().flatten())
            .flat_map(|change| &change.images)
            .map(|image| {
                let repository = Repository::of(&image.reference);
                let tag = image.reference.tag().unwrap_or("latest").to_owned();
                let tagged = tags.get(&(repository.clone(), tag));
                let digest = image.reference.digest().or(tagged).cloned();
                Used {
                    reference: image.reference.clone(),
                    repository,
                    digest,
                }
            })
            .collect();
        let mut evidence = Vec::new();
        for (index, item) in case.evidence.iter().enumerate() {
            let here = here.key("evidence").index(index);
            let to = match changes {
                Some(_) => self.attached_to(item, &used, &here),
                None => Vec::new(),
            };
            let pieces = self.pieces(item, test, at.unwrap_or(self.now), &here);
            evidence.extend(pieces.into_iter().map(|piece| Attached {
                to: to.clone(),
                piece,
            }));
        }
        for (index, reason) in case.expect.reasons.iter().enumerate() {
            let parts = reason.split_once('/');
            if parts.is_none_or(|(rule, id)| rule.is_empty() || id.is_empty()) {
                let here = here.key("expect").key("reasons").index(index);
                self.refuse(here, "expected `rule/reason`, such as `signature/unsigned`");
            }
        }
        let changes = changes.filter(|_| self.problems.len() == before)?;
        Some(Case {
            name: case.name.clone(),
            line: self
                .document
                .position(&here.to_string())
                .map_or(0, |(line, _)| line),
            at,
            changes,
            namespaces,
            tags: tags
                .into_iter()
                .map(|((repository, tag), digest)| (repository, tag, digest))
                .collect(),
            images: used
                .into_iter()
                .filter_map(|used| Some((used.repository, used.digest?)))
                .collect(),
            evidence,
            expect: case.expect.clone(),
        })
    }

    fn changes(
        &mut self,
        case: &CaseSpec,
        test: &Spec,
        namespace: &str,
        namespaces: &mut BTreeMap<String, BTreeMap<String, String>>,
        here: &Path,
    ) -> Option<Vec<Change>> {
        let actor = case.user.clone().map(|username| Actor {
            username,
            groups: case.as_groups.clone(),
        });
        if actor.is_none() && !case.as_groups.is_empty() {
            self.refuse(
                here.key("asGroups"),
                "a group without a user: say whose with `as`",
            );
        }
        let CaseSpec {
            image,
            digest,
            object,
            file,
            ..
        } = case;
        let input;
        let pod: Value;
        let whole: Value;
        let (field, objects) = match (image, digest, object, file) {
            (Some(image), None, None, None) => {
                self.parse::<ImageReference>(here.key("image"), image)?;
                pod = pod_of(image);
                ("image", vec![&pod])
            }
            (None, Some(digest), None, None) => {
                let digest = self.parse::<Digest>(here.key("digest"), digest)?;
                pod = pod_of(&format!("{NAME}@{digest}"));
                ("digest", vec![&pod])
            }
            (None, None, Some(object), None) => {
                whole = Value::Object(object.clone());
                ("object", vec![&whole])
            }
            (None, None, None, Some(file)) => {
                let file = self.folder.join(file);
                self.read.insert(file.clone());
                match Input::read(&[file.display().to_string()]) {
                    Ok(read) => input = read,
                    Err(error) => {
                        self.refuse(here.key("file"), format!("{error:#}"));
                        return None;
                    }
                }
                self.problems.extend(input.problems().iter().cloned());
                namespaces.extend(input.namespaces());
                (
                    "file",
                    input.objects().iter().map(|object| object.value).collect(),
                )
            }
            (None, None, None, None) => match &test.image {
                Some(image) => {
                    self.parse::<ImageReference>(Path::default().key("spec").key("image"), image)?;
                    pod = pod_of(image);
                    ("image", vec![&pod])
                }
                None => {
                    self.refuse(
                        here.clone(),
                        "expected what is asked: `image`, `digest`, `object` or `file`",
                    );
                    return None;
                }
            },
            _ => {
                self.refuse(
                    here.clone(),
                    "expected one of `image`, `digest`, `object` and `file`",
                );
                return None;
            }
        };
        let manifests = Manifests::of(objects.iter().copied(), namespace);
        let changes: Vec<_> = objects
            .into_iter()
            .filter_map(|object| {
                match admission::understand_manifest(object, namespace, actor.as_ref(), &manifests)
                {
                    Understood::Change(change) => Some(*change),
                    Understood::NotOurs(_) => None,
                }
            })
            .collect();
        for change in &changes {
            // A namespace exists where something is created in it; what is not said of it is not so.
            if let Some(namespace) = &change.workload.namespace {
                namespaces.entry(namespace.clone()).or_insert_with(|| {
                    BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())])
                });
            }
        }
        if changes.is_empty() {
            self.refuse(here.key(field), "there is no object with images in it");
            return None;
        }
        Some(changes)
    }

    /// The images that a piece of evidence is attached to.
    fn attached_to(
        &mut self,
        item: &EvidenceSpec,
        used: &[Used],
        here: &Path,
    ) -> Vec<(Repository, Digest)> {
        let meant: Vec<_> = used
            .iter()
            .filter(|used| item.image.as_ref().is_none_or(|name| used.is_called(name)))
            .collect();
        if let (Some(name), true) = (&item.image, meant.is_empty()) {
            let known: Vec<_> = used
                .iter()
                .map(|used| used.reference.as_written())
                .collect();
            let why = format!("the case has no image `{name}`");
            let problem = self.document.problem(here.key("image"), why);
            self.problems.push(problem.suggesting(name, known));
        }
        for used in meant.iter().filter(|used| used.digest.is_none()) {
            let written = used.reference.as_written();
            let why = format!(
                "evidence is about a digest, and `{written}` names none: add it to the case's `tags`"
            );
            self.refuse(here.clone(), why);
        }
        meant
            .into_iter()
            .filter_map(|used| Some((used.repository.clone(), used.digest.clone()?)))
            .collect()
    }

    fn pieces(
        &mut self,
        item: &EvidenceSpec,
        test: &Spec,
        at: Timestamp,
        here: &Path,
    ) -> Vec<Piece> {
        let EvidenceSpec {
            image: _,
            signature,
            attestation,
            provenance,
            layout,
            bundles,
            unavailable,
        } = item;
        let given = [
            signature.is_some(),
            attestation.is_some(),
            provenance.is_some(),
            layout.is_some(),
            bundles.is_some(),
            unavailable.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            self.refuse(here.clone(), "expected one of `signature`, `attestation`, `provenance`, `layout`, `bundles` and `unavailable`");
            return Vec::new();
        }
        if let Some(signature) = signature {
            let what = What::Signature(signature.annotations.clone());
            return self.fact(&signature.how(), what, test, at, &here.key("signature"));
        }
        if let Some(attestation) = attestation {
            let what = What::Statement(
                attestation.predicate_type.clone(),
                Value::Object(attestation.predicate.clone()),
            );
            return self.fact(&attestation.how(), what, test, at, &here.key("attestation"));
        }
        if let Some(provenance) = provenance {
            let here = here.key("provenance");
            let how = provenance.how();
            let identity = test
                .signers
                .get(how.by)
                .and_then(|signer| signer.identity.as_deref());
            return match provenance::expand(provenance, identity) {
                Ok((kind, predicate)) => self.fact(
                    &how,
                    What::Statement(kind.to_owned(), predicate),
                    test,
                    at,
                    &here,
                ),
                Err(why) => {
                    self.refuse(here, why);
                    Vec::new()
                }
            };
        }
        if let Some(layout) = layout {
            let folder = self.folder.join(layout);
            self.read.insert(folder.clone());
            return match Layout::open(&folder) {
                Ok(layout) => vec![Piece::Layout(Arc::new(layout))],
                Err(error) => {
                    self.refuse(here.key("layout"), error.to_string());
                    Vec::new()
                }
            };
        }
        let mut pieces = Vec::new();
        for (index, file) in bundles.iter().flatten().enumerate() {
            let file = self.folder.join(file);
            self.read.insert(file.clone());
            match std::fs::File::open(&file).and_then(world::bounded) {
                Ok(bytes) => pieces.extend(split(&bytes).into_iter().map(Piece::Bundle)),
                Err(error) => {
                    let why = format!("`{}` cannot be read: {error}", file.display());
                    self.refuse(here.key("bundles").index(index), why);
                }
            }
        }
        if *unavailable == Some(true) {
            pieces.push(Piece::Unavailable);
        }
        pieces
    }

    fn fact(
        &mut self,
        how: &HowSpec<'_>,
        what: What,
        test: &Spec,
        at: Timestamp,
        here: &Path,
    ) -> Vec<Piece> {
        if !test.signers.contains_key(how.by) {
            let why = format!("`signers` names no `{}`", how.by);
            let known = test.signers.keys().map(String::as_str);
            let problem = self.document.problem(here.key("by"), why);
            self.problems.push(problem.suggesting(how.by, known));
        }
        let signed = how.at.and_then(|at| self.parse(here.key("at"), at));
        let about = how
            .about
            .and_then(|about| self.parse(here.key("about"), about));
        vec![Piece::Signed(Fact {
            by: how.by.to_owned(),
            form: how.form,
            logged: how.logged,
            stamped: how.stamped,
            at: signed.unwrap_or(at),
            about,
            what,
        })]
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, here: Path, text: &str) -> Option<T> {
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.refuse(here, error.to_string());
                None
            }
        }
    }

    fn refuse(&mut self, here: Path, why: impl Into<String>) {
        self.problems.push(self.document.problem(here, why));
    }
}

/// An image that a case runs.
struct Used {
    reference: ImageReference,
    repository: Repository,
    digest: Option<Digest>,
}

impl Used {
    /// Whether the image is meant by this name: as written, in its normal form, or by its repository.
    fn is_called(&self, name: &str) -> bool {
        let normal = name.parse::<ImageReference>().ok();
        self.reference.as_written() == name
            || normal.is_some_and(|named| {
                let bare = named.tag().is_none() && named.digest().is_none();
                named.to_string() == self.reference.to_string()
                    || bare && named.name() == self.reference.name()
            })
    }
}

fn pod_of(image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "test"},
        "spec": {"containers": [{"name": "image", "image": image}]},
    })
}

/// Which of the policies' keys a signer's stands in for.
fn role(written: &str, keys: &BTreeSet<String>) -> Result<KeyRole, String> {
    let listed: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match (written, listed.as_slice()) {
        ("stranger", _) => Ok(KeyRole::Stranger),
        (_, []) => {
            Err("the policies name no key; `stranger` is a key that they do not name".to_owned())
        }
        ("policy", [_]) => Ok(KeyRole::StandIn(keys.first().cloned().unwrap_or_default())),
        ("policy", _) => Err(format!(
            "the policies name several keys; say which: {}",
            listed.join(", ")
        )),
        (fingerprint, _) if keys.contains(fingerprint) => {
            Ok(KeyRole::StandIn(fingerprint.to_owned()))
        }
        _ => Err(format!(
            "expected `policy`, `stranger`, or the fingerprint of a key that the policies name: {}",
            listed.join(", ")
        )),
    }
}

/// The bundles of a file: one in JSON or several after another; what is no JSON is left for verification to refuse.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Box<RawValue>>();
    let whole: Result<Vec<_>, _> = values
        .map(|value| value.map(|value| value.get().as_bytes().to_vec()))
        .collect();
    whole.unwrap_or_else(|_| {
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    })
}
