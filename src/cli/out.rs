//! Standard output and standard error. Text for people is printed without characters that could control their terminal; text
//! for programs is written unchanged. The program ends when standard output is closed.

use std::fmt;
use std::io::{ErrorKind, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::text::is_printable;

/// The escape sequences of our own colours: reset, bold, red, green, yellow.
const COLOURS: [&str; 5] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
];

const NOT_JSON: &str = "the report cannot be written as JSON";

/// Prints a line for people.
macro_rules! print_line {
    ($($text:tt)*) => { $crate::cli::out::print_line(format_args!($($text)*)) };
}

/// Writes text for programs, unchanged.
macro_rules! write_output {
    ($($text:tt)*) => { $crate::cli::out::write_output(format_args!($($text)*)) };
}

/// Prints a line about a problem on standard error.
macro_rules! print_error {
    ($($text:tt)*) => { $crate::cli::out::print_error(format_args!($($text)*)) };
}

pub(super) fn print_line(text: fmt::Arguments<'_>) {
    let text = shown(&text.to_string());
    exit_on_failure(writeln!(anstream::stdout(), "{text}"));
}

pub(super) fn write_output(text: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    exit_on_failure(out.write_fmt(text).and_then(|()| out.flush()));
}

/// Writes a report as JSON for programs.
pub(super) fn write_json(report: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report).context(NOT_JSON)?;
    write_output(format_args!("{text}\n"));
    Ok(())
}

/// Writes a report as JSON on one line, where others follow.
pub(super) fn write_json_line(report: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(report).context(NOT_JSON)?;
    write_output(format_args!("{text}\n"));
    Ok(())
}

pub(super) fn print_error(text: fmt::Arguments<'_>) {
    let text = shown(&text.to_string());
    // A failure of standard error cannot be reported anywhere.
    let _ = writeln!(anstream::stderr(), "promotion-gate: {text}");
}

/// Ends the program with a failure if standard output could not be written: a caller that got no report must not see success.
fn exit_on_failure(outcome: std::io::Result<()>) {
    let Err(error) = outcome else {
        return;
    };
    if error.kind() != ErrorKind::BrokenPipe {
        print_error(format_args!("standard output cannot be written: {error}"));
    }
    std::process::exit(super::FAILURE.into());
}

/// The text with a space in place of each character that could control a terminal, except in our own colours.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(colour) = COLOURS.iter().find(|colour| rest.starts_with(**colour)) {
            shown.push_str(colour);
            rest = rest.get(colour.len()..).unwrap_or_default();
            continue;
        }
        shown.push(if c == '\n' || is_printable(c) { c } else { ' ' });
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::render::human::RED;
    use super::*;

    #[test]
    fn a_terminal_is_steered_by_our_colours_alone() {
        let ours = format!("{RED}deny{RED:#} web\n");
        assert_eq!(shown(&ours), ours);
        let hostile = "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[8mhidden\rallow\u{9b}31m\u{202e}x";
        assert_eq!(shown(hostile), " ]0;title  [2J [8mhidden allow 31m x");
    }
}
