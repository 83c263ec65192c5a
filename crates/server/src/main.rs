//! The binary `rosettamq`.
fn main() {}
