//! A web server that answers as a test says, however badly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promotion_gate::sandbox::TlsIdentity;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As text.
    pub body: String,
    pub bytes: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub manner: Manner,
}

/// How the body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Whole,
    /// The connection breaks after half of it.
    Cut,
    /// It goes on for ever, without a length.
    Endless,
    /// A byte at a time, for ever.
    Drip,
    /// Nothing is answered at all.
    Silent,
    /// The connection ends before an answer.
    Reset,
}

impl Reply {
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: vec![("content-type".to_owned(), media_type.to_owned())],
            body: body.into(),
            manner: Manner::Whole,
        }
    }

    pub fn status(status: u16) -> Reply {
        Reply::new(status, "text/plain", "")
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn coming(self, manner: Manner) -> Reply {
        Reply { manner, ..self }
    }
}

pub struct Server {
    port: u16,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_with(None, answer).await
    }

    /// A server with TLS.
    pub async fn start_tls(
        identity: &TlsIdentity,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.unwrap()], key.unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        Server::start_with(Some(acceptor), answer).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                let tls = tls.clone();
                tokio::spawn(async move {
                    // A client that has seen enough hangs up.
                    match tls {
                        None => converse(stream, answer, &log).await,
                        Some(tls) => converse(tls.accept(stream).await?, answer, &log).await,
                    }
                });
            }
        });
        Server {
            port,
            scheme,
            seen,
            task,
        }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD path` of every request so far, sorted.
    pub fn asked(&self) -> Vec<String> {
        let line = |seen: &Seen| format!("{} {}", seen.method, seen.path);
        let mut asked: Vec<_> = self.seen().iter().map(line).collect();
        asked.sort();
        asked
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Arc<impl Fn(&Seen) -> Reply + Send + Sync + 'static>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let Some(seen) = request(&mut stream).await? else {
        return Ok(());
    };
    log.lock().unwrap().push(seen.clone());
    // An answer may itself wait for a server on this runtime.
    let asked = seen.clone();
    let reply = tokio::task::spawn_blocking(move || answer(&asked))
        .await
        .map_err(std::io::Error::other)?;
    if reply.manner == Manner::Silent {
        std::future::pending::<()>().await;
    }
    if reply.manner == Manner::Reset {
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !matches!(reply.manner, Manner::Endless | Manner::Drip) {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if seen.method == "HEAD" {
        return stream.shutdown().await;
    }
    match reply.manner {
        Manner::Whole => stream.write_all(&reply.body).await?,
        Manner::Cut => {
            stream
                .write_all(&reply.body[..reply.body.len() / 2])
                .await?
        }
        Manner::Endless => loop {
            stream.write_all(&[b' '; 65536]).await?;
        },
        Manner::Drip => loop {
            stream.write_all(b" ").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        Manner::Silent | Manner::Reset => {}
    }
    stream.shutdown().await
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Seen>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let bytes = bytes[end + 4..].to_vec();
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(Seen {
        bytes,
        method,
        path,
        headers,
        body,
    }))
}
