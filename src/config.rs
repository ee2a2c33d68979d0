//! The configuration file (`kind: GateConfiguration`) of the webhook and the commands, validated like policies. The only
//! reader of the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use promotion_gate_core::attest::TrustRoot;
use promotion_gate_core::documents::{self, Document, Fault, Path as Place, Problem};
use promotion_gate_core::gate::{Digest, DnsLabel, Snapshot, World};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;

use crate::api::{
    GateConfigurationSpec, GateSettings, Written, WrittenController, WrittenGovernors,
    WrittenUngoverned, settings,
};
use crate::files::read_file;
use crate::oci::{
    ClientOptions, CredentialEntry, DockerConfig, EvidenceRepository, IgnoredCredential,
    RegistryOptions, Secret,
};

/// The largest file that the configuration may name, in bytes.
const MAXIMUM_FILE: u64 = 4 << 20;

/// The whole configuration, with the content of the files that it names.
#[derive(Debug)]
pub struct Config {
    /// What rules look at. `sigstore` and `github` are always among its trust roots.
    pub world: World,
    registries: Vec<RegistryOptions>,
    credentials: Vec<CredentialEntry>,
    ignored_credentials: Vec<IgnoredCredential>,
    /// What the file sets that a `GateConfiguration` among the policies could set instead.
    pub settings: GateSettings,
    /// Problems that do not prevent its use, for the log.
    pub warnings: Vec<String>,
    /// See [`ClientOptions::loopback`]. It depends on how the process runs, not on the file.
    pub loopback: bool,
    /// The path of the file; `None` for the defaults.
    file: Option<PathBuf>,
    /// The files that were read for it.
    files: Files,
}

