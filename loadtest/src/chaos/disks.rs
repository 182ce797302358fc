//! Small disks that can be filled up: a tmpfs each, for which one must be root. What they hold stays behind
//! when they go, unless it is not wanted.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::statvfs;

/// The file that takes all the room.
const FILLER: &str = "filler";

/// What the mounts of our disks call themselves; the process's number follows.
const PREFIX: &str = "fanzfiliate-chaos-";

/// A mounted disk; unmounted when dropped, after which its folder holds what it held.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    wanted: AtomicBool,
}

impl Disk {
    /// Mounts a disk of `bytes` at `folder`, which is made.
    pub(super) fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let size = format!("size={bytes}");
        let source = format!("{PREFIX}{}", std::process::id());
        mount(
            Some(source.as_str()),
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
        Ok(Self {
            folder: folder.to_owned(),
            wanted: AtomicBool::new(true),
        })
    }

    /// Takes all the room there is but so many bytes, beside what it took before.
    pub(super) fn fill_but(&self, bytes: u64) -> anyhow::Result<()> {
        let filler = self.folder.join(FILLER);
        let mut file = File::options().create(true).append(true).open(filler)?;
        let portion = [0; 64 << 10];
        loop {
            let disk = statvfs(&self.folder)?;
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
        let _ = fs::remove_file(self.folder.join(FILLER));
    }

    /// What it holds may go with it.
    pub(super) fn forget(&self) {
        self.wanted.store(false, Ordering::Relaxed);
    }

    /// Copies what it holds beside it, where it survives the disk.
    fn save(&self) -> anyhow::Result<PathBuf> {
        let mut beside = self.folder.clone().into_os_string();
        beside.push(".saved");
        let beside = PathBuf::from(beside);
        fs::create_dir_all(&beside)?;
        // Links and gaps in files stay what they are.
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(self.folder.join(".")).arg(&beside);
        ensure!(copied.status()?.success(), "cp failed");
        Ok(beside)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.free();
        let wanted = self.wanted.load(Ordering::Relaxed);
        let saved = wanted.then(|| self.save()).transpose();
        let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
        let kept = saved.and_then(|saved| match saved {
            // In place of the empty folder on which it was mounted.
            Some(saved) => Ok(fs::rename(saved, &self.folder)?),
            None => Ok(()),
        });
        if let Err(error) = kept {
            eprintln!(
                "what {} held can't be kept: {error:#}",
                self.folder.display()
            );
        }
    }
}

/// Unmounts what killed runs left behind.
pub(super) fn sweep() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for folder in left_behind(&mounts, |pid| Path::new("/proc").join(pid).exists()) {
        let _ = umount2(&folder, MntFlags::MNT_DETACH);
    }
}

/// The folders among `mounts` on which a process that does not live any more has mounted a disk of ours.
fn left_behind(mounts: &str, lives: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let stale = mounts.lines().filter_map(|line| {
        let (source, rest) = line.split_once(' ')?;
        let pid = source.strip_prefix(PREFIX)?;
        let ours = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        // The system writes spaces in octal.
        let folder = rest.split(' ').next()?.replace("\\040", " ");
        (ours && !lives(pid)).then(|| folder.into())
    });
    stale.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_of_the_dead_are_left_behind() {
        let mounts = "tmpfs /tmp tmpfs rw 0 0\n\
                      fanzfiliate-chaos-7 /tmp/a\\040b/edge-1 tmpfs rw 0 0\n\
                      fanzfiliate-chaos-8 /tmp/c tmpfs rw 0 0\n\
                      fanzfiliate-chaos-x /tmp/d tmpfs rw 0 0\n";
        let found = left_behind(mounts, |pid| pid == "8");
        assert_eq!(found, [Path::new("/tmp/a b/edge-1")]);
    }

    #[test]
    fn what_a_disk_held_stays_unless_it_is_not_wanted() {
        let dir = tempfile::tempdir().expect("a folder");
        for wanted in [true, false] {
            let folder = dir.path().join(format!("{wanted}"));
            let Ok(disk) = Disk::mount(&folder, 1 << 20) else {
                println!("not tried: mounting a small disk needs root");
                return;
            };
            fs::write(folder.join("held"), b"x").expect("writable");
            disk.fill_but(0).expect("fillable");
            if !wanted {
                disk.forget();
            }
            drop(disk);
            assert_eq!(folder.join("held").exists(), wanted);
            assert!(!folder.join(FILLER).exists());
        }
    }
}
