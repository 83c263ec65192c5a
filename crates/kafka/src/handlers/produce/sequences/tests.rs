//! Which batches wait, which are refused, and what is remembered of them.

use super::*;
use crate::errors::INVALID_TIMESTAMP;
use crate::wire::produce::Text;

fn sent(epoch: i16, sequence: i32) -> Sent {
    of_partition(0, epoch, sequence)
}

fn of_partition(partition: i32, epoch: i16, sequence: i32) -> Sent {
    let key = Key { topic: TopicId(1), partition, producer: ProducerId(7) };
    Sent { key, epoch: ProducerEpoch(epoch), sequence: Sequence(sequence) }
}

/// What a connection remembers; the shard does not know the producers.
struct Connection {
    sequences: Sequences,
    now: Instant,
}

impl Connection {
    fn new() -> Self {
        Self { sequences: Sequences::new(Share::new("test", 1 << 20)), now: base::time::now() }
    }

    fn admit(&mut self, sent: &Sent) -> Result<(), Held> {
        self.sequences.admit(sent, true, self.now, || false)
    }

    fn settle(&mut self, sent: &Sent, code: i16) -> i16 {
        self.settle_due(sent, code, None)
    }

    /// Where the shard expects `due`.
    fn settle_due(&mut self, sent: &Sent, code: i16, due: Option<i32>) -> i16 {
        let told = self.sequences.settle(sent, code, due.map(Sequence), self.now);
        let Sequences { known, in_use, refused, .. } = &self.sequences;
        assert_eq!(*in_use, known.values().filter(|known| known.is_in_use()).count());
        assert_eq!(refused.len(), known.values().filter(|known| known.refused.is_some()).count());
        assert!(known.len() <= in_use + in_use / 4 + IDLE_MAX, "what is idle goes");
        told
    }

    fn ended(&mut self, sent: &Sent, code: i16) {
        self.admit(sent).expect("nothing is refused");
        assert_eq!(self.settle(sent, code), code);
    }
}

fn behind(sequence: i32) -> Result<(), Held> {
    Err(Held::Behind(Sequence(sequence), Missing::ComesAgain))
}

#[test]
fn what_follows_a_refused_batch_is_refused_until_it_comes_again() {
    for code in [2, 3, 6, 7, 10, 19] {
        let mut connection = Connection::new();
        connection.ended(&sent(0, 0), code);
        assert_eq!(connection.admit(&sent(0, 5)), behind(0));
        assert_eq!(connection.admit(&sent(0, 10)), behind(0));
        connection.ended(&of_partition(1, 0, 5), NONE);
        connection.ended(&sent(0, 0), code);
        assert_eq!(connection.admit(&sent(0, 5)), behind(0), "refused again");
        connection.ended(&sent(0, 0), NONE);
        connection.ended(&sent(0, 5), NONE);
        assert_eq!(connection.sequences.paid.bytes(), 0);
    }
}

/// The leader moves away and back: what was refused meanwhile went to the other node.
#[test]
fn what_came_by_another_node_does_not_come_again() {
    let mut connection = Connection::new();
    connection.ended(&sent(0, 0), NOT_LEADER_OR_FOLLOWER);
    let next = sent(0, 9);
    assert_eq!(connection.admit(&next), behind(0), "the shard does not know the producer");
    assert_eq!(connection.sequences.admit(&next, true, connection.now, || true), Ok(()));
    connection.settle(&next, NONE);
    connection.ended(&sent(0, 10), NONE);
    assert_eq!(connection.sequences.paid.bytes(), 0);
}

/// The shard knows the producer: it refuses what is behind a batch that it does not have.
#[test]
fn what_is_out_of_order_for_want_of_a_refused_batch_is_to_be_sent_again() {
    for code in [2, 6, 7, 19] {
        let mut connection = Connection::new();
        let admit = |connection: &mut Connection, sent: &Sent| {
            connection.sequences.admit(sent, true, connection.now, || true).expect("the shard knows the producer");
        };
        for sequence in [0, 5, 10, 15] {
            admit(&mut connection, &sent(0, sequence));
        }
        assert_eq!(connection.settle(&sent(0, 0), code), code);
        let out_of_order = OUT_OF_ORDER_SEQUENCE_NUMBER;
        assert_eq!(connection.settle(&sent(0, 5), out_of_order), NOT_LEADER_OR_FOLLOWER);
        assert_eq!(connection.settle(&sent(0, 10), out_of_order), NOT_LEADER_OR_FOLLOWER);
        connection.now += COMES_AGAIN_WITHIN;
        assert_eq!(connection.settle(&sent(0, 15), out_of_order), out_of_order, "it does not come any more");
        // It came by another way: what is out of order now is so for another reason.
        admit(&mut connection, &sent(0, 5));
        assert_eq!(connection.settle(&sent(0, 5), NONE), NONE);
        assert_eq!(connection.sequences.paid.bytes(), 0);
        admit(&mut connection, &sent(0, 20));
        assert_eq!(connection.settle(&sent(0, 20), out_of_order), out_of_order);
    }
}

