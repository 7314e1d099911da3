//! The `holdfast` binary: arguments in, text and exit codes out. What is done is
//! done elsewhere.

mod agent;
mod arguments;
mod exit;
mod kernel;
mod keys_commands;
mod output;
mod session;
mod vault_init;
mod vault_look;
mod vault_mend;
mod vault_restore;
mod vault_run;

use std::process::ExitCode;

use arguments::{Arguments, Command, ConfigCommand, KeysCommand, VaultCommand};
use clap::Parser;
use exit::{Failure, Outcome};
use session::Session;
use vault_ops::audit::AuditOptions;

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(called_as(std::env::args_os().collect()));
    let level = match arguments.global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let output = output::Output::new(arguments.global.json, arguments.global.quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.exit_error(exit::ERROR, &format!("starting the runtime: {error}"));
            return ExitCode::from(exit::ERROR);
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(failure) => {
            output.exit_error(failure.exit, &failure.text);
            ExitCode::from(failure.exit)
        }
    }
}

/// Called through a link named `vault`, `keys` or `drill` the program behaves as
/// that subcommand.
fn called_as(mut words: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let name = words.first().map(|word| std::path::Path::new(word).file_name().unwrap_or_default().to_owned());
    if let Some(name) = name.filter(|name| *name == "vault" || *name == "keys") {
        words.insert(1, name);
    }
    words
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let session = Session::new(arguments.global)?;
    let outcome = match arguments.command {
        Command::Kernel { command } => return kernel::run(command).await.map_err(kernel_failure),
        Command::Vault { command } => vault(&session, command).await,
        Command::Keys { command } => keys_command(&session, command).await,
        Command::Agent => agent::run(&session).await,
        Command::Demo { dir } => demo(&session, dir).await,
        Command::Config { command } => config(&session, &command),
    };
    outcome.map(ExitCode::from)
}

/// A node that does not answer has a code of its own.
fn kernel_failure(error: anyhow::Error) -> Failure {
    let unreachable = error
        .downcast_ref::<kernel_client::Error>()
        .is_some_and(|error| matches!(error, kernel_client::Error::Unreachable { .. }));
    Failure::new(if unreachable { exit::NOT_RUNNING } else { exit::ERROR }, format!("{error:#}"))
}

async fn vault(session: &Session, command: VaultCommand) -> Outcome {
    match command {
        VaultCommand::Init { local, name, data, total } => {
            let local = local.map(|root| vault_init::Local { root, name, data, total });
            vault_init::run(session, local).await
        }
        VaultCommand::Run { what, tag } => vault_run::run(session, what, tag).await,
        VaultCommand::Status => vault_look::status(session).await,
        VaultCommand::Snapshots { key } => vault_look::snapshots(session, &key).await,
        VaultCommand::Restore(arguments) => vault_restore::run(session, &arguments).await,
        VaultCommand::Audit { samples, location, full } => {
            vault_look::audit(session, AuditOptions { samples, location, full }).await
        }
        VaultCommand::Repair { apply, .. } => vault_mend::repair(session, apply).await,
        VaultCommand::ImportOrphans { from, apply, key, .. } => {
            vault_mend::import_orphans(session, &from, apply, &key).await
        }
    }
}

async fn keys_command(session: &Session, command: KeysCommand) -> Outcome {
    match command {
        KeysCommand::Init { keys_dir } => keys_commands::init(session, keys_dir),
        KeysCommand::Split { cards, need, cards_dir, remove_seed, keys_dir } => {
            let split = keys_commands::Split { cards, need, cards_dir, remove_seed, keys_dir };
            keys_commands::split(session, split).await
        }
        KeysCommand::Recover { cards, out } => keys_commands::recover(session, &cards, &out),
        KeysCommand::Status { keys_dir } => keys_commands::status(session, keys_dir),
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
    match command {
        ConfigCommand::Check => {
            let config = session.config()?;
            session.output.say(format!(
                "{} is good: {} vaults, {} locations, {} sources, {} policies",
                session.config_path().display(),
                config.vaults.len(),
                config.locations.len(),
                config.sources.len(),
                config.policies.len()
            ));
        }
        ConfigCommand::Show => {
            session.config()?;
            let path = session.config_path();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new(exit::ERROR, format!("{}: {error}", path.display())))?;
            session.output.say(text.trim_end());
        }
    }
    Ok(exit::OK)
}
