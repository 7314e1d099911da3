//! `holdfast doctor`: whether this host and its locations are fit for what the
//! configuration asks of them.
//!
//! What always holds: nothing is changed but what a probe writes under `probe/` and
//! removes again; every line is a finding, what it means and what to do; the exit code
//! is the worst of them: 0, 3 with warnings, 1 if something will not work.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use config::{Config, SecretFrom};
use keys::first::KeyFolder;
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
use serde_json::json;

use crate::doctor_locations;
use crate::exit::{self, Outcome};
use crate::output::{Output, bytes_text};
use crate::session::Session;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, and should not stay so.
    Warning,
    /// It will not work, or protects nothing.
    Bad,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at.
    pub(crate) subject: String,
    /// What was found.
    pub(crate) what: String,
    /// What it means for the data; empty where all is well.
    pub(crate) means: String,
    /// What to do; empty where all is well.
    pub(crate) todo: String,
}

impl Finding {
    pub(crate) fn ok(subject: impl Into<String>, what: impl Into<String>) -> Self {
        let (means, todo) = (String::new(), String::new());
        Self { level: Level::Ok, subject: subject.into(), what: what.into(), means, todo }
    }

    pub(crate) fn warning(
        subject: impl Into<String>,
        what: impl Into<String>,
        means: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        let (subject, what, means, todo) = (subject.into(), what.into(), means.into(), todo.into());
        Self { level: Level::Warning, subject, what, means, todo }
    }

    pub(crate) fn bad(
        subject: impl Into<String>,
        what: impl Into<String>,
        means: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { level: Level::Bad, ..Self::warning(subject, what, means, todo) }
    }

    fn say(&self, output: Output) {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Bad => "bad",
        };
        let advice = if self.means.is_empty() { String::new() } else { format!(": {}. Do: {}", self.means, self.todo) };
        output.say(format!("{level:<8} {:<18} {}{advice}", self.subject, self.what));
        output.event(
            "finding",
            json!({ "level": level, "subject": self.subject, "what": self.what, "means": self.means, "do": self.todo }),
        );
    }
}

/// Space below which a warning is due.
const FREE_BYTES_MIN: u64 = 1 << 30;

pub(crate) async fn run(session: &Session, location: Option<&str>) -> Outcome {
    let output = session.output;
    let mut found = host();
    let path = session.config_path();
    match session.config() {
        Err(failure) => found.push(Finding::bad(
            "configuration",
            failure.text,
            "no command that needs it works",
            "mend the line it names, and look again",
        )),
        Ok(config) => {
            found.push(Finding::ok("configuration", format!("{} is good", path.display())));
            found.extend(writable_by_others("configuration", &path));
            found.extend(secrets(&config));
            found.extend(state(&config));
            found.extend(doctor_locations::look(session, &config, location).await?);
        }
    }
    for finding in &found {
        finding.say(output);
    }
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let (bad, warnings) = (count(Level::Bad), count(Level::Warning));
    let exit = match (bad, warnings) {
        (0, 0) => exit::OK,
        (0, _) => exit::WARNINGS,
        _ => exit::ERROR,
    };
    output.say(format!("{} findings: {bad} bad, {warnings} warnings", found.len()));
    output.summary(exit, json!({ "findings": found.len(), "bad": bad, "warnings": warnings }));
    Ok(exit)
}

/// Where this host may write keys to disk by itself.
fn host() -> Vec<Finding> {
    let mut found = Vec::new();
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    // The first line is a heading.
    let devices: Vec<&str> = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    found.push(if devices.is_empty() {
        Finding::ok("swap", "none")
    } else {
        Finding::warning(
            "swap",
            format!("on {}", devices.join(", ")),
            "keys in memory may be written there in the clear, and stay",
            "encrypt the swap, or switch it off while read keys are used",
        )
    });
    found.push(match (keys::locked::trial(), devices.is_empty()) {
        (Ok(()), _) => Finding::ok("memory", "keys are locked into it"),
        (Err(why), true) => Finding::ok("memory", format!("keys cannot be locked into it ({why}); there is no swap")),
        (Err(why), false) => Finding::warning(
            "memory",
            format!("keys cannot be locked into it: {why}"),
            "they may be written to swap and stay there",
            "allow it: ulimit -l 1024, or LimitMEMLOCK=1M in the unit",
        ),
    });
    let is_dumpable = dumpable_behavior().ok() != Some(DumpableBehavior::NotDumpable);
    let limit = getrlimit(Resource::Core).current;
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    found.push(if !is_dumpable {
        // Whatever limit and pattern say.
        Finding::ok("core dumps", "off")
    } else if limit != Some(0) {
        Finding::warning(
            "core dumps",
            "they could not be switched off",
            "a crash would write the keys in memory to disk",
            "start holdfast with: ulimit -c 0",
        )
    } else if pattern.starts_with('|') {
        Finding::warning(
            "core dumps",
            format!("the kernel hands them to {}, whatever the limit", pattern.trim_start_matches('|').trim()),
            "a crash would give the keys in memory to that program",
            "let it keep none: with systemd, Storage=none in coredump.conf",
        )
    } else {
        Finding::ok("core dumps", "off")
    });
    found
}

