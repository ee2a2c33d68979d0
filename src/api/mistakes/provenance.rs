//! Branches, tags and sources of provenance.

use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::Glob;
use serde_json::Value;

use super::{Mistakes, texts};

/// Servers, and the shape of the repository paths on them.
const SERVERS: &[(&str, &str)] = &[
    ("github.com", "*/*"),
    ("bitbucket.org", "*/*"),
    ("codeberg.org", "*/*"),
    ("gitlab.com", "*/**"),
];

impl Mistakes {
    pub(super) fn provenance(&mut self, provenance: &Value, here: &Path) {
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
        // `git@` in `ssh://git@**` names a user, and what follows it is not a reference.
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
}

/// Characters that git references cannot contain (git-check-ref-format), except the star.
fn is_odd_in_references(character: char) -> bool {
    character.is_whitespace() || character.is_control() || "~^:?[\\".contains(character)
}
