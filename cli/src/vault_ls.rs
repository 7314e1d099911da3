//! `holdfast vault ls POINT[:PATH]`: what a folder of a point holds. Only the listings
//! on the way are read.

use std::path::{Path, PathBuf};

use agent_sources::path_text::path_text;
use agent_sources::point_tree::{Found, PointTree};
use serde_json::json;
use vault_format::tree::{Entry, EntryKind};

use crate::arguments::PointFrom;
use crate::exit::{self, Outcome};
use crate::output::time_text;
use crate::point_shelf::Points;
use crate::point_words::{Place, Typed, entry_fields, mode_text};
use crate::session::Session;

/// `holdfast vault ls ..`
#[derive(clap::Args, Debug)]
pub(crate) struct LsArguments {
    /// The point (latest, latest~N, or an id that `snapshots` prints) and a folder or file in it.
    #[arg(value_name = "POINT[:PATH]", default_value = "latest")]
    place: Typed,
    /// Permissions, owner, size and time too.
    #[arg(long, short)]
    long: bool,
    /// Everything below, too.
    #[arg(long, short = 'R')]
    recursive: bool,
    #[command(flatten)]
    points: PointFrom,
}

pub(crate) async fn run(session: &Session, arguments: &LsArguments) -> Outcome {
    let place = Place::parse(&arguments.place)?;
    let points = Points::open(session, &arguments.points, "vault ls POINT").await?;
    let chosen = points.choose(session.output, &place.point)?;
    let point = points.pieces(&points.shelf(), chosen).await?;
    let tree = PointTree::of(&point)?;
    let mut shown = Shown { session, long: arguments.long, entries: 0, bytes: 0 };
    let content = match tree.look(&place.path).await? {
        Found::Top => Some(tree.top().clone()),
        Found::Entry(Entry { kind: EntryKind::Directory, content, .. }) => content,
        Found::Entry(entry) => {
            shown.entry(&place.path, &entry);
            None
        }
    };
    if let Some(content) = content {
        let mut walk = tree.walk(&content, place.path).await?;
        while let Some(entry) = walk.next().await? {
            shown.entry(walk.path(), &entry);
            if !arguments.recursive {
                walk.skip();
            }
        }
    }
    let exit = if points.newest_known { exit::OK } else { exit::WARNINGS };
    session
        .output
        .summary(exit, json!({ "point": chosen.id.to_string(), "entries": shown.entries, "bytes": shown.bytes }));
    Ok(exit)
}

/// What was printed.
struct Shown<'a> {
    session: &'a Session,
    long: bool,
    entries: u64,
    bytes: u64,
}

impl Shown<'_> {
    fn entry(&mut self, path: &Path, entry: &Entry) {
        let output = self.session.output;
        self.entries += 1;
        self.bytes += if entry.kind == EntryKind::File { entry.size } else { 0 };
        let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
        let name = format!("{}{slash}", path_text(path));
        if self.long {
            output.say(format!(
                "{} {:<8} {:<8} {:>13} {} {name}{}",
                mode_text(entry),
                owner_text(entry.user.as_ref(), entry.uid),
                owner_text(entry.group.as_ref(), entry.gid),
                entry.size,
                time_text(entry.mtime_s.saturating_mul(1000)),
                target_text(entry)
            ));
        } else {
            output.say(name);
        }
        output.event("entry", entry_fields(path, entry));
    }
}

fn owner_text(name: Option<&vault_format::Blob>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), |name| bytes_of(&name.0))
}

fn target_text(entry: &Entry) -> String {
    entry.target.as_ref().map_or_else(String::new, |target| format!(" -> {}", bytes_of(&target.0)))
}

fn bytes_of(bytes: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    path_text(&PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}
