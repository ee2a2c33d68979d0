//! Policies that parse but do not mean what their authors meant. A pattern that cannot match any image, namespace, branch or
//! source is refused; a pattern that probably comes from another tool causes a warning. Both messages say what to write
//! instead.

use promotion_gate_core::documents::{Fault, Path};
use promotion_gate_core::gate::{Glob, ImagePattern, LabelSelector, NAME_LABEL};
use serde::Deserialize as _;
use serde_json::Value;

use super::PromotionPolicySpec;

/// Registries whose repositories have at least two parts, such as `ghcr.io/OWNER/NAME`.
const DEEP_REGISTRIES: &[&str] = &[
    "ghcr.io",
    "gcr.io",
    "*.gcr.io",
    "quay.io",
    "registry.gitlab.com",
    "public.ecr.aws",
    "*.pkg.dev",
];

/// Issuers whose identities have a known shape, with an example of it (Fulcio, "OIDC usage").
const SHAPES: &[(&str, &str, &str)] = &[
    (
        "https://token.actions.githubusercontent.com",
        "https://*/*/*/.github/workflows/*@refs/**",
        "https://github.com/OWNER/NAME/.github/workflows/FILE@refs/heads/BRANCH",
    ),
    (
        "https://gitlab.com",
        "https://gitlab.com/**//**@**",
        "https://gitlab.com/GROUP/NAME//.gitlab-ci.yml@refs/heads/BRANCH",
    ),
];

/// Claims of certificates whose values have a known shape, with an example of it (Fulcio, `docs/oid-info.md`).
const CLAIMS: &[(&[&str], &str, &str)] = &[
    (
        &["sourceRepository", "sourceRepositoryUri"],
        "*://*/*/**",
        "https://github.com/OWNER/NAME",
    ),
    (
        &["sourceRepositoryOwnerUri"],
        "*://*/**",
        "https://github.com/OWNER",
    ),
    (
        &["sourceRepositoryRef", "githubWorkflowRef"],
        "refs/**",
        "refs/heads/main",
    ),
    (&["githubWorkflowRepository"], "*/*", "OWNER/NAME"),
    (
        &["buildSignerUri", "buildConfigUri"],
        "*://**@**",
        "https://github.com/OWNER/NAME/.github/workflows/FILE@refs/heads/BRANCH",
    ),
    (
        &["runInvocationUri"],
        "*://**",
        "https://github.com/OWNER/NAME/actions/runs/1/attempts/1",
    ),
];

/// Servers, and the shape of the repository paths on them.
const SERVERS: &[(&str, &str)] = &[
    ("github.com", "*/*"),
    ("bitbucket.org", "*/*"),
    ("codeberg.org", "*/*"),
    ("gitlab.com", "*/**"),
];

/// The mistakes in one policy: what is refused, and what the author is warned about.
#[derive(Default)]
pub(super) struct Mistakes {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Mistakes {
    /// Looks through a policy as written. A part that does not parse is left to the parser.
    pub(super) fn of(spec: &PromotionPolicySpec) -> Mistakes {
        let mut found = Mistakes::default();
        let spec = serde_json::to_value(spec).unwrap_or_default();
        let requirements = spec.pointer("/requirements").and_then(Value::as_array);
        let pinned = requirements
            .into_iter()
            .flatten()
            .any(|entry| entry.get("digestPinned").is_some());
        found.matches(&spec, pinned);
        for (index, entry) in requirements.into_iter().flatten().enumerate() {
            let here = Path::default().key("requirements").index(index);
            found.allowed_images(entry, &here.key("allowedImages").key("patterns"));
            if let Some(provenance) = entry.get("provenance") {
                found.provenance(provenance, &here.key("provenance"));
            }
            found.signers(entry, &here);
        }
        found.patterns(&spec, &Path::default());
        found
    }

