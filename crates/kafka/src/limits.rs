//! Every bound of this crate that an operator may set, and those that are fixed.

use base::time::Duration;

/// What one listener grants its clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `socket.request.max.bytes`: a larger request closes the connection.
    pub request_bytes_max: u32,
    /// `connections.max.idle.ms`: a connection on which nothing happened for so long is closed.
    pub idle_max: Duration,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: u32,
    /// Fetch sessions remembered (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// Partitions in all fetch sessions together; a reader beyond it gets no session and sends full requests.
    pub fetch_session_partitions_max: usize,
    /// How long a connection may go on answering what it took before the broker stops.
    pub drain_max: Duration,
    /// A request that is half here is given up when nothing of it came for so long while memory for requests is short.
    pub stall_max: Duration,
    /// While memory for answers is short, a reader must take its answer within this and the time that the answer's
    /// bytes take at the rate below.
    pub reader_short_max: Duration,
    /// In bytes a second; not 0.
    pub reader_short_rate_min: u64,
    /// How long a connection may wait, with a response in hand, for the memory to count it in.
    pub answerer_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 << 20,
            idle_max: Duration::from_secs(600),
            connections_per_ip_max: u32::MAX,
            fetch_sessions_max: 1_000,
            fetch_session_partitions_max: 1_000_000,
            drain_max: Duration::from_secs(5),
            stall_max: Duration::from_secs(30),
            reader_short_max: Duration::from_secs(30),
            reader_short_rate_min: 1 << 20,
            answerer_max: Duration::from_secs(10),
        }
    }
}

/// Produce requests of one connection that may wait for their commit at the same time. Clients keep five; the
/// memory they hold is bounded by the share for requests.
pub(crate) const IN_FLIGHT_MAX: usize = 64;

/// Idempotent producers, each once for a partition, of which a connection remembers that a batch was refused and comes
/// again.
pub(crate) const REFUSED_REMEMBERED_MAX: usize = 64;

/// Responses above this count against the memory for answers, like what they carry.
pub(crate) const COUNTED_BYTES_MIN: usize = 64 << 10;
/// So many connections may wait for such memory with their response in hand.
pub(crate) const ANSWERERS_MAX: usize = 8;

/// The longest that a reader waits for data, whatever it asks.
pub(crate) const FETCH_WAIT_MAX: Duration = Duration::from_secs(300);
/// The longest wait of one whose request takes much of the memory for decoded requests.
pub(crate) const LARGE_FETCH_WAIT_MAX: Duration = Duration::from_secs(1);

/// So long a request whose partitions are led by others now waits until it can tell by whom: while a shard is handed
/// over its clients would otherwise ask too early, and then pause.
pub(crate) const LEADER_WAIT_MAX: Duration = Duration::from_millis(500);

/// What is read from a socket at once while no large request is under way.
pub(crate) const SCRATCH_BYTES: usize = 16 << 10;

/// The buffer that a request larger than [`SCRATCH_BYTES`] begins with; larger ones grow as their bytes arrive. The
/// pages of it that no byte reached cost nothing.
pub(crate) const FRAME_BUFFER_BYTES: usize = 2 << 20;

/// Memory for a request is taken from the share in steps of this.
pub(crate) const FRAME_STEP_BYTES: usize = 64 << 10;

/// What one decoded request may occupy at most: enough for 100,000 partitions with their topics.
pub(crate) const DECODED_BYTES_MAX: usize = 64 << 20;
