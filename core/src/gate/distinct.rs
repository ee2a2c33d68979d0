//! Which verified signatures come from the same signer. If two signers may be the same, they count once: a signer that counts
//! twice would fill a seat that another signer must fill.

use std::borrow::Cow;
use std::collections::BTreeMap;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::attest::{CertificateIdentity, Claim, Signer};

/// How often percent-encoding is removed. A name that is encoded several times is still the same name.
const MAXIMUM_ENCODINGS: usize = 4;

/// For each signer, the index of the first signer that is the same.
pub(super) fn first_of_each<'a>(signers: impl Iterator<Item = &'a Signer>) -> Vec<usize> {
    let mut first: Vec<usize> = Vec::new();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for (at, signer) in signers.enumerate() {
        first.push(at);
        for name in names(signer) {
            let other = *named.entry(name).or_insert(at);
            let (here, other) = (root(&mut first, at), root(&mut first, other));
            if let Some(first) = first.get_mut(here.max(other)) {
                *first = here.min(other);
            }
        }
    }
    (0..first.len()).map(|at| root(&mut first, at)).collect()
}

/// The first signer of the group that `at` belongs to (union-find with path compression).
fn root(first: &mut [usize], mut at: usize) -> usize {
    while let Some(next) = first.get(at).copied().filter(|next| *next != at) {
        let beyond = first.get(next).copied().unwrap_or(next);
        if let Some(first) = first.get_mut(at) {
            *first = beyond;
        }
        at = next;
    }
    at
}

/// The canonical names of a signer. Signers that share a name are the same.
fn names(signer: &Signer) -> Vec<String> {
    match signer {
        Signer::Key(fingerprint) => vec![format!("key {fingerprint}")],
        Signer::Certificate(certificate) => {
            let identity = canonical(certificate.identity());
            let further = [
                // One signature can count under a key and under the certificate for that key.
                Some(format!("key {}", certificate.key())),
                repository(certificate, &identity),
                account(certificate),
            ];
            let names = further.into_iter().flatten();
            names.chain([format!("identity {identity}")]).collect()
        }
    }
}

/// The name of a workflow by its repository's number, which does not change when the repository is renamed. Only for a workflow
/// of the source's own repository: for a reusable workflow, the number is that of the calling repository.
fn repository(certificate: &CertificateIdentity, identity: &str) -> Option<String> {
    let claims = certificate.claims();
    let number = claims.get(&Claim::SourceRepositoryIdentifier)?;
    let source = canonical(claims.get(&Claim::SourceRepositoryUri)?);
    let file = identity.strip_prefix(&source)?.strip_prefix('/')?;
    let host = source.split('/').next()?;
    Some(format!("repository {host} {number} {file}"))
}

/// The name of a person by the account at the issuer, which does not change with the e-mail address. Not for workflows: their
/// token subject names what started them.
fn account(certificate: &CertificateIdentity) -> Option<String> {
    let subject = certificate.claims().get(&Claim::TokenSubject)?;
    let issuer = certificate.issuer()?;
    (!certificate.identity().contains("://")).then(|| format!("account {issuer} {subject}"))
}

/// An identity without the parts that do not distinguish signers: case, encoding and spelling, a workflow's reference, an e-mail
/// address's tag, the issuer. The result for a pattern has no `*` if all of its matches are the same signer.
pub(super) fn canonical(identity: &str) -> String {
    let decoded = decoded(identity);
    let text = folded(&decoded);
    let text = text.strip_prefix("mailto:").unwrap_or(&text);
    match text.split_once("://") {
        Some(("http" | "https", address)) => address_of(address),
        Some((scheme, address)) => format!("{scheme}://{}", address_of(address)),
        None => match shell_address(text) {
            Some((host, path)) => address_of(&format!("{host}/{path}")),
            None => mailbox(text),
        },
    }
}

