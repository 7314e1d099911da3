//! `holdfast vault run`: back up sources of the configuration, or paths.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use agent_daemon::assembly::{self, Assembled};
use agent_sources::Rules;
use agent_sources::directory::DirectorySource;
use agent_sources::stream::StreamSource;
use clap::Args;
use config::{Compression, Config};
use serde_json::json;
use vault_ops::backup::{self, BackupOptions, BackupReport, Standing};
use vault_ops::points::point_text;
use vault_ops::source::Source;
use vault_ops::vault::Vault;

use crate::exit::{self, Failure, Outcome};
use crate::output::{bytes_text, time_text};
use crate::session::{Session, host_name, lease};
use crate::traffic::LimitArguments;

/// `holdfast vault run ..`
#[derive(Args, Debug, Default)]
pub(crate) struct RunArguments {
    /// Names of sources, paths, or - for standard input; all sources of the configuration if none is given.
    pub(crate) what: Vec<String>,
    /// Add a tag to the point.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Pin the point: no rule lets it go until `vault unpin`.
    #[arg(long)]
    pub(crate) pin: bool,
    /// Read every file, also what the file cache knows unchanged.
    #[arg(long)]
    pub(crate) force: bool,
    /// Store nothing, and say what would be read and stored.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How hard to compress: off, fast, better, max, or a level of zstd from 1 to 19 [default: the source's, else fast].
    #[arg(long, value_name = "LEVEL", value_parser = Compression::parse)]
    pub(crate) compression: Option<Compression>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) paths: PathArguments,
}

/// How paths and standard input are backed up; sources have it in the configuration.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathArguments {
    /// Name of the source for paths or standard input [default: the paths, or stdin].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Name of the file that a restore makes of standard input [default: stdin].
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin_name: Option<String>,
    /// Leave out what matches a pattern, as in .gitignore.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Leave out what lies beside a file of this name.
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_if_present: Vec<String>,
    /// Leave out what lies beside a CACHEDIR.TAG.
    #[arg(long)]
    pub(crate) exclude_caches: bool,
    /// Leave out larger files, as in 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = config::size)]
    pub(crate) exclude_larger_than: Option<u64>,
    /// Read the file system of each path only.
    #[arg(long)]
    pub(crate) one_file_system: bool,
}

