//! Reading a restored tree again: everything selected is compared with the point,
//! whose listings are checked to the tree root once more on the way.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd};

use vault_format::tree::{Entry, EntryKind};
use vault_ops::Result;

use super::compare::{Compared, compare, standing};
use super::{Inexact, Start, TreeReport, Unread, Wishes, shown};
use crate::descent::{Descent, open_directory};
use crate::metadata::MODE_BITS;
use crate::owners::{Giving, Owner};
use crate::point_tree::Step;
use crate::selection::Verdict;

/// Compares and adds what it finds to the report.
pub(super) async fn run(start: &Start<'_>, target: OwnedFd, wishes: &Wishes, report: &mut TreeReport) -> Result<()> {
    let mut walk = start.walk();
    let mut descent = Descent::new(target);
    let mut verdicts = vec![start.verdict(wishes)];
    let mut verified = 0;
    let giving = Giving::new(wishes.owners, wishes.options.as_root);
    let known: BTreeSet<String> = report.inexact.iter().map(|one| one.path.clone()).collect();
    let unread: BTreeSet<String> = report.unread.iter().map(|one| one.path.clone()).collect();
    while let Some(step) = walk.step().await? {
        let entry = match step {
            Step::Entry(entry) => entry,
            Step::Leave => {
                descent.leave();
                verdicts.pop();
                continue;
            }
            Step::Unread => {
                let path = shown(start.below(walk.path()));
                report.unread.extend(walk.take_unread().map(|error| Unread::new(path, true, &error)));
                continue;
            }
        };
        let above = verdicts.last().copied().unwrap_or(Verdict::Leave);
        let is_dir = entry.kind == EntryKind::Directory;
        let verdict = wishes.selection.verdict(walk.path(), is_dir, above);
        let path = shown(start.below(walk.path()));
        // What is not there because it was not asked for, or because the report names it already.
        let is_known = !is_dir && known.contains(&path) || unread.contains(&path);
        let skipped = match verdict {
            Verdict::Leave => true,
            Verdict::Take => entry.kind == EntryKind::Socket || is_known,
            Verdict::Pass => is_known,
        };
        if skipped {
            walk.skip();
            continue;
        }
        let differs = |why: String| Inexact { path: path.clone(), why };
        if is_dir {
            let entered = descent.here().and_then(|here| open_directory(here, &entry.name.0));
            match entered.and_then(|directory| descent.enter(directory)) {
                Ok(()) => verdicts.push(verdict),
                Err(error) => {
                    // Nothing below a directory that is only passed may have been selected.
                    if verdict == Verdict::Take {
                        report.differs.push(differs(format!("it cannot be read again: {error}")));
                    }
                    walk.skip();
                }
            }
            continue;
        }
        let here = descent.here().map_err(|error| crate::target::io_error(format!("finding {path} again"), error))?;
        let compared = match compare(start.tree, here, &entry, true).await {
            Err(error) if error.is_of_stored_bytes() => {
                report.unread.push(Unread::new(path, false, &error));
                continue;
            }
            Err(error) => return Err(error),
            Ok(compared) => compared,
        };
        match compared {
            Ok(Compared::Same(_)) => {
                if entry.kind == EntryKind::File {
                    verified += 1;
                    wishes.progress.add_items(1);
                    wishes.progress.add_bytes(crate::listing::stored_bytes(&entry));
                }
                if let Some(why) = attributes_differ(here, &entry, giving.owner(&entry), wishes) {
                    report.inexact.push(differs(why));
                }
            }
            Ok(Compared::Differs(why)) => report.differs.push(differs(why.to_owned())),
            Err(error) => report.differs.push(differs(format!("it cannot be read again: {error}"))),
        }
    }
    report.verified = Some(verified);
    Ok(())
}

/// What of a file's attributes is not as recorded or wished, though nothing failed to be set.
fn attributes_differ(here: BorrowedFd<'_>, entry: &Entry, owner: Option<Owner>, wishes: &Wishes) -> Option<String> {
    if !wishes.overwrite.sets_directories() {
        return None;
    }
    let stat = standing(here, &entry.name.0).ok().flatten()?;
    let found = Owner { uid: stat.st_uid, gid: stat.st_gid };
    if let Some(Owner { uid, gid }) = owner.filter(|owner| *owner != found) {
        return Some(format!("it belongs to {}:{}, and was given to {uid}:{gid}", found.uid, found.gid));
    }
    if entry.kind != EntryKind::Symlink && stat.st_mode & MODE_BITS != entry.mode {
        return Some(format!("its mode reads {:04o}, recorded {:04o}", stat.st_mode & MODE_BITS, entry.mode));
    }
    (stat.st_mtime != entry.mtime_s).then(|| "its modification time reads otherwise".to_owned())
}
