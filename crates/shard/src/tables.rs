//! All tables of the state, in the order of their numbers.

/// How many tables there are.
pub(crate) const TABLES: usize = 22;
/// Those that were there from the first. One that came later and holds nothing does not show in the digest, so that a
/// state that was written before it came has the digest that stands in its checkpoint.
pub(crate) const FIRST_TABLES: usize = 10;

/// Calls the same method on every table; the first argument is its place.
macro_rules! each_table {
    ($shard:expr, $table:ident => $call:expr) => {
        [
            {
                let $table = &mut $shard.streams;
                $call
            },
            {
                let $table = &mut $shard.producers.table;
                $call
            },
            {
                let $table = &mut $shard.ranges;
                $call
            },
            {
                let $table = &mut $shard.uploads;
                $call
            },
            {
                let $table = &mut $shard.groups.table;
                $call
            },
            {
                let $table = &mut $shard.groups.offsets;
                $call
            },
            {
                let $table = &mut $shard.metadata.topics;
                $call
            },
            {
                let $table = &mut $shard.metadata.nodes;
                $call
            },
            {
                let $table = &mut $shard.metadata.shards;
                $call
            },
            {
                let $table = &mut $shard.metadata.configs;
                $call
            },
            {
                let $table = &mut $shard.metadata.standings;
                $call
            },
            {
                let $table = &mut $shard.metadata.foundings;
                $call
            },
            {
                let $table = &mut $shard.metadata.moves;
                $call
            },
            {
                let $table = &mut $shard.metadata.slot_moves;
                $call
            },
            {
                let $table = &mut $shard.metadata.features;
                $call
            },
            {
                let $table = &mut $shard.groups.tenures;
                $call
            },
            {
                let $table = &mut $shard.metadata.rebalancing_stopped;
                $call
            },
            {
                let $table = &mut $shard.transfers;
                $call
            },
            {
                let $table = &mut $shard.metadata.wanted_copies;
                $call
            },
            {
                let $table = &mut $shard.metadata.doubtful_streams;
                $call
            },
            {
                let $table = &mut $shard.objects.table;
                $call
            },
            {
                let $table = &mut $shard.compacted.table;
                $call
            },
        ]
    };
}
pub(crate) use each_table;
