//! `holdfast vault init`: a new vault on the configured locations, or in local
//! folders with everything else made beside them.

use std::path::{Path, PathBuf};

use agent_daemon::assembly;
use agent_daemon::custody::KEY_HERE;
use backends::disk::{RealDisk, place_file};
use backends::{BackendError, Grade};
use config::{Attached, Config, Encoding, LocalVault, Name};
use keys::files::{MasterSeed, OperatorKey, ReadKey, SealWith, WriterKey};
use keys::first::{FirstKeys, KeyFolder};
use serde_json::json;
use vault_format::layout::Attachment;
use vault_format::suite::{Class, Coding};
use vault_ops::create::{self, CHUNKS_DEFAULT, NewLocation, Shape};
use vault_ops::placement::Tolerance;

use crate::arguments::CopyOfKey;
use crate::exit::{self, Failure, Outcome};
use crate::recovery_sheet;
use crate::session::{Session, host_name};

/// What `--local` asks for.
pub(crate) struct Local {
    pub(crate) root: PathBuf,
    pub(crate) name: String,
    pub(crate) data: u8,
    pub(crate) total: u8,
}

pub(crate) async fn run(session: &Session, local: Option<Local>, copy: &CopyOfKey) -> Outcome {
    recovery_sheet::check(copy)?;
    let local_given = local.is_some();
    let config_path = session.config_path();
    let (config, name) = match local {
        Some(local) => (local_config(&config_path, &local)?, local.name),
        None => session.vault_name()?,
    };
    let vault = &config.vaults[name.as_str()];
    let coding = Coding::new(vault.encoding.data, vault.encoding.total)
        .map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    let new = open_locations(session, &config, &name, local_given).await?;
    // Tests have one disk and need several domains on it; nobody else should set this.
    if std::env::var_os("HOLDFAST_TEST_ONE_DEVICE").is_none() {
        assembly::refuse_shared_devices(&config, &name)?;
    }
    let folder = assembly::key_folder(&config, &name)?;
    if !folder.public().exists() {
        let passphrase = session.passphrase_for_new("operator.key")?;
        let seal = passphrase.map(|passphrase| SealWith::new(passphrase, &mut session.world.rng()));
        FirstKeys::draw(&mut session.world.rng(), &host_name(), session.world.now_ms())
            .save_as(&folder, seal.as_ref())
            .map_err(|error| Failure::new(exit::KEY, error.to_string()))?;
    }
    let keys = load_first(session, &folder)?;
    let shape = Shape {
        name: name.clone(),
        coding,
        survive_domains: vault.survive_domains,
        chunks: CHUNKS_DEFAULT,
        class_max: class_max(vault.pack_leaves_max) as u8,
    };
    let reader = keys.read.generations.last().ok_or_else(|| Failure::new(exit::KEY, "the read key file is empty"))?;
    let root = keys.master.seed.root_key(keys.master.generation);
    let first = create::FirstKeys {
        vault: keys.master.vault,
        root: &root,
        reader: reader.reader.public(),
        janitor: reader.janitor.public(),
        operator: &keys.operator,
        writer: &keys.writer,
    };
    create::create(&session.world, &shape, &first, new).await?;
    let opened = assembly::open_vault(&config, &name, session.world.clone()).await?;
    vault_ops::spool::keep_records(&opened.vault).await.map_err(vault_ops::OpsError::from)?;
    report(session, &config_path, &name, &opened.vault);
    let copied = recovery_sheet::after_init(session, &config, &name, copy).await?;
    end(session, &name, &opened.vault, copied);
    Ok(exit::OK)
}

fn class_max(leaves: u16) -> Class {
    Class::ALL.into_iter().rfind(|class| class.leaves() <= usize::from(leaves)).unwrap_or(Class::Leaves64)
}

/// Writes the starter configuration; the user's own file is never touched.
fn local_config(path: &Path, local: &Local) -> Result<Config, Failure> {
    let root = std::path::absolute(&local.root).map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    let usage = |error: String| Failure::new(exit::USAGE, error);
    let encoding = Encoding::new(local.data.into(), local.total.into()).map_err(usage)?;
    let name = Name::parse(&local.name).map_err(usage)?;
    let rendered = Config::render_local(&LocalVault { name: &name, root: &root, encoding })
        .map_err(|error| usage(error.to_string()))?;
    let config = Config::parse(&rendered).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
    // The same words again, after a run that was killed: it goes on where that ended.
    let begun = std::fs::read(path).is_ok_and(|there| there == rendered.as_bytes());
    if path.exists() && !begun {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "a configuration stands at {} already; nothing was changed. Add locations to it and run `holdfast vault \
                 init`, or name another file with --config",
                path.display()
            ),
        ));
    }
    let written = std::path::absolute(path).and_then(|path| place_file(&RealDisk, &path, rendered.as_bytes()));
    written.map_err(|error| Failure::new(exit::ERROR, format!("writing {}: {error}", path.display())))?;
    Ok(config)
}

