//! A small HTTP server in the test's own process.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use super::program::Address;

/// Answers until it is dropped.
pub struct HttpServer {
    address: Address,
    stopped: Arc<AtomicBool>,
}

impl HttpServer {
    /// Answers each GET with the JSON that `answer` gives for its path and query; `None` is answered with 404.
    pub fn start(
        address: Address,
        answer: impl Fn(&str) -> Option<Value> + Send + 'static,
    ) -> HttpServer {
        let bytes = move |path: &str| answer(path).map(|body| body.to_string().into_bytes());
        HttpServer::start_with_bytes(address, bytes)
    }

    /// The same with bytes.
    pub fn start_with_bytes(
        address: Address,
        answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static,
    ) -> HttpServer {
        let stopped = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind(address.to_string()).unwrap();
        let until = Arc::clone(&stopped);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                stream.and_then(|stream| serve(stream, &answer)).ok();
            }
        });
        HttpServer { address, stopped }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        TcpStream::connect(self.address.to_string()).ok();
    }
}

fn serve(mut stream: TcpStream, answer: impl Fn(&str) -> Option<Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let (status, body) = match request.split(' ').nth(1).and_then(answer) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len(),
    )?;
    stream.write_all(&body)
}
