//! Round trips, bombs, and data that is cut off.

use proptest::prelude::*;

use super::*;

fn bomb() -> Vec<u8> {
    vec![0; 16 * 1024 * 1024]
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let plain = bomb();
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let compressed = compress(compression, &plain);
        assert!(compressed.len() < plain.len() / 15, "{compression:?} {}", compressed.len());
        let limit = 1024 * 1024;
        assert_eq!(
            decompress(compression, &compressed, limit),
            Err(BatchError::TooLarge { bytes_max: limit }),
            "{compression:?}"
        );
        assert_eq!(decompress(compression, &compressed, plain.len()).unwrap(), plain, "{compression:?}");
    }
}

#[test]
fn a_snappy_block_that_claims_gigabytes_allocates_nothing() {
    // Varint length 2^32 - 1, then no elements.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(
        decompress(Compression::Snappy, &claim, usize::MAX),
        Err(BatchError::Compression { compression: "snappy" })
    );
}

#[test]
fn snappy_is_read_bare_and_framed() {
    let plain = b"to be, or not to be, that is to be asked".repeat(2000);
    let bare = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(decompress(Compression::Snappy, &bare, plain.len()).unwrap(), plain);
    let framed = compress(Compression::Snappy, &plain);
    assert_eq!(decompress(Compression::Snappy, &framed, plain.len()).unwrap(), plain);
    let twice = [framed.clone(), framed].concat();
    assert_eq!(decompress(Compression::Snappy, &twice, plain.len() * 2).unwrap(), [plain.clone(), plain].concat());
}

#[test]
fn cut_off_data_is_corrupt() {
    let plain: Vec<u8> =
        (0..100_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_be_bytes()).collect();
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let compressed = compress(compression, &plain);
        let result = decompress(compression, &compressed[..compressed.len() / 2], plain.len());
        assert!(
            matches!(result, Err(BatchError::Compression { .. })),
            "{compression:?} {:?}",
            result.map(|out| out.len())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(plain in proptest::collection::vec(any::<u8>(), 0..100_000)) {
        for compression in Compression::ALL {
            let compressed = compress(compression, &plain);
            prop_assert_eq!(decompress(compression, &compressed, plain.len()).unwrap(), &plain[..]);
        }
    }

    #[test]
    fn noise_is_an_error_or_bounded(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for compression in Compression::ALL {
            if let Ok(out) = decompress(compression, &noise, 10_000) {
                prop_assert!(out.len() <= 10_000);
            }
        }
    }
}
