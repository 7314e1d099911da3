//! Real S3 servers for the tests of every crate, and a network that fails on demand.
//!
//! What always holds:
//! - A server is really there or the test fails: a missing binary is installed by
//!   `tests/servers/install.sh` (under a file lock, so parallel tests install once),
//!   and what cannot be installed is a panic that names the command. Nothing is skipped.
//! - Only loopback addresses. Ports are leased through lock files, so tests that run
//!   as processes side by side never hand the same port to two servers.
//! - The server dies with its handle, and when the test process is killed, within a second
//!   of it. Its folder is removed, unless the test panicked: then it is kept and named.
//!
//! Standard library only: the command line's tests use it without a runtime, and it
//! shares no code with what it tests.

mod chaos;
mod server;

pub use chaos::{Chaos, ChaosProxy};
pub use server::{JuiceFs, SeaweedFs};
