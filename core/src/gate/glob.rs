//! Patterns over slash-separated names: `*` stays within a segment, `**` crosses segments.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// The longest pattern that is accepted, in bytes; matching costs pattern × text steps.
const MAXIMUM_LENGTH: usize = 1024;

/// A glob: `*` matches any characters but `/`, `**` any characters at all, everything else itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Glob {
    written: String,
    /// What every match begins with.
    prefix: String,
    /// What follows it; empty, or beginning with a wildcard.
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Token {
    Literal(char),
    WithinSegment,
    AcrossSegments,
}

/// Why a string is not a glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// The empty pattern matches nothing that exists.
    #[error("the pattern is empty")]
    Empty,
    /// Matching cost grows with the pattern.
    #[error("the pattern is longer than {MAXIMUM_LENGTH} bytes")]
    TooLong,
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// An empty pattern, or one longer than 1024 bytes.
    pub fn parse(written: &str) -> Result<Glob, GlobError> {
        if written.is_empty() {
            return Err(GlobError::Empty);
        }
        if written.len() > MAXIMUM_LENGTH {
            return Err(GlobError::TooLong);
        }
        let (prefix, pattern) = written.split_at(written.find('*').unwrap_or(written.len()));
        let mut tokens = Vec::with_capacity(pattern.len());
        for character in pattern.chars() {
            match (character, tokens.last()) {
                ('*', Some(Token::WithinSegment)) => {
                    tokens.pop();
                    tokens.push(Token::AcrossSegments);
                }
                ('*', Some(Token::AcrossSegments)) => {}
                ('*', _) => tokens.push(Token::WithinSegment),
                (literal, _) => tokens.push(Token::Literal(literal)),
            }
        }
        Ok(Glob {
            written: written.to_owned(),
            prefix: prefix.to_owned(),
            tokens,
        })
    }

    /// Whether the whole of `text` matches; pattern × text steps at most, whatever the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let Some(text) = text.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        if self.tokens.is_empty() {
            return text.is_empty();
        }
        let mut reached = vec![false; self.tokens.len() + 1];
        let mut next = reached.clone();
        if let Some(first) = reached.first_mut() {
            *first = true;
        }
        self.pass_wildcards(&mut reached);
        for character in text.chars() {
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate() {
                if !reached.get(at).copied().unwrap_or(false) {
                    continue;
                }
                let target = match token {
                    Token::Literal(literal) if *literal == character => at + 1,
                    Token::WithinSegment if character != '/' => at,
                    Token::AcrossSegments => at,
                    Token::Literal(_) | Token::WithinSegment => continue,
                };
                if let Some(state) = next.get_mut(target) {
                    *state = true;
                }
            }
            self.pass_wildcards(&mut next);
            std::mem::swap(&mut reached, &mut next);
        }
        reached.last().copied().unwrap_or(false)
    }

    /// A wildcard also matches nothing.
    fn pass_wildcards(&self, reached: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            let here = reached.get(at).copied().unwrap_or(false);
            if here
                && !matches!(token, Token::Literal(_))
                && let Some(state) = reached.get_mut(at + 1)
            {
                *state = true;
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Glob, D::Error> {
        let written = String::deserialize(deserializer)?;
        Glob::parse(&written).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": MAXIMUM_LENGTH})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn one_star_stays_within_a_segment_and_two_cross() {
        assert!(matches(
            "https://github.com/example/*",
            "https://github.com/example/app"
        ));
        assert!(!matches(
            "https://github.com/example/*",
            "https://github.com/example/app/evil"
        ));
        assert!(matches("ghcr.io/example/**", "ghcr.io/example/a/b"));
        assert!(!matches("ghcr.io/example/**", "ghcr.io/example"));
        assert!(matches("*a*b", "xaab"));
        assert!(matches("v*", "v"));
    }

    #[test]
    fn a_pattern_matches_the_whole_text_or_nothing() {
        assert!(!matches("example", "example-evil"));
        assert!(!matches("example", "an-example"));
        assert!(!matches("*@example.com", "mallory@example.com.evil.org"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_matched_in_linear_steps() {
        let pattern = "a**".repeat(300);
        let text = "a".repeat(4000);
        assert!(!matches(&format!("{pattern}b"), &text));
    }

    /// The meaning of a pattern, spelled out: what a naive reader does, in as many steps as it takes.
    fn means(pattern: &[char], text: &[char]) -> bool {
        let stars = pattern.iter().take_while(|c| **c == '*').count();
        match (pattern.get(stars..).unwrap_or_default(), stars) {
            ([], 0) => text.is_empty(),
            ([literal, rest @ ..], 0) => text.first() == Some(literal) && means(rest, &text[1..]),
            (rest, stars) => (0..=text.len()).any(|taken| {
                (stars > 1 || !text[..taken].contains(&'/')) && means(rest, &text[taken..])
            }),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_it_means(pattern in "[aé/*]{1,8}", text in "[aé/]{0,8}") {
            let [meant, given] = [&pattern, &text].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern, &text), means(&meant, &given));
        }

        #[test]
        fn a_text_without_wildcards_matches_itself_alone(text in "[a-z/.@:]{1,30}", other in "[a-z/.@:]{1,30}") {
            prop_assert!(matches(&text, &text));
            prop_assert_eq!(matches(&text, &other), text == other);
        }

        #[test]
        fn replacing_a_part_without_slashes_by_a_star_still_matches(a in "[a-z/]{0,9}", b in "[a-z]{0,9}", c in "[a-z/]{0,9}") {
            let pattern = format!("{a}*{c}");
            let text = format!("{a}{b}{c}");
            prop_assert!(matches(&pattern, &text));
        }
    }

    #[test]
    fn the_longest_pattern_is_accepted_and_an_empty_or_a_longer_one_is_not() {
        let longest = "a".repeat(MAXIMUM_LENGTH);
        assert!(matches(&longest, &longest));
        assert_eq!(Glob::parse(&format!("{longest}a")), Err(GlobError::TooLong));
        assert_eq!(Glob::parse(""), Err(GlobError::Empty));
    }
}
