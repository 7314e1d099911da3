//! `holdfast vault diff A B`: what changed between two points. What did not change is
//! not read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use agent_sources::difference::{Change, Changed, Pair};
use agent_sources::path_text::path_text;
use agent_sources::point_tree::PointTree;
use serde_json::{Map, Value, json};
use vault_format::tree::EntryKind;
use vault_ops::points::point_text;

use crate::arguments::PointFrom;
use crate::exit::{self, Outcome};
use crate::output::Output;
use crate::point_shelf::Points;
use crate::point_words::{Place, Typed, kind_text, path_fields};
use crate::session::Session;

/// `holdfast vault diff ..`
#[derive(clap::Args, Debug)]
pub(crate) struct DiffArguments {
    /// The older point, and a folder or file in it.
    #[arg(value_name = "POINT[:PATH]")]
    old: Typed,
    /// The newer one.
    #[arg(value_name = "POINT[:PATH]", default_value = "latest")]
    new: Typed,
    /// Leave out what changed in its attributes only.
    #[arg(long)]
    content_only: bool,
    #[command(flatten)]
    points: PointFrom,
}

pub(crate) async fn run(session: &Session, arguments: &DiffArguments) -> Outcome {
    let (old, new) = (Place::parse(&arguments.old)?, Place::parse(&arguments.new)?);
    let points = Points::open(session, &arguments.points, "vault diff POINT POINT").await?;
    let shelf = points.shelf();
    let older = points.pieces(&shelf, points.choose(session.output, &old.point)?).await?;
    let newer = points.pieces(&Arc::clone(&shelf), points.choose(session.output, &new.point)?).await?;
    let pair =
        Pair { old: PointTree::of(&older)?, new: PointTree::of(&newer)?, named_alike: older.names_alike(&newer) };
    let output = session.output;
    let mut counts: BTreeMap<Change, u64> = BTreeMap::new();
    let content_only = arguments.content_only;
    let mut tell = |changed: Changed| {
        if changed.change != Change::Metadata || !content_only {
            *counts.entry(changed.change).or_default() += 1;
            show(output, &changed, &new.path);
        }
    };
    pair.compare(&old.path, &new.path, &mut tell).await?;
    let count = |change| counts.get(&change).copied().unwrap_or_default();
    output.say(format!(
        "{} to {}: {} added, {} removed, {} changed, {} with other attributes only",
        point_text(older.id()),
        point_text(newer.id()),
        count(Change::Added),
        count(Change::Removed),
        count(Change::Content),
        count(Change::Metadata)
    ));
    let exit = if points.newest_known { exit::OK } else { exit::WARNINGS };
    output.summary(
        exit,
        json!({ "old": older.id().to_string(), "new": newer.id().to_string(), "added": count(Change::Added),
                "removed": count(Change::Removed), "content": count(Change::Content), "metadata": count(Change::Metadata) }),
    );
    Ok(exit)
}

fn show(output: Output, changed: &Changed, below: &Path) {
    let path = below.join(&changed.path);
    let (letter, word) = match changed.change {
        Change::Added => ('+', "added"),
        Change::Removed => ('-', "removed"),
        Change::Content => ('M', "content"),
        Change::Metadata => ('U', "metadata"),
    };
    let (old, new) = &changed.entry;
    let is_dir = new.as_ref().or(old.as_ref()).is_some_and(|entry| entry.kind == EntryKind::Directory);
    let attributes = changed.attributes();
    let why = if changed.change == Change::Metadata { format!("  ({})", attributes.join(", ")) } else { String::new() };
    output.say(format!("{letter} {}{}{why}", path_text(&path), if is_dir { "/" } else { "" }));
    let mut fields = Map::new();
    path_fields(&mut fields, &path);
    if let Value::Object(more) = json!({
        "change": word, "attributes": attributes,
        "old_kind": old.as_ref().map(|entry| kind_text(entry.kind)), "old_size": old.as_ref().map(|entry| entry.size),
        "new_kind": new.as_ref().map(|entry| kind_text(entry.kind)), "new_size": new.as_ref().map(|entry| entry.size),
    }) {
        fields.extend(more);
    }
    output.event("change", Value::Object(fields));
}
