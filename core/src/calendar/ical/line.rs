//! Content lines (RFC 5545 §3.1): unfolding, parameters and text.

use std::borrow::Cow;

use super::{CalendarProblem, limit, shown};

/// A content line that the reader uses.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    /// The number of its first line in the file.
    pub number: usize,
    /// In capitals.
    pub name: String,
    /// The parameters that the reader uses, their names in capitals.
    parameters: Vec<(&'static str, String)>,
    pub value: Cow<'a, str>,
}

/// The parameters that change the meaning of a value.
const USED: [&str; 3] = ["TZID", "VALUE", "RANGE"];

/// The unfolded lines of a file that are not empty, each with the number of its first line.
pub(super) struct Unfolded<'a> {
    rest: &'a [u8],
    /// Lines of the file that have been taken.
    taken: usize,
}

impl<'a> Unfolded<'a> {
    pub fn new(bytes: &'a [u8]) -> Unfolded<'a> {
        Unfolded {
            rest: bytes,
            taken: 0,
        }
    }

    /// The next line of the file, without its end. Some makers end lines with `\r\r\n`.
    fn take(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (mut line, rest) = match end.and_then(|end| self.rest.split_at_checked(end)) {
            Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
            None => (self.rest, Default::default()),
        };
        while let [before @ .., b'\r'] = line {
            line = before;
        }
        self.rest = rest;
        self.taken += 1;
        line
    }

    fn unfold(&mut self) -> Result<(usize, Cow<'a, str>), CalendarProblem> {
        let number = self.taken + 1;
        let mut line = Cow::Borrowed(self.take());
        while let Some(b' ' | b'\t') = self.rest.first() {
            let more = self.take();
            line.to_mut().extend(more.iter().skip(1));
            if line.len() > limit::LINE {
                break;
            }
        }
        if line.len() > limit::LINE {
            let most = limit::LINE;
            return Err(CalendarProblem::new(
                number,
                format!("the unfolded line is longer than {most} bytes; remove the attachment"),
            ));
        }
        if self.taken > limit::LINES {
            let most = limit::LINES;
            return Err(CalendarProblem::new(
                number,
                format!("the file has more than {most} lines; export a shorter period"),
            ));
        }
        // A fold can stand inside a character, so only now it is text.
        let text = match line {
            Cow::Borrowed(line) => std::str::from_utf8(line).ok().map(Cow::Borrowed),
            Cow::Owned(line) => String::from_utf8(line).ok().map(Cow::Owned),
        };
        let text = text.ok_or_else(|| {
            CalendarProblem::new(
                number,
                "the line is not UTF-8; export the calendar in UTF-8",
            )
        })?;
        Ok((number, text))
    }
}

impl<'a> Iterator for Unfolded<'a> {
    type Item = Result<(usize, Cow<'a, str>), CalendarProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.unfold() {
                Ok((_, text)) if text.trim().is_empty() => {}
                Err(problem) => {
                    self.rest = &[];
                    return Some(Err(problem));
                }
                unfolded => return Some(unfolded),
            }
        }
        None
    }
}

impl<'a> Line<'a> {
    /// Parses an unfolded line.
    pub fn parse(number: usize, text: Cow<'a, str>) -> Result<Line<'a>, CalendarProblem> {
        let wrong = |why: &str| {
            let beginning = shown(&text);
            let remedy = "write `NAME:value` or `NAME;PARAMETER=value:value`";
            CalendarProblem::new(
                number,
                format!("`{beginning}` is not a content line: {why}; {remedy}"),
            )
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let (name, mut rest) = split_while(&text, is_name);
        if name.is_empty() {
            return Err(wrong("it does not begin with a name"));
        }
        let mut parameters: Vec<(&'static str, String)> = Vec::new();
        let mut seen = 0;
        while let Some(after) = rest.strip_prefix(';') {
            let (parameter, after) = split_while(after, is_name);
            if parameter.is_empty() && after.starts_with([';', ':']) {
                rest = after;
                continue;
            }
            let used = USED
                .iter()
                .find(|used| used.eq_ignore_ascii_case(parameter));
            let after = after.strip_prefix('=');
            let mut after = after.ok_or_else(|| wrong("a parameter has no `=`"))?;
            loop {
                let value;
                (value, after) = match after.strip_prefix('"') {
                    Some(quoted) => quoted
                        .split_once('"')
                        .ok_or_else(|| wrong("a quote is not closed"))?,
                    None => split_while(after, |c| !matches!(c, ',' | ';' | ':' | '"')),
                };
                if let Some(used) = used {
                    if parameters.iter().any(|(name, _)| name == used) {
                        return Err(wrong(&format!("it has two values of {used}")));
                    }
                    parameters.push((*used, decode_parameter(value)));
                }
                seen += 1;
                if seen > limit::PARAMETERS {
                    let most = limit::PARAMETERS;
                    return Err(wrong(&format!("it has more than {most} parameters")));
                }
                match after.strip_prefix(',') {
                    Some(next) => after = next,
                    None => break,
                }
            }
            rest = after;
        }
        if !rest.starts_with(':') {
            return Err(wrong("there is no `:` before a value"));
        }
        let name = name.to_ascii_uppercase();
        let at = text.len() - rest.len() + 1;
        let value = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(at..).unwrap_or_default()),
            Cow::Owned(mut text) => {
                text.drain(..at);
                Cow::Owned(text)
            }
        };
        Ok(Line {
            number,
            name,
            parameters,
            value,
        })
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut named = self.parameters.iter().filter(|(of, _)| *of == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// The value as text, without escapes.
    pub fn text(&self) -> String {
        self.texts().join(",")
    }

    /// The value as a list of texts (`CATEGORIES`).
    pub fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let mut text = String::new();
        let mut characters = self.value.chars();
        while let Some(character) = characters.next() {
            match character {
                ',' => texts.push(std::mem::take(&mut text)),
                '\\' => match characters.next() {
                    Some('n' | 'N') => text.push('\n'),
                    Some(escaped @ ('\\' | ';' | ',' | ':' | '"')) => text.push(escaped),
                    other => text.extend(std::iter::once('\\').chain(other)),
                },
                _ => text.push(character),
            }
        }
        texts.push(text);
        let texts = texts.into_iter().map(|text| text.trim().to_owned());
        texts.collect()
    }

    /// A problem with this line.
    pub fn problem(&self, why: impl AsRef<str>) -> CalendarProblem {
        CalendarProblem::new(self.number, format!("{}: {}", self.name, why.as_ref()))
    }
}

fn split_while(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !accept(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// RFC 6868.
fn decode_parameter(value: &str) -> String {
    let mut decoded = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (character, characters.clone().next()) {
            ('^', Some(escaped @ ('n' | '^' | '\''))) => {
                characters.next();
                decoded.push(match escaped {
                    'n' => '\n',
                    '\'' => '"',
                    other => other,
                });
            }
            _ => decoded.push(character),
        }
    }
    decoded
}
