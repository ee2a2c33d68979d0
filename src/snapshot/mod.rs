//! The sources of the snapshot: its parts (policies with people directories, configuration with trust roots), each with its last valid state and its
//! problems. Files are polled. A new and valid state is taken over; an invalid one is reported, and the last valid state stays
//! in force.
//!
//! * `part` — one part, as its source shows it

mod part;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use promotion_gate_core::gate::{
    Collected, Enforcement, Policy, Snapshot, Unavailability, Ungoverned, Unreadable, World,
};

use crate::api::{Held, PolicyFiles, PolicySet};
use crate::collect::Collector;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::oci::Client;
use part::Part;

/// The files that the snapshot is made from.
pub struct SnapshotFiles {
    /// Files and folders with policies.
    pub policies: Vec<PathBuf>,
    /// The configuration as read at the start. It names its own file and the files that it refers to.
    pub config: Config,
}

/// The parts of the snapshot, and the snapshot that they make.
pub struct Sources {
    policies: Vec<PathBuf>,
    config: ArcSwap<Config>,
    collector: Arc<Collector>,
    current: ArcSwap<Snapshot>,
    /// Locked while the files are read.
    parts: Mutex<Parts>,
    readiness: ArcSwap<Readiness>,
}

/// Whether reviews can be answered, and the problems of the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether every part was valid at least once.
    pub ready: bool,
    /// Problems of the current states of the sources, one sentence each.
    pub problems: Vec<String>,
    /// The parts whose last valid state is in force instead, and since when.
    pub kept: Vec<String>,
}

#[derive(Default)]
struct Parts {
    configuration: Part,
    policies: Part,
    /// The configuration under which the policies on disk were last read, and whether it was valid itself.
    policies_read_under: Option<(String, bool)>,
    /// The files of the policies and people in force, each with what is in it.
    policy_files: Held,
    /// Policies in force that name trust roots which the configuration in force does not have.
    missing_roots: Vec<String>,
}

impl Parts {
    fn readiness(&self) -> Readiness {
        let parts = [
            ("configuration", &self.configuration),
            ("policies", &self.policies),
        ];
        let problems = parts.iter().flat_map(|(_, part)| &part.problems);
        let kept = parts.iter().filter(|(_, part)| !part.problems.is_empty());
        let kept = kept.filter_map(|(name, part)| {
            let since = part.last_valid.as_ref()?.since;
            Some(format!("{name} since {since:.0}"))
        });
        Readiness {
            ready: self.policies.last_valid.is_some(),
            kept: kept.collect(),
            problems: problems.chain(&self.missing_roots).cloned().collect(),
        }
    }
}

impl Sources {
    /// Reads the files for the first time. [`Sources::readiness`] reports invalid ones.
    pub fn load(
        files: SnapshotFiles,
        collector: Arc<Collector>,
        metrics: &Metrics,
    ) -> Arc<Sources> {
        let sources = Arc::new(Sources {
            current: ArcSwap::from_pointee(files.config.snapshot()),
            policies: files.policies,
            config: ArcSwap::from_pointee(files.config),
            collector,
            parts: Mutex::default(),
            readiness: ArcSwap::default(),
        });
        sources.poll(metrics, Timestamp::now());
        sources
    }

