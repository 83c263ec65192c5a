//! Hash tables whose order is the same in every run.
//!
//! The standard library seeds its tables from the operating system; an order that leaks from one
//! into output or scheduling could not be replayed. These are not hardened against chosen keys:
//! where a client chooses the keys and their number is not bounded, use a tree.

pub use rustc_hash::FxHasher as FixedHasher;

/// `HashMap` with a fixed hash function.
pub type FixedHashMap<K, V> = rustc_hash::FxHashMap<K, V>;
/// `HashSet` with a fixed hash function.
pub type FixedHashSet<K> = rustc_hash::FxHashSet<K>;
