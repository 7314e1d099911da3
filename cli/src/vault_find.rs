//! `holdfast vault find GLOB`: in which points a file stands, and in which versions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_sources::path_text::path_text;
use agent_sources::point_tree::PointTree;
use agent_sources::search::{Hit, Search};
use agent_sources::selection::Glob;
use serde_json::{Value, json};
use vault_format::point::PointRoot;
use vault_format::tree::EntryKind;
use vault_ops::points::point_text;
use vault_ops::progress::{Phase, Total};
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
    #[command(flatten)]
    points: PointFrom,
}

/// What stood under a path in the same state, and the points it stood in, newest first.
struct Version<'a> {
    hit: Hit,
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
    shelf: &std::sync::Arc<vault_ops::shelf::Shelf>,
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
        None => versions.push(Version { hit, points: vec![point] }),
    }
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
