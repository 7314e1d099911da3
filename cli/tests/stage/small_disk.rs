//! A file system of its own for one folder, as small as wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounted memory; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Fails where this user may not mount: a full disk cannot be had otherwise.
    pub fn mount(at: &Path, bytes: u64) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={bytes}");
        let ran = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output().unwrap();
        let why = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "this test mounts a file system and needs root's right to do so: {why}");
        Self(at.to_owned())
    }

    /// Makes room, or takes it.
    pub fn resize(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl SmallDisk {
    /// No more than so many names may be given there; none for as many as wanted.
    pub fn limit_names(&self, most: Option<u64>) {
        let options = format!("remount,nr_inodes={}", most.unwrap_or(0));
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }

    /// Names that are given there.
    pub fn names_used(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.0).unwrap();
        space.f_files - space.f_ffree
    }

    /// Bytes that are taken there.
    pub fn bytes_used(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.0).unwrap();
        (space.f_blocks - space.f_bfree) * space.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A folder that stays mounted is seen when the stage is removed.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