/// Those before it were refused by another node, and their producer brings them here after all.
#[test]
fn what_the_shard_misses_may_be_on_its_way_from_another_node() {
    let mut connection = Connection::new();
    let admit = |connection: &mut Connection, sent: &Sent| {
        connection.sequences.admit(sent, true, connection.now, || true).expect("the shard knows the producer");
    };
    let out_of_order = OUT_OF_ORDER_SEQUENCE_NUMBER;
    for sequence in [12, 20] {
        admit(&mut connection, &sent(0, sequence));
    }
    assert_eq!(connection.settle_due(&sent(0, 12), out_of_order, Some(7)), NOT_LEADER_OR_FOLLOWER);
    connection.now += COMES_AGAIN_WITHIN - Duration::from_secs(1);
    assert_eq!(connection.settle_due(&sent(0, 20), out_of_order, Some(7)), NOT_LEADER_OR_FOLLOWER);
    for sequence in [7, 12] {
        admit(&mut connection, &sent(0, sequence));
        assert_eq!(connection.settle(&sent(0, sequence), NONE), NONE);
    }
    assert_eq!(connection.sequences.paid.bytes(), 0);
    // It never comes.
    admit(&mut connection, &sent(0, 30));
    assert_eq!(connection.settle_due(&sent(0, 30), out_of_order, Some(20)), NOT_LEADER_OR_FOLLOWER);
    connection.now += COMES_AGAIN_WITHIN;
    admit(&mut connection, &sent(0, 30));
    assert_eq!(connection.settle_due(&sent(0, 30), out_of_order, Some(20)), out_of_order);
}

/// The shard has it, and does not remember where: sending it again changes nothing.
#[test]
fn a_batch_from_before_what_is_due_is_out_of_order() {
    let mut connection = Connection::new();
    connection.admit(&sent(0, 7)).expect("nothing is under way");
    assert_eq!(
        connection.settle_due(&sent(0, 7), OUT_OF_ORDER_SEQUENCE_NUMBER, Some(60)),
        OUT_OF_ORDER_SEQUENCE_NUMBER
    );
    assert_eq!(connection.sequences.in_use, 0);
}

/// What was refused first went to another node, and came back with its producer.
#[test]
fn a_new_refusal_counts_also_behind_one_of_long_ago() {
    let mut connection = Connection::new();
    connection.ended(&sent(0, 0), NOT_LEADER_OR_FOLLOWER);
    connection.now += 2 * COMES_AGAIN_WITHIN;
    for sequence in [100, 101] {
        let sent = sent(0, sequence);
        connection.sequences.admit(&sent, true, connection.now, || true).expect("the shard knows the producer");
    }
    assert_eq!(connection.settle(&sent(0, 100), NOT_LEADER_OR_FOLLOWER), NOT_LEADER_OR_FOLLOWER);
    assert_eq!(connection.settle(&sent(0, 101), OUT_OF_ORDER_SEQUENCE_NUMBER), NOT_LEADER_OR_FOLLOWER);
}

#[test]
fn names_and_ids_of_topics_are_told_apart() {
    let name = |name: &str| TopicKey::Name(Text::from(name.to_owned()));
    assert_eq!(told_apart(&name("orders")), told_apart(&name("orders")));
    assert_ne!(told_apart(&name("orders")), told_apart(&name("order")));
    assert_eq!(told_apart(&TopicKey::Id(TopicId(7))), TopicId(7));
}

#[test]
fn a_refusal_of_long_ago_holds_up_nobody() {
    let mut connection = Connection::new();
    connection.ended(&sent(0, 0), NOT_LEADER_OR_FOLLOWER);
    connection.now += COMES_AGAIN_WITHIN - Duration::from_secs(1);
    assert_eq!(connection.admit(&sent(0, 9)), behind(0));
    let mut given_up = || {
        connection.now += Duration::from_secs(1);
        assert_eq!(connection.admit(&sent(0, 9)), Err(Held::Behind(Sequence(0), Missing::GivenUp)));
    };
    given_up();
    given_up();
    connection.now += REFUSED_FOR - COMES_AGAIN_WITHIN - Duration::from_secs(1);
    connection.ended(&sent(0, 9), NONE);
    assert_eq!(connection.sequences.paid.bytes(), 0);
}

