//! `holdfast vault location add | retire | replace | probe | list`: which places a
//! vault lives in. Changes print a plan first and act only with `--apply`; done
//! again, they go on where they ended.

use std::sync::Arc;

use agent_daemon::assembly::{self, Assembled};
use agent_daemon::places;
use backends::{Grade, Probe};
use clap::Subcommand;
use config::Config;
use serde_json::json;
use vault_format::layout::{LayoutRecord, LocationState};
use vault_ops::location::{Location, Store};
use vault_ops::rebalance::{self, RebalancePlan, RebalanceReport};
use vault_ops::relayout::{self, Change};

use crate::exit::{self, Failure, Outcome};
use crate::output::bytes_text;
use crate::session::{Session, lease};
use crate::vault_init::probe_text;

/// `holdfast vault location ..`
#[derive(Subcommand, Debug)]
pub(crate) enum LocationCommand {
    /// Use a new [location.NAME] of the configuration, and move shards to it.
    Add {
        /// Its name in the configuration.
        name: String,
        /// Do it; without, only say what would be done.
        #[arg(long)]
        apply: bool,
    },
    /// Empty a location: its shards move to the others, then it is not used any more.
    Retire {
        /// Its name in the configuration.
        name: String,
        /// Do it; without, only say what would be done.
        #[arg(long)]
        apply: bool,
    },
    /// Put a new location in the place of another.
    Replace {
        /// The one to retire.
        old: String,
        /// The one to add, from the configuration.
        new: String,
        /// Do it; without, only say what would be done.
        #[arg(long)]
        apply: bool,
    },
    /// Try what a location can do.
    Probe {
        /// Its name in the configuration.
        name: String,
        /// Write its grade into the vault's layout, where it is another than the one recorded. Needs the operator's key.
        #[arg(long)]
        record: bool,
    },
    /// List the locations of the vault.
    List,
}

pub(crate) async fn run(session: &Session, command: LocationCommand) -> Outcome {
    match command {
        LocationCommand::Add { name, apply } => change(session, &Wanted::Add(name), apply).await,
        LocationCommand::Retire { name, apply } => change(session, &Wanted::Retire(name), apply).await,
        LocationCommand::Replace { old, new, apply } => change(session, &Wanted::Replace(old, new), apply).await,
        LocationCommand::Probe { name, record } => probe(session, &name, record).await,
        LocationCommand::List => list(session).await,
    }
}

/// What was asked for.
enum Wanted {
    Add(String),
    Retire(String),
    Replace(String, String),
}

impl Wanted {
    fn added(&self) -> Option<&str> {
        match self {
            Self::Add(new) | Self::Replace(_, new) => Some(new),
            Self::Retire(_) => None,
        }
    }

    fn change(&self, grade: Grade) -> Change<'_> {
        match self {
            Self::Add(name) => Change::Add { name, grade },
            Self::Retire(name) => Change::Retire { name },
            Self::Replace(old, new) => Change::Replace { old, new, grade },
        }
    }
}

/// A location opened for its first records.
struct Newcomer {
    name: String,
    store: Store,
    grade: Grade,
}

async fn change(session: &Session, wanted: &Wanted, apply: bool) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = if apply { Some(lease(&assembly::state_paths(&config, &name), "vault location")?) } else { None };
    if std::env::var_os("HOLDFAST_TEST_ONE_DEVICE").is_none() {
        assembly::refuse_shared_devices(&config, &name)?;
    }
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let newcomer = match wanted.added() {
        Some(added) => Some(open_newcomer(session, &config, added, apply).await?),
        None => None,
    };
    if apply && opened.vault.newer.is_some() {
        opened = finish_newer(session, &config, &name, opened, newcomer.as_ref()).await?;
    }
    let grade = newcomer.as_ref().map_or(Grade::Overwritable, |newcomer| newcomer.grade);
    let places = places::of(&config, &name);
    let next = relayout::changed(&opened.vault, &places, wanted.change(grade))?;
    if let Some(next) = next {
        let added = joining(&opened, &next, newcomer.as_ref());
        tell_plan(
            session,
            &rebalance::plan(&relayout::under(&opened.vault, &next, added.clone()), &opened.catalog).await?,
        );
        if !apply {
            return Ok(not_done(session, true));
        }
        let operator = session.operator_key(&opened.keys, &opened.vault)?;
        let bytes = relayout::sign(&opened.vault, &name, &operator, &places, next.clone())?;
        relayout::publish(&opened.vault, &opened.catalog, &next, &bytes, &added).await?;
        session
            .output
            .say(format!("layout {} counts: it stands on a majority of the old and the new domains", next.epoch));
        opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    } else {
        session.output.say(format!("layout {} says so already", opened.vault.layout.epoch));
        let plan = rebalance::plan(&opened.vault, &opened.catalog).await?;
        tell_plan(session, &plan);
        if !apply {
            return Ok(not_done(session, !plan.moves.is_empty() || !plan.surplus.is_empty()));
        }
    }
    settle(session, &config, &name, opened).await
}

