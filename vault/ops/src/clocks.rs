//! Time by the locations' own clocks: how long ago something was written there.
//!
//! What always holds: a time is compared only with another time of the same
//! location; of the domains the median counts, the smaller of two, so that one
//! clock that jumps or lies shortens nothing; what a majority of the domains cannot
//! date has not waited at all.

use std::collections::BTreeMap;

use futures::StreamExt;
use vault_format::{LocationId, names};

use crate::location::Location;
use crate::vault::Vault;

/// Where the object that asks a location for its time is written.
const ASKED: &str = "clock";
/// Names asked for at once.
const AT_ONCE: usize = 8;

/// The present time of each location that gave it.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    now_ms: BTreeMap<LocationId, i64>,
}

/// Asks every location for its time: writes a small object, reads its date, deletes
/// it. Only who may delete can ask.
pub async fn ask(vault: &Vault) -> Clocks {
    let asked = futures::future::join_all(vault.writable().map(|location| now_of(vault, location))).await;
    Clocks { now_ms: asked.into_iter().flatten().collect() }
}

async fn now_of(vault: &Vault, location: &Location) -> Option<(LocationId, i64)> {
    let mut salt = [0; 8];
    rand_core::Rng::fill_bytes(&mut vault.world.rng(), &mut salt);
    // A name of its own each time: a store may date an overwritten object as it likes.
    let name = format!("{ASKED}/{:016x}", u64::from_le_bytes(salt));
    location.create(&name, vec![bytes::Bytes::from_static(b"what time is it")]).await.ok()?;
    let now = location.modified_ms(&name).await;
    // Left behind it is a few bytes of nobody's; the next run's `tidy` takes it.
    let _ = location.delete(&name).await;
    Some((location.id, now.ok()??))
}

/// Deletes what runs that died left of their questions.
pub async fn tidy(vault: &Vault) {
    for location in vault.writable() {
        let Ok(left) = location.list(ASKED).await else { continue };
        for object in left {
            let _ = location.delete(&object.name).await;
        }
    }
}

impl Clocks {
    /// How long ago an object was written, by the median of the domains that show it;
    /// zero unless a majority can say: a location that takes no writes, as on a full
    /// disk, gives no time, and one clock alone decides nothing.
    pub async fn age_ms(&self, vault: &Vault, name: &str) -> i64 {
        let mut by_domain: BTreeMap<u16, i64> = BTreeMap::new();
        let domains = vault.domains();
        for location in vault.locations.iter().filter(|location| domains.contains(&location.domain)) {
            let Some(now) = self.now_ms.get(&location.id) else { continue };
            let Ok(Some(written)) = location.modified_ms(name).await else { continue };
            let age = now.saturating_sub(written).max(0);
            let held = by_domain.entry(location.domain).or_insert(age);
            *held = (*held).min(age);
        }
        if by_domain.len() <= domains.len() / 2 {
            return 0;
        }
        median(by_domain.into_values().collect())
    }

    /// The ages of several objects.
    pub async fn ages_ms(&self, vault: &Vault, names: Vec<String>) -> BTreeMap<String, i64> {
        let ages = futures::stream::iter(names).map(|name| async move {
            let age = self.age_ms(vault, &name).await;
            (name, age)
        });
        ages.buffered(AT_ONCE).collect().await
    }
}

/// The middle one; of an even number the smaller of the two.
fn median(mut ages: Vec<i64>) -> i64 {
    ages.sort_unstable();
    ages.get(ages.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Whether a name is a question to a clock, and nothing of the vault.
pub fn is_question(name: &str) -> bool {
    name.strip_prefix(ASKED).is_some_and(|rest| rest.starts_with('/')) && names::parse_shard(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clock_of_three_moves_nothing_forward() {
        assert_eq!(median(vec![]), 0);
        assert_eq!(median(vec![5]), 5);
        assert_eq!(median(vec![9_000, 5]), 5);
        assert_eq!(median(vec![5, 9_000, 6]), 6);
        assert_eq!(median(vec![5, 0, 6]), 5);
        assert_eq!(median(vec![1, 2, 3, 4]), 2);
    }
}
