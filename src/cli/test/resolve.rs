//! One test document → a suite: reads policies and configuration, creates the signers, resolves the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::attest::TrustRoot;
use promotion_gate_core::documents::{self, Document, Path, Problem};
use promotion_gate_core::gate::{Collected, Freeze, People, TrustRoots};

use super::format::{PolicyTest, SignerSpec, Spec};
use super::load::{Case, Suite};
use super::people;
use super::signers::{KeyRole, TestSigners, keys_of, trust_root};
use crate::api::{self, FeedStates, PolicySet, SourceFile, TrustRootSource};
use crate::collect::CollectLimits;
use crate::config::Config;

/// One document while it is resolved.
pub(super) struct SuiteReader<'d> {
    pub(super) document: &'d Document,
    pub(super) folder: &'d FilePath,
    pub(super) now: Timestamp,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: BTreeSet<Problem>,
    pub(super) read: BTreeSet<PathBuf>,
    /// The people of the tested directories.
    pub(super) people: Option<Arc<People>>,
    /// The environment of the tested policies, if they name one alone.
    pub(super) environment: Option<String>,
    /// The time of cases that do not name one.
    pub(super) at: Option<Timestamp>,
    /// The names of the tested policies.
    pub(super) policy_names: BTreeSet<String>,
    /// The environments of the tested policies.
    pub(super) environments: BTreeSet<String>,
    /// The change freezes of the policy files.
    pub(super) freezes: Vec<Freeze>,
}

impl<'d> SuiteReader<'d> {
    pub(super) fn of(
        document: &'d Document,
        path: &'d FilePath,
        now: Timestamp,
    ) -> SuiteReader<'d> {
        SuiteReader {
            document,
            folder: path.parent().unwrap_or(FilePath::new("")),
            now,
            problems: Vec::new(),
            warnings: BTreeSet::new(),
            read: BTreeSet::new(),
            people: None,
            environment: None,
            at: None,
            policy_names: BTreeSet::new(),
            environments: BTreeSet::new(),
            freezes: Vec::new(),
        }
    }

    pub(super) fn suite(&mut self, config: Option<&FilePath>) -> Option<Suite> {
        let mut test = match documents::decode::<PolicyTest>(self.document) {
            Ok(test) => test,
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        let spec = Path::default().key("spec");
        let mut config = self.config(&test.spec, config, &spec)?;
        let (sources, set) = self.policies(&test.spec, &config, &spec);
        self.problems.extend(set.problems.iter().cloned());
        if set.policies.is_empty() && self.problems.is_empty() {
            self.refuse(
                spec.key("policies"),
                "there is no policy in them: nothing would be judged",
            );
        }
        let at = test.spec.at.as_ref();
        self.at = at.and_then(|at| self.parse(spec.key("at"), at));
        self.people = set.people.clone();
        if let Some(people) = &self.people {
            people::add_signers(&mut test.spec, people);
        }
        let environments = set
            .policies
            .iter()
            .filter_map(|policy| policy.environment.clone());
        self.environments = environments.collect();
        let names = set.policies.iter().map(|policy| policy.name.clone());
        self.policy_names = names.collect();
        self.environment = match self.environments.len() {
            1 => self.environments.first().cloned(),
            _ => None,
        };
        self.freezes.clone_from(&set.freezes);
        let of_documents = stand_ins(&set);
        // Each case has a schedule of its own.
        let no_feeds = FeedStates::new();
        let mut real = set.snapshot(config.snapshot(), &no_feeds, self.now);
        if let Some(cluster) = &test.spec.cluster {
            real.world.cluster = Collected::Known(cluster.clone());
        }
        config.world.trust_roots.extend(of_documents.clone());
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
        let mut sandboxed = None;
        if self.problems.is_empty() && cases.iter().any(Case::needs_sandbox) {
            match TestSigners::create(&config, &test.spec.signers, &keys) {
                Ok(signers) => {
                    let trust_roots = signers.trust_roots();
                    let mut configured = trust_roots.clone();
                    configured.retain(|name, _| !of_documents.contains_key(name));
                    let mut set = api::load(&signers.policies(&sources), &configured);
                    self.problems.append(&mut set.problems);
                    set.revision.clone_from(&real.revision);
                    let mut snapshot = set.snapshot(real.clone(), &no_feeds, self.now);
                    snapshot.world.trust_roots = trust_roots;
                    sandboxed = Some((signers, snapshot));
                }
                Err(error) => self.refuse(spec.key("signers"), format!("{error:#}")),
            }
        }
        Some(Suite {
            file: self.document.file.to_string(),
            name: test.metadata.name,
            cases,
            real,
            sandboxed,
            limits: CollectLimits::default(),
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

    fn policies(
        &mut self,
        test: &Spec,
        config: &Config,
        spec: &Path,
    ) -> (Vec<SourceFile>, PolicySet) {
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
            return Default::default();
        }
        let (sources, set) = api::load_paths(&paths, &config.world.trust_roots);
        let set = set.under(&config.settings);
        self.warnings.extend(set.warnings.iter().cloned());
        (sources, set)
    }

    /// The role of each signer's key, for signers with a key.
    fn signers(
        &mut self,
        test: &Spec,
        config: &Config,
        sources: &[SourceFile],
        here: &Path,
    ) -> BTreeMap<String, KeyRole> {
        let keys = keys_of(sources);
        let unread = sources.is_empty();
        let mut roles = BTreeMap::new();
        for (name, signer) in &test.signers {
            let here = here.key(name);
            let root = trust_root(signer);
            if !config.world.trust_roots.contains_key(root) {
                let why = format!("the configuration does not name a trust root `{root}`");
                let known = config.world.trust_roots.keys().map(String::as_str);
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
                    // The keys of policies that could not be read are unknown, so this is not a further problem.
                    Err(_) if unread => {}
                    Err(why) => self.refuse(here.key("key"), why),
                },
                _ => self.refuse(
                    here,
                    "expected `identity` and `issuer` (`claims` is optional), or `key`",
                ),
            }
        }
        roles
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, here: Path, text: &str) -> Option<T> {
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.refuse(here, error.to_string());
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, here: Path, why: impl Into<String>) {
        self.problems.push(self.document.problem(here, why));
    }
}

/// The key of the policies that a signer's key stands in for.
fn role(written: &str, keys: &BTreeSet<String>) -> Result<KeyRole, String> {
    let listed: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match (written, listed.as_slice()) {
        ("stranger", _) => Ok(KeyRole::Stranger),
        (_, []) => Err(
            "the policies do not name a key; `stranger` stands for a key that no policy names"
                .to_owned(),
        ),
        ("policy", [_]) => Ok(KeyRole::StandIn(keys.first().cloned().unwrap_or_default())),
        ("policy", _) => Err(format!(
            "the policies name several keys; name one of them: {}",
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

/// The trust roots of a set for tests. No repository is asked in a test: in place of its root stands the public-good one, beside
/// which the sandbox's signatures are accepted.
fn stand_ins(set: &PolicySet) -> TrustRoots {
    let each = set.trust_roots.iter();
    let each = each.filter_map(|(name, source)| {
        let root = match source {
            TrustRootSource::Inline(root) => Arc::clone(root),
            TrustRootSource::Tuf(_) => Arc::new(TrustRoot::public_good().ok()?),
        };
        Some((name.clone(), root))
    });
    each.collect()
}
