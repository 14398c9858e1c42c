//! A server on a loopback port that answers as it is told, byte for byte, and tells what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A whole answer.
    Answer(u16, String),
    /// A head that promises this many bytes more than follow, then the connection's end.
    Truncated(String, usize),
    /// Nothing, for ever.
    Hang,
    /// The connection's end.
    Close,
}

/// A request as it came over the wire.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

pub(super) struct Stub {
    pub(super) url: String,
    pub(super) seen: mpsc::UnboundedReceiver<Seen>,
    _tasks: JoinSet<()>,
}

type Script = Arc<dyn Fn(usize, &Seen) -> Reply + Send + Sync>;

impl Stub {
    /// A server that answers its requests by number, from 0.
    pub(super) async fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a loopback port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let script: Script = Arc::new(script);
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, sender, count) = (script.clone(), sender.clone(), count.clone());
                connections.spawn(async move {
                    let mut stream = stream;
                    while let Some(request) = read_request(&mut stream).await {
                        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        let reply = script(number, &request);
                        let _ = sender.send(request);
                        if !answer(&mut stream, reply).await {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, seen, _tasks: tasks }
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> Seen {
        self.seen.recv().await.expect("the server runs")
    }
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a request's body is JSON")
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("a head is text");
    let mut seen = Seen { head, body: bytes[head_end..].to_vec() };
    let length = seen.header("content-length").expect("a request tells its length");
    let length: usize = length.parse().expect("a length is a number");
    while seen.body.len() < length {
        if stream.read_buf(&mut seen.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(seen)
}

/// Answers, and tells whether the connection goes on.
async fn answer(stream: &mut TcpStream, reply: Reply) -> bool {
    let (status, body, missing) = match reply {
        Reply::Answer(status, body) => (status, body, 0),
        Reply::Truncated(body, missing) => (200, body, missing),
        Reply::Hang => std::future::pending().await,
        Reply::Close => return false,
    };
    let length = body.len() + missing;
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n"
    );
    let sent = stream.write_all(head.as_bytes()).await.is_ok()
        && stream.write_all(body.as_bytes()).await.is_ok()
        && stream.flush().await.is_ok();
    sent && missing == 0
}