    fn refuse(&mut self, path: Path, message: impl Into<String>) {
        let message = message.into();
        self.faults.push(Fault { path, message });
    }

    fn warn(&mut self, path: Path, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(Fault { path, message });
    }

    fn say(&mut self, is_refused: bool, path: Path, message: String) {
        match is_refused {
            true => self.refuse(path, message),
            false => self.warn(path, message),
        }
    }

    fn matches(&mut self, spec: &Value, pinned: bool) {
        let here = Path::default().key("match");
        for (path, name) in texts(
            spec,
            "/match/namespaces/names",
            &here.key("namespaces").key("names"),
        ) {
            let is_odd = |c: &char| *c != '*' && is_odd_in_namespaces(*c);
            if let Some(odd) = name.chars().find(is_odd) {
                let message = format!(
                    "no namespace matches `{name}`: names of namespaces cannot contain `{}`; write lower-case letters, digits, `-`, and `*` for anything",
                    odd.escape_default()
                );
                self.refuse(path, message);
            } else if name.starts_with('-')
                || name.ends_with('-')
                || !name.contains('*') && name.len() > 63
            {
                let message = format!(
                    "no namespace matches `{name}`: names of namespaces begin and end with a letter or a digit, and have at most 63 characters"
                );
                self.refuse(path, message);
            }
        }
        self.labels(spec, &here.key("namespaces").key("selector"));
        for (path, pattern, written) in images(spec, "/match/images", &here.key("images")) {
            self.image(&path, &pattern, &written);
            match pattern.without_tag() {
                Some(name) if pinned => self.refuse(
                    path,
                    format!(
                        "`{written}` matches no image that `digestPinned` lets pass: a pattern with a tag matches only images that are named without a digest; write `{name}`"
                    ),
                ),
                Some(name) => self.warn(
                    path,
                    format!(
                        "`{written}` matches no image that is named by digest, because it has a tag; write `{name}` to match those too"
                    ),
                ),
                None => {}
            }
        }
    }

    /// Refuses labels that no namespace can have (Kubernetes, "Labels and Selectors").
    fn labels(&mut self, spec: &Value, here: &Path) {
        let selector = spec.pointer("/match/namespaces/selector");
        let equal = selector.and_then(|selector| selector.get("matchLabels"));
        for (key, value) in equal.and_then(Value::as_object).into_iter().flatten() {
            let path = here.key("matchLabels").key(key);
            self.label(&path, key, value.as_str().into_iter(), true);
        }
        let terms = selector.and_then(|selector| selector.get("matchExpressions"));
        for (index, term) in terms
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            let path = here.key("matchExpressions").index(index);
            let key = term.get("key").and_then(Value::as_str).unwrap_or_default();
            let values = term.get("values").and_then(Value::as_array);
            let is_in = term.get("operator").and_then(Value::as_str) == Some("In");
            self.label(
                &path,
                key,
                values.into_iter().flatten().filter_map(Value::as_str),
                is_in,
            );
        }
        let selector = selector.and_then(|selector| LabelSelector::deserialize(selector).ok());
        if let Some(key) = selector.as_ref().and_then(LabelSelector::contradiction) {
            let message = format!(
                "no namespace is selected: no value of the label `{key}` fulfils every term about it; list alternatives in one `In`, and remove the term that excludes them"
            );
            // Names and selector are alternatives.
            match spec.pointer("/match/namespaces/names") {
                Some(Value::Array(names)) if !names.is_empty() => self.warn(here.clone(), message),
                _ => self.refuse(here.clone(), message),
            }
        }
    }

