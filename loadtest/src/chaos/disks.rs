//! Small disks that can be filled: a tmpfs each, which needs root. Their contents are copied to the directory below
//! when they are unmounted, unless they are not needed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::statvfs;

/// The file that uses up the free space.
const FILLER: &str = "filler";

/// Mount source of our disks; the process id follows.
const PREFIX: &str = "fanzfiliate-chaos-";

/// A mounted disk. Dropping it unmounts it; by default the directory keeps the contents.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    keep_contents: AtomicBool,
}

impl Disk {
    /// Mounts a disk of `bytes` at `dir`, which is created.
    pub(super) fn mount(dir: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let size = format!("size={bytes}");
        let source = format!("{PREFIX}{}", std::process::id());
        mount(
            Some(source.as_str()),
            dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .with_context(|| {
            format!(
                "failed to mount {}; mounting a tmpfs needs root",
                dir.display()
            )
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            keep_contents: AtomicBool::new(true),
        })
    }

    /// Fills the disk until `bytes` are free.
    pub(super) fn fill_but(&self, bytes: u64) -> anyhow::Result<()> {
        let filler = self.dir.join(FILLER);
        let mut file = File::options().create(true).append(true).open(filler)?;
        let portion = [0; 64 << 10];
        loop {
            let disk = statvfs(&self.dir)?;
            let free = disk.f_bavail * disk.f_frsize;
            let length = free.saturating_sub(bytes).min(portion.len() as u64) as usize;
            match file.write_all(&portion[..length]) {
                Ok(()) if length == 0 => return Ok(()),
                Ok(()) => {}
                // Another process used some of it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Frees the space again.
    pub(super) fn free(&self) {
        // A missing file is fine.
        let _ = fs::remove_file(self.dir.join(FILLER));
    }

    /// The contents are not kept after unmounting.
    pub(super) fn discard(&self) {
        self.keep_contents.store(false, Ordering::Relaxed);
    }

    /// Copies the contents beside the disk, where they survive unmounting.
    fn save(&self) -> anyhow::Result<PathBuf> {
        let mut saved = self.dir.clone().into_os_string();
        saved.push(".saved");
        let saved = PathBuf::from(saved);
        fs::create_dir_all(&saved)?;
        // `-a` keeps links and sparse files.
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(self.dir.join(".")).arg(&saved);
        ensure!(copied.status()?.success(), "cp failed");
        Ok(saved)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.free();
        let keep_contents = self.keep_contents.load(Ordering::Relaxed);
        let saved = keep_contents.then(|| self.save()).transpose();
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let kept = saved.and_then(|saved| match saved {
            // Replaces the empty mount point.
            Some(saved) => Ok(fs::rename(saved, &self.dir)?),
            None => Ok(()),
        });
        if let Err(error) = kept {
            eprintln!(
                "failed to keep the contents of {}: {error:#}",
                self.dir.display()
            );
        }
    }
}

/// Unmounts disks of killed runs.
pub(super) fn unmount_stale() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for dir in stale_mounts(&mounts, |pid| Path::new("/proc").join(pid).exists()) {
        let _ = umount2(&dir, MntFlags::MNT_DETACH);
    }
}

/// The mount points among `mounts` of disks whose process has exited.
fn stale_mounts(mounts: &str, is_alive: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let stale = mounts.lines().filter_map(|line| {
        let (source, rest) = line.split_once(' ')?;
        let pid = source.strip_prefix(PREFIX)?;
        let ours = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        // The kernel writes spaces in octal.
        let dir = rest.split(' ').next()?.replace("\\040", " ");
        (ours && !is_alive(pid)).then(|| dir.into())
    });
    stale.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_disks_are_those_of_exited_processes() {
        let mounts = "tmpfs /tmp tmpfs rw 0 0\n\
                      fanzfiliate-chaos-7 /tmp/a\\040b/edge-1 tmpfs rw 0 0\n\
                      fanzfiliate-chaos-8 /tmp/c tmpfs rw 0 0\n\
                      fanzfiliate-chaos-x /tmp/d tmpfs rw 0 0\n";
        let found = stale_mounts(mounts, |pid| pid == "8");
        assert_eq!(found, [Path::new("/tmp/a b/edge-1")]);
    }

    #[test]
    fn unmounted_disk_leaves_its_contents_unless_discarded() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for keep_contents in [true, false] {
            let dir = dir.path().join(format!("{keep_contents}"));
            let Ok(disk) = Disk::mount(&dir, 1 << 20) else {
                println!("skipped: mounting a small disk needs root");
                return;
            };
            fs::write(dir.join("held"), b"x").expect("writable");
            disk.fill_but(0).expect("fillable");
            if !keep_contents {
                disk.discard();
            }
            drop(disk);
            assert_eq!(dir.join("held").exists(), keep_contents);
            assert!(!dir.join(FILLER).exists());
        }
    }
}
