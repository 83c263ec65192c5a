//! What configuration hangs on.

use record::{NodeId, TopicId};

use crate::codec::{DecodeError, Reader, Wire};

/// The thing that a set of configuration keys belongs to. A topic's keys are part of its [`Topic`](crate::Topic).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    Topic(TopicId),
    /// One node, or with `None` the default of all nodes.
    Broker(Option<NodeId>),
    Group(String),
}

impl Wire for ConfigResource {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Topic(topic) => {
                out.push(0);
                topic.put(out);
            }
            Self::Broker(node) => {
                out.push(1);
                node.put(out);
            }
            Self::Group(group) => {
                out.push(2);
                group.put(out);
            }
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => TopicId::take(input).map(Self::Topic),
            1 => Wire::take(input).map(Self::Broker),
            2 => String::take(input).map(Self::Group),
            value => Err(DecodeError::Value { what: "a config resource", value: u64::from(value) }),
        }
    }
}
