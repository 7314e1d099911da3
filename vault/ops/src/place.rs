//! Placing the shards of a pack: home first, handed over where home fails.
//!
//! What always holds: a shard counts only after a random leaf of it was read
//! back and checked to the signed root; "already exists" counts only if the whole
//! object is right; nothing is overwritten here.

use std::collections::BTreeSet;

use rand_core::Rng;
use vault_codec::ShardSet;
use vault_format::{LocationId, PackId, names};

use crate::location::{Created, Location};
use crate::placement::{Copy, Spot, handoff, home, survives};
use crate::step::Step;
use crate::vault::Vault;

/// A shard that is not at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    /// Which pack.
    pub pack: PackId,
    /// Which index.
    pub index: u8,
    /// Where it belongs.
    pub location: LocationId,
    /// Why it is not there.
    pub why: String,
    /// Who keeps it meanwhile, if anybody does.
    pub kept_by: Option<LocationId>,
    /// What stands there now was read, and is wrong: its name in a listing means nothing.
    pub wrong: bool,
}

/// Where a pack's shards went.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// Copies read back.
    pub copies: Vec<Copy>,
    /// Shards still owed to their homes.
    pub debts: Vec<Debt>,
}

/// Writes all shards of a pack.
pub async fn place(vault: &Vault, set: &ShardSet) -> Placed {
    let pack = set.pack();
    let homes = home(&vault.spots(), vault.coding, vault.survive(), pack);
    let writes = homes.iter().map(|copy| write_copy(vault, set, *copy));
    let outcomes = futures::future::join_all(writes).await;
    let mut placed = Placed::default();
    let mut failed_at: BTreeSet<Spot> = BTreeSet::new();
    for (copy, outcome) in homes.iter().zip(outcomes) {
        match outcome {
            Ok(()) => placed.copies.push(*copy),
            Err(unwritten) => {
                failed_at.insert(copy.spot);
                let wrong = matches!(unwritten, Unwritten::Wrong(_));
                let why = unwritten.why();
                let location = copy.spot.location;
                placed.debts.push(Debt { pack, index: copy.index, location, why, kept_by: None, wrong });
            }
        }
    }
    for at in 0..placed.debts.len() {
        hand_over(vault, set, &mut placed, at, &mut failed_at).await;
    }
    placed
}

/// Puts right what stands under the names of a pack's shards and is not them: no audit
/// finds that before a manifest names the pack, and nobody can write there else. Each
/// was read twice by then, and failed the signed header both times.
pub(crate) async fn put_right(vault: &Vault, set: &ShardSet, placed: &mut Placed) {
    let mut owed = Vec::new();
    for debt in std::mem::take(&mut placed.debts) {
        match vault.writable().find(|location| location.id == debt.location) {
            Some(location) if is_wrong(location, set, debt.index).await => {
                match write_shard(vault, location, set, debt.index, Overwrite::FailedVerification).await {
                    Ok(()) => placed.copies.push(Copy { index: debt.index, spot: location.spot() }),
                    Err(unwritten) => owed.push(Debt { why: unwritten.why(), ..debt }),
                }
            }
            Some(_) | None => owed.push(debt),
        }
    }
    placed.debts = owed;
}

/// Whether something stands under a shard's name that is not this shard.
async fn is_wrong(location: &Location, set: &ShardSet, index: u8) -> bool {
    let name = names::shard(set.writer(), set.pack(), index);
    let stored = location.read(&name).await;
    stored.is_ok_and(|there| there.is_some_and(|there| set.verified_header().check_object(&there).ok() != Some(index)))
}

async fn hand_over(vault: &Vault, set: &ShardSet, placed: &mut Placed, debt: usize, failed_at: &mut BTreeSet<Spot>) {
    let index = placed.debts[debt].index;
    let enough = survives(&placed.copies, vault.coding, vault.survive());
    if enough && placed.copies.iter().any(|copy| copy.index == index) {
        return;
    }
    loop {
        let able: Vec<Spot> = vault.writable().map(Location::spot).filter(|spot| !failed_at.contains(spot)).collect();
        let Some(spot) = handoff(&able, &placed.copies, vault.coding, index) else { return };
        let copy = Copy { index, spot };
        match write_copy(vault, set, copy).await {
            Ok(()) => {
                placed.copies.push(copy);
                placed.debts[debt].kept_by = Some(spot.location);
                vault.world.reached(Step::PlaceShardHandedOver);
                return;
            }
            Err(_) => failed_at.insert(spot),
        };
    }
}

