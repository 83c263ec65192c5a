//! One look at all partitions of a fetch: which batches it would read, and then their bytes.

use futures_util::stream::{FuturesOrdered, StreamExt};
use record::{LeaderEpoch, StreamOffset};
use replica::{AnswerMemory, LookUp, Plan, Planned, StoredBatch, Wish, read_within};
use storage::Reading;

use super::elsewhere::Brought;
use super::places::{Copies, Earlier, Places, check_leader};
use super::rules::{self, Allowance};
use super::{EpochEnd, FetchError, FetchPartition, FetchedPartition};
use crate::Barriers;

/// Partitions whose index is looked up in files at a time.
const LOOK_UPS_MAX: usize = 4;
/// Batches that memory is had for before the first is read, beside their bytes.
const BATCHES_TO_BEGIN: usize = 100;

/// What a fetch would read. Holds no bytes of it.
pub(super) struct Look<'a> {
    /// What each partition is told, still without its batches.
    found: Vec<FetchedPartition>,
    plans: Vec<Plan<'a>>,
    /// Which partition each plan is of.
    of: Vec<usize>,
    /// A stream has ended where it was looked for, and everything that it had there was asked for before.
    has_ended: bool,
}

impl<'a> Look<'a> {
    pub(super) fn found(&self) -> &[FetchedPartition] {
        &self.found
    }

    /// Whether a stream may go on elsewhere: then what is asked for is there.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What each partition is told when there is nothing to read.
    pub(super) fn into_found(self) -> Vec<FetchedPartition> {
        self.found
    }

    /// What the first batch takes in memory; none when nothing is to be read.
    pub(super) fn first_memory_bytes(&self) -> Option<usize> {
        self.first_bytes().map(|bytes| memory_bytes(bytes, 1))
    }

    /// What is to be had for the beginning: the first batch, and what others that stay in files take besides.
    pub(super) fn memory_bytes_to_begin(&self) -> usize {
        memory_bytes(self.first_bytes().unwrap_or(0), self.batches().clamp(1, BATCHES_TO_BEGIN))
    }

    /// A plan for which files have to be read.
    pub(super) fn cold(&self) -> Option<&Plan<'a>> {
        self.plans.iter().find(|plan| plan.is_cold())
    }

    fn first_bytes(&self) -> Option<u64> {
        self.plans.first().and_then(Plan::first_bytes)
    }

    fn batches(&self) -> usize {
        self.plans.iter().map(Plan::len).sum()
    }

    /// Leaves so many batches.
    fn cut(&mut self, left: usize) {
        for _ in left..self.batches() {
            let (Some(plan), Some(partition)) = (self.plans.last_mut(), self.of.last()) else { return };
            self.found[*partition].bytes -= plan.pop().expect("a plan has batches");
            if plan.is_empty() {
                self.plans.pop();
                self.of.pop();
            }
        }
    }

    /// Reads what there is memory for. A partition whose first batch cannot be read is told so, and the others are
    /// answered.
    pub(super) async fn read(
        mut self,
        turn: Option<Reading<'a>>,
        memory: &mut AnswerMemory<'_>,
    ) -> Vec<FetchedPartition> {
        self.cut(memory.begin(self.first_bytes().unwrap_or(0), self.batches()));
        let Self { mut found, plans, of, has_ended: _ } = self;
        for (read, partition) in read_within(&plans, turn, memory).await.into_iter().zip(of) {
            let partition = &mut found[partition];
            match read {
                Ok(batches) => {
                    let bytes: u64 = batches.iter().map(|batch| u64::from(batch.bytes)).sum();
                    assert!(bytes <= partition.bytes, "what was read is what was planned, or its front");
                    (partition.bytes, partition.batches) = (bytes, batches);
                }
                Err(error) => *partition = FetchedPartition::failed(error.into()),
            }
        }
        found
    }
}

/// Looks at the partitions in their order, within the limits.
///
/// What is in files is looked up for a few partitions at a time. How much those in front will take is
/// not known then, so each is looked up with all that may be left for it, and cut when its turn has come.
///
/// `failures` are those of partitions that could not be read, which are not read again.
pub(super) async fn look<'a>(places: &'a Places<'_>, bytes_max: i32, failures: &[Option<FetchError>]) -> Look<'a> {
    let mut turns = Turns::new(bytes_max, places.iter().len());
    let mut ahead = FuturesOrdered::new();
    let mut barriers = Barriers::default();
    for (number, (partition, copies)) in places.iter().enumerate() {
        let replica = copies.replica();
        if ahead.len() == LOOK_UPS_MAX
            && let Some((partition, start)) = ahead.next().await
        {
            turns.take(partition, start);
        }
        tokio::task::coop::consume_budget().await;
        let (limit, at_least_one) = turns.allowance.of_partition(partition.bytes_max);
        let started = match failures.get(number) {
            Some(Some(failure)) => Err(failure.clone()),
            _ => start(partition, copies, limit, at_least_one, &mut turns.look.has_ended),
        };
        let started = match replica {
            Some(replica) if is_told_only_when_sure(&started) => match barriers.pass(replica).await {
                Ok(()) => start(partition, copies, limit, at_least_one, &mut turns.look.has_ended),
                Err(_) => Err(FetchError::NotLeader),
            },
            _ => started,
        };
        match started {
            Ok(Start::InFiles(..)) => ahead.push_back(find(partition, started)),
            here if ahead.is_empty() => turns.take(partition, here),
            here => ahead.push_back(find(partition, here)),
        }
    }
    while let Some((partition, start)) = ahead.next().await {
        turns.take(partition, start);
    }
    turns.look
}

