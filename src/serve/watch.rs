//! Policies and configuration that change under way: files are looked at every second, what is new and sound is taken over,
//! what is broken is said and leaves the last good one in force.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::StatusCode;
use promotion_gate_core::gate::{Enforcement, Policy, Snapshot, Ungoverned, Unreadable};

use crate::api::{self, PolicySet};
use crate::collect::Collector;
use crate::config::Config;
use crate::oci::Client;
use crate::telemetry::Metrics;

/// Where policies come from, and what surrounds them.
pub struct PolicySource {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// The configuration, as it was read at first.
    pub config: Config,
}

/// The policies in force, under the configuration in force.
pub(super) struct Policies {
    paths: Vec<PathBuf>,
    config: ArcSwap<Config>,
    collector: Arc<Collector>,
    current: ArcSwap<Snapshot>,
    /// Held by whoever looks at the files, for as long as that takes.
    state: Mutex<State>,
    /// What came of the last look.
    readiness: ArcSwap<(StatusCode, String)>,
}

#[derive(Default)]
struct State {
    configuration: Looks,
    policies: Looks,
    /// The configuration under which the policies on disk were last judged sound or not, and whether it was itself.
    judged_under: Option<(String, bool)>,
    /// Names the last sound set of policies, with the configuration that it was read under.
    good: Option<String>,
    /// The files of the policies in force, and whether each holds one.
    files: BTreeMap<String, bool>,
    /// Policies in force that name trust roots which the configuration in force does not have.
    rootless: Vec<String>,
}

/// What was seen of some files.
#[derive(Default)]
struct Looks {
    /// The state that was last taken over or refused.
    seen: Option<String>,
    /// Another state, seen once: a file may just be in the middle of being written.
    candidate: Option<String>,
    /// What is wrong with them.
    problems: Vec<String>,
}

impl Looks {
    /// Whether a state is another one than before, and the same at two looks.
    fn settles(&mut self, now: String) -> bool {
        if self.seen.as_ref() == Some(&now) {
            self.candidate = None;
            return false;
        }
        if self.seen.is_some() && self.candidate.as_ref() != Some(&now) {
            self.candidate = Some(now);
            return false;
        }
        self.seen = Some(now);
        self.candidate = None;
        true
    }
}

impl State {
    fn problems(&self) -> impl Iterator<Item = &str> {
        let all = self
            .configuration
            .problems
            .iter()
            .chain(&self.policies.problems)
            .chain(&self.rootless);
        all.map(String::as_str)
    }
}

impl Policies {
    pub(super) fn load(
        source: PolicySource,
        collector: Arc<Collector>,
        metrics: &Metrics,
    ) -> Arc<Policies> {
        let policies = Arc::new(Policies {
            current: ArcSwap::from_pointee(source.config.snapshot()),
            paths: source.paths,
            config: ArcSwap::from_pointee(source.config),
            collector,
            state: Mutex::default(),
            readiness: ArcSwap::from_pointee((StatusCode::SERVICE_UNAVAILABLE, String::new())),
        });
        policies.look(metrics);
        policies
    }

    /// The snapshot that a review sees, whatever happens meanwhile.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// What `/readyz` says.
    pub(super) fn readiness(&self) -> (StatusCode, String) {
        (**self.readiness.load()).clone()
    }

