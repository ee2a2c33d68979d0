//! Text that others wrote, shown where it could pass itself off as ours: on a terminal, in a denial, in a log.

/// Neither a control character nor one that hides or reorders text.
pub(crate) fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffd}' | '\u{e0000}'..='\u{e007f}')
}

/// The text on one line, with a space for every character that is not printable.
pub(crate) fn line(text: &str) -> String {
    let printable = |c| if is_printable(c) { c } else { ' ' };
    text.chars().map(printable).collect()
}
