//! `holdfast vault init --adopt --scan`: nothing is left but shards under any names, and
//! cards; afterwards the vault lies on new locations and this host backs up into it.
//!
//! What always holds: every byte taken over verifies under the root that follows from
//! the cards; the piles are only read; the vault is whole on its new locations before
//! the configuration is written, so an interrupted run is taken up by the same command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_daemon::assembly::{self, open_catalog};
use config::{AdoptedVault, Config, Encoding, Location, Name, Scheme};
use keys::first::KeyFolder;
use keys::host::HostKeys;
use keys::seed::Seed;
use serde_json::json;
use vault_format::vault::KemRole;
use vault_ops::catalog::{Catalog, PointRow};
use vault_ops::create::FirstKeys;
use vault_ops::import::{self, ImportPlan};
use vault_ops::points::point_text;
use vault_ops::refound::{self, Founding, Heritage, newest_key};
use vault_ops::scan::{find_points, scan};
use vault_ops::vault::Vault;
use vault_ops::{adopt, reissue, repair};

use crate::arguments::{InitArguments, Reach};
use crate::exit::{self, Failure, Outcome};
use crate::given::{given_locations, open_folders, unlistable};
use crate::output::time_text;
use crate::session::{Session, complete, host_name, lease};
use crate::vault_adopt::{
    Brought, bring, candidates, home, open, other_keys, public_file, refuse_former_seed, refuse_occupied, save_new,
    usage, write_new,
};
use crate::{point_shelf, vault_import, vault_init};

/// Places by name, as they were given.
type Places = std::collections::BTreeMap<Name, Location>;

pub(crate) async fn run(session: &Session, arguments: &InitArguments) -> Outcome {
    let config_path = std::path::absolute(session.config_path()).map_err(|error| usage(error.to_string()))?;
    refuse_occupied(&config_path)?;
    let places = given_locations(&arguments.from, &arguments.reach)?;
    let mut brought = bring(session, &arguments.key, &places).await?;
    if brought.seed.is_none() {
        return Err(Failure::new(
            exit::KEY,
            "to found a vault anew bring its cards with --card FILE..; a read key can restore from bare shards: holdfast \
             vault restore --scan --from DIR..",
        ));
    }
    refuse_overlap(&arguments.scan, &places)?;
    let piles = open_folders(&arguments.scan, &Reach { locations: None, ..arguments.reach.clone() }).await?;
    let heritage = inherit(session, &mut brought, &piles, &places).await?;
    refuse_former_seed(&brought, heritage.root())?;
    let name = choose_name(arguments, &heritage, &brought)?;
    let dir = home(arguments, &config_path)?;
    let folder = KeyFolder(dir.join("keys"));
    let coding = heritage.coding()?;
    let given: Vec<(Name, Location)> = places.clone().into_iter().collect();
    let text = Config::render_adopted(&AdoptedVault {
        name: &name,
        state: &dir.join("state"),
        keys: folder.path(),
        encoding: Encoding { data: coding.data_shards(), total: coding.total_shards() },
        survive_domains: heritage.survive_domains(),
        locations: &given,
        missing: &[],
    })
    .map_err(|error| usage(error.to_string()))?;
    let config = Config::parse(&text).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
    let state = assembly::state_paths(&config, name.as_str());
    let _lease = lease(&state, "vault init --adopt")?;
    let host = found(session, &config, &name, &folder, &heritage, &brought).await?;
    let mut vault = open(session, &brought, &places).await?;
    complete(&mut brought.read, &vault)?;
    let mut catalog = open_catalog(&state)?;
    let plan = session.showing("init", import::plan_anew(&vault, &brought.read, &piles)).await?;
    vault_import::tell(session, &plan, true);
    let mut wrong = session.showing("init", import::apply(&vault, &mut catalog, &plan)).await?.failed;
    // Opened again: certificates that came home count now.
    vault = open(session, &brought, &places).await?;
    wrong.extend(vouch(session, &vault, &host, &mut catalog, &plan).await?);
    wrong.extend(fill_up(session, &vault, &catalog).await?);
    let scope = Some(host.writer.scope);
    let filled = session.showing("init", adopt::fill(&vault, &brought.read, scope, &mut catalog)).await?;
    wrong.extend(filled.remarks);
    let points = catalog.points()?.len();
    let lost = refound::lost(&vault, &catalog).await?;
    drop(catalog);
    write_new(&config_path, &text)?;
    let unseen = unlistable(&arguments.scan);
    for path in &unseen {
        wrong.push(format!("not looked at, its name cannot be listed; give it another: {}", path.display()));
    }
    wrong.extend(heritage.doubted.iter().map(|writer| {
        format!("writer {writer} was certified by an operator that is revoked now, and no layout found lists it: not believed")
    }));
    session.output.say(format!("Configuration: {}", config_path.display()));
    Ok(report(session, &Founded { name: &name, vault: &vault, host: &host, plan: &plan, points, lost, wrong }))
}

