//! A program that was built for the tests: run to its end, or started, waited for and killed.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a program may take until it is ready, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running program with a folder of its own, which also holds its log. Killed when dropped.
pub struct Program {
    pub name: String,
    pub child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program with `folder` as its home; its output goes to a log there.
    pub fn start<S: AsRef<str>>(
        name: &str,
        folder: &TempDir,
        args: impl IntoIterator<Item = S>,
    ) -> Program {
        let mut command = command(name, folder.path());
        command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let log = folder.path().join(format!("{name}.log"));
        Program::start_logging_to(log, name, &mut command)
    }

    /// Starts a program whose output is added to a log.
    pub fn start_logging_to(log: PathBuf, name: &str, command: &mut Command) -> Program {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("`{name}` does not start: {error}"));
        let name = name.to_owned();
        Program { name, child, log }
    }

    /// Waits until `ready` says so; a program that ends before, or never is, fails the test.
    pub fn until(mut self, ready: impl Fn() -> bool) -> Program {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("`{}` ended with {status}:\n{}", self.name, self.log_tail());
            }
            if Instant::now() > deadline {
                panic!("`{}` is not ready in time:\n{}", self.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
        self
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let mut tail = VecDeque::new();
        for line in self.log().lines() {
            tail.push_back(line.to_owned());
            if tail.len() > 40 {
                tail.pop_front();
            }
        }
        Vec::from(tail).join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What came of a program that was run to its end.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its standard output, trimmed; fails the test if the program failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.is_ok(), "{self}");
        self.stdout.trim().to_owned()
    }

    pub fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard error; fails the test if the program succeeded.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.is_ok(), "should have been refused: {self}");
        self.stderr
    }
}

impl Ran {
    /// `check` allowed it.
    #[track_caller]
    pub fn allowed(self) {
        assert_eq!(self.code, Some(0), "{self}");
    }

    /// It failed with this code, saying this on standard error.
    #[track_caller]
    pub fn failed(self, code: i32, saying: &str) {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(self.stderr.contains(saying), "expected {saying}: {self}");
    }

    /// `check` denied it, saying this.
    #[track_caller]
    pub fn denied(self, saying: &str) {
        assert_eq!(self.code, Some(2), "{self}");
        assert!(self.stdout.contains(saying), "expected {saying}: {self}");
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{command}\nended with {code:?}\nstdout: {stdout}\nstderr: {stderr}"
        )
    }
}

/// Runs a command to its end with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    });
    Ran {
        command: format!("{command:?}"),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program built by `tests/real/tools/build`, with nothing of the user's environment and `home`
/// in place of the user's home.
pub fn command(name: &str, home: &Path) -> Command {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/real-tools/bin")
        .join(name);
    assert!(
        program.exists(),
        "`{}` is missing: run tests/real/tools/build",
        program.display()
    );
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .current_dir(home);
    command
}

/// Waits until something holds, by asking again and again; fails the test when it never does.
#[track_caller]
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A free port on loopback that nobody else in this process was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u16);

impl Address {
    /// Below the ephemeral range, so that no outgoing connection takes the port in between; each
    /// process looks in another place, so that two test runs do not meet.
    pub fn free() -> Address {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = std::process::id() as u16 % 100 * 100;
        for _ in 0..10_000 {
            let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Address(port);
            }
        }
        panic!("no free port");
    }

    pub fn port(self) -> String {
        self.0.to_string()
    }

    pub fn url(self) -> String {
        format!("http://{self}")
    }

    /// The body of an answer 200 to a plain HTTP GET.
    pub fn http_get(self, path: &str) -> Option<String> {
        let (head, body) = self.http("GET", path, "", b"")?;
        head.lines().next()?.contains(" 200 ").then_some(body)
    }

    /// Head and body of the answer to a plain HTTP request.
    pub fn http(
        self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.0)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {self}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
        .ok()?;
        stream.write_all(body).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.0.0.1:{}", self.0)
    }
}
