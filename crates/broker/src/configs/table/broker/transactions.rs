//! Broker keys of transactions.

use super::{Key, keys};
use crate::configs::ValueKind::{Boolean, Int, Short};
use crate::configs::table::Check::{Any, AtLeast};

const TRANSACTIONS: &str = "Part of transactions, which this broker does not have yet.";

pub(super) const KEYS: &[Key] = keys! {
    "add.partitions.to.txn.retry.backoff.max.ms", Int, Some("100"), AtLeast(0), TRANSACTIONS;
    "add.partitions.to.txn.retry.backoff.ms", Int, Some("20"), AtLeast(1), TRANSACTIONS;
    "transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, Some("10000"), AtLeast(1), TRANSACTIONS;
    "transaction.max.timeout.ms", Int, Some("900000"), AtLeast(1), TRANSACTIONS;
    "transaction.partition.verification.enable", Boolean, Some("true"), Any, TRANSACTIONS;
    "transaction.remove.expired.transaction.cleanup.interval.ms", Int, Some("3600000"), AtLeast(1), TRANSACTIONS;
    "transaction.state.log.load.buffer.size", Int, Some("5242880"), AtLeast(1), TRANSACTIONS;
    "transaction.state.log.min.isr", Int, Some("2"), AtLeast(1), TRANSACTIONS;
    "transaction.state.log.num.partitions", Int, Some("50"), AtLeast(1), TRANSACTIONS;
    "transaction.state.log.replication.factor", Short, Some("3"), AtLeast(1), TRANSACTIONS;
    "transaction.state.log.segment.bytes", Int, Some("104857600"), AtLeast(1), TRANSACTIONS;
    "transaction.two.phase.commit.enable", Boolean, Some("false"), Any, TRANSACTIONS;
    "transactional.id.expiration.ms", Int, Some("604800000"), AtLeast(1), TRANSACTIONS;
};
