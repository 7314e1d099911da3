//! `holdfast janitor`: one round of what makes room, for a timer; and what all
//! commands of the janitor have in common.
//!
//! What always holds: nothing that a rule does not let go is forgotten, and more than
//! half is never let go without somebody who typed the vault's name.

use std::sync::Arc;

use agent_daemon::assembly::{self, Assembled};
use keys::files::{JanitorKey, OperatorKey, ReadKey};
use serde_json::{Value, json};
use vault_ops::forget::PointLine;
use vault_ops::gc::GcOptions;
use vault_ops::janitor::Janitor;
use vault_ops::points::point_text;

use crate::exit::{self, Failure, Outcome};
use crate::output::time_text;
use crate::session::{Session, lease};
use crate::{vault_forget, vault_gc};

/// Forgets by the policies, then frees what has been in the trash for long enough.
pub(crate) async fn run(session: &Session) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "janitor")?;
    let opened = assembly::open_vault_as_admin(&config, &name, session.world.clone()).await?;
    let janitor = janitor(session, &opened)?;
    let owed = vault_forget::by_policies(session, &config, &name, &opened, &janitor).await?;
    // What was just forgotten is not seen by what was opened before.
    let opened = assembly::open_vault_as_admin(&config, &name, session.world.clone()).await?;
    let exit = vault_gc::apply(session, &opened, &janitor, &GcOptions::default()).await?;
    Ok(if owed == 0 { exit } else { exit.max(exit::WARNINGS) })
}

/// The janitor's own key; else the operator's and the read key together.
pub(crate) fn janitor(session: &Session, opened: &Assembled) -> Result<Janitor, Failure> {
    let folder = &opened.keys;
    if folder.janitor_key().exists() {
        let key: JanitorKey = session.key(&folder.janitor_key())?;
        return Ok(Janitor::Own(Arc::new(key)));
    }
    if !folder.operator_key().exists() || !folder.read_key().exists() {
        return Err(Failure::new(
            exit::KEY,
            "this takes the janitor's key (janitor.key), or the operator's and the read key together; they are not on \
             this host, as it should be on one that is backed up. Run it where they are",
        ));
    }
    let operator: OperatorKey = session.operator_key(folder, &opened.vault)?;
    let mut read: ReadKey = session.key(&folder.read_key())?;
    opened.vault.complete(&mut read)?;
    Ok(Janitor::Operator { operator: Arc::new(operator), read: Some(Arc::new(read)) })
}

pub(crate) fn is_confirmed(name: &str, given: Option<&String>) -> Result<bool, Failure> {
    match given {
        None => Ok(false),
        Some(given) if given == name => Ok(true),
        Some(given) => Err(Failure::new(
            exit::USAGE,
            format!("--confirm {given}: the vault's name is {name}; nothing was changed"),
        )),
    }
}

pub(crate) fn tell_point(session: &Session, what: &str, line: &PointLine, more: Value) {
    let (id, time) = (point_text(line.point), time_text(line.time_ms));
    let pinned = if line.pinned { "  (pinned)" } else { "" };
    session.output.say(format!("{what:<8} {id:<10} {time:<22} {}  {}{pinned}", line.source, line.tags.join(" ")));
    let mut fields = json!({ "action": what, "point": line.point.to_string(), "source": line.source,
                             "time_ms": line.time_ms, "pinned": line.pinned });
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    session.output.event("point", fields);
}
