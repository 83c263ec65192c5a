//! What the standard library and tokio take from the operating system as chance, fixed for a whole program.
//!
//! tokio chooses by it among branches that are ready at once, and in which order those who watch a value are woken;
//! hash tables of dependencies have their order from it. Both draw through getrandom(2) of the C library, and count
//! what they have drawn: a simulation repeats itself only in a process of its own that has fixed it.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;

/// Fixes chance for the program in whose root it stands.
#[macro_export]
macro_rules! fix_chance {
    () => {
        /// What getrandom(2) does, with bytes that are the same in every process.
        ///
        /// # Safety
        /// As for the function of the C library: `buffer` has room for `len` bytes.
        #[expect(unsafe_code, reason = "the one symbol of the C library that is replaced")]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn getrandom(
            buffer: *mut ::std::ffi::c_void,
            len: usize,
            _flags: ::std::ffi::c_uint,
        ) -> isize {
            for (at, value) in (0..len).zip((1_u8..=251).cycle()) {
                // SAFETY: the caller says that the buffer has room for so many bytes. They need not be initialised, and none
                // is touched of a buffer without any, which may be null: no slice is made of them.
                unsafe { buffer.cast::<u8>().add(at).write(value) };
            }
            isize::try_from(len).unwrap_or(isize::MAX)
        }
    };
}

/// Fails when chance is not fixed after all: nothing would repeat.
///
/// # Panics
/// When the standard library draws its chance elsewhere.
#[expect(clippy::disallowed_types, reason = "this looks whether its chance is fixed")]
pub fn check() {
    #[expect(clippy::disallowed_methods, reason = "a thread that nobody owns is what is tested")]
    let draw = || std::thread::spawn(|| std::hash::RandomState::new().hash_one(0_u8));
    let drawn: BTreeSet<u64> = [draw(), draw()].into_iter().filter_map(|thread| thread.join().ok()).collect();
    assert_eq!(drawn.len(), 1, "the standard library's chance is not fixed");
}