/// The piles are only read: no location may lie in one, nor the other way round.
fn refuse_overlap(piles: &[String], places: &Places) -> Result<(), Failure> {
    // As far as there is something there; what is not there yet is in nothing.
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    let piles: Vec<PathBuf> = piles.iter().filter_map(|pile| whole(Path::new(pile))).collect();
    for (name, place) in places {
        let Scheme::File(path) = &place.scheme else { continue };
        let Some(path) = whole(Path::new(path)) else { continue };
        if piles.iter().any(|pile| path.starts_with(pile) || pile.starts_with(&path)) {
            return Err(usage(format!(
                "{} ({name}) is looked through for shards, and cannot be a location of the vault: what was found stays as it \
                 is. Nothing was written; choose another place",
                path.display()
            )));
        }
    }
    Ok(())
}

/// What the piles say of the cards' vault, and what a run before began.
async fn inherit(
    session: &Session,
    brought: &mut Brought,
    piles: &[Arc<vault_ops::location::Location>],
    places: &Places,
) -> Result<Heritage, Failure> {
    let mut found = session.showing("init", scan(&session.world.progress, piles)).await?;
    refound::add_standing(&mut found, brought.read.vault, &candidates(places).await).await;
    let keys = Arc::get_mut(&mut brought.read)
        .ok_or_else(|| Failure::new(exit::ERROR, "the read key is in use already; report this"))?;
    if let Some(heritage) = refound::heritage(&session.world, &found, keys).await? {
        return Ok(heritage);
    }
    let bare = find_points(&session.world, &found, brought.read.vault, &brought.read).await;
    for (pack, why) in &bare.unusable {
        session.output.warn(format!("pack {}: {why}", pack.short()));
    }
    Err(point_shelf::no_bare_point(&found, &bare, brought.read.vault))
}

/// The name said, or the one a layout in the pile tells. Shards alone tell none.
fn choose_name(arguments: &InitArguments, heritage: &Heritage, brought: &Brought) -> Result<Name, Failure> {
    let told = heritage.names(&brought.read).map(|names| names.vault);
    let Some(name) = arguments.name.clone().or(told) else {
        return Err(usage(format!(
            "{} points of vault {} can be opened; shards do not say how it was called. Nothing was written; name it with \
             --name NAME",
            heritage.points,
            heritage.vault.short()
        )));
    };
    Name::parse(&name).map_err(usage)
}

/// Keys of this host, then the records of the vault on its new locations.
async fn found(
    session: &Session,
    config: &Config,
    name: &Name,
    folder: &KeyFolder,
    heritage: &Heritage,
    brought: &Brought,
) -> Result<HostKeys, Failure> {
    let (seed, generation): (&Seed, _) =
        brought.seed.as_ref().map(|(seed, generation)| (seed, *generation)).ok_or_else(|| other_keys(folder))?;
    public_file(folder, &brought.read)?;
    let host = if folder.writer_key().exists() && folder.operator_key().exists() {
        let host =
            HostKeys { operator: session.key(&folder.operator_key())?, writer: session.key(&folder.writer_key())? };
        if host.writer.vault != heritage.vault || host.operator.vault != heritage.vault {
            return Err(other_keys(folder));
        }
        host
    } else if folder.writer_key().exists() {
        return Err(other_keys(folder));
    } else {
        let admission = heritage.admission(generation, &host_name(), session.world.now_ms())?;
        let drawn = HostKeys::draw(&mut session.world.rng(), seed, admission)
            .map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
        save_new(session, folder, &drawn)?;
        drawn
    };
    let new = vault_init::open_locations(session, config, name.as_str(), false).await?;
    // As in `vault init`: folders of one disk may stand for several domains in tests alone.
    if std::env::var_os("HOLDFAST_TEST_ONE_DEVICE").is_none() {
        assembly::refuse_shared_devices(config, name.as_str())?;
    }
    let record = &heritage.in_force.record;
    let (reader, janitor) = (newest_key(record, KemRole::Reader)?, newest_key(record, KemRole::Janitor)?);
    let root = seed.root_key(generation);
    let keys = FirstKeys {
        vault: heritage.vault,
        root: &root,
        reader: &reader,
        janitor: &janitor,
        operator: &host.operator,
        writer: &host.writer,
    };
    let survive_domains = config.vaults[name.as_str()].survive_domains;
    let founding = Founding { name: name.to_string(), survive_domains, keys };
    heritage.found(&session.world, &founding, new).await?;
    Ok(host)
}

