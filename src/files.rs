//! Files and streams that others wrote, read up to a limit.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// As [`read_stream`], and where the file cannot be opened.
pub(crate) fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_stream(File::open(path)?, limit)
}

/// Reads a file of at most `limit` bytes that is no pipe, device or folder: opening a pipe waits for its other end.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_up_to_its_limit_and_not_a_byte_further() {
        assert_eq!(read_stream(&b"abc"[..], 3).unwrap(), b"abc");
        let error = read_stream(io::repeat(0), 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 3 bytes");
    }
}
