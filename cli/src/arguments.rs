//! The arguments as they are typed. Checking them against the world is the
//! commands' business.

use std::path::PathBuf;

use agent_sources::tree::{Overwrite, OwnerLine, OwnerRule};
use clap::{Args, Parser, Subcommand};
use keys::page::PageFormat;

use crate::ceremony::Deal;
use crate::drill::SimArguments;
use crate::kernel::KernelCommand;
use crate::keys_issue::IssueArguments;
use crate::keys_revoke::RevokeArguments;
use crate::keys_rotate::RotateArguments;
use crate::keys_seal::SealArguments;
use crate::passphrase::PassphraseFrom;
use crate::point_words::Typed;
use crate::progress;
use crate::restore_tree;
use crate::traffic::LimitArguments;
use crate::vault_cat::CatArguments;
use crate::vault_diff::DiffArguments;
use crate::vault_find::FindArguments;
use crate::vault_forget::ForgetArguments;
use crate::vault_gc::GcArguments;
use crate::vault_location::LocationCommand;
use crate::vault_look::SnapshotsArguments;
use crate::vault_ls::LsArguments;
use crate::vault_pin::PinArguments;
use crate::vault_reencrypt::ReencryptArguments;
use crate::vault_run::RunArguments;
use crate::vault_trash::TrashCommand;

