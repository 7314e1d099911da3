//! Whether a write that must replace nothing replaces nothing: one after the other, and
//! in a race.

use futures::future::join_all;
use object_store::{PutMode, PutPayload};

use super::trial::{Trial, real_version};
use crate::{BackendError, CreateAs, Kind};

/// How a location treats `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionalPut {
    /// The second write is refused and the first stands; of a race one wins.
    Honoured,
    /// The second write is refused, but of a race several are told they won.
    Racy,
    /// The second write succeeds: the condition is not looked at.
    Ignored,
    /// The server does not take such a request.
    Refused,
}

/// One round of sixteen: servers that race gave up to eleven winners in nearly every round,
/// and SeaweedFS, which does not, needs five to nine seconds for one.
pub(super) const RACERS: u32 = 16;

impl Trial<'_> {
    /// Creates one name twice, one after the other.
    pub(super) async fn create_twice(&mut self) -> Result<ConditionalPut, BackendError> {
        let (first, second) = (self.object("serial", 0), self.object("serial", 1));
        match self.put(&first.name, &first.bytes, PutMode::Create).await {
            Ok(_) => {}
            // Some servers answer 400 where others answer 501.
            Err(error) if error.kind() == Kind::Config => return Ok(ConditionalPut::Refused),
            Err(error) => return Err(error),
        }
        if self.location.create_as() == CreateAs::HeadThenPut {
            return Ok(ConditionalPut::Refused);
        }
        match self.put(&second.name, &second.bytes, PutMode::Create).await {
            Ok(_) => Ok(ConditionalPut::Ignored),
            // Refused with a good face, but replaced all the same: that is not honoured.
            Err(error) if error.kind() == Kind::Exists => {
                let stands = self.read(&first.name).await? == first.bytes;
                Ok(if stands { ConditionalPut::Honoured } else { ConditionalPut::Ignored })
            }
            Err(error) => Err(error),
        }
    }

    /// Lets writers race for a new name; how many were told they won. A writer that was
    /// turned away for another reason (overload) has not won.
    pub(super) async fn race(&mut self) -> u32 {
        let name = self.folder.clone().join("race");
        let writers = (0..RACERS).map(|writer| {
            let start = writer as usize * 1_000;
            let payload = PutPayload::from_bytes(self.noise.slice(start..start + 1_000));
            let (name, store) = (name.clone(), self.location.store());
            async move { store.put_opts(&name, payload, PutMode::Create.into()).await }
        });
        let results = join_all(writers).await;
        let winners = results.iter().flatten();
        let winners: Vec<_> = winners.map(|won| (name.clone(), real_version(won))).collect();
        let count = u32::try_from(winners.len()).unwrap_or(RACERS);
        for (name, version) in winners {
            self.remember(&name, version);
        }
        count
    }
}
