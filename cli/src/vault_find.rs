//! `holdfast vault find GLOB`: in which points a file stands, and in which versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use agent_sources::difference::Pair;
use agent_sources::path_text::path_text;
use agent_sources::point_tree::PointTree;
use agent_sources::search::{Hit, Search};
use agent_sources::selection::Glob;
use serde_json::{Value, json};
use vault_format::point::PointRoot;
use vault_format::tree::EntryKind;
use vault_ops::points::point_text;
use vault_ops::progress::{Phase, Total};
use vault_ops::shelf::Shelf;
use vault_ops::source::PointReader;

use crate::arguments::PointFrom;
use crate::exit::{self, Failure, Outcome};
use crate::output::{Output, bytes_text, time_text};
use crate::point_shelf::{Listed, Points};
use crate::point_words::entry_fields;
use crate::session::Session;

/// `holdfast vault find ..`
#[derive(clap::Args, Debug)]
pub(crate) struct FindArguments {
    /// What to look for, as in .gitignore: `*.odt` anywhere, `/docs/2024/*` there.
    #[arg(value_name = "GLOB")]
    glob: String,
    /// Join versions of the same size and time whose bytes are equal, by reading them. Hosts with chunk names of their own,
    /// and one host before and after a new seed, name equal bytes differently: else such versions are shown apart.
    #[arg(long)]
    by_content: bool,
    #[command(flatten)]
    points: PointFrom,
}

/// What stood under a path in the same state, and the points it stood in, newest first.
struct Version<'a> {
    hit: Hit,
    /// The point that the hit is of.
    of: &'a Listed,
    points: Vec<&'a Listed>,
}

pub(crate) async fn run(session: &Session, arguments: &FindArguments) -> Outcome {
    let mut search = Search::new(Glob::new(&arguments.glob)?);
    let points = Points::open(session, &arguments.points, "vault find GLOB").await?;
    let shelf = points.shelf();
    let mut found: BTreeMap<PathBuf, Vec<Version<'_>>> = BTreeMap::new();
    let mut unread = Vec::new();
    let mut trees = 0;
    let progress = &session.world.progress;
    progress.begin_of(Phase::Searching, Total::of_items(points.live.len()));
    let shown = session.shows("find");
    for listed in points.live.iter().rev() {
        progress.add_items(1);
        match look(&points, &shelf, listed, &mut search).await {
            Ok(None) => {}
            Ok(Some(hits)) => {
                trees += 1;
                for hit in hits {
                    add(&mut found, hit, listed);
                }
            }
            // The others may still have it.
            Err(failure) => {
                session.output.warn(format!("{} could not be looked through: {}", point_text(listed.id), failure.text));
                unread.push(failure);
            }
        }
    }
    if arguments.by_content
        && let Err(failure) = join_equal(&points, &shelf, &mut found).await
    {
        session.output.warn(format!("not every version could be read and compared: {}", failure.text));
        unread.push(failure);
    }
    drop(shown);
    let output = session.output;
    let versions: usize = found.values().map(Vec::len).sum();
    for versions in found.values() {
        versions.iter().enumerate().for_each(|(at, version)| show(output, version, at == 0));
    }
    output.say(format!("{} paths, {versions} versions in {trees} points", found.len()));
    let exit = match unread.into_iter().next() {
        Some(failure) if trees == 0 => return Err(failure),
        None if points.newest_known => exit::OK,
        Some(_) | None => exit::WARNINGS,
    };
    output.summary(
        exit,
        json!({ "paths": found.len(), "versions": versions, "points": trees, "folders_read": search.directories_read }),
    );
    Ok(exit)
}

