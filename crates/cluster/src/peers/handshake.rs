//! What two nodes tell each other before anything else: which versions they speak, which cluster
//! they belong to and who they are.
//!
//! ```text
//! hello:   "RMQ-PEER" | oldest version u16 | newest version u16 | lane u8 | purpose u8 | 0 u16
//!          | features u32 | cluster u128 | node u64 | life u64 | wanted node u64 | CRC-32C u32
//! welcome: "RMQ-PEER" | status u16 | version u16 | features u32 | cluster u128 | node u64 | life u64
//!          | text bytes u16 | text | CRC-32C u32
//! ```
//! All integers are little-endian. The shape of both never changes, whatever the versions: a node
//! can always be told why it is refused.

use std::io;

use base::net::{ReadHalf, WriteHalf};
use bytes::{Buf, BufMut, BytesMut};
use record::NodeId;
use replica::Lane;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frame::checksum;

const MAGIC: &[u8; 8] = b"RMQ-PEER";
const HELLO_BYTES: usize = 8 + 4 + 4 + 4 + 16 + 24 + 4;
const WELCOME_HEAD_BYTES: usize = 8 + 4 + 4 + 16 + 16 + 2;
const TEXT_BYTES_MAX: usize = 1_024;

/// The versions of the frames' contents that this program speaks.
pub(crate) const VERSIONS: (u16, u16) = (1, 1);

/// Why a connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Two nodes of one cluster.
    Member = 0,
    /// A node that wants to become one, or an operator's command.
    Guest = 1,
}

/// What the one that connects says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) versions: (u16, u16),
    pub(crate) lane: Lane,
    pub(crate) purpose: Purpose,
    /// The level of features that it knows.
    pub(crate) features: u32,
    pub(crate) cluster: u128,
    pub(crate) node: NodeId,
    /// Another one for every start of the process.
    pub(crate) life: u64,
    /// Whom it wants to reach; 0 takes whoever answers.
    pub(crate) wanted: NodeId,
}

/// What the other one answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// Why not, where not.
    pub(crate) refusal: Option<(Refusal, String)>,
    pub(crate) version: u16,
    pub(crate) features: u32,
    pub(crate) cluster: u128,
    pub(crate) node: NodeId,
    pub(crate) life: u64,
}

/// Why a node is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Refusal {
    /// No version that both speak.
    Version = 1,
    /// A node of another cluster.
    Cluster = 2,
    /// Another node than the one that was wanted stands at this address.
    Node = 3,
    /// The cluster has no such node, or not any more.
    Unknown = 4,
    /// The cluster uses features that the node does not know.
    Features = 5,
    /// A reason that this version has no name for.
    Other = 6,
    /// The cluster had that node and has removed it for good.
    Removed = 7,
    /// Another process is connected as that node.
    Twin = 8,
}

