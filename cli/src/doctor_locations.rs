//! The doctor's look at the locations: each is probed, and what was found is compared
//! with what the vault's layout recorded when the location was added.
//!
//! What always holds: a location that cannot be looked at is a finding, never left out;
//! a grade that is less than the recorded one is bad, because promises rest on it.

use std::time::{Duration, UNIX_EPOCH};

use agent_daemon::assembly;
use backends::{Checked, Grade, Kind, Probe};
use config::{Attached, Config, Location, Name, Scheme};
use keys::files::VaultPublic;
use vault_format::layout::LocationGrade;
use vault_ops::vault::{Expected, Vault, location_id};

use crate::doctor::{Finding, space};
use crate::exit::{self, Failure};
use crate::session::Session;
use crate::vault_init::probe_text;

/// Clocks that differ by more are worth a word; by more than the second, S3 refuses requests.
const SKEW_S: (u64, u64) = (60, 900);

/// Probes all locations, or one.
pub(crate) async fn look(session: &Session, config: &Config, only: Option<&str>) -> Result<Vec<Finding>, Failure> {
    if let Some(name) = only.filter(|name| !config.locations.contains_key(*name)) {
        let names: Vec<&str> = config.locations.keys().map(Name::as_str).collect();
        let text = format!("the configuration has no location \"{name}\"; it has: {}", names.join(", "));
        return Err(Failure::new(exit::USAGE, text));
    }
    let mut found = Vec::new();
    for (name, vault) in &config.vaults {
        let recorded = opened(session, config, name).await;
        let named = vault.locations.iter().filter(|location| only.is_none_or(|only| location.as_str() == only));
        for at in named {
            let Some(location) = config.locations.get(at) else { continue };
            let subject = format!("location {at}");
            let before = found.len();
            match probe(session, location).await {
                Ok(probe) => {
                    let grade = probe.grade_when(location.lock.is_some());
                    found.push(Finding::ok(subject.clone(), probe_text(&probe)));
                    found.extend(judge(&subject, location, &probe, grade));
                    found.extend(recorded.as_ref().and_then(|vault| drift(&subject, vault, at.as_str(), grade)));
                }
                Err(error) => found.push(unanswered(&subject, location, &error)),
            }
            if let Scheme::File(path) = &location.scheme {
                found.extend(space(&subject, path));
            }
            debug_assert!(found.len() > before, "every location has a line");
        }
    }
    Ok(found)
}

/// The vault with its layout, if it opens with public keys.
async fn opened(session: &Session, config: &Config, name: &Name) -> Option<Vault> {
    let folder = assembly::key_folder(config, name.as_str()).ok()?;
    let public: VaultPublic = assembly::load_key(&folder.public()).ok()?;
    let expected = Expected { vault: Some(public.vault), root: public.root };
    let candidates = assembly::candidates(config, name.as_str()).await;
    Vault::open(session.world.clone(), &expected, candidates).await.ok()
}

async fn probe(session: &Session, location: &Location) -> Result<Probe, backends::BackendError> {
    let mut spec = assembly::location_spec(location, false);
    // What a probe writes is not locked for long.
    spec.lock_until_ms = None;
    let opened = backends::open(spec).await?;
    let now = || UNIX_EPOCH + Duration::from_millis(session.world.now_ms().unsigned_abs());
    backends::probe(&opened, &mut session.world.rng(), &now).await
}

fn unanswered(subject: &str, location: &Location, error: &backends::BackendError) -> Finding {
    let means = "no shard can be placed or read there now; nothing is known to be lost";
    if error.kind() == Kind::Unavailable && location.attached == Attached::Sometimes {
        let what = format!("away: {error}");
        return Finding::warning(
            subject,
            what,
            "it is attached sometimes: that is expected",
            "attach it when it is due",
        );
    }
    let todo = match error.kind() {
        Kind::Denied => "give these credentials the right to put, get and list",
        Kind::Config => "mend its URL, region, endpoint or credentials in the configuration",
        Kind::Full => "make space there, or place elsewhere: add a location",
        Kind::NotFound | Kind::Exists | Kind::Corrupt => "it does not give back what was written: use another store",
        Kind::Unavailable => "check its disk, network and provider; if it is gone for good, retire it",
    };
    Finding::bad(subject, error.to_string(), means, todo)
}