    /// Values that no label has: refused where one of the values has to be there and none can be, else warned of.
    fn label<'v>(
        &mut self,
        path: &Path,
        key: &str,
        values: impl Iterator<Item = &'v str>,
        is_required: bool,
    ) {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        if name.is_empty() || !is_label(name) {
            let message =
                format!("no namespace has the label `{key}`: that is not a name of a label");
            self.refuse(path.clone(), message);
        }
        let is_odd = |value: &&str| key == NAME_LABEL && value.contains(is_odd_in_namespaces);
        let values: Vec<_> = values.collect();
        let is_possible = |value: &&str| !is_odd(value) && is_label(value);
        let is_refused = is_required && !values.iter().any(is_possible);
        let (odd, values): (Vec<_>, Vec<_>) = values.into_iter().partition(is_odd);
        for value in odd {
            let message = format!(
                "no namespace has the name `{value}`; write names and patterns under `match.namespaces.names`"
            );
            self.say(is_refused, path.clone(), message);
        }
        for value in values.into_iter().filter(|value| !is_label(value)) {
            let message = format!(
                "no label has the value `{value}`: values are compared exactly, and hold letters, digits, `-`, `_` and `.` alone; list each value with `matchExpressions` and `In`"
            );
            self.say(is_refused, path.clone(), message);
        }
    }

    fn allowed_images(&mut self, entry: &Value, here: &Path) {
        for (path, pattern, written) in images(entry, "/allowedImages/patterns", here) {
            self.image(&path, &pattern, &written);
            if let Some(name) = pattern.without_tag() {
                let message = format!(
                    "`{written}` allows no image that is named by digest, because it has a tag, and a tag can be moved; write `{name}`"
                );
                self.refuse(path, message);
            }
        }
    }

    /// Warns about a star that would have to cross a `/` to match anything.
    fn image(&mut self, path: &Path, pattern: &ImagePattern, written: &str) {
        let (first, rest) = written.split_once('/').unwrap_or((written, ""));
        if !rest.is_empty() && first.contains(|c: char| c.is_ascii_uppercase()) {
            let lower = first.to_ascii_lowercase();
            let message = format!(
                "`{written}` matches only images that name the registry in the same case; write `{lower}/{rest}`"
            );
            return self.warn(path.clone(), message);
        }
        if !first.contains(['.', ':']) && first.contains('*') && !first.contains("**") {
            let message = format!(
                "`{written}` matches images of Docker Hub alone, because it does not name a registry; write `**` to match every image, or name the registry"
            );
            return self.warn(path.clone(), message);
        }
        let every_image = format!("{first}/**");
        let deep = DEEP_REGISTRIES.iter().any(|registry| {
            let [registry, shape] =
                [(*registry).to_owned(), format!("{registry}/*/**")].map(|text| Glob::parse(&text));
            match (registry, shape) {
                (Ok(registry), Ok(shape)) => registry.matches(first) && !pattern.can_match(&shape),
                _ => false,
            }
        });
        if deep || rest == "*" && first != "docker.io" {
            let remedy = match rest.strip_suffix('*') {
                Some(below) if !below.ends_with('*') => format!("{first}/{below}**"),
                _ => every_image,
            };
            let message = format!(
                "`{written}` matches no image below a further `/`, such as `{first}/team/app`: `*` stays within a part of the name; write `{remedy}` to match those too"
            );
            self.warn(path.clone(), message);
        }
    }

    fn provenance(&mut self, provenance: &Value, here: &Path) {
        for (field, prefix, example) in [
            ("branches", "refs/heads/", "main"),
            ("tags", "refs/tags/", "v1.2.3"),
        ] {
            for (path, name) in texts(provenance, &format!("/{field}"), &here.key(field)) {
                // A name that does not parse is refused already.
                if Glob::parse(&name).is_err() {
                    continue;
                }
                if let Some(short) = name.strip_prefix(prefix.trim_start_matches("refs/")) {
                    let message = format!(
                        "{field} are compared without `{prefix}`; write `{short}` unless the name itself begins so"
                    );
                    self.warn(path, message);
                } else if let Some(short) = name.strip_prefix("refs/") {
                    let short = short.split_once('/').map_or("", |(_, short)| short);
                    let remedy = if name.starts_with(prefix) {
                        short
                    } else {
                        example
                    };
                    let message = format!(
                        "`{name}` matches nothing: {field} are compared without `{prefix}`; write `{remedy}`"
                    );
                    self.refuse(path, message);
                } else if let Some(odd) = name.chars().find(|c| is_odd_in_references(*c)) {
                    let message = format!(
                        "`{name}` matches nothing: references of git cannot contain `{}`; `*` stands for any text within a part of the name, `**` for any text",
                        odd.escape_default()
                    );
                    self.refuse(path, message);
                } else {
                    self.pattern(&name, path);
                }
            }
        }
        let sources = provenance.get("sources").and_then(Value::as_array);
        for (index, source) in sources.into_iter().flatten().enumerate() {
            let here = here.key("sources").index(index);
            let glob = source.get("glob").and_then(Value::as_str);
            match (source.as_str(), glob) {
                (Some(exact), _) => self.on_server(exact, false, here),
                (None, Some(glob)) => self.source(glob, here.key("glob")),
                (None, None) => {}
            }
        }
    }

    fn source(&mut self, glob: &str, path: Path) {
        let address = glob.strip_prefix("git+").unwrap_or(glob);
        let (scheme, address) = address.split_once("://").unwrap_or(("https", address));
        let plain = address.trim_end_matches('/');
        let plain = plain.strip_suffix(".git").unwrap_or(plain);
        // `git@` in `ssh://git@**` names a user, and what follows it is no reference.
        let names_user = |before: &str| !before.contains(['/', '.', '*']);
        let (plain, reference) = match plain.rsplit_once('@') {
            Some((before, reference)) if names_user(before) && !reference.starts_with("refs/") => {
                (plain, false)
            }
            Some((plain, reference))
                if !reference.contains('/') || reference.starts_with("refs/") =>
            {
                (plain, true)
            }
            _ => (plain, false),
        };
        if plain != address {
            let also = if reference {
                ", and references under `branches` or `tags`"
            } else {
                ""
            };
            let message = format!(
                "no source matches `{glob}`: sources are compared without `.git`, `@REFERENCE` and a closing `/`; write `{scheme}://{plain}`{also}"
            );
            return self.refuse(path, message);
        }
        self.on_server(glob, true, path);
    }

    /// Refuses a source on a known server that does not name a repository there.
    fn on_server(&mut self, written: &str, is_glob: bool, path: Path) {
        let address = written.strip_prefix("git+").unwrap_or(written);
        let (scheme, address) = address.split_once("://").unwrap_or(("https", address));
        let address = address.trim_end_matches('/');
        let Some((host, repository)) = address.split_once('/') else {
            return;
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let server = host.strip_prefix("www.").unwrap_or(host);
        let Some((server, shape)) = SERVERS.iter().find(|(known, _)| *known == server) else {
            return;
        };
        if scheme != "https" || host != *server {
            let message = format!(
                "builders name sources of `{server}` by `https://{server}/`; write `https://{server}/{repository}`"
            );
            return self.warn(path, message);
        }
        let (Ok(shape), Ok(pattern)) = (Glob::parse(shape), Glob::parse(repository)) else {
            return;
        };
        if pattern.intersects(&shape) {
            return;
        }
        let mut parts = repository.split('/');
        let remedy = match (parts.next().unwrap_or_default(), parts.next()) {
            (owner, None) if owner.contains('*') => format!("`https://{server}/**`"),
            (owner, None) if is_glob => format!("`https://{server}/{owner}/*`"),
            (owner, None) => format!(
                "`https://{server}/{owner}/NAME`, or `{{glob: \"https://{server}/{owner}/*\"}}`"
            ),
            (owner, Some(name)) => format!("`https://{server}/{owner}/{name}`"),
        };
        let message = format!(
            "no source matches `{written}`: repositories of `{server}` are `https://{server}/OWNER/NAME`, and `*` stays within a part; write {remedy}"
        );
        self.refuse(path, message);
    }

    /// Looks at every certificate identity below `value`.
    fn signers(&mut self, value: &Value, here: &Path) {
        match value {
            Value::Object(fields) => {
                if let Some(keyless) = fields.get("keyless") {
                    self.keyless(keyless, &here.key("keyless"));
                }
                for (key, value) in fields {
                    self.signers(value, &here.key(key));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.signers(item, &here.index(index));
                }
            }
            _ => {}
        }
    }

    fn keyless(&mut self, keyless: &Value, here: &Path) {
        self.claims(keyless, &here.key("claims"));
        let Some(issuer) = keyless.get("issuer").and_then(Value::as_str) else {
            return;
        };
        if !issuer.contains("://") {
            let message = format!("issuers are addresses; write `https://{issuer}`");
            self.warn(here.key("issuer"), message);
        }
        let known = SHAPES
            .iter()
            .find(|(known, _, _)| *known == issuer.trim_end_matches('/'));
        let Some((known, shape, example)) = known else {
            return;
        };
        if issuer != *known {
            let message = format!("no certificate names the issuer `{issuer}`; write `{known}`");
            self.warn(here.key("issuer"), message);
        }
        let identity = keyless.get("identity");
        let glob = identity
            .and_then(|identity| identity.get("glob"))
            .and_then(Value::as_str);
        let written = identity.and_then(Value::as_str).or(glob).unwrap_or("**");
        // The identity of a reusable workflow can also name a commit.
        let (_, reference) = written.rsplit_once('@').unwrap_or_default();
        if reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit()) {
            return;
        }
        if let (Ok(shape), Ok(pattern)) = (Glob::parse(shape), Glob::parse(written))
            && !pattern.intersects(&shape)
        {
            let message = format!(
                "`{written}` matches no identity of `{known}`, which looks like `{example}`; `*` stays within a part of it, `**` crosses parts"
            );
            self.warn(here.key("identity"), message);
        }
    }

    fn claims(&mut self, keyless: &Value, here: &Path) {
        let claims = keyless.get("claims").and_then(Value::as_object);
        for (claim, value) in claims.into_iter().flatten() {
            let glob = value.get("glob").and_then(Value::as_str);
            let known = CLAIMS
                .iter()
                .find(|(names, ..)| names.contains(&claim.as_str()));
            let (Some((_, shape, example)), Some(written)) = (known, value.as_str().or(glob))
            else {
                continue;
            };
            if let (Ok(shape), Ok(pattern)) = (Glob::parse(shape), Glob::parse(written))
                && !pattern.intersects(&shape)
            {
                let message = format!(
                    "`{written}` matches no claim `{claim}`, which looks like `{example}`; `*` stays within a part of it, `**` crosses parts"
                );
                self.warn(here.key(claim), message);
            }
        }
    }

    /// Looks for syntax of other pattern languages that is compared literally here: in patterns, and in plain texts that could
    /// also be patterns.
    fn patterns(&mut self, value: &Value, here: &Path) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let here = here.key(key);
                    match (key.as_str(), value) {
                        ("glob", Value::String(pattern)) => self.pattern(pattern, here),
                        ("issuer" | "identity" | "id", Value::String(text)) => {
                            self.text(text, here);
                        }
                        ("claims", Value::Object(claims)) => {
                            for (claim, value) in claims {
                                self.either(value, here.key(claim));
                            }
                        }
                        ("buildTypes" | "sources", Value::Array(items)) => {
                            for (index, item) in items.iter().enumerate() {
                                self.either(item, here.index(index));
                            }
                        }
                        ("annotations" | "inputs", _) => {}
                        _ => self.patterns(value, &here),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.patterns(item, &here.index(index));
                }
            }
            _ => {}
        }
    }

    fn either(&mut self, value: &Value, here: Path) {
        match value {
            Value::String(text) => self.text(text, here),
            _ => self.patterns(value, &here),
        }
    }

    fn pattern(&mut self, pattern: &str, here: Path) {
        let odd = odd_in_patterns(pattern).or_else(|| {
            pattern
                .contains('?')
                .then_some("`?` is compared literally; write `*`")
        });
        if let Some(message) = odd {
            self.warn(here, message);
        }
    }

    /// In a plain text a `?` is common, and a pattern needs `glob`.
    fn text(&mut self, text: &str, here: Path) {
        if let Some(message) = odd_in_patterns(text) {
            let marked = message.replacen("write `*`", "write `{glob: …}` with `*`", 1);
            self.warn(here, marked);
        }
    }
}

