//! The place of a problem within a text of a YAML file, such as an expression: its line and column in the file, and the line with a
//! caret.

use super::Problem;

impl Problem {
    /// Moves the problem from the beginning of its text to its place within it. Returns the line of the file with a caret below it.
    /// `source` is the file. Where it is not certain how the text is written (such as a quoted one on several lines), the problem stays
    /// where it is.
    pub fn locate(&mut self, source: &str) -> Option<String> {
        let (line, column) = place(source, (self.line, self.column), self.path.within()?)?;
        let text = source.lines().nth(line - 1).unwrap_or_default();
        // What stands far to the left of the place is left out.
        let first = column.saturating_sub(60);
        let before: String = text.chars().take(column - 1).skip(first).collect();
        let after: String = text.chars().skip(column - 1).take(60).collect();
        let spaces = " ".repeat(before.chars().count());
        (self.line, self.column) = (line, column);
        Some(format!("{before}{after}\n{spaces}^"))
    }
}

/// The place in the file, from the beginning of a scalar and a place within its text; all from 1.
fn place(
    source: &str,
    (first_line, first_column): (usize, usize),
    (line, column): (usize, usize),
) -> Option<(usize, usize)> {
    let written = source.lines().nth(first_line.checked_sub(1)?)?;
    let written: Vec<char> = written.chars().collect();
    let (indentation, written) = written.split_at_checked(first_column.checked_sub(1)?)?;
    // The text of a block begins in the line below its header, such as `|-`.
    let header = first_line.checked_sub(2);
    let header = header.and_then(|before| source.lines().nth(before));
    let header = header.filter(|line| !line.trim_start().starts_with('#'));
    let header = header.and_then(|line| line.split_whitespace().next_back());
    let is_block = indentation.iter().all(|c| *c == ' ');
    match header.filter(|_| is_block).and_then(|it| it.chars().next()) {
        // A literal block: its lines are those of the text, all of them indented alike.
        Some('|') => {
            let line = first_line + line - 1;
            let column = indentation.len() + column;
            let length = source.lines().nth(line - 1)?.chars().count();
            return (column <= length + 1).then_some((line, column));
        }
        Some('>') if line != 1 => return None,
        Some('>') => {
            let lines = source.lines().skip(first_line - 1);
            let (below, column) = folded(lines, indentation.len(), column)?;
            return Some((first_line + below, column));
        }
        _ => {}
    }
    let before = match written.split_first() {
        Some((quote @ ('"' | '\''), text)) => 1 + quoted(text, *quote, (line, column))?,
        _ if line == 1 && column <= written.len() + 1 => column - 1,
        _ => return None,
    };
    Some((first_line, first_column + before))
}

/// The place in a folded block: how many lines below its first, and the column. Its lines are read as one as long as they are indented
/// alike and none is empty.
fn folded<'s>(
    lines: impl Iterator<Item = &'s str>,
    indentation: usize,
    mut column: usize,
) -> Option<(usize, usize)> {
    for (below, written) in lines.enumerate() {
        let (spaces, text) = written.split_at_checked(indentation)?;
        let is_indented = spaces.bytes().all(|byte| byte == b' ');
        if !is_indented || text.starts_with([' ', '\t']) || text.trim().is_empty() {
            return None;
        }
        let length = text.chars().count();
        // A line break is read as a space.
        if column <= length + 1 {
            return Some((below, indentation + column));
        }
        column -= length + 1;
    }
    None
}

/// How many characters are written before a place, from the quote that begins a text.
fn quoted(text: &[char], quote: char, place: (usize, usize)) -> Option<usize> {
    let (mut at, mut before) = ((1, 1), 0);
    while at != place {
        let next = text.get(before + 1);
        let (length, is_break) = match (quote, text.get(before)?) {
            ('\'', '\'') if next == Some(&'\'') => (2, false),
            ('"', '\\') => match next? {
                'n' => (2, true),
                'x' => (4, false),
                // Two surrogates are one character.
                'u' if matches!(text.get(before + 2)?, 'd' | 'D') => return None,
                'u' => (6, false),
                'U' => (10, false),
                _ => (2, false),
            },
            (_, character) if *character == quote => return None,
            _ => (1, false),
        };
        before += length;
        at = match is_break {
            true => (at.0 + 1, 1),
            false => (at.0, at.1 + 1),
        };
        if at > place {
            return None;
        }
    }
    (before <= text.len()).then_some(before)
}

#[cfg(test)]
mod tests {
    use crate::documents::{Path, read};