pub(crate) async fn open_locations(
    session: &Session,
    config: &Config,
    vault: &str,
    local: bool,
) -> Result<Vec<NewLocation>, Failure> {
    let mut new = Vec::new();
    for name in &config.vaults[vault].locations {
        let location = &config.locations[name];
        let opened = backends::open(assembly::location_spec(location, true)).await.map_err(unreachable)?;
        let mut rng = session.world.rng();
        // Fresh folders of one machine need no probe of what S3 servers differ in.
        let grade = if local {
            Grade::Overwritable
        } else {
            let now =
                || std::time::UNIX_EPOCH + std::time::Duration::from_millis(session.world.now_ms().unsigned_abs());
            // What a probe writes is not locked for long.
            let mut spec = assembly::location_spec(location, false);
            spec.lock_until_ms = None;
            let bare = backends::open(spec).await.map_err(unreachable)?;
            let probe = backends::probe(&bare, &mut rng, &now).await.map_err(unreachable)?;
            session.output.say(format!("{name:<12} {}", probe_text(&probe)));
            opened.set_create(probe.create_as());
            let grade = probe.grade_when(location.lock.is_some());
            if location.lock.is_some() && grade != Grade::Locked {
                return Err(Failure::new(
                    exit::USAGE,
                    format!(
                        "location.{name}.lock is set, and a locked object could be deleted there, or none could be \
                         locked. Nothing was written; make the bucket with object lock, or remove `lock`"
                    ),
                ));
            }
            grade
        };
        new.push(NewLocation {
            name: name.as_str().to_owned(),
            domain: location.domain.clone(),
            url: opened.url().to_owned(),
            endpoint: location.endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
            region: location.region.clone().unwrap_or_default(),
            attached: match location.attached {
                Attached::Always => Attachment::Always,
                Attached::Sometimes => Attachment::Sometimes,
            },
            grade,
            store: std::sync::Arc::clone(opened.store()),
        });
    }
    Ok(new)
}

/// A probe in one line.
pub(crate) fn probe_text(probe: &backends::Probe) -> String {
    let yes = |holds, yes: &'static str, no: &'static str| if holds { yes } else { no };
    let checked = [probe.checksums.md5, probe.checksums.crc32c, probe.checksums.sha256];
    let checksums = match checked.iter().filter(|found| **found == backends::Checked::Honoured).count() {
        _ if checked.contains(&backends::Checked::NotAsked) => "",
        3 => ", checksums ok",
        0 => ", checksums ignored",
        _ => ", checksums in part",
    };
    format!(
        "{:?}, conditional put {:?}, ranges {}{checksums}, delete {}{}{}",
        probe.grade,
        probe.conditional,
        yes(probe.ranges, "ok", "BROKEN"),
        yes(probe.may_delete, "allowed", "refused"),
        yes(probe.keeps_versions, ", keeps versions", ""),
        yes(probe.locks_on_request, ", locks on request", "")
    )
}

fn unreachable(error: BackendError) -> Failure {
    Failure::new(
        exit::UNREACHABLE,
        format!("{error}. Nothing was written; every location must answer when a vault is made"),
    )
}

struct Loaded {
    master: MasterSeed,
    read: ReadKey,
    operator: OperatorKey,
    writer: WriterKey,
}

fn load_first(session: &Session, folder: &KeyFolder) -> Result<Loaded, Failure> {
    Ok(Loaded {
        master: session.key(&folder.master_seed())?,
        read: session.key(&folder.read_key())?,
        operator: session.key(&folder.operator_key())?,
        writer: session.key(&folder.writer_key())?,
    })
}

/// "any 1 domain; 3 of 6 pairs" in words.
pub(crate) fn tolerance_text(tolerance: Tolerance) -> String {
    let any = match tolerance.any_domains {
        0 => "no domain may be lost".to_owned(),
        1 => "you can lose any 1 domain".to_owned(),
        more => format!("you can lose any {more} domains"),
    };
    if tolerance.larger_survived == 0 {
        return any;
    }
    format!(
        "{any}, and {} of {} sets of {}",
        tolerance.larger_survived,
        tolerance.larger_total,
        tolerance.any_domains + 1
    )
}

fn report(session: &Session, config_path: &Path, name: &str, vault: &vault_ops::vault::Vault) {
    let (k, n) = (vault.coding.data_shards(), vault.coding.total_shards());
    let output = session.output;
    output.say(format!("Created vault \"{name}\" ({k} of {n} shards) on {} locations.", vault.locations.len()));
    output.say(format!("Configuration: {}", config_path.display()));
    let domains = vault.domains().len();
    if domains == 1 {
        output.warn(
            "1 failure domain: one disk failure loses everything. Add locations in other domains to the configuration",
        );
    } else {
        output.say(format!("{domains} domains: {}", tolerance_text(vault.promise())));
    }
    output.warn(KEY_HERE);
}

fn end(session: &Session, name: &str, vault: &vault_ops::vault::Vault, copied: &str) {
    let (k, n) = (vault.coding.data_shards(), vault.coding.total_shards());
    let (output, domains) = (session.output, vault.domains().len());
    output.say("Next:  holdfast vault run PATH");
    output.summary(
        exit::OK,
        json!({ "vault": name, "vault_id": vault.id.to_string(), "data": k, "total": n, "domains": domains, "key_copy": copied }),
    );
}
