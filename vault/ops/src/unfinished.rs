//! A vault that was begun and not finished: `vault init` was killed, or a location
//! went away in the middle of it.
//!
//! What always holds: what stands already is taken over byte for byte and nothing
//! is overwritten; a location that belongs to another vault, or to this one when
//! it is finished, is refused; so is a plan that is not the one begun.

use vault_format::envelope::RecordKind;
use vault_format::layout::LayoutRecord;
use vault_format::marker::Marker;
use vault_format::names;
use vault_format::vault::VaultRecord;

use crate::create::FirstKeys;
use crate::error::{OpsError, Result};
use crate::location::Location;

/// The records that stand somewhere, signed by these very keys.
#[derive(Default)]
pub(crate) struct Unfinished {
    pub(crate) vault_record: Option<Vec<u8>>,
    pub(crate) layout: Option<Vec<u8>>,
}

/// Looks at every location; an error if one is occupied.
pub(crate) async fn look(keys: &FirstKeys<'_>, locations: &[Location]) -> Result<Unfinished> {
    let (mut found, mut finished) = (Unfinished::default(), 0);
    for location in locations {
        let marker = Marker { vault: keys.vault, location: location.id }.encode();
        let theirs = location.read(names::MARKER).await?.is_some_and(|bytes| bytes[..] != marker[..]);
        let vault_record = location.read(&names::vault(1)).await?.map(|bytes| bytes.to_vec());
        let layout = location.read(&names::layout(1)).await?.map(|bytes| bytes.to_vec());
        let more = location.list_first(names::VAULT, 2).await?.len() > usize::from(vault_record.is_some());
        let ours = |bytes: &Option<Vec<u8>>, kind, key: &keys::signature::SigningKey| {
            bytes
                .as_ref()
                .is_none_or(|bytes| keys::record::verify(bytes, kind, keys.vault, key.verifying_key()).is_ok())
        };
        let ours = ours(&vault_record, RecordKind::Vault, keys.root)
            && ours(&layout, RecordKind::Layout, &keys.operator.signing);
        if theirs || more || !ours {
            return Err(occupied(location));
        }
        finished += usize::from(vault_record.is_some() && layout.is_some());
        found.vault_record = found.vault_record.or(vault_record);
        found.layout = found.layout.or(layout);
    }
    match locations.first() {
        Some(first) if finished == locations.len() => Err(occupied(first)),
        _ => Ok(found),
    }
}

fn occupied(location: &Location) -> OpsError {
    OpsError::Refused {
        what: format!(
            "{} already holds a vault; nothing was written. Choose an empty location, or restore from it with: holdfast \
             vault restore --from",
            location.name
        ),
    }
}

impl Unfinished {
    /// The vault record to write: the one that stands, if it is the one planned but
    /// for its time.
    pub(crate) fn vault_record(&self, planned: &VaultRecord) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = &self.vault_record else { return Ok(None) };
        let stands: VaultRecord = body("the vault record begun", bytes)?;
        let same = VaultRecord { created_ms: stands.created_ms, ..planned.clone() } == stands;
        if same { Ok(Some(bytes.clone())) } else { Err(other_plan()) }
    }

    /// The layout to write, likewise: but for its time and what is sealed in it.
    pub(crate) fn layout(&self, planned: &LayoutRecord) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = &self.layout else { return Ok(None) };
        let stands: LayoutRecord = body("the layout begun", bytes)?;
        let but_for = LayoutRecord { created_ms: stands.created_ms, names: stands.names.clone(), ..planned.clone() };
        if but_for == stands { Ok(Some(bytes.clone())) } else { Err(other_plan()) }
    }
}

fn body<T>(what: &'static str, bytes: &[u8]) -> Result<T>
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    let envelope = vault_format::envelope::Envelope::decode(bytes).map_err(|error| OpsError::format(what, &error))?;
    vault_format::decode(what, &envelope.body).map_err(|error| OpsError::format(what, &error))
}

fn other_plan() -> OpsError {
    OpsError::Refused {
        what:
            "a vault of other locations, domains or encoding was begun here with these keys and not finished. Nothing \
               was written. Put the configuration back as it was and run `holdfast vault init` again, or empty the \
               locations"
                .to_owned(),
    }
}
