//! The shards that each location showed when it last answered.
//!
//! What always holds: a row is what a listing said, or a copy that was written and read
//! back. Only what differs from the listing before is written: a vault has a million
//! shards and most of them stay.

use rusqlite::{Connection, params};
use vault_format::{LocationId, PackId};

use super::{Catalog, read_id};
use crate::error::Result;

/// A pack and the index of a shard of it.
type Shard = (PackId, u8);

impl Catalog {
    /// Remembers the shards a location showed, in place of what it showed before.
    pub fn remember_shown(&mut self, location: LocationId, shown: &[Shard]) -> Result<()> {
        let mut now = shown.to_vec();
        now.sort_unstable();
        now.dedup();
        let (gone, new) = self.changes(location, &now)?;
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        let tx = self.db.transaction()?;
        {
            let mut delete = tx.prepare_cached("DELETE FROM shown WHERE location = ?1 AND pack = ?2 AND shard = ?3")?;
            for (pack, index) in gone {
                delete.execute(params![&location.0[..], &pack.0[..], index])?;
            }
        }
        insert(&tx, new.into_iter().map(|(pack, index)| (location, pack, index)))?;
        tx.commit()?;
        Ok(())
    }

    /// Remembers copies of a pack that were written and read back.
    pub fn add_shown(&mut self, pack: PackId, copies: &[(LocationId, u8)]) -> Result<()> {
        let tx = self.db.transaction()?;
        insert(&tx, copies.iter().map(|&(location, index)| (location, pack, index)))?;
        tx.commit()?;
        Ok(())
    }

    /// The shards a location showed when it last answered.
    pub fn shown(&self, location: LocationId) -> Result<Vec<Shard>> {
        let mut shown = Vec::new();
        self.each_shown(location, |shard| shown.push(shard))?;
        Ok(shown)
    }

    /// What of the remembered shards is not among `now`, which is sorted, and what of
    /// `now` is not remembered.
    fn changes(&self, location: LocationId, now: &[Shard]) -> Result<(Vec<Shard>, Vec<Shard>)> {
        let (mut gone, mut new, mut left) = (Vec::new(), Vec::new(), now);
        self.each_shown(location, |shard| {
            let before = left.iter().take_while(|&&other| other < shard).count();
            new.extend_from_slice(&left[..before]);
            left = &left[before..];
            match left.split_first() {
                Some((first, rest)) if *first == shard => left = rest,
                Some(_) | None => gone.push(shard),
            }
        })?;
        new.extend_from_slice(left);
        Ok((gone, new))
    }

    /// In the order of their packs, then of their indices.
    fn each_shown(&self, location: LocationId, mut each: impl FnMut(Shard)) -> Result<()> {
        let mut query =
            self.db.prepare_cached("SELECT pack, shard FROM shown WHERE location = ?1 ORDER BY pack, shard")?;
        let mut rows = query.query([&location.0[..]])?;
        while let Some(row) = rows.next()? {
            let pack = row.get_ref(0)?.as_blob().unwrap_or_default();
            each((read_id(pack, PackId::from_slice)?, row.get(1)?));
        }
        Ok(())
    }
}

fn insert(db: &Connection, shown: impl Iterator<Item = (LocationId, PackId, u8)>) -> Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO shown (location, pack, shard) VALUES (?1, ?2, ?3)")?;
    for (location, pack, index) in shown {
        insert.execute(params![&location.0[..], &pack.0[..], index])?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shard(number: u8) -> Shard {
        (PackId([number / 3; 16]), number % 3)
    }

    #[test]
    fn what_is_remembered_is_the_last_listing_whatever_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
        let (here, there) = (LocationId([1; 16]), LocationId([2; 16]));
        let numbers = |of: &[u8]| -> Vec<Shard> { of.iter().map(|&number| shard(number)).collect() };
        catalog.remember_shown(there, &numbers(&[1, 5])).unwrap();
        let listings: [&[u8]; 9] =
            [&[3, 4, 9], &[3, 4, 9], &[], &[1, 2], &[2, 1, 2, 0], &[5, 7], &[0, 5, 6, 7, 8], &[6], &[4, 6, 9]];
        for listing in listings {
            catalog.remember_shown(here, &numbers(listing)).unwrap();
            let mut expected = numbers(listing);
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(catalog.shown(here).unwrap(), expected, "{listing:?}");
            let (gone, new) = catalog.changes(here, &expected).unwrap();
            assert!(gone.is_empty() && new.is_empty(), "an equal listing writes nothing");
        }
        catalog.add_shown(shard(5).0, &[(here, shard(5).1)]).unwrap();
        assert_eq!(catalog.shown(here).unwrap(), numbers(&[4, 5, 6, 9]));
        assert_eq!(catalog.shown(there).unwrap(), numbers(&[1, 5]), "another location's rows stay");
    }
}
