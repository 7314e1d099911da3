//! A scenario: a vault's shape, and named faults and acts at named times against
//! named locations. The seeded world and the drills read the same files.
//!
//! What always holds: a scenario and its seed decide everything; what a file does
//! not say is drawn from its seed; an unknown word in it is an error.

use serde::{Deserialize, Serialize};

/// The version of these files that this program writes and reads.
pub const VERSION: u32 = 1;

/// One story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Version of the file.
    pub version: u32,
    /// What it is about; of a kept one, what it once found.
    pub name: String,
    /// What is drawn, is drawn from here: contents, delays, the weather's dice.
    pub seed: i64,
    /// True if it goes beyond what the vault declares to survive: then nothing is
    /// promised but that no wrong byte is restored and that the loss is said.
    #[serde(default, skip_serializing_if = "is_false")]
    pub beyond: bool,
    /// The machine has a spool for points the locations do not take.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spool: bool,
    /// A kind of sync that does nothing on the machine's disks: to show that the
    /// oracles would notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_sync: Option<String>,
    /// The vault.
    pub vault: Shape,
    /// What happens, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_none(value: &u32) -> bool {
    *value == 0
}

/// The vault's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// k.
    pub data: u8,
    /// n.
    pub total: u8,
    /// d: domains that may be lost or lie at once.
    pub survive_domains: u8,
    /// Number of the largest pack class.
    #[serde(default)]
    pub class_max: u8,
    /// Its locations.
    pub locations: Vec<Site>,
}

/// A location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// What it fails together with.
    pub domain: String,
    /// Whether it honours the condition of a conditional write.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub conditional: bool,
    /// It is a folder on a disk of the machine itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disk: bool,
}

fn yes() -> bool {
    true
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Minutes since the start; never less than the step before it.
    pub at_minutes: u64,
    /// What happens.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A backup of the source, after so many of its bytes changed.
    Backup(Backup),
    /// Repair: plan, then apply.
    Repair(Act),
    /// What waits in the spool is delivered.
    Deliver(Act),
    /// Audit.
    Audit(Audit),
    /// A restore of a point, in the weather as it is.
    Restore(Restore),
    /// The oracles look: all points, with domains lost up to the declared number.
    Check(Check),
    /// How often requests go wrong from now on, at one location or at all.
    Weather(Weather),
    /// A location does not answer from now on.
    Down(At),
    /// It answers again, with what it had.
    Up(At),
    /// It has no space left.
    Full(At),
    /// It has space again.
    Space(At),
    /// It loses everything: a new disk under the old name.
    Wipe(At),
    /// Some of its objects rot.
    Rot(Rot),
    /// It goes back to what it was so many minutes ago, and stays there.
    Rollback(Back),
    /// It shows what it was so many minutes ago; what is written is kept, unseen.
    Freeze(Back),
    /// It shows the present again.
    Thaw(At),
    /// Every write to it is kept with a wrong byte from now on.
    Spoil(At),
    /// Writes are kept as sent again.
    Honest(At),
    /// Points go into the trash.
    Forget(Forget),
    /// A point comes back from the trash.
    TrashRestore(Pick),
    /// A point in the trash need not wait.
    TrashPurge(Pick),
    /// A point is pinned: no rule lets it go.
    Pin(Pick),
    /// A pinned point is unpinned.
    Unpin(Pick),
    /// Garbage collection: plan, then apply.
    Gc(Gc),
    /// The writer says that it is alive, if that is due.
    Heartbeat(Act),
    /// A slice of the rolling scrub.
    Scrub(Act),
    /// The clock of a location jumps: what is written there is dated by it.
    SiteClock(SiteClock),
    /// The local clock jumps.
    Clock(Jump),
    /// The local catalog is lost, or an old copy comes back.
    Catalog(Catalog),
    /// Fair weather everywhere; every location answers and shows what it has.
    Calm(Calm),
}

impl What {
    /// Whether an old copy of the catalog comes back.
    pub fn restores_catalog(&self) -> bool {
        let crash = if let Self::Catalog(catalog) = self {
            return *catalog == Catalog::Old;
        } else if let Self::Backup(Backup { crash, .. })
        | Self::Repair(Act { crash })
        | Self::Heartbeat(Act { crash })
        | Self::Scrub(Act { crash })
        | Self::Forget(Forget { crash, .. })
        | Self::TrashRestore(Pick { crash, .. })
        | Self::TrashPurge(Pick { crash, .. })
        | Self::Pin(Pick { crash, .. })
        | Self::Unpin(Pick { crash, .. })
        | Self::Gc(Gc { crash, .. })
        | Self::Audit(Audit { crash, .. }) = self
        {
            crash.as_ref()
        } else {
            None
        };
        crash.is_some_and(|crash| crash.catalog == Catalog::Old)
    }

    /// Whether it is the janitor's business: points go, or packs.
    pub fn is_of_the_house(&self) -> bool {
        matches!(
            self,
            Self::Forget(_) | Self::TrashPurge(_) | Self::Gc(_) | Self::Backup(Backup { meanwhile: Some(_), .. })
        )
    }
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The location's name.
    pub location: String,
}

