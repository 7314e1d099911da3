//! `holdfast vault restore`: from the configured vault, from locations given by
//! hand, or from bare shards under any names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use agent_daemon::assembly;
use agent_sources::kernel::{LOG_FILE, SNAPSHOT_FILE, restore_kernel};
use agent_sources::tree::{TreeOptions, restore_tree};
use keys::files::{ReadKey, VaultPublic};
use keys::first::KeyFolder;
use rand_core::Rng;
use serde_json::json;
use vault_format::point::{KernelRoot, PointRoot, TreeRoot};
use vault_format::{Hash, PackId, PointId, VaultId};
use vault_ops::backup::point_id;
use vault_ops::fetch::{Fetcher, Trust, list_shards};
use vault_ops::points::{self, PointList, PointName, PointSummary, point_text};
use vault_ops::restore::{OpenPoint, open_point};
use vault_ops::scan::{BareVault, Scan, find_points, scan};
use vault_ops::source::PointReader;
use vault_ops::vault::{Expected, NOT_IN_LAYOUT, Vault};
use vault_ops::{OpsError, world::World};

use crate::arguments::{Reach, RestoreArguments};
use crate::cards;
use crate::exit::{self, Failure, Outcome};
use crate::given::{as_folders, given_candidates};
use crate::keys_recover;
use crate::output::{bytes_text, time_text};
use crate::read_repair::Home;
use crate::session::{Session, complete, kept_read_key};

pub(crate) async fn run(session: &Session, arguments: &RestoreArguments) -> Outcome {
    refuse_occupied(&arguments.to)?;
    let started = Instant::now();
    let Opened { point, newest_known, home, elsewhere } = open(session, arguments).await?;
    let record = point.record();
    session.output.say(format!(
        "{}  {} of {}, {}",
        point_text(point.id()),
        record.source,
        record.host,
        time_text(record.finished_ms)
    ));
    let written = match record.root.clone() {
        PointRoot::Tree(root) => tree(session, &point, &root, &arguments.to).await,
        PointRoot::Kernel(root) => {
            let restored = kernel(session, &point, &root, &arguments.to).await;
            restored.map_err(|failure| say_what_is_left(failure, &beside(&arguments.to)))
        }
        PointRoot::Postgres(_) | PointRoot::Stream(_) => Err(Failure::new(
            exit::USAGE,
            "this point is of a kind that only a newer holdfast restores; nothing was written",
        )),
    };
    let written = written.map_err(|failure| say_what_is_left(failure, &arguments.to));
    let bytes = written.map_err(|failure| name_the_others(failure, &elsewhere))?;
    let bad = point.bad_shards();
    for shard in &bad {
        session.output.warn(format!(
            "done without shard {} of pack {} at {}: {}",
            shard.index,
            shard.pack.short(),
            shard.location,
            shard.why
        ));
    }
    let mended = match home {
        Some(home) => home.mend(session, &point.packs_read(), &bad).await,
        None => 0,
    };
    let exit = if bytes.exact && bad.is_empty() && newest_known { exit::OK } else { exit::WARNINGS };
    session.output.say(format!(
        "restored {} to {} in {:.1} s; every byte checked",
        bytes_text(bytes.bytes),
        arguments.to.display(),
        started.elapsed().as_secs_f64()
    ));
    session.output.summary(
        exit,
        json!({ "point": point.id().to_string(), "bytes": bytes.bytes, "root_hash": record.root.hash().to_string(),
                "position": record.root.position(), "bad_shards": bad.len(), "mended_shards": mended, "seconds": started.elapsed().as_secs_f64() }),
    );
    Ok(exit)
}

/// One location names the others: whoever gave too few is told where there are more.
fn name_the_others(failure: Failure, elsewhere: &[String]) -> Failure {
    if elsewhere.is_empty() {
        return failure;
    }
    let text = format!("{}. The vault also lies at: {}; give them with --from", failure.text, elsewhere.join("; "));
    Failure { text, ..failure }
}

fn refuse_occupied(to: &Path) -> Result<(), Failure> {
    match is_occupied(to) {
        Ok(true) => Err(Failure::new(
            exit::USAGE,
            format!(
                "{0} is not empty; nothing was written. Restore into a new or empty folder. If it is what an interrupted \
                 restore left, remove it (rm -r {0}) and run the same command again",
                to.display()
            ),
        )),
        Ok(false) => Ok(()),
        Err(error) => Err(Failure::new(exit::USAGE, format!("{}: {error}", to.display()))),
    }
}

