//! `holdfast vault cat POINT:PATH`: a file of a point on standard output.
//!
//! What always holds: a byte is written only after the chunk it stands in gave its
//! keyed id again, under the tree root that the point's record signs; whatever goes wrong after the
//! first byte ends with a code other than 0, and says how many bytes were good.

use std::io::Write;

use agent_sources::path_text::path_text;
use agent_sources::point_tree::{Found, PointTree};
use agent_sources::stream::write_stream;
use serde_json::json;
use vault_format::point::PointRoot;
use vault_format::tree::EntryKind;
use vault_ops::OpsError;
use vault_ops::restore::OpenPoint;
use vault_ops::source::PointReader;

use crate::arguments::PointFrom;
use crate::exit::{self, Failure, Outcome};
use crate::output::bytes_text;
use crate::point_shelf::Points;
use crate::point_words::{Place, Typed, kind_text};
use crate::session::Session;

/// `holdfast vault cat ..`
#[derive(clap::Args, Debug)]
pub(crate) struct CatArguments {
    /// The point (latest, latest~N, or an id that `snapshots` prints) and the file in it; of a
    /// command's output the point alone.
    #[arg(value_name = "POINT:PATH")]
    place: Typed,
    #[command(flatten)]
    points: PointFrom,
}

pub(crate) async fn run(session: &Session, arguments: &CatArguments) -> Outcome {
    let place = Place::parse(&arguments.place)?;
    let points = Points::open(session, &arguments.points, "vault cat POINT:PATH").await?;
    let chosen = points.choose(session.output, &place.point)?;
    let point = points.pieces(&points.shelf(), chosen).await?;
    let mut to = Counted { to: std::io::stdout(), bytes: 0 };
    let written = write(&point, &place, &mut to).await;
    written.map_err(|error| say_what_came(error, to.bytes)).map_err(|failure| points.name_the_others(failure))?;
    for shard in point.bad_shards() {
        session.output.warn(format!("done without shard {} at {}: {}", shard.index, shard.location, shard.why));
    }
    // The bytes are right whatever the chains say: a newer point may exist, and that was said.
    session.output.summary(exit::OK, json!({ "point": chosen.id.to_string(), "bytes": to.bytes }));
    Ok(exit::OK)
}

async fn write(point: &OpenPoint, place: &Place, to: &mut (dyn Write + Send)) -> vault_ops::Result<()> {
    if let PointRoot::Stream(root) = &point.record().root {
        if !place.path.as_os_str().is_empty() && place.path.as_os_str() != root.name.as_str() {
            return Err(OpsError::Refused {
                what: format!(
                    "this point, of source {}, is the one stream {} and holds no {}. Points of files: --source NAME",
                    point.record().source,
                    root.name,
                    path_text(&place.path)
                ),
            });
        }
        write_stream(point, root, to).await?;
        return to.flush().map_err(|error| OpsError::Io { what: "writing to standard output".to_owned(), error });
    }
    let tree = PointTree::of(point)?;
    match tree.look(&place.path).await? {
        Found::Entry(entry) if entry.kind == EntryKind::File => tree.write_file(&entry, to).await,
        found @ (Found::Top | Found::Entry(_)) => {
            let what = match found {
                Found::Top => "the whole point".to_owned(),
                Found::Entry(entry) => format!("a {}", kind_text(entry.kind)),
            };
            Err(OpsError::Refused {
                what: format!(
                    "{} is {what} and not a file. List it with: holdfast vault ls POINT:PATH",
                    if place.path.as_os_str().is_empty() { "that".to_owned() } else { path_text(&place.path) }
                ),
            })
        }
    }
}

fn say_what_came(error: OpsError, bytes: u64) -> Failure {
    let failure = Failure::from(error);
    if bytes == 0 {
        return failure;
    }
    let text = format!(
        "{}. The first {} ({bytes} bytes) on standard output are right, and they are not the whole file",
        failure.text,
        bytes_text(bytes)
    );
    Failure { text, ..failure }
}

/// Counts what standard output took.
struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