/// What so many batches of so many bytes together take in memory.
pub(super) fn memory_bytes(bytes: u64, batches: usize) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes.saturating_add(batches.saturating_mul(StoredBatch::OVERHEAD_BYTES))
}

/// What is known of one partition.
enum Start<'a> {
    /// The reader has to truncate first.
    Diverges(FetchedPartition),
    Here(Plan<'a>, Bounds),
    InFiles(LookUp<'a>, Bounds),
    /// It is of another shard, of which this node has no copy.
    Brought(&'a Brought, Bounds),
}

/// Where a partition begins and ends, if the shard that is read does not have all of it.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    log_start: Option<i64>,
    high_watermark: Option<i64>,
}

type Started<'a> = Result<Start<'a>, FetchError>;

async fn find<'a>(partition: &'a FetchPartition, started: Started<'a>) -> (&'a FetchPartition, Started<'a>) {
    match started {
        Ok(Start::InFiles(look_up, bounds)) => {
            (partition, look_up.find().await.map(|plan| Start::Here(plan, bounds)).map_err(Into::into))
        }
        here => (partition, here),
    }
}

/// Gives out the allowance in the order of the partitions.
struct Turns<'a> {
    allowance: Allowance,
    look: Look<'a>,
}

impl<'a> Turns<'a> {
    fn new(bytes_max: i32, partitions: usize) -> Self {
        let found = Vec::with_capacity(partitions);
        Self {
            allowance: Allowance::new(bytes_max),
            look: Look {
                found,
                plans: Vec::with_capacity(partitions),
                of: Vec::with_capacity(partitions),
                has_ended: false,
            },
        }
    }

    fn take(&mut self, request: &FetchPartition, started: Started<'a>) {
        let look = &mut self.look;
        let (mut plan, bounds) = match started {
            Ok(Start::Here(plan, bounds)) => (plan, bounds),
            Ok(Start::Brought(brought, bounds)) => return self.take_brought(request, brought, bounds),
            Ok(Start::Diverges(told)) => return look.found.push(told),
            Ok(Start::InFiles(..)) => unreachable!("what is in files was looked up"),
            Err(error) => return look.found.push(FetchedPartition::failed(error)),
        };
        let (limit, at_least_one) = self.allowance.of_partition(request.bytes_max);
        plan.limit(limit, at_least_one);
        let (bytes, limit) = (plan.bytes(), u64::try_from(limit).unwrap_or(u64::MAX));
        assert!(at_least_one || bytes <= limit, "only the first batch may exceed a limit");
        self.allowance.spend(bytes);
        let first = bounds.log_start.unwrap_or_else(|| plan.first_offset().0);
        let next = bounds.high_watermark.unwrap_or_else(|| plan.next_offset().0);
        look.found.push(FetchedPartition {
            error: None,
            // Only what is committed is in the stream, and nothing is in a transaction.
            high_watermark: next,
            last_stable_offset: next,
            log_start_offset: first,
            diverging_epoch: None,
            batches: Vec::new(),
            bytes,
            // Behind a range of another shard there is more, if only on this one.
            counted: if plan.goes_on() || (bytes > 0 && bounds.high_watermark.is_some()) {
                bytes.max(limit)
            } else {
                bytes
            },
            is_brought: false,
        });
        if bytes > 0 {
            look.plans.push(plan);
            look.of.push(look.found.len() - 1);
        }
    }

