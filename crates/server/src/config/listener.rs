//! Where a protocol listens, and what it tells its clients to connect to.
//!
//! Kafka's own way of writing, `NAME://HOST:PORT`, is understood too. A parsed listener always has an address that clients can be told: a wildcard comes with an advertised host.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// One listener: `[NAME=]HOST:PORT[@ADVERTISED_HOST[:ADVERTISED_PORT]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerSpec {
    pub(crate) name: String,
    pub(crate) host: String,
    /// 0 lets the operating system choose.
    pub(crate) port: u16,
    pub(crate) advertised: Option<Advertised>,
}

/// The address that clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) host: String,
    /// `None` is the port that the listener is bound to.
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ListenerError {
    #[error("no listener is given")]
    None,
    #[error("{0:?} has no port: write HOST:PORT, an IPv6 address in brackets")]
    NoPort(String),
    #[error("{0:?} is not a port between 0 and 65535")]
    Port(String),
    #[error("{0:?} is not a host name or address; an IPv6 address stands in brackets")]
    Host(String),
    #[error("{0:?} is not a listener's name: letters, digits, - and _, at most 64")]
    Name(String),
    #[error("{0} is a wildcard that clients cannot connect to: add @HOST[:PORT], the address that they are told")]
    WildcardNotAdvertised(String),
    #[error("the advertised address {0} is a wildcard that clients cannot connect to")]
    WildcardAdvertised(String),
    #[error("the advertised port is 0; leave it out for the listener's own")]
    AdvertisedPortZero,
    #[error("two listeners are named {0:?}: names tell them apart")]
    DuplicateName(String),
    #[error("two listeners have the address {0}")]
    DuplicateAddress(String),
}

impl ListenerSpec {
    /// The address in the form that it is written.
    pub(crate) fn address(&self) -> String {
        join(&self.host, self.port)
    }

    fn parse(text: &str) -> Result<Self, ListenerError> {
        let (name, rest) = match text.split_once("://").or_else(|| text.split_once('=')) {
            Some((name, rest)) => (name.trim(), rest.trim()),
            None => (DEFAULT_NAME, text.trim()),
        };
        let (address, advertised) = match rest.split_once('@') {
            Some((address, advertised)) => (address.trim(), Some(advertised.trim())),
            None => (rest, None),
        };
        Self::from_parts(name, address, advertised)
    }

    /// What a table in the configuration file gives.
    pub(crate) fn from_parts(name: &str, address: &str, advertised: Option<&str>) -> Result<Self, ListenerError> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
            return Err(ListenerError::Name(name.to_owned()));
        }
        let (host, port) = split(address)?;
        let port = port.ok_or_else(|| ListenerError::NoPort(address.to_owned()))?;
        let advertised = advertised.map(parse_advertised).transpose()?;
        if advertised.is_none() && is_wildcard(&host) {
            return Err(ListenerError::WildcardNotAdvertised(join(&host, port)));
        }
        Ok(Self { name: name.to_owned(), host, port, advertised })
    }
}

impl ListenerSpec {
    /// The form of one that needs no name.
    pub(crate) fn unnamed(&self) -> String {
        match &self.advertised {
            None => self.address(),
            Some(Advertised { host, port: None }) => format!("{}@{}", self.address(), bracketed(host)),
            Some(Advertised { host, port: Some(port) }) => format!("{}@{}", self.address(), join(host, *port)),
        }
    }
}

impl fmt::Display for ListenerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.unnamed())
    }
}

/// Parses `HOST:PORT,..`: where others are reached.
pub(crate) fn parse_addresses(text: &str) -> Result<Vec<(String, u16)>, ListenerError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let address = |part: &str| {
        let (host, port) = split(part)?;
        match port {
            None => Err(ListenerError::NoPort(part.to_owned())),
            Some(0) => Err(ListenerError::Port(part.to_owned())),
            Some(port) => Ok((host, port)),
        }
    };
    let addresses = parts.map(address).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() { Err(ListenerError::None) } else { Ok(addresses) }
}

/// The name of a listener that was given none.
pub(crate) const DEFAULT_NAME: &str = "kafka";