fn is_occupied(folder: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        found => found,
    }
}

/// The same command refuses a folder that is not empty: whoever is told to run it
/// again must be told of that.
fn say_what_is_left(failure: Failure, to: &Path) -> Failure {
    if !is_occupied(to).unwrap_or(false) {
        return failure;
    }
    let text = format!(
        "{1}. {0} holds what was restored until then, and is not complete: remove it (rm -r {0}) before you run the same \
         command again, or name another folder",
        to.display(),
        failure.text
    );
    Failure { text, ..failure }
}

/// A point found, and whether the chains of manifests vouch for what was listed.
struct Opened {
    point: OpenPoint,
    newest_known: bool,
    /// The configured vault it came from.
    home: Option<Home>,
    /// Locations of the vault that nobody gave.
    elsewhere: Vec<String>,
}

async fn open(session: &Session, arguments: &RestoreArguments) -> Result<Opened, Failure> {
    let name = PointName::parse(&arguments.point)?;
    if arguments.from.is_empty() && arguments.reach.locations.is_none() {
        let (config, vault) = session.vault_name()?;
        let folder = assembly::key_folder(&config, &vault)?;
        let keys = if arguments.type_cards {
            in_memory(session, &[], &[], &arguments.reach).await?
        } else {
            brought(session, arguments, Some(&folder)).await?
        };
        refuse_other_vault(&keys, &folder)?;
        let expected = Expected { vault: Some(keys.vault), root: keys.root.clone() };
        let candidates = assembly::candidates(&config, &vault).await;
        let opened = match Vault::open(session.world.clone(), &expected, candidates).await {
            Ok(opened) => opened,
            Err(error) => return Err(assembly::what_is_gone(&config, &vault, error).await.into()),
        };
        let found = from_vault(&session.output, &opened, &name, arguments.source.as_deref(), keys).await?;
        let mends = config.vaults.get(vault.as_str()).is_some_and(|plan| plan.upkeep.repair);
        let home = Home { vault: opened, state: assembly::state_paths(&config, &vault) };
        return Ok(Opened { home: mends.then_some(home), ..found });
    }
    let keys = if arguments.type_cards {
        in_memory(session, &[], &arguments.from, &arguments.reach).await?
    } else {
        brought(session, arguments, None).await?
    };
    if !arguments.scan {
        let expected = Expected { vault: Some(keys.vault), root: keys.root.clone() };
        let candidates = given_candidates(&arguments.from, &arguments.reach).await?;
        match Vault::open(session.world.clone(), &expected, candidates).await {
            // A spool is no location of its vault: its shards count as bare ones.
            Ok(vault) if vault.absent.iter().any(|gone| gone.why == NOT_IN_LAYOUT) => {
                session.output.say("not only locations of the vault: looking through all files for bare shards");
            }
            Ok(vault) => {
                let elsewhere = keys_recover::elsewhere(&vault, &keys);
                let found = from_vault(&session.output, &vault, &name, arguments.source.as_deref(), keys).await;
                let found = found.map_err(|failure| name_the_others(failure, &elsewhere))?;
                return Ok(Opened { elsewhere, ..found });
            }
            Err(OpsError::NoVault { .. } | OpsError::Corrupt { .. }) => {
                session.output.say("no vault records here: looking through all files for bare shards");
            }
            Err(error) => return Err(error.into()),
        }
    }
    from_bare(session, &session.world, arguments, &name, keys).await
}

/// The key that was brought. Cards are judged by what records are at hand, so that a
/// false one is named.
async fn brought(
    session: &Session,
    arguments: &RestoreArguments,
    folder: Option<&KeyFolder>,
) -> Result<Arc<ReadKey>, Failure> {
    if arguments.key.cards.is_empty() {
        return kept_read_key(session, &arguments.key, folder);
    }
    in_memory(session, &arguments.key.cards, &arguments.from, &arguments.reach).await
}

/// The read key from card files, or from cards that are typed now, for this run alone: it
/// is written nowhere.
async fn in_memory(
    session: &Session,
    files: &[PathBuf],
    from: &[String],
    reach: &Reach,
) -> Result<Arc<ReadKey>, Failure> {
    let known = cards::at_hand(session, from, reach).await?;
    Ok(Arc::new(cards::brought(session, files, known)?.read_key()))
}

