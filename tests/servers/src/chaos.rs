//! A TCP proxy in front of one server that misbehaves as asked.
//!
//! It understands just enough HTTP/1.1 for that: it reads a request's head, forwards it
//! with `Connection: close` (a header that S3 signatures do not cover) and relays the
//! answer until the server closes. So one connection carries one request, and a fault
//! hits exactly the requests it was meant for. The `Host` header stays the proxy's own,
//! which is the one the client signed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the network does wrong; the default is nothing.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches, written by name in tests")]
pub struct Chaos {
    /// Every request waits this long before it is forwarded.
    pub delay: Duration,
    /// Requests are read and never answered, until this is switched off.
    pub stall: bool,
    /// The connection is cut after this many bytes of the answer, its head included.
    pub cut_after: Option<u64>,
    /// Requests reach the server, their answers are lost: a write that timed out but landed.
    pub swallow_answers: bool,
    /// Requests with `If-None-Match` get 501, as Backblaze B2 answers them.
    pub no_conditional_put: bool,
    /// Requests with `x-amz-checksum-sha256` get 400, as older versions of Backblaze B2 answer
    /// them.
    pub no_checksums: bool,
    /// This many of a thousand requests get 503 SlowDown, drawn from the seed.
    pub unavailable_permille: u16,
    /// This many of a thousand requests get 500 InternalError, drawn from the seed.
    pub broken_permille: u16,
    /// Writes get 507, as a server whose disks are full answers them; reads go through.
    pub full: bool,
    /// Requests with this method get 403 AccessDenied, as credentials without that right do.
    pub denied_method: Option<&'static str>,
    /// Connections are closed at once.
    pub down: bool,
    /// Only requests with this method are treated so (all when `None`); `down` hits all.
    pub only_method: Option<&'static str>,
}

/// A running proxy; it stops with its handle.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    chaos: Mutex<Chaos>,
    random: AtomicU64,
    stopped: AtomicBool,
    requests: AtomicU64,
    hurt: AtomicU64,
}