    fn take_brought(&mut self, request: &FetchPartition, brought: &Brought, bounds: Bounds) {
        let (limit, at_least_one) = self.allowance.of_partition(request.bytes_max);
        let batches = match brought {
            Brought::Batches(batches) => &batches[..],
            Brought::Later => &[],
            Brought::Failed(error) => return self.look.found.push(FetchedPartition::failed(error.clone())),
        };
        let (mut left, mut must_give) = (u64::try_from(limit).unwrap_or(u64::MAX), at_least_one);
        let fits = |batch: &&StoredBatch| {
            let bytes = u64::from(batch.bytes);
            let fits = bytes <= left || must_give;
            must_give = false;
            left = left.saturating_sub(bytes);
            fits
        };
        let batches: Vec<StoredBatch> = batches.iter().take_while(fits).cloned().collect();
        let bytes: u64 = batches.iter().map(|batch| u64::from(batch.bytes)).sum();
        self.allowance.spend(bytes);
        let (log_start, next) = (bounds.log_start.unwrap_or(-1), bounds.high_watermark.unwrap_or(-1));
        self.look.found.push(FetchedPartition {
            error: None,
            high_watermark: next,
            last_stable_offset: next,
            log_start_offset: log_start,
            diverging_epoch: None,
            batches,
            bytes,
            // Whose turn did not come must not wait for what others may write.
            counted: bytes.max(u64::try_from(limit).unwrap_or(u64::MAX)),
            is_brought: true,
        });
    }
}

/// What makes a reader throw away its position, or its topic. Who led before, and does not know yet that another does,
/// would say it of what it lacks.
fn is_told_only_when_sure(started: &Started<'_>) -> bool {
    matches!(started, Ok(Start::Diverges(_)) | Err(FetchError::OffsetOutOfRange | FetchError::UnknownTopicOrPartition))
}

fn start<'a>(
    request: &'a FetchPartition,
    copies: &'a Copies,
    bytes_max: usize,
    at_least_one: bool,
    has_ended: &mut bool,
) -> Started<'a> {
    let partition = request.partition.partition();
    let replica = copies.replica().ok_or(FetchError::NotLeader)?;
    check_leader(partition, replica)?;
    let stream = partition.stream;
    let mut bounds = Bounds::default();
    let diverging = {
        let state = replica.state();
        let view = state.stream(stream).ok_or(FetchError::UnknownTopicOrPartition)?;
        let (first, next) = (partition.log_start(view.first_offset().0), view.next_offset().0);
        if view.is_closed() && request.fetch_offset >= next {
            *has_ended = true;
            if request.fetch_offset > next {
                // It is in range where the stream goes on.
                return Err(FetchError::NotLeader);
            }
        }
        if partition.earlier_left().next().is_some() {
            bounds.log_start = Some(first);
            bounds.high_watermark = copies.earlier().map(|_| next);
        }
        rules::check_epoch(request.current_leader_epoch, view.epoch().0)?;
        let diverging = diverging_epoch(request, |epoch| {
            let end = view.epoch_end(epoch);
            EpochEnd { epoch: end.epoch.0, end_offset: end.end_offset.0 }
        })?;
        diverging.map(|epoch| (epoch, first, next))
    };
    if let Some((epoch, first_offset, next_offset)) = diverging {
        return Ok(Start::Diverges(FetchedPartition {
            error: None,
            high_watermark: next_offset,
            last_stable_offset: next_offset,
            log_start_offset: first_offset,
            diverging_epoch: Some(epoch),
            batches: Vec::new(),
            bytes: 0,
            counted: 0,
            is_brought: false,
        }));
    }
    let wish = Wish { stream, from: StreamOffset(request.fetch_offset), bytes_max, at_least_one };
    let replica = match copies.earlier() {
        None => replica,
        Some(Earlier::Here(earlier)) => earlier,
        Some(Earlier::Elsewhere(_)) => return Ok(Start::Brought(&Brought::Later, bounds)),
        Some(Earlier::Brought(brought)) => return Ok(Start::Brought(brought, bounds)),
    };
    Ok(match replica.plan_fetch(wish)? {
        Planned::Here(plan) => Start::Here(plan, bounds),
        Planned::InFiles(look_up) => Start::InFiles(look_up, bounds),
    })
}

/// Where the reader's log left this one, if it did (KIP-595).
fn diverging_epoch(
    request: &FetchPartition,
    epoch_end: impl FnOnce(LeaderEpoch) -> EpochEnd,
) -> Result<Option<EpochEnd>, FetchError> {
    if request.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = epoch_end(LeaderEpoch(request.last_fetched_epoch));
    if end.epoch < 0 || end.end_offset < 0 {
        return Err(FetchError::OffsetOutOfRange);
    }
    let diverges = end.epoch < request.last_fetched_epoch || end.end_offset < request.fetch_offset;
    Ok(diverges.then_some(end))
}

impl From<replica::FetchError> for FetchError {
    fn from(error: replica::FetchError) -> Self {
        match error {
            replica::FetchError::UnknownStream(_) => Self::UnknownTopicOrPartition,
            replica::FetchError::OffsetOutOfRange { .. } => Self::OffsetOutOfRange,
            replica::FetchError::Damaged { .. } => Self::Damaged(error.to_string()),
            replica::FetchError::Io(_) => Self::Storage(error.to_string()),
            replica::FetchError::Stopped => Self::Stopped,
        }
    }
}
