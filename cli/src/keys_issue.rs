//! `holdfast keys issue` and `keys revoke`: who may do what in a vault.
//!
//! What always holds: a key file is on the disk before the vault hears of its
//! certificate, and the same command takes up what was interrupted; nothing is printed
//! but names and hashes; what was signed before a revocation stays.

use std::path::{Path, PathBuf};

use agent_daemon::assembly::{self, Assembled};
use clap::{Args, ValueEnum};
use keys::certificate::CertifiedKey;
use keys::files::{AuditorKey, JanitorKey, KeyFile, OperatorKey, ReadKey, SealWith, WriterKey};
use keys::issue::{self as draw, Said, ScopeFrom};
use keys::revocation::Position;
use keys::seed::{Generation, Seed};
use serde_json::json;
use vault_format::Blob;
use vault_format::certificate::Role;
use vault_ops::issue::{self, Owed};
use vault_ops::reencrypt;

use crate::arguments::ReadKeyFrom;
use crate::cards::seed_at_hand;
use crate::exit::{self, Failure, Outcome};
use crate::output::time_text;
use crate::session::{Session, lease, read_key};

/// What a key can be issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IssuedRole {
    /// Backs up another host.
    Writer,
    /// Signs what an audit found.
    Auditor,
    /// Forgets and frees space on another machine.
    Janitor,
    /// Seals old packs anew.
    Migrator,
    /// Admits hosts and signs layouts; takes the seed.
    Operator,
}

/// `holdfast keys issue ..`
#[derive(Args, Debug)]
pub(crate) struct IssueArguments {
    /// What the key is for.
    #[arg(long, value_enum)]
    role: IssuedRole,
    /// A name for people [default: the role].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The new key file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A writer that shares this host's chunks: stored once for both, and each can mislead the other.
    #[arg(long)]
    share_scope: bool,
    #[command(flatten)]
    key: ReadKeyFrom,
}

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

fn key_failure(error: &keys::KeysError) -> Failure {
    Failure::new(exit::KEY, error.to_string())
}

pub(crate) async fn issue(session: &Session, arguments: &IssueArguments) -> Outcome {
    let (config, name) = session.vault_name()?;
    let _lease = lease(&assembly::state_paths(&config, &name), "keys issue")?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    let said = Said {
        name: arguments.name.clone().unwrap_or_else(|| role_text(arguments.role).to_owned()),
        serial: issue::next_serial(&opened.vault),
        now_ms: session.world.now_ms(),
    };
    let owed = match arguments.role {
        IssuedRole::Operator => operator(session, &opened, arguments, &said).await?,
        IssuedRole::Writer => {
            let drawn = async || writer(session, &opened, arguments, &said).await;
            admitted(session, &opened, &arguments.out, drawn, |key: &WriterKey| &key.certificates).await?
        }
        IssuedRole::Migrator => {
            let drawn = async || migrator(session, &opened, arguments, &said).await;
            admitted(session, &opened, &arguments.out, drawn, |key: &keys::files::MigratorKey| &key.0.certificates)
                .await?
        }
        IssuedRole::Auditor => {
            let drawn = async || {
                let operator = session.operator_key(&opened.keys, &opened.vault)?;
                draw::auditor(&mut session.world.rng(), &operator, &said).map_err(|error| key_failure(&error))
            };
            admitted(session, &opened, &arguments.out, drawn, |key: &AuditorKey| &key.certificates).await?
        }
        IssuedRole::Janitor => {
            let drawn = async || {
                let operator = session.operator_key(&opened.keys, &opened.vault)?;
                let read = whole_read_key(session, &arguments.key, &opened).await?;
                draw::janitor(&mut session.world.rng(), &operator, &read, &said).map_err(|error| key_failure(&error))
            };
            admitted(session, &opened, &arguments.out, drawn, |key: &JanitorKey| &key.certificates).await?
        }
    };
    for (location, why) in &owed {
        session.output.warn(format!("the certificate is owed to {location}: {why}"));
    }
    let path = arguments.out.display();
    session.output.say(format!("The {} key \"{}\" is in {path}.", role_text(arguments.role), said.name));
    session.output.say(next_step(arguments.role));
    let exit = if owed.is_empty() { exit::OK } else { exit::WARNINGS };
    session.output.summary(
        exit,
        json!({ "role": role_text(arguments.role), "name": said.name, "out": path.to_string(), "owed": owed }),
    );
    Ok(exit)
}

