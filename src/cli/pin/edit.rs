//! Appends digests to image references in a file and leaves every other byte unchanged. The edited text is parsed again and
//! compared, so that an edit with another effect is never written.

use promotion_gate_core::documents::{self, Document};
use serde_json::Value;

/// An image reference in a file, and what is appended to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// Index of the document in the file.
    pub(super) document: usize,
    /// Path in the document, such as `items[0].spec.containers[0].image`.
    pub(super) path: String,
    /// Line and column (in characters), from 1.
    pub(super) at: (usize, usize),
    /// The reference as written.
    pub(super) written: String,
    /// The text to append, such as `@sha256:…`.
    pub(super) digest: String,
}

/// The text with all edits.
///
/// # Errors
/// An edit that cannot be made safely, and why.
pub(super) fn apply(name: &str, bytes: &[u8], edits: &[Edit]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let mut places = Vec::new();
    for edit in edits {
        let (line, column) = edit.at;
        let refused = |why: &str| format!("{name}:{line}:{column}: `{}` {why}", edit.written);
        let start =
            offset(text, line, column).ok_or_else(|| refused("cannot be found in the text"))?;
        let rest = text.get(start..).unwrap_or_default();
        let end = end_of(rest, &edit.written).map_err(refused)?;
        places.push((start + end, edit));
    }
    places.sort_by_key(|(place, _)| *place);
    if let Some([(_, edit), _]) = places.array_windows().find(|[one, other]| one.0 == other.0) {
        let (line, column) = edit.at;
        return Err(format!(
            "{name}:{line}:{column}: `{}` is used by several fields through an alias; write it out",
            edit.written
        ));
    }
    let mut edited = String::with_capacity(text.len() + places.len() * 80);
    let mut from = 0;
    for (place, edit) in &places {
        edited.push_str(text.get(from..*place).unwrap_or_default());
        edited.push_str(&edit.digest);
        from = *place;
    }
    edited.push_str(text.get(from..).unwrap_or_default());
    expect_only_references_changed(name, bytes, edited.as_bytes(), edits)?;
    Ok(edited.into_bytes())
}

/// The byte offset of a line and a column (in characters), both from 1.
fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += text.get(start..)?.find('\n')? + 1;
    }
    let of_line = text.get(start..)?;
    // A byte order mark does not count as a character.
    let mark = if start == 0 && of_line.starts_with('\u{feff}') {
        3
    } else {
        0
    };
    let of_line = of_line.get(mark..)?;
    let (before, _) = of_line.char_indices().nth(column.checked_sub(1)?)?;
    Some(start + mark + before)
}

/// The offset in `rest` after the text of a scalar, before its closing quote.
fn end_of(rest: &str, written: &str) -> Result<usize, &'static str> {
    let quoted = |quote: char| {
        let inner = rest.strip_prefix(quote)?;
        inner
            .strip_prefix(written)?
            .starts_with(quote)
            .then_some(1 + written.len())
    };
    let plain = || {
        let after = rest.strip_prefix(written)?;
        let ends = after
            .chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || matches!(c, ',' | '}' | ']'));
        ends.then_some(written.len())
    };
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            quoted(quote).ok_or("is written with escapes; write it plainly")
        }
        _ => plain().ok_or("is not written literally in the file; write it on one line"),
    }
}

/// Checks that the edited file holds the documents of the original with the given references changed, and nothing else.
fn expect_only_references_changed(
    name: &str,
    before: &[u8],
    after: &[u8],
    edits: &[Edit],
) -> Result<(), String> {
    let differs = || {
        format!("{name}: the edit would change more than the image references; nothing is changed")
    };
    let (mut expected, _) = values(name, before);
    for edit in edits {
        let value = expected
            .get_mut(edit.document)
            .and_then(|document| document.pointer_mut(&pointer(&edit.path)))
            .ok_or_else(differs)?;
        *value = Value::String(format!("{}{}", edit.written, edit.digest));
    }
    match values(name, after) {
        (found, true) if found == expected => Ok(()),
        _ => Err(differs()),
    }
}

fn values(name: &str, bytes: &[u8]) -> (Vec<Value>, bool) {
    let (documents, problems) = documents::read(name, bytes);
    let value = |document: Document| document.value;
    (
        documents.into_iter().map(value).collect(),
        problems.is_empty(),
    )
}

/// `a.b[0]` as a JSON pointer (RFC 6901).
fn pointer(path: &str) -> String {
    format!("/{}", path.replace(['.', '['], "/").replace(']', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(path: &str, at: (usize, usize), written: &str) -> Edit {
        Edit {
            document: 0,
            path: path.to_owned(),
            at,
            written: written.to_owned(),
            digest: "@sha256:1".to_owned(),
        }
    }

    fn pinned(text: &str) -> Result<String, String> {
        let (documents, _) = documents::read("a.yaml", text.as_bytes());
        let at = documents[0].position("image").unwrap();
        let written = documents[0].text("image").unwrap().to_owned();
        let edited = apply("a.yaml", text.as_bytes(), &[edit("image", at, &written)]);
        edited.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn everything_but_the_reference_stays_as_it_is_written() {
        for (before, after) in [
            ("image: a:1\n", "image: a:1@sha256:1\n"),
            (
                "image:   a:1   # why\r\nb: 1\r\n",
                "image:   a:1@sha256:1   # why\r\nb: 1\r\n",
            ),
            ("image: \"a:1\"", "image: \"a:1@sha256:1\""),
            ("'image': 'a:1'\n", "'image': 'a:1@sha256:1'\n"),
            ("{image: a:1, b: [1]}\n", "{image: a:1@sha256:1, b: [1]}\n"),
            ("image: &x a:1\n", "image: &x a:1@sha256:1\n"),
            ("image: !!str a:1\n", "image: !!str a:1@sha256:1\n"),
            ("image: >-\n  a:1\n", "image: >-\n  a:1@sha256:1\n"),
            ("{\"image\": \"a:1\"}", "{\"image\": \"a:1@sha256:1\"}"),
            ("\u{feff}image: a:1\n", "\u{feff}image: a:1@sha256:1\n"),
            (
                "ö: ü\nx: {ä: 1}\nimage: a:1\n",
                "ö: ü\nx: {ä: 1}\nimage: a:1@sha256:1\n",
            ),
        ] {
            assert_eq!(pinned(before).as_deref(), Ok(after));
        }
    }

    #[test]
    fn what_cannot_be_edited_safely_is_refused_with_its_place() {
        for (text, said) in [
            ("image: \"a\\u003a1\"\n", "escapes"),
            (
                "image: &x a:1\nother: *x\n",
                "more than the image references",
            ),
        ] {
            let error = pinned(text).unwrap_err();
            assert!(
                error.contains(said) && error.starts_with("a.yaml:"),
                "{error}"
            );
        }
    }
}
