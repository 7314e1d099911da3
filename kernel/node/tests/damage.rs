//! Damaged files: detected and named, or (for a write that never completed) cut; never skipped, never
//! opened as something smaller in silence, and no file changed on the way to the error.
#![allow(clippy::unwrap_used)]

mod sim;

use kernel_node::core::Hash;
use kernel_node::{Config, Error, Unattached};
use sim::{Image, SimDisk};

/// A small node with two segments and two snapshots, stopped cleanly.
async fn small() -> (Image, u64, Hash) {
    let disk = SimDisk::new();
    let node = sim::open(&disk, &sim::config()).unwrap();
    node.write(sim::create()).await.unwrap();
    for number in 0..8 {
        node.write(sim::put(number * 10..number * 10 + 2)).await.unwrap();
        if number == 3 {
            node.snapshot().await.unwrap();
        }
    }
    let at = node.published().at;
    node.stop().await.unwrap();
    let image = disk.image();
    assert_eq!(image.keys().filter(|name| name.starts_with("wal-")).count(), 2, "{:?}", image.keys());
    assert_eq!(image.keys().filter(|name| name.starts_with("snap-")).count(), 2, "{:?}", image.keys());
    (image, at.sequence, at.state_hash)
}

fn flipped(image: &Image, name: &str, bit: usize) -> Image {
    let mut image = image.clone();
    image.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
    image
}