    /// Looks at the files, and takes over what is new and sound, and the same at two looks. Neither policies nor configuration
    /// wait for the other to be repaired, but where that could let something in that nobody meant to. What changes at one
    /// look is taken over at once, so that no review sees new policies under an old configuration, or the reverse.
    fn look(&self, metrics: &Metrics) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (configured, settled) = self.look_at_configuration(&mut state);
        let in_force = self.config.load_full();
        let config = configured.as_ref().map_or(&*in_force, |(config, _)| config);
        let (policies, changed) = self.look_at_policies(&mut state, config);
        if settled || changed {
            self.take_over(&mut state, configured, policies, metrics);
        }
        let problems = state.problems().collect::<Vec<_>>().join("\n");
        metrics.policies_broken.set(i64::from(!problems.is_empty()));
        let readiness = match (state.good.is_some(), problems.is_empty()) {
            (true, true) => (StatusCode::OK, "ready\n".to_owned()),
            (true, false) => (
                StatusCode::OK,
                format!(
                    "ready, but the policies or the configuration on disk are broken and older ones are in force:\n{problems}\n"
                ),
            ),
            (false, _) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: no usable policies\n{problems}\n"),
            ),
        };
        self.readiness.store(Arc::new(readiness));
    }

    /// A configuration to take over; and whether what is on disk has changed, be it sound or not.
    fn look_at_configuration(&self, state: &mut State) -> (Option<(Config, Client)>, bool) {
        let looks = &mut state.configuration;
        let in_force = self.config.load();
        let changed = in_force.reload().map(|config| {
            let config = config?;
            let client = Client::new(config.client_options());
            let client = client.context("the registries cannot be read as it is configured")?;
            anyhow::Ok((config, client))
        });
        let now = match &changed {
            None => in_force.revision(),
            Some(Ok((config, _))) => config.revision(),
            Some(Err(error)) => format!("{error:#}"),
        };
        if !looks.settles(now) {
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
        looks.problems = problems;
        (configured, true)
    }

    /// Policies to take over under this configuration; and whether what is on disk has changed, be it sound or not.
    fn look_at_policies(&self, state: &mut State, config: &Config) -> (Option<PolicySet>, bool) {
        // A panic is a problem like another one: the last good policies stay, and the configuration does not wait.
        let load = AssertUnwindSafe(|| api::load_paths(&self.paths, &config.trust_roots).1);
        let (set, failed) = match catch_unwind(load) {
            Ok(set) => (set, None),
            Err(_) => (
                PolicySet::default(),
                Some("they could not be read: a panic".to_owned()),
            ),
        };
        // What is on disk, whatever the configuration makes of it.
        let now = set.revision.clone();
        let mut problems: Vec<_> = failed.into_iter().collect();
        problems.extend(set.problems.iter().map(ToString::to_string));
        problems.extend(set.lost(&state.files).iter().map(ToString::to_string));
        if problems.is_empty() && set.policies.is_empty() {
            problems.push("there are no policies in the files named by --policy".to_owned());
        }
        let changed = state.policies.settles(now);
        let configuration = (config.revision(), state.configuration.problems.is_empty());
        let judged = !changed && state.judged_under.as_ref() == Some(&configuration);
        // A file may just be in the middle of being written, whatever the configuration says.
        if state.policies.candidate.is_some() || judged {
            return (None, false);
        }
        state.judged_under = Some(configuration);
        let by_label = set
            .policies
            .iter()
            .any(|policy| policy.namespaces.selector.is_some());
        if by_label && !state.configuration.problems.is_empty() && state.good.is_some() {
            let why = "policies that select namespaces by label wait for the configuration to be repaired";
            problems.push(why.to_owned());
        }
        if !problems.is_empty() && problems != state.policies.problems {
            tracing::error!(
                problems = problems.join("; "),
                kept = state.good.is_some(),
                "the policies on disk are broken"
            );
        }
        let sound = problems.is_empty();
        state.policies.problems = problems;
        (sound.then_some(set), true)
    }

    /// Takes over what was found, as one snapshot. Without policies that are sound under the configuration in force, those
    /// before stay under its trust roots, and nothing else of it makes anything looser.
    fn take_over(
        &self,
        state: &mut State,
        configured: Option<(Config, Client)>,
        policies: Option<PolicySet>,
        metrics: &Metrics,
    ) {
        let reconfigured = configured.is_some();
        if let Some((config, client)) = configured {
            for warning in &config.warnings {
                tracing::warn!(warning, "the configuration");
            }
            self.collector.replace_registry(Arc::new(client));
            self.config.store(Arc::new(config));
        }
        let config = self.config.load();
        let current = self.current.load_full();
        let mut reloaded = None;
        let snapshot = match policies {
            Some(set) => {
                let gone = names_gone(&current.policies, &set.policies);
                if !gone.is_empty() {
                    tracing::warn!(policies = gone, "policies are gone");
                }
                let good = Some(format!("{} {}", set.revision, config.revision()));
                if state.good != good {
                    for warning in lock_outs(&set.policies) {
                        tracing::warn!("{warning}");
                    }
                    for warning in &set.warnings {
                        tracing::warn!(%warning, "a policy probably does not mean what is written");
                    }
                    if !set.skipped.is_empty() {
                        tracing::info!("{}", set.skipped);
                    }
                    reloaded = Some((set.revision.clone(), set.policies.len()));
                    state.good = good;
                }
                state.files = set.files;
                Snapshot {
                    policies: set.policies,
                    revision: set.revision,
                    ..config.snapshot()
                }
            }
            None if state.good.is_none() => {
                let unreadable = state.policies.problems.iter().take(8);
                let unreadable = unreadable.map(|why| Unreadable {
                    source: "policies".to_owned(),
                    why: why.clone(),
                });
                Snapshot {
                    unreadable: unreadable.collect(),
                    ..config.snapshot()
                }
            }
            None => {
                let mut snapshot = (*current).clone();
                snapshot.world.trust_roots = config.trust_roots.clone();
                if config.snapshot().ungoverned == Ungoverned::Deny {
                    snapshot.ungoverned = Ungoverned::Deny;
                }
                snapshot
            }
        };
        let rootless = rootless(&snapshot);
        self.current.store(Arc::new(snapshot));
        if !rootless.is_empty() && rootless != state.rootless {
            tracing::error!(
                policies = rootless.join("; "),
                "trust roots that policies in force name are not configured"
            );
        }
        state.rootless = rootless;
        if reconfigured {
            tracing::info!("the new configuration is in force");
            metrics.configuration_reloads.inc();
        }
        if let Some((revision, policies)) = reloaded {
            tracing::info!(revision, policies, "policies are in force");
            metrics.policy_reloads.inc();
        }
    }
}

