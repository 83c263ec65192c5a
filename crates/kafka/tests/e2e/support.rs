//! The node under test and its client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Env;
use base::disk::GatedDisk;
use base::net::Stream;
use base::task::JoinHandle;
use broker::Broker;
use bytes::{BufMut, Bytes, BytesMut};
use cluster::Cluster;
use kafka::{Advertised, Limits, Listener, ListenerConfig, Service};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use record::{BatchBuilder, Compression, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs};
use shard::NodeAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use uuid::Uuid;

/// No answer takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test may change before its node starts.
pub(crate) struct Setup {
    pub(crate) broker: broker::Config,
    pub(crate) limits: Limits,
    pub(crate) request_bytes: usize,
    pub(crate) producers_per_shard_max: u32,
    pub(crate) queue_bytes_max: usize,
    pub(crate) disk: Option<GatedDisk>,
    pub(crate) advertised: Option<Advertised>,
    pub(crate) place: Option<Place>,
}

/// Where a node among others listens for them, and in which rack it stands.
pub(crate) struct Place {
    pub(crate) listen: SocketAddr,
    pub(crate) all: Vec<SocketAddr>,
    pub(crate) rack: String,
}

/// A node with one listener.
pub(crate) struct Node {
    pub(crate) env: Env,
    pub(crate) cluster: Cluster,
    pub(crate) broker: Broker,
    pub(crate) service: Service,
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            broker: broker::Config {
                num_partitions: 2,
                group_initial_rebalance_delay_ms: 0,
                memory_bytes_max: 64 << 20,
                ..broker::Config::default()
            },
            limits: Limits::default(),
            request_bytes: 64 << 20,
            producers_per_shard_max: 100_000,
            queue_bytes_max: 64 << 20,
            disk: None,
            advertised: None,
            place: None,
        };
        change(&mut setup);
        let mut env = Env::real();
        if let Some(disk) = setup.disk {
            env.disk = Arc::new(disk);
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = cluster::Config::new(dir.path().join("data"));
        config.shards = 2;
        config.segment_bytes = 4 << 20;
        config.reserve_bytes = 1 << 20;
        config.log_memory_bytes = 8 << 20;
        config.queue_bytes_max = setup.queue_bytes_max;
        config.producers_per_shard_max = setup.producers_per_shard_max;
        let listener = bind(&env, "plain", setup.advertised).await;
        let address = listener.local_addr();
        if let Some(Place { listen, all, rack }) = setup.place {
            config.listen = Some(listen);
            config.join = all.iter().map(|address| (address.ip().to_string(), address.port())).collect();
            config.rack = Some(rack);
            let (host, port) = (address.ip().to_string(), address.port());
            config.addresses = vec![NodeAddress { listener: "plain".to_owned(), host, port }];
        }
        let cluster = Box::pin(Cluster::start(env.clone(), config)).await.expect("starts");
        let broker = Broker::start(env.clone(), cluster.clone(), setup.broker);
        let service = Service::new(&env, broker.clone(), setup.limits, setup.request_bytes);
        let (stop, _) = watch::channel(false);
        let serving = serve(listener, &service, &stop);
        Self { env, cluster, broker, service, address, stop, serving, _dir: dir }
    }

    /// One more listener of the same node.
    pub(crate) async fn listen(&self, name: &str, advertised: Advertised) -> SocketAddr {
        let listener = bind(&self.env, name, Some(advertised)).await;
        let address = listener.local_addr();
        serve(listener, &self.service, &self.stop);
        address
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.env, self.address).await
    }

    /// Stops as the server does.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        base::time::timeout(PATIENCE, self.serving).await.expect("drains").expect("does not fail");
        self.broker.shutdown().await;
        self.cluster.shutdown().await;
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// A topic of so many partitions; its id.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) -> Uuid {
        self.topic_with(name, partitions, &[]).await
    }

    pub(crate) async fn topic_with(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let response = self.client().await.call(7, &request).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        response.topics[0].topic_id
    }
}

async fn bind(env: &Env, name: &str, advertised: Option<Advertised>) -> Listener {
    let address = "127.0.0.1:0".parse().expect("an address");
    Listener::bind(env, ListenerConfig { name: name.to_owned(), address, advertised }).await.expect("binds")
}

fn serve(listener: Listener, service: &Service, stop: &watch::Sender<bool>) -> JoinHandle<()> {
    base::task::spawn("test listener", listener.serve(service.clone(), stop.subscribe()))
}

