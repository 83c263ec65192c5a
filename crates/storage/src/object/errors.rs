//! Errors of object stores, as those of files.

use std::io;

use object_store::Error;

/// What an error of the store was before it was one.
pub(crate) fn io_error(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
        _ => io::ErrorKind::Other,
    };
    match error {
        Error::Generic { source, .. } | Error::NotFound { source, .. } => match source.downcast::<io::Error>() {
            Ok(inner) => *inner,
            Err(source) => io::Error::new(kind, source),
        },
        error => io::Error::new(kind, error),
    }
}