/// A layout that was signed and did not reach its majority is completed first: no
/// second one is signed for its epoch.
async fn finish_newer(
    session: &Session,
    config: &Config,
    name: &str,
    opened: Assembled,
    newcomer: Option<&Newcomer>,
) -> Result<Assembled, Failure> {
    let Some((newer, bytes)) = opened.vault.newer.clone() else { return Ok(opened) };
    let added = joining(&opened, &newer, newcomer);
    relayout::publish(&opened.vault, &opened.catalog, &newer, &bytes, &added).await?;
    session.output.say(format!("layout {}, begun earlier, counts now", newer.epoch));
    Ok(assembly::open_vault(config, name, session.world.clone()).await?)
}

/// Locations of a layout that the vault does not know yet.
fn joining(opened: &Assembled, layout: &LayoutRecord, newcomer: Option<&Newcomer>) -> Vec<Location> {
    let new = newcomer.map(|new| relayout::newcomer(&opened.vault, layout, &new.name, Arc::clone(&new.store)));
    new.into_iter().filter(|new| opened.vault.location(new.id).is_none()).collect()
}

/// Moves shards, removes what is left, and calls empty what is empty.
async fn settle(session: &Session, config: &Config, name: &str, opened: Assembled) -> Outcome {
    let (output, vault) = (session.output, &opened.vault);
    let admin = places::admin(config, name, vault).await;
    let plan = rebalance::plan(vault, &opened.catalog).await?;
    let done = session.showing("location", rebalance::apply(vault, &opened.catalog, &plan, &admin)).await?;
    done.moved.failed.iter().chain(&done.moved.lost).for_each(|why| output.warn(why));
    output.say(format!(
        "{} shards moved and read back, {} records copied, {} copies removed",
        done.moved.shards.len(),
        done.moved.records,
        done.removed
    ));
    for (location, (copies, why)) in &done.kept {
        output.warn(format!("{copies} copies are kept at {}: {why}", vault.location_name(*location)));
    }
    let empty = rebalance::retired(vault, done.settled);
    if !empty.is_empty() {
        let operator = session.operator_key(&opened.keys, &opened.vault)?;
        for location in empty {
            let fresh = assembly::open_vault(config, name, session.world.clone()).await?;
            let retired = fresh.vault.location_name(location);
            let places = places::of(config, name);
            let Some(next) = relayout::changed(&fresh.vault, &places, Change::Retired { name: &retired })? else {
                continue;
            };
            let bytes = relayout::sign(&fresh.vault, name, &operator, &places, next.clone())?;
            relayout::publish(&fresh.vault, &fresh.catalog, &next, &bytes, &[]).await?;
            output.say(format!(
                "{retired} is retired: everything is elsewhere. Take [location.{retired}] out of the configuration"
            ));
        }
    }
    if !done.settled {
        output.warn("not everything is at home yet; run the same command again, or: holdfast vault repair --apply");
    }
    Ok(end(session, &done))
}

fn end(session: &Session, done: &RebalanceReport) -> u8 {
    let exit = match (done.moved.lost.is_empty(), done.settled) {
        (false, _) => exit::LOST,
        (true, false) => exit::WARNINGS,
        (true, true) => exit::OK,
    };
    let kept: usize = done.kept.values().map(|(copies, _)| copies).sum();
    session.output.summary(
        exit,
        json!({ "moved_shards": done.moved.shards.len(), "records": done.moved.records, "removed_copies": done.removed,
                "kept_copies": kept, "settled": done.settled, "failed": done.moved.failed.len() }),
    );
    exit
}

fn tell_plan(session: &Session, plan: &RebalancePlan) {
    let (shards, surplus) = (plan.moves.shards.len(), plan.surplus.len());
    let surplus_bytes: u64 = plan.surplus.iter().map(|surplus| surplus.bytes).sum();
    session.output.say(format!(
        "{shards} shards to write ({}), {} records to copy; then {surplus} copies to remove ({}), each after its copy at \
         home was read back",
        bytes_text(plan.bytes),
        plan.moves.records.len(),
        bytes_text(surplus_bytes)
    ));
    if plan.weak > 0 {
        session.output.warn(format!("{} packs do not survive what is declared now; moving mends that", plan.weak));
    }
    plan.moves.silent.iter().for_each(|(name, why)| session.output.warn(format!("{name} does not answer: {why}")));
    session.output.event(
        "plan",
        json!({ "shards": shards, "bytes": plan.bytes, "records": plan.moves.records.len(), "surplus": surplus,
                "surplus_bytes": surplus_bytes, "weak_packs": plan.weak }),
    );
}

fn not_done(session: &Session, something: bool) -> u8 {
    if something {
        session.output.say("Nothing was changed. Do it with --apply");
    }
    session.output.summary(exit::OK, json!({ "applied": false }));
    exit::OK
}

