//! `holdfast keys revoke`: up to where a lost or stolen key is believed.
//!
//! What always holds: nothing is done without `--apply`; what was signed before a
//! revocation stays; an operator is revoked by the root alone.

use std::path::PathBuf;

use agent_daemon::assembly;
use clap::Args;
use keys::revocation::Position;
use serde_json::json;
use vault_format::certificate::Role;
use vault_ops::issue;

use crate::cards::seed_in_force;
use crate::exit::{self, Failure, Outcome};
use crate::output::time_text;
use crate::session::{Session, lease};

/// `holdfast keys revoke ..`
#[derive(Args, Debug)]
pub(crate) struct RevokeArguments {
    /// Whose: the name, or the first digits of its id or certificate, as `keys status` prints them.
    who: String,
    /// The last place that is believed, as EPOCH.SEQUENCE [default: all that is seen now].
    #[arg(long, value_name = "EPOCH.SEQUENCE")]
    last_good: Option<String>,
    /// Why, for people.
    #[arg(long, value_name = "TEXT", default_value = "revoked by its operator")]
    reason: String,
    /// Only say what would be done (the default).
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    /// Do it.
    #[arg(long)]
    apply: bool,
    /// A card file, to revoke an operator; give as many as the cards say are needed.
    #[arg(long = "card", value_name = "FILE")]
    cards: Vec<PathBuf>,
}

fn place(text: &str) -> Result<Position, Failure> {
    let parsed = text.split_once('.').and_then(|(epoch, sequence)| Some((epoch.parse().ok()?, sequence.parse().ok()?)));
    let (epoch, sequence) = parsed
        .ok_or_else(|| Failure::new(exit::USAGE, format!("--last-good {text}: say EPOCH.SEQUENCE, as in 1.42")))?;
    Ok(Position { epoch, sequence })
}

pub(crate) async fn revoke(session: &Session, arguments: &RevokeArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "keys revoke")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let vault = &opened.vault;
    let (hash, certificate) = issue::find(vault, &arguments.who)?;
    let last = match &arguments.last_good {
        Some(text) => place(text)?,
        None => issue::last_seen(vault, &certificate).await?,
    };
    let output = session.output;
    output.say(format!(
        "{:?} \"{}\" {}, certificate {} (until {})",
        certificate.role,
        certificate.name,
        certificate.subject.short(),
        hash.short(),
        time_text(certificate.not_after_ms)
    ));
    output.say(format!(
        "What it signed up to {}.{} stays good; what it signs after that counts nowhere. Points it made stay.",
        last.epoch, last.sequence
    ));
    output.say(
        "It does not take back what its holder has seen, nor its credentials at the locations: change those there.",
    );
    let fields = json!({ "certificate": hash.to_string(), "subject": certificate.subject.to_string(),
                         "epoch": last.epoch, "sequence": last.sequence, "applied": arguments.apply });
    if !arguments.apply {
        output.say("Nothing was changed. Do it with --apply");
        output.summary(exit::OK, fields);
        return Ok(exit::OK);
    }
    let whom = (hash, certificate.subject);
    let owed = if certificate.role == Role::Operator {
        let seed = seed_in_force(session, &arguments.cards, &opened).await?.ok_or_else(|| {
            Failure::new(exit::KEY, "only the root revokes an operator: bring the cards with --card FILE..")
        })?;
        issue::revoke(vault, &seed.0.root_key(seed.1), whom, last, &arguments.reason).await?
    } else {
        let operator = session.operator_key(&opened.keys, vault)?;
        issue::revoke(vault, &operator.signing, whom, last, &arguments.reason).await?
    };
    for (location, why) in &owed {
        output.warn(format!(
            "the revocation is owed to {location}: {why}. It is healed by: holdfast vault repair --apply"
        ));
    }
    output.say("Revoked. If it was this host's, issue another: holdfast keys issue --role writer --out FILE");
    let exit = if owed.is_empty() { exit::OK } else { exit::WARNINGS };
    output.summary(exit, fields);
    Ok(exit)
}