/// A key of another vault opens nothing here: said before "no vault" misleads.
fn refuse_other_vault(keys: &ReadKey, folder: &KeyFolder) -> Result<(), Failure> {
    match keys::files::load::<VaultPublic>(&folder.public()) {
        Ok(public) if public.vault != keys.vault => Err(Failure::new(
            exit::KEY,
            format!(
                "this key belongs to another vault ({}) than the configuration's ({}). Nothing was written; bring the \
                 key or the cards of vault {1}",
                keys.vault.short(),
                public.vault.short()
            ),
        )),
        // Without the public file the locations decide.
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn from_vault(
    output: &crate::output::Output,
    vault: &Vault,
    name: &PointName,
    source: Option<&str>,
    mut keys: Arc<ReadKey>,
) -> Result<Opened, Failure> {
    complete(&mut keys, vault)?;
    let list = points::list(vault, &keys).await?;
    list.remarks.iter().for_each(|remark| output.warn(remark));
    let chosen = choose(*output, &list, name, source)?;
    let holdings = list_shards(vault, &vault.writer_ids()).await;
    let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
    let point = open_point(fetcher, keys, vault.world.compute, chosen.pack, Some(chosen.record)).await?;
    Ok(Opened { point, newest_known: list.remarks.is_empty(), home: None, elsewhere: Vec::new() })
}

/// The live point of that name; by its id also one in the trash, as long as it is there.
fn choose<'a>(
    output: crate::output::Output,
    list: &'a PointList,
    name: &PointName,
    source: Option<&str>,
) -> Result<&'a PointSummary, Failure> {
    let of_source = |points: &'a [PointSummary]| -> Vec<&'a PointSummary> {
        points.iter().filter(|point| source.is_none_or(|source| source == point.part.source)).collect()
    };
    let ids = |points: &[&PointSummary]| points.iter().map(|point| point.part.point).collect::<Vec<PointId>>();
    let live = of_source(&list.points);
    let found = name.pick(&ids(&live));
    if let (Err(OpsError::NoPoint { .. }), PointName::Prefix(_)) = (&found, name) {
        let trash = of_source(&list.trash);
        if let Ok(at) = name.pick(&ids(&trash)) {
            output.warn(format!(
                "{} is in the trash: it is restored, and goes on expiring. Bring it back with: holdfast vault trash \
                 restore {0}",
                point_text(trash[at].part.point)
            ));
            return Ok(trash[at]);
        }
    }
    Ok(live[found?])
}

/// No manifest, no index, no names: only shards.
async fn from_bare(
    session: &Session,
    world: &World,
    arguments: &RestoreArguments,
    name: &PointName,
    mut keys: Arc<ReadKey>,
) -> Result<Opened, Failure> {
    let (folders, silent) = as_folders(session, given_candidates(&arguments.from, &arguments.reach).await?)?;
    let mut found = scan(&folders).await?;
    found.silent.extend(silent);
    for bad in &found.quarantined {
        session.output.warn(format!("not used: {}/{}: {}", bad.folder, bad.name, bad.why));
    }
    if let Some(keys) = Arc::get_mut(&mut keys) {
        vault_ops::scan::complete(world, &found, keys.vault, keys).await?;
    }
    let mut bare = find_points(world, &found, keys.vault, &keys).await;
    bare.holdings.silent.clone_from(&found.silent);
    for (pack, why) in &bare.unusable {
        session.output.warn(format!("pack {}: {why}", pack.short()));
    }
    let points: Vec<(PackId, Hash)> = bare
        .points
        .iter()
        .filter(|point| arguments.source.as_ref().is_none_or(|source| *source == point.found.record.source))
        .map(|point| (point.pack, point.found.hash))
        .collect();
    if points.is_empty() {
        return Err(no_bare_point(&found, &bare, keys.vault));
    }
    let ids: Vec<PointId> = points.iter().map(|(_, hash)| point_id(*hash)).collect();
    let (pack, hash) = points[name.pick(&ids)?];
    session.output.warn("restored from bare shards: the chain of manifests is not verified, a newer point may exist");
    let fetcher = Fetcher::new(world.clone(), bare.holdings, Trust::Signed(bare.writers));
    let point = open_point(fetcher, keys, world.compute, pack, Some(hash)).await?;
    Ok(Opened { point, newest_known: false, home: None, elsewhere: Vec::new() })
}

