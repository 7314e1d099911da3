//! The rehearsal, step 5 of a ceremony: a canary pack is sealed, and opened with the key
//! that the cards gave back.
//!
//! What always holds: the canary lies in a folder of its own, which is removed again or
//! named.

use keys::ceremony::{Dealt, Rehearsal, Rehearsed, Terms};
use vault_format::suite::Coding;
use vault_ops::OpsError;
use vault_ops::canary::{self, Cage};

use crate::ceremony_room::Room;
use crate::ceremony_stop::Stop;
use crate::exit::{self, Failure};
use crate::session::Session;

/// Step 5.
pub(crate) async fn rehearse(
    session: &Session,
    room: &Room,
    dealt: Dealt,
    stop: &Stop,
    note: &mut impl FnMut(u8, &str),
) -> Result<Rehearsed, Failure> {
    let refused = |error: keys::CardError| {
        stop.failed(Failure::new(exit::ERROR, format!("{error}. The new cards are useless: destroy them")))
    };
    let rehearsal = dealt.rehearse().map_err(refused)?;
    let sung = sing(session, room, &rehearsal, stop).await.map_err(|failure| stop.failed(failure))?;
    let (total, need) = sung.shards;
    let said = format!(
        "the read-back cards gave the seed; a canary pack was sealed into {total} shards and opened from {need} with its \
         read key"
    );
    session.output.say(format!("5/6 rehearsed: {said}"));
    note(5, &said);
    if let Some(vault) = &room.vault {
        let terms = rehearsal.terms();
        let mut read = keys::files::ReadKey::from_seed(rehearsal.seed(), terms.generation, terms.vault);
        // After a rotation the newest point may be of a generation before.
        vault.complete(&mut read).map_err(|error| stop.failed(error.into()))?;
        match canary::open_newest(vault, std::sync::Arc::new(read)).await {
            Ok(None) => note(5, "the vault holds no point yet"),
            Ok(Some(point)) => {
                let said = format!("the newest stored point, {}, was opened", vault_ops::points::point_text(point));
                session.output.say(format!("    {said}"));
                note(5, &said);
            }
            Err(error @ OpsError::Key { .. }) => return Err(stop.failed(error.into())),
            Err(error) => {
                session.output.warn(format!("the newest stored point was not opened in the rehearsal: {error}"));
                note(5, &format!("the newest stored point was not opened: {error}"));
            }
        }
    }
    rehearsal.opened(&sung.sealed, &sung.opened).map_err(refused)
}

/// The canary, in a folder of its own that is removed again.
async fn sing(session: &Session, room: &Room, rehearsal: &Rehearsal, stop: &Stop) -> Result<canary::Sung, Failure> {
    let Terms { vault, generation, .. } = *rehearsal.terms();
    let (reader, coding) = match &room.vault {
        Some(opened) => (canary::reader_of(opened, generation)?, opened.coding),
        None => {
            let coding = Coding::new(5, 9).map_err(|error| Failure::new(exit::ERROR, error.to_string()))?;
            (rehearsal.seed().reader_key(generation).public().clone(), coding)
        }
    };
    let folder = std::env::temp_dir().join(format!("holdfast-canary-{}-{}", std::process::id(), rehearsal.terms().set));
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(exit::ERROR, format!("the canary could not be written to {}: {error}", folder.display()))
    };
    std::fs::create_dir(&folder).map_err(|error| failed(&error))?;
    stop.litters(&folder);
    let place = crate::given::one_folder(&folder).await;
    let sung = match &place {
        Ok(place) => {
            let cage = Cage { vault, coding, reader: &reader };
            canary::sing(&session.world, &cage, (rehearsal.seed(), generation), place).await.map_err(Failure::from)
        }
        Err(failure) => Err(failed(&failure.text)),
    };
    let removed = std::fs::remove_dir_all(&folder);
    let sung = sung?;
    removed.map_err(|error| failed(&error))?;
    stop.cleaned();
    Ok(sung)
}
