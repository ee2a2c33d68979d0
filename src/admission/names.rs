//! The names that Kubernetes gives, by which objects are read.

/// Whether a text can be the name of a namespace, or a version.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether a text can be the name of an object that is judged.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_end)
        && text.ends_with(is_end)
        && text.chars().all(|c| is_end(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_an_api_server_accepts() {
        for name in ["a", "web-5d4f.v1", "0", &"a".repeat(253)] {
            assert!(is_subdomain(name), "{name}");
        }
        for name in [
            "",
            "a/b",
            "a b",
            "..",
            "a..b",
            "-a",
            "a-",
            "A",
            "ſ",
            "a%2fb",
            "a?b",
            &"a".repeat(254),
        ] {
            assert!(!is_subdomain(name), "{name}");
            assert!(!is_label(name), "{name}");
        }
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)) && !is_label("a.b"));
    }
}
