//! The client behind `dynamirror healthcheck`: one request, answered within a time limit or not healthy.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

/// For a container's health check, which gives up and kills after a few of these.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer that is read; reasons are a few lines.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Why it is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens there.
    #[error("connect to {address}")]
    Connect {
        /// What was tried.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke, or took too long.
    #[error("get an answer from {address}")]
    Answer {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// What listens there does not speak HTTP.
    #[error("understand the answer of {address}: it is not HTTP")]
    Malformed {
        /// Where it was asked.
        address: SocketAddr,
    },
    /// It says itself that it is not.
    #[error("be healthy ({status}): {}", .reason.trim_end())]
    Unhealthy {
        /// The HTTP status.
        status: u16,
        /// The text that came with it.
        reason: String,
    },
}

/// Asks `address` for `path`, such as `/livez`; well when the answer is 200. An address that stands for all of a
/// host's, such as `0.0.0.0`, is asked through loopback. Blocks the thread, at most for `timeout`.
pub fn probe(address: SocketAddr, path: &str, timeout: Duration) -> Result<(), Error> {
    let address = reachable(address);
    let deadline = Instant::now() + timeout;
    let mut stream =
        TcpStream::connect_timeout(&address, timeout).map_err(|source| Error::Connect { address, source })?;
    let answer =
        exchange(&mut stream, address, path, deadline).map_err(|source| Error::Answer { address, source })?;
    let (status, reason) = parse(&answer).ok_or(Error::Malformed { address })?;
    match status {
        200 => Ok(()),
        _ => Err(Error::Unhealthy { status, reason }),
    }
}

fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn exchange(
    stream: &mut TcpStream,
    address: SocketAddr,
    path: &str,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while (answer.len() as u64) < ANSWER_BYTES {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What Unix calls a read that took too long.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_long()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(too_long()) } else { Ok(left) }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it took too long")
}

/// The status and the body.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let rest = head.strip_prefix("HTTP/1.")?;
    let status = rest.split(' ').nth(1)?.trim().parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers once with these bytes.
    fn answering(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the probe connects");
            let mut head = [0; 1024];
            let asked = stream.read(&mut head).expect("the probe asks");
            assert!(asked > 0, "the probe asked nothing");
            stream.write_all(bytes).expect("the probe reads");
        });
        address
    }

    #[test]
    fn only_200_is_healthy_and_the_body_is_the_reason() {
        let well = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        probe(well, "/livez", TIMEOUT).expect("it said 200");
        let ill = answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\nlease loop stuck for 70 s\n");
        let error = probe(ill, "/livez", TIMEOUT).expect_err("it said 503");
        assert_eq!(error.to_string(), "be healthy (503): lease loop stuck for 70 s");
        let elsewhere = answering(b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n");
        assert!(matches!(probe(elsewhere, "/livez", TIMEOUT), Err(Error::Unhealthy { status: 302, .. })));
    }

    #[test]
    fn what_is_not_http_is_not_healthy() {
        for bytes in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"HTTP/1.1 OK\r\n\r\n"] {
            let result = probe(answering(bytes), "/livez", TIMEOUT);
            assert!(matches!(result, Err(Error::Malformed { .. })), "{result:?}");
        }
    }

    #[test]
    fn silence_and_absence_are_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let silent = probe(address, "/livez", Duration::from_millis(50));
        assert!(
            matches!(&silent, Err(Error::Answer { source, .. }) if source.kind() == io::ErrorKind::TimedOut),
            "{silent:?}"
        );
        drop(listener);
        assert!(matches!(probe(address, "/livez", TIMEOUT), Err(Error::Connect { .. })));
    }

    #[test]
    fn an_address_for_all_is_asked_through_loopback() {
        let ask = |address: &str| reachable(address.parse().expect("an address")).to_string();
        assert_eq!(ask("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(ask("[::]:9464"), "[::1]:9464");
        assert_eq!(ask("10.1.2.3:9464"), "10.1.2.3:9464");
    }
}
