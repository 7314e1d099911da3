//! The part of `holdfast vault restore` that is about trees of files: what is wished,
//! the plan before anything is removed, and the report after.
//!
//! What always holds: what is removed was shown before and agreed to; a dry run writes
//! nothing; success is said only of what was compared or written, and never of a restore in
//! which anything is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use agent_sources::path_text::path_text;
use agent_sources::selection::Selection;
use agent_sources::tree::{
    Overwrite, OwnerMap, OwnerRule, Plan, TreeOptions, TreeReport, Unread, Wishes, plan, restore,
};
use serde_json::{Map, Value, json};
use vault_format::point::TreeRoot;
use vault_ops::restore::OpenPoint;

use crate::arguments::RestoreArguments;
use crate::ceremony_terminal::Terminal;
use crate::exit::{self, Failure};
use crate::output::bytes_text;
use crate::point_words::{Place, path_fields};
use crate::session::Session;
use crate::vault_restore::{Restored, is_occupied};

/// Lines of each kind that people are shown; programs get all.
const SHOWN: usize = 20;

/// What the arguments wish, as far as it can be checked without a point.
pub(crate) fn wishes(arguments: &RestoreArguments, place: &Place) -> Result<Wishes, Failure> {
    let options = TreeOptions::default();
    let owner_map = OwnerMap::new(arguments.owner, options.as_root, &arguments.map_user, &arguments.map_group)?;
    Ok(Wishes {
        options,
        part: place.path.clone(),
        selection: Selection::new(&arguments.include, &arguments.exclude)?,
        overwrite: arguments.overwrite.unwrap_or_default(),
        owners: arguments.owner,
        owner_map: Arc::new(owner_map),
        verify: arguments.verify,
        sparse: arguments.sparse,
        check_room: !arguments.no_room_check,
        ..Wishes::default()
    })
}

/// `never`, `if-newer` or `always`.
pub(crate) fn overwrite(text: &str) -> Result<Overwrite, String> {
    match text {
        "never" => Ok(Overwrite::Never),
        "if-newer" => Ok(Overwrite::IfNewer),
        "always" => Ok(Overwrite::Always),
        _ => Err("never, if-newer or always".to_owned()),
    }
}

/// `numbers`, `names` or `nobody`.
pub(crate) fn owner(text: &str) -> Result<OwnerRule, String> {
    match text {
        "numbers" => Ok(OwnerRule::Numbers),
        "names" => Ok(OwnerRule::Names),
        "nobody" => Ok(OwnerRule::Nobody),
        _ => Err("numbers, names or nobody".to_owned()),
    }
}

/// Plans, asks where something is removed, restores and reports.
pub(crate) async fn run(
    session: &Session,
    point: &OpenPoint,
    root: &TreeRoot,
    arguments: &RestoreArguments,
    mut wishes: Wishes,
) -> Result<Restored, Failure> {
    let to = &arguments.to;
    point.take_what_is_left();
    if arguments.dry_run {
        let plan = plan(point, root, to, &wishes).await?;
        return Ok(show_plan(session, &plan, arguments, &wishes));
    }
    if arguments.delete {
        let plan = plan(point, root, to, &wishes).await?;
        wishes.remove = agreed(session, &plan, arguments, &wishes)?;
    }
    wishes.progress = session.world.progress.clone();
    let shown = session.shows("restore");
    let restored = restore(point, root, to, &wishes).await;
    drop(shown);
    let report = restored.map_err(|error| {
        let failure = Failure::from(error);
        // A refusal says so itself, and wrote nothing.
        if failure.exit == exit::USAGE || !is_occupied(to).unwrap_or(false) {
            return failure;
        }
        let text = format!(
            "{}. {} holds what was restored until then, whole files only, and is not complete: run the same command \
             again, and it compares what is there and goes on",
            failure.text,
            to.display()
        );
        Failure { text, ..failure }
    })?;
    tell_unmet(session, &wishes.owner_map);
    let mut restored = told(session, root, &report);
    let met = report.files + report.symlinks + report.hard_links + report.special + report.already + report.kept;
    if !arguments.include.is_empty() && met + report.directories == 0 && restored.exit == exit::OK {
        session.output.warn("nothing in the point matches --include: nothing was restored. See what it holds: holdfast vault ls -R POINT");
        restored.exit = exit::WARNINGS;
    }
    Ok(restored)
}

