//! What comes from people, stores and our own reports: configuration, error answers,
//! the agent's status file.

use agent_daemon::status::Status;
use config::Config;

use crate::{Target, target};

/// Configuration, answers, reports.
pub(crate) const TARGETS: &[Target] = &[
    target("configuration", configuration, 3_000),
    target("store-answer", store_answer, 40_000),
    target("version-list", version_list, 20_000),
    target("agent-status", agent_status, 20_000),
];

fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Config::parse(text) {
        assert!(!error.to_string().is_empty());
    }
}

fn store_answer(bytes: &[u8]) {
    for status in [400, 403, 404, 409, 416, 500, 501, 503, 507] {
        let said = backends::error_answer(status, bytes);
        assert!(said.len() < 4_096 && !said.chars().any(char::is_control), "{said:?}");
    }
}

fn version_list(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let versions = backends::version_list(text);
    // Each stands between two tags of its own.
    assert!(versions.len() * "<Version></Version>".len() <= text.len());
}

/// Reads, writes, reads the same.
fn agent_status(bytes: &[u8]) {
    if let Ok(status) = serde_json::from_slice::<Status>(bytes) {
        let written = serde_json::to_vec(&status).unwrap();
        assert!(serde_json::from_slice::<Status>(&written).unwrap() == status);
    }
}
