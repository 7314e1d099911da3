//! One pack on its way: sealed, coded, placed.
//!
//! What always holds: a pack comes back from here durable(d), by copies that were
//! read back, or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys::files::WriterKey;
use vault_codec::{Buffers, Pack, SealContext, ShardSet};
use vault_format::Hash;
use vault_format::body::IndexEntry;
use vault_format::manifest::PackRef;

use crate::error::{OpsError, Result};
use crate::place::{Debt, Placed, place};
use crate::placement::{Copy, survives};
use crate::step::Step;
use crate::vault::Vault;

/// What sealing needs, shared with the threads that seal.
pub(crate) struct Sealing {
    pub(crate) keys: Arc<WriterKey>,
    pub(crate) vault: vault_format::VaultId,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) certificate: Hash,
    pub(crate) buffers: Buffers,
}

/// A pack on its locations.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) reference: PackRef,
    pub(crate) copies: Vec<Copy>,
    pub(crate) debts: Vec<Debt>,
    pub(crate) body_bytes: u64,
}

/// A stored pack and what the catalog keeps of it.
pub(crate) struct StoredPack {
    pub(crate) stored: Stored,
    pub(crate) index: Vec<IndexEntry>,
    pub(crate) class: u8,
}

/// Seals, codes and places one pack; an error if it is not durable(d).
pub(crate) async fn store_pack(vault: &Vault, sealing: Arc<Sealing>, pack: Pack) -> Result<StoredPack> {
    let class = pack.class() as u8;
    let body_bytes = pack.body_bytes() as u64;
    let index: Vec<IndexEntry> = pack
        .entries()
        .map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind })
        .collect();
    let rng = vault.world.rng();
    let set = vault.world.compute.run(move || sealing.seal_and_code(pack, rng)).await?;
    vault.world.reached(Step::BackupPackSealed);
    let placed = place(vault, &set).await;
    if !survives(&placed.copies, vault.coding, vault.survive()) {
        return Err(not_durable(vault, &placed));
    }
    vault.world.reached(Step::BackupPackPlaced);
    let stored = Stored { reference: set.pack_ref(), copies: placed.copies, debts: placed.debts, body_bytes };
    Ok(StoredPack { stored, index, class })
}

/// Says who did not take its shards: also where others took them over, and yet one
/// more loss would be one too many.
fn not_durable(vault: &Vault, placed: &Placed) -> OpsError {
    let name = |debt: &Debt| format!("{}: {}", vault.location_name(debt.location), debt.why);
    let whys: BTreeSet<String> = placed.debts.iter().map(name).collect();
    OpsError::Unreachable {
        what: format!(
            "not durable: the locations that took the shards of a pack would not survive the loss of {} more domains, as \
             the vault declares ({}). No point was made; earlier points are untouched. Mend or bring back the locations \
             and run the same command again: what was stored is used",
            vault.survive(),
            whys.into_iter().collect::<Vec<_>>().join("; ")
        ),
    }
}

impl Sealing {
    fn seal_and_code(&self, pack: Pack, mut rng: rand_chacha::ChaCha20Rng) -> Result<ShardSet> {
        let context = SealContext {
            vault: self.vault,
            writer: self.keys.writer,
            epoch: self.epoch,
            sequence: self.sequence,
            recipients: std::slice::from_ref(self.keys.reader.last().ok_or_else(|| OpsError::Key {
                what: "the writer key file names no reader to seal to; issue a new writer key".to_owned(),
            })?),
            index: &self.keys.index,
            local: &self.keys.local,
        };
        let failed = |error: vault_codec::CodecError| OpsError::corrupt("a pack just sealed", error.to_string());
        let sealed = pack.seal(&context, &self.buffers, &mut rng).map_err(failed)?;
        sealed.code(&self.keys.signing, self.certificate, &self.buffers).map_err(failed)
    }
}