/// What a dry run says.
fn show_plan(session: &Session, plan: &Plan, arguments: &RestoreArguments, wishes: &Wishes) -> Restored {
    let output = session.output;
    output.say(format!(
        "would write {} files ({}), {} folders, {} links and others to {}",
        plan.files,
        bytes_text(plan.bytes),
        plan.directories,
        plan.others,
        arguments.to.display()
    ));
    if plan.already > 0 {
        output.say(format!("there already, to be compared: {} ({})", plan.already, bytes_text(plan.already_bytes)));
    }
    if plan.kept > 0 {
        output.say(format!("kept as they are: {}", plan.kept));
    }
    tell_paths(session, "replaced", "would be replaced", plan.replaced.iter());
    for conflict in &plan.conflicts {
        output.warn(format!("{}: {}", conflict.path, conflict.why));
    }
    if arguments.delete {
        tell_surplus(session, plan);
    }
    let fits = plan.bytes <= plan.room;
    output.say(format!("room there: {}{}", bytes_text(plan.room), if fits { "" } else { "; it does not fit" }));
    let refused = plan.foreign.as_ref().filter(|_| wishes.overwrite == Overwrite::Refuse);
    if let Some(foreign) = refused {
        output.warn(format!(
            "it would be refused: {}: {}. Say with --overwrite never, if-newer or always what may be done to what is there",
            foreign.path, foreign.why
        ));
    }
    tell_unmet(session, &wishes.owner_map);
    tell_unread(session, &plan.unread);
    let exit = match (refused.is_some(), exit_of_unread(&plan.unread), fits && plan.conflicts.is_empty()) {
        (true, ..) => exit::USAGE,
        (false, exit::OK, false) => exit::WARNINGS,
        (false, exit, _) => exit,
    };
    output.say("nothing was written");
    let more = json!({
        "dry_run": true, "files": plan.files, "folders": plan.directories, "others": plan.others, "bytes": plan.bytes,
        "already": plan.already, "already_bytes": plan.already_bytes, "kept": plan.kept, "replaced": plan.replaced.len(),
        "conflicts": plan.conflicts.len(), "surplus": plan.surplus.len(), "room": plan.room, "fits": fits,
        "unread": plan.unread.len(),
    });
    Restored { bytes: 0, exit, only_planned: true, missing: plan.unread.len(), more }
}

/// The paths that may be removed: all of the plan or, if nobody agrees, an end.
fn agreed(
    session: &Session,
    plan: &Plan,
    arguments: &RestoreArguments,
    wishes: &Wishes,
) -> Result<BTreeSet<PathBuf>, Failure> {
    if plan.surplus.is_empty() || wishes.overwrite == Overwrite::Refuse {
        return Ok(BTreeSet::new());
    }
    tell_surplus(session, plan);
    let names: u64 = plan.surplus.iter().map(|doomed| doomed.names).sum();
    let bytes: u64 = plan.surplus.iter().map(|doomed| doomed.bytes).sum();
    if !arguments.yes {
        let question = format!("Remove these {names} names ({}) for good? (yes/no) ", bytes_text(bytes));
        let agrees = match Terminal::at_hand(session.output) {
            Some(terminal) => terminal.agrees(&question)?,
            None => false,
        };
        if !agrees {
            let text = format!(
                "{names} names ({}) in {} would be removed, and nobody agreed. Nothing was written. To agree, add --yes",
                bytes_text(bytes),
                arguments.to.display()
            );
            return Err(Failure::new(exit::USAGE, text));
        }
    }
    Ok(plan.surplus.iter().map(|doomed| doomed.path.clone()).collect())
}

fn tell_surplus(session: &Session, plan: &Plan) {
    tell_paths(
        session,
        "surplus",
        "the point does not have, and would be removed",
        plan.surplus.iter().map(|one| &one.path),
    );
}