/// Files, each with the digest of its content.
#[derive(Debug, Default)]
struct Files(Vec<(PathBuf, Digest)>);

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GateConfiguration {
    api_version: String,
    kind: String,
    /// The name of the cluster, which approvals can be limited to: at most 63 lower-case letters, digits and `-`. Clusters of one
    /// name share approvals.
    cluster: Option<Written<DnsLabel>>,
    /// The UID of the cluster's namespace `kube-system` (`kubectl get namespace kube-system -o jsonpath={.metadata.uid}`), which
    /// approvals can be limited to where two clusters have one name.
    cluster_uid: Option<String>,
    /// Who may change what the gate decides by. While nobody is named, nobody is refused.
    governors: Option<WrittenGovernors>,
    /// Controllers that are trusted besides those of Kubernetes.
    trusted_controllers: Option<Vec<WrittenController>>,
    /// Namespaces in which the cluster's own infrastructure runs, besides `kube-system` and the gate's own.
    infrastructure_namespaces: Option<Vec<Written<DnsLabel>>>,
    /// Trust roots besides the built-in `sigstore` and `github`.
    #[serde(default)]
    trust_roots: Vec<NamedRoot>,
    /// Options of single registries.
    #[serde(default)]
    registries: Vec<Registry>,
    /// Credentials for registries.
    #[serde(default)]
    credentials: Vec<Credential>,
    /// A Docker `config.json` with credentials.
    docker_config: Option<PathBuf>,
    /// What happens to a workload that no policy governs; `Allow` when absent.
    ungoverned: Option<WrittenUngoverned>,
    /// Labels of namespaces, for policies that select by label where no cluster can be asked.
    #[serde(default)]
    namespaces: Vec<NamespaceLabels>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamedRoot {
    name: String,
    /// A `trusted_root.json`, relative to the configuration.
    file: PathBuf,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Registry {
    /// Host, and port where images name one; `*` stands for any characters within a part of it. A host that is named without
    /// `*` (its port may be `*`) may also be on loopback, on a link-local address or at a metadata service.
    host: String,
    #[serde(default)]
    plain_http: bool,
    /// Certificate authorities (PEM) of the registry, relative to the configuration.
    ca_file: Option<PathBuf>,
    /// A second repository that holds evidence of this registry's images, as `host/path`: it is read besides the image's own
    /// repository. `{repository}` in the path stands for the path of the image's repository.
    evidence_repository: Option<EvidenceRepository>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Credential {
    registry: String,
    /// The repository, or a path prefix of repositories; the whole registry when absent.
    repository: Option<String>,
    username: Option<String>,
    /// A file with the password, relative to the configuration.
    password_file: Option<PathBuf>,
    /// A file with a token for the registry itself, relative to the configuration.
    token_file: Option<PathBuf>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamespaceLabels {
    name: String,
    labels: BTreeMap<String, String>,
}

/// Whether this process runs in a Pod: the kubelet tells every container the address of the API server.
pub fn in_a_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// A variable that other programs set too, such as `COSIGN_PASSWORD`.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The name of the Pod, as its host name; a word for it where it is not known.
pub fn host_name() -> String {
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    match name.is_empty() {
        true => "promotion-gate".to_owned(),
        false => name,
    }
}

/// The schema that configuration files are checked against.
pub fn schema() -> Schema {
    schema_for!(GateConfiguration)
}

impl Config {
    /// Reads a configuration; without a path, the defaults.
    ///
    /// # Errors
    /// Everything that is wrong with it, with line and column.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Config> {
        let built_in = [TrustRoot::public_good()?, TrustRoot::github()?];
        let named = |root: TrustRoot| (root.name().to_owned(), Arc::new(root));
        let mut config = Config {
            world: World {
                trust_roots: built_in.map(named).into(),
                ..World::default()
            },
            registries: Vec::new(),
            credentials: Vec::new(),
            ignored_credentials: Vec::new(),
            settings: GateSettings::default(),
            warnings: Vec::new(),
            loopback: true,
            file: path.map(Path::to_owned),
            files: Files::default(),
        };
        if let Some(path) = path {
            let (written, settings) = parse(path, &config.files.read(path)?)?;
            settings.apply_to(&mut config.world);
            config.settings = settings;
            config.add(written, path)?;
        }
        Ok(config)
    }

    /// The configuration as it is on disk now; `None` if none of its files has changed.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn reload(&self) -> Option<anyhow::Result<Config>> {
        let same = self.files.0.iter().all(|(path, digest)| {
            let now = Files::default().read(path);
            now.is_ok_and(|now| digest.verifies(&now))
        });
        (!same).then(|| {
            let mut config = Config::load(self.file.as_deref())?;
            config.loopback = self.loopback;
            config.world.approve_arguments = self.world.approve_arguments.clone();
            Ok(config)
        })
    }

    /// The folder of the file, from which relative paths start.
    pub fn folder(&self) -> &Path {
        let file = self.file.as_deref();
        file.and_then(Path::parent).unwrap_or(Path::new("."))
    }

    /// Names the bytes of all files of the configuration.
    pub fn revision(&self) -> String {
        let digests = self.files.0.iter().map(|(_, digest)| digest.hex());
        Digest::sha256(digests.collect::<String>().as_bytes()).to_string()
    }

    fn add(&mut self, written: GateConfiguration, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        for NamedRoot { name, file } in written.trust_roots {
            let json = self.files.read(&folder.join(file))?;
            let root = Arc::new(TrustRoot::parse(&name, &json)?);
            if self.world.trust_roots.insert(name.clone(), root).is_some() {
                bail!("`trustRoots`: the name `{name}` is taken; give the root another name");
            }
        }
        for Registry {
            host,
            plain_http,
            ca_file,
            evidence_repository,
        } in written.registries
        {
            let ca_pem = ca_file.map(|file| self.files.read(&folder.join(file)));
            let ca_pem = ca_pem.transpose()?;
            self.registries.push(RegistryOptions {
                host,
                plain_http,
                ca_pem,
                evidence_repository,
            });
        }
        for credential in written.credentials {
            let credential = credential.resolve(folder, &mut self.files)?;
            let source = format!("{} in `{}`", credential.source, path.display());
            let credential = CredentialEntry {
                source,
                ..credential
            };
            self.credentials.push(credential);
        }
        if let Some(file) = written.docker_config {
            let file = folder.join(file);
            let docker = DockerConfig::parse(&self.files.read(&file)?)
                .with_context(|| format!("`{}`", file.display()))?;
            let of_file = |text: String| format!("{text} in `{}`", file.display());
            let entries = docker.entries.into_iter();
            self.credentials
                .extend(entries.map(|entry| CredentialEntry {
                    source: of_file(entry.source),
                    ..entry
                }));
            let ignored = docker.ignored.into_iter();
            self.ignored_credentials
                .extend(ignored.map(|ignored| IgnoredCredential {
                    why: of_file(ignored.why),
                    ..ignored
                }));
            self.warnings.extend(docker.warnings);
        }
        self.world.namespaces.extend(
            written
                .namespaces
                .into_iter()
                .map(|namespace| (namespace.name, namespace.labels)),
        );
        Ok(())
    }

    /// A snapshot of the configuration, without policies.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            world: self.world.clone(),
            ..Snapshot::default()
        };
        self.settings.apply(&mut snapshot);
        snapshot
    }

    /// How registries are reached.
    pub fn client_options(&self) -> ClientOptions {
        ClientOptions {
            registries: self.registries.clone(),
            credentials: self.credentials.clone(),
            ignored_credentials: self.ignored_credentials.clone(),
            loopback: self.loopback,
            ..ClientOptions::default()
        }
    }
}

