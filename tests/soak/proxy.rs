//! A link between one process and one server, which a test can cut.
//!
//! ```text
//!  process ──> Link (loopback port) ── whole requests ──> emulator
//!                │  Refused: connections are reset          └── answers, as they come
//!                └── Stalled: held, and let go when nobody waits for them any more
//! ```
//!
//! Requests pass whole, so that one which its sender has given up while the link was stalled never arrives: what a
//! network does once the sender's system stops sending a closed connection's data again. Each batch that passes is
//! noted with the process that sent it, before it is sent on.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dynamirror::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::beside;

/// Requests here are small; one that is larger than the service takes is a mistake.
const LARGEST_HEAD_BYTES: usize = 64 << 10;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// They work.
    Open,
    /// They are reset, and so are new ones.
    Refused,
    /// Nothing passes in either direction.
    Stalled,
}

/// What the links of one process note of the batches that it sent to replicas.
#[derive(Debug)]
pub(crate) struct Tap {
    /// The number of the start that new connections belong to.
    pub(crate) start: AtomicU32,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    writes: usize,
    file: File,
}

/// A port of its own for one process, which leads to one server.
pub(crate) struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    passing: Passing,
    /// Connections older than this many cuts are reset.
    cuts: u64,
}

/// One connection through a link.
struct Connection {
    start: u32,
    state: watch::Receiver<State>,
    tap: Arc<Tap>,
}

// === impl Tap ===

impl Tap {
    /// A tap that notes each batch as a line of the file at `path`: when it had arrived whole in milliseconds since
    /// 1970, which start of the process sent it, and its body.
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::create(path).expect("the file can be written");
        Self { start: AtomicU32::new(0), noted: Mutex::new(Noted { writes: 0, file }) }
    }

    /// How many batches there were so far.
    pub(crate) fn writes(&self) -> usize {
        self.noted().writes
    }

    fn saw(&self, start: u32, request: &[u8]) {
        // Operations are named in a header.
        let (head, body) = request.split_at(head_length(request).unwrap_or(request.len()));
        if !contains(head, b"BatchWriteItem") {
            return;
        }
        let mut noted = self.noted();
        let at_unix_ms = Clock::System.unix_ms();
        noted.writes += 1;
        let line = format!("{at_unix_ms} {start} {}\n", String::from_utf8_lossy(body));
        noted.file.write_all(line.as_bytes()).expect("the file takes it");
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().expect("nothing panics while holding it")
    }
}

// === impl Link ===