/// What a probe found that should not be.
fn judge(subject: &str, location: &Location, probe: &Probe, grade: Grade) -> Vec<Finding> {
    let mut found = Vec::new();
    if !(probe.reads_back && probe.ranges && probe.overwrites_seen) {
        found.push(Finding::bad(
            subject,
            "what is read, whole or in ranges, is not what was written",
            "no shard there can be trusted",
            "use another store, and repair to it",
        ));
    }
    if !probe.lists_after_put || probe.lists_after_delete == Some(false) {
        found.push(Finding::warning(
            subject,
            "its listings are behind its writes",
            "audits and repairs may see shards late; nothing is decided by one listing",
            "nothing, or ask the provider for strong consistency",
        ));
    }
    if probe.checksums.sha256 == Checked::KeepsBad || probe.checksums.md5 == Checked::KeepsBad {
        found.push(Finding::warning(
            subject,
            "it keeps what came with a wrong checksum, although it says it refused it",
            "a damaged upload stays until it is read back, which every write is",
            "report it to the provider",
        ));
    }
    let skew = probe.clock_skew_s.unwrap_or(0);
    if skew.unsigned_abs() > SKEW_S.0 {
        let what = format!("its clock differs from ours by {skew} s");
        let means = "times of points, locks and grace periods are off by as much";
        let todo = "set this host's clock, with NTP for instance";
        let far = skew.unsigned_abs() > SKEW_S.1;
        found.push(if far {
            Finding::bad(subject, what, means, todo)
        } else {
            Finding::warning(subject, what, means, todo)
        });
    }
    let is_bucket = location.scheme == Scheme::S3;
    if is_bucket && probe.may_erase_versions && grade != Grade::Locked {
        found.push(Finding::warning(
            subject,
            "these credentials may delete older versions for good",
            "whoever steals them from this host can destroy what stands there",
            "give this host credentials with put, get and list only",
        ));
    } else if is_bucket && probe.may_delete && !probe.keeps_versions {
        found.push(Finding::warning(
            subject,
            "these credentials may delete, and the bucket keeps no versions",
            "whoever steals them from this host can destroy what stands there",
            "switch on versioning or object lock, and give this host credentials with put, get and list only",
        ));
    }
    if location.lock.is_some() && grade != Grade::Locked {
        found.push(Finding::bad(
            subject,
            "`lock` is set, and no lock held",
            "writes there fail, or protect nothing",
            "make the bucket with object lock, or remove `lock`",
        ));
    }
    found
}

/// The recorded grade against the one found now.
fn drift(subject: &str, vault: &Vault, name: &str, now: Grade) -> Option<Finding> {
    let id = location_id(vault.id, name);
    let placed = vault.layout.locations.iter().find(|placed| placed.location == id)?;
    let then = match placed.grade {
        LocationGrade::Locked => Grade::Locked,
        LocationGrade::Versioned => Grade::Versioned,
        LocationGrade::Overwritable => Grade::Overwritable,
    };
    let what = format!("the layout records it as {then:?}, and it is {now:?} now");
    if now < then {
        let means = "`vault status` counts on more than it does: a thief of this host's credentials leaves less";
        let todo = format!(
            "put the bucket's versioning, lock and rights back as they were; or, if it shall be so: holdfast vault location \
             probe {name} --record"
        );
        return Some(Finding::bad(subject, what, means, todo));
    }
    let better = format!("{what}: better than recorded; to count on it: holdfast vault location probe {name} --record");
    (now > then).then(|| Finding::ok(subject, better))
}