fn tell_paths<'a>(session: &Session, event: &str, what: &str, paths: impl ExactSizeIterator<Item = &'a PathBuf>) {
    let count = paths.len();
    for (at, path) in paths.enumerate() {
        let mut fields = Map::new();
        path_fields(&mut fields, path);
        session.output.event(event, Value::Object(fields));
        if at == 0 {
            session.output.say(format!("{count} {what}:"));
        }
        if at < SHOWN {
            session.output.say(format!("  {}", path_text(path)));
        } else if at == SHOWN {
            session.output.say(format!("  and {} more (all of them with --json)", count - SHOWN));
        }
    }
}

/// Lines of the owners' table that changed nothing: a slip of the pen, or nothing of theirs there.
fn tell_unmet(session: &Session, owner_map: &OwnerMap) {
    for line in owner_map.unmet() {
        session.output.say(format!("{line}: nothing that was looked at belonged to that one"));
    }
}

/// Names what of the point could not be read, by reason.
fn tell_unread(session: &Session, unread: &[Unread]) {
    let output = session.output;
    let mut reasons: BTreeMap<&str, Vec<&Unread>> = BTreeMap::new();
    for one in unread {
        reasons.entry(&one.why).or_default().push(one);
    }
    for (why, missing) in reasons {
        output.warn(format!("{} files or folders could not be read: {why}", missing.len()));
        for one in missing.iter().take(SHOWN) {
            let what = match (one.is_directory, one.stands) {
                (true, _) => " (a folder: what the point holds in it is missing)",
                (false, true) => " (something stood there, was kept, and may not be it)",
                (false, false) => "",
            };
            output.say(format!("  {}{what}", one.path));
        }
        if missing.len() > SHOWN {
            output.say(format!("  and {} more (all of them with --json)", missing.len() - SHOWN));
        }
    }
    for one in unread {
        output.event(
            "unread",
            json!({ "path": one.path, "folder": one.is_directory, "stands": one.stands, "lost": one.is_lost,
                    "why": one.why }),
        );
    }
}

/// Data that nobody has, or that nobody who answers has.
fn exit_of_unread(unread: &[Unread]) -> u8 {
    match (unread.is_empty(), unread.iter().any(|one| one.is_lost)) {
        (true, _) => exit::OK,
        (false, true) => exit::LOST,
        (false, false) => exit::UNREACHABLE,
    }
}

fn told(session: &Session, root: &TreeRoot, report: &TreeReport) -> Restored {
    let output = session.output;
    for odd in &report.inexact {
        output.warn(format!("{}: {}", odd.path, odd.why));
    }
    let root =
        if report.unread.is_empty() { format!("; tree root {} as recorded", root.hash.short()) } else { String::new() };
    let links = report.symlinks + report.hard_links;
    output.say(format!("{} files, {} folders, {links} links{root}", report.files, report.directories));
    if report.already > 0 {
        output.say(format!(
            "there already, compared byte by byte and the same: {} ({})",
            report.already,
            bytes_text(report.already_bytes)
        ));
    }
    for (count, what) in
        [(report.replaced, "replaced"), (report.kept, "kept as they were"), (report.removed, "removed")]
    {
        if count > 0 {
            output.say(format!("{what}: {count}"));
        }
    }
    if let Some(verified) = report.verified {
        output.say(format!("read again and compared: {verified} files, {} differ", report.differs.len()));
    }
    for differs in &report.differs {
        output.warn(format!("{}: {}; restore it again", differs.path, differs.why));
    }
    tell_unread(session, &report.unread);
    let exit = match (exit_of_unread(&report.unread), report.differs.is_empty(), report.inexact.is_empty()) {
        (exit::OK, false, _) => exit::DAMAGE,
        (exit::OK, true, false) => exit::WARNINGS,
        (exit, ..) => exit,
    };
    let more = json!({
        "files": report.files, "folders": report.directories, "already": report.already,
        "already_bytes": report.already_bytes, "replaced": report.replaced, "kept": report.kept,
        "removed": report.removed, "verified": report.verified, "differs": report.differs.len(),
        "inexact": report.inexact.len(), "unread": report.unread.len(),
    });
    Restored { bytes: report.bytes, exit, only_planned: false, missing: report.unread.len(), more }
}
