//! Many lookups of chunks, one after the other.
//!
//! What always holds: it has a connection of its own and only reads; what it sees is at
//! most [`LOOKUPS_PER_VIEW`] lookups old. One transaction for many lookups saves the
//! file locks that SQLite takes for each, which cost more than the lookup.

use vault_format::{ChunkId, PackId};

use super::Catalog;
use crate::error::Result;

/// A view kept for ever would keep the write-ahead log from being folded.
const LOOKUPS_PER_VIEW: u32 = 4096;
/// Of the catalog that stay in memory: the inner pages of an index of ten million chunks,
/// so that a lookup reads one page.
const CACHE_KIB: i64 = 16 << 10;

/// The catalog's chunks, for the reading thread of a backup.
pub struct Lookup {
    catalog: Catalog,
    left: u32,
}

impl Lookup {
    /// Looks up in the catalog that `catalog` is open on.
    pub fn of(catalog: &Catalog) -> Result<Self> {
        let catalog = catalog.second()?;
        catalog.db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(Self { catalog, left: 0 })
    }

    /// What was added until now is seen from now on.
    pub(crate) fn renew(&mut self) {
        self.left = 0;
    }

    /// The pack that holds a chunk, if one does.
    pub fn chunk(&mut self, id: ChunkId) -> Result<Option<PackId>> {
        if self.left == 0 {
            if !self.catalog.db.is_autocommit() {
                self.catalog.db.execute_batch("COMMIT")?;
            }
            self.catalog.db.execute_batch("BEGIN")?;
            self.left = LOOKUPS_PER_VIEW;
        }
        self.left -= 1;
        self.catalog.chunk(id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use vault_format::Hash;
    use vault_format::body::{ChunkKind, IndexEntry};

    use super::*;
    use crate::catalog::{PackRow, PackState};

    #[test]
    fn what_is_added_meanwhile_is_seen_and_adding_is_not_blocked() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
        let mut lookup = Lookup::of(&catalog).unwrap();
        let (id, pack) = (ChunkId([7; 32]), PackId([8; 16]));
        assert_eq!(lookup.chunk(id).unwrap(), None);
        let row = PackRow { pack, header: Hash([9; 32]), class: 1, state: PackState::Stored };
        catalog.add_pack(row, &[IndexEntry { id, plain_bytes: 5, kind: ChunkKind::Data }]).unwrap();
        assert_eq!(lookup.chunk(id).unwrap(), None, "its view is older");
        lookup.renew();
        assert_eq!(lookup.chunk(id).unwrap(), Some(pack));
        let seen = (0..=LOOKUPS_PER_VIEW).find_map(|_| lookup.chunk(id).unwrap());
        assert_eq!(seen, Some(pack));
    }
}
