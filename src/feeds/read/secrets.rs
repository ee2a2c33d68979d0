//! URLs and tokens, which may be secret: where they are read, and problems that do not quote them.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::io;
use std::path::Path;

use http::HeaderValue;
use url::Url;

use super::{Problem, ProblemKind, in_background};
use crate::files::read_regular_file;

/// The most bytes of a file with a URL or a token.
const SECRET_BYTES: u64 = 16 << 10;
/// The fewest bytes of a part of a URL that counts as secret.
const SECRET: usize = 4;

/// A URL in a document, which is not secret.
pub(super) fn address(text: &str, what: &str) -> Result<Url, Problem> {
    let url = Url::parse(text.trim()).ok().filter(|url| url.has_host());
    let url = url.ok_or_else(|| {
        Problem::unreadable(&format!("{what} is not a URL with `https://` and a host"))
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        let why = format!("{what} holds a user name or a password, which is no place for secrets");
        return Err(Problem::new(ProblemKind::Refused, &why));
    }
    Ok(url)
}

/// The header for the token in a file. A file may also hold the credentials of `Basic` as the whole header.
pub(super) async fn authorization(
    token_file: Option<&str>,
) -> Result<Option<HeaderValue>, Problem> {
    let Some(path) = token_file else {
        return Ok(None);
    };
    let token = secret(path, "a token").await?;
    let header = match token.starts_with("Basic ") {
        true => token,
        false => format!("Bearer {token}"),
    };
    let mut header = HeaderValue::try_from(header).map_err(|_| {
        let why = format!("the file `{path}` has characters that no token has");
        Problem::unreadable(&why)
    })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// The text of a file that holds a secret, without white space around it. It is read at each attempt, since secrets are rotated.
pub(super) async fn secret(path: &str, what: &str) -> Result<String, Problem> {
    let bytes = file(path, SECRET_BYTES).await?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::unreadable(&format!("the file `{path}` is not UTF-8 text")))?;
    match text.trim() {
        "" => Err(Problem::unreadable(&format!(
            "the file `{path}` is empty; expected {what}"
        ))),
        text => Ok(text.to_owned()),
    }
}

pub(super) async fn file(path: &str, limit: u64) -> Result<Vec<u8>, Problem> {
    let owned = path.to_owned();
    let read = in_background(move || read_regular_file(Path::new(&owned), limit));
    let read: io::Result<_> = read.await.map_err(io::Error::other).flatten();
    read.map_err(|error| {
        let why = format!("the file `{path}` cannot be read: {error}");
        Problem::new(ProblemKind::Unavailable, &why)
    })
}

/// A text that may quote an answer, without the secrets of the question: hosts repeat it in their answers.
pub(super) fn without_secrets<'a>(
    text: &str,
    secrets: impl IntoIterator<Item = Cow<'a, str>>,
) -> String {
    let secrets = secrets.into_iter();
    let mut secrets: Vec<_> = secrets.filter(|secret| secret.len() >= SECRET).collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    let hide = |text: String, secret: &Cow<'_, str>| text.replace(&**secret, "…");
    secrets.iter().fold(text.to_owned(), hide)
}

/// The parts of a URL that may be secret, besides its path.
pub(super) fn query_of(url: &Url) -> impl Iterator<Item = Cow<'_, str>> {
    let values = url.query_pairs().map(|(_, value)| value);
    values.chain(url.query().map(Cow::from))
}

/// The path of a URL, and its user.
pub(super) fn path_of(url: &Url) -> impl Iterator<Item = Cow<'_, str>> {
    let user = [Some(url.username()), url.password()];
    let path = url.path_segments().into_iter().flatten();
    path.chain(user.into_iter().flatten()).map(Cow::from)
}

pub(super) fn token_of(header: Option<&HeaderValue>) -> impl Iterator<Item = Cow<'_, str>> {
    let header = header.and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.split(' ').next_back());
    token.into_iter().map(Cow::from)
}

pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("`{host}:{port}`"),
        None => format!("`{host}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_repeats_of_a_secret_is_not_shown() {
        let url = "https://gate:p4ss@calendar.example/ical/pr1vate-7f3a/basic.ics?key=k%2B1&x=ab";
        let url = Url::parse(url).unwrap();
        let token = HeaderValue::from_static("Bearer t0ken");
        let said = "no `/ical/pr1vate-7f3a/basic.ics?key=k%2B1&x=ab` for gate, p4ss, t0ken";
        let secrets = query_of(&url).chain(path_of(&url));
        let shown = without_secrets(said, secrets.chain(token_of(Some(&token))));
        assert_eq!(shown, "no `/…/…/…?…` for …, …, …");
    }
}