    /// The snapshot for a review. It does not change during the review.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The result of the last poll.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.readiness.load_full()
    }

    /// Reads the files, and takes over a state that is new, valid, and the same at two polls. Policies and configuration do not
    /// wait for each other to be repaired, except where that could allow something by accident.
    fn poll(&self, metrics: &Metrics, now: Timestamp) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // 1. The configuration comes first, since its trust roots decide whether policies are valid.
        let (configured, configuration_changed) = self.poll_configuration(&mut parts);
        let in_force = self.config.load_full();
        let config = configured.as_ref().map_or(&*in_force, |(config, _)| config);
        // 2. The policies, under the configuration that will be in force.
        let (policies, policies_changed) = self.poll_policies(&mut parts, config);
        // 3. One swap for all changes of one poll, so that no review sees new policies under an old configuration, or the
        // reverse.
        if configuration_changed || policies_changed {
            self.take_over(&mut parts, configured, policies, metrics, now);
        }
        // 4. Report the problems to `/readyz` and the metrics.
        let readiness = parts.readiness();
        metrics
            .policies_broken
            .set(i64::from(!readiness.problems.is_empty()));
        self.readiness.store(Arc::new(readiness));
    }

    /// The configuration to take over, if any; and whether the state on disk has changed, valid or not.
    fn poll_configuration(&self, parts: &mut Parts) -> (Option<(Config, Client)>, bool) {
        let part = &mut parts.configuration;
        let in_force = self.config.load();
        let changed = in_force.reload().map(|config| {
            let config = config?;
            let client = Client::new(config.client_options());
            let client = client.context("the registries cannot be read with this configuration")?;
            anyhow::Ok((config, client))
        });
        let now = match &changed {
            None => in_force.revision(),
            Some(Ok((config, _))) => config.revision(),
            Some(Err(error)) => format!("{error:#}"),
        };
        if !part.is_new_and_stable(now) {
            return (None, false);
        }
        let (configured, problems) = match changed {
            None => (None, Vec::new()),
            Some(Ok(configured)) => (Some(configured), Vec::new()),
            Some(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the configuration on disk is broken");
                (None, vec![error])
            }
        };
        part.problems = problems;
        (configured, true)
    }

    /// The policies to take over under this configuration, if any; and whether the state on disk has changed, valid or not.
    fn poll_policies(&self, parts: &mut Parts, config: &Config) -> (Option<PolicySet>, bool) {
        // A panic is reported as a problem: the last valid policies stay in force, and the configuration does not wait.
        let read = AssertUnwindSafe(|| PolicyFiles::read(&self.policies));
        let files = catch_unwind(read).unwrap_or_default();
        let changed = parts.policies.is_new_and_stable(files.revision());
        let under = (config.revision(), parts.configuration.problems.is_empty());
        let is_read = !changed && parts.policies_read_under.as_ref() == Some(&under);
        // The file may still be being written, so it waits for the next poll, even if the configuration has changed.
        if parts.policies.is_unstable() || is_read {
            return (None, false);
        }
        let load = AssertUnwindSafe(|| files.load(&config.world.trust_roots));
        let (set, failed) = match catch_unwind(load) {
            Ok(set) => (set, None),
            Err(_) => (
                PolicySet::default(),
                Some("they could not be read: a panic".to_owned()),
            ),
        };
        let mut problems: Vec<_> = failed.into_iter().collect();
        problems.extend(set.problems.iter().map(ToString::to_string));
        problems.extend(
            set.lost(&parts.policy_files)
                .iter()
                .map(ToString::to_string),
        );
        if problems.is_empty() && set.policies.is_empty() {
            problems.push("there are no policies in the files named by `--policy`".to_owned());
        }
        parts.policies_read_under = Some(under);
        let mut policies = set.policies.iter();
        let by_label = policies.any(|policy| policy.namespaces.selector.is_some());
        let kept = parts.policies.last_valid.is_some();
        if by_label && !parts.configuration.problems.is_empty() && kept {
            let why = "policies that select namespaces by label wait for the configuration to be repaired";
            problems.push(why.to_owned());
        }
        if !problems.is_empty() && problems != parts.policies.problems {
            let problems = problems.join("; ");
            tracing::error!(problems, kept, "the policies on disk are broken");
        }
        let valid = problems.is_empty();
        parts.policies.problems = problems;
        (valid.then_some(set), true)
    }

    /// Takes over new states as one snapshot.
    fn take_over(
        &self,
        parts: &mut Parts,
        configured: Option<(Config, Client)>,
        policies: Option<PolicySet>,
        metrics: &Metrics,
        now: Timestamp,
    ) {
        let reconfigured = configured.is_some();
        if let Some((config, client)) = configured {
            for warning in &config.warnings {
                tracing::warn!(warning, "a problem in the configuration");
            }
            self.collector.replace_registry(Arc::new(client));
            self.config.store(Arc::new(config));
        }
        let config = self.config.load();
        if parts.configuration.problems.is_empty() {
            parts.configuration.accept(config.revision(), now);
        }
        let current = self.current.load_full();
        let mut reloaded = None;
        let snapshot = match policies {
            Some(set) => {
                let revision = format!("{} {}", set.revision, config.revision());
                if parts.policies.accept(revision, now) {
                    announce(&current.policies, &set);
                    let people = set
                        .people
                        .as_ref()
                        .map_or(0, |people| people.people().len());
                    reloaded = Some((set.revision.clone(), set.policies.len(), people));
                }
                parts.policy_files = set.files.clone();
                set.snapshot(config.snapshot())
            }
            None if parts.policies.last_valid.is_none() => unreadable(&parts.policies, &config),
            None => under_last_valid(&current, &config),
        };
        let missing_roots = missing_roots(&snapshot);
        self.current.store(Arc::new(snapshot));
        if !missing_roots.is_empty() && missing_roots != parts.missing_roots {
            tracing::error!(
                policies = missing_roots.join("; "),
                "trust roots that policies in force name are not configured"
            );
        }
        parts.missing_roots = missing_roots;
        if reconfigured {
            tracing::info!("the new configuration is in force");
            metrics.configuration_reloads.inc();
        }
        if let Some((revision, policies, people)) = reloaded {
            tracing::info!(revision, policies, people, "policies are in force");
            metrics.policy_reloads.inc();
        }
    }
}