/// Removes percent-encoding (RFC 3986, 2.1).
fn decoded(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAXIMUM_ENCODINGS {
        if !text.contains('%') {
            break;
        }
        let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [byte, after @ ..] = rest {
            let encoded = (*byte == b'%').then(|| {
                let value = digit(after.first())? * 16 + digit(after.get(1))?;
                Some((u8::try_from(value).ok()?, after.get(2..)?))
            });
            let (byte, after) = encoded.flatten().unwrap_or((*byte, after));
            bytes.push(byte);
            rest = after;
        }
        if bytes.len() == text.len() {
            break;
        }
        text = Cow::Owned(String::from_utf8_lossy(&bytes).into_owned());
    }
    text
}

/// Lower case, in Unicode normalisation form NFKC, without white space and invisible characters.
fn folded(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
    {
        return Cow::Borrowed(text);
    }
    let unseen = |c: &char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(
                c,
                '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
            )
    };
    if text.is_ascii() {
        let seen = text.chars().filter(|c| !unseen(c));
        return Cow::Owned(seen.map(|c| c.to_ascii_lowercase()).collect());
    }
    let compose = ComposingNormalizerBorrowed::new_nfkc();
    let text = compose.normalize(text).to_lowercase();
    let text: String = text.chars().filter(|c| !unseen(c)).collect();
    Cow::Owned(compose.normalize(&text).into_owned())
}

/// Host and path of a repository as `ssh` and `git` write it, `git@host:path`.
fn shell_address(text: &str) -> Option<(&str, &str)> {
    let (host, path) = text.split_once(':')?;
    let (_, host) = host.split_once('@')?;
    path.contains('/').then_some((host, path))
}

/// Host and path, without the parts that do not distinguish workflows: user, port, query, reference, empty segments.
fn address_of(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.trim_end_matches(":443").trim_end_matches(":80");
    let host = host.trim_end_matches('.');
    let host = host.strip_prefix("www.").unwrap_or(host);
    let mut steps = Vec::new();
    for step in without_reference(path).split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step.strip_suffix(".git").unwrap_or(step)),
        }
    }
    [&[host], steps.as_slice()].concat().join("/")
}

/// A path without the `@…` at its end, if it follows a pipeline file or precedes a reference or a commit.
fn without_reference(path: &str) -> &str {
    let at = path.match_indices('@').find(|(at, _)| {
        let (before, after) = path.split_at(*at);
        let after = after.get(1..).unwrap_or_default();
        let is_commit = after.len() >= 7 && after.bytes().all(|b| b.is_ascii_hexdigit());
        [".yml", ".yaml"].iter().any(|end| before.ends_with(end))
            || after.starts_with("refs/")
            || is_commit
    });
    at.and_then(|(at, _)| path.get(..at)).unwrap_or(path)
}

