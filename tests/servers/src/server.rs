//! A running S3 server: leased port, own folder, own process.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// SeaweedFS: a complete S3 server that honours `If-None-Match: *`, versions and locks.
/// Ready about four seconds after [`SeaweedFs::start`].
#[derive(Debug)]
pub struct SeaweedFs {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    /// Access key id.
    pub access: String,
    /// Secret access key.
    pub secret: String,
    /// A bucket that exists and is empty.
    pub bucket: String,
    process: Process,
}

/// The JuiceFS gateway: MinIO's older server code, which ignores `If-None-Match`, so
/// that of sixteen creates of one name all sixteen succeed.
#[derive(Debug)]
pub struct JuiceFs {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    /// Access key id.
    pub access: String,
    /// Secret access key.
    pub secret: String,
    /// A bucket that exists and is empty.
    pub bucket: String,
    process: Process,
}

impl SeaweedFs {
    /// Starts a fresh server with an empty bucket; installs it first where it is missing.
    ///
    /// # Panics
    /// When it cannot be installed or does not come up; the text says what to run.
    pub fn start() -> Self {
        // It listens on four neighbouring ports and on each of them plus 10,000 (gRPC).
        let process = Process::start("seaweedfs", &[0, 1, 2, 3, 10_000, 10_001, 10_002, 10_003]);
        Self {
            endpoint: process.answer("endpoint"),
            access: process.answer("access"),
            secret: process.answer("secret"),
            bucket: process.answer("bucket"),
            process,
        }
    }

    /// Makes one more bucket.
    pub fn make_bucket(&self, name: &str) {
        self.s3("make-bucket", &[name, "30"]);
    }

    /// Makes one more bucket that keeps every version of its objects.
    pub fn make_versioned_bucket(&self, name: &str) {
        self.make_bucket(name);
        self.s3("version-bucket", &[name]);
    }

    /// Makes one more bucket in which every object is locked (COMPLIANCE) for `days`.
    pub fn make_locked_bucket(&self, name: &str, days: u32) {
        self.s3("make-locked-bucket", &[name, &days.to_string()]);
    }

    /// Makes one more bucket in which objects can be locked; by itself it locks none.
    pub fn make_lockable_bucket(&self, name: &str) {
        self.s3("make-lockable-bucket", &[name]);
    }

    /// What a thief with a writer's credentials does: overwrites every object with rubbish
    /// of its size, and deletes every second one. Versions it leaves alone: those it may
    /// not erase.
    pub fn rob(&self, bucket: &str) {
        self.s3("rob", &[bucket]);
    }

    /// Flips a bit in the middle of the first object under `prefix`, as a disk does
    /// that nobody scrubs; its key.
    pub fn rot(&self, bucket: &str, prefix: &str) -> String {
        self.s3("rot", &[bucket, prefix]).trim().to_owned()
    }

    /// Where the server stores and logs.
    pub fn folder(&self) -> &Path {
        &self.process.folder
    }

    /// Kills the server now, as a provider that shuts down; the handle stays usable.
    pub fn kill(&self) {
        self.process.kill();
    }