/// Why a shard does not stand where it was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It is not there, or there is no answer.
    Away(String),
    /// Something stands under its name, was read, and is not it.
    Wrong(String),
}

impl Unwritten {
    /// The reason, for a person.
    pub fn why(self) -> String {
        match self {
            Self::Away(why) | Self::Wrong(why) => why,
        }
    }
}

impl From<backends::BackendError> for Unwritten {
    fn from(error: backends::BackendError) -> Self {
        Self::Away(error.to_string())
    }
}

async fn write_copy(vault: &Vault, set: &ShardSet, copy: Copy) -> Result<(), Unwritten> {
    let Some(location) = vault.writable().find(|location| location.id == copy.spot.location) else {
        let blank = vault.location(copy.spot.location).is_some();
        let why = if blank { "it is empty: not mounted, or a new disk" } else { "it does not answer" };
        return Err(Unwritten::Away(why.to_owned()));
    };
    write_shard(vault, location, set, copy.index, Overwrite::Never).await
}

/// Whether an object that stands there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// A first write.
    Never,
    /// A repair: a failed verification of this object is on record.
    FailedVerification,
}

/// Writes one shard and reads a random leaf of it back.
pub async fn write_shard(
    vault: &Vault,
    location: &Location,
    set: &ShardSet,
    index: u8,
    overwrite: Overwrite,
) -> Result<(), Unwritten> {
    let object = set.object(index);
    let name = object.name();
    let parts = object.parts().to_vec();
    let created = match overwrite {
        Overwrite::Never => location.create(name, parts).await,
        Overwrite::FailedVerification => {
            vault.world.reached(Step::RepairBeforeOverwrite);
            location.overwrite(name, parts).await.map(|()| Created::New)
        }
    };
    match created? {
        Created::New => {
            vault.world.reached(match overwrite {
                Overwrite::Never => Step::PlaceShardWritten,
                Overwrite::FailedVerification => Step::RepairAfterOverwrite,
            });
            read_back(vault, location, set, index).await?;
        }
        Created::Exists => compare_existing(location, set, index).await?,
    }
    vault.world.reached(Step::PlaceShardReadBack);
    Ok(())
}

async fn read_back(vault: &Vault, location: &Location, set: &ShardSet, index: u8) -> Result<(), Unwritten> {
    let header = set.verified_header();
    let layout = header.layout();
    let leaf = (vault.world.rng().next_u64() % header.h0().class.leaves() as u64) as usize;
    let name = names::shard(set.writer(), set.pack(), index);
    let read = futures::future::join(
        location.read_range(&name, layout.leaf(leaf)),
        location.read_range(&name, layout.nodes().start..layout.trailer().end),
    );
    let (bytes, end) = read.await;
    let away = |why: &str| Unwritten::Away(why.to_owned());
    let bytes = bytes?.ok_or_else(|| away("it was acknowledged and is not there"))?;
    let end = end?.ok_or_else(|| away("it was acknowledged and is too short"))?;
    let nodes = &end[..(layout.nodes().end - layout.nodes().start) as usize];
    let wrong = |error| Unwritten::Wrong(format!("what was written reads back wrong: {error}"));
    header.check_leaf(index, leaf, &bytes, nodes).map_err(wrong)
}

async fn compare_existing(location: &Location, set: &ShardSet, index: u8) -> Result<(), Unwritten> {
    let name = names::shard(set.writer(), set.pack(), index);
    let hidden = || Unwritten::Away("the location says it exists and does not show it".to_owned());
    let stored = location.read(&name).await?.ok_or_else(hidden)?;
    match set.verified_header().check_object(&stored) {
        Ok(found) if found == index => Ok(()),
        Ok(_) => Err(Unwritten::Wrong("another shard stands under this name; nothing was overwritten".to_owned())),
        Err(error) => {
            Err(Unwritten::Wrong(format!("a wrong object stands under this name and was not overwritten: {error}")))
        }
    }
}
