//! Patterns over slash-separated names: `*` stays within a segment, `**` crosses segments.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// The longest pattern, in bytes. Matching takes at most pattern × text steps.
const MAXIMUM_LENGTH: usize = 1024;

/// A glob: `*` matches any characters except `/`, `**` any characters, every other character itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Glob {
    written: String,
    /// The literal text before the first wildcard.
    prefix: String,
    /// The rest of the pattern; empty, or beginning with a wildcard.
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
    /// An empty pattern cannot match a name.
    #[error("the pattern is empty")]
    Empty,
    /// A long pattern makes matching slow.
    #[error("the pattern is longer than {MAXIMUM_LENGTH} bytes")]
    TooLong,
    /// A regular expression would be compared literally, and would match no name.
    #[error("{0}")]
    RegularExpression(String),
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// An empty pattern, one longer than 1024 bytes, or a regular expression.
    pub fn parse(written: &str) -> Result<Glob, GlobError> {
        if written.is_empty() {
            return Err(GlobError::Empty);
        }
        if written.len() > MAXIMUM_LENGTH {
            return Err(GlobError::TooLong);
        }
        if is_regular_expression(written) {
            let why = refuse_regular_expression(written, false);
            return Err(GlobError::RegularExpression(why));
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

    /// The text that alone matches; `None` for a pattern with a wildcard.
    pub fn literal(&self) -> Option<&str> {
        self.tokens.is_empty().then_some(&*self.prefix)
    }

    /// Whether the whole of `text` matches. Takes at most pattern × text steps for every pattern.
    pub fn matches(&self, text: &str) -> bool {
        let Some(text) = text.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        if self.tokens.is_empty() {
            return text.is_empty();
        }
        // A pattern has at most this many bytes, and so no more tokens.
        let mut states = [[false; MAXIMUM_LENGTH + 1]; 2];
        let [reached, next] = states
            .each_mut()
            .map(|states| states.split_at_mut(self.tokens.len() + 1).0);
        let (mut reached, mut next) = (reached, next);
        if let Some(first) = reached.first_mut() {
            *first = true;
        }
        self.pass_wildcards(reached);
        let ends_open = self.tokens.ends_with(&[Token::AcrossSegments]);
        for character in text.chars() {
            // The rest may be anything.
            if ends_open && reached.last() == Some(&true) {
                return true;
            }
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
            self.pass_wildcards(next);
            std::mem::swap(&mut reached, &mut next);
        }
        reached.last().copied().unwrap_or(false)
    }

    /// Whether a text exists that matches both patterns. Takes at most pattern × pattern steps.
    pub fn intersects(&self, other: &Glob) -> bool {
        let (ours, theirs) = (self.every_token(), other.every_token());
        let width = theirs.len() + 1;
        let mut seen = vec![false; (ours.len() + 1) * width];
        let mut reached = vec![(0, 0)];
        while let Some((our, their)) = reached.pop() {
            match seen.get_mut(our * width + their) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match (ours.get(our), theirs.get(their)) {
                (None, None) => return true,
                (Some(Token::Literal(a)), Some(Token::Literal(b))) => {
                    if a == b {
                        reached.push((our + 1, their + 1));
                    }
                }
                (Some(Token::Literal(a)), Some(wildcard)) => {
                    reached.push((our, their + 1));
                    if wildcard.takes(*a) {
                        reached.push((our + 1, their));
                    }
                }
                (Some(wildcard), Some(Token::Literal(b))) => {
                    reached.push((our + 1, their));
                    if wildcard.takes(*b) {
                        reached.push((our, their + 1));
                    }
                }
                (Some(_), Some(_)) => reached.extend([(our + 1, their), (our, their + 1)]),
                (Some(Token::Literal(_)), None) | (None, Some(Token::Literal(_))) => {}
                (Some(_), None) => reached.push((our + 1, their)),
                (None, Some(_)) => reached.push((our, their + 1)),
            }
        }
        false
    }

    fn every_token(&self) -> Vec<Token> {
        let prefix = self.prefix.chars().map(Token::Literal);
        prefix.chain(self.tokens.iter().copied()).collect()
    }

    /// A wildcard also matches the empty text, so every position before a wildcard reaches the position after it.
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

impl Token {
    fn takes(self, character: char) -> bool {
        match self {
            Token::Literal(literal) => literal == character,
            Token::WithinSegment => character != '/',
            Token::AcrossSegments => true,
        }
    }
}

/// Whether a text is a regular expression and not a pattern or a plain text. Addresses and git references do not begin with `^`,
/// end with `$` or contain `\\`.
pub(super) fn is_regular_expression(written: &str) -> bool {
    written.starts_with('^') || written.ends_with('$') || written.contains('\\')
}

/// The error for a regular expression, with the pattern to write instead. `marked` is for fields that compare a plain text
/// literally and mark a pattern with `{glob: …}`.
pub(super) fn refuse_regular_expression(written: &str, marked: bool) -> String {
    let remedy = match as_pattern(written) {
        Some(pattern) if marked && pattern.contains('*') => {
            format!("write `{{glob: \"{pattern}\"}}`")
        }
        Some(text) => format!("write `{text}`"),
        None if marked => "write `{glob: …}`".to_owned(),
        None => "write a pattern".to_owned(),
    };
    format!(
        "`{written:.200}` is a regular expression, which is not supported; {remedy}; `*` matches within a part of the name, `**` across parts"
    )
}

/// The pattern with the meaning of a simple regular expression; `None` for a complex one.
fn as_pattern(expression: &str) -> Option<String> {
    let text = expression.strip_prefix('^').unwrap_or(expression);
    let mut text = text.strip_suffix('$').unwrap_or(text).to_owned();
    let wildcards = [
        ("[^/]+", "*"),
        ("[^/]*", "*"),
        ("[0-9]+", "*"),
        ("\\d+", "*"),
        ("\\S+", "*"),
        (".*", "**"),
        (".+", "**"),
        ("\\.", "."),
        ("\\/", "/"),
        ("\\-", "-"),
    ];
    for (regular, pattern) in wildcards {
        text = text.replace(regular, pattern);
    }
    let plain = !text.is_empty()
        && !text.contains(['\\', '[', ']', '(', ')', '{', '}', '|', '+', '?', '^', '$']);
    plain.then_some(text)
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
        fn two_patterns_that_match_one_text_intersect(one in "[ab/*]{1,6}", other in "[ab/*]{1,6}", text in "[ab/]{0,6}") {
            let [one, other] = [one, other].map(|text| Glob::parse(&text).unwrap());
            if one.matches(&text) && other.matches(&text) {
                prop_assert!(one.intersects(&other));
            }
        }

        #[test]
        fn a_pattern_intersects_a_text_where_it_matches_it(pattern in "[ab/*]{1,6}", text in "[ab/]{1,6}") {
            let pattern = Glob::parse(&pattern).unwrap();
            prop_assert_eq!(pattern.intersects(&Glob::parse(&text).unwrap()), pattern.matches(&text));
        }

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
    fn a_regular_expression_is_refused_with_its_glob() {
        for (written, pattern) in [
            (
                r"^https://github\.com/example/.*$",
                "https://github.com/example/**",
            ),
            (r"https://github\.com/[^/]+/app", "https://github.com/*/app"),
            ("^refs/tags/v.*", "refs/tags/v**"),
        ] {
            let error = Glob::parse(written).unwrap_err().to_string();
            assert!(error.contains(&format!("write `{pattern}`")), "{error}");
            let marked = refuse_regular_expression(written, true);
            assert!(
                marked.contains(&format!("write `{{glob: \"{pattern}\"}}`")),
                "{marked}"
            );
        }
        assert!(refuse_regular_expression("^main$", true).contains("write `main`"));
        for written in ["^(a|b)$", r"v\d", "main$"] {
            let error = Glob::parse(written).unwrap_err().to_string();
            assert!(error.contains("is a regular expression"), "{error}");
        }
    }

    #[test]
    fn patterns_intersect_where_one_text_matches_both() {
        let intersect = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| Glob::parse(text).unwrap());
            assert_eq!(one.intersects(&other), other.intersects(&one));
            one.intersects(&other)
        };
        let workflow = "https://github.com/*/*/.github/workflows/*@**";
        assert!(!intersect("https://github.com/example/*", workflow));
        assert!(intersect("https://github.com/example/**", workflow));
        assert!(intersect("**", workflow));
        assert!(intersect("a*c", "ab*"));
        assert!(!intersect("a", "ab"));
        assert!(!intersect("a*", "b*"));
        assert!(!intersect("*", "a/b"));
        assert!(intersect(&"a**".repeat(300), &"*a".repeat(300)));
    }

    #[test]
    fn empty_and_overlong_patterns_are_refused() {
        let longest = "a".repeat(MAXIMUM_LENGTH);
        assert!(matches(&longest, &longest));
        assert_eq!(Glob::parse(&format!("{longest}a")), Err(GlobError::TooLong));
        assert_eq!(Glob::parse(""), Err(GlobError::Empty));
    }
}