    fn located(source: &str, line: usize, column: usize) -> (usize, usize, Option<String>) {
        let (documents, problems) = read("policy.yaml", source.as_bytes());
        assert!(problems.is_empty(), "{problems:?}");
        let path = Path::default().key("rule").at(line, column);
        let mut problem = documents[0].problem(path, "no");
        let excerpt = problem.locate(source);
        (problem.line, problem.column, excerpt)
    }

    #[test]
    fn a_problem_points_into_the_text() {
        let caret = |text: &str| Some(text.to_owned());
        for (source, (line, column), expected) in [
            (
                "rule: a && b\n",
                (1, 6),
                (1, 12, caret("rule: a && b\n           ^")),
            ),
            (
                "rule: \"a && b\"\n",
                (1, 6),
                (1, 13, caret("rule: \"a && b\"\n            ^")),
            ),
            (
                "{rule: 'a && b'}\n",
                (1, 1),
                (1, 9, caret("{rule: 'a && b'}\n        ^")),
            ),
            ("rule: |\n  a &&\n  b\n", (2, 1), (3, 3, caret("  b\n  ^"))),
            (
                "rule: |-\n    a &&\n      b\n",
                (2, 3),
                (3, 7, caret("      b\n      ^")),
            ),
            (
                "rule:\n  # a |\n  'a == ''b'' && c'\n",
                (1, 13),
                (3, 18, caret("  'a == ''b'' && c'\n                 ^")),
            ),
            ("rule: >\n  a &&\n  b\n", (1, 6), (3, 3, caret("  b\n  ^"))),
            (
                "rule: >-\n  a &&\n  b ||\n  c\n",
                (1, 3),
                (2, 5, caret("  a &&\n    ^")),
            ),
            (
                "rule: >-\n  a &&\n  b ||\n  c\n",
                (1, 11),
                (4, 3, caret("  c\n  ^")),
            ),
            (
                "rule: \"a\\tb && c\"\n",
                (1, 8),
                (1, 16, caret("rule: \"a\\tb && c\"\n               ^")),
            ),
            (
                "rule: \"l[\\\"a\\\"] \\u00e4 \\x41 \\U00000041\\\\ b\"\n",
                (1, 15),
                (
                    1,
                    42,
                    caret(
                        "rule: \"l[\\\"a\\\"] \\u00e4 \\x41 \\U00000041\\\\ b\"\n                                         ^",
                    ),
                ),
            ),
            (
                "{\"rule\": \"a &&\\n b\"}",
                (2, 2),
                (
                    1,
                    18,
                    caret("{\"rule\": \"a &&\\n b\"}\n                 ^"),
                ),
            ),
            (
                "rule: 'a == ''b'' && c'\n",
                (1, 13),
                (
                    1,
                    22,
                    caret("rule: 'a == ''b'' && c'\n                     ^"),
                ),
            ),
            // The end of the text.
            (
                "rule: 'a &&'\n",
                (1, 5),
                (1, 12, caret("rule: 'a &&'\n           ^")),
            ),
            // What is not written as it is read.
            (
                "rule: >\n  a &&\n    b\n",
                (1, 1),
                (2, 3, caret("  a &&\n  ^")),
            ),
            ("rule: >\n  a &&\n    b\n", (2, 3), (2, 3, None)),
            ("rule: >\n  a &&\n\n  b\n", (2, 1), (2, 3, None)),
            ("rule: >1\n  a &&\n", (1, 2), (2, 2, None)),
            ("{\"rule\": \"\\ud83d\\ude00 && c\"}", (1, 6), (1, 10, None)),
            ("rule: 'a\n  && b'\n", (1, 6), (1, 7, None)),
            ("rule: \"a\n  && b\"\n", (1, 6), (1, 7, None)),
            ("rule: a\n  && b\n", (1, 6), (1, 7, None)),
            // No place within the text.
            ("rule: 'ab' # cdef\n", (1, 6), (1, 7, None)),
            ("rule: \"a\\nb\"\n", (1, 3), (1, 7, None)),
        ] {
            assert_eq!(located(source, line, column), expected, "{source}");
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let long = format!("rule: {} && b\n", "a".repeat(500));
        let (_, column, excerpt) = located(&long, 1, 505);
        let excerpt = excerpt.unwrap();
        assert_eq!(column, 511);
        assert!(
            excerpt.len() < 200 && excerpt.starts_with("aaa"),
            "{excerpt}"
        );
        let (text, caret) = excerpt.split_once('\n').unwrap();
        assert_eq!(text.chars().nth(caret.len() - 1), Some('b'));
    }
}