/// What a point has of it; none for a point that is no tree.
async fn look(
    points: &Points,
    shelf: &Arc<Shelf>,
    listed: &Listed,
    search: &mut Search,
) -> Result<Option<Vec<Hit>>, Failure> {
    let point = points.pieces(shelf, listed).await?;
    match &point.record().root {
        PointRoot::Tree(_) => {}
        PointRoot::Kernel(_) | PointRoot::Postgres(_) | PointRoot::Stream(_) => return Ok(None),
    }
    let hits = search.through(PointTree::of(&point)?).await?;
    Ok(Some(hits.as_ref().clone()))
}

fn add<'a>(found: &mut BTreeMap<PathBuf, Vec<Version<'a>>>, hit: Hit, point: &'a Listed) {
    let versions = found.entry(hit.path.clone()).or_default();
    // A directory's listing changes with anything in it: it is one version as long as it is one directory.
    let same = |old: &Hit| {
        let state = |hit: &Hit| {
            let entry = &hit.entry;
            (entry.size, entry.mtime_s, entry.mtime_ns, entry.content.clone(), entry.target.clone(), entry.device)
        };
        old.entry.kind == hit.entry.kind && (hit.entry.kind == EntryKind::Directory || state(old) == state(&hit))
    };
    match versions.iter_mut().find(|version| same(&version.hit)) {
        Some(version) => version.points.push(point),
        None => versions.push(Version { hit, of: point, points: vec![point] }),
    }
}

/// Versions that may be equal, for all that is listed of them, are read, and joined if they are.
async fn join_equal(
    points: &Points,
    shelf: &Arc<Shelf>,
    found: &mut BTreeMap<PathBuf, Vec<Version<'_>>>,
) -> Result<(), Failure> {
    for versions in found.values_mut() {
        let mut at = 0;
        while at < versions.len() {
            let mut other = at + 1;
            while other < versions.len() {
                if are_equal(points, shelf, &versions[at], &versions[other]).await? {
                    let more = versions.remove(other).points;
                    versions[at].points.extend(more);
                } else {
                    other += 1;
                }
            }
            versions[at].points.sort_by_key(|point| std::cmp::Reverse(point.finished_ms));
            at += 1;
        }
    }
    Ok(())
}

async fn are_equal(
    points: &Points,
    shelf: &Arc<Shelf>,
    one: &Version<'_>,
    other: &Version<'_>,
) -> Result<bool, Failure> {
    let is_file = |version: &Version<'_>| version.hit.entry.kind == EntryKind::File;
    let listed = |version: &Version<'_>| {
        let entry = &version.hit.entry;
        (entry.size, entry.mtime_s, entry.mtime_ns)
    };
    if !is_file(one) || !is_file(other) || listed(one) != listed(other) {
        return Ok(false);
    }
    let (old, new) = (points.pieces(shelf, one.of).await?, points.pieces(shelf, other.of).await?);
    let pair = Pair { old: PointTree::of(&old)?, new: PointTree::of(&new)?, named_alike: old.names_alike(&new) };
    Ok(pair.same_bytes(&one.hit.entry, &other.hit.entry).await?)
}

fn show(output: Output, version: &Version<'_>, is_first: bool) {
    let Hit { path, entry } = &version.hit;
    if is_first {
        output.say(path_text(path));
    }
    let names: Vec<String> = version.points.iter().map(|point| point_text(point.id)).collect();
    output.say(format!(
        "  {:>10}  {}  {} of {}: {}",
        if entry.kind == EntryKind::File { bytes_text(entry.size) } else { "-".to_owned() },
        time_text(entry.mtime_s.saturating_mul(1000)),
        if names.len() == 1 { "1 point".to_owned() } else { format!("{} points", names.len()) },
        version.points.first().map_or("", |point| &point.source),
        names.join(" ")
    ));
    let points: Vec<Value> = version
        .points
        .iter()
        .map(|point| json!({ "point": point.id.to_string(), "time_ms": point.finished_ms, "source": point.source }))
        .collect();
    let mut fields = entry_fields(path, entry);
    if let Value::Object(fields) = &mut fields {
        fields.insert("points".to_owned(), points.into());
    }
    output.event("version", fields);
}
