//! One connection to a broker: requests in a version that both sides know, answers in order.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base::time::timeout;
use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer that this client asks for is near this size; a larger one comes from something that is no broker.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    address: String,
    timeout: Duration,
    correlation: i32,
    /// A request was sent and its answer not read. An exchange that is abandoned leaves it so.
    awaits_answer: bool,
    /// The versions that the broker takes, by API key.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects and asks for the versions that the broker knows. `timeout` also bounds each request.
    pub(super) async fn open(address: &str, limit: Duration) -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the command line's connections are not simulated")]
        let connect = TcpStream::connect(address);
        let stream = timeout(limit, connect)
            .await
            .with_context(|| format!("no connection to {address} within {limit:?}"))?
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            timeout: limit,
            correlation: 0,
            awaits_answer: false,
            versions: BTreeMap::new(),
        };
        connection.learn_versions().await?;
        Ok(connection)
    }

    async fn learn_versions(&mut self) -> anyhow::Result<()> {
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = StrBytes::from_static_str("rosettamq");
        request.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
        let mut response: ApiVersionsResponse = self.call_in(&request, 3, Duration::ZERO).await?;
        // A broker that does not know version 3 says so in version 0.
        if response.error_code == UNSUPPORTED_VERSION {
            response = self.call_in(&ApiVersionsRequest::default(), 0, Duration::ZERO).await?;
        }
        ensure!(
            response.error_code == 0,
            "{} refused to say which versions it knows: {}",
            self.address,
            super::error_name(response.error_code)
        );
        for api in response.api_keys {
            self.versions.insert(api.api_key, (api.min_version, api.max_version));
        }
        Ok(())
    }

    /// Whether the next bytes on this connection answer a request that nobody waits for any more.
    pub(super) const fn is_spoilt(&self) -> bool {
        self.awaits_answer
    }

    /// Sends a request in the highest version that both sides know, up to `version_max`, and waits for the answer.
    pub(super) async fn call<R: Request>(&mut self, request: &R, version_max: i16) -> anyhow::Result<R::Response> {
        let version = self.version::<R>(version_max)?;
        self.call_in(request, version, Duration::ZERO).await
    }

    /// Like [`Self::call`], for a request that the broker may hold back for `wait` before it answers.
    pub(super) async fn call_held<R: Request>(
        &mut self,
        request: &R,
        version_max: i16,
        wait: Duration,
    ) -> anyhow::Result<R::Response> {
        let version = self.version::<R>(version_max)?;
        self.call_in(request, version, wait).await
    }

    fn version<R: Request>(&self, version_max: i16) -> anyhow::Result<i16> {
        let Some((broker_min, broker_max)) = self.versions.get(&R::KEY).copied() else {
            bail!("{} does not know API key {}", self.address, R::KEY);
        };
        let version = broker_max.min(R::VERSIONS.max).min(version_max);
        ensure!(
            version >= broker_min.max(R::VERSIONS.min),
            "{} knows versions {broker_min} to {broker_max} of API key {}, which this client does not",
            self.address,
            R::KEY
        );
        Ok(version)
    }

    async fn call_in<R: Request>(&mut self, request: &R, version: i16, wait: Duration) -> anyhow::Result<R::Response> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = frame(request, version, self.correlation)?;
        let limit = self.timeout + wait;
        self.awaits_answer = true;
        let exchange = async {
            self.stream.write_all(&frame).await?;
            read_frame(&mut self.stream).await
        };
        let mut response = timeout(limit, exchange)
            .await
            .with_context(|| format!("{} did not answer within {limit:?}", self.address))?
            .with_context(|| format!("connection to {} lost", self.address))?;
        self.awaits_answer = false;
        let mut header_version = R::Response::header_version(version);
        if R::KEY == ApiVersionsRequest::KEY {
            // Answered with the oldest header, so that a client of any version can read it.
            header_version = 0;
        }
        let header = ResponseHeader::decode(&mut response, header_version)?;
        ensure!(
            header.correlation_id == self.correlation,
            "{} answered another request than the one sent",
            self.address
        );
        let mut decode_version = version;
        if R::KEY == ApiVersionsRequest::KEY && response.get(..2) == Some(&UNSUPPORTED_VERSION.to_be_bytes()[..]) {
            decode_version = 0;
        }
        R::Response::decode(&mut response, decode_version)
            .with_context(|| format!("{} sent an answer that cannot be read", self.address))
    }
}

const UNSUPPORTED_VERSION: i16 = 35;

fn frame<R: Request>(request: &R, version: i16, correlation: i32) -> anyhow::Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("rosettamq")));
    let mut frame = BytesMut::zeroed(4);
    header.encode(&mut frame, R::header_version(version))?;
    request.encode(&mut frame, version)?;
    let length = i32::try_from(frame.len() - 4).context("the request is too large")?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

async fn read_frame(stream: &mut TcpStream) -> anyhow::Result<Bytes> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).await?;
    let size = usize::try_from((&size[..]).get_i32()).ok();
    let size = size
        .filter(|size| *size <= RESPONSE_BYTES_MAX)
        .context("the answer's length is out of bounds: is this a Kafka port?")?;
    let mut body = BytesMut::zeroed(size);
    stream.read_exact(&mut body).await?;
    Ok(body.freeze())
}