/// The snapshot while no policies were ever valid: everything that they might govern is denied.
fn unreadable(policies: &Part, config: &Config) -> Snapshot {
    let unreadable = policies.problems.iter().take(8).map(|why| Unreadable {
        source: "policies".to_owned(),
        why: why.clone(),
    });
    let mut snapshot = Snapshot {
        unreadable: unreadable.collect(),
        ..config.snapshot()
    };
    let why = policies.problems.first().cloned().unwrap_or_default();
    snapshot.world.people = Collected::Unavailable(Unavailability(format!(
        "the people directory could not be read: {why}"
    )));
    snapshot
}

/// The snapshot while no policies are valid under the configuration in force: the last valid policies stay, under its trust
/// roots. The rest of the configuration applies only where it is stricter.
fn under_last_valid(current: &Snapshot, config: &Config) -> Snapshot {
    let mut snapshot = current.clone();
    // Labels decide which policies govern, so those before stay, and people belong to the policies; every other part is as it is
    // configured now.
    let World {
        namespaces, people, ..
    } = snapshot.world;
    snapshot.world = World {
        namespaces,
        people,
        ..config.world.clone()
    };
    if config.snapshot().ungoverned == Ungoverned::Deny {
        snapshot.ungoverned = Ungoverned::Deny;
    }
    snapshot
}

/// Logs what operators should know about policies that come into force.
fn announce(before: &[Policy], set: &PolicySet) {
    let gone = names_gone(before, &set.policies);
    if !gone.is_empty() {
        tracing::warn!(policies = gone, "policies are gone");
    }
    for warning in lock_outs(&set.policies) {
        tracing::warn!("{warning}");
    }
    for warning in &set.warnings {
        tracing::warn!(%warning, "a policy probably does not mean what is written");
    }
    if !set.skipped.is_empty() {
        tracing::info!("{}", set.skipped);
    }
}

/// Policies of a snapshot that name trust roots which it does not have, one line each.
fn missing_roots(snapshot: &Snapshot) -> Vec<String> {
    let each = snapshot.policies.iter().flat_map(|policy| {
        let requirements = policy.requirements.iter();
        let needs = requirements.map(|named| named.requirement.needs(&snapshot.world));
        let missing: BTreeSet<_> = needs.flat_map(|needs| needs.missing_roots).collect();
        missing.into_iter().map(|root| {
            let name = &policy.name;
            format!("the policy `{name}` in force names the trust root `{root}`, which is not configured: no signature is accepted under it")
        })
    });
    each.collect()
}

/// Enforcing policies that also govern the cluster's own workloads, one line each.
fn lock_outs(policies: &[Policy]) -> Vec<String> {
    let enforcing = policies
        .iter()
        .filter(|policy| policy.enforcement == Enforcement::Enforce);
    let warning = |policy: &Policy| {
        let name = &policy.name;
        let namespaces = &policy.namespaces;
        if namespaces.names.is_empty() && namespaces.selector.is_none() {
            return Some(format!(
                "the policy `{name}` governs every namespace, `kube-system` and the gate's own among them, and denies what the cluster itself runs where it does not comply; name the namespaces with `match.namespaces`"
            ));
        }
        namespaces.selector.as_ref().map(|_| format!("the policy `{name}` selects namespaces by label, and labels are known from the configuration alone: in a namespace that it does not list, what the policy would deny is denied too; list the namespaces under `namespaces`, or select by name"))
    };
    enforcing.filter_map(warning).collect()
}

