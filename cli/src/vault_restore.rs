//! `holdfast vault restore`: from the configured vault, from locations given by
//! hand, or from bare shards under any names.

use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_sources::kernel::{LOG_FILE, SNAPSHOT_FILE, restore_kernel};
use agent_sources::stream::restore_stream;
use rand_core::Rng;
use serde_json::{Value, json};
use vault_format::point::{KernelRoot, PointRoot, StreamRoot};
use vault_ops::points::point_text;
use vault_ops::progress::{CountedPoint, Phase, Progress, Total};
use vault_ops::restore::OpenPoint;
use vault_ops::source::PointReader;

use crate::arguments::RestoreArguments;
use crate::exit::{self, Failure, Outcome};
use crate::output::{bytes_text, time_text};
use crate::point_shelf::Points;
use crate::point_words::Place;
use crate::restore_tree;
use crate::session::Session;

/// What was done, for the last line.
pub(crate) struct Restored {
    pub(crate) bytes: u64,
    pub(crate) exit: u8,
    /// Nothing was written: the plan was all that was asked for.
    pub(crate) only_planned: bool,
    /// Files and folders that could not be read, and were named.
    pub(crate) missing: usize,
    pub(crate) more: Value,
}

pub(crate) async fn run(session: &Session, arguments: &RestoreArguments) -> Outcome {
    session.limit_traffic(arguments.limits);
    let started = Instant::now();
    let place = Place::parse(&arguments.point)?;
    let wishes = restore_tree::wishes(arguments, &place)?;
    let points = Points::open(session, &arguments.points, "vault restore POINT --to DIR").await?;
    let chosen = points.choose(session.output, &place.point)?;
    let is_part = !place.path.as_os_str().is_empty() || !wishes.selection.is_all() || arguments.dry_run;
    session.world.progress.begin(Phase::Opening);
    let shown = session.shows("restore");
    let point = if is_part { points.pieces(&points.shelf(), chosen).await } else { points.whole(chosen).await };
    drop(shown);
    let point = point?;
    let record = point.record();
    session.output.say(format!(
        "{}  {} of {}, {}",
        point_text(point.id()),
        record.source,
        record.host,
        time_text(record.finished_ms)
    ));
    let written = match record.root.clone() {
        PointRoot::Tree(root) => restore_tree::run(session, &point, &root, arguments, wishes).await,
        PointRoot::Kernel(root) => {
            refuse_wishes(arguments, is_part)?;
            refuse_occupied(&arguments.to)?;
            let restored = kernel(session, &point, &root, &arguments.to).await;
            let restored = restored.map_err(|failure| say_what_is_left(failure, &beside(&arguments.to)));
            restored.map_err(|failure| say_what_is_left(failure, &arguments.to))
        }
        PointRoot::Stream(root) => {
            refuse_wishes(arguments, is_part)?;
            stream(session, &point, &root, &arguments.to).await
        }
        PointRoot::Postgres(_) => Err(Failure::new(
            exit::USAGE,
            "this point is of a kind that only a newer holdfast restores; nothing was written",
        )),
    };
    let restored = written.map_err(|failure| points.name_the_others(failure))?;
    if restored.only_planned {
        session.output.summary(restored.exit, restored.more);
        return Ok(restored.exit);
    }
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
    let mended = match &points.home {
        Some(home) => home.mend(session, &point.packs_read(), &bad).await,
        None => 0,
    };
    let exit = match restored.exit {
        exit::OK if !bad.is_empty() || !points.newest_known => exit::WARNINGS,
        other => other,
    };
    let (bytes, to) = (bytes_text(restored.bytes), arguments.to.display());
    let seconds = started.elapsed().as_secs_f64();
    if restored.missing == 0 {
        session.output.say(format!("restored {bytes} to {to} in {seconds:.1} s; every byte checked"));
    } else {
        session.output.warn(format!(
            "{to} is NOT COMPLETE: {} files or folders named above are missing. What is there was checked byte by byte \
             ({bytes} in {seconds:.1} s). If what is missing can be read again, the same command adds it; an older point \
             may have it: holdfast vault find NAME",
            restored.missing
        ));
    }
    let mut fields = json!({
        "point": point.id().to_string(), "bytes": restored.bytes, "root_hash": record.root.hash().to_string(),
        "position": record.root.position(), "bad_shards": bad.len(), "mended_shards": mended,
        "complete": restored.missing == 0, "seconds": seconds
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, restored.more) {
        fields.extend(more);
    }
    session.output.summary(exit, fields);
    Ok(exit)
}

/// What only a tree of files has.
fn refuse_wishes(arguments: &RestoreArguments, is_part: bool) -> Result<(), Failure> {
    if is_part || arguments.overwrite.is_some() || arguments.delete || arguments.verify || arguments.maps_owners() {
        return Err(Failure::new(
            exit::USAGE,
            "this point is no tree of files: it is restored as a whole, into a new or empty folder, and always verified. \
             Nothing was written",
        ));
    }
    Ok(())
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

pub(crate) fn is_occupied(folder: &Path) -> std::io::Result<bool> {
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

/// What of so many bytes is read of the point is counted from here on.
fn writing(session: &Session, bytes: u64) -> &Progress {
    session.world.progress.begin_of(Phase::Writing, Total::of_bytes(bytes));
    &session.world.progress
}

async fn stream(session: &Session, point: &OpenPoint, root: &StreamRoot, to: &Path) -> Result<Restored, Failure> {
    let progress = writing(session, root.content.bytes);
    let shown = session.shows("restore");
    let bytes = restore_stream(&CountedPoint { point, progress }, root, to).await;
    drop(shown);
    let bytes = bytes?;
    let path = to.join(&root.name);
    session.output.say(format!("one stream, as {}; its hash {} as recorded", path.display(), root.hash.short()));
    Ok(Restored { bytes, exit: exit::OK, only_planned: false, missing: 0, more: json!({}) })
}

/// The snapshot and log are fetched beside the target, replayed and compared,
/// and only then become a data directory.
async fn kernel(session: &Session, point: &OpenPoint, root: &KernelRoot, to: &Path) -> Result<Restored, Failure> {
    let incoming = beside(to);
    let progress = writing(session, root.snapshot.bytes + root.log.bytes);
    let shown = session.shows("restore");
    let report = restore_kernel(&CountedPoint { point, progress }, root, &incoming).await;
    drop(shown);
    let report = report?;
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
    let bytes = report.snapshot_bytes + report.log_bytes;
    Ok(Restored { bytes, exit: exit::OK, only_planned: false, missing: 0, more: json!({}) })
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
