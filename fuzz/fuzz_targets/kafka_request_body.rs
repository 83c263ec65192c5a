//! A body behind a header that is right: the first two bytes of the input choose the API and its version.
#![no_main]

use bytes::Bytes;

/// The first version of each API whose header has tagged fields; -1 where none has.
const APIS: [(i16, i16); 33] = [
    (0, 9),
    (1, 12),
    (2, 6),
    (3, 9),
    (8, 8),
    (9, 6),
    (10, 3),
    (11, 6),
    (12, 4),
    (13, 4),
    (14, 4),
    (15, 5),
    (16, 3),
    (17, -1),
    (18, 3),
    (19, 5),
    (20, 4),
    (22, 2),
    (23, 4),
    (32, 4),
    (37, 2),
    (42, 2),
    (44, 1),
    (47, -1),
    (60, 0),
    (75, 0),
    (33, 2),
    (35, 2),
    (43, 2),
    (45, 0),
    (46, 0),
    (55, 0),
    (64, 0),
];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [api, version, body @ ..] = input else {
        return;
    };
    let (key, flexible_from) = APIS[usize::from(*api) % APIS.len()];
    let version = i16::from(*version % 20);
    let mut request = Vec::with_capacity(body.len() + 11);
    request.extend_from_slice(&key.to_be_bytes());
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&1_i32.to_be_bytes());
    request.extend_from_slice(&(-1_i16).to_be_bytes());
    if flexible_from >= 0 && version >= flexible_from {
        request.push(0);
    }
    request.extend_from_slice(body);
    kafka::decode_any(&Bytes::from(request));
});
