//! The judge: restores what was reported, with fresh local state, from what is left,
//! and compares; asks audit and status whether they say what the ledger sees.
//!
//! What always holds: the judge works on a copy of the locations, in fair weather,
//! with the locations of the lost domains lost or lying; only the bytes the source
//! gave are the truth.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keys::files::ReadKey;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use vault_format::point::PointRoot;
use vault_format::{Hash, LocationId, PackId, PointId};
use vault_ops::audit::{AuditOptions, Outcome};
use vault_ops::fetch::{Fetcher, Holdings, Trust, list_shards};
use vault_ops::location::Location;
use vault_ops::points::PointSummary;
use vault_ops::restore::open_point;
use vault_ops::source::{PointReader, read_to_vec};
use vault_ops::world::World;

use super::ledger::{Domains, Plan};
use super::machine::{Machine, keys};
use super::scenario::Weather;
use super::sites::{Image, Object, Site, Sites, flipped};
use super::store::SimStore;
use super::timeline::{Ended, Timeline};

/// No content of a scenario is larger.
const BYTES_MAX: u64 = 64 << 20;

/// A point that was reported durable.
#[derive(Clone)]
pub(super) struct Reported {
    /// Its id.
    pub(super) id: PointId,
    /// Its place in the chain.
    pub(super) position: (u64, u64),
    /// What was backed up.
    pub(super) bytes: Arc<Vec<u8>>,
    /// Whether it was said that something is not at home yet.
    pub(super) owes: bool,
    /// Packs it needs.
    pub(super) needs: BTreeSet<PackId>,
    /// Whether it was forgotten.
    pub(super) fate: Fate,
    /// Whether it is pinned.
    pub(super) pin: Pin,
}

/// What was said of a point's pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pin {
    /// The last word was a pin, and its command came to its end.
    pub(super) sure: bool,
    /// A command failed or died: it may have been heard, now or later.
    pub(super) odd: bool,
}

/// What became of a point by its owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing: it counts.
    Live,
    /// It is in the trash.
    Forgotten {
        /// Until then it restores, in true time.
        until_us: u64,
        /// The command came to its end; else it may have failed half way.
        sure: bool,
    },
}

impl Reported {
    /// Whether it must restore at this time.
    pub(super) fn must_restore(&self, now_us: u64) -> bool {
        match self.fate {
            // Whoever forgot it at the same moment, and however long ago.
            _ if self.pin.sure => true,
            Fate::Live => true,
            Fate::Forgotten { until_us, .. } => now_us < until_us,
        }
    }

    /// Whether it was surely forgotten, and its time in the trash is over.
    pub(super) fn is_over(&self, now_us: u64) -> bool {
        let may_be_held = self.pin.sure || self.pin.odd;
        !may_be_held && matches!(self.fate, Fate::Forgotten { until_us, sure: true } if until_us <= now_us)
    }

    /// Whether it was surely forgotten.
    pub(super) fn is_forgotten(&self) -> bool {
        matches!(self.fate, Fate::Forgotten { sure: true, .. })
    }
}

/// How the judge looks.
pub(super) struct Judge<'a> {
    /// Time.
    pub(super) timeline: &'a Arc<Timeline>,
    /// Where fresh machines keep their files.
    pub(super) folder: &'a Path,
}

/// A copy of the locations in fair weather, the lost domains lost or lying.
pub(super) fn lose(
    sites: &Arc<Sites>,
    plan: &Plan,
    lost: Domains,
    empty: &[Site],
    dice: &mut ChaCha8Rng,
) -> Arc<Sites> {
    let fork = sites.fork();
    {
        let mut state = fork.state();
        for (at, site) in state.sites.iter_mut().enumerate() {
            site.weather = Weather::default();
            site.full = false;
            if lost >> plan.domain[at] & 1 == 1 {
                spoil(site, &empty[at], dice);
            }
        }
    }
    fork
}

/// Ways to be lost, or to lie.
fn spoil(site: &mut Site, empty: &Site, dice: &mut ChaCha8Rng) {
    match dice.next_u32() % 9 {
        0 => site.down = true,
        1 => site.objects.clear(),
        2 => site.weather.wrong = 1000,
        3 => site.weather.other = 1000,
        4 => site.weather.short = 1000,
        5 => site.weather.unseen = 1000,
        6 => site.shown = Some(empty.objects.clone()),
        7 => {
            let draw = dice.next_u64();
            for object in site.objects.values_mut() {
                object.bytes = flipped(&object.bytes, draw);
            }
        }
        // Names and bytes go apart.
        _ => {
            let mut bytes: Vec<Bytes> = site.objects.values().map(|object| object.bytes.clone()).collect();
            bytes.rotate_left(1.min(site.objects.len()));
            for (object, bytes) in site.objects.values_mut().zip(bytes) {
                object.bytes = bytes;
            }
        }
    }
}