/// What the policies of a snapshot wait for that name trust roots which it does not have, one line each.
fn rootless(snapshot: &Snapshot) -> Vec<String> {
    let each = snapshot.policies.iter().flat_map(|policy| {
        let requirements = policy.requirements.iter();
        let needs = requirements.map(|named| named.requirement.needs(&snapshot.world));
        let missing: BTreeSet<_> = needs.flat_map(|needs| needs.missing_roots).collect();
        missing.into_iter().map(|root| {
            let name = &policy.name;
            format!("the policy `{name}` in force names the trust root `{root}`, which is not configured: nothing counts under it")
        })
    });
    each.collect()
}

/// Policies that enforce and govern what the cluster itself runs, one line each.
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
        namespaces.selector.as_ref().map(|_| format!("the policy `{name}` selects namespaces by label: of those that the configuration does not list the labels are not known, and what it would refuse is denied there too; list them under `namespaces`, or select by name"))
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

/// Looks at the policies again and again.
pub(super) async fn policies(policies: Arc<Policies>, metrics: Arc<Metrics>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let (policies, metrics) = (Arc::clone(&policies), Arc::clone(&metrics));
        // A panic while reading leaves the last good policies in force.
        let _ = tokio::task::spawn_blocking(move || policies.look(&metrics)).await;
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
        policies: Arc<Policies>,
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
            let source = PolicySource {
                paths: vec![folder.path().join(path)],
                config,
            };
            Watched {
                policies: Policies::load(source, collector, &metrics),
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

        fn look(&self) {
            self.policies.look(&self.metrics);
        }

        fn in_force(&self) -> String {
            self.policies.snapshot().policies[0].name.clone()
        }

        /// The anchors under which the policies in force accept anything.
        fn anchors(&self) -> BTreeSet<String> {
            let snapshot = self.policies.snapshot();
            let requirements = snapshot.policies[0].requirements.iter();
            let needs = requirements
                .flat_map(|named| named.requirement.needs(&snapshot.world).anchors.into_keys());
            needs.map(|anchor| anchor.to_string()).collect()
        }
    }

    #[test]
    fn a_trust_root_that_was_taken_away_admits_nothing_more_and_one_replaced_in_the_same_edit_takes_effect()
     {
        let watched = Watched::new(ROOTED);
        let before = watched.anchors();
        assert_eq!(before.len(), 2);
        let theirs = Watched::trusted_root();
        watched.write("theirs.json", &theirs);
        let without = CONFIGURATION.replace("{name: ours, file: ours.json}, ", "");
        watched.write("gate.yaml", without);
        watched.look();
        assert_eq!(
            watched.anchors(),
            before,
            "seen once, it may be half written"
        );
        watched.look();
        let now = promotion_gate_core::gate::Digest::sha256(&theirs);
        assert_eq!(
            watched.anchors(),
            BTreeSet::from([format!("root:{}", now.hex())])
        );
        assert_eq!(watched.in_force(), "rooted");
        let (status, text) = watched.policies.readiness();
        assert_eq!(status, StatusCode::OK);
        for said in [
            "the policy `rooted` in force names the trust root `ours`, which is not configured",
            "policy.yaml:1:",
            "unknown trust root `ours`",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }

        watched.write("gate.yaml", CONFIGURATION);
        watched.look();
        watched.look();
        assert_eq!(watched.anchors().len(), 2);
        assert_eq!(watched.policies.readiness().1, "ready\n");
    }

    #[test]
    fn a_trust_root_that_is_renamed_in_policies_and_configuration_at_once_is_never_missing() {
        let watched = Watched::new(ROOTED);
        let before = watched.anchors();
        let renamed = |text: &str| text.replace("name: ours", "name: new");
        watched.write("gate.yaml", renamed(CONFIGURATION));
        watched.write("policy.yaml", ROOTED.replace("[ours,", "[new,"));
        for _ in 0..3 {
            watched.look();
            assert_eq!(watched.anchors(), before);
        }
        assert_eq!(watched.policies.readiness().1, "ready\n");
    }

    #[test]
    fn policies_that_name_a_trust_root_before_the_configuration_has_it_change_nothing() {
        let watched = Watched::new(STRICT);
        watched.write("policy.yaml", ROOTED.replace("[ours,", "[new,"));
        watched.look();
        watched.look();
        assert_eq!(watched.in_force(), "strict");
        let (_, text) = watched.policies.readiness();
        assert!(text.contains("unknown trust root `new`"), "{text}");

        watched.write(
            "gate.yaml",
            CONFIGURATION.replace("name: ours", "name: new"),
        );
        watched.look();
        watched.look();
        assert_eq!(watched.in_force(), "rooted");
        assert_eq!(watched.policies.readiness().1, "ready\n");
    }

    #[test]
    fn policies_that_are_being_written_while_a_configuration_is_taken_over_are_judged_under_it() {
        let watched = Watched::new(ROOTED);
        watched.write(
            "gate.yaml",
            CONFIGURATION.replace("name: ours", "name: new"),
        );
        watched.look();
        watched.write("policy.yaml", CUT);
        watched.look();
        assert_eq!(watched.in_force(), "rooted");
        assert_eq!(watched.anchors().len(), 1);
        watched.write("policy.yaml", ROOTED);
        watched.look();
        let (_, text) = watched.policies.readiness();
        assert!(text.contains("unknown trust root `ours`"), "{text}");
    }

    #[test]
    fn a_file_that_held_a_policy_and_is_cut_off_or_overwritten_takes_no_policy_away() {
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
            watched.look();
            watched.look();
            assert_eq!(watched.in_force(), "strict", "{text}");
            let (status, said) = watched.policies.readiness();
            assert_eq!(status, StatusCode::OK);
            assert!(said.contains("policy.yaml"), "{text}: {said}");
        }
        std::fs::remove_file(watched.folder.path().join("policy.yaml")).unwrap();
        watched.look();
        watched.look();
        assert_eq!(watched.in_force(), "cut");
        assert_eq!(watched.policies.readiness().1, "ready\n");
    }

    #[test]
    fn a_state_between_two_good_ones_is_never_taken_over_however_often_it_is_seen() {
        let watched = Watched::new(STRICT);
        for _ in 0..3 {
            watched.write("policy.yaml", CUT);
            watched.look();
            assert_eq!(watched.in_force(), "strict");
            watched.write("policy.yaml", STRICT);
            watched.look();
            assert_eq!(watched.in_force(), "strict");
        }
        watched.write("policy.yaml", CUT);
        watched.look();
        watched.look();
        assert_eq!(watched.in_force(), "cut");
    }
}
