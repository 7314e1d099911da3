//! The points within reach of a command that reads: of the configured vault, of
//! locations given by hand, or of bare shards under any names.
//!
//! What always holds: whatever opens here was verified under the root of the key at
//! hand; what is odd about the chains of manifests is said before a point is chosen;
//! the catalog of this host is only a hint where a chunk may be.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agent_daemon::{assembly, traffic};
use keys::files::{ReadKey, VaultPublic};
use keys::first::KeyFolder;
use vault_format::{Hash, PackId, PointId, VaultId};
use vault_ops::backup::point_id;
use vault_ops::catalog::Catalog;
use vault_ops::fetch::{Fetcher, Holdings, Trust, list_shards};
use vault_ops::points::{self, PointName, PointSummary, point_text};
use vault_ops::restore::{OpenPoint, open_what_is_left};
use vault_ops::scan::{BareVault, Scan, find_points, scan};
use vault_ops::shelf::{Appetite, Shelf};
use vault_ops::vault::{Expected, NOT_IN_LAYOUT, StatePaths, Vault};
use vault_ops::{OpsError, world::World};

use crate::arguments::{PointFrom, Reach};
use crate::cards;
use crate::exit::{self, Failure};
use crate::given::{as_folders, given_candidates};
use crate::keys_recover;
use crate::output::Output;
use crate::read_repair::Home;
use crate::session::{Session, complete, kept_read_key};

/// A point that can be opened.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: PointId,
    pub(crate) source: String,
    pub(crate) finished_ms: i64,
    pack: PackId,
    record: Hash,
}

impl Listed {
    fn of(summary: PointSummary) -> Self {
        let PointSummary { pack, record, part, .. } = summary;
        Self { id: part.point, source: part.source, finished_ms: part.finished_ms, pack, record }
    }
}

/// The points within reach, and all that opens them.
pub(crate) struct Points {
    /// Oldest first.
    pub(crate) live: Vec<Listed>,
    trash: Vec<Listed>,
    /// Whether the chains of manifests vouch for the list.
    pub(crate) newest_known: bool,
    /// The configured vault they came from, if what is met on the way shall be mended.
    pub(crate) home: Option<Home>,
    /// Locations of the vault that nobody gave.
    elsewhere: Vec<String>,
    keys: Arc<ReadKey>,
    world: World,
    holdings: Holdings,
    trust: Trust,
    state: Option<StatePaths>,
}

impl Points {
    /// Finds the points. `command` is what is being done, for who has no key here.
    pub(crate) async fn open(session: &Session, from: &PointFrom, command: &str) -> Result<Self, Failure> {
        let mut points = Self::find(session, from).await.map_err(|failure| say_how(failure, from, command))?;
        let of_source = |point: &Listed| from.source.as_ref().is_none_or(|source| *source == point.source);
        points.live.retain(of_source);
        points.trash.retain(of_source);
        Ok(points)
    }

