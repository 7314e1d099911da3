//! The layout record: where the operator says shards belong. Names and URLs are
//! sealed to the reader; stores see numbers.

use crate::cbor::{numbered, record};
use crate::ids::{Hash, LocationId, WriterId};
use crate::sealed::SealedBlob;

record! {
    /// Body of a record of kind `Layout`, signed by an operator.
    LayoutRecord {
        /// 1 for the first; grows by one with each change.
        0 epoch: u64,
        /// Hash of the previous layout's envelope; zero for the first.
        1 previous: Hash,
        /// Hash of the vault record it belongs to.
        2 vault_record: Hash,
        /// d: how many domains may be lost at once.
        3 survive_domains: u8,
        /// All locations, in a fixed order.
        4 locations: Vec<LayoutLocation>,
        /// Writers that may write.
        5 writers: Vec<LayoutWriter>,
        /// [`LayoutNames`], sealed to the reader.
        6 names: SealedBlob,
        /// When it was made, milliseconds since 1970.
        7 created_ms: i64,
    }
}

record! {
    /// One bucket or folder.
    LayoutLocation {
        /// The location.
        0 location: LocationId,
        /// Locations with the same number can fail together.
        1 domain: u16,
        /// Whether shards may be placed there.
        2 state: LocationState,
        /// Proven when the location was added.
        3 grade: LocationGrade,
        /// Whether it may be away for long.
        4 attached: Attachment,
    }
}

numbered! {
    /// What a location is used for.
    LocationState {
        /// Takes new shards.
        1 Active,
        /// Is being emptied.
        2 Retiring,
        /// Holds nothing any more.
        3 Retired,
    }
}

numbered! {
    /// What a hostile host can do there.
    LocationGrade {
        /// Overwrite and delete.
        1 Overwritable,
        /// Hide behind newer versions, not destroy.
        2 Versioned,
        /// Nothing until the lock ends.
        3 Locked,
    }
}

numbered! {
    /// Whether a location is always there.
    Attachment {
        /// Expected at any time.
        1 Always,
        /// A removable medium.
        2 Sometimes,
    }
}

record! {
    /// A writer and the certificate it signs under.
    LayoutWriter {
        /// The writer.
        0 writer: WriterId,
        /// Hash of its certificate envelope.
        1 certificate: Hash,
    }
}

record! {
    /// What only the reader may know of a layout.
    LayoutNames {
        /// The vault's name.
        0 vault: String,
        /// A name for each location, in the order of the layout.
        1 locations: Vec<LocationName>,
    }
}

record! {
    /// A location's name and address.
    LocationName {
        /// The location.
        0 location: LocationId,
        /// As in the configuration.
        1 name: String,
        /// Its URL, without credentials.
        2 url: String,
        /// Endpoint of an S3-compatible store, or empty.
        3 endpoint: String,
        /// Region, or empty.
        4 region: String,
        /// Name of its domain.
        5 domain: String,
    }
}
