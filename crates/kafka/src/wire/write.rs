//! The primitive types of the protocol, written. Encoders of ours use these; the message crate has its own.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) trait Write: BufMut {
    fn varint(&mut self, mut value: u32) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.put_u8(low);
                return;
            }
            self.put_u8(low | 0x80);
        }
    }

    /// The count of an array.
    fn count(&mut self, flexible: bool, count: usize) {
        let count = u32::try_from(count).expect("responses are bounded far below four billion items");
        if flexible {
            self.varint(count + 1);
        } else {
            self.put_u32(count);
        }
    }

    fn text(&mut self, flexible: bool, text: &str) {
        if flexible {
            self.count(true, text.len());
        } else {
            // Whatever is echoed came with such a length; texts of ours are short.
            let length = u16::try_from(text.len()).expect("texts have at most 32,767 bytes");
            self.put_u16(length);
        }
        self.put_slice(text.as_bytes());
    }

    fn nullable_text(&mut self, flexible: bool, text: Option<&str>) {
        match text {
            Some(text) => self.text(flexible, text),
            None if flexible => self.put_u8(0),
            None => self.put_i16(-1),
        }
    }

    /// Tagged fields, by tag.
    fn tags(&mut self, flexible: bool, tags: &BTreeMap<i32, Bytes>) {
        if !flexible {
            return;
        }
        self.varint(u32::try_from(tags.len()).expect("a few"));
        for (tag, content) in tags {
            self.varint(u32::try_from(*tag).expect("tags are numbers from 0"));
            self.varint(u32::try_from(content.len()).expect("responses are bounded far below four gigabytes"));
            self.put_slice(content);
        }
    }

    fn no_tags(&mut self, flexible: bool) {
        if flexible {
            self.put_u8(0);
        }
    }
}

impl Write for BytesMut {}
