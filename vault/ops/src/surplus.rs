//! Surplus copies: shards that were handed over while their home was away, and are
//! home again.
//!
//! What always holds: a plan comes first; a copy is removed only after the copy at
//! home was read back whole and is right, and only where the pack keeps what the vault
//! declares without it; it needs admin credentials, which the agent never loads; a
//! location that refuses keeps its copy, and that is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_format::{LocationId, PackId, names};

use crate::catalog::Catalog;
use crate::census;
use crate::error::Result;
use crate::fetch::{Fetcher, Trust};
use crate::placement::{Copy, home, survives};
use crate::progress::{Phase, Total};
use crate::vault::Vault;

/// A copy that is not needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurplusCopy {
    /// Which pack.
    pub pack: PackId,
    /// Which index.
    pub index: u8,
    /// Where it stands.
    pub location: LocationId,
    /// Where it belongs and is shown.
    pub home: LocationId,
    /// Its bytes.
    pub bytes: u64,
}

/// What was removed, and what was kept.
#[derive(Debug, Default)]
pub struct SurplusReport {
    /// Copies removed.
    pub removed: Vec<SurplusCopy>,
    /// Copies kept, and why.
    pub kept: Vec<(SurplusCopy, String)>,
}

/// Finds surplus copies by the listings. Keyless.
pub async fn plan(vault: &Vault, catalog: &Catalog) -> Result<Vec<SurplusCopy>> {
    let mut census = census::take(vault, catalog).await?;
    census.holdings.discount(&catalog.failures()?);
    let spots = vault.spots();
    let mut plan = Vec::new();
    for &pack in census.packs.keys() {
        let homes = home(&spots, vault.coding, vault.survive(), pack);
        let shown = census.holdings.copies(pack);
        let at_home: Vec<Copy> = shown.iter().copied().filter(|copy| homes.contains(copy)).collect();
        if !survives(&at_home, vault.coding, vault.survive()) {
            continue;
        }
        for held in census.holdings.packs.get(&pack).into_iter().flatten() {
            let copy = Copy { index: held.index, spot: held.location.spot() };
            let back = at_home.iter().find(|back| back.index == copy.index);
            let all_back = homes.iter().filter(|back| back.index == copy.index).all(|back| at_home.contains(back));
            if let (false, true, Some(back)) = (homes.contains(&copy), all_back, back) {
                let (location, home) = (copy.spot.location, back.spot.location);
                plan.push(SurplusCopy {
                    pack,
                    index: copy.index,
                    location,
                    home,
                    bytes: held.bytes.unwrap_or_default(),
                });
            }
        }
    }
    Ok(plan)
}

/// Removes surplus copies through stores opened with admin credentials.
pub async fn apply(
    vault: &Vault,
    catalog: &Catalog,
    plan: &[SurplusCopy],
    admin: &BTreeMap<LocationId, Arc<dyn ObjectStore>>,
) -> Result<SurplusReport> {
    let census = census::take(vault, catalog).await?;
    let mut report = SurplusReport::default();
    let fetcher = Fetcher::new(vault.world.clone(), census.holdings.clone(), Trust::Signed(vault.writers.clone()));
    vault.world.progress.begin_of(Phase::Removing, Total::of_items(plan.len()));
    for copy in plan {
        vault.world.progress.add_items(1);
        match remove(vault, &census, &fetcher, copy, admin).await {
            Ok(()) => report.removed.push(copy.clone()),
            Err(why) => report.kept.push((copy.clone(), why)),
        }
    }
    Ok(report)
}

async fn remove(
    vault: &Vault,
    census: &census::Census,
    fetcher: &Fetcher,
    copy: &SurplusCopy,
    admin: &BTreeMap<LocationId, Arc<dyn ObjectStore>>,
) -> std::result::Result<(), String> {
    let store = admin.get(&copy.location).ok_or("no admin credentials are configured for its location")?;
    let (signed, writer) = census.packs.get(&copy.pack).ok_or("no manifest names its pack any more")?;
    let header = fetcher.signed_header(copy.pack).await.map_err(|error| error.to_string())?;
    if header.hash() != *signed {
        return Err("the header shown is not the one the manifest signed".to_owned());
    }
    let name = names::shard(*writer, copy.pack, copy.index);
    let back = vault.location(copy.home).ok_or("its home is away again")?;
    let bytes = back.read(&name).await.map_err(|error| error.to_string())?.ok_or("its home lists it and has it not")?;
    match header.check_object(&bytes) {
        Ok(index) if index == copy.index => {}
        Ok(_) => return Err("another shard stands in its place at home".to_owned()),
        Err(error) => return Err(format!("the copy at home is wrong: {error}")),
    }
    store.delete(&Path::from(name.as_str())).await.map_err(|error| format!("its location keeps it: {error}"))
}
