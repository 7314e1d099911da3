//! Names of stored objects. A name carries no location, so any location may
//! hold any index; counters are inverted, so a listing starts with the newest.

use crate::ids::{Hash, LineageId, PackId, StreamId, WriterId};

/// Folder of all shards.
pub const SHARDS: &str = "shards";
/// Folder of manifests.
pub const MANIFESTS: &str = "manifests";
/// Folder of vault records.
pub const VAULT: &str = "vault";
/// Folder of layout records.
pub const LAYOUT: &str = "layout";
/// Folder of certificates.
pub const CERTIFICATES: &str = "certificates";
/// Folder of tombstones.
pub const TOMBSTONES: &str = "tombstones";
/// Folder of revocations and fences.
pub const REVOCATIONS: &str = "revocations";
/// Folder of notes.
pub const NOTES: &str = "notes";
/// Folder of journal objects.
pub const JOURNAL: &str = "journal";

/// The location marker.
pub const MARKER: &str = "location";

/// A shard: `shards/WRITER/PP/PACK.II`.
pub fn shard(writer: WriterId, pack: PackId, index: u8) -> String {
    let pack = pack.to_string();
    format!("{SHARDS}/{writer}/{}/{pack}.{index:02}", &pack[..2])
}

/// Folder of a writer's shards.
pub fn shards_of(writer: WriterId) -> String {
    format!("{SHARDS}/{writer}")
}

/// Reads the name of a shard; `None` if it is not one.
pub fn parse_shard(name: &str) -> Option<(WriterId, PackId, u8)> {
    // Vaults list millions: nothing is written anew to be compared.
    let mut parts = name.split('/');
    let (folder, writer, prefix, last) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (pack, index) = last.split_once('.')?;
    let ours = folder == SHARDS && parts.next().is_none() && prefix.len() == 2 && pack.starts_with(prefix);
    let two_digits = index.len() == 2 && index.bytes().all(|digit| digit.is_ascii_digit());
    if !ours || !two_digits || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Some((WriterId::from_hex(writer)?, PackId::from_hex(pack)?, index.parse().ok()?))
}

/// Folder of a writer's manifests.
pub fn manifests_of(writer: WriterId) -> String {
    format!("{MANIFESTS}/{writer}")
}

/// A manifest: `manifests/WRITER/~EPOCH-~SEQUENCE`.
pub fn manifest(writer: WriterId, epoch: u64, sequence: u64) -> String {
    format!("{MANIFESTS}/{writer}/{:016x}-{:016x}", !epoch, !sequence)
}

/// Reads the name of a manifest.
pub fn parse_manifest(name: &str) -> Option<(WriterId, u64, u64)> {
    let rest = name.strip_prefix(MANIFESTS)?.strip_prefix('/')?;
    let (writer, counters) = rest.split_once('/')?;
    let (epoch, sequence) = counters.split_once('-')?;
    let found = (WriterId::from_hex(writer)?, !parse_counter(epoch)?, !parse_counter(sequence)?);
    (manifest(found.0, found.1, found.2) == name).then_some(found)
}

fn parse_counter(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?
}

/// A vault record: `vault/~EPOCH`.
pub fn vault(epoch: u64) -> String {
    format!("{VAULT}/{:016x}", !epoch)
}

/// A layout record: `layout/~EPOCH`.
pub fn layout(epoch: u64) -> String {
    format!("{LAYOUT}/{:016x}", !epoch)
}

/// A certificate, by the hash of its envelope.
pub fn certificate(hash: Hash) -> String {
    format!("{CERTIFICATES}/{hash}")
}

/// A tombstone: `tombstones/JANITOR/~SEQUENCE`.
pub fn tombstone(janitor: WriterId, sequence: u64) -> String {
    format!("{TOMBSTONES}/{janitor}/{:016x}", !sequence)
}

/// Reads the name of a tombstone.
pub fn parse_tombstone(name: &str) -> Option<(WriterId, u64)> {
    let (janitor, counter) = name.strip_prefix(TOMBSTONES)?.strip_prefix('/')?.split_once('/')?;
    let found = (WriterId::from_hex(janitor)?, !parse_counter(counter)?);
    (tombstone(found.0, found.1) == name).then_some(found)
}

/// A revocation or fence, by the hash of its envelope.
pub fn revocation(hash: Hash) -> String {
    format!("{REVOCATIONS}/{hash}")
}

/// A note, by the hash of its envelope.
pub fn note(hash: Hash) -> String {
    format!("{NOTES}/{hash}")
}

/// A journal object: `journal/STREAM/LINEAGE/~ORDINAL`.
pub fn journal(stream: StreamId, lineage: LineageId, ordinal: u64) -> String {
    format!("{JOURNAL}/{stream}/{lineage}/{:016x}", !ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_one_name() {
        let right = shard(WriterId([0xc3; 16]), PackId([0xab; 16]), 8);
        let (folder, last) = right.rsplit_once('/').unwrap();
        let wrong = [
            right.replacen("shards", "Shards", 1),
            right.replacen('c', "C", 1),
            right.replace(".08", ".8"),
            right.replace(".08", ".+8"),
            right.replace(".08", ".008"),
            right.replace("/ab/", "/a/"),
            right.replace("/ab/", "/abab/"),
            right.replace("/ab/", "//"),
            right.replace("ab.", "aB."),
            right.replace("ab.", "."),
            format!("{right}/x"),
            format!("{folder}/+{}", &last[1..]),
        ];
        for name in wrong {
            assert_eq!(parse_shard(&name), None, "{name}");
        }
    }

    #[test]
    fn names_read_back_and_newest_sorts_first() {
        let (writer, pack) = (WriterId([3; 16]), PackId([0xab; 16]));
        assert_eq!(parse_shard(&shard(writer, pack, 8)), Some((writer, pack, 8)));
        assert_eq!(parse_shard(&shard(writer, pack, 8).replace("/ab/", "/ac/")), None);
        assert_eq!(parse_manifest(&manifest(writer, 2, 9)), Some((writer, 2, 9)));
        assert_eq!(parse_tombstone(&tombstone(writer, 7)), Some((writer, 7)));
        assert_eq!(parse_tombstone(&tombstone(writer, 7).to_uppercase()), None);
        assert!(manifest(writer, 2, 10) < manifest(writer, 2, 9));
        assert!(manifest(writer, 3, 1) < manifest(writer, 2, 9));
    }
}