/// Nothing more to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calm {}

/// A crash of the local machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// At the request of this number, counted from the start of the act.
    #[serde(default, skip_serializing_if = "is_none")]
    pub request: u32,
    /// Or at this named step of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Having passed it so many times.
    #[serde(default, skip_serializing_if = "is_none")]
    pub passes: u32,
    /// After it was carried out, before its answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub after: bool,
    /// What becomes of the catalog.
    #[serde(default)]
    pub catalog: Catalog,
}

/// What becomes of the local catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Catalog {
    /// Nothing.
    #[default]
    Kept,
    /// It is gone.
    Lost,
    /// A copy from before the last act comes back.
    Old,
}

/// A backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Bytes of the source.
    pub bytes: u32,
    /// How many of them, of a thousand, change before it.
    pub changed: u16,
    /// Before that the source becomes again what it was so many backups ago.
    #[serde(default, skip_serializing_if = "is_none")]
    pub again: u32,
    /// It falls asleep under way, and the janitor does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meanwhile: Option<Meanwhile>,
    /// Whether the machine crashes under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// What goes on while a backup sleeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meanwhile {
    /// The request of the backup at which its machine falls asleep,
    #[serde(default, skip_serializing_if = "is_none")]
    pub request: u32,
    /// or the named step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// So long.
    pub hours: u32,
    /// Garbage collections, evenly over this time.
    pub gcs: u32,
}

/// Points to forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// So many of the oldest that count.
    #[serde(default, skip_serializing_if = "is_none")]
    pub oldest: u32,
    /// Or what retention does not keep, when it keeps the newest so many days and the
    /// newest three.
    #[serde(default, skip_serializing_if = "is_none")]
    pub keep_daily: u32,
    /// Days in the trash.
    pub days: u32,
    /// Whether the machine crashes under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// A point: of the trash, by when it was forgotten; to be pinned or unpinned, by when it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// So many before the last one.
    pub back: u32,
    /// Whether the machine crashes under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// Garbage collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gc {
    /// Stored packs that no manifest knows are collected too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub orphans: bool,
    /// Whether the machine crashes under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// A jump of a location's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteClock {
    /// The location's name.
    pub location: String,
    /// Forward, or back.
    pub days: i32,
}

/// An act without options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Whether the machine crashes under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// An audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Leaves to challenge per location.
    pub samples: u32,
    /// Or everything.
    #[serde(default, skip_serializing_if = "is_false")]
    pub full: bool,
    /// Whether the machine crashes under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// A restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// So many points before the newest.
    pub back: u32,
}

/// A look of the oracles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Domains to lose for it; drawn if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lose: Vec<String>,
}

/// Rot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rot {
    /// The location's name.
    pub location: String,
    /// Of a thousand of its objects, so many; at least one.
    pub objects: u16,
    /// What becomes of them.
    pub kind: RotKind,
    /// Only objects whose names begin so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub only: String,
}

/// What becomes of a rotten object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotKind {
    /// One bit turns.
    Flip,
    /// It ends early.
    Truncate,
    /// It is gone.
    Lose,
    /// Another object's bytes stand there.
    Swap,
}

/// Back in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Back {
    /// The location's name.
    pub location: String,
    /// To what it was before so many steps.
    pub steps: u32,
}

/// A clock's jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// Forward, or back.
    pub days: i32,
}

/// How often, of a thousand requests, what goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weather {
    /// One location by name, or all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The request is lost: an error, and nothing done.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u16,
    /// A write times out for the caller and was carried out.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout_landed: u16,
    /// A write times out for the caller and is carried out later.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout_late: u16,
    /// A write arrives twice; the caller hears the second answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub twice: u16,
    /// A write is acknowledged and not stored.
    #[serde(skip_serializing_if = "is_zero")]
    pub vanishes: u16,
    /// A read gives a wrong byte.
    #[serde(skip_serializing_if = "is_zero")]
    pub wrong: u16,
    /// A read gives another object's bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub other: u16,
    /// A read ends early.
    #[serde(skip_serializing_if = "is_zero")]
    pub short: u16,
    /// A read says that the object is not there.
    #[serde(skip_serializing_if = "is_zero")]
    pub unseen: u16,
    /// A listing lacks what was written lately.
    #[serde(skip_serializing_if = "is_zero")]
    pub stale: u16,
    /// A request takes up to so many seconds; a fifth of one if not given.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow_seconds: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(value: &u16) -> bool {
    *value == 0
}

impl Scenario {
    /// Reads a scenario file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if scenario.version != VERSION {
            return Err(format!("version {} of scenario files is not known here", scenario.version));
        }
        if scenario.steps.windows(2).any(|pair| pair[1].at_minutes < pair[0].at_minutes) {
            return Err("the steps are not in the order of their times".to_owned());
        }
        Ok(scenario)
    }

    /// Writes it.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
    }
}