impl ChaosProxy {
    /// Starts a proxy in front of `upstream`, an endpoint URL or `host:port`. The same
    /// `seed` and order of requests give the same faults.
    pub fn start(upstream: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            chaos: Mutex::new(Chaos::default()),
            random: AtomicU64::new(seed),
            stopped: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            hurt: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // An error here is a connection that one side dropped: what a proxy is for.
                thread::spawn(move || shared.serve(client));
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:PORT`, to be used instead of the server's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what goes wrong from the next request on.
    pub fn set(&self, chaos: Chaos) {
        *self.shared.chaos.lock().expect("no panic under the lock") = chaos;
    }

    /// Requests seen so far, answered or not.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Requests that were refused, swallowed, stalled or cut so far. A test that asserts
    /// nothing about it may have tested fair weather.
    pub fn hurt(&self) -> u64 {
        self.shared.hurt.load(Ordering::SeqCst)
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let chaos = self.chaos();
        if chaos.down {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return client.shutdown(Shutdown::Both);
        }
        let Some(request) = Request::read(&mut client)? else {
            return Ok(());
        };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let chaos = match self.chaos() {
            chaos if chaos.only_method.is_none_or(|m| m == request.method()) => chaos,
            _ => Chaos::default(),
        };
        thread::sleep(chaos.delay);
        if chaos.stall {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            while self.chaos().stall && !self.stopped.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
            return client.shutdown(Shutdown::Both);
        }
        if chaos.no_conditional_put && request.header("if-none-match").is_some() {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return request.refuse(&mut client, "501 Not Implemented", "NotImplemented");
        }
        if chaos.no_checksums && request.header("x-amz-checksum-sha256").is_some() {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return request.refuse_with(
                &mut client,
                "400 Bad Request",
                "InvalidArgument",
                "Unsupported header 'x-amz-checksum-sha256' received for this API call.",
            );
        }
        if chaos.denied_method == Some(request.method()) {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return request.refuse(&mut client, "403 Forbidden", "AccessDenied");
        }
        if self.draw(1_000) < u64::from(chaos.unavailable_permille) {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return request.refuse(&mut client, "503 Service Unavailable", "SlowDown");
        }
        if self.draw(1_000) < u64::from(chaos.broken_permille) {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return request.refuse(&mut client, "500 Internal Server Error", "InternalError");
        }
        if chaos.full && matches!(request.method(), "PUT" | "POST") {
            self.hurt.fetch_add(1, Ordering::SeqCst);
            return request.refuse(&mut client, "507 Insufficient Storage", "XMinioStorageFull");
        }
        self.forward(&request, &mut client, &chaos)
    }

    fn forward(&self, request: &Request, client: &mut TcpStream, chaos: &Chaos) -> io::Result<()> {
        let mut server = TcpStream::connect(&self.upstream)?;
        server.write_all(&request.head_to_forward())?;
        // A server may answer before it has read everything; its answer still counts.
        let _ = copy(client, &mut server, request.body_length());
        let limit = if chaos.swallow_answers { Some(0) } else { chaos.cut_after };
        match limit {
            None => copy(&mut server, client, u64::MAX)?,
            Some(limit) => {
                self.hurt.fetch_add(1, Ordering::SeqCst);
                copy(&mut server, client, limit)?;
                // Read to the end, so that the server finishes what it was asked.
                copy(&mut server, &mut io::sink(), u64::MAX)?;
            }
        }
        client.shutdown(Shutdown::Both)
    }

    fn chaos(&self) -> Chaos {
        self.chaos.lock().expect("no panic under the lock").clone()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): one addition per draw, so threads need no lock.
    fn draw(&self, below: u64) -> u64 {
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// A request's head, up to and including the empty line.
struct Request {
    head: String,
}

impl Request {
    const HEAD_BYTES_MAX: usize = 64 * 1024;

    /// `None` when the client closes without asking anything.
    fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
        // Byte by byte on purpose: nothing of the body may be taken. Tests' heads are short.
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if client.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
            if head.len() > Self::HEAD_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "endless request head"));
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        Ok(Some(Self { head }))
    }

    fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn body_length(&self) -> u64 {
        self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    fn head_to_forward(&self) -> Vec<u8> {
        let mut head = String::with_capacity(self.head.len() + 20);
        for line in self.head.trim_end().lines() {
            if !line.to_ascii_lowercase().starts_with("connection:") {
                head.push_str(line);
                head.push_str("\r\n");
            }
        }
        head.push_str("Connection: close\r\n\r\n");
        head.into_bytes()
    }

    /// Reads the body first: a connection closed with unread bytes is reset, and the
    /// client would see the reset instead of the answer.
    fn refuse(&self, client: &mut TcpStream, status: &str, code: &str) -> io::Result<()> {
        self.refuse_with(client, status, code, "injected")
    }

    fn refuse_with(&self, client: &mut TcpStream, status: &str, code: &str, message: &str) -> io::Result<()> {
        copy(client, &mut io::sink(), self.body_length())?;
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        client.shutdown(Shutdown::Both)
    }
}

/// Copies at most `limit` bytes, or until the end.
fn copy(from: &mut impl Read, to: &mut impl Write, limit: u64) -> io::Result<()> {
    io::copy(&mut from.take(limit), to).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with the body it was sent.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let request = Request::read(&mut client).unwrap().unwrap();
                let mut body = vec![0; request.body_length().try_into().unwrap()];
                client.read_exact(&mut body).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                client.write_all(head.as_bytes()).unwrap();
                client.write_all(&body).unwrap();
            }
        });
        address
    }

    fn ask(proxy: &ChaosProxy, method: &str, headers: &str) -> String {
        let mut socket = TcpStream::connect(proxy.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let request = format!("{method} / HTTP/1.1\r\n{headers}Content-Length: 5\r\n\r\nhello");
        let mut answer = String::new();
        let _ = socket.write_all(request.as_bytes());
        let _ = socket.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn forwards_in_fair_weather_and_fails_as_asked() {
        let proxy = ChaosProxy::start(&echo().to_string(), 7);
        assert!(ask(&proxy, "PUT", "").ends_with("hello"));
        assert_eq!(proxy.hurt(), 0);

        let b2 = Chaos { no_conditional_put: true, ..Chaos::default() };
        proxy.set(b2);
        assert!(ask(&proxy, "PUT", "If-None-Match: *\r\n").starts_with("HTTP/1.1 501"));
        assert!(ask(&proxy, "PUT", "").ends_with("hello"));

        proxy.set(Chaos { cut_after: Some(10), ..Chaos::default() });
        assert_eq!(ask(&proxy, "GET", "").len(), 10);

        proxy.set(Chaos { swallow_answers: true, only_method: Some("PUT"), ..Chaos::default() });
        assert_eq!(ask(&proxy, "PUT", ""), "");
        assert!(ask(&proxy, "GET", "").ends_with("hello"));

        proxy.set(Chaos { stall: true, ..Chaos::default() });
        assert_eq!(ask(&proxy, "GET", ""), "");

        proxy.set(Chaos { down: true, ..Chaos::default() });
        assert_eq!(ask(&proxy, "GET", ""), "");

        proxy.set(Chaos { unavailable_permille: 500, ..Chaos::default() });
        let refused = (0..100).filter(|_| ask(&proxy, "GET", "").starts_with("HTTP/1.1 503")).count();
        assert!((25..75).contains(&refused), "{refused} of 100");

        proxy.set(Chaos { broken_permille: 1_000, ..Chaos::default() });
        assert!(ask(&proxy, "GET", "").starts_with("HTTP/1.1 500"));

        proxy.set(Chaos { full: true, ..Chaos::default() });
        assert!(ask(&proxy, "PUT", "").starts_with("HTTP/1.1 507"));
        assert!(ask(&proxy, "GET", "").ends_with("hello"));
    }
}
