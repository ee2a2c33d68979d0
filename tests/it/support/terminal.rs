//! A program at a terminal: what a person sees and types.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program whose standard input, output and error are a terminal. It is killed when this is dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// How much of it `sees` has passed.
    read: usize,
}

impl Terminal {
    /// The binary, outside of any pipeline.
    pub fn run(folder: &Path, args: &[&str]) -> Terminal {
        Terminal::run_with(folder, args, &[])
    }

    /// The binary, where these variables are set.
    pub fn run_with(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Terminal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promotion-gate"));
        command.args(args).current_dir(folder);
        for variable in [
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "SIGSTORE_ID_TOKEN",
        ] {
            command.env_remove(variable);
        }
        command.envs(variables.iter().copied());
        Terminal::start(command)
    }

    /// A line that is copied into a shell.
    pub fn shell(line: &str) -> Terminal {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        Terminal::start(command)
    }

    fn start(mut command: Command) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        // The terminal does not become that of the tests.
        let terminal = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits().cast_signed())
            .open(OsStr::from_bytes(name.as_bytes()))
            .unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let mut shown = keyboard.try_clone().unwrap();
        let (show, screen) = channel();
        // It ends with an error when the last program at the terminal has ended.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = shown.read(&mut bytes) {
                let _ = show.send(bytes[..count].to_vec());
            }
        });
        Terminal {
            child,
            keyboard,
            screen,
            seen: String::new(),
            read: 0,
        }
    }

    /// Waits until a text is on the screen, after the one that was waited for before.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        let patience = Instant::now() + PATIENCE;
        while !self.seen[self.read..].contains(text) {
            let left = patience.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("never seen ({why}): {text}\n{}", self.seen),
            }
        }
        let found = self.seen[self.read..].find(text).unwrap();
        self.read += found + text.len();
    }

    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the program has ended. Returns its exit code, and everything that was on the screen.
    pub fn ends(mut self) -> (Option<i32>, String) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let left = patience.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
