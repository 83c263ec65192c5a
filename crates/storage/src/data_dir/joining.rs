//! A node that becomes one of an existing cluster's.
//!
//! `JOINING` is there from before the node asks for the first time until its copy of the cluster's
//! metadata is here, and again while that copy is brought anew. It holds what must not change between two tries: the birth by which the cluster
//! knows that it is the same node that asks again; and, once the cluster has answered, where its
//! members are.
//!
//! ```text
//! RosettaMQ joining
//! birth HEX
//! at PORT HOST             where to look for the cluster, if an operator said so
//! member ID PORT HOST      any number of these, once the node has its id
//! crc32c HEX               of all that stands before it
//! ```

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, OpenOptions, read_exact_at};
use record::NodeId;

use super::DataDirError;
use super::checked_text::{opened_or_plain, sealed};

pub(super) const FILE: &str = "JOINING";
pub(super) const NEW_FILE: &str = "JOINING.new";
const TITLE: &str = "RosettaMQ joining";
/// A cluster with far more nodes than any has.
const BYTES_MAX: u32 = 1 << 20;

/// What stands in `JOINING`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// Chosen once, at random.
    pub birth: u128,
    /// Where an operator said that the cluster is: hosts and ports.
    pub addresses: Vec<(String, u16)>,
    /// Where the members are; empty until the cluster has taken the node in.
    pub members: Vec<Contact>,
}

/// Where a member is reached by other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    pub node: NodeId,
    pub host: String,
    pub port: u16,
}

impl Joining {
    fn text(&self) -> String {
        let mut text = format!("{TITLE}\nbirth {:032x}\n", self.birth);
        text.extend(self.addresses.iter().map(address_line));
        for Contact { node, host, port } in &self.members {
            writeln!(text, "member {node} {port} {host}").expect("writing to a string succeeds");
        }
        sealed(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = opened_or_plain(text)?.lines();
        if lines.next() != Some(TITLE) {
            return None;
        }
        let birth = u128::from_str_radix(lines.next()?.strip_prefix("birth ")?, 16).ok()?;
        let member = |line: &str| {
            let mut words = line.strip_prefix("member ")?.splitn(3, ' ');
            let node = NodeId(words.next()?.parse().ok()?);
            let port = words.next()?.parse().ok()?;
            Some(Contact { node, host: words.next()?.to_owned(), port })
        };
        let (mut addresses, mut members) = (Vec::new(), Vec::new());
        for line in lines {
            match parse_address(line) {
                Some(address) => addresses.push(address),
                None => members.push(member(line)?),
            }
        }
        Some(Self { birth, addresses, members })
    }
}

pub(super) fn address_line((host, port): &(String, u16)) -> String {
    format!("at {port} {host}\n")
}

pub(super) fn parse_address(line: &str) -> Option<(String, u16)> {
    let (port, host) = line.strip_prefix("at ")?.split_once(' ')?;
    Some((host.to_owned(), port.parse().ok()?))
}

pub(super) async fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Joining>, DataDirError> {
    let refused = || DataDirError::Joining { path: dir.join(FILE) };
    let text = read_file(disk, dir, FILE, BYTES_MAX).await?;
    text.map(|text| text.as_deref().and_then(Joining::parse).ok_or_else(refused)).transpose()
}

pub(super) async fn write(disk: &Arc<dyn Disk>, dir: &Path, joining: &Joining) -> Result<(), DataDirError> {
    replace(disk, dir, FILE, NEW_FILE, joining.text()).await
}

pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), DataDirError> {
    remove_file(disk, dir, FILE)
}

/// Reads a small file, if it is there, up to `bytes_max`; none within where it is no text.
pub(super) async fn read_file(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    bytes_max: u32,
) -> Result<Option<Option<String>>, DataDirError> {
    let path = dir.join(name);
    let io_error = |source| DataDirError::Io { operation: "read", path: path.clone(), source };
    let file = match disk.open(&path, OpenOptions::read()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let len = file.len().map_err(io_error)?.min(bytes_max.into());
    let len = usize::try_from(len).expect("its bound is far below what a machine can address");
    let bytes = read_exact_at(&*file, 0, len).await.map_err(io_error)?;
    Ok(Some(String::from_utf8(bytes.to_vec()).ok()))
}

/// Removes a small file, if it is there. Durable when it returns.
pub(super) fn remove_file(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), DataDirError> {
    let path = dir.join(name);
    let removed = match disk.remove(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    removed.and_then(|()| disk.sync_dir(dir)).map_err(|source| DataDirError::Io {
        operation: "remove",
        path: path.clone(),
        source,
    })
}

/// Writes a small file so that it is there whole, or as it was.
pub(super) async fn replace(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    name: &str,
    new_name: &str,
    text: String,
) -> Result<(), DataDirError> {
    let (path, new_path) = (dir.join(name), dir.join(new_name));
    let io_error = |source| DataDirError::Io { operation: "write", path: path.clone(), source };
    let file = disk.open(&new_path, OpenOptions::replace()).map_err(io_error)?;
    base::task::offload(async move {
        file.write_at(0, &[IoSlice::new(text.as_bytes())]).await?;
        file.sync_data().await
    })
    .await
    .map_err(io_error)?;
    disk.rename(&new_path, &path).map_err(io_error)?;
    disk.sync_dir(dir).map_err(io_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let contact = |node, host: &str| Contact { node: NodeId(node), host: host.to_owned(), port: 9190 };
        for members in [vec![], vec![contact(1, "10.0.0.1"), contact(2, "::1"), contact(3, "broker-3.example")]] {
            let addresses = vec![("::1".to_owned(), 9190)];
            let joining = Joining { birth: 77, addresses, members };
            assert_eq!(Joining::parse(&joining.text()), Some(joining));
        }
        for text in ["", "RosettaMQ joining\n", "RosettaMQ joining\nbirth x\n", "other\nbirth 1\n"] {
            assert_eq!(Joining::parse(text), None, "{text}");
        }
    }
}
