//! What a person is asked at the terminal: questions, and the password of a key.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read, Write as _};

use anyhow::bail;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr,
};

use crate::config::variable;

/// The longest password, in bytes.
const MAXIMUM_PASSWORD: usize = 4096;

/// Where answers come from.
pub(in crate::cli) enum Terminal {
    StandardInput,
    /// Standard input holds something else, such as manifests.
    Controlling(File),
}

impl Terminal {
    /// The terminal of the person who runs the command.
    ///
    /// # Errors
    /// If there is none.
    pub(in crate::cli) fn open() -> anyhow::Result<Terminal> {
        if std::io::stdin().is_terminal() {
            return Ok(Terminal::StandardInput);
        }
        match std::io::stderr().is_terminal().then(controlling) {
            Some(Ok(terminal)) => Ok(Terminal::Controlling(terminal)),
            Some(Err(_)) | None => bail!(
                "the question cannot be asked: there is no terminal; `--yes` signs without asking"
            ),
        }
    }

    /// Asks a question that is answered with yes or no. What was typed before it was asked does not count.
    pub(in crate::cli) fn answers_yes(&self, question: &str) -> anyhow::Result<bool> {
        let mut out = std::io::stderr().lock();
        // A failure leaves the answer to what was typed.
        let _ = match self {
            Terminal::StandardInput => tcflush(std::io::stdin(), QueueSelector::IFlush),
            Terminal::Controlling(terminal) => tcflush(terminal, QueueSelector::IFlush),
        };
        write!(out, "{question} [y/N] ").and_then(|()| out.flush())?;
        let mut answer = String::new();
        match self {
            Terminal::StandardInput => std::io::stdin().read_line(&mut answer)?,
            Terminal::Controlling(terminal) => BufReader::new(terminal).read_line(&mut answer)?,
        };
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

fn controlling() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// The password of an encrypted key: from the environment, or from the terminal without showing it.
pub(in crate::cli) fn password() -> Result<String, String> {
    if let Some(password) = variable("COSIGN_PASSWORD") {
        return Ok(password);
    }
    let terminal = controlling();
    let terminal = terminal.map_err(|_| "it is encrypted; set COSIGN_PASSWORD".to_owned())?;
    let failed = |error: std::io::Error| format!("the password cannot be read: {error}");
    let hidden = Hidden::of(&terminal).map_err(failed)?;
    let typed = write!(&terminal, "Password of the key: ").and_then(|()| line_of(&terminal));
    drop(hidden);
    let _ = writeln!(&terminal);
    let typed = typed.map_err(failed)?;
    let typed = typed.ok_or_else(|| "its password was not given".to_owned())?;
    String::from_utf8(typed).map_err(|_| "its password is not UTF-8 text".to_owned())
}

/// A terminal that shows nothing of what is typed, until this is dropped. Interrupts are read like other keys, since one that ended
/// the program would leave the terminal as it is.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Hidden<'_> {
    fn of(terminal: &File) -> std::io::Result<Hidden<'_>> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Hidden { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // Nothing more can be done where this fails.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// A line, key by key; `None` if it was interrupted (Ctrl-C, Ctrl-D, Ctrl-\\).
fn line_of(keys: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    for key in BufReader::new(keys).bytes() {
        match key? {
            b'\n' | b'\r' => return Ok(Some(line)),
            0x03 | 0x04 | 0x1c => return Ok(None),
            // Backspace takes a whole character.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U
            0x15 => line.clear(),
            key if line.len() < MAXIMUM_PASSWORD => line.push(key),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_to_the_end_of_its_line_and_corrected_as_at_a_terminal() {
        let typed = |keys: &str| line_of(keys.as_bytes()).unwrap();
        let is = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(typed("secret\nmore"), is("secret"));
        assert_eq!(typed("secret\r"), is("secret"));
        assert_eq!(typed("seä\u{7f}cret\n"), is("secret"));
        assert_eq!(typed("\u{7f}\u{8}a\n"), is("a"));
        assert_eq!(typed("wrong\u{15}right\n"), is("right"));
        for given_up in ["sec\u{3}", "\u{4}", "a\u{1c}b\n", "no end"] {
            assert_eq!(typed(given_up), None, "{given_up:?}");
        }
        assert_eq!(typed(&"x".repeat(MAXIMUM_PASSWORD + 1)), None);
    }
}
