//! Commands for the first minutes, on the Kafka protocol: they work on this broker and on any other that speaks it.
//!
//! Data goes to standard output, everything else to standard error.

mod cluster;
mod connection;
mod consume;
mod fetch;
mod groups;
mod interrupt;
mod lines;
mod membership;
mod nodes;
mod output;
mod partitioner;
mod produce;
mod progress;
mod topics;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

use crate::cli::{Command, GroupArgs, TopicArgs};
use cluster::Cluster;
pub(crate) use output::{Table, print};

/// Runs one client command.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Topic(TopicArgs { command, connect }) => {
            topics::run(&mut Cluster::connect(&connect).await?, command).await
        }
        Command::Group(GroupArgs { command, connect }) => {
            groups::run(&mut Cluster::connect(&connect).await?, command).await
        }
        Command::Produce(args) => produce::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::Cluster(args) => nodes::run(args).await,
        Command::Log(_) | Command::Completion { .. } | Command::Reference => {
            unreachable!("commands that need no broker are handled before")
        }
    }
}

/// `UNKNOWN_TOPIC_OR_PARTITION` for 3: the name that Kafka's documentation uses.
fn error_name(code: i16) -> String {
    let Some(error) = ResponseError::try_from_code(code) else {
        return "no error".to_owned();
    };
    if let ResponseError::Unknown(code) = error {
        return format!("error {code}");
    }
    let mut name = String::new();
    for letter in error.to_string().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The broker's own words when it sent some, else the error's name.
fn error_text(code: i16, message: Option<&StrBytes>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{} ({})", message.as_str(), error_name(code)),
        _ => error_name(code),
    }
}

fn is_retriable(code: i16) -> bool {
    ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_kafkas_names() {
        assert_eq!(error_name(3), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(error_name(9999), "error 9999");
        assert!(is_retriable(6));
        assert!(!is_retriable(17));
    }
}