/// Too few shards, none at all, or somebody else's: each has its own code.
fn no_bare_point(found: &Scan, bare: &BareVault, vault: VaultId) -> Failure {
    if !found.silent.is_empty() {
        let names: Vec<&str> = found.silent.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!(
            "no point can be opened from the folders that answer. Nothing is known to be lost: bring back {} and run \
             the same command again",
            names.join(", ")
        );
        return Failure::new(exit::UNREACHABLE, text);
    }
    if !bare.holdings.packs.is_empty() {
        let text = format!(
            "{} files hold shards of {} packs of this vault and no point that can be opened. More shards are needed: \
             add folders with --from",
            found.files,
            bare.holdings.packs.len()
        );
        return Failure::new(exit::LOST, text);
    }
    let others: Vec<String> = found.vaults.keys().chain(found.records.keys()).map(VaultId::short).collect();
    match others.first() {
        Some(other) => Failure::new(
            exit::KEY,
            format!(
                "what stands here belongs to another vault ({other}) than the key at hand ({}). Nothing was written; \
                 bring the key or the cards of vault {other}",
                vault.short()
            ),
        ),
        None => Failure::new(exit::NO_VAULT, format!("{} files were looked at and none is ours", found.files)),
    }
}

struct Restored {
    bytes: u64,
    exact: bool,
}

async fn tree(session: &Session, point: &OpenPoint, root: &TreeRoot, to: &Path) -> Result<Restored, Failure> {
    let report = restore_tree(point, root, to, TreeOptions::default()).await?;
    for odd in &report.inexact {
        session.output.warn(format!("{}: {}", odd.path, odd.why));
    }
    session.output.say(format!(
        "{} files, {} folders, {} links; tree root {} as recorded",
        report.files,
        report.directories,
        report.symlinks + report.hard_links,
        root.hash.short()
    ));
    Ok(Restored { bytes: report.bytes, exact: report.inexact.is_empty() })
}

/// The snapshot and log are fetched beside the target, replayed and compared,
/// and only then become a data directory.
async fn kernel(session: &Session, point: &OpenPoint, root: &KernelRoot, to: &Path) -> Result<Restored, Failure> {
    let incoming = beside(to);
    let report = restore_kernel(point, root, &incoming).await?;
    let mut lineage = [0; 16];
    session.world.rng().fill_bytes(&mut lineage);
    let (target, wall_ms) = (to.to_owned(), session.world.now_ms());
    let from = incoming.clone();
    let made = tokio::task::spawn_blocking(move || make_data_directory(&from, &target, lineage, wall_ms))
        .await
        .map_err(|error| Failure::new(exit::ERROR, error.to_string()))??;
    std::fs::remove_dir_all(&incoming)
        .map_err(|error| Failure::new(exit::ERROR, format!("removing {}: {error}", incoming.display())))?;
    if made.0 != root.sequence || made.1 != root.state_hash.to_string() {
        return Err(Failure::new(exit::LOST, "the restored node's state is not the one recorded; do not use it"));
    }
    session.output.say(format!("sequence {}  state hash {}  as recorded, by full replay", made.0, made.1));
    session.output.say(format!("start it: holdfast kernel run --data {} --token-file FILE", to.display()));
    Ok(Restored { bytes: report.snapshot_bytes + report.log_bytes, exact: true })
}

fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".incoming");
    to.with_file_name(name)
}

fn make_data_directory(from: &Path, to: &Path, lineage: [u8; 16], wall_ms: i64) -> Result<(u64, String), Failure> {
    let open = |name: &str| {
        let path = from.join(name);
        std::fs::File::open(&path)
            .map(std::io::BufReader::new)
            .map_err(|error| Failure::new(exit::ERROR, format!("{}: {error}", path.display())))
    };
    let lineage = kernel_core::Lineage::from_bytes(lineage);
    let restored = kernel_node::restore_from(to, open(SNAPSHOT_FILE)?, open(LOG_FILE)?, lineage, wall_ms)
        .map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
    Ok((restored.sequence, restored.state_hash.to_string()))
}