/// Backups that prove they can be restored.
#[derive(Parser, Debug)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Accepted by every command.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// Configuration file [default: $HOLDFAST_CONFIG, else ~/.config/holdfast/config.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Which vault of the configuration, if it names several.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) vault: Option<String>,
    /// Print JSON lines instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How progress is shown on standard error: a bar on a terminal (auto), a line every few seconds (plain; JSON with
    /// --json), or nothing.
    #[arg(long, global = true, value_name = "auto|bar|plain|none", value_parser = progress::style, default_value = "auto")]
    pub(crate) progress: progress::Style,
    /// Print problems only.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Log what happens inside; twice for more.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseFrom,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make and use a vault.
    Vault {
        #[command(subcommand)]
        command: VaultCommand,
    },
    /// Make, split and recover keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Run a kernel node and talk to it.
    Kernel {
        #[command(subcommand)]
        command: KernelCommand,
    },
    /// Run the agent: backups on the schedules of the configuration, until stopped.
    Agent,
    /// One round of the janitor, for a timer: forget by the policies, then free what is due.
    Janitor,
    /// Look at this host and its locations: what is wrong, what it means, what to do.
    Doctor {
        /// Probe this location only.
        #[arg(long, value_name = "NAME")]
        location: Option<String>,
    },
    /// The whole story on this machine: node, backup, disaster, cards, restore, proof.
    Demo {
        /// Where to play it; a new or empty folder [default: a temporary one, removed afterwards].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Rehearse disasters.
    Drill {
        #[command(subcommand)]
        command: DrillCommand,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// `holdfast vault ..`
#[derive(Subcommand, Debug)]
pub(crate) enum VaultCommand {
    /// Make a new vault on the locations of the configuration, or in local folders.
    Init(InitArguments),
    /// Back up a source of the configuration, or files and folders.
    Run(RunArguments),
    /// Say what a run would read and store: the same as run --dry-run.
    Estimate(RunArguments),
    /// Bring the points that wait in this host's spool to the locations.
    Deliver {
        /// Say which points cannot be delivered, and what would be moved out of the way.
        #[arg(long)]
        set_aside: bool,
        /// Move it: to a folder beside the spool's own, nothing is deleted.
        #[arg(long, requires = "set_aside")]
        apply: bool,
    },
    /// Say what can be lost, what is missing, and what to do.
    Status,
    /// List the points.
    Snapshots(SnapshotsArguments),
    /// List what a folder of a point holds.
    Ls(LsArguments),
    /// Look for a name in all points, and say in which each version stands.
    Find(FindArguments),
    /// Say what changed between two points.
    Diff(DiffArguments),
    /// Write a file of a point to standard output, every byte checked before.
    #[command(alias = "dump")]
    Cat(CatArguments),
    /// Restore a point into a new or empty folder and prove it.
    Restore(RestoreArguments),
    /// Challenge the locations for random pieces of what they should hold.
    Audit {
        /// Leaves of 64 KiB to challenge per location, at most [default: what the budget pays, else 459: they find a loss
        /// of 1 % with 99 %].
        #[arg(long)]
        samples: Option<usize>,
        /// What it may cost, as in 2GiB or 30m [default: the vault's audit_budget].
        #[arg(long, value_name = "SIZE|TIME")]
        budget: Option<String>,
        /// One location only.
        #[arg(long, value_name = "NAME")]
        location: Option<String>,
        /// Read everything.
        #[arg(long)]
        full: bool,
        /// Show the audits made so far, and ask nothing.
        #[arg(long, conflicts_with_all = ["samples", "budget", "full"])]
        history: bool,
    },
    /// Retention locks of what stands in buckets with object lock.
    Lock {
        #[command(subcommand)]
        command: LockCommand,
    },
    /// Put points into the trash, by name or by the rules of what to keep.
    Forget(ForgetArguments),
    /// Keep points whatever the rules say, until they are unpinned.
    Pin(PinArguments),
    /// Let the rules decide on points again.
    Unpin(PinArguments),
    /// What was forgotten and can be brought back.
    Trash {
        #[command(subcommand)]
        command: TrashCommand,
    },
    /// Seal points of an older key anew, for the newest. Needs the read key or cards.
    Reencrypt(ReencryptArguments),
    /// Free the space of what left the trash.
    Gc(GcArguments),
    /// Rebuild missing and wrong shards from the others. Needs no key.
    Repair {
        /// Only say what would be done (the default).
        #[arg(long, conflicts_with = "apply")]
        plan: bool,
        /// Do it.
        #[arg(long)]
        apply: bool,
    },
    /// Add, retire or replace a location; shards move by a plan.
    Location {
        #[command(subcommand)]
        command: LocationCommand,
    },
    /// Bring home shards and records found in any folders, under any names.
    ImportOrphans {
        /// Folders or URLs to look through.
        #[arg(required = true)]
        from: Vec<String>,
        /// Only say what would be done (the default).
        #[arg(long, conflicts_with = "apply")]
        plan: bool,
        /// Do it.
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        key: ReadKeyFrom,
        #[command(flatten)]
        reach: Reach,
    },
}

/// `holdfast vault init ..`
#[derive(Args, Debug)]
pub(crate) struct InitArguments {
    /// Make nine folders, keys and a configuration under DIR.
    #[arg(long, value_name = "DIR")]
    pub(crate) local: Option<PathBuf>,
    /// The vault's name with --local [default: demo] and --adopt [default: the one it was given].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Shards that are enough, with --local.
    #[arg(long, default_value_t = 5)]
    pub(crate) data: u8,
    /// Shards in all, with --local.
    #[arg(long, default_value_t = 9)]
    pub(crate) total: u8,
    /// Take over a vault whose host is gone: from its locations and its cards alone.
    #[arg(long, conflicts_with = "local")]
    pub(crate) adopt: bool,
    /// Its locations, with --adopt: URLs or folders. With --scan: where it shall lie from now on.
    #[arg(long, value_name = "URL|DIR", num_args = 1.., requires = "adopt")]
    pub(crate) from: Vec<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// With --adopt, if its locations are gone: look for its shards here, under any names.
    #[arg(long, value_name = "URL|DIR", num_args = 1.., requires = "adopt")]
    pub(crate) scan: Vec<String>,
    /// Where its keys and state go, with --adopt [default: the folder of the configuration].
    #[arg(long, value_name = "DIR", requires = "adopt")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: ReadKeyFrom,
    #[command(flatten)]
    pub(crate) copy: CopyOfKey,
}

/// What becomes of the key of a new vault.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct CopyOfKey {
    /// Write the recovery sheet here: a secret, to be printed. It alone and the locations restore everything.
    #[arg(long, value_name = "FILE", conflicts_with = "adopt")]
    pub(crate) sheet: Option<PathBuf>,
    /// Also write the sheet as a page to print, with a QR code, beside the file.
    #[arg(long, value_name = "html|svg", value_parser = page_format, requires = "sheet")]
    pub(crate) page: Option<PageFormat>,
    /// Make no recovery sheet, and have `vault status` say so.
    #[arg(long, conflicts_with_all = ["sheet", "adopt"])]
    pub(crate) i_have_no_key_copy: bool,
}

/// How locations named by hand are reached.
#[derive(Args, Debug, Clone)]
pub(crate) struct Reach {
    /// More locations, each with its own credentials: a file of [location.NAME] tables, or an old configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) locations: Option<PathBuf>,
    /// Credentials file for the URLs in --from.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) credentials: Option<PathBuf>,
    /// Endpoint for the S3 URLs in --from.
    #[arg(long, value_name = "URL", requires = "from")]
    pub(crate) endpoint: Option<String>,
}

/// `holdfast vault lock ..`
#[derive(Subcommand, Debug)]
pub(crate) enum LockCommand {
    /// Extend the locks of everything live that end within half of the lock's time.
    Extend {
        /// Only say what would be done (the default).
        #[arg(long, conflicts_with = "apply")]
        plan: bool,
        /// Do it.
        #[arg(long)]
        apply: bool,
        /// Stop after about so many requests.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        most: u64,
    },
}

/// Where the read key comes from.
#[derive(Args, Debug, Clone)]
pub(crate) struct ReadKeyFrom {
    /// A read-key file [default: the vault's own, if it is on this host].
    #[arg(long, value_name = "FILE")]
    pub(crate) read_key: Option<PathBuf>,
    /// A card file; give as many as the cards say are needed.
    #[arg(long = "card", value_name = "FILE", conflicts_with = "read_key")]
    pub(crate) cards: Vec<PathBuf>,
}

/// Where points are read from, and with which key.
#[derive(Args, Debug)]
pub(crate) struct PointFrom {
    /// Only points of this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Locations (URLs or folders) to read from, without any configuration. Bare shards under any names do, too.
    #[arg(long, value_name = "URL|DIR", num_args = 1..)]
    pub(crate) from: Vec<String>,
    /// Treat --from as bare shards even if a vault is found there.
    #[arg(long, requires = "from")]
    pub(crate) scan: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) key: ReadKeyFrom,
    /// Type the cards at the terminal; the key stays in memory.
    #[arg(long, conflicts_with_all = ["read_key", "cards"])]
    pub(crate) type_cards: bool,
}

