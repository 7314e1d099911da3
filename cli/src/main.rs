//! The `holdfast` binary: arguments in, text and exit codes out. What is done is
//! done elsewhere.

mod agent;
mod arguments;
mod card_checks;
mod cards;
mod ceremony;
mod ceremony_canary;
mod ceremony_cards;
mod ceremony_end;
mod ceremony_host;
mod ceremony_room;
mod ceremony_stop;
mod ceremony_terminal;
mod death;
mod doctor;
mod doctor_locations;
mod drill;
mod exit;
mod given;
mod janitor;
mod kernel;
mod kernel_put;
mod keys_commands;
mod keys_issue;
mod keys_recover;
mod keys_revoke;
mod keys_rotate;
mod keys_seal;
mod keys_status;
mod keys_verify;
mod output;
mod passphrase;
mod point_shelf;
mod point_words;
mod progress;
mod read_repair;
mod recovery_sheet;
mod restore_tree;
mod rotation_files;
mod rotation_words;
mod session;
mod traffic;
mod vault_adopt;
mod vault_audit;
mod vault_cat;
mod vault_deliver;
mod vault_diff;
mod vault_estimate;
mod vault_find;
mod vault_forget;
mod vault_gc;
mod vault_import;
mod vault_init;
mod vault_location;
mod vault_lock;
mod vault_look;
mod vault_ls;
mod vault_mend;
mod vault_pin;
mod vault_reencrypt;
mod vault_refound;
mod vault_restore;
mod vault_run;
mod vault_trash;

use std::process::ExitCode;

use arguments::{
    Arguments, Command, ConfigCommand, DrillCommand, InitArguments, KeysCommand, LockCommand, VaultCommand,
};
use clap::Parser;
use exit::{Failure, Outcome};
use session::Session;

fn main() -> ExitCode {
    let words = called_as(std::env::args_os().collect());
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return refuse_words(&words, &error),
    };
    let output = output::Output::new(arguments.global.json, arguments.global.quiet);
    log_to_stderr(&arguments.global);
    keep_memory_private();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.exit_error(exit::ERROR, &format!("starting the runtime: {error}"));
            return ExitCode::from(exit::ERROR);
        }
    };
    let outcome = runtime.block_on(run(arguments));
    // A thread still reading a source is not waited for: what it reads does not count any more.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            output.exit_error(failure.exit, &failure.text);
            ExitCode::from(failure.exit)
        }
    }
}

/// What clap says of words that are no command; with `--json` as a line of JSON.
fn refuse_words(words: &[std::ffi::OsString], error: &clap::Error) -> ExitCode {
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    if error.use_stderr() && json {
        output::Output::new(true, false).exit_error(exit::USAGE, error.to_string().trim_end());
    } else {
        // Nobody left to tell if this fails.
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK })
}

/// Keys are in memory here: a core dump or swap would write them to disk, and a debugger
/// of the same user would read them. Where the system refuses, the program works as well as
/// before, and `doctor` says so.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    keys::locked::from_now_on();
}

fn log_to_stderr(global: &arguments::Global) {
    use std::io::IsTerminal;
    let level = match global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::standard_error)
        .with_ansi(std::io::stderr().is_terminal());
    if global.json { log.json().init() } else { log.init() }
}

/// Called through a link named `vault`, `keys` or `drill` the program behaves as
/// that subcommand.
fn called_as(mut words: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let name = words.first().map(|word| std::path::Path::new(word).file_name().unwrap_or_default().to_owned());
    if let Some(name) = name.filter(|name| *name == "vault" || *name == "keys" || *name == "drill") {
        words.insert(1, name);
    }
    words
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let verbose = arguments.global.verbose > 0;
    let mut session = Session::new(arguments.global)?;
    if matches!(arguments.command, Command::Vault { command: VaultCommand::Cat(_) }) {
        session.output = session.output.beside_data();
    }
    let outcome = match arguments.command {
        Command::Kernel { command } => {
            kernel::run(session.output, command).await.map_err(|error| kernel_failure(&error))
        }
        Command::Vault { command } => vault(&session, command).await,
        Command::Keys { command } => keys_command(&session, command).await,
        Command::Agent => agent::run(&session).await,
        Command::Janitor => janitor::run(&session).await,
        Command::Doctor { location } => doctor::run(&session, location.as_deref()).await,
        Command::Demo { dir } => demo(&session, dir).await,
        Command::Drill { command: DrillCommand::Sim(arguments) } => {
            let output = session.output;
            tokio::task::block_in_place(|| drill::sim(output, verbose, arguments))
        }
        Command::Config { command } => config(&session, &command),
    };
    outcome.map(ExitCode::from)
}

/// A node that does not answer has a code of its own.
fn kernel_failure(error: &anyhow::Error) -> Failure {
    let unreachable = error
        .downcast_ref::<kernel_client::Error>()
        .is_some_and(|error| matches!(error, kernel_client::Error::Unreachable { .. }));
    Failure::new(if unreachable { exit::NOT_RUNNING } else { exit::ERROR }, format!("{error:#}"))
}