#[test]
fn the_first_batches_of_a_producer_wait_for_the_one_before() {
    let mut connection = Connection::new();
    assert_eq!(connection.admit(&sent(0, 0)), Ok(()));
    assert_eq!(connection.admit(&sent(0, 5)), Err(Held::Wait));
    assert_eq!(connection.admit(&of_partition(1, 0, 5)), Ok(()));
    connection.settle(&sent(0, 0), NONE);
    assert_eq!(connection.admit(&sent(0, 5)), Ok(()));
    assert_eq!(connection.admit(&sent(0, 10)), Ok(()), "the shard knows the producer");
    connection.settle(&sent(0, 5), NOT_ENOUGH_REPLICAS);
    assert_eq!(connection.admit(&sent(0, 15)), behind(5), "it is refused at once");
    connection.settle(&sent(0, 10), OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(connection.admit(&sent(0, 5)), Ok(()));
    assert_eq!(connection.admit(&sent(0, 10)), Err(Held::Wait), "it came again");
}

#[test]
fn a_producer_that_the_shard_knows_does_not_wait() {
    let mut connection = Connection::new();
    for partition in 0..2_000 {
        connection.ended(&of_partition(partition, 0, 0), NONE);
    }
    assert!(connection.sequences.known.len() <= IDLE_MAX);
    for partition in 0..2_000 {
        connection.admit(&of_partition(partition, 0, 1)).expect("the only one under way");
    }
    let (sequences, now) = (&mut connection.sequences, connection.now);
    for partition in 0..2_000 {
        assert_eq!(sequences.admit(&of_partition(partition, 0, 2), true, now, || true), Ok(()));
        let mut asked = false;
        let known = sequences.admit(&of_partition(partition, 0, 3), true, now, || {
            asked = true;
            false
        });
        assert!(known.is_ok() && !asked, "it is not asked for each batch");
    }
}

#[test]
fn what_the_shard_knew_long_ago_it_is_asked_again() {
    let mut connection = Connection::new();
    connection.ended(&sent(0, 0), NONE);
    connection.now += Duration::from_secs(24 * 3_600);
    connection.admit(&sent(0, 1)).expect("nothing is under way");
    assert_eq!(connection.admit(&sent(0, 2)), Err(Held::Wait));
}

#[test]
fn what_never_comes_again_holds_up_nobody() {
    let mut connection = Connection::new();
    for code in [INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE_NUMBER] {
        connection.ended(&sent(0, 0), code);
        assert_eq!(connection.sequences.in_use, 0);
        connection.admit(&sent(0, 5)).expect("as in Kafka");
        connection.settle(&sent(0, 5), NONE);
    }
    connection.ended(&sent(0, 10), CORRUPT_MESSAGE);
    connection.ended(&sent(0, 5), NONE);
    assert_eq!(connection.admit(&sent(0, 15)), behind(10), "an earlier batch changes nothing");
    connection.ended(&sent(1, 0), NONE);
    connection.ended(&sent(1, 3), NONE);
    connection.ended(&sent(0, 15), INVALID_TIMESTAMP);
    assert_eq!(connection.sequences.paid.bytes(), 0);
}

#[test]
fn sequences_begin_anew_behind_the_largest() {
    let mut connection = Connection::new();
    connection.ended(&sent(0, i32::MAX), NOT_LEADER_OR_FOLLOWER);
    assert_eq!(connection.admit(&sent(0, 0)), behind(i32::MAX));
    connection.admit(&sent(0, i32::MAX - 1)).expect("before it");
    // The earlier one counts.
    connection.settle(&sent(0, i32::MAX - 1), NOT_LEADER_OR_FOLLOWER);
    assert_eq!(connection.admit(&sent(0, i32::MAX)), behind(i32::MAX - 1));
}

#[test]
fn few_refused_batches_are_remembered_and_paid_for() {
    let mut connection = Connection::new();
    let count = 20 * i32::try_from(REFUSED_REMEMBERED_MAX).expect("small");
    for partition in 0..count {
        connection.ended(&of_partition(partition, 0, 0), CORRUPT_MESSAGE);
    }
    assert_eq!(connection.sequences.refused.len(), REFUSED_REMEMBERED_MAX);
    let share = connection.sequences.share.clone();
    assert!(share.used() >= REFUSED_REMEMBERED_MAX * BYTES_PER_REFUSED);
    assert_eq!(connection.admit(&of_partition(count - 1, 0, 1)), behind(0));
    connection.admit(&of_partition(0, 0, 1)).expect("forgotten");
    // Who has no memory remembers less.
    let left = share.try_acquire(share.bytes_max() - share.used());
    let mut other = Connection { sequences: Sequences::new(share.clone()), now: connection.now };
    other.ended(&sent(0, 0), CORRUPT_MESSAGE);
    other.ended(&sent(0, 1), NONE);
    assert_eq!(other.sequences.in_use, 0);
    drop((left, connection));
    assert_eq!(share.used(), 0);
}

#[test]
fn only_a_stamped_batch_has_a_sequence() {
    let mut batch = vec![0; 61];
    batch[MAGIC_AT] = MAGIC;
    let read = |batch: &[u8]| Sent::read(TopicId(1), 0, batch).map(|sent| sent.sequence.0);
    assert_eq!(read(&batch), Some(0));
    batch[56] = 9;
    assert_eq!(read(&batch), Some(9));
    assert_eq!(read(&batch[..56]), None);
    batch[PRODUCER_AT] = 0xff;
    assert_eq!(read(&batch), None);
}