fn mode(path: &Path) -> Option<u32> {
    Some(std::fs::metadata(path).ok()?.permissions().mode())
}

fn writable_by_others(subject: &str, path: &Path) -> Option<Finding> {
    (mode(path)? & 0o022 != 0).then(|| {
        Finding::bad(
            subject,
            format!("others may write {}", path.display()),
            "they decide what is backed up, and where to",
            format!("chmod go-w {}", path.display()),
        )
    })
}

/// Key files and credential files: there, readable by us, and by nobody else.
fn secrets(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, vault) in &config.vaults {
        let folder = KeyFolder(vault.keys.clone());
        let subject = format!("keys of {name}");
        if !folder.public().exists() {
            found.push(Finding::warning(
                subject,
                format!("there is no {}", folder.public().display()),
                "nothing can be backed up",
                "make the vault with: holdfast vault init, or bring its key folder",
            ));
            continue;
        }
        let kept =
            [folder.writer_key(), folder.operator_key(), folder.janitor_key(), folder.read_key(), folder.master_seed()];
        let open = kept.iter().filter(|path| mode(path).is_some_and(|mode| mode & 0o077 != 0));
        let before = found.len();
        found.extend(open.map(|path| {
            Finding::bad(
                subject.clone(),
                format!("others may read {}", path.display()),
                "whoever did can do what its role can",
                format!("chmod 600 {}, and rotate it if somebody may have read it", path.display()),
            )
        }));
        let sealed = keys::files::is_sealed(&folder.writer_key()).unwrap_or(false);
        if let (Err(error), false) = (assembly::writer_key(&folder), sealed) {
            let todo = "issue a new writer key with the operator key";
            found.push(Finding::bad(subject.clone(), error.to_string(), "this host cannot back up", todo));
        }
        if folder.master_seed().exists() || folder.read_key().exists() {
            found.push(Finding::warning(
                subject.clone(),
                "the seed or the read key lies on this host",
                "it dies with this host, and a thief can read",
                "holdfast keys split --cards 5 --need 3 --cards-dir DIR --remove-seed",
            ));
        }
        if found.len() == before {
            found.push(Finding::ok(subject, "there, and readable by their owner only"));
        }
    }
    found.extend(config_secrets(config).into_iter().filter_map(|(subject, path)| {
        let open = mode(&path)? & 0o027 != 0;
        open.then(|| {
            Finding::bad(
                subject,
                format!("others can access {}", path.display()),
                "they can do with it what this host can; it is not used as it is",
                format!("chmod o=,g-w {}, and replace it if somebody may have read it", path.display()),
            )
        })
    }));
    found
}

/// Files that the configuration names secrets in.
fn config_secrets(config: &Config) -> Vec<(String, PathBuf)> {
    let locations = config.locations.iter().flat_map(|(name, location)| {
        let both = [&location.credentials, &location.admin_credentials];
        both.into_iter().flatten().map(move |from| (format!("location {name}"), from))
    });
    let vaults = config
        .vaults
        .iter()
        .filter_map(|(name, vault)| Some((format!("passphrase of {name}"), vault.passphrase.as_ref()?)));
    let file = |(subject, from): (String, &'_ SecretFrom)| match from {
        SecretFrom::File(path) => Some((subject, path.clone())),
        SecretFrom::Credential(_) | SecretFrom::Command(_) => None,
    };
    locations.chain(vaults).filter_map(file).collect()
}

/// The state folder: writable, closed to others, on a disk with space.
fn state(config: &Config) -> Vec<Finding> {
    let (subject, folder) = ("state", &config.state);
    let mut found = Vec::new();
    let trial = folder.join(format!("doctor-{}", std::process::id()));
    match std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&trial, b"x")) {
        Ok(()) => {
            // It was ours, and empty but for one byte.
            let _ = std::fs::remove_file(&trial);
            found.push(Finding::ok(subject, format!("{} can be written", folder.display())));
        }
        Err(error) => found.push(Finding::bad(
            subject,
            format!("{} cannot be written: {error}", folder.display()),
            "without its catalog and lease nothing is backed up",
            format!("give this user the folder: chown USER {}", folder.display()),
        )),
    }
    found.extend(writable_by_others(subject, folder));
    found.extend(space(subject, folder));
    found
}

/// Free space where a folder is.
pub(crate) fn space(subject: &str, folder: &Path) -> Option<Finding> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let all = stat.f_blocks.saturating_mul(stat.f_frsize);
    let text = format!("{} free of {}", bytes_text(free), bytes_text(all));
    if free >= FREE_BYTES_MIN && free >= all / 50 {
        return Some(Finding::ok(subject, text));
    }
    Some(Finding::warning(
        subject,
        text,
        "backups stop when it is full; nothing stored is lost by that",
        "make space, or add a location elsewhere",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_wins_and_each_says_what_to_do() {
        assert!(Level::Bad > Level::Warning && Level::Warning > Level::Ok);
        for finding in host() {
            assert_eq!(finding.level == Level::Ok, finding.todo.is_empty(), "{finding:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(space("state", dir.path()).is_some());
        assert!(writable_by_others("state", dir.path()).is_none());
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(writable_by_others("state", dir.path()).unwrap().level, Level::Bad);
    }
}
