//! Which errors of the disk pass, and which do not.
//!
//! After a failed write or sync nobody can say what is on the disk: trying again would be a lie. Want of room is the
//! exception, since it takes nothing back that was durable. A file that cannot be opened, renamed or removed, for
//! want of descriptors or of memory, is as it was before: that may be tried again.

use std::fmt;
use std::io;

/// `ENFILE` and `EMFILE`: only an open says this, also that of a folder that is to be synced.
const NO_DESCRIPTORS: [i32; 2] = [23, 24];
const EIO: i32 = 5;

/// Whether there is no room, which passes; any other error of a write or a sync does not.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the device cannot read what lies there.
#[must_use]
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// Whether a write or a sync failed, so that the node must stop.
#[must_use]
pub fn is_lasting(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Lasting>())
}

/// What a write or a sync failed with; for nothing else.
pub(crate) fn failed_write(error: io::Error) -> io::Error {
    let passes = is_full(&error) || error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code));
    if passes || is_lasting(&error) { error } else { io::Error::new(error.kind(), Lasting(error)) }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file(disk: &dyn base::disk::Disk, path: &std::path::Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[derive(Debug)]
struct Lasting(io::Error);

impl fmt::Display for Lasting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for Lasting {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_lasts_but_for_want_of_room_and_of_descriptors() {
        // ENOSPC, EDQUOT, ENFILE, EMFILE; EIO, EROFS, EBADF.
        for (code, lasts) in [(28, false), (122, false), (23, false), (24, false), (5, true), (30, true), (9, true)] {
            let error = || io::Error::from_raw_os_error(code);
            assert!(!is_lasting(&error()), "nothing is known of what failed");
            let failed = failed_write(failed_write(error()));
            assert_eq!((is_lasting(&failed), failed.kind()), (lasts, error().kind()), "{failed}");
            assert_eq!(failed.to_string(), error().to_string());
        }
    }
}
