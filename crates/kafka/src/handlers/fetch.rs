//! Fetch: reads of many partitions, with and without a session, and the wait for data.
//!
//! A request becomes a list of [`Read`]s in the order in which they are to be read: that of the request, or that of
//! the session. The broker reads those whose partition is known; the answers are merged in that order.

mod payload;
mod response;

use base::memory::Permit;
use base::time::{Duration, now};
use broker::fetch::{self as reading, FetchError, FetchedPartition, Isolation};
use broker::topics::PartitionRef;
use bytes::Bytes;

use crate::context::{Context, Shared};
use crate::errors::{
    Code, FETCH_SESSION_ID_NOT_FOUND, FETCH_SESSION_TOPIC_ID_ERROR, INVALID_FETCH_SESSION_EPOCH, INVALID_REQUEST, NONE,
    NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::frame::Hold;
use crate::handlers::ServeError;
use crate::handshake::RequestHeader;
use crate::limits::{FETCH_WAIT_MAX, LARGE_FETCH_WAIT_MAX, LEADER_WAIT_MAX};
use crate::session::{Change, FINAL_EPOCH, INITIAL_EPOCH, Session, SessionHandle};
use crate::wire::fetch::{FIRST_BY_ID, FetchPartition, FetchRequest};
use crate::wire::fetch_response::{Aborted, PartitionHead};
use crate::wire::produce::TopicKey;
use crate::wire::response::Response;

use response::{refused, respond};

/// The longest name of a topic, as Kafka has it.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The turn of what is in no session.
const NO_TURN: u64 = u64::MAX;

/// One partition to be read.
struct Read {
    key: TopicKey,
    wish: FetchPartition,
    place: Place,
    /// Its turn in the session.
    turn: u64,
}

enum Place {
    Found(PartitionRef),
    Refused(i16),
}

/// What one partition is told.
struct Answer {
    head: PartitionHead,
    batches: Vec<reading::StoredBatch>,
    bytes: u64,
}

/// What kind of request it is.
enum Mode {
    /// Everything is named and answered; a session may be made of it.
    Full { open: bool },
    /// Only changes are named and answered.
    Incremental(SessionHandle),
}

pub(super) async fn handle(
    context: &mut Context,
    header: &RequestHeader,
    body: Bytes,
    hold: Hold,
) -> Result<Response, ServeError> {
    let (version, flexible) = (header.version, header.api.is_flexible(header.version));
    let memory = &context.shared.memory;
    let mut request = FetchRequest::decode(&body, header.body_at, version, flexible, memory.decoded_bytes_max())?;
    let decoded = memory.acquire_decoded(request.cost).await;
    // Nothing of the request itself stays while its reader waits.
    request.detach();
    drop((body, hold));
    let wait_max = if decoded.bytes() > 0 { LARGE_FETCH_WAIT_MAX } else { FETCH_WAIT_MAX };
    let wait_max = wait_max.min(Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)));
    let mode = match mode(context, &request, version) {
        Ok(mode) => mode,
        Err(code) => return Ok(refused(header, code)?),
    };
    let mut reads = match &mode {
        Mode::Full { .. } => named(context, &request),
        Mode::Incremental(slot) => match changed(context, &request, slot) {
            Ok(reads) => reads,
            Err(code) => return Ok(refused(header, code)?),
        },
    };
    let isolation = match request.isolation {
        0 => Isolation::ReadUncommitted,
        1 => Isolation::ReadCommitted,
        _ => {
            refuse_all(&mut reads, INVALID_REQUEST);
            Isolation::ReadUncommitted
        }
    };
    if request.replica_id >= 0 {
        // Replicas of this broker do not read through this protocol.
        refuse_all(&mut reads, NOT_LEADER_OR_FOLLOWER);
    }
    let (mut answers, memory) = read(context, &request, &reads, isolation, wait_max).await;
    let more = payload::reserve(context.broker().memory().answers(), &mut answers);
    payload::load(&mut answers).await;
    let (session_id, told) = conclude(context, mode, version, &reads, &answers);
    let mut builder = respond(context, header, session_id, &reads, answers, &told);
    builder.hold((memory, more));
    Ok(builder.finish()?)
}