pub(crate) async fn run(session: &Session, arguments: RunArguments) -> Outcome {
    session.limit_traffic(arguments.limits);
    if arguments.dry_run {
        return crate::vault_estimate::run(session, &arguments).await;
    }
    let (config, name) = session.vault_name()?;
    let sources = choose(&config, &arguments).await?;
    let tags = arguments.tag;
    let _lease = lease(&assembly::state_paths(&config, &name), "vault run")?;
    let mut opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let keys = session.writer_key(&opened.keys, &opened.vault)?;
    let (mut worst, mut failed, alone) = (exit::OK, None, sources.len() == 1);
    for source in sources {
        let label = source.name().to_owned();
        let compression = assembly::compression(&config, &label, arguments.compression);
        let options = BackupOptions { host: host_name(), tags: tags.clone(), pinned: arguments.pin, compression };
        let started = Instant::now();
        let shown = session.shows(&label);
        let (report, _) =
            backup::run(&opened.vault, std::sync::Arc::clone(&keys), &mut opened.catalog, source, &options).await;
        drop(shown);
        match report {
            Ok(report) => worst = worst.max(tell(session, &opened, &label, &report, started.elapsed().as_secs_f64())),
            Err(error) if alone => return Err(error.into()),
            // One source's trouble does not keep the others from being backed up.
            Err(error) => {
                session.output.warn(format!("{label}: {error}"));
                failed = failed.or(Some(Failure::from(error)));
            }
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    session.output.summary(worst, json!({}));
    Ok(worst)
}

/// Names of sources, paths, or standard input; nothing means all sources.
pub(crate) async fn choose(config: &Config, arguments: &RunArguments) -> Result<Vec<Box<dyn Source>>, Failure> {
    let RunArguments { what, force, paths: options, .. } = arguments;
    let is_source = |item: &&String| config.sources.contains_key(item.as_str());
    let (named, paths): (Vec<&String>, Vec<&String>) = what.iter().partition(is_source);
    if paths.is_empty() && *options != PathArguments::default() {
        return Err(Failure::new(
            exit::USAGE,
            "names and excludes on the command line are for paths and standard input. A source of the configuration has \
             its own: write them into its [source.NAME]",
        ));
    }
    let mut chosen: Vec<Box<dyn Source>> = Vec::new();
    if what.is_empty() {
        for name in config.sources.keys() {
            chosen.push(assembly::source(config, name.as_str(), *force).await?);
        }
        if chosen.is_empty() {
            return Err(Failure::new(
                exit::USAGE,
                "nothing to back up: the configuration has no [source.NAME]. Name paths: holdfast vault run PATH..",
            ));
        }
    }
    for name in named {
        chosen.push(assembly::source(config, name, *force).await?);
    }
    match paths.as_slice() {
        [] => {}
        [only] if *only == "-" => chosen.push(Box::new(standard_input(options)?)),
        paths if paths.iter().any(|path| *path == "-") => {
            let what = "standard input is a source of its own: run it alone, holdfast vault run - --name NAME";
            return Err(Failure::new(exit::USAGE, what));
        }
        paths => chosen.push(Box::new(path_source(config, paths, options)?.with_force(*force))),
    }
    Ok(chosen)
}

fn standard_input(options: &PathArguments) -> Result<StreamSource, Failure> {
    let PathArguments { name, stdin_name, .. } = options;
    let meant = PathArguments { name: name.clone(), stdin_name: stdin_name.clone(), ..PathArguments::default() };
    if *options != meant {
        return Err(Failure::new(exit::USAGE, "excludes are for folders; standard input has no files to leave out"));
    }
    if std::io::stdin().is_terminal() {
        return Err(Failure::new(
            exit::USAGE,
            "standard input is a terminal; pipe something into it: pg_dump | holdfast vault run - --name db",
        ));
    }
    let name = name.clone().unwrap_or_else(|| "stdin".to_owned());
    let file_name = stdin_name.clone().unwrap_or_else(|| "stdin".to_owned());
    Ok(StreamSource::of_reader(name, file_name, Box::new(std::io::stdin()))?)
}

fn path_source(config: &Config, paths: &[&String], options: &PathArguments) -> Result<DirectorySource, Failure> {
    if options.stdin_name.is_some() {
        return Err(Failure::new(exit::USAGE, "--stdin-name is for standard input: holdfast vault run -"));
    }
    let mut absolute = Vec::new();
    for path in paths {
        let found = std::fs::canonicalize(path).map_err(|error| {
            Failure::new(
                exit::USAGE,
                format!("{path} is neither a source of the configuration nor a path that can be read: {error}"),
            )
        })?;
        absolute.push(found);
    }
    let all_paths = || absolute.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    let name = options.name.clone().unwrap_or_else(all_paths);
    let rules = Rules {
        one_file_system: options.one_file_system,
        if_present: options.exclude_if_present.iter().map(Into::into).collect(),
        caches: options.exclude_caches,
        larger_than: options.exclude_larger_than,
    };
    let excludes: Vec<PathBuf> = assembly::own_folders(config);
    let source = DirectorySource::new(name, &absolute, excludes)?.with_patterns(&options.exclude)?;
    Ok(source.with_rules(rules)?)
}

fn tell(session: &Session, opened: &Assembled, label: &str, report: &BackupReport, seconds: f64) -> u8 {
    let (output, vault, statistics) = (session.output, &opened.vault, &report.statistics);
    for gone in &report.unreadable {
        output.warn(format!("{label}: {}: {}", gone.path, gone.why));
    }
    let exit = match report.standing() {
        Standing::Spooled => exit::UNREACHABLE,
        Standing::Full | Standing::Resting if report.unreadable.is_empty() && report.notes.is_empty() => exit::OK,
        Standing::Full | Standing::Resting | Standing::Durable => exit::WARNINGS,
    };
    for point in &report.delivered {
        output.say(format!("delivered {} from the spool", point_text(*point)));
    }
    output.say(format!(
        "{}  {}  {label}  {} items, {} new or changed, {} unreadable  {} -> {} new, stored {}",
        if report.spooled.is_none() { "ok" } else { "kept" },
        point_text(report.point),
        statistics.items,
        statistics.changed,
        statistics.unreadable,
        bytes_text(statistics.plain_bytes),
        bytes_text(statistics.new_bytes),
        bytes_text(report.stored_bytes)
    ));
    if let Some(spooled) = &report.spooled {
        output.warn(format!(
            "not durable: kept in the spool of this host ({} points, {}), delivered by itself, or with: holdfast vault \
             deliver. It dies with this host until then. {}",
            spooled.points,
            bytes_text(spooled.bytes),
            spooled.why
        ));
    }
    let domains = vault.domains().len();
    let place =
        if domains == 1 { "all in one domain".to_owned() } else { super::vault_init::tolerance_text(report.tolerance) };
    if report.spooled.is_none() {
        let whole = if report.standing() == Standing::Full { ", every shard at its place" } else { "" };
        output.say(format!(
            "    {}{whole}: {place}   {seconds:.1} s   try it: holdfast vault restore {} --to DIR",
            standing_text(report.standing()),
            point_text(report.point)
        ));
    }
    if report.position > 0 {
        output.say(format!("    sequence {}  state hash {}", report.position, report.root_hash));
    }
    for resting in report.resting.values() {
        output.say(format!(
            "    {} is away, as it may be until {}; it gets its part when it is back",
            resting.name,
            time_text(resting.until_ms)
        ));
    }
    if report.healed > 0 {
        output.say(format!("    {} shards and records that earlier runs owed are home", report.healed));
    }
    for debt in report.debts.iter().filter(|debt| !report.resting.contains_key(&debt.location)) {
        let kept =
            debt.kept_by.map_or("nobody keeps it".to_owned(), |by| format!("kept by {}", vault.location_name(by)));
        output.warn(format!(
            "shard {} of pack {} is owed to {}: {} ({kept}). It is healed by: holdfast vault repair --apply",
            debt.index,
            debt.pack.short(),
            vault.location_name(debt.location),
            debt.why
        ));
    }
    let rests = |name: &String| report.resting.values().any(|resting| resting.name == *name);
    for (name, why) in report.manifest_owed.iter().filter(|(name, _)| !rests(name)) {
        output.warn(format!("the manifest is owed to {name}: {why}"));
    }
    report.notes.iter().for_each(|note| output.warn(note));
    if !report.head_confirmed {
        output.warn("the chain's head is the newest seen, not confirmed: too few domains answer");
    }
    output.event(
        "point",
        json!({
            "point": report.point.to_string(), "source": label, "root_hash": report.root_hash.to_string(),
            "position": report.position, "full": report.is_full(), "standing": standing_text(report.standing()),
            "durable_domains": if report.spooled.is_some() { 0 } else { report.tolerance.any_domains },
            "packs_new": report.packs_new, "packs_reused": report.packs_reused, "items": statistics.items,
            "changed": statistics.changed,
            "unreadable": statistics.unreadable, "plain_bytes": statistics.plain_bytes,
            "new_bytes": statistics.new_bytes, "packed_bytes": statistics.packed_bytes, "stored_bytes": report.stored_bytes,
            "debts": report.debts.len(), "owed": owed(vault, report), "healed": report.healed,
            "resting": report.resting.values().map(|resting| resting.name.clone()).collect::<Vec<_>>(),
            "seconds": seconds,
            "spooled": report.spooled.as_ref().map(|spooled| json!({
                "points": spooled.points, "bytes": spooled.bytes, "why": spooled.why,
            })),
            "delivered": report.delivered.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    );
    exit
}

/// How safe a point is, in a word or two.
fn standing_text(standing: Standing) -> &'static str {
    match standing {
        Standing::Full => "full",
        Standing::Resting => "durable, owed to what may be away",
        Standing::Durable => "durable, with debts",
        Standing::Spooled => "spooled",
    }
}

/// Per location, the shards and manifests it should have and has not.
fn owed(vault: &Vault, report: &BackupReport) -> serde_json::Value {
    let mut owed: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for debt in &report.debts {
        owed.entry(vault.location_name(debt.location)).or_default().0 += 1;
    }
    for (name, _) in &report.manifest_owed {
        owed.entry(name.clone()).or_default().1 += 1;
    }
    let line = |(name, (shards, manifests))| (name, json!({ "shards": shards, "records": manifests }));
    owed.into_iter().map(line).collect::<serde_json::Map<_, _>>().into()
}
