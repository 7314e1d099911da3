//! Bounds of the kernel: what a decoder may allocate for one item, and why each is what it is.
//! They are part of the format: raising one is a new format version, for an old node would refuse.

/// Components of a vector. The largest models in use have 8,192; 65,535 keeps every sum of squares of
/// small components below 2^64 (see `search.rs`).
pub const DIMENSION_MAX: u32 = 65_535;
/// Bytes of metadata of one record, node, edge or collection: a text of a few hundred pages.
pub const METADATA_BYTES_MAX: u32 = 1 << 20;
/// Bytes of the name of a collection or a kind.
pub const NAME_BYTES_MAX: u16 = 128;
/// Items (records, nodes, edges, ids) in one command.
pub const ITEMS_MAX: u32 = 65_536;
/// Commands in one batch.
pub const BATCH_COMMANDS_MAX: u32 = 65_536;
/// Bytes of one encoded command, batches included: one WAL record is read into memory whole.
pub const COMMAND_BYTES_MAX: u32 = 64 << 20;
/// User kinds start here; lower numbers belong to this program.
pub const USER_KIND_MIN: u16 = 256;
/// User kinds of one collection and one space: names are looked up by a scan.
pub const USER_KINDS_MAX: u64 = 1_024;
/// Hits one search may return.
pub const HITS_MAX: u32 = 10_000;
/// Bytes of one snapshot section: a full section plus the largest single item.
pub const SECTION_BYTES_MAX: u32 = 8 << 20;
