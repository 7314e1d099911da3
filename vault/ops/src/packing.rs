//! One pack on its way: sealed, coded, placed.
//!
//! What always holds: a pack comes back from here durable(d), by copies that were
//! read back, or whole in the spool, or not at all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use keys::files::WriterKey;
use vault_codec::{Buffers, Pack, SealContext, ShardSet};
use vault_format::body::IndexEntry;
use vault_format::manifest::PackRef;
use vault_format::{Hash, PackId};

use crate::error::{OpsError, Result};
use crate::place::{Debt, Placed, place};
use crate::placement::{Copy, survives};
use crate::spool::Spool;
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
    pub(crate) detour: Option<Detour>,
}

/// Where packs go that the locations do not take.
pub(crate) struct Detour {
    spool: Spool,
    state: Mutex<DetourState>,
}

#[derive(Default)]
struct DetourState {
    /// Before this nobody asks the locations again.
    closed_until_ms: i64,
    /// Packs of this run that went into the spool.
    packs: BTreeSet<PackId>,
    why: Option<String>,
}

/// Locations that did not take a pack are asked again after this: each time costs
/// their whole patience.
const ASK_AGAIN_MS: i64 = 60_000;

impl Detour {
    /// The way into the spool. With a reason, it is the only one: too few locations
    /// answer.
    pub(crate) fn new(spool: Spool, only: Option<String>) -> Self {
        let closed_until_ms = if only.is_some() { i64::MAX } else { i64::MIN };
        Self { spool, state: Mutex::new(DetourState { closed_until_ms, why: only, ..DetourState::default() }) }
    }

    /// Packs of this run that are in the spool.
    pub(crate) fn packs(&self) -> BTreeSet<PackId> {
        self.state().packs.clone()
    }

    /// Why the spool is used, if it is.
    pub(crate) fn why(&self) -> Option<String> {
        self.state().why.clone()
    }

    /// Gives up what this run put in: it does not fit whole.
    pub(crate) async fn take_back(&self) -> Result<()> {
        self.spool.remove_packs(&self.packs()).await
    }

    fn is_closed(&self, now_ms: i64) -> bool {
        now_ms < self.state().closed_until_ms
    }

    async fn take(&self, set: &ShardSet, now_ms: i64, error: Option<OpsError>) -> Result<()> {
        if let Some(error) = error {
            let mut state = self.state();
            state.closed_until_ms = state.closed_until_ms.max(now_ms.saturating_add(ASK_AGAIN_MS));
            state.why = state.why.take().or(Some(error.to_string()));
        }
        self.spool.add_pack(set).await?;
        self.state().packs.insert(set.pack());
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, DetourState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A pack on its locations.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) reference: PackRef,
    pub(crate) copies: Vec<Copy>,
    pub(crate) debts: Vec<Debt>,
    pub(crate) body_bytes: u64,
    /// It is in the spool, and the copies do not make it durable(d).
    pub(crate) spooled: bool,
}

/// A stored pack and what the catalog keeps of it.
pub(crate) struct StoredPack {
    pub(crate) stored: Stored,
    pub(crate) index: Vec<IndexEntry>,
    pub(crate) class: u8,
}

/// Seals, codes and places one pack; an error if it is neither durable(d) nor in the
/// spool.
pub(crate) async fn store_pack(vault: &Vault, sealing: Arc<Sealing>, pack: Pack) -> Result<StoredPack> {
    let class = pack.class() as u8;
    let body_bytes = pack.body_bytes() as u64;
    let index: Vec<IndexEntry> = pack
        .entries()
        .map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind })
        .collect();
    let rng = vault.world.rng();
    let seals = Arc::clone(&sealing);
    let set = vault.world.compute.run(move || seals.seal_and_code(pack, rng)).await?;
    vault.world.reached(Step::BackupPackSealed);
    let detour = sealing.detour.as_ref();
    let only = detour.filter(|detour| detour.is_closed(vault.world.now_ms()));
    let placed = if only.is_some() { Placed::default() } else { place(vault, &set).await };
    let spooled = !survives(&placed.copies, vault.coding, vault.survive());
    if spooled {
        let error = only.is_none().then(|| not_durable(vault, &placed));
        match (detour, error) {
            (Some(detour), error) => {
                detour.take(&set, vault.world.now_ms(), error).await?;
                vault.world.reached(Step::SpoolPackKept);
            }
            (None, Some(error)) => return Err(error),
            (None, None) => {}
        }
    }
    vault.world.reached(Step::BackupPackPlaced);
    let stored = Stored { reference: set.pack_ref(), copies: placed.copies, debts: placed.debts, body_bytes, spooled };
    Ok(StoredPack { stored, index, class })
}

/// Says who did not take its shards: also where others took them over, and yet one
/// more loss would be one too many.
pub(crate) fn not_durable(vault: &Vault, placed: &Placed) -> OpsError {
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
