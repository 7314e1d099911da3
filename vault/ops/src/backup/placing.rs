//! Packs on their way from the source to the locations and into the catalog.
//!
//! What always holds: so many are under way as the memory budget allows; a pack is noted
//! in the catalog before the source stops remembering its chunks; the first failure stops
//! the source.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use vault_codec::Pack;
use vault_format::PackId;

use super::Run;
use crate::catalog::{Catalog, PackRow, PackState};
use crate::error::Result;
use crate::heal;
use crate::intake::Gate;
use crate::packing::{Stored, StoredPack, store_pack};
use crate::step::Step;
use crate::vault::Vault;

impl Run<'_> {
    /// Takes packs as they come until there are no more.
    pub(super) async fn place_all(&mut self, mut packs: mpsc::UnboundedReceiver<Pack>, gate: &Gate) -> Result<()> {
        let mut work = FuturesUnordered::new();
        let mut open = true;
        loop {
            tokio::select! {
                // In this order, not by a coin of the runtime's: the same run is the same run again.
                biased;
                pack = packs.recv(), if open && work.len() < self.room.in_flight => match pack {
                    Some(pack) => work.push(store_pack(self.vault, Arc::clone(&self.sealing), pack)),
                    None => open = false,
                },
                Some(outcome) = work.next() => {
                    let noted = match outcome {
                        Ok(done) => self.pass(done, gate),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = noted {
                        gate.close();
                        return Err(error);
                    }
                }
                else => return Ok(()),
            }
        }
    }

    fn pass(&mut self, done: StoredPack, gate: &Gate) -> Result<()> {
        let (pack, chunks) = (done.stored.reference.pack, done.index.iter().map(|entry| entry.id).collect());
        Self::note(self.vault, self.catalog, &mut self.stored, done)?;
        gate.leave(pack, chunks);
        Ok(())
    }

    /// The catalog knows a pack from now on.
    pub(super) fn note(
        vault: &Vault,
        catalog: &mut Catalog,
        stored: &mut BTreeMap<PackId, Stored>,
        done: StoredPack,
    ) -> Result<()> {
        let row = PackRow {
            pack: done.stored.reference.pack,
            header: done.stored.reference.header,
            class: done.class,
            state: if done.stored.spooled { PackState::Spooled } else { PackState::Stored },
        };
        catalog.add_pack(row, &done.index)?;
        let copies: Vec<_> = done.stored.copies.iter().map(|copy| (copy.spot.location, copy.index)).collect();
        catalog.add_shown(row.pack, &copies)?;
        heal::note_wrong(vault, catalog, &done.stored.debts)?;
        stored.insert(row.pack, done.stored);
        vault.world.reached(Step::BackupPackNoted);
        Ok(())
    }
}