    async fn find(session: &Session, from: &PointFrom) -> Result<Self, Failure> {
        if from.from.is_empty() && from.reach.locations.is_none() {
            return Self::of_configuration(session, from).await;
        }
        let keys = if from.type_cards {
            in_memory(session, &[], &from.from, &from.reach).await?
        } else {
            brought(session, from, None).await?
        };
        if !from.scan {
            let expected = Expected { vault: Some(keys.vault), root: keys.root.clone() };
            let candidates = given_candidates(&from.from, &from.reach).await?;
            let candidates = traffic::behind_limit_of_all(&session.world, candidates);
            match Vault::open(session.world.clone(), &expected, candidates).await {
                // A spool is no location of its vault: its shards count as bare ones.
                Ok(vault) if vault.absent.iter().any(|gone| gone.why == NOT_IN_LAYOUT) => {
                    session.output.say("not only locations of the vault: looking through all files for bare shards");
                }
                Ok(vault) => {
                    let elsewhere = keys_recover::elsewhere(&vault, &keys);
                    let found = Self::of_vault(session.output, &vault, keys).await;
                    let found = found.map_err(|failure| name_the_others(failure, &elsewhere))?;
                    return Ok(Self { elsewhere, ..found });
                }
                Err(OpsError::NoVault { .. } | OpsError::Corrupt { .. }) => {
                    session.output.say("no vault records here: looking through all files for bare shards");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Self::of_bare(session, from, keys).await
    }

    async fn of_configuration(session: &Session, from: &PointFrom) -> Result<Self, Failure> {
        let (config, vault) = session.vault_name()?;
        let folder = assembly::key_folder(&config, &vault)?;
        let keys = if from.type_cards {
            in_memory(session, &[], &[], &from.reach).await?
        } else {
            brought(session, from, Some(&folder)).await?
        };
        refuse_other_vault(&keys, &folder)?;
        let expected = Expected { vault: Some(keys.vault), root: keys.root.clone() };
        let candidates = assembly::candidates(&config, &vault).await;
        let candidates = traffic::behind_limits(&config, &session.world, candidates);
        let opened = match Vault::open(session.world.clone(), &expected, candidates).await {
            Ok(opened) => opened,
            Err(error) => return Err(assembly::what_is_gone(&config, &vault, error).await.into()),
        };
        let found = Self::of_vault(session.output, &opened, keys).await?;
        let mends = config.vaults.get(vault.as_str()).is_some_and(|plan| plan.upkeep.repair);
        let state = assembly::state_paths(&config, &vault);
        let home = Home { vault: opened, state: state.clone() };
        Ok(Self { home: mends.then_some(home), state: Some(state), ..found })
    }

    async fn of_vault(output: Output, vault: &Vault, mut keys: Arc<ReadKey>) -> Result<Self, Failure> {
        complete(&mut keys, vault)?;
        let list = points::list(vault, &keys).await?;
        list.remarks.iter().for_each(|remark| output.warn(remark));
        Ok(Self {
            live: list.points.into_iter().map(Listed::of).collect(),
            trash: list.trash.into_iter().map(Listed::of).collect(),
            newest_known: list.remarks.is_empty(),
            home: None,
            elsewhere: Vec::new(),
            keys,
            world: vault.world.clone(),
            holdings: list_shards(vault, &vault.writer_ids()).await,
            trust: Trust::Signed(vault.writers.clone()),
            state: None,
        })
    }

    /// No manifest, no index, no names: only shards.
    async fn of_bare(session: &Session, from: &PointFrom, mut keys: Arc<ReadKey>) -> Result<Self, Failure> {
        let world = &session.world;
        let candidates = given_candidates(&from.from, &from.reach).await?;
        let candidates = traffic::behind_limit_of_all(world, candidates);
        let (folders, silent) = as_folders(session, candidates)?;
        let mut found = session.showing("scan", scan(&world.progress, &folders)).await?;
        found.silent.extend(silent);
        for bad in &found.quarantined {
            session.output.warn(format!("not used: {}/{}: {}", bad.folder, bad.name, bad.why));
        }
        if let Some(keys) = Arc::get_mut(&mut keys) {
            session.showing("scan", vault_ops::scan::complete(world, &found, keys.vault, keys)).await?;
        }
        let mut bare = session.showing("scan", find_points(world, &found, keys.vault, &keys)).await;
        bare.holdings.silent.clone_from(&found.silent);
        for (pack, why) in &bare.unusable {
            session.output.warn(format!("pack {}: {why}", pack.short()));
        }
        let of_source = |source: &String| from.source.as_ref().is_none_or(|wanted| wanted == source);
        if !bare.points.iter().any(|point| of_source(&point.found.record.source)) {
            return Err(no_bare_point(&found, &bare, keys.vault));
        }
        session
            .output
            .warn("restored from bare shards: the chain of manifests is not verified, a newer point may exist");
        let live = bare.points.iter().map(|point| Listed {
            id: point_id(point.found.hash),
            source: point.found.record.source.clone(),
            finished_ms: point.found.record.finished_ms,
            pack: point.pack,
            record: point.found.hash,
        });
        Ok(Self {
            live: live.collect(),
            trash: Vec::new(),
            newest_known: false,
            home: None,
            elsewhere: Vec::new(),
            keys,
            world: world.clone(),
            holdings: bare.holdings,
            trust: Trust::Signed(bare.writers),
            state: None,
        })
    }

    /// The live point of that name; by its id also one in the trash, as long as it is there.
    pub(crate) fn choose(&self, output: Output, name: &PointName) -> Result<&Listed, Failure> {
        let ids = |points: &[Listed]| points.iter().map(|point| point.id).collect::<Vec<PointId>>();
        let found = name.pick(&ids(&self.live));
        if let (Err(OpsError::NoPoint { .. }), PointName::Prefix(_)) = (&found, name)
            && let Ok(at) = name.pick(&ids(&self.trash))
        {
            output.warn(format!(
                "{} is in the trash: it is restored, and goes on expiring. Bring it back with: holdfast vault trash \
                 restore {0}",
                point_text(self.trash[at].id)
            ));
            return Ok(&self.trash[at]);
        }
        let at = found.map_err(Failure::from).map_err(|failure| self.name_the_others(failure))?;
        Ok(&self.live[at])
    }

    /// A point to be read as a whole.
    pub(crate) async fn whole(&self, point: &Listed) -> Result<OpenPoint, Failure> {
        let (keys, compute) = (Arc::clone(&self.keys), self.world.compute);
        let opened = open_what_is_left(self.fetcher(), keys, compute, point.pack, Some(point.record)).await;
        opened.map_err(|error| self.name_the_others(error.into()))
    }

    /// A point of which only pieces are read, from a shelf of [`Self::shelf`].
    pub(crate) async fn pieces(&self, packs: &Arc<Shelf>, point: &Listed) -> Result<OpenPoint, Failure> {
        let opened = packs.open(point.pack, Some(point.record)).await;
        opened.map_err(|error| self.name_the_others(error.into()))
    }

    /// What several points share when only pieces of them are read.
    pub(crate) fn shelf(&self) -> Arc<Shelf> {
        let empty = Shelf::new(self.fetcher(), Arc::clone(&self.keys), self.world.compute, Appetite::Leaves);
        let catalog = self.state.as_ref().filter(|state| state.catalog().exists());
        let catalog = catalog.and_then(|state| Catalog::open(&state.catalog()).ok()).map(Mutex::new);
        Arc::new(match catalog {
            None => empty,
            Some(catalog) => empty.with_hint(Box::new(move |chunk| catalog.lock().ok()?.chunk(chunk).ok().flatten())),
        })
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher::new(self.world.clone(), self.holdings.clone(), self.trust.clone())
    }

    /// One location names the others: whoever gave too few is told where there are more.
    pub(crate) fn name_the_others(&self, failure: Failure) -> Failure {
        name_the_others(failure, &self.elsewhere)
    }
}

fn name_the_others(failure: Failure, elsewhere: &[String]) -> Failure {
    if elsewhere.is_empty() {
        return failure;
    }
    let text = format!("{}. The vault also lies at: {}; give them with --from", failure.text, elsewhere.join("; "));
    Failure { text, ..failure }
}

/// A host that only writes has no key that reads: the same command works with one.
fn say_how(failure: Failure, from: &PointFrom, command: &str) -> Failure {
    let brought = from.key.read_key.is_some() || !from.key.cards.is_empty() || from.type_cards;
    if failure.exit != exit::KEY || brought {
        return failure;
    }
    let text = format!("{}. As in: holdfast {command} --read-key FILE", failure.text);
    Failure { text, ..failure }
}

/// The key that was brought. Cards are judged by what records are at hand, so that a
/// false one is named.
async fn brought(session: &Session, from: &PointFrom, folder: Option<&KeyFolder>) -> Result<Arc<ReadKey>, Failure> {
    if from.key.cards.is_empty() {
        return kept_read_key(session, &from.key, folder);
    }
    in_memory(session, &from.key.cards, &from.from, &from.reach).await
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

/// Too few shards, none at all, or somebody else's: each has its own code.
pub(crate) fn no_bare_point(found: &Scan, bare: &BareVault, vault: VaultId) -> Failure {
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