async fn open_newcomer(session: &Session, config: &Config, name: &str, create: bool) -> Result<Newcomer, Failure> {
    let location = config.locations.get(name).ok_or_else(|| {
        Failure::new(
            exit::USAGE,
            format!("the configuration has no location \"{name}\"; add a [location.{name}] to it"),
        )
    })?;
    let opened = backends::open(assembly::location_spec(location, create)).await;
    let opened = match opened {
        Ok(opened) => opened,
        // A plan makes no folder: nothing to look at, and nothing that could be in the way.
        Err(_) if !create => {
            let store: Store = relayout::nowhere();
            return Ok(Newcomer { name: name.to_owned(), store, grade: Grade::Overwritable });
        }
        Err(error) => return Err(Failure::new(exit::UNREACHABLE, format!("{error}. Nothing was changed"))),
    };
    let grade = if create {
        let probe = try_out(session, location).await?;
        opened.set_create(probe.create_as());
        probe.grade_when(location.lock.is_some())
    } else {
        Grade::Overwritable
    };
    Ok(Newcomer { name: name.to_owned(), store: Arc::clone(opened.store()), grade })
}

async fn try_out(session: &Session, location: &config::Location) -> Result<Probe, Failure> {
    let failed = |error| Failure::new(exit::UNREACHABLE, format!("{error}. Nothing was changed"));
    let mut spec = assembly::location_spec(location, false);
    // What a probe writes is not locked for long.
    spec.lock_until_ms = None;
    let opened = backends::open(spec).await.map_err(failed)?;
    let now = || std::time::UNIX_EPOCH + std::time::Duration::from_millis(session.world.now_ms().unsigned_abs());
    backends::probe(&opened, &mut session.world.rng(), &now).await.map_err(failed)
}

async fn probe(session: &Session, name: &str, record: bool) -> Outcome {
    let (config, vault) = session.vault_name()?;
    let location = config
        .locations
        .get(name)
        .ok_or_else(|| Failure::new(exit::USAGE, format!("the configuration has no location \"{name}\"")))?;
    let probe = try_out(session, location).await?;
    session.output.say(format!("{name:<12} {}", probe_text(&probe)));
    if record {
        record_grade(session, &config, &vault, name, probe.grade_when(location.lock.is_some())).await?;
    }
    session.output.summary(
        exit::OK,
        json!({ "name": name, "grade": format!("{:?}", probe.grade).to_lowercase(),
                "conditional_put": format!("{:?}", probe.conditional).to_lowercase(), "ranges": probe.ranges,
                "may_delete": probe.may_delete }),
    );
    Ok(exit::OK)
}

/// What `vault status` counts on is what the layout says: a grade that changed is signed
/// into a new one.
async fn record_grade(
    session: &Session,
    config: &Config,
    vault: &str,
    name: &str,
    grade: Grade,
) -> Result<(), Failure> {
    let _lease = lease(&assembly::state_paths(config, vault), "vault location probe")?;
    let mut opened = assembly::open_vault(config, vault, session.world.clone()).await?;
    if opened.vault.newer.is_some() {
        opened = finish_newer(session, config, vault, opened, None).await?;
    }
    let places = places::of(config, vault);
    let Some(next) = relayout::changed(&opened.vault, &places, Change::Grade { name, grade })? else {
        session.output.say(format!("layout {} records it so already", opened.vault.layout.epoch));
        return Ok(());
    };
    let operator = session.operator_key(&opened.keys, &opened.vault)?;
    let bytes = relayout::sign(&opened.vault, vault, &operator, &places, next.clone())?;
    relayout::publish(&opened.vault, &opened.catalog, &next, &bytes, &[]).await?;
    session.output.say(format!("layout {} records it as {grade:?}", next.epoch));
    if grade == Grade::Locked {
        session.output.say("What was stored there before is locked by: holdfast vault lock extend --apply");
    }
    Ok(())
}

async fn list(session: &Session) -> Outcome {
    let (config, name) = session.vault_name()?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let vault = &opened.vault;
    let output = session.output;
    output.say(format!("{:<12} {:<12} {:<10} {:<9} address", "location", "domain", "state", "answers"));
    for placed in &vault.layout.locations {
        let at = vault.location_name(placed.location);
        let known = config.locations.get(at.as_str());
        let state = match placed.state {
            LocationState::Active => "in use",
            LocationState::Retiring => "retiring",
            LocationState::Retired => "retired",
        };
        let answers = vault.location(placed.location).is_some();
        let domain = known.map_or("unknown", |known| known.domain.as_str());
        let url = known.map_or("not in the configuration", |known| known.url.as_str());
        output.say(format!("{at:<12} {domain:<12} {state:<10} {:<9} {url}", if answers { "yes" } else { "no" }));
        output
            .event("location", json!({ "name": at, "domain": domain, "state": state, "answers": answers, "url": url }));
    }
    let strangers: Vec<&str> = config.vaults[name.as_str()]
        .locations
        .iter()
        .map(config::Name::as_str)
        .filter(|known| !vault.layout.locations.iter().any(|placed| vault.location_name(placed.location) == **known))
        .collect();
    for stranger in &strangers {
        output.say(format!("{stranger:<12} is in the configuration only: holdfast vault location add {stranger}"));
    }
    output.summary(exit::OK, json!({ "layout": vault.layout.epoch, "not_added": strangers }));
    Ok(exit::OK)
}