/// What a restore of one point gave.
enum Restored {
    Same,
    Other,
    Failed(String),
    /// It was forgotten, and counts all the same.
    Undead,
    /// It was pinned, and is not listed so.
    Loose,
}

impl Judge<'_> {
    fn run<T>(&self, what: &str, future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        match self.timeline.run(future) {
            Ended::Done(done) => done,
            Ended::Crashed => Err(format!("{what}: it goes in circles")),
            Ended::Stuck => Err(format!("{what}: it waits for ever")),
        }
    }

    /// Every reported point is listed, if only in the trash, and restores byte for byte;
    /// what was forgotten is not listed as a point.
    pub(super) fn all_restore(&self, sites: &Arc<Sites>, points: &[Reported], seed: u64) -> Result<(), String> {
        let outcomes = self.run("restoring", self.restore(sites, points, seed))?;
        for (point, outcome) in points.iter().zip(outcomes) {
            let name = vault_ops::points::point_text(point.id);
            match outcome {
                Restored::Same => {}
                Restored::Other => return Err(format!("point {name} restored with OTHER BYTES")),
                Restored::Failed(_) if !point.must_restore(self.timeline.now_us()) => {}
                Restored::Failed(why) => return Err(format!("point {name} does not restore: {why}")),
                Restored::Loose => return Err(format!("point {name} was pinned and is not listed as pinned")),
                Restored::Undead => return Err(format!("point {name} was forgotten and is listed")),
            }
        }
        Ok(())
    }

    /// No point restores with other bytes. Says how many do not restore.
    pub(super) fn none_is_wrong(&self, sites: &Arc<Sites>, points: &[Reported], seed: u64) -> Result<usize, String> {
        let outcomes = match self.timeline.run(self.restore(sites, points, seed)) {
            Ended::Done(Ok(outcomes)) => outcomes,
            Ended::Done(Err(_)) => return Ok(points.len()),
            Ended::Crashed | Ended::Stuck => return Err("restoring: it does not end".to_owned()),
        };
        if outcomes.iter().any(|outcome| matches!(outcome, Restored::Other)) {
            return Err("a point restored with OTHER BYTES".to_owned());
        }
        Ok(outcomes.iter().filter(|outcome| matches!(outcome, Restored::Failed(_))).count())
    }

    async fn restore(&self, sites: &Arc<Sites>, points: &[Reported], seed: u64) -> Result<Vec<Restored>, String> {
        let machine = Machine::new(self.timeline, self.folder, seed);
        let vault = machine.open(sites).await.map_err(|error| format!("opening the vault: {error}"))?;
        let read = Arc::clone(&keys().read);
        let list = vault_ops::points::list(&vault, &read).await.map_err(|error| format!("listing: {error}"))?;
        let holdings = list_shards(&vault, &vault.writer_ids()).await;
        let mut outcomes = Vec::new();
        for point in points {
            let is_it = |listed: &&PointSummary| listed.part.point == point.id;
            if point.is_forgotten() && list.points.iter().any(|listed| is_it(&listed)) {
                outcomes.push(Restored::Undead);
                continue;
            }
            let Some(listed) = list.points.iter().chain(&list.trash).find(is_it) else {
                outcomes.push(Restored::Failed(format!("it is not listed (remarks: {})", list.remarks.join("; "))));
                continue;
            };
            if point.pin.sure && !list.pinned.contains(&point.id) {
                outcomes.push(Restored::Loose);
                continue;
            }
            let trust = Trust::Signed(vault.writers.clone());
            let (pack, signed) = (listed.pack, Some(listed.record));
            outcomes.push(compare(&vault.world, holdings.clone(), trust, &read, (pack, signed), point).await);
        }
        Ok(outcomes)
    }

    /// Every reported point is found among bare shards under names that say nothing.
    pub(super) fn bare_shards_suffice(&self, sites: &Arc<Sites>, points: &[Reported], seed: u64) -> Result<(), String> {
        self.run("restoring from bare shards", self.bare(sites, points, seed))
    }

    async fn bare(&self, sites: &Arc<Sites>, points: &[Reported], seed: u64) -> Result<(), String> {
        let mut pile = Image::new();
        for site in sites.state().sites.iter().filter(|site| !site.down) {
            for (name, object) in site.image().iter().filter(|(name, _)| name.starts_with("shards/")) {
                let _ = name;
                let number = pile.len().wrapping_mul(7919);
                pile.insert(format!("{:x}/{number:x}", number % 13).into(), Object { ..object.clone() });
            }
        }
        let site = Site { name: "pile".to_owned(), objects: pile, ..Site::default() };
        let pile = Sites::new(Arc::clone(self.timeline), vec![site], seed);
        let world = Machine::new(self.timeline, self.folder, seed).world().clone();
        let folder = Arc::new(Location {
            id: LocationId::default(),
            name: "pile".to_owned(),
            domain: 0,
            blank: false,
            store: SimStore::open(&pile, 0),
            versions: None,
            names: None,
        });
        let read = Arc::clone(&keys().read);
        let scan = vault_ops::scan::scan(&vault_ops::progress::Progress::default(), &[folder])
            .await
            .map_err(|error| error.to_string())?;
        let bare = vault_ops::scan::find_points(&world, &scan, keys().public.vault, &read).await;
        for point in points.iter().filter(|point| point.must_restore(self.timeline.now_us())) {
            let name = vault_ops::points::point_text(point.id);
            let found = bare.points.iter().find(|bare| vault_ops::backup::point_id(bare.found.hash) == point.id);
            let found = found.ok_or_else(|| format!("point {name} is not among the bare shards"))?;
            let trust = Trust::Signed(bare.writers.clone());
            let (pack, holdings) = (found.pack, bare.holdings.clone());
            match compare(&world, holdings, trust, &read, (pack, None), point).await {
                Restored::Same | Restored::Undead | Restored::Loose => {}
                Restored::Other => return Err(format!("point {name} restored with OTHER BYTES from bare shards")),
                Restored::Failed(why) => return Err(format!("point {name} does not restore from bare shards: {why}")),
            }
        }
        Ok(())
    }

    /// Whether a fresh auditor, and a fresh look, find nothing to say. Keyless.
    pub(super) fn says_fine(&self, sites: &Arc<Sites>, seed: u64) -> Result<bool, String> {
        self.says_why(sites, seed).map(|why| why.is_none())
    }

    /// What a fresh auditor, or a fresh look, finds to say. Keyless.
    pub(super) fn says_why(&self, sites: &Arc<Sites>, seed: u64) -> Result<Option<String>, String> {
        // A folder of its own: the catalog of the machine under test is not its business.
        let folder = self.folder.join("auditor");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mut machine = Machine::new(self.timeline, &folder, seed);
        let looked = async {
            let options = AuditOptions { samples: 0, location: None, full: true };
            let audit = match machine.audit(sites, &options).await {
                Ok(audit) => audit,
                Err(error) => return Ok(Some(error.to_string())),
            };
            if audit.worst() != Outcome::Ok {
                return Ok(Some(format!("{audit:?}")));
            }
            Ok(match machine.status(sites).await {
                Ok(status) if status.risks.is_empty() && status.lost.is_empty() => None,
                Ok(status) => Some(format!("{:?} {:?}", status.risks, status.lost)),
                Err(error) => Some(error.to_string()),
            })
        };
        self.run("auditing", looked)
    }
}

async fn compare(
    world: &World,
    holdings: Holdings,
    trust: Trust,
    read: &Arc<ReadKey>,
    (pack, signed): (PackId, Option<Hash>),
    point: &Reported,
) -> Restored {
    let fetcher = Fetcher::new(world.clone(), holdings, trust);
    let opened = match open_point(fetcher, Arc::clone(read), world.compute, pack, signed).await {
        Ok(opened) => opened,
        Err(error) => return Restored::Failed(error.to_string()),
    };
    let PointRoot::Stream(root) = opened.record().root.clone() else {
        return Restored::Failed("its root is not a stream's".to_owned());
    };
    match read_to_vec(&opened, &root.content, BYTES_MAX).await {
        Ok(bytes) if bytes == *point.bytes => Restored::Same,
        Ok(_) => Restored::Other,
        Err(error) => Restored::Failed(error.to_string()),
    }
}