/// A connection that speaks in requests.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn connect(env: &Env, address: SocketAddr) -> Self {
        let stream = env.network.connect(address).await.expect("connects");
        Self { stream, correlation_id: 0 }
    }

    /// As [`Self::connect`], to a node that may not be there any more.
    pub(crate) async fn try_connect(env: &Env, address: SocketAddr) -> Option<Self> {
        let stream = env.network.connect(address).await.ok()?;
        Some(Self { stream, correlation_id: 0 })
    }

    /// As [`Self::call`], of a node that may go away; `None` when it does.
    pub(crate) async fn try_call<Q: Request>(&mut self, version: i16, request: &Q) -> Option<Q::Response> {
        let request = self.request(version, version, request);
        let mut bytes = i32::try_from(request.len()).expect("small").to_be_bytes().to_vec();
        bytes.extend_from_slice(&request);
        self.stream.write_all(&bytes).await.ok()?;
        let mut bytes = self.next_raw().await?;
        let mut body = bytes.split_off(4 + usize::from(Q::Response::header_version(version) >= 1));
        Some(Q::Response::decode(&mut body, version).expect("a response of that version"))
    }

    /// Header and body of a request without its size.
    pub(crate) fn request<Q: Request>(&mut self, wire_version: i16, version: i16, request: &Q) -> Bytes {
        let mut bytes = self.header(Q::KEY, wire_version, Q::header_version(version) >= 2);
        request.encode(&mut bytes, version).expect("a request of ours");
        bytes.freeze()
    }

    pub(crate) fn header(&mut self, key: i16, version: i16, flexible: bool) -> BytesMut {
        self.correlation_id += 1;
        let mut bytes = BytesMut::new();
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(self.correlation_id);
        bytes.put_i16(4);
        bytes.put_slice(b"test");
        if flexible {
            bytes.put_u8(0);
        }
        bytes
    }

    pub(crate) async fn send_raw(&mut self, request: &[u8]) {
        let size = i32::try_from(request.len()).expect("small");
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend_from_slice(request);
        self.stream.write_all(&bytes).await.expect("is open");
    }

    /// Whether the connection still takes something.
    pub(crate) async fn try_send_raw(&mut self, request: &[u8]) -> bool {
        let size = i32::try_from(request.len()).expect("small");
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend_from_slice(request);
        self.stream.write_all(&bytes).await.is_ok()
    }

    /// As [`Self::next`]; none when the broker closed the connection.
    pub(crate) async fn try_next<Q: Request>(&mut self, version: i16, behind: i32) -> Option<Q::Response> {
        let mut bytes = self.next_raw().await?;
        let correlation_id = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
        assert_eq!(correlation_id, self.correlation_id - behind, "responses are in order");
        let header = 4 + usize::from(Q::Response::header_version(version) >= 1);
        let mut body = bytes.split_off(header);
        Some(Q::Response::decode(&mut body, version).expect("a response of that version"))
    }

    pub(crate) async fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        let bytes = self.request(version, version, request);
        self.send_raw(&bytes).await;
    }

    /// The next response without its size, or `None` when the broker closed the connection.
    pub(crate) async fn next_raw(&mut self) -> Option<Bytes> {
        base::time::timeout(PATIENCE, async {
            let mut size = [0; 4];
            self.stream.read_exact(&mut size).await.ok()?;
            let mut body = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a size")];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Bytes::from(body))
        })
        .await
        .expect("answers or closes in time")
    }

    /// The next response, which must be the one to the request sent last but `behind`.
    pub(crate) async fn next<Q: Request>(&mut self, version: i16, behind: i32) -> Q::Response {
        let mut bytes = self.next_raw().await.expect("a response");
        let correlation_id = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
        assert_eq!(correlation_id, self.correlation_id - behind, "responses are in order");
        let header = 4 + usize::from(Q::Response::header_version(version) >= 1);
        let mut body = bytes.split_off(header);
        let response = Q::Response::decode(&mut body, version).expect("a response of that version");
        assert!(body.is_empty(), "nothing follows the response");
        response
    }

    pub(crate) async fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request).await;
        self.next::<Q>(version, 0).await
    }

    /// A call whose bytes on the wire are those of another version.
    pub(crate) async fn call_as<Q: Request>(&mut self, wire: i16, version: i16, request: &Q) -> Q::Response {
        let bytes = self.request(wire, version, request);
        self.send_raw(&bytes).await;
        self.next::<Q>(version, 0).await
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.next_raw().await.is_none()
    }

    pub(crate) async fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> PartitionProduceResponse {
        self.produce_as(9, -1, topic, partition, Some(records)).await
    }

    pub(crate) async fn produce_as(
        &mut self,
        version: i16,
        acks: i16,
        topic: &str,
        partition: i32,
        records: Option<Bytes>,
    ) -> PartitionProduceResponse {
        let request = produce_request(acks, topic, partition, records);
        let mut response = self.call(version, &request).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) async fn metadata(
        &mut self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> kafka_protocol::messages::MetadataResponse {
        let topics = topics.map(|topics| {
            topics.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect()
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(create);
        self.call(12, &request).await
    }

    /// A fetch by name of one partition that waits for nothing.
    pub(crate) async fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        let request = fetch_request(&[(topic, &[(partition, offset)])]).with_max_wait_ms(0);
        let mut response: FetchResponse = self.call(12, &request).await;
        response.responses.remove(0).partitions.remove(0)
    }
}

pub(crate) fn produce_request(acks: i16, topic: &str, partition: i32, records: Option<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Partitions by topic name, each with its offset.
pub(crate) fn fetch_request(topics: &[(&str, &[(i32, i64)])]) -> FetchRequest {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|(index, offset)| wish(*index, *offset));
        FetchTopic::default().with_topic(topic_name(name)).with_partitions(partitions.collect())
    });
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(topics.collect())
}

pub(crate) fn wish(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(index).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A batch of such values, a millisecond apart from `time` on.
pub(crate) fn batch_at(time: i64, values: &[&[u8]]) -> Bytes {
    build(BatchBuilder::new(Compression::None), time, values)
}

pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    batch_at(1_700_000_000_000, values)
}

pub(crate) fn stamped(id: i64, epoch: i16, sequence: i32, values: &[&[u8]]) -> Bytes {
    let stamp = ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence) };
    build(BatchBuilder::new(Compression::None).producer(stamp), 1_700_000_000_000, values)
}

pub(crate) fn build(mut builder: BatchBuilder, time: i64, values: &[&[u8]]) -> Bytes {
    for (time, value) in (time..).zip(values) {
        builder.push(TimestampMs(time), None, Some(value), &[]).expect("fits");
    }
    builder.build().expect("a batch")
}
