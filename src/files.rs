//! Files and streams that others wrote, read up to a limit, and the one walk through folders.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// As [`read_stream`], and where the file cannot be opened.
pub(crate) fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_stream(File::open(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes, not a pipe, a device or a folder: opening a pipe waits for its other end.
///
/// # Errors
/// As [`read_file`], and where the file is not a regular one.
pub(crate) fn read_regular_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    read_file(path, limit)
}

/// Reads a stream of at most `limit` bytes to its end.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] where there is more, and whatever reading gives.
pub(crate) fn read_stream(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limit.saturating_add(1);
    if u64::try_from(stream.take(most).read_to_end(&mut bytes)?).unwrap_or(most) > limit {
        let why = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// A walk through files and folders, in the order of their names. It follows links, also to folders: Kubernetes mounts files as
/// links.
#[derive(Default)]
pub(crate) struct Walk {
    entries: usize,
}

/// A file or folder that a walk comes to.
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a Path,
    pub(crate) kind: EntryKind,
    /// Whether the walk began here, because the user named it.
    pub(crate) is_named: bool,
}

/// What a path leads to, through links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    File,
    /// A pipe, a socket or a device.
    Special,
    /// Nothing, or it cannot be learned.
    Unknown,
}

/// What a walk found: files, and paths that cannot be read, each with why.
pub(crate) type Walked = (Vec<PathBuf>, Vec<(PathBuf, String)>);

impl Walk {
    /// The most files and folders of all walks of one `Walk`.
    const MAXIMUM_ENTRIES: usize = 20_000;
    /// The most levels of folders; this also ends a loop of links.
    const MAXIMUM_DEPTH: usize = 32;

    /// The file itself, or the files below a folder. `takes` decides about each entry, also about the named one: `false` leaves it
    /// out, and an error reports it.
    pub(crate) fn below(
        &mut self,
        path: &Path,
        mut takes: impl FnMut(&Entry<'_>) -> Result<bool, String>,
    ) -> Walked {
        let mut walked = Walked::default();
        self.walk(path, 0, &mut takes, &mut walked);
        walked
    }

    fn walk(
        &mut self,
        path: &Path,
        depth: usize,
        takes: &mut impl FnMut(&Entry<'_>) -> Result<bool, String>,
        walked: &mut Walked,
    ) {
        let about = fs::metadata(path);
        let kind = match &about {
            Ok(about) if about.is_dir() => EntryKind::Folder,
            Ok(about) if about.is_file() => EntryKind::File,
            Ok(_) => EntryKind::Special,
            Err(_) => EntryKind::Unknown,
        };
        let is_named = depth == 0;
        let entry = Entry {
            path,
            kind,
            is_named,
        };
        let refused = match takes(&entry) {
            Ok(false) => return,
            Ok(true) => None,
            Err(why) => Some(why),
        };
        self.entries += 1;
        let most = Walk::MAXIMUM_ENTRIES;
        let refused = match (refused, about) {
            _ if self.entries > most => return,
            _ if self.entries == most => Some(format!(
                "is number {most} of the files and folders; no more are read"
            )),
            (Some(why), _) => Some(why),
            (None, Err(error)) => Some(format!("cannot be read: {error}")),
            (None, Ok(_)) if kind != EntryKind::Folder => {
                walked.0.push(path.to_owned());
                None
            }
            (None, Ok(_)) => self.folder(path, depth, takes, walked).err(),
        };
        let refused = refused.map(|why| (path.to_owned(), why));
        walked.1.extend(refused);
    }

    fn folder(
        &mut self,
        folder: &Path,
        depth: usize,
        takes: &mut impl FnMut(&Entry<'_>) -> Result<bool, String>,
        walked: &mut Walked,
    ) -> Result<(), String> {
        if depth >= Walk::MAXIMUM_DEPTH {
            let most = Walk::MAXIMUM_DEPTH;
            return Err(format!("is nested deeper than {most} folders"));
        }
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| format!("cannot be read: {error}"))?;
        let mut entries: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            self.walk(&entry, depth + 1, takes, walked);
        }
        Ok(())
    }
}

impl Entry<'_> {
    /// Whether its name begins with a dot.
    pub(crate) fn is_hidden(&self) -> bool {
        self.name().as_encoded_bytes().starts_with(b".")
    }

    /// Whether its name ends as that of a YAML or JSON file, in any case.
    pub(crate) fn is_manifest(&self) -> bool {
        let extension = self.path.extension().unwrap_or_default();
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    }

    /// The last part of its path.
    pub(crate) fn name(&self) -> &std::ffi::OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_takes_what_it_is_told_in_the_order_of_names_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("b")).unwrap();
        for name in ["c.yaml", "a.JSON", "b/d.yml", "b/no.txt"] {
            fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink(at("nothing"), at("broken.yaml")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("b/loop")).unwrap();
        let manifests = |entry: &Entry<'_>| match entry.name().to_str() {
            Some("c.yaml") => Err("not this one".to_owned()),
            _ => Ok(entry.kind == EntryKind::Folder || entry.is_manifest()),
        };
        let (files, refused) = Walk::default().below(&at("b"), manifests);
        let below: Vec<_> = files
            .iter()
            .take(3)
            .map(|file| file.strip_prefix(at("b")))
            .collect();
        let below: Vec<_> = below.into_iter().flatten().collect();
        let expected = ["d.yml", "loop/a.JSON", "loop/b/d.yml"].map(Path::new);
        assert_eq!(below, expected);
        let refused: Vec<_> = refused.iter().map(|(_, why)| why.as_str()).collect();
        assert!(refused[0].contains("nested deeper than 32"), "{refused:?}");
        assert!(refused[1].contains("cannot be read"), "{refused:?}");
        assert_eq!(refused[2], "not this one");
    }

    #[test]
    fn a_stream_is_read_up_to_its_limit_and_not_a_byte_further() {
        assert_eq!(read_stream(&b"abc"[..], 3).unwrap(), b"abc");
        let error = read_stream(io::repeat(0), 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 3 bytes");
    }
}