/// Finds out what kind of request it is; a full one ends the session it names.
fn mode(context: &mut Context, request: &FetchRequest, version: i16) -> Result<Mode, i16> {
    if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
        if request.session_id != 0 {
            context.shared.sessions.close(request.session_id);
            context.session = None;
        }
        return Ok(Mode::Full { open: request.session_epoch == INITIAL_EPOCH });
    }
    let slot =
        context.shared.sessions.find(request.session_id, context.session.as_ref()).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
    {
        let session = slot.lock();
        if session.epoch() != request.session_epoch {
            return Err(INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id() != (version >= FIRST_BY_ID) {
            return Err(FETCH_SESSION_TOPIC_ID_ERROR);
        }
    }
    context.session = Some(SessionHandle::clone(&slot));
    Ok(Mode::Incremental(slot))
}

/// The partitions that a full request names, in its order.
fn named(context: &Context, request: &FetchRequest) -> Vec<Read> {
    let mut reads = Vec::with_capacity(request.partitions.len());
    let mut partitions = request.partitions.iter();
    for topic in &request.topics {
        for wish in partitions.by_ref().take(topic.partitions) {
            let place = find(context, &topic.key, wish.index);
            reads.push(Read { key: topic.key.clone(), wish: *wish, place, turn: 0 });
        }
    }
    reads
}

fn find(context: &Context, key: &TopicKey, index: i32) -> Place {
    let topics = context.broker().topics();
    let (topic, unknown) = match key {
        TopicKey::Name(name) => (topics.resolve(name.as_str()), UNKNOWN_TOPIC_OR_PARTITION),
        TopicKey::Id(id) => (topics.resolve_id(*id), UNKNOWN_TOPIC_ID),
    };
    let Some(topic) = topic else { return Place::Refused(unknown) };
    PartitionRef::new(topic, index).map_or(Place::Refused(UNKNOWN_TOPIC_OR_PARTITION), Place::Found)
}

/// Takes the changes into the session; all its partitions in the order of their turns.
fn changed(context: &Context, request: &FetchRequest, slot: &SessionHandle) -> Result<Vec<Read>, i16> {
    let mut session = slot.lock();
    // Another connection may have used the session since it was looked at.
    if session.epoch() != request.session_epoch {
        return Err(INVALID_FETCH_SESSION_EPOCH);
    }
    let mut partitions = request.partitions.iter();
    let mut strange = Vec::new();
    for topic in &request.topics {
        for wish in partitions.by_ref().take(topic.partitions) {
            if may_exist(&topic.key) {
                session.set(&topic.key, *wish);
            } else {
                let place = Place::Refused(UNKNOWN_TOPIC_OR_PARTITION);
                strange.push(Read { key: topic.key.clone(), wish: *wish, place, turn: NO_TURN });
            }
        }
    }
    for topic in &request.forgotten {
        for index in &topic.partitions {
            session.forget(&topic.key, *index);
        }
    }
    let size = session.len();
    session.advance();
    let mut reads = Vec::with_capacity(size);
    for (turn, cached) in session.iter_mut() {
        let place = match &cached.found {
            Some(found) => Place::Found(found.clone()),
            None => find(context, &cached.key, cached.wish.index),
        };
        if let Place::Found(found) = &place
            && cached.found.is_none()
        {
            cached.found = Some(found.clone());
        }
        reads.push(Read { key: cached.key.clone(), wish: cached.wish, place, turn });
    }
    drop(session);
    if size == 0 {
        context.shared.sessions.close(slot.id);
    } else if !context.shared.sessions.resize(slot, size) {
        // No room for what it added: its reader starts over, with full requests.
        return Err(FETCH_SESSION_ID_NOT_FOUND);
    }
    reads.append(&mut strange);
    Ok(reads)
}

/// Whether a session may remember the topic: a name that no topic can have is refused once and forgotten, so that what
/// a session holds is bounded by its partitions.
fn may_exist(key: &TopicKey) -> bool {
    key.name_bytes() <= TOPIC_NAME_BYTES_MAX
}

fn refuse_all(reads: &mut [Read], code: i16) {
    for read in reads {
        if matches!(read.place, Place::Found(_)) {
            read.place = Place::Refused(code);
        }
    }
}

/// Reads what is known, waiting as the request says; one answer per read, and the memory that they hold.
async fn read(
    context: &Context,
    request: &FetchRequest,
    reads: &[Read],
    isolation: Isolation,
    wait_max: Duration,
) -> (Vec<Answer>, (Permit, Permit)) {
    let partitions: Vec<reading::FetchPartition> = reads
        .iter()
        .filter_map(|read| match &read.place {
            Place::Found(partition) => Some(reading::FetchPartition {
                partition: partition.clone(),
                fetch_offset: read.wish.fetch_offset,
                bytes_max: read.wish.max_bytes,
                current_leader_epoch: read.wish.current_leader_epoch,
                last_fetched_epoch: read.wish.last_fetched_epoch,
            }),
            Place::Refused(_) => None,
        })
        .collect();
    let (fetched, memory) = if partitions.is_empty() {
        (Vec::new(), (Permit::empty(), Permit::empty()))
    } else {
        let request = reading::FetchRequest {
            partitions,
            bytes_min: request.min_bytes,
            bytes_max: request.max_bytes,
            wait_max,
            isolation,
        };
        let fetched = context.broker().fetch(request).await;
        if fetched.lacks_memory() {
            tracing::debug!("a reader was sent away: others hold all memory for answers");
        }
        leaders_known(reads, &fetched.partitions, wait_max).await;
        (fetched.partitions, (fetched.memory, fetched.memory_of_brought))
    };
    let mut fetched = fetched.into_iter();
    let aborted = match isolation {
        Isolation::ReadUncommitted => Aborted::Null,
        Isolation::ReadCommitted => Aborted::Empty,
    };
    let answers = reads
        .iter()
        .map(|read| match &read.place {
            Place::Refused(code) => refused_answer(read.wish.index, *code, Aborted::Empty),
            Place::Found(partition) => {
                let fetched = fetched.next().expect("each partition that was asked for is answered");
                answer(&context.shared, read, partition, fetched, aborted)
            }
        })
        .collect();
    (answers, memory)
}

/// Returns when it is known who leads the partitions that are led by others now, as far as their reader would wait. Nobody
/// is kept from anything else for that.
async fn leaders_known(reads: &[Read], fetched: &[FetchedPartition], wait_max: Duration) {
    let is_only_led_elsewhere =
        |found: &FetchedPartition| found.bytes == 0 && matches!(found.error, None | Some(FetchError::NotLeader));
    if !fetched.iter().all(is_only_led_elsewhere) {
        return;
    }
    let until = now() + LEADER_WAIT_MAX.min(wait_max);
    let places = reads.iter().filter_map(|read| match &read.place {
        Place::Found(partition) => Some(partition),
        Place::Refused(_) => None,
    });
    for (partition, _) in places.zip(fetched).filter(|(_, found)| found.error.is_some()) {
        partition.succeeded(until).await;
    }
}

fn refused_answer(index: i32, code: i16, aborted: Aborted) -> Answer {
    Answer { head: PartitionHead::refused(index, code, aborted), batches: Vec::new(), bytes: 0 }
}

fn answer(
    shared: &Shared,
    read: &Read,
    partition: &PartitionRef,
    fetched: FetchedPartition,
    aborted: Aborted,
) -> Answer {
    let Some(error) = fetched.error else {
        let head = PartitionHead {
            index: read.wish.index,
            error: NONE,
            high_watermark: fetched.high_watermark,
            last_stable_offset: fetched.last_stable_offset,
            log_start_offset: fetched.log_start_offset,
            diverging_epoch: fetched.diverging_epoch.map(|end| (end.epoch, end.end_offset)),
            current_leader: None,
            aborted,
        };
        return Answer { head, batches: fetched.batches, bytes: fetched.bytes };
    };
    let code = match (&error, &read.key) {
        // Whoever asked by id learns that the id is of the past.
        (FetchError::UnknownTopicOrPartition, TopicKey::Id(_)) => UNKNOWN_TOPIC_ID,
        _ => error.code(),
    };
    let mut answer = refused_answer(read.wish.index, code, Aborted::Null);
    match error {
        FetchError::NotLeader | FetchError::FencedLeaderEpoch | FetchError::Stopped => {
            answer.head.current_leader = shared.endpoints().hint(partition.leader_now());
        }
        FetchError::Damaged(cause) if !shared.damages.are_new(&cause) => {}
        FetchError::Damaged(cause) | FetchError::Storage(cause) => {
            tracing::error!(topic = %partition.topic().name, partition = partition.index(), %cause, "records cannot be read");
        }
        FetchError::OffsetOutOfRange
        | FetchError::UnknownTopicOrPartition
        | FetchError::UnknownLeaderEpoch
        | FetchError::NoMemory => {}
    }
    answer
}

/// Brings the session up to what is about to be sent; its id, and which answers are sent.
fn conclude(context: &mut Context, mode: Mode, version: i16, reads: &[Read], answers: &[Answer]) -> (i32, Vec<bool>) {
    match mode {
        Mode::Full { open: false } => (0, vec![true; answers.len()]),
        Mode::Full { open: true } => {
            let mut session = Session::new(version >= FIRST_BY_ID);
            for (read, answer) in reads.iter().zip(answers).filter(|(read, _)| may_exist(&read.key)) {
                let found = match &read.place {
                    Place::Found(found) if answer.head.error == NONE => Some(found.clone()),
                    Place::Found(_) | Place::Refused(_) => None,
                };
                session.set_answered(&read.key, read.wish, found, &answer.head);
            }
            context.session = context.shared.sessions.create(session);
            (context.session.as_ref().map_or(0, |slot| slot.id), vec![true; answers.len()])
        }
        Mode::Incremental(slot) => {
            let mut session = slot.lock();
            let told = reads
                .iter()
                .zip(answers)
                .map(|(read, answer)| session.answer(read.turn, &answer.head, answer.bytes > 0) != Change::None)
                .collect();
            let id = if slot.is_closed() { 0 } else { slot.id };
            (id, told)
        }
    }
}