/// Points that no manifest names get one from this host. What went wrong is returned.
async fn vouch(
    session: &Session,
    vault: &Vault,
    host: &HostKeys,
    catalog: &mut Catalog,
    plan: &ImportPlan,
) -> Result<Vec<String>, Failure> {
    let done = reissue::run(vault, &host.writer, catalog, plan).await?;
    session.output.say(format!("{} points without a manifest are vouched for by this host", done.points.len()));
    Ok(done.owed.iter().map(|(name, why)| format!("a manifest is owed to {name}: {why}")).collect())
}

/// Shards that nobody found are made from the others, until every location has its own.
async fn fill_up(session: &Session, vault: &Vault, catalog: &Catalog) -> Result<Vec<String>, Failure> {
    let plan = repair::plan(vault, catalog).await?;
    let done = session.showing("init", repair::apply(vault, catalog, &plan)).await?;
    session.output.say(format!("{} shards rebuilt, {} records copied", done.shards.len(), done.records));
    Ok(done.failed.into_iter().chain(done.lost).collect())
}

/// How it went.
struct Founded<'a> {
    name: &'a Name,
    vault: &'a Vault,
    host: &'a HostKeys,
    plan: &'a ImportPlan,
    points: usize,
    lost: Vec<(PointRow, usize)>,
    wrong: Vec<String>,
}

fn report(session: &Session, founded: &Founded<'_>) -> u8 {
    let Founded { name, vault, host, plan, points, lost, wrong } = founded;
    let output = session.output;
    let few = plan.packs.iter().filter(|pack| !pack.is_enough()).count();
    for what in wrong {
        output.warn(what);
    }
    output.say(format!(
        "Founded vault \"{name}\" ({} of {} shards) anew on {} locations: {} of {points} points are whole.",
        vault.coding.data_shards(),
        vault.coding.total_shards(),
        vault.locations.len(),
        points - lost.len()
    ));
    output.say(format!("{} domains: {}", vault.domains().len(), vault_init::tolerance_text(vault.promise())));
    for (row, packs) in lost {
        let (point, source, when) = (point_text(row.part.point), &row.part.source, time_text(row.part.finished_ms));
        output.warn(format!("LOST: {point} of {source}, {when}: too few shards of {packs} of its packs were found"));
        output.event("lost_point", json!({ "point": row.part.point.to_string(), "source": source, "packs": packs }));
    }
    output.say(format!("This host writes as {}.", host.writer.writer.short()));
    if !lost.is_empty() || few > 0 {
        output.warn(format!(
            "{few} packs have too few shards. If there are more folders, bring them in: holdfast vault import-orphans DIR.. \
             --apply"
        ));
    }
    output.warn(
        "what no shard says is not known here: points forgotten long ago may be back, and keys revoked since the newest \
         record found count again. Look through the list: holdfast vault snapshots",
    );
    output.say("Next:  holdfast vault audit --full, then: holdfast vault run PATH");
    let exit = if lost.is_empty() { exit::WARNINGS } else { exit::LOST };
    let mut line = vault_import::summary(plan);
    line["vault"] = json!(name.as_str());
    line["vault_id"] = json!(vault.id.to_string());
    line["points"] = json!(points);
    line["points_lost"] = json!(lost.len());
    line["packs_short"] = json!(few);
    line["writer"] = json!(host.writer.writer.to_string());
    line["wrong"] = json!(wrong.len());
    output.summary(exit, line);
    exit
}