/// The mailbox of an e-mail address, or of a name `user!domain` (Fulcio, for issuers without e-mail addresses).
fn mailbox(text: &str) -> String {
    let Some((user, domain)) = text.rsplit_once('@').or_else(|| text.rsplit_once('!')) else {
        return text.to_owned();
    };
    let user = user.trim_matches('"');
    let user = match user.split_once('+') {
        Some((user, _)) if !user.is_empty() => user,
        _ => user,
    };
    match domain.trim_end_matches('.') {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", user.replace('.', "")),
        domain => [user, "@", domain].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKFLOW: &str =
        "https://github.com/example/app/.github/workflows/release.yml@refs/tags/v1";

    #[test]
    fn a_workflow_is_one_signer_at_every_ref_and_in_every_spelling() {
        for other in [
            "https://github.com/example/app/.github/workflows/release.yml@refs/tags/v2",
            "https://github.com/example/app/.github/workflows/release.yml@refs/heads/a@refs/b",
            "https://github.com/example/app/.github/workflows/release.yml@1111111111111111111111111111111111111111",
            "https://github.com/example/app/.github/workflows/release.yml@v1",
            "https://github.com/example/app/.github/workflows/release.yml",
            "https://github.com/Example/APP/.github/workflows/release.yml@refs/tags/v1",
            "HTTPS://GitHub.com:443/example/app/.github/workflows/release.yml@refs/tags/v1",
            "http://www.github.com./example/app/.github/workflows/release.yml@refs/tags/v1",
            "https://github.com/example/app.git/.github/workflows/release.yml@refs/tags/v1",
            "https://github.com/example//app/./.github/x/../workflows/release.yml@refs/tags/v1",
            "https://github.com/example/app/%2Egithub/workflows/release%2eyml%40refs/tags/v1",
            "https://github.com/example/app/%252Egithub/workflows/release.yml@refs/tags/v1",
            "https://git:secret@github.com/example/app/.github/workflows/release.yml@refs/tags/v1",
            "https://github.com/example/app/.github/workflows/release.yml?a=b#c",
            "git@github.com:example/app/.github/workflows/release.yml@refs/tags/v1",
            " https://github.com/example/app/.github/workflows/release.yml@refs/tags/v1 ",
        ] {
            assert_eq!(canonical(other), canonical(WORKFLOW), "{other}");
        }
        let gitlab = "https://gitlab.com/group/sub/app//.gitlab-ci.yml@refs/heads/main";
        let other = "https://gitlab.com/Group/sub/app//.gitlab-ci.yml@refs/tags/v1";
        assert_eq!(canonical(gitlab), canonical(other));
    }

    #[test]
    fn another_workflow_repository_host_or_person_is_another_signer() {
        let all = [
            WORKFLOW,
            "https://github.com/example/app/.github/workflows/test.yml@refs/tags/v1",
            "https://github.com/example/app2/.github/workflows/release.yml@refs/tags/v1",
            "https://github.com/example2/app/.github/workflows/release.yml@refs/tags/v1",
            "https://github.example/example/app/.github/workflows/release.yml@refs/tags/v1",
            "https://gitlab.com/example/app//.gitlab-ci.yml@refs/heads/main",
            "https://gitlab.com/example/app//other.yml@refs/heads/main",
            "https://kubernetes.io/namespaces/ci/serviceaccounts/builder",
            "https://kubernetes.io/namespaces/ci/serviceaccounts/signer",
            "https://people.example/@alice",
            "https://people.example/@bob",
            "spiffe://example.com/ns/ci/sa/builder",
            "alice@example.com",
            "bob@example.com",
            "alice@example.org",
            "a.lice@example.com",
            "+alice@example.com",
            "alice",
            "müller!example.com",
            "möller!example.com",
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(canonical(one), canonical(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn an_address_in_another_spelling_leads_to_the_same_mailbox() {
        for (one, other) in [
            ("alice@example.com", "Alice@EXAMPLE.com"),
            ("alice@example.com", " alice@example.com."),
            ("alice@example.com", "alice+ci@example.com"),
            ("alice+a@example.com", "alice+b@example.com"),
            ("alice@example.com", "\"alice\"@example.com"),
            ("alice@example.com", "mailto:alice@example.com"),
            ("alice@example.com", "alice%40example.com"),
            ("alice@example.com", "alice!example.com"),
            ("alice@example.com", "al\u{200b}ice@example.com"),
            ("alice@example.com", "ａlice@example.com"),
            ("a.lice@gmail.com", "alice+x@googlemail.com"),
            ("ren\u{e9}e!example.com", "rene\u{301}e!EXAMPLE.com"),
        ] {
            assert_eq!(canonical(one), canonical(other), "{one} {other}");
        }
    }

    #[test]
    fn a_pattern_that_leaves_only_the_ref_open_is_one_signer() {
        let workflow = "https://github.com/example/app/.github/workflows/release.yml";
        for (pattern, one) in [
            (format!("{workflow}@refs/tags/v*"), true),
            (format!("{workflow}@**"), true),
            ("alice+*@example.com".to_owned(), true),
            (format!("{workflow}**"), false),
            (
                "https://github.com/example/*/.github/workflows/release.yml@refs/**".to_owned(),
                false,
            ),
            ("*@example.com".to_owned(), false),
            ("alice@*".to_owned(), false),
        ] {
            assert_eq!(!canonical(&pattern).contains('*'), one, "{pattern}");
        }
    }

    #[test]
    fn what_is_the_same_as_one_of_two_makes_them_the_same() {
        let mut first = vec![0, 1, 2, 3];
        first[3] = 1;
        first[1] = 0;
        assert_eq!(root(&mut first, 3), 0);
        assert_eq!(root(&mut first, 2), 2);
    }
}