impl GateConfiguration {
    /// The fields that a resource could set instead.
    fn settings(&self, document: &Document) -> Result<GateSettings, Vec<Problem>> {
        let spec = GateConfigurationSpec {
            governors: self.governors.clone(),
            trusted_controllers: self.trusted_controllers.clone(),
            cluster: self.cluster.clone(),
            cluster_uid: self.cluster_uid.clone(),
            ungoverned: self.ungoverned,
            infrastructure_namespaces: self.infrastructure_namespaces.clone(),
            // Only a resource of the cluster asks for it.
            adopt: None,
        };
        let problem = |Fault { path, message }| document.problem(path, message);
        let settings = settings(&spec);
        let settings = settings.map(|it| it.written_in(document.clone(), Place::default()));
        settings.map_err(|faults| faults.into_iter().map(problem).collect())
    }

    /// Entries whose second repository is the image's own.
    fn own_evidence_repositories(&self, document: &Document) -> Vec<Problem> {
        let entries = self.registries.iter().enumerate();
        let own = entries.filter_map(|(index, entry)| {
            let evidence = entry.evidence_repository.as_ref()?;
            let place = Place::default().key("registries").index(index);
            let why = format!(
                "`{evidence}` is the image's own repository, which is always read; name another one, or remove the field"
            );
            evidence
                .is_own(&entry.host)
                .then(|| document.problem(place.key("evidenceRepository"), why))
        });
        own.collect()
    }
}

impl Credential {
    fn resolve(self, folder: &Path, files: &mut Files) -> anyhow::Result<CredentialEntry> {
        let mut text = |file: PathBuf| -> anyhow::Result<String> {
            let bytes = files.read(&folder.join(&file))?;
            let text = String::from_utf8(bytes)
                .with_context(|| format!("`{}` is not UTF-8 text", file.display()))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                bail!("`{}` is empty", file.display());
            }
            Ok(text.to_owned())
        };
        let secret = match (self.username, self.password_file, self.token_file) {
            (Some(username), Some(file), None) => Secret::Password {
                username,
                password: text(file)?,
            },
            (None, None, Some(file)) => Secret::Bearer(text(file)?),
            _ => bail!(
                "`credentials`: the entry for `{}` needs either `username` and `passwordFile`, or `tokenFile`",
                self.registry
            ),
        };
        let of = match &self.repository {
            Some(repository) => format!("{}/{repository}", self.registry),
            None => self.registry.clone(),
        };
        Ok(CredentialEntry {
            registry: self.registry,
            repository: self.repository,
            secret,
            source: format!("the entry of `credentials` for `{of}`"),
        })
    }
}

fn parse(path: &Path, bytes: &[u8]) -> anyhow::Result<(GateConfiguration, GateSettings)> {
    let name = path.display().to_string();
    let (found, mut problems) = documents::read(&name, bytes);
    let configuration = match found.as_slice() {
        [only] if only.value.get("spec").is_some() => {
            let why = "a configuration with `spec` is a resource; give it beside the policies, and put what the process needs (registries, credentials, paths) at the top level of this file";
            problems.push(only.problem(Place::default().key("spec"), why));
            None
        }
        [only] => match documents::decode::<GateConfiguration>(only) {
            Ok(configuration) => {
                problems.extend(configuration.own_evidence_repositories(only));
                let settings = configuration.settings(only);
                let settings = settings.map_err(|more| problems.extend(more));
                Some((configuration, settings.unwrap_or_default()))
            }
            Err(more) => {
                problems.extend(more);
                None
            }
        },
        _ => None,
    };
    if !problems.is_empty() {
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| format!("  {problem}"))
            .collect();
        bail!("the configuration cannot be used:\n{}", lines.join("\n"));
    }
    let (configuration, settings) =
        configuration.with_context(|| format!("`{name}` does not hold exactly one document"))?;
    if (
        configuration.api_version.as_str(),
        configuration.kind.as_str(),
    ) != (crate::api::API_VERSION, "GateConfiguration")
    {
        bail!(
            "`{name}` is a `{} {}`; expected `{} GateConfiguration`",
            configuration.api_version,
            configuration.kind,
            crate::api::API_VERSION
        );
    }
    Ok((configuration, settings))
}

impl Files {
    /// Reads a file, and records its digest.
    fn read(&mut self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let shown = path.display();
        let read = read_file(path, MAXIMUM_FILE);
        let bytes = read.with_context(|| format!("`{shown}` cannot be read"))?;
        self.0.push((path.to_owned(), Digest::sha256(&bytes)));
        Ok(bytes)
    }
}
