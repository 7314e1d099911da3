//! `holdfast keys issue`: who may do what in a vault.
//!
//! What always holds: a key file is on the disk before the vault hears of its
//! certificate, and the same command takes up what was interrupted; nothing is printed
//! but names and hashes.

use std::path::{Path, PathBuf};

use agent_daemon::assembly::{self, Assembled};
use clap::{Args, ValueEnum};
use keys::certificate::CertifiedKey;
use keys::files::{AuditorKey, JanitorKey, KeyFile, OperatorKey, ReadKey, SealWith, WriterKey};
use keys::issue::{self as draw, Said, ScopeFrom};
use serde_json::json;
use vault_format::Blob;
use vault_ops::issue::{self, Owed};
use vault_ops::reencrypt;

use crate::arguments::ReadKeyFrom;
use crate::cards::seed_in_force;
use crate::exit::{self, Failure, Outcome};
use crate::passphrase::key_failure;
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
                draw::auditor(&mut session.world.rng(), &operator, &said).map_err(key_failure)
            };
            admitted(session, &opened, &arguments.out, drawn, |key: &AuditorKey| &key.certificates).await?
        }
        IssuedRole::Janitor => {
            let drawn = async || {
                let operator = session.operator_key(&opened.keys, &opened.vault)?;
                let read = whole_read_key(session, &arguments.key, &opened).await?;
                draw::janitor(&mut session.world.rng(), &operator, &read, &said).map_err(key_failure)
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
        IssuedRole::Auditor => {
            "Keep it where audits run, with vault.pub beside it. An audit itself takes vault.pub alone; no command signs \
             notes with this key yet."
        }
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
    } else if let Some(found) = seed_in_force(session, &arguments.key.cards, opened).await? {
        // Cards of an earlier generation would name chunks as nobody else does.
        seed = found;
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
    draw::writer(&mut session.world.rng(), &operator, &opened.vault.record, from, said).map_err(key_failure)
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
        .map_err(key_failure)
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
        keys::files::create(out, &key).map_err(key_failure)?;
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
    let seed = seed_in_force(session, &arguments.key.cards, opened).await?.ok_or_else(|| {
        Failure::new(exit::KEY, "an operator is certified by the root: bring the cards with --card FILE..")
    })?;
    let key: OperatorKey = if arguments.out.exists() {
        session.key(&arguments.out)?
    } else {
        let key =
            draw::operator(&mut session.world.rng(), opened.vault.id, (&seed.0, seed.1), said).map_err(key_failure)?;
        let passphrase = session.passphrase_for_new(&arguments.out.display().to_string())?;
        let seal = passphrase.map(|passphrase| SealWith::new(passphrase, &mut session.world.rng()));
        keys::files::create_as(&arguments.out, &key, seal.as_ref()).map_err(key_failure)?;
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
                .map_err(key_failure)
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
