//! One look at all partitions of a fetch: which batches it would read, and then their bytes.

use futures_util::stream::{FuturesOrdered, StreamExt};
use record::{LeaderEpoch, StreamOffset};
use replica::{AnswerMemory, LookUp, Plan, Planned, Replica, StoredBatch, Wish, read_within};
use storage::Reading;

use super::rules::{self, Allowance};
use super::{EpochEnd, FetchError, FetchPartition, FetchedPartition};
use crate::Barriers;
use crate::topics::Partition;

/// Partitions whose index is looked up in files at a time.
const LOOK_UPS_MAX: usize = 4;
/// Batches that memory is had for before the first is read, beside their bytes.
const BATCHES_TO_BEGIN: usize = 100;

/// The partitions of a fetch, each with this node's copy of it as it was when the fetch came.
pub(super) struct Places<'a> {
    partitions: &'a [FetchPartition],
    replicas: Vec<Option<Replica>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(partitions: &'a [FetchPartition]) -> Self {
        let replicas = partitions.iter().map(|request| request.partition.partition().replica()).collect();
        Self { partitions, replicas }
    }

    /// In the order of the request; no copy where this node has none.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a FetchPartition, Option<&Replica>)> {
        self.partitions.iter().zip(self.replicas.iter().map(Option::as_ref))
    }
}

/// What a fetch would read. Holds no bytes of it.
pub(super) struct Look<'a> {
    /// What each partition is told, still without its batches.
    found: Vec<FetchedPartition>,
    plans: Vec<Plan<'a>>,
    /// Which partition each plan is of.
    of: Vec<usize>,
}

impl<'a> Look<'a> {
    pub(super) fn found(&self) -> &[FetchedPartition] {
        &self.found
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
        let Self { mut found, plans, of } = self;
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
    for (number, (partition, replica)) in places.iter().enumerate() {
        if ahead.len() == LOOK_UPS_MAX
            && let Some((partition, start)) = ahead.next().await
        {
            turns.take(partition, start);
        }
        tokio::task::coop::consume_budget().await;
        let (limit, at_least_one) = turns.allowance.of_partition(partition.bytes_max);
        let started = match failures.get(number) {
            Some(Some(failure)) => Err(failure.clone()),
            _ => start(partition, replica, limit, at_least_one),
        };
        let started = match replica {
            Some(replica) if is_told_only_when_sure(&started) => match barriers.pass(replica).await {
                Ok(()) => start(partition, Some(replica), limit, at_least_one),
                Err(_) => Err(FetchError::NotLeader),
            },
            _ => started,
        };
        match started {
            Ok(Start::InFiles(look_up)) => ahead.push_back(find(partition, Ok(Start::InFiles(look_up)))),
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
    Here(Plan<'a>),
    InFiles(LookUp<'a>),
}

type Started<'a> = Result<Start<'a>, FetchError>;

async fn find<'a>(partition: &'a FetchPartition, started: Started<'a>) -> (&'a FetchPartition, Started<'a>) {
    match started {
        Ok(Start::InFiles(look_up)) => (partition, look_up.find().await.map(Start::Here).map_err(Into::into)),
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
            look: Look { found, plans: Vec::with_capacity(partitions), of: Vec::with_capacity(partitions) },
        }
    }

    fn take(&mut self, request: &FetchPartition, started: Started<'a>) {
        let look = &mut self.look;
        let mut plan = match started {
            Ok(Start::Here(plan)) => plan,
            Ok(Start::Diverges(told)) => return look.found.push(told),
            Ok(Start::InFiles(_)) => unreachable!("what is in files was looked up"),
            Err(error) => return look.found.push(FetchedPartition::failed(error)),
        };
        let (limit, at_least_one) = self.allowance.of_partition(request.bytes_max);
        plan.limit(limit, at_least_one);
        let (bytes, limit) = (plan.bytes(), u64::try_from(limit).unwrap_or(u64::MAX));
        assert!(at_least_one || bytes <= limit, "only the first batch may exceed a limit");
        self.allowance.spend(bytes);
        look.found.push(FetchedPartition {
            error: None,
            // Only what is committed is in the stream, and nothing is in a transaction.
            high_watermark: plan.next_offset().0,
            last_stable_offset: plan.next_offset().0,
            log_start_offset: plan.first_offset().0,
            diverging_epoch: None,
            batches: Vec::new(),
            bytes,
            counted: if plan.goes_on() { bytes.max(limit) } else { bytes },
        });
        if bytes > 0 {
            look.plans.push(plan);
            look.of.push(look.found.len() - 1);
        }
    }
}

/// What makes a reader throw away its position, or its topic. Who led before, and does not know yet that another does,
/// would say it of what it lacks.
fn is_told_only_when_sure(started: &Started<'_>) -> bool {
    matches!(started, Ok(Start::Diverges(_)) | Err(FetchError::OffsetOutOfRange | FetchError::UnknownTopicOrPartition))
}

fn start<'a>(
    request: &'a FetchPartition,
    replica: Option<&'a Replica>,
    bytes_max: usize,
    at_least_one: bool,
) -> Started<'a> {
    let partition = request.partition.partition();
    let replica = replica.ok_or(FetchError::NotLeader)?;
    check_leader(partition, replica)?;
    let stream = partition.stream;
    let diverging = {
        let state = replica.state();
        let view = state.stream(stream).ok_or(FetchError::UnknownTopicOrPartition)?;
        rules::check_epoch(request.current_leader_epoch, view.epoch().0)?;
        let diverging = diverging_epoch(request, |epoch| {
            let end = view.epoch_end(epoch);
            EpochEnd { epoch: end.epoch.0, end_offset: end.end_offset.0 }
        })?;
        diverging.map(|epoch| (epoch, view.first_offset().0, view.next_offset().0))
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
        }));
    }
    let wish = Wish { stream, from: StreamOffset(request.fetch_offset), bytes_max, at_least_one };
    Ok(match replica.plan_fetch(wish)? {
        Planned::Here(plan) => Start::Here(plan),
        Planned::InFiles(look_up) => Start::InFiles(look_up),
    })
}

/// Another leader's readers are sent there; while nobody leads, what was committed is still given out by who has it.
fn check_leader(partition: &Partition, replica: &Replica) -> Result<(), FetchError> {
    let leadership = *replica.leadership().borrow();
    // A copy that was taken away since the request came hears of no leader any more.
    if leadership.is_self || (leadership.leader.is_none() && partition.replica().is_some()) {
        return Ok(());
    }
    Err(FetchError::NotLeader)
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