/// `holdfast vault restore ..`
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that is typed")]
pub(crate) struct RestoreArguments {
    /// The point (latest, latest~N, or an id that `snapshots` prints), and a folder or file in it.
    #[arg(value_name = "POINT[:PATH]", default_value = "latest")]
    pub(crate) point: Typed,
    /// A new or empty folder, or the one an interrupted run of the same restore left.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Only what matches: a pattern as in .gitignore, from the top of the point; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// Not what matches, nor what is below it.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// What may be done to files that stand in a folder that is not empty.
    #[arg(long, value_name = "never|if-newer|always", value_parser = restore_tree::overwrite)]
    pub(crate) overwrite: Option<Overwrite>,
    /// Remove from the folder what the point does not have. Shown before; asks, or needs --yes.
    #[arg(long, requires = "overwrite")]
    pub(crate) delete: bool,
    /// Agree to what --delete removes.
    #[arg(long, requires = "delete")]
    pub(crate) yes: bool,
    /// Read everything again afterwards and compare it with the point.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Say what would be written, replaced and removed and whether there is room, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Whom files belong to when root restores: the recorded numbers, this host's users of the recorded names, or nobody
    /// but root.
    #[arg(long, value_name = "numbers|names|nobody", value_parser = restore_tree::owner, default_value = "numbers")]
    pub(crate) owner: OwnerRule,
    /// Give what belonged to the user FROM to the user TO of this host, each a name or a number; may be repeated, and comes
    /// before --owner. In access lists only numbers are found.
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) map_user: Vec<OwnerLine>,
    /// The same for groups.
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) map_group: Vec<OwnerLine>,
    /// Make holes of long runs of zeros that were stored as bytes; what was a hole is one again anyway.
    #[arg(long)]
    pub(crate) sparse: bool,
    /// Begin even if there may be too little room: with --sparse, runs of zeros take none.
    #[arg(long)]
    pub(crate) no_room_check: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) points: PointFrom,
}

impl RestoreArguments {
    /// Whether somebody gets what belonged to others.
    pub(crate) fn maps_owners(&self) -> bool {
        !self.map_user.is_empty() || !self.map_group.is_empty()
    }
}

