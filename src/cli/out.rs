//! Standard output and standard error. What people read is shown without what could steer their terminal; what programs read
//! is written as it is. A reader that has gone away ends the program.

use std::fmt;
use std::io::{ErrorKind, Write};

use crate::text::is_printable;

/// The colours that are ours, as they begin and end.
const COLOURS: [&str; 5] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
];

/// A line for people.
macro_rules! print_line {
    ($($text:tt)*) => { $crate::cli::out::print_line(format_args!($($text)*)) };
}

/// Text for programs, to the letter.
macro_rules! write_output {
    ($($text:tt)*) => { $crate::cli::out::write_output(format_args!($($text)*)) };
}

/// A line about what went wrong.
macro_rules! print_error {
    ($($text:tt)*) => { $crate::cli::out::print_error(format_args!($($text)*)) };
}

pub(super) fn print_line(text: fmt::Arguments<'_>) {
    let text = shown(&text.to_string());
    written(writeln!(anstream::stdout(), "{text}"));
}

pub(super) fn write_output(text: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    written(out.write_fmt(text).and_then(|()| out.flush()));
}

pub(super) fn print_error(text: fmt::Arguments<'_>) {
    let text = shown(&text.to_string());
    // A failure to report a failure cannot be reported.
    let _ = writeln!(anstream::stderr(), "promotion-gate: {text}");
}

/// A reader decides by the output: without it, the command has failed.
fn written(outcome: std::io::Result<()>) {
    let Err(error) = outcome else {
        return;
    };
    if error.kind() != ErrorKind::BrokenPipe {
        print_error(format_args!("standard output cannot be written: {error}"));
    }
    std::process::exit(super::FAILURE.into());
}

/// The text with a space for every character that could steer a terminal, our own colours apart.
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