/// Opens, and checks that an error changed nothing.
fn open(image: &Image) -> Result<(u64, Hash), Error> {
    let disk = SimDisk::holding(image);
    match sim::open(&disk, &sim::config()) {
        Ok(node) => {
            let at = node.published().at;
            Ok((at.sequence, at.state_hash))
        }
        Err(error) => {
            assert_eq!(disk.image(), *image, "an error must leave everything as it was: {error}");
            Err(error)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_bit_after_a_clean_stop() {
    let (image, sequence, hash) = small().await;
    let newest = image.keys().rfind(|name| name.starts_with("snap-")).unwrap().clone();
    let segments: Vec<String> = image.keys().filter(|name| name.starts_with("wal-")).cloned().collect();
    for (name, content) in &image {
        for bit in 0..content.len() * 8 {
            let opened = open(&flipped(&image, name, bit));
            if name.starts_with("snap-") {
                // Passed over if it is the newest (the one before and the log bring everything back), not
                // even read if it is older. A newer-format snapshot is not damage: it is refused.
                match opened {
                    Ok(found) => assert_eq!(found, (sequence, hash), "{name} bit {bit}"),
                    Err(error) => {
                        assert!(*name == newest && matches!(error, Error::Kernel(_)), "{name} bit {bit}: {error}");
                    }
                }
            } else if *name == segments[0] {
                // Wholly below the newest snapshot or checked: never a different state.
                if let Ok(found) = opened {
                    assert_eq!(found, (sequence, hash), "{name} bit {bit}");
                }
            } else {
                assert!(opened.is_err(), "{name} bit {bit}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_bit_after_a_crash() {
    let (mut image, sequence, hash) = small().await;
    image.remove("closed");
    let last = image.keys().rfind(|name| name.starts_with("wal-")).unwrap().clone();
    let (mut cut, mut refused) = (0, 0);
    for bit in 0..image[&last].len() * 8 {
        match open(&flipped(&image, &last, bit)) {
            // Each write was a group of its own here: only the last can be a write that never completed.
            Ok((found, _)) => {
                assert_eq!(found, sequence - 1, "bit {bit}");
                cut += 1;
            }
            Err(Error::Corrupt { place, .. }) => {
                assert!(place.contains("sequence") || bit < 128 * 8, "the error names the sequence: {place}");
                refused += 1;
            }
            Err(error) => assert!(matches!(error, Error::Kernel(_)), "bit {bit}: {error}"),
        }
    }
    assert!(cut > 0 && refused > cut, "{cut} {refused}");
    // Every cut of the last segment: a torn tail is cut, a lost acknowledged record of an older sync is not seen
    // from here, but what opens is always a true earlier state.
    for length in 128..image[&last].len() {
        let mut shorter = image.clone();
        shorter.get_mut(&last).unwrap().truncate(length);
        let (found, _) = open(&shorter).unwrap();
        assert!(found < sequence);
    }
    assert_eq!(open(&image).unwrap(), (sequence, hash));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_foreign_files() {
    let (image, sequence, hash) = small().await;
    let without = |gone: &dyn Fn(&str) -> bool| -> Image {
        image.iter().filter(|(name, _)| !gone(name)).map(|(name, content)| (name.clone(), content.clone())).collect()
    };
    let no_snapshot = open(&without(&|name| name.starts_with("snap-")));
    assert!(matches!(no_snapshot, Err(Error::BadDirectory { .. })), "a log without a snapshot is not an empty node");
    let no_log = open(&without(&|name| name.starts_with("wal-")));
    assert!(matches!(no_log, Err(Error::Corrupt { .. })), "the mark of the clean stop knows that there was a log");
    let first = image.keys().find(|name| name.starts_with("wal-")).unwrap();
    let last = image.keys().rfind(|name| name.starts_with("wal-")).unwrap();
    assert!(open(&without(&|name| name == last)).is_err());
    // The first segment may be below the newest snapshot; then nothing is missed.
    if let Ok(found) = open(&without(&|name| name == first)) {
        assert_eq!(found, (sequence, hash));
    }
    let mut foreign = image.clone();
    foreign.insert("notes.txt".to_owned(), b"mine".to_vec());
    assert!(matches!(open(&foreign), Err(Error::BadDirectory { .. })));
    let stranger: Image = [("notes.txt".to_owned(), b"mine".to_vec())].into();
    assert!(matches!(open(&stranger), Err(Error::BadDirectory { .. })), "never a fresh node among foreign files");

    let other = {
        let disk = SimDisk::new();
        let config = Config::new(kernel_node::core::Lineage::from_bytes([8; 16]));
        let node = sim::open(&disk, &config).unwrap();
        node.write(sim::create()).await.unwrap();
        disk.image()
    };
    let mut mixed = without(&|name| name.starts_with("wal-") || name == "closed");
    mixed.extend(other.into_iter().filter(|(name, _)| name.starts_with("wal-")));
    assert!(open(&mixed).is_err(), "files of two nodes are not one node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_released_behind_the_agent_and_never_before() {
    let disk = SimDisk::new();
    let node = sim::open(&disk, &sim::config()).unwrap();
    node.write(sim::create()).await.unwrap();
    let mut write = 0..;
    let mut writes = async |node: &kernel_node::Node, count: usize| {
        for number in write.by_ref().take(count) {
            node.write(sim::put(number * 10..number * 10 + 5)).await.unwrap();
        }
    };
    writes(&node, 10).await;
    node.snapshot().await.unwrap();
    writes(&node, 10).await;
    node.snapshot().await.unwrap();
    writes(&node, 10).await;
    node.snapshot().await.unwrap();
    let log = |node: &kernel_node::Node, after| node.log_after(None, after, usize::MAX);
    assert_eq!(log(&node, 0).unwrap().first, Some(1), "no agent yet: everything is kept");
    node.set_cursors(sim::LINEAGE, 15, 5).await.unwrap();
    assert_eq!(log(&node, 5).unwrap().first, Some(6));
    node.set_cursors(sim::LINEAGE, 31, 31).await.unwrap();
    assert!(matches!(log(&node, 5), Err(Error::Gone { .. })), "folded and covered by two snapshots: released");
    let oldest = node.snapshots()[0].sequence;
    assert_eq!(log(&node, oldest).unwrap().last, Some(31), "recovery from the older snapshot needs this");
    let lying = node.set_cursors(sim::LINEAGE, 99, 99).await;
    assert!(matches!(lying, Err(Error::Conflict { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_reads_the_same_in_any_steps() {
    let node = sim::open(&SimDisk::new(), &sim::config()).unwrap();
    node.write(sim::create()).await.unwrap();
    for number in 0..40 {
        node.write(sim::put(number * 10..number * 10 + 1 + number % 5)).await.unwrap();
    }
    let all = node.log_after(None, 0, usize::MAX).unwrap();
    assert_eq!((all.first, all.last), (Some(1), Some(41)));
    for bytes_max in [1, 400, 1_000, 5_000] {
        // Two readers in turns, and one that goes back, must not disturb each other.
        let (mut one, mut two, mut after_one, mut after_two) = (Vec::new(), Vec::new(), 0, 0);
        while after_one < 41 || after_two < 41 {
            for (collected, after, step) in [(&mut one, &mut after_one, bytes_max), (&mut two, &mut after_two, 700)] {
                let tail = node.log_after(None, *after, step).unwrap();
                collected.extend(tail.bytes);
                *after = tail.last.unwrap_or(*after);
            }
            assert_eq!(node.log_after(None, 3, 1).unwrap().first, Some(4));
        }
        assert!(one == all.bytes && two == all.bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_bound_the_chain_breaks_loudly() {
    let disk = SimDisk::new();
    let config = Config { wal_bytes_max: 12_000, unattached: Unattached::Keep, ..sim::config() };
    let node = sim::open(&disk, &config).unwrap();
    node.write(sim::create()).await.unwrap();
    node.set_cursors(sim::LINEAGE, 1, 1).await.unwrap();
    for number in 0..200 {
        node.write(sim::put(number * 10..number * 10 + 5)).await.unwrap();
        if number % 20 == 19 {
            node.snapshot().await.unwrap();
        }
    }
    let cursors = node.cursors();
    assert!(cursors.chain_broken_at > 1, "{cursors:?}");
    assert!(matches!(node.log_after(None, 1, usize::MAX), Err(Error::Gone { .. })));
    let bytes: usize = disk.image().iter().filter(|(name, _)| name.starts_with("wal-")).map(|(_, all)| all.len()).sum();
    assert!(bytes < 60_000, "the bound holds roughly: {bytes}");
    // It is remembered over a restart, and healed when the agent has folded beyond it.
    drop(node);
    let node = sim::open(&SimDisk::holding(&disk.image()), &config).unwrap();
    assert_eq!(node.cursors().chain_broken_at, cursors.chain_broken_at);
    let now = node.published().at.sequence;
    assert_eq!(node.set_cursors(sim::LINEAGE, now, now).await.unwrap().chain_broken_at, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_settings_and_cursors_beyond_the_log_are_refused() {
    let config = Config { acknowledge: kernel_node::Acknowledge::Vault, ..sim::config() };
    let refused = sim::open(&SimDisk::new(), &config).map(drop).unwrap_err();
    assert!(refused.to_string().contains("journal tier"), "{refused}");

    // A disk that went back in time, while the vault holds more: the node says so instead of going on.
    let disk = SimDisk::new();
    let node = sim::open(&disk, &sim::config()).unwrap();
    node.write(sim::create()).await.unwrap();
    let early = disk.image();
    node.write(sim::put(0..3)).await.unwrap();
    node.set_cursors(sim::LINEAGE, 2, 0).await.unwrap();
    let mut back = early;
    back.insert("cursors".to_owned(), disk.image()["cursors"].clone());
    assert!(matches!(open(&back), Err(Error::Corrupt { .. })));
}