/// Why bytes are no handshake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HandshakeError {
    #[error("this is not the listener for nodes, or no node: the handshake does not begin with RMQ-PEER")]
    Magic,
    #[error("the handshake ends early")]
    Short,
    #[error("the handshake's checksum does not match")]
    Checksum,
    #[error("the handshake has the unknown {what} {number}")]
    Number { what: &'static str, number: u16 },
    #[error("a text of {0} bytes, at most {TEXT_BYTES_MAX} are allowed")]
    Text(u16),
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Hello {
    fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(HELLO_BYTES);
        out.put_slice(MAGIC);
        out.put_u16_le(self.versions.0);
        out.put_u16_le(self.versions.1);
        out.put_u8(match self.lane {
            Lane::Control => 0,
            Lane::Bulk => 1,
        });
        out.put_u8(self.purpose as u8);
        out.put_u16_le(0);
        out.put_u32_le(self.features);
        out.put_u128_le(self.cluster);
        out.put_u64_le(self.node.0);
        out.put_u64_le(self.life);
        out.put_u64_le(self.wanted.0);
        let checksum = checksum([&out[..]]);
        out.put_u32_le(checksum);
        out
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HandshakeError> {
        let mut fields = checked(bytes)?;
        let versions = (fields.get_u16_le(), fields.get_u16_le());
        let lane = match fields.get_u8() {
            0 => Lane::Control,
            1 => Lane::Bulk,
            number => return Err(HandshakeError::Number { what: "lane", number: number.into() }),
        };
        let purpose = match fields.get_u8() {
            0 => Purpose::Member,
            1 => Purpose::Guest,
            number => return Err(HandshakeError::Number { what: "purpose", number: number.into() }),
        };
        fields.advance(2);
        Ok(Self {
            versions,
            lane,
            purpose,
            features: fields.get_u32_le(),
            cluster: fields.get_u128_le(),
            node: NodeId(fields.get_u64_le()),
            life: fields.get_u64_le(),
            wanted: NodeId(fields.get_u64_le()),
        })
    }

    pub(crate) async fn send(&self, half: &mut WriteHalf) -> io::Result<()> {
        half.write_all(&self.encode()).await
    }

    pub(crate) async fn receive(half: &mut ReadHalf) -> io::Result<Self> {
        let mut bytes = [0; HELLO_BYTES];
        // What is no handshake is told by its first bytes, before the rest has come.
        half.read_exact(&mut bytes[..MAGIC.len()]).await?;
        if !bytes.starts_with(MAGIC) {
            return Err(HandshakeError::Magic.into());
        }
        half.read_exact(&mut bytes[MAGIC.len()..]).await?;
        Ok(Self::decode(&bytes)?)
    }
}

impl Welcome {
    fn encode(&self) -> BytesMut {
        let (status, text) = match &self.refusal {
            None => (0, ""),
            Some((refusal, text)) => (*refusal as u16, text.as_str()),
        };
        let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        let mut out = BytesMut::with_capacity(WELCOME_HEAD_BYTES + text.len() + 4);
        out.put_slice(MAGIC);
        out.put_u16_le(status);
        out.put_u16_le(self.version);
        out.put_u32_le(self.features);
        out.put_u128_le(self.cluster);
        out.put_u64_le(self.node.0);
        out.put_u64_le(self.life);
        out.put_u16_le(u16::try_from(text.len()).expect("cut above"));
        out.put_slice(text);
        let checksum = checksum([&out[..]]);
        out.put_u32_le(checksum);
        out
    }

    pub(crate) async fn send(&self, half: &mut WriteHalf) -> io::Result<()> {
        half.write_all(&self.encode()).await
    }

    pub(crate) async fn receive(half: &mut ReadHalf) -> io::Result<Self> {
        let mut bytes = vec![0; WELCOME_HEAD_BYTES];
        half.read_exact(&mut bytes).await?;
        if !bytes.starts_with(MAGIC) {
            return Err(HandshakeError::Magic.into());
        }
        let text_bytes = (&bytes[WELCOME_HEAD_BYTES - 2..]).get_u16_le();
        if usize::from(text_bytes) > TEXT_BYTES_MAX {
            return Err(HandshakeError::Text(text_bytes).into());
        }
        bytes.resize(WELCOME_HEAD_BYTES + usize::from(text_bytes) + 4, 0);
        half.read_exact(&mut bytes[WELCOME_HEAD_BYTES..]).await?;
        Ok(Self::decode(&bytes)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = checked(bytes)?;
        if bytes.len() < WELCOME_HEAD_BYTES + 4 {
            return Err(HandshakeError::Short);
        }
        let status = fields.get_u16_le();
        let version = fields.get_u16_le();
        let features = fields.get_u32_le();
        let cluster = fields.get_u128_le();
        let node = NodeId(fields.get_u64_le());
        let life = fields.get_u64_le();
        let text = String::from_utf8_lossy(&fields[2..]).into_owned();
        let refusal = match status {
            0 => None,
            1 => Some(Refusal::Version),
            2 => Some(Refusal::Cluster),
            3 => Some(Refusal::Node),
            4 => Some(Refusal::Unknown),
            5 => Some(Refusal::Features),
            7 => Some(Refusal::Removed),
            8 => Some(Refusal::Twin),
            _ => Some(Refusal::Other),
        };
        let refusal = refusal.map(|refusal| (refusal, text));
        Ok(Self { refusal, version, features, cluster, node, life })
    }
}

/// What lies between the magic and the checksum, which must be right.
fn checked(bytes: &[u8]) -> Result<&[u8], HandshakeError> {
    let (covered, sum) = bytes.split_last_chunk::<4>().ok_or(HandshakeError::Checksum)?;
    let fields = covered.strip_prefix(MAGIC).ok_or(HandshakeError::Magic)?;
    if checksum([covered]) == u32::from_le_bytes(*sum) { Ok(fields) } else { Err(HandshakeError::Checksum) }
}

/// The version that both speak: the newest of them.
pub(crate) fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0.max(theirs.0)).then_some(newest)
}

/// Why a node that knows less than the cluster uses has no part in it.
pub(crate) fn too_old(level: u32, known: u32) -> String {
    format!(
        "the cluster uses features of level {level}, the node's program knows level {known}: start it with the program \
         that the other nodes run"
    )
}

/// Reads whatever bytes as a handshake, as they are and with the checksum that they should have.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz_handshakes(input: &[u8]) {
    let _ = Welcome::decode(input);
    if let Some((covered, _)) = input.split_last_chunk::<4>() {
        let mut bytes = covered.to_vec();
        bytes.extend_from_slice(&checksum([covered]).to_le_bytes());
        let _ = Welcome::decode(&bytes);
        if let Ok(bytes) = <&[u8; HELLO_BYTES]>::try_from(&bytes[..]) {
            let _ = Hello::decode(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use base::net::Stream;

    use super::*;

    fn hello() -> Hello {
        Hello {
            versions: (1, 3),
            lane: Lane::Bulk,
            purpose: Purpose::Guest,
            features: 7,
            cluster: 1 << 100,
            node: NodeId(2),
            life: 99,
            wanted: NodeId(0),
        }
    }

    #[tokio::test]
    async fn hello_and_welcome_are_read_as_they_were_written() {
        let (left, right) = Stream::pair(1 << 16);
        let ((_r, mut write), (mut read, _w)) = (left.into_split(), right.into_split());
        hello().send(&mut write).await.unwrap();
        assert_eq!(Hello::receive(&mut read).await.unwrap(), hello());
        for refusal in [None, Some((Refusal::Cluster, "of another cluster".to_owned()))] {
            let welcome = Welcome { refusal, version: 1, features: 7, cluster: 5, node: NodeId(3), life: 1 };
            welcome.send(&mut write).await.unwrap();
            assert_eq!(Welcome::receive(&mut read).await.unwrap(), welcome);
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = hello().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped: [u8; HELLO_BYTES] = bytes[..].try_into().unwrap();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Hello::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[tokio::test]
    async fn what_is_no_node_is_told_by_its_first_bytes() {
        let (left, right) = Stream::pair(1 << 16);
        let ((_r, mut write), (mut read, _w)) = (left.into_split(), right.into_split());
        write.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let error = Hello::receive(&mut read).await.unwrap_err();
        assert!(error.to_string().contains("RMQ-PEER"), "{error}");
    }

    #[test]
    fn versions_that_overlap_agree_on_the_newest() {
        assert_eq!(common_version((1, 3), (2, 5)), Some(3));
        assert_eq!(common_version((1, 1), (2, 5)), None);
        assert_eq!(common_version((4, 6), (1, 3)), None);
    }
}
