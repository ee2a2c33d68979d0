//! Cuts a stream into documents, and finds the characters that YAML readers interpret differently.

/// The text between two separators.
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    /// The number of lines before it.
    pub(super) line: usize,
    /// The line, within the part, of the separator that ends it, if `kubectl` refuses that separator.
    pub(super) bad_separator: Option<usize>,
}

/// Cuts a stream into documents in the same way as `kubectl`: at every line that begins with `---`, also within a block of text.
///
/// A separator that is the first line of a part belongs to that part, as in the original
/// (`k8s.io/apimachinery/pkg/util/yaml`, `YAMLReader`). After `---` only a comment may follow.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut begins, mut first_line) = (0, 0);
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let ends = at + line.len();
        if let Some(after) = line.strip_prefix("---") {
            let is_first = at == begins;
            let blank = after.trim_start_matches([' ', '\t']);
            let comment = blank.starts_with('#') && (!is_first || blank.len() < after.len());
            let sound = comment || matches!(blank, "" | "\n" | "\r\n");
            if !is_first || !sound {
                parts.push(Part {
                    text: text.get(begins..at).unwrap_or_default(),
                    line: first_line,
                    bad_separator: (!sound).then_some(number - first_line),
                });
                (begins, first_line) = (ends, number + 1);
            }
        }
        at = ends;
    }
    parts.push(Part {
        text: text.get(begins..).unwrap_or_default(),
        line: first_line,
        bad_separator: None,
    });
    parts
}

/// The message for a line such as `--- text`.
pub(super) const BAD_SEPARATOR: &str = "only a comment may follow `---`, with a space before its `#`; `kubectl` refuses other text too; write the rest on the next line";

/// The position of the first character that YAML readers interpret differently, and the error.
pub(super) fn ambiguous(text: &str) -> Option<(usize, String)> {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let code = u32::from(character);
        let why = match character {
            '\t' | '\n' => continue,
            '\r' if matches!(characters.peek(), Some((_, '\n'))) => continue,
            '\r' => "a carriage return without a line feed is not a line break for every reader; end lines with a line feed".to_owned(),
            '\u{85}' | '\u{2028}' | '\u{2029}' => format!(
                "U+{code:04X} is a line break for `kubectl` (YAML 1.1) but not in YAML 1.2; remove it, or write `\\u{code:04X}` in double quotes"
            ),
            '\u{feff}' => "the text contains a byte order mark (U+FEFF); remove it".to_owned(),
            '\u{fffe}' | '\u{ffff}' => format!("U+{code:04X} is not allowed in YAML; remove it"),
            _ if character.is_control() => format!("the control character U+{code:04X} is not allowed in YAML; remove it"),
            _ => continue,
        };
        return Some((at, why));
    }
    None
}
