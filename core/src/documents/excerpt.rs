//! The place of a problem within a text of a YAML file, such as an expression: its line and column in the file, and the line with a
//! caret.

use super::Problem;

impl Problem {
    /// Moves the problem from the beginning of its text to its place within it. Returns the line of the file with a caret below it.
    /// `source` is the file. Where the text is not written as it is read (folded lines, escapes), the problem stays where it is.
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
        Some('>') => return None,
        _ if line != 1 => return None,
        _ => {}
    }
    let written: String = written.iter().collect();
    let (quote, text) = match written.strip_prefix(['"', '\'']) {
        Some(text) => (1, text),
        None => (0, &*written),
    };
    let before: String = text.chars().take(column - 1).collect();
    let is_as_read = quote == 0 || !before.contains('\\') && !before.contains("''");
    let fits = before.chars().count() == column - 1;
    (is_as_read && fits).then_some((first_line, first_column + quote + column - 1))
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
            // What is not written as it is read.
            ("rule: >\n  a &&\n  b\n", (1, 6), (2, 3, None)),
            ("rule: \"a\\tb && c\"\n", (1, 8), (1, 7, None)),
            ("rule: 'a == ''b'' && c'\n", (1, 13), (1, 7, None)),
            ("rule: a\n  && b\n", (1, 6), (1, 7, None)),
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