    fn s3(&self, verb: &str, rest: &[&str]) -> String {
        let output = Command::new(installed().join("python3"))
            .arg(here().join("s3.py"))
            .args([verb, &self.endpoint, &self.access, &self.secret])
            .args(rest)
            .output()
            .expect("python3 of the test installation starts");
        assert!(output.status.success(), "s3.py {verb}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl JuiceFs {
    /// Starts a fresh gateway with an empty bucket; installs it first where it is missing.
    ///
    /// # Panics
    /// When it cannot be installed or does not come up; the text says what to run.
    pub fn start() -> Self {
        let process = Process::start("juicefs", &[0]);
        Self {
            endpoint: process.answer("endpoint"),
            access: process.answer("access"),
            secret: process.answer("secret"),
            bucket: process.answer("bucket"),
            process,
        }
    }

    /// Where the server stores and logs.
    pub fn folder(&self) -> &Path {
        &self.process.folder
    }

    /// Kills the server now, as a provider that shuts down; the handle stays usable.
    pub fn kill(&self) {
        self.process.kill();
    }
}

/// What both servers have in common: killed on drop, folder removed unless panicking.
#[derive(Debug)]
struct Process {
    folder: PathBuf,
    /// The JSON line of start.sh.
    line: String,
    /// Held open: the lock on it is the lease of the ports.
    _lease: File,
}

impl Process {
    fn start(kind: &str, offsets: &[u16]) -> Self {
        installed();
        let (port, lease) = lease_ports(offsets);
        let folder = fresh_folder(kind);
        let output = Command::new(here().join("start.sh"))
            .args([kind, &folder.to_string_lossy(), &port.to_string()])
            .env("HOLDFAST_TEST_PARENT", std::process::id().to_string())
            .output()
            .expect("tests/servers/start.sh starts: /bin/sh is there");
        assert!(
            output.status.success(),
            "{kind} did not start on port {port}; try: tests/servers/start.sh {kind} {} {port}\n{}",
            folder.display(),
            text(&output)
        );
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        Self { folder, line, _lease: lease }
    }

    /// One field of start.sh's line; its values contain no quotes.
    fn answer(&self, field: &str) -> String {
        let marker = format!("\"{field}\":\"");
        let start = self.line.find(&marker).expect("start.sh prints it") + marker.len();
        let value = &self.line[start..];
        value[..value.find('"').expect("start.sh closes it")].to_owned()
    }

    fn kill(&self) {
        // A failure here means the server is gone already.
        let _ = Command::new(here().join("stop.sh")).arg(&self.folder).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the server's data and log are kept in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Installs the servers where they are missing; the folder of their binaries.
fn installed() -> PathBuf {
    let script = here().join("install.sh");
    let output = Command::new(&script).output().expect("tests/servers/install.sh starts: /bin/sh is there");
    assert!(
        output.status.success(),
        "the test servers are not installed and could not be; run: {}\n{}",
        script.display(),
        text(&output)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

fn fresh_folder(kind: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join(format!(
        "holdfast-{kind}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    // A leftover of an earlier process with our number would bring its old data.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}

/// Ports come from 12,000 to 21,990, so that with 10,000 added they stay below Linux's
/// ephemeral range (32,768): no outgoing connection can take one after the check.
fn lease_ports(offsets: &[u16]) -> (u16, File) {
    let leases = std::env::temp_dir().join("holdfast-test-ports");
    fs::create_dir_all(&leases).expect("the temporary folder is writable");
    // Different processes begin at different places, so they seldom try the same base.
    let first = std::process::id() % 1_000;
    for turn in 0..1_000 {
        let base = 12_000 + u16::try_from((first + turn) % 1_000).expect("below 1,000") * 10;
        let lease = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(leases.join(base.to_string()))
            .expect("the temporary folder is writable");
        if lease.try_lock().is_err() {
            continue;
        }
        let free = |offset: &u16| TcpListener::bind(("127.0.0.1", base + offset)).is_ok();
        if offsets.iter().all(free) {
            return (base, lease);
        }
    }
    panic!("no free ports between 12000 and 32000 on the loopback address");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_port_is_not_leased_twice() {
        let (first, _lease) = lease_ports(&[0, 1]);
        let (second, _other) = lease_ports(&[0, 1]);
        assert_ne!(first, second);
    }

    #[test]
    fn two_gateways_live_side_by_side_and_die_with_their_handles() {
        let one = JuiceFs::start();
        let two = JuiceFs::start();
        assert_ne!(one.endpoint, two.endpoint);
        let address = one.endpoint.trim_start_matches("http://").to_owned();
        assert!(std::net::TcpStream::connect(&address).is_ok());
        let folder = one.folder().to_owned();
        drop(one);
        assert!(std::net::TcpStream::connect(&address).is_err());
        assert!(!folder.exists());
    }
}
