//! Small disks that can be filled up: a tmpfs each, for which one must be root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::statvfs;

/// The file that takes all the room.
const FILLER: &str = "filler";

/// A mounted disk; unmounted when dropped.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts a disk of `bytes` at `folder`, which is made.
    pub(super) fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let size = format!("size={bytes}");
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .with_context(|| {
            format!(
                "cannot mount {}; a disk to be filled needs root",
                folder.display()
            )
        })?;
        Ok(Self(folder.to_owned()))
    }

    /// Takes all the room there is but so many bytes.
    pub(super) fn fill_but(&self, bytes: u64) -> anyhow::Result<()> {
        let mut file = File::create(self.0.join(FILLER))?;
        let portion = [0; 64 << 10];
        loop {
            let disk = statvfs(&self.0)?;
            let free = disk.f_bavail * disk.f_frsize;
            let length = free.saturating_sub(bytes).min(portion.len() as u64) as usize;
            match file.write_all(&portion[..length]) {
                Ok(()) if length == 0 => return Ok(()),
                Ok(()) => {}
                // Others took some of it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the room back.
    pub(super) fn free(&self) {
        // Not there is what is wanted.
        let _ = fs::remove_file(self.0.join(FILLER));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