/// The names of policies that are in force and not among the new ones.
fn names_gone(current: &[Policy], new: &[Policy]) -> String {
    let gone = current
        .iter()
        .filter(|policy| !new.iter().any(|other| other.name == policy.name));
    gone.map(|policy| policy.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Polls the files at an interval.
pub async fn keep_current(sources: Arc<Sources>, metrics: Arc<Metrics>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let (sources, metrics) = (Arc::clone(&sources), Arc::clone(&metrics));
        // If reading panics, the last valid state stays in force.
        let poll = move || sources.poll(&metrics, Timestamp::now());
        let _ = tokio::task::spawn_blocking(poll).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{CacheSizes, CollectLimits};

    const STRICT: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: strict}, spec: {requirements: [{digestPinned: {}}]}}";
    const CUT: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: cut}, spec: {requirements: [{digestPinned: {}}]}}";

    const ROOTED: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: PromotionPolicy, metadata: {name: rooted}, spec: {requirements: [{digestPinned: {}}, {signature: {anyOf: [{keyless: {issuer: 'https://issuer.example', identity: a@example.com, trustRoots: [ours, theirs]}}]}}]}}";
    const CONFIGURATION: &str = "{apiVersion: promotion-gate.dev/v1alpha1, kind: GateConfiguration, trustRoots: [{name: ours, file: ours.json}, {name: theirs, file: theirs.json}]}";

    /// Policies and a configuration with its trust roots, on disk and in force.
    struct Watched {
        folder: tempfile::TempDir,
        sources: Arc<Sources>,
        metrics: Metrics,
    }

    impl Watched {
        fn new(policy: &str) -> Watched {
            Watched::below(policy, "policy.yaml")
        }

        /// With the policies that a path below the folder names.
        fn below(policy: &str, path: &str) -> Watched {
            let folder = tempfile::tempdir().unwrap();
            let write = |file: &str, text: &[u8]| {
                std::fs::write(folder.path().join(file), text).unwrap();
            };
            write("policy.yaml", policy.as_bytes());
            write("gate.yaml", CONFIGURATION.as_bytes());
            for root in ["ours.json", "theirs.json"] {
                write(root, &Watched::trusted_root());
            }
            let metrics = Metrics::new();
            let config = Config::load(Some(&folder.path().join("gate.yaml"))).unwrap();
            let client = Arc::new(Client::new(config.client_options()).unwrap());
            let (limits, sizes) = (CollectLimits::default(), CacheSizes::default());
            let collector = Arc::new(Collector::new(client, limits, sizes));
            let files = SnapshotFiles {
                policies: vec![folder.path().join(path)],
                config,
            };
            Watched {
                sources: Sources::load(files, collector, &metrics),
                folder,
                metrics,
            }
        }

        fn trusted_root() -> Vec<u8> {
            let sigstore = crate::sandbox::Sigstore::create().unwrap();
            sigstore.trusted_root().to_string().into_bytes()
        }

        fn write(&self, file: &str, text: impl AsRef<[u8]>) {
            std::fs::write(self.folder.path().join(file), text).unwrap();
        }

        fn poll(&self) {
            self.sources.poll(&self.metrics, Timestamp::now());
        }

        /// What is wrong; nothing where it is empty.
        fn problems(&self) -> String {
            let readiness = self.sources.readiness();
            assert!(readiness.ready, "{readiness:?}");
            readiness.problems.join("\n")
        }

        fn in_force(&self) -> String {
            self.sources.snapshot().policies[0].name.clone()
        }

        /// The anchors under which the policies in force accept anything.
        fn anchors(&self) -> BTreeSet<String> {
            let snapshot = self.sources.snapshot();
            let requirements = snapshot.policies[0].requirements.iter();
            let needs = requirements
                .flat_map(|named| named.requirement.needs(&snapshot.world).anchors.into_keys());
            needs.map(|anchor| anchor.to_string()).collect()
        }
    }

    #[test]
    fn a_trust_root_is_removed_and_another_replaced_in_one_edit() {
        let watched = Watched::new(ROOTED);
        let before = watched.anchors();
        assert_eq!(before.len(), 2);
        let theirs = Watched::trusted_root();
        watched.write("theirs.json", &theirs);
        let without = CONFIGURATION.replace("{name: ours, file: ours.json}, ", "");
        watched.write("gate.yaml", without);
        watched.poll();
        assert_eq!(
            watched.anchors(),
            before,
            "seen once, it may be half written"
        );
        watched.poll();
        let now = promotion_gate_core::gate::Digest::sha256(&theirs);
        assert_eq!(
            watched.anchors(),
            BTreeSet::from([format!("root:{}", now.hex())])
        );
        assert_eq!(watched.in_force(), "rooted");
        let text = watched.problems();
        for said in [
            "the policy `rooted` in force names the trust root `ours`, which is not configured",
            "policy.yaml:1:",
            "unknown trust root `ours`",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }

        watched.write("gate.yaml", CONFIGURATION);
        watched.poll();
        watched.poll();
        assert_eq!(watched.anchors().len(), 2);
        assert_eq!(watched.problems(), "");
    }

    #[test]
    fn a_trust_root_that_is_renamed_is_never_missing() {
        let watched = Watched::new(ROOTED);
        let before = watched.anchors();
        let renamed = |text: &str| text.replace("name: ours", "name: new");
        watched.write("gate.yaml", renamed(CONFIGURATION));
        watched.write("policy.yaml", ROOTED.replace("[ours,", "[new,"));
        for _ in 0..3 {
            watched.poll();
            assert_eq!(watched.anchors(), before);
        }
        assert_eq!(watched.problems(), "");
    }

    #[test]
    fn policies_wait_for_the_trust_root_that_they_name() {
        let watched = Watched::new(STRICT);
        watched.write("policy.yaml", ROOTED.replace("[ours,", "[new,"));
        watched.poll();
        watched.poll();
        assert_eq!(watched.in_force(), "strict");
        let text = watched.problems();
        assert!(text.contains("unknown trust root `new`"), "{text}");

        watched.write(
            "gate.yaml",
            CONFIGURATION.replace("name: ours", "name: new"),
        );
        watched.poll();
        watched.poll();
        assert_eq!(watched.in_force(), "rooted");
        assert_eq!(watched.problems(), "");
    }

    #[test]
    fn policies_written_during_a_reload_use_the_new_configuration() {
        let watched = Watched::new(ROOTED);
        watched.write(
            "gate.yaml",
            CONFIGURATION.replace("name: ours", "name: new"),
        );
        watched.poll();
        watched.write("policy.yaml", CUT);
        watched.poll();
        assert_eq!(watched.in_force(), "rooted");
        assert_eq!(watched.anchors().len(), 1);
        watched.write("policy.yaml", ROOTED);
        watched.poll();
        let text = watched.problems();
        assert!(text.contains("unknown trust root `ours`"), "{text}");
    }

    #[test]
    fn a_damaged_policy_file_removes_no_policy() {
        let watched = Watched::below(STRICT, "");
        for text in [
            "",
            "api",
            "strict",
            "# the policy",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
            "{{ template }}",
        ] {
            watched.write("policy.yaml", text);
            watched.write("other.yaml", CUT);
            watched.poll();
            watched.poll();
            assert_eq!(watched.in_force(), "strict", "{text}");
            let said = watched.problems();
            assert!(said.contains("policy.yaml"), "{text}: {said}");
        }
        std::fs::remove_file(watched.folder.path().join("policy.yaml")).unwrap();
        watched.poll();
        watched.poll();
        assert_eq!(watched.in_force(), "cut");
        assert_eq!(watched.problems(), "");
    }

    #[test]
    fn a_policy_that_moves_to_another_file_is_not_lost() {
        let watched = Watched::below(STRICT, "");
        let map = "\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n";
        watched.write("policy.yaml", format!("{STRICT}{map}"));
        watched.poll();
        watched.poll();
        watched.write("policy.yaml", map);
        watched.write("moved.yaml", STRICT);
        watched.poll();
        watched.poll();
        assert_eq!(watched.in_force(), "strict");
        assert_eq!(watched.problems(), "");
    }

    #[test]
    fn a_state_between_two_valid_ones_is_never_taken_over() {
        let watched = Watched::new(STRICT);
        for _ in 0..3 {
            watched.write("policy.yaml", CUT);
            watched.poll();
            assert_eq!(watched.in_force(), "strict");
            watched.write("policy.yaml", STRICT);
            watched.poll();
            assert_eq!(watched.in_force(), "strict");
        }
        watched.write("policy.yaml", CUT);
        watched.poll();
        watched.poll();
        assert_eq!(watched.in_force(), "cut");
    }
}
