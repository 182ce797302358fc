//! The file `format.toml` of a state directory: what the directory is, of which node, and the number of its format. A
//! build refuses a directory of a later format instead of misreading it.
//!
//! Invariant: a build that changes the form of any file of the directory, so that earlier builds would misread it,
//! raises the number.

use crate::private;
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The name of the file.
pub const FILE_NAME: &str = "format.toml";

/// A kind of state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDirectory {
    /// Its name, such as `edge`.
    pub kind: &'static str,
    /// The newest format that this build reads, which is the one it writes.
    pub newest_format: u32,
    /// The name and version of the program.
    pub build: &'static str,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Recorded {
    /// The kind of the directory.
    pub kind: String,
    /// The number of its format.
    pub format: u32,
    /// The node that it belongs to, in a directory of a node.
    pub node: Option<u16>,
}

/// A directory that this process must not use.
#[derive(Debug, Error)]
pub enum StateDirectoryError {
    /// A file or the directory can't be used.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The file is damaged.
    #[error(
        "{}: not readable as the format of a state directory ({why}); restore it from the build that wrote it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another program's directory.
    #[error("{} is the state directory of another kind: {found}, not {expected}; name the right one", dir.display())]
    OtherKind {
        /// The directory.
        dir: PathBuf,
        /// Its kind.
        found: String,
        /// The expected kind.
        expected: &'static str,
    },
    /// The directory of another node.
    #[error(
        "{} belongs to node {found}, not to node {expected}; set `node = {found}`, or name the directory of node \
         {expected}",
        dir.display()
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Its node.
        found: u16,
        /// The node in the settings.
        expected: u16,
    },
    /// A later build wrote it.
    #[error(
        "{} has format {found}, and {build} reads formats up to {newest}: a later version wrote it; install that version \
         again",
        dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known format.
        newest: u32,
        /// This build.
        build: &'static str,
    },
}

impl StateDirectory {
    /// Creates the directory and its file when absent; otherwise checks that this build and `node` may use it.
    ///
    /// # Errors
    /// When the directory can't be used; nothing was changed then.
    pub fn open(&self, dir: &Path, node: Option<u16>) -> Result<(), StateDirectoryError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |cause| StateDirectoryError::Io { path, cause }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let path = dir.join(FILE_NAME);
        let is_absent = self.check(dir, node)?.is_none();
        // Another process may create it first.
        if is_absent && !private::create(&path, &self.text(node)).map_err(io(&path))? {
            self.check(dir, node)?;
        }
        Ok(())
    }

    /// Checks that this build and `node` may use the directory; `None` if it has no file yet.
    ///
    /// # Errors
    /// As [`StateDirectory::open`].
    pub fn check(
        &self,
        dir: &Path,
        node: Option<u16>,
    ) -> Result<Option<Recorded>, StateDirectoryError> {
        let recorded = self.read(dir)?;
        let found = recorded.as_ref().and_then(|recorded| recorded.node);
        match (found, node) {
            (Some(found), Some(expected)) if found != expected => {
                Err(StateDirectoryError::OtherNode {
                    dir: dir.to_owned(),
                    found,
                    expected,
                })
            }
            _ => Ok(recorded),
        }
    }

    /// Reads the file and checks that this build may use the directory; `None` in a directory of a build before it.
    ///
    /// # Errors
    /// When the file can't be read, or the directory is of another kind or a later format.
    pub fn read(&self, dir: &Path) -> Result<Option<Recorded>, StateDirectoryError> {
        let path = dir.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StateDirectoryError::Io { path, cause }),
        };
        let recorded: Recorded = toml::from_str(&text).map_err(|error| {
            let why = error.message().to_owned();
            StateDirectoryError::Damaged { path, why }
        })?;
        if recorded.kind != self.kind {
            return Err(StateDirectoryError::OtherKind {
                dir: dir.to_owned(),
                found: recorded.kind,
                expected: self.kind,
            });
        }
        if recorded.format > self.newest_format {
            return Err(StateDirectoryError::Newer {
                dir: dir.to_owned(),
                found: recorded.format,
                newest: self.newest_format,
                build: self.build,
            });
        }
        Ok(Some(recorded))
    }

    fn text(&self, node: Option<u16>) -> String {
        let (kind, format) = (self.kind, self.newest_format);
        let mut text = format!(
            "# Written by {}. It protects this directory from other programs and earlier versions.\n\
             kind = \"{kind}\"\nformat = {format}\n",
            self.build
        );
        if let Some(node) = node {
            let _ = writeln!(text, "node = {node}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: StateDirectory = StateDirectory {
        kind: "edge",
        newest_format: 3,
        build: "edge-tracker 1.2.3",
    };

    #[test]
    fn state_directory_is_refused_with_what_would_be_right() {
        let dir = tempfile::tempdir().expect("a directory");
        let (dir, file) = (dir.path(), dir.path().join(FILE_NAME));
        for (text, said) in [
            ("kind = \"edge\"\nformat = 3\nnode = 7\n", None),
            ("kind = \"edge\"\nformat = 2\n", None),
            ("kind = \"edge\"\nformat = 3\nlater = true\n", None),
            (
                "kind = \"edge\"\nformat = 4\nnode = 7\n",
                Some("has format 4, and edge-tracker 1.2.3 reads formats up to 3"),
            ),
            (
                "kind = \"aggregator\"\nformat = 1\n",
                Some("another kind: aggregator, not edge"),
            ),
            (
                "kind = \"edge\"\nformat = 1\nnode = 8\n",
                Some("belongs to node 8, not to node 7; set `node = 8`"),
            ),
            ("kind = \"edge\"\n", Some("missing field `format`")),
            (
                "\u{0}\u{0}",
                Some("restore it from the build that wrote it"),
            ),
        ] {
            fs::write(&file, text).expect("written");
            let opened = EDGE.open(dir, Some(7)).map_err(|error| error.to_string());
            match said {
                None => assert_eq!(opened, Ok(()), "{text}"),
                Some(said) => {
                    let error = opened.expect_err(text);
                    assert!(error.contains(said), "{error}");
                }
            }
            assert_eq!(fs::read_to_string(&file).expect("read"), text, "unchanged");
        }
    }

    #[test]
    fn absent_state_directory_is_created_with_its_node() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("data");
        EDGE.open(&dir, Some(7)).expect("created");
        let expected = Recorded {
            kind: "edge".into(),
            format: 3,
            node: Some(7),
        };
        assert_eq!(EDGE.read(&dir).expect("readable"), Some(expected));
        EDGE.open(&dir, Some(7)).expect("the same node");
    }
}