fn role_text(role: IssuedRole) -> &'static str {
    match role {
        IssuedRole::Writer => "writer",
        IssuedRole::Auditor => "auditor",
        IssuedRole::Janitor => "janitor",
        IssuedRole::Migrator => "migrator",
        IssuedRole::Operator => "operator",
    }
}

fn next_step(role: IssuedRole) -> &'static str {
    match role {
        IssuedRole::Writer => {
            "Bring it to that host as writer.key, with vault.pub beside it, and a configuration that names the same \
             locations; then run there: holdfast vault run"
        }
        IssuedRole::Auditor => "Keep it where audits run, with vault.pub beside it.",
        IssuedRole::Janitor => {
            "Bring it to the janitor's machine as janitor.key, with vault.pub beside it; then run there: holdfast janitor"
        }
        IssuedRole::Migrator => "Use it with: holdfast vault reencrypt --migrator FILE",
        IssuedRole::Operator => {
            "Keep it off the hosts that are backed up. The vault record names it; the seed is not needed for what it signs."
        }
    }
}

/// The read key with all generations of the vault's history.
async fn whole_read_key(session: &Session, from: &ReadKeyFrom, opened: &Assembled) -> Result<ReadKey, Failure> {
    let read = read_key(session, from, opened).await?;
    let mut read = std::sync::Arc::into_inner(read)
        .ok_or_else(|| Failure::new(exit::ERROR, "the read key is in use twice; report this"))?;
    opened.vault.complete(&mut read)?;
    Ok(read)
}

async fn writer(
    session: &Session,
    opened: &Assembled,
    arguments: &IssueArguments,
    said: &Said,
) -> Result<WriterKey, Failure> {
    let operator = session.operator_key(&opened.keys, &opened.vault)?;
    let (own, read, seed);
    let from = if arguments.share_scope {
        own = session.key::<WriterKey>(&opened.keys.writer_key())?;
        ScopeFrom::Shared(&own)
    } else if let Some(found) = seed_at_hand(session, &arguments.key.cards, opened).await? {
        seed = found;
        refuse_other_seed(opened, &seed)?;
        ScopeFrom::Seed(&seed.0, seed.1)
    } else {
        read = whole_read_key(session, &arguments.key, opened).await.map_err(|failure| Failure {
            text: format!(
                "{}. A new writer's chunk keys follow from the vault's; without its key say --share-scope, and it shares \
                 those of this host",
                failure.text
            ),
            ..failure
        })?;
        ScopeFrom::Read(&read)
    };
    draw::writer(&mut session.world.rng(), &operator, &opened.vault.record, from, said)
        .map_err(|error| key_failure(&error))
}

async fn migrator(
    session: &Session,
    opened: &Assembled,
    arguments: &IssueArguments,
    said: &Said,
) -> Result<keys::files::MigratorKey, Failure> {
    let operator = session.operator_key(&opened.keys, &opened.vault)?;
    let own: WriterKey = session.key(&opened.keys.writer_key())?;
    let read = whole_read_key(session, &arguments.key, opened).await?;
    draw::migrator(&mut session.world.rng(), &operator, &opened.vault.record, &read, own.scope, said)
        .map_err(|error| key_failure(&error))
}

/// Cards of an earlier generation would name chunks as nobody else does.
fn refuse_other_seed(opened: &Assembled, (seed, generation): &(Seed, Generation)) -> Result<(), Failure> {
    if *seed.root_key(*generation).verifying_key() == opened.vault.root {
        return Ok(());
    }
    Err(Failure::new(
        exit::KEY,
        format!(
            "this is not the seed in force (key check {}); nothing was changed. Bring the cards of the newest generation",
            opened.vault.root.check()
        ),
    ))
}