/// `holdfast keys ..`
#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Draw a new seed and write each role's key to its own file.
    Init {
        /// Folder for the key files [default: the vault's, from the configuration].
        #[arg(long, value_name = "DIR")]
        keys_dir: Option<PathBuf>,
    },
    /// Split the seed into cards for people (SLIP-39): a ceremony of six steps. At a terminal each holder is shown one card.
    Split(SplitArguments),
    /// Deal the same seed onto new cards, from its file or from enough cards. Old cards still work.
    Reshare(SplitArguments),
    /// Put the seed together from cards and write a read key.
    Recover {
        /// A card file; typed in if none is given.
        #[arg(long = "card", value_name = "FILE")]
        cards: Vec<PathBuf>,
        /// Where to write the read key.
        #[arg(long, value_name = "FILE", default_value = "read.key")]
        out: PathBuf,
        /// A location of the vault (URL or folder): its record names a bad card, and its layout the other locations.
        #[arg(long, value_name = "URL|DIR", num_args = 1..)]
        from: Vec<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Check one card: its words, and what the vault record says of it.
    VerifyCard {
        /// The card file; typed in if none is given.
        #[arg(value_name = "FILE")]
        card: Option<PathBuf>,
        /// A location of the vault (URL or folder), for its record [default: the configuration's].
        #[arg(long, value_name = "URL|DIR", num_args = 1..)]
        from: Vec<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Check the root's signature on a ceremony's transcript.
    VerifyTranscript {
        /// The transcript.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The vault's public key file [default: the one of the configuration].
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
    },
    /// Write the recovery sheet: one card that is enough alone, to be printed.
    Sheet {
        /// A new file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Also write it as a page to print, with a QR code, beside the file.
        #[arg(long, value_name = "html|svg", value_parser = page_format)]
        page: Option<PageFormat>,
    },
    /// Seal a key file with a passphrase, or change the passphrase.
    Seal(SealArguments),
    /// Take the passphrase off a key file.
    Unseal {
        /// The key file.
        file: PathBuf,
    },
    /// Make a key for another host or role; the operator certifies it.
    Issue(IssueArguments),
    /// Say up to where a lost or stolen key is believed.
    Revoke(RevokeArguments),
    /// Draw a new seed: what is sealed from then on opens with the new one only.
    Rotate(RotateArguments),
    /// Keys, certificates and cards of the vault; what lies on this host, and what a thief of it could do.
    Status {
        /// Folder of the key files [default: the vault's, from the configuration].
        #[arg(long, value_name = "DIR")]
        keys_dir: Option<PathBuf>,
    },
}

/// `holdfast keys split ..` and `reshare ..`
#[derive(Args, Debug)]
pub(crate) struct SplitArguments {
    /// Cards to make.
    #[arg(long, value_name = "N")]
    cards: u8,
    /// Cards that will be needed to recover.
    #[arg(long, value_name = "K")]
    need: u8,
    /// Write each card to a file here, without asking anybody [default: show each to its holder at the terminal].
    #[arg(long, value_name = "DIR")]
    cards_dir: Option<PathBuf>,
    /// Also write each card as a page to print, with a QR code.
    #[arg(long, value_name = "html|svg", value_parser = page_format, requires = "cards_dir")]
    page: Option<PageFormat>,
    /// Name of a holder; once for each card, in their order.
    #[arg(long = "holder", value_name = "NAME")]
    holders: Vec<String>,
    /// Write what happened to FILE, signed by the root and without any secret, for people to put their initials on.
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
    /// A card file of an older set to take the seed from, where its file is gone; typed in if none is given.
    #[arg(long = "card", value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Afterwards remove the seed and the read key from this host.
    #[arg(long)]
    remove_seed: bool,
    /// Folder of the key files [default: the vault's, from the configuration].
    #[arg(long, value_name = "DIR")]
    keys_dir: Option<PathBuf>,
}

impl SplitArguments {
    /// As the ceremony takes it.
    pub(crate) fn deal(self, kind: &'static str) -> Deal {
        let Self { cards, need, cards_dir, page, holders, transcript, from, remove_seed, keys_dir } = self;
        Deal { kind, cards, need, cards_dir, page, holders, transcript, from, remove_seed, keys_dir }
    }
}

fn page_format(text: &str) -> Result<PageFormat, String> {
    match text {
        "html" => Ok(PageFormat::Html),
        "svg" => Ok(PageFormat::Svg),
        _ => Err("html or svg".to_owned()),
    }
}

/// `holdfast drill ..`
#[derive(Subcommand, Debug)]
pub(crate) enum DrillCommand {
    /// Play seeds in the seeded world: the program's own code over simulated locations that fail and lie.
    Sim(SimArguments),
}

/// `holdfast config ..`
#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Check the configuration; nothing is contacted.
    Check,
    /// Print the file that is used.
    Show,
}