async fn vault(session: &Session, command: VaultCommand) -> Outcome {
    match command {
        VaultCommand::Init(arguments) if !arguments.scan.is_empty() => vault_refound::run(session, &arguments).await,
        VaultCommand::Init(arguments) if arguments.adopt => vault_adopt::run(session, &arguments).await,
        VaultCommand::Init(arguments) => {
            let InitArguments { local, name, data, total, copy, .. } = arguments;
            let name = name.unwrap_or_else(|| "demo".to_owned());
            let local = local.map(|root| vault_init::Local { root, name, data, total });
            vault_init::run(session, local, &copy).await
        }
        VaultCommand::Run(arguments) => vault_run::run(session, arguments).await,
        VaultCommand::Estimate(arguments) => vault_estimate::run(session, &arguments).await,
        VaultCommand::Deliver { set_aside, apply } => vault_deliver::run(session, set_aside, apply).await,
        VaultCommand::Status => vault_look::status(session).await,
        VaultCommand::Snapshots(arguments) => vault_look::snapshots(session, &arguments).await,
        VaultCommand::Ls(arguments) => vault_ls::run(session, &arguments).await,
        VaultCommand::Find(arguments) => vault_find::run(session, &arguments).await,
        VaultCommand::Diff(arguments) => vault_diff::run(session, &arguments).await,
        VaultCommand::Cat(arguments) => vault_cat::run(session, &arguments).await,
        VaultCommand::Restore(arguments) => vault_restore::run(session, &arguments).await,
        VaultCommand::Audit { location, history: true, .. } => vault_audit::history(session, location.as_deref()).await,
        VaultCommand::Audit { samples, budget, location, full, history: false } => {
            vault_audit::run(session, vault_audit::Wanted { samples, budget, location, full }).await
        }
        VaultCommand::Lock { command: LockCommand::Extend { apply, most, .. } } => {
            vault_lock::extend(session, apply, most).await
        }
        VaultCommand::Location { command } => vault_location::run(session, command).await,
        VaultCommand::Repair { apply, .. } => vault_mend::repair(session, apply).await,
        VaultCommand::Forget(arguments) => vault_forget::run(session, &arguments).await,
        VaultCommand::Pin(arguments) => vault_pin::run(session, &arguments, true).await,
        VaultCommand::Unpin(arguments) => vault_pin::run(session, &arguments, false).await,
        VaultCommand::Trash { command } => vault_trash::run(session, &command).await,
        VaultCommand::Reencrypt(arguments) => vault_reencrypt::run(session, &arguments).await,
        VaultCommand::Gc(arguments) => vault_gc::run(session, &arguments).await,
        VaultCommand::ImportOrphans { from, apply, key, reach, .. } => {
            vault_import::run(session, &from, &reach, apply, &key).await
        }
    }
}

async fn keys_command(session: &Session, command: KeysCommand) -> Outcome {
    match command {
        KeysCommand::Init { keys_dir } => keys_commands::init(session, keys_dir),
        KeysCommand::Split(split) => ceremony::run(session, split.deal("split")).await,
        KeysCommand::Reshare(split) => ceremony::run(session, split.deal("reshare")).await,
        KeysCommand::Recover { cards, out, from, reach } => {
            keys_recover::run(session, &cards, &out, &from, &reach).await
        }
        KeysCommand::VerifyCard { card, from, reach } => {
            keys_verify::card(session, card.as_deref(), &from, &reach).await
        }
        KeysCommand::VerifyTranscript { file, public } => keys_verify::transcript(session, &file, public),
        KeysCommand::Sheet { file, page } => {
            recovery_sheet::run(session, recovery_sheet::Paper { path: file, page }).await
        }
        KeysCommand::Seal(arguments) => keys_seal::seal(session, arguments),
        KeysCommand::Unseal { file } => keys_seal::unseal(session, &file),
        KeysCommand::Status { keys_dir } => keys_status::run(session, keys_dir).await,
        KeysCommand::Issue(arguments) => keys_issue::issue(session, &arguments).await,
        KeysCommand::Revoke(arguments) => keys_revoke::revoke(session, &arguments).await,
        KeysCommand::Rotate(arguments) => keys_rotate::run(session, &arguments).await,
    }
}

async fn demo(session: &Session, dir: Option<std::path::PathBuf>) -> Outcome {
    let program =
        std::env::current_exe().map_err(|error| Failure::new(exit::ERROR, format!("finding this program: {error}")))?;
    let output = session.output;
    let proof = drills::demo::run(&program, dir, |line| output.say(line)).await?;
    output.summary(exit::OK, proof);
    Ok(exit::OK)
}

fn config(session: &Session, command: &ConfigCommand) -> Outcome {
    let path = session.config_path();
    match command {
        ConfigCommand::Check => {
            let config = session.config()?;
            session.output.say(format!(
                "{} is good: {} vaults, {} locations, {} sources, {} policies",
                path.display(),
                config.vaults.len(),
                config.locations.len(),
                config.sources.len(),
                config.policies.len()
            ));
        }
        ConfigCommand::Show => {
            session.config()?;
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new(exit::ERROR, format!("{}: {error}", path.display())))?;
            session.output.say(text.trim_end());
        }
    }
    session.output.summary(exit::OK, serde_json::json!({ "path": path.display().to_string() }));
    Ok(exit::OK)
}