/// Parses a list separated by commas and checks it as a whole.
pub(crate) fn parse_list(text: &str) -> Result<Vec<ListenerSpec>, ListenerError> {
    let listeners = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(ListenerSpec::parse)
        .collect::<Result<Vec<_>, _>>()?;
    check_list(&listeners)?;
    Ok(listeners)
}

/// What holds between listeners: there is one, and no two have the same name or address.
pub(crate) fn check_list(listeners: &[ListenerSpec]) -> Result<(), ListenerError> {
    if listeners.is_empty() {
        return Err(ListenerError::None);
    }
    for (at, listener) in listeners.iter().enumerate() {
        for other in &listeners[..at] {
            if other.name == listener.name {
                return Err(ListenerError::DuplicateName(listener.name.clone()));
            }
            if listener.port != 0 && other.host == listener.host && other.port == listener.port {
                return Err(ListenerError::DuplicateAddress(listener.address()));
            }
        }
    }
    Ok(())
}

fn parse_advertised(text: &str) -> Result<Advertised, ListenerError> {
    let (host, port) = split(text)?;
    if is_wildcard(&host) {
        return Err(ListenerError::WildcardAdvertised(host));
    }
    if port == Some(0) {
        return Err(ListenerError::AdvertisedPortZero);
    }
    Ok(Advertised { host, port })
}

/// Splits `HOST[:PORT]`, where an IPv6 host stands in brackets.
fn split(text: &str) -> Result<(String, Option<u16>), ListenerError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| ListenerError::Host(text.to_owned()))?;
        if !host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
            return Err(ListenerError::Host(text.to_owned()));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(ListenerError::Host(text.to_owned())),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_ipv6 = host.contains(':') && text.starts_with('[');
    if host.is_empty() || host.len() > 253 || !(is_ipv6 || host.bytes().all(name_byte)) {
        return Err(ListenerError::Host(text.to_owned()));
    }
    let port = match port {
        None => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().map_err(|_| ListenerError::Port(port.to_owned()))?)
        }
        // A second colon without brackets is an IPv6 address that lacks them.
        Some(port) if port.contains(':') => return Err(ListenerError::Host(text.to_owned())),
        Some(port) => return Err(ListenerError::Port(port.to_owned())),
    };
    Ok((host.to_owned(), port))
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse_list(text) {
            Ok(listeners) => listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Err(error) => error.to_string(),
        };
        assert!(
            shown == expected || (expected.starts_with('~') && shown.contains(&expected[1..])),
            "{text:?} gave {shown:?}, not {expected:?}"
        );
    }

    #[test]
    fn listeners_are_read_or_refused_with_the_reason() {
        check("127.0.0.1:9092", "kafka=127.0.0.1:9092");
        check("a=127.0.0.1:9092 , b=[::1]:9093", "a=127.0.0.1:9092,b=[::1]:9093");
        check("a=0.0.0.0:9092@broker.example:19092", "a=0.0.0.0:9092@broker.example:19092");
        check("a=[::]:0@[fe80::1]", "a=[::]:0@[fe80::1]");
        check("localhost:0", "kafka=localhost:0");
        check("0.0.0.0:9092", "~is a wildcard");
        check("[::]:9092", "~is a wildcard");
        check("127.0.0.1:9092@0.0.0.0:1", "~advertised address 0.0.0.0 is a wildcard");
        check("127.0.0.1:9092@host:0", "~the advertised port is 0");
        check("127.0.0.1", "~has no port");
        check("::1:9092", "~brackets");
        check("[::1", "~brackets");
        check("[127.0.0.1]:9092", "~brackets");
        check("127.0.0.1:99999", "~is not a port");
        check("127.0.0.1:", "~is not a port");
        check(":9092", "~is not a host name");
        check("a b=127.0.0.1:9092", "~is not a listener's name");
        check("a=h:1,a=h:2", "~two listeners are named");
        check("a=h:1,b=h:1", "~two listeners have the address h:1");
        check("a=h:0,b=h:0", "a=h:0,b=h:0");
        check(" , ", "~no listener");
        check("PLAINTEXT://127.0.0.1:9092", "PLAINTEXT=127.0.0.1:9092");
    }
}