/// Writes the key file, or takes up one that was written and not admitted; then the
/// vault hears of it.
async fn admitted<T: KeyFile>(
    session: &Session,
    opened: &Assembled,
    out: &Path,
    drawn: impl AsyncFnOnce() -> Result<T, Failure>,
    certificates: impl Fn(&T) -> &Vec<Blob>,
) -> Result<Owed, Failure> {
    let operator = session.operator_key(&opened.keys, &opened.vault)?;
    let key = if out.exists() {
        let there: T = session.key(out)?;
        let own = certificates(&there).last().map(|Blob(bytes)| keys::record::hash(bytes)).unwrap_or_default();
        if there.vault() != opened.vault.id || opened.vault.certificates.contains_key(&own) {
            return Err(Failure::new(
                exit::KEY,
                format!("{} holds a key already and is not overwritten. Say another file with --out", out.display()),
            ));
        }
        there
    } else {
        let key = drawn().await?;
        keys::files::create(out, &key).map_err(|error| key_failure(&error))?;
        key
    };
    let own = certificates(&key).last().cloned().unwrap_or_else(|| Blob(Vec::new()));
    Ok(issue::admit(&opened.vault, &operator, &own).await?)
}

/// A second operator: the root certifies it and names it in the vault record.
async fn operator(
    session: &Session,
    opened: &Assembled,
    arguments: &IssueArguments,
    said: &Said,
) -> Result<Owed, Failure> {
    let seed = seed_at_hand(session, &arguments.key.cards, opened).await?.ok_or_else(|| {
        Failure::new(exit::KEY, "an operator is certified by the root: bring the cards with --card FILE..")
    })?;
    refuse_other_seed(opened, &seed)?;
    let key: OperatorKey = if arguments.out.exists() {
        session.key(&arguments.out)?
    } else {
        let key = draw::operator(&mut session.world.rng(), opened.vault.id, (&seed.0, seed.1), said)
            .map_err(|error| key_failure(&error))?;
        let passphrase = session.passphrase_for_new(&arguments.out.display().to_string())?;
        let seal = passphrase.map(|passphrase| SealWith::new(passphrase, &mut session.world.rng()));
        keys::files::create_as(&arguments.out, &key, seal.as_ref()).map_err(|error| key_failure(&error))?;
        key
    };
    if key.vault != opened.vault.id || opened.vault.record.operators.contains(&key.certificate) {
        return Err(Failure::new(
            exit::KEY,
            format!(
                "{} holds a key already and is not overwritten. Say another file with --out",
                arguments.out.display()
            ),
        ));
    }
    Ok(vault_ops::amend::add_operator(&opened.vault, &seed.0.root_key(seed.1), key.certificate).await?)
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
        let seed = seed_at_hand(session, &arguments.cards, &opened).await?.ok_or_else(|| {
            Failure::new(exit::KEY, "only the root revokes an operator: bring the cards with --card FILE..")
        })?;
        refuse_other_seed(&opened, &seed)?;
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

/// The migrator of a scope: its file, or a new one that this host's operator certifies.
pub(crate) async fn migrator_of(
    session: &Session,
    opened: &Assembled,
    read: &ReadKey,
    scope: vault_format::ScopeId,
    out: &Path,
) -> Result<WriterKey, Failure> {
    let said = Said {
        name: format!("migrator of {}", scope.short()),
        serial: issue::next_serial(&opened.vault),
        now_ms: session.world.now_ms(),
    };
    let known = out.exists() && {
        let there: keys::files::MigratorKey = session.key(out)?;
        let own: Option<CertifiedKey> = there.certified().ok();
        own.is_some_and(|own| opened.vault.writers.contains_key(&own.certificate_hash()))
    };
    if !known {
        let drawn = async || {
            let operator = session.operator_key(&opened.keys, &opened.vault)?;
            draw::migrator(&mut session.world.rng(), &operator, &opened.vault.record, read, scope, &said)
                .map_err(|error| key_failure(&error))
        };
        admitted(session, opened, out, drawn, |key: &keys::files::MigratorKey| &key.0.certificates).await?;
    }
    let mut key: keys::files::MigratorKey = session.key(out)?;
    opened.vault.follow(&mut key.0)?;
    if key.0.scope != scope {
        return Err(Failure::new(
            exit::KEY,
            format!("{} is a migrator of another scope; say another file with --migrator", out.display()),
        ));
    }
    Ok(key.0)
}

/// Scopes of a plan in words, for who must choose.
pub(crate) fn scopes_text(plan: &reencrypt::Plan) -> String {
    plan.scopes().iter().map(vault_format::ScopeId::short).collect::<Vec<_>>().join(", ")
}