impl Link {
    /// Opens a port that leads to the server at `endpoint`, a URL.
    pub(crate) async fn open(endpoint: &str, tap: Arc<Tap>) -> Self {
        let server: SocketAddr =
            endpoint.trim_start_matches("http://").parse().expect("the address of a server on this host");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, _) = watch::channel(State { passing: Passing::Open, cuts: 0 });
        let accepting = beside(accept(listener, server, state.clone(), tap));
        Self { address, state, accepting }
    }

    /// Where the process connects to.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Resets all connections that there are.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// From now on.
    pub(crate) fn set(&self, passing: Passing) {
        self.state.send_modify(|state| state.passing = passing);
        if passing == Passing::Refused {
            self.cut();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Sender<State>, tap: Arc<Tap>) {
    loop {
        let (client, _) = listener.accept().await.expect("a listener goes on");
        if state.borrow().passing == Passing::Refused {
            reset(&client);
            continue;
        }
        let start = tap.start.load(Ordering::Relaxed);
        let connection = Connection { start, state: state.subscribe(), tap: Arc::clone(&tap) };
        beside(connection.run(client, server));
    }
}

fn reset(stream: &TcpStream) {
    // One that cannot be told so is closed all the same.
    let _ = stream.set_zero_linger();
}

// === impl Connection ===

impl Connection {
    async fn run(self, client: TcpStream, server: SocketAddr) {
        let Ok(server) = TcpStream::connect(server).await else {
            return reset(&client);
        };
        // Small packets at once; without it the connection only is slower.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut state = self.state.clone();
        let cuts = state.borrow().cuts;
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let is_cut = tokio::select! {
            biased;
            _ = state.wait_for(|state| state.cuts != cuts) => true,
            _ = self.requests(&mut from_client, &mut to_server) => false,
            _ = self.answers(&mut from_server, &mut to_client) => false,
        };
        if is_cut {
            reset(to_client.as_ref());
            reset(to_server.as_ref());
            // Dropped, they would say an orderly goodbye first.
            to_client.forget();
            to_server.forget();
        }
    }

    async fn requests(&self, client: &mut OwnedReadHalf, server: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut state = self.state.clone();
        let (mut read, mut more) = (Vec::new(), [0]);
        loop {
            let Some(length) = self.request(client, &mut read).await? else {
                return Ok(());
            };
            tokio::select! {
                biased;
                () = flows(&mut state) => {}
                // Nobody sends a second request on a connection before the first is answered: it hung up.
                _ = client.peek(&mut more) => return Ok(()),
            }
            self.tap.saw(self.start, &read[..length]);
            server.write_all(&read[..length]).await?;
            read.drain(..length);
        }
    }

    /// Reads until `read` begins with a whole request, and tells its length.
    async fn request(&self, client: &mut OwnedReadHalf, read: &mut Vec<u8>) -> io::Result<Option<usize>> {
        loop {
            if let Some(length) = request_length(read)
                && length <= read.len()
            {
                return Ok(Some(length));
            }
            if client.read_buf(read).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn answers(&self, server: &mut OwnedReadHalf, client: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut state = self.state.clone();
        let mut read = vec![0; 64 << 10];
        loop {
            let length = server.read(&mut read).await?;
            if length == 0 {
                return Ok(());
            }
            flows(&mut state).await;
            client.write_all(&read[..length]).await?;
        }
    }
}

/// Waits until the link is not stalled.
async fn flows(state: &mut watch::Receiver<State>) {
    // With the link's end, its connections end too.
    let _ = state.wait_for(|state| state.passing != Passing::Stalled).await;
}

/// The length of the request that `read` begins with, once its head is there.
fn request_length(read: &[u8]) -> Option<usize> {
    let head = head_length(read)?;
    let text = std::str::from_utf8(&read[..head]).expect("a head is text");
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().expect("a number"))
    };
    let body = text.lines().find_map(length).unwrap_or(0);
    Some(head + body)
}

/// The length of the head that `read` begins with, the empty line included.
fn head_length(read: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let found = read.windows(END.len()).position(|window| window == END).map(|at| at + END.len());
    assert!(found.is_some() || read.len() < LARGEST_HEAD_BYTES, "a head without end");
    found
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::support::wait;

    /// A server that tells of each request's first line, and answers it.
    async fn server() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (arrived, arrivals) = tokio::sync::mpsc::unbounded_channel();
        beside(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let arrived = arrived.clone();
                beside(async move {
                    let mut read = vec![0; 1 << 10];
                    while let Ok(length @ 1..) = stream.read(&mut read).await {
                        let text = String::from_utf8_lossy(&read[..length]).into_owned();
                        // Nobody may listen any more.
                        let _ = arrived.send(text.lines().next().unwrap_or_default().to_owned());
                        let _ = stream.write_all(b"answer").await;
                    }
                });
            }
        });
        (endpoint, arrivals)
    }

    async fn link(endpoint: &str) -> (Link, Arc<Tap>, tempfile::TempPath) {
        let file = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        let tap = Arc::new(Tap::new(&file));
        (Link::open(endpoint, Arc::clone(&tap)).await, tap, file)
    }

    async fn ask(link: &Link, what: &str) -> TcpStream {
        let mut stream = TcpStream::connect(link.address).await.expect("the link listens");
        let head = format!("{what} / HTTP/1.1\r\nX-Amz-Target: BatchWriteItem\r\nContent-Length: 4\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it is read");
        stream.write_all(b"body").await.expect("it is read");
        stream
    }

    async fn answer(stream: &mut TcpStream) -> Option<usize> {
        tokio::time::timeout(wait::PATIENCE, stream.read(&mut [0; 16])).await.expect("an end").ok()
    }

    #[tokio::test]
    async fn a_link_passes_requests_and_answers_and_notes_batches() {
        let (endpoint, mut arrivals) = server().await;
        let (link, tap, file) = link(&endpoint).await;
        let mut stream = ask(&link, "ONE").await;
        assert_eq!(answer(&mut stream).await, Some(6));
        assert_eq!(arrivals.recv().await.as_deref(), Some("ONE / HTTP/1.1"));
        assert_eq!(tap.writes(), 1);
        assert!(std::fs::read_to_string(&file).expect("readable").ends_with(" 0 body\n"));
    }

    #[tokio::test]
    async fn a_link_that_is_cut_resets_what_there_is_and_a_refusing_one_what_comes() {
        let (endpoint, _arrivals) = server().await;
        let (link, _tap, _file) = link(&endpoint).await;
        let mut stream = ask(&link, "ONE").await;
        assert_eq!(answer(&mut stream).await, Some(6));
        link.cut();
        assert_eq!(answer(&mut stream).await, None, "it was not reset");
        link.set(Passing::Refused);
        let mut refused = TcpStream::connect(link.address).await.expect("the port is there");
        assert_eq!(answer(&mut refused).await, None, "it was not reset");
        link.set(Passing::Open);
        assert_eq!(answer(&mut ask(&link, "TWO").await).await, Some(6));
    }

    #[tokio::test]
    async fn a_stalled_link_keeps_requests_unless_they_are_given_up() {
        let (endpoint, mut arrivals) = server().await;
        let (link, tap, _file) = link(&endpoint).await;
        link.set(Passing::Stalled);
        drop(ask(&link, "GIVEN-UP").await);
        let mut kept = ask(&link, "KEPT").await;
        let early = tokio::time::timeout(Duration::from_millis(100), arrivals.recv());
        assert!(early.await.is_err(), "it passed a stalled link");
        link.set(Passing::Open);
        assert_eq!(answer(&mut kept).await, Some(6));
        assert_eq!(arrivals.recv().await.as_deref(), Some("KEPT / HTTP/1.1"));
        assert_eq!(tap.writes(), 1);
    }
}