/// A part that probably comes from a regular expression, and what to write instead.
fn odd_in_patterns(text: &str) -> Option<&'static str> {
    let within = |open: char, close: char| {
        let (_, rest) = text.split_once(open)?;
        rest.split_once(close).map(|(inside, _)| inside)
    };
    let holds =
        |inside: Option<&str>, separator| inside.is_some_and(|inside| inside.contains(separator));
    // In `v1.*` and `app.*` the author may mean the dot.
    let dots_for_anything = text.match_indices(".*").any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let (_, last) = before.rsplit_once('/').unwrap_or(("", before));
        last == "v" || !last.ends_with(|c: char| c.is_alphanumeric() || c == '*')
    });
    if dots_for_anything || text.contains(".+") {
        Some(
            "`.*` and `.+` begin with a dot that is compared literally; write `*` or `**` without it",
        )
    } else if text.contains('|') || holds(within('{', '}'), ',') {
        Some("alternatives are not supported and compared literally; write one entry for each")
    } else if holds(within('[', ']'), '-') {
        Some("character classes are not supported and compared literally; write `*`")
    } else {
        None
    }
}

/// Whether a text can be the value or the name of a label.
fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| edge(c) || "-_.".contains(c))
}

/// Characters that names of namespaces cannot contain.
fn is_odd_in_namespaces(character: char) -> bool {
    !(character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-')
}

/// Characters that git references cannot contain (git-check-ref-format), except the star.
fn is_odd_in_references(character: char) -> bool {
    character.is_whitespace() || character.is_control() || "~^:?[\\".contains(character)
}

/// The texts of a list, each with its place.
fn texts(value: &Value, pointer: &str, here: &Path) -> Vec<(Path, String)> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    let items = items.into_iter().flatten().enumerate();
    items
        .filter_map(|(index, item)| Some((here.index(index), item.as_str()?.to_owned())))
        .collect()
}

