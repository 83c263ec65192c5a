//! Everything that a shard can be told, with the number by which each command stands in the log for ever. A command's
//! effect never changes: a new effect is a new number or a new version of one.
//!
//! ```text
//! | number | version | length  | the command's own fields .. |
//!   1 byte   1 byte    4 bytes    length bytes
//! ```

use crate::codec::{DecodeError, Reader, Wire};
use crate::commands::{
    AbandonParts, AbandonTopics, AddPartitions, AdmitNode, AllocateProducerIds, AlterConfigs, AnnounceNode, Append,
    AssignSlots, CancelMove, CloseSlots, CloseStream, CommitOffsets, CompleteDeletion, CompleteMove,
    CompletePartitions, CompleteShards, CompleteSlots, CompleteTopics, Configure, CreateCluster, CreateStreams,
    CreateTopics, DeleteGroup, DeleteOffsets, DeleteRecords, DeleteStreams, DeleteTopics, DropSlots, ExpireProducers,
    LeaderChange, MoveSlots, MoveStreams, OpenShards, PutCompacted, PutGroup, PutObject, PutShards, RaiseFeatures,
    ReceiveGroups, ReceiveStream, RegisterNode, Seal, SetCopies, SetLogStart, SetRebalancing, SetStanding, SkipIds,
    StagePart, Tick,
};
use crate::features::level_of_command;

/// The only version that commands have so far.
const VERSION: u8 = 1;
/// Number, version and length.
pub(crate) const COMMAND_OVERHEAD: usize = 6;

macro_rules! commands {
    ($($(#[$doc:meta])* $number:literal $name:ident($kind:ident)),* $(,)?) => {
        /// One command; see the type of its field.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command {
            $($(#[$doc])* $name($kind),)*
        }

        impl Command {
            /// Number and name of every command.
            pub const ALL: &[(u8, &'static str)] = &[$(($number, stringify!($name))),*];

            /// The stable number.
            #[must_use]
            pub const fn number(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $number,)*
                }
            }

            /// The name, for people.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            fn put_fields(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(command) => command.put(out),)*
                }
            }

            fn take_fields(number: u8, fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match number {
                    $($number => $kind::take(fields).map(Self::$name),)*
                    _ => Err(DecodeError::UnknownCommand { number }),
                }
            }
        }

        $(impl From<$kind> for Command {
            fn from(command: $kind) -> Self {
                Self::$name(command)
            }
        })*

        /// Calls `apply` of whatever command it is.
        macro_rules! dispatch {
            ($command:expr, $inner:ident => $call:expr) => {
                match $command {
                    $(Command::$name($inner) => $call,)*
                }
            };
        }
        pub(crate) use dispatch;
    };
}

commands! {
    1 CreateStreams(CreateStreams),
    2 DeleteStreams(DeleteStreams),
    3 Append(Append),
    4 StagePart(StagePart),
    5 AbandonParts(AbandonParts),
    6 Seal(Seal),
    7 LeaderChange(LeaderChange),
    8 ExpireProducers(ExpireProducers),
    9 Tick(Tick),
    10 Configure(Configure),
    11 DeleteRecords(DeleteRecords),
    12 PutObject(PutObject),
    13 PutCompacted(PutCompacted),
    32 PutGroup(PutGroup),
    33 DeleteGroup(DeleteGroup),
    34 CommitOffsets(CommitOffsets),
    35 DeleteOffsets(DeleteOffsets),
    64 CreateTopics(CreateTopics),
    65 CompleteTopics(CompleteTopics),
    66 DeleteTopics(DeleteTopics),
    67 CompleteDeletion(CompleteDeletion),
    68 AddPartitions(AddPartitions),
    69 CompletePartitions(CompletePartitions),
    70 AlterConfigs(AlterConfigs),
    71 AllocateProducerIds(AllocateProducerIds),
    72 RegisterNode(RegisterNode),
    73 PutShards(PutShards),
    74 AssignSlots(AssignSlots),
    75 CreateCluster(CreateCluster),
    76 AdmitNode(AdmitNode),
    77 AnnounceNode(AnnounceNode),
    78 SetStanding(SetStanding),
    79 OpenShards(OpenShards),
    80 CompleteShards(CompleteShards),
    81 MoveStreams(MoveStreams),
    82 CloseStream(CloseStream),
    83 ReceiveStream(ReceiveStream),
    84 CompleteMove(CompleteMove),
    85 CancelMove(CancelMove),
    86 MoveSlots(MoveSlots),
    87 CloseSlots(CloseSlots),
    88 ReceiveGroups(ReceiveGroups),
    89 CompleteSlots(CompleteSlots),
    90 DropSlots(DropSlots),
    91 RaiseFeatures(RaiseFeatures),
    92 SetRebalancing(SetRebalancing),
    93 SetCopies(SetCopies),
    94 AbandonTopics(AbandonTopics),
    95 SkipIds(SkipIds),
    96 SetLogStart(SetLogStart),
}

impl Command {
    /// The level of features that the cluster must have for this to be proposed; see
    /// [`FEATURE_LEVEL`](crate::FEATURE_LEVEL).
    #[must_use]
    pub const fn feature_level(&self) -> u32 {
        level_of_command(self.number(), matches!(self, Self::RaiseFeatures(_)))
    }

    /// Bytes of this command's body, which stand behind the command section of its entry.
    #[must_use]
    pub const fn body_bytes(&self) -> u32 {
        match self {
            Self::Append(append) => append.body_bytes,
            Self::StagePart(part) => part.body_bytes,
            _ => 0,
        }
    }

    /// Appends the command in its form in the log.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.number());
        out.push(VERSION);
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        self.put_fields(out);
        let length = u32::try_from(out.len() - length_at - 4).expect("a command stays far below 4 GiB");
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads the command at the front of `input`.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [number, version] = input.array()?;
        let length = u32::from_le_bytes(input.array()?);
        let length = usize::try_from(length).map_err(|_| DecodeError::Short)?;
        let mut fields = Reader::new(input.slice(length)?);
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { number, version });
        }
        let command = Self::take_fields(number, &mut fields)?;
        fields.finish()?;
        Ok(command)
    }
}