/// The image patterns of a list that parse, each with its place and its text.
fn images(value: &Value, pointer: &str, here: &Path) -> Vec<(Path, ImagePattern, String)> {
    let each = texts(value, pointer, here).into_iter();
    each.filter_map(|(path, written)| Some((path, ImagePattern::parse(&written).ok()?, written)))
        .collect()
}

/// Fields of other tools, and their counterparts here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("additionalExtensions", "`claims`"),
    ("artifactTypes", "`- provenance: {…}`"),
    ("attestation", "`- provenance: {…}`"),
    ("attestations", "`- provenance: {…}`"),
    ("attestors", "`- signature: {anyOf: […]}`"),
    ("authorities", "`- signature: {anyOf: […]}`"),
    ("certIdentity", "`identity`"),
    ("certIdentityRegex", "`identity: {glob: …}`"),
    ("certificate", "`keyless`"),
    ("certificateAuthorities", "`trustRoots`"),
    ("certificateChain", "`trustRoots`"),
    ("certificateIdentity", "`identity`"),
    ("certificateIdentityRegExp", "`identity: {glob: …}`"),
    ("certificateOidcIssuer", "`issuer`"),
    ("certificateOidcIssuerRegExp", "`issuer: {glob: …}`"),
    ("certificates", "`keyless`"),
    ("cosign", "`- signature: {anyOf: […]}`"),
    ("count", "`threshold`"),
    ("ctlog", "`transparency`"),
    ("enforcementAction", "`enforcement`"),
    ("exclude", "`match`, which names what is governed,"),
    ("extensions", "`claims`"),
    ("failureAction", "`enforcement`"),
    ("githubActions", "`keyless`"),
    ("identities", "`anyOf`, with one `keyless` for each"),
    ("identityRegExp", "`identity: {glob: …}`"),
    ("ignoreTlog", "`transparency`"),
    ("imagePatterns", "`match.images`"),
    ("imageReferences", "`match.images`"),
    ("images", "`match.images`"),
    ("insecureIgnoreTlog", "`transparency`"),
    ("issuerRegExp", "`issuer: {glob: …}`"),
    ("key", "`- signature: {anyOf: [{key: {pem: …}}]}`"),
    ("keyless", "`- signature: {anyOf: [{keyless: {…}}]}`"),
    ("keyPaths", "`key: {pem: …}`"),
    ("keys", "`key: {pem: …}`"),
    ("kms", "`pem`"),
    ("matchImageReferences", "`match.images`"),
    ("minimumMatches", "`threshold`"),
    ("mode", "`enforcement`"),
    ("modifyImagesWithDigest", "`- digestPinned: {}`"),
    ("mutateDigest", "`- digestPinned: {}`"),
    ("namespaceSelector", "`match.namespaces.selector`"),
    ("notary", "`- signature: {anyOf: […]}`"),
    ("oidcIssuer", "`issuer`"),
    ("pubKeys", "`key: {pem: …}`"),
    ("publicKey", "`key: {pem: …}`"),
    ("publicKeys", "`key: {pem: …}`"),
    ("regex", "`glob`"),
    ("regexp", "`glob`"),
    ("registryScopes", "`match.images`"),
    ("rekor", "`transparency`"),
    ("rekorUrl", "`trustRoots`"),
    ("requireRekorBundle", "`transparency`"),
    ("roots", "`trustRoots`"),
    ("rules", "`requirements`"),
    ("san", "`identity`"),
    ("sanRegex", "`identity: {glob: …}`"),
    ("secretRef", "`pem`"),
    ("signatures", "`- signature: {anyOf: […]}`"),
    ("signerWorkflow", "`identity`"),
    (
        "skipImageReferences",
        "`match.images`, which names what is judged,",
    ),
    ("slsa", "`- provenance: {…}`"),
    ("subject", "`identity`"),
    ("subjectPrefix", "`identity: {glob: …}`"),
    ("subjectRegExp", "`identity: {glob: …}`"),
    ("tlog", "`transparency`"),
    ("tlogVerify", "`transparency`"),
    ("trustPolicies", "`- signature: {anyOf: […]}`"),
    ("trustRoots", "`trustRoots` of each signer"),
    ("trustRootRef", "`trustRoots`"),
    ("trustedIdentities", "`- signature: {anyOf: […]}`"),
    ("urlPrefix", "`identity: {glob: …}`"),
    ("validationActions", "`enforcement`"),
    ("validationFailureAction", "`enforcement`"),
    ("validations", "`requirements`"),
    ("validators", "`- signature: {anyOf: […]}`"),
    ("verificationCerts", "`trustRoots`"),
    ("verifiers", "`- signature: {anyOf: […]}`"),
    ("verifyDigest", "`- digestPinned: {}`"),
    ("verifyImages", "`- signature: {anyOf: […]}`"),
];

/// The counterpart of another tool's field; case and separators of its name do not matter.
pub(super) fn used_here(field: &str) -> Option<&'static str> {
    let joined = field.replace(['-', '_'], "");
    let same = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(&joined);
    OTHER_NAMES.iter().find(same).map(|(_, here)| *here)
}
