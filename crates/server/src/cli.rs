//! The command line: the server with a flag for every configuration key, and commands for the first minutes.
//!
//! Flags of the server are made from the table of keys; nothing about a key is written here.

mod cluster;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use cluster::{ClusterArgs, ClusterCommand};

use crate::config::keys::{KEYS, Preset, Section};
use crate::config::value::Kind;

/// A message broker that Kafka clients speak to.
///
/// Without a command it runs the broker: data in ./rosettamq-data, Kafka clients at 127.0.0.1:9092.
#[derive(Debug, Parser)]
#[command(name = "rosettamq", version, args_conflicts_with_subcommands = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Keys given as flags, in the order of the table.
    #[arg(skip)]
    pub(crate) keys: Vec<(&'static str, String)>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// TOML file with configuration keys; also ROSETTAMQ_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration, print what holds and where it comes from, and start nothing
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, list, describe and delete topics
    Topic(TopicArgs),
    /// List, describe and delete consumer groups
    Group(GroupArgs),
    /// Send each line of standard input as a record
    Produce(ProduceArgs),
    /// Print the records of topics
    Consume(ConsumeArgs),
    /// Look at a cluster, and change its nodes and where shards are
    Cluster(ClusterArgs),
    /// Look at the files of a data directory, also while a broker runs on it
    Log(LogArgs),
    /// Print a completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the reference of all configuration keys as Markdown
    Reference,
}

/// Where the broker is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// Brokers to ask first, HOST:PORT separated by commas
    #[arg(
        short,
        long,
        global = true,
        value_name = "LIST",
        env = "ROSETTAMQ_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_delimiter = ','
    )]
    pub(crate) bootstrap: Vec<String>,
    /// How long to go on trying before giving up
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    pub(crate) timeout: base::units::HumanDuration,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    pub(crate) command: TopicCommand,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// Number of partitions; the broker's num.partitions when left out
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// A topic configuration; may be given several times
        #[arg(short, long = "config", value_name = "KEY=VALUE")]
        configs: Vec<String>,
        /// Succeed when a topic exists already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Print the names of all topics
    List,
    /// Print partitions, offsets and configurations
    Describe {
        /// All topics when left out
        #[arg(value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Delete topics with all their records
    Delete {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    pub(crate) command: GroupCommand,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Print all groups with their state
    List,
    /// Print members, committed offsets and how far behind they are
    Describe {
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Delete groups without members, with their offsets
    Delete {
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    pub(crate) topic: String,
    /// Split each line at the first of these: a key before it, the value after it
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) key_separator: Option<String>,
    /// Send all to this partition, instead of by key or in turn
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// A header for every record; may be given several times
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<String>,
    /// Lines whose value is this text become records without a value (tombstones)
    #[arg(long, value_name = "TEXT")]
    pub(crate) null_marker: Option<String>,
    #[arg(short = 'z', long, value_enum, default_value_t = CompressionArg::None)]
    pub(crate) compression: CompressionArg,
    /// Say nothing on standard error but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// Go on with what arrives later instead of stopping at the end
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Where to start without a committed offset: beginning, end, an offset, or @MILLISECONDS since 1970
    #[arg(long, value_name = "WHERE", default_value = "beginning", allow_hyphen_values = true)]
    pub(crate) from: StartAt,
    /// Only these partitions; may be given several times
    #[arg(short, long = "partition", value_name = "N", conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partitions: Vec<i32>,
    /// Share the partitions with the other members of this group, and commit what was printed
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// What stands before each value, tabs between
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) print: Vec<Column>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Headers,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartAt {
    Beginning,
    End,
    Offset(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl std::str::FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        let parsed = match text {
            "beginning" => Some(Self::Beginning),
            "end" => Some(Self::End),
            _ => match text.strip_prefix('@') {
                Some(time) => number(time).map(Self::Time),
                None => number(text).map(Self::Offset),
            },
        };
        parsed.ok_or_else(|| "allowed are beginning, end, an offset, or @MILLISECONDS".to_owned())
    }
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print segments, entries and damage of a data directory; changes nothing
    Inspect {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// One line for each entry too
        #[arg(long)]
        entries: bool,
    },
    /// Read everything below a data directory that has a checksum, and compare: log, checkpoints, indexes and objects;
    /// changes nothing
    Verify {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// On a stopped node: replay the log of each shard and print a number for what came of it. Replicas of a shard
    /// have the same number at the same entry, whatever machine and version they are of
    Digest {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Replay a shard up to this entry, to compare nodes that are not equally far
        #[arg(long, value_name = "SHARD:INDEX", value_delimiter = ',', value_parser = crate::digest::parse_through)]
        through: Vec<(u32, u64)>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Parses the process's arguments; on a mistake, or for help, it prints and exits as every tool does.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    from_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn from_matches(matches: &ArgMatches) -> Result<Cli, clap::Error> {
    let mut cli = Cli::from_arg_matches(matches)?;
    for key in KEYS {
        if let Some(value) = matches.get_one::<String>(key.name) {
            cli.keys.push((key.name, value.clone()));
        }
    }
    Ok(cli)
}

/// The whole command line with a flag for every key.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    for section in Section::ALL {
        for key in KEYS.iter().filter(|key| key.section == section) {
            let default = match key.default {
                Preset::Fixed(text) => text,
                Preset::Computed { rule, .. } => rule,
            };
            let mut flag = Arg::new(key.name)
                .long(key.flag())
                .value_name(key.kind.name().to_uppercase())
                .action(ArgAction::Set)
                // -1 is without limit.
                .allow_negative_numbers(true)
                .help(format!("{} [default: {default}]", key.summary()))
                .help_heading(section.title());
            // The values stay texts: they are checked with those of the file and the environment.
            if let Kind::Choice(choices) = key.kind {
                flag = flag.value_parser(PossibleValuesParser::new(choices));
            }
            command = command.arg(flag);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn keys_are_flags() {
        let matches = command()
            .try_get_matches_from([
                "rosettamq",
                "--segment-bytes",
                "8MiB",
                "--kafka-num-partitions",
                "3",
                "--kafka-log-retention-bytes",
                "-1",
                "--check",
            ])
            .unwrap();
        let cli = from_matches(&matches).unwrap();
        assert!(cli.server.check);
        let expected = [("segment_bytes", "8MiB"), ("kafka.num.partitions", "3"), ("kafka.log.retention.bytes", "-1")];
        assert!(cli.keys.iter().map(|(key, value)| (*key, value.as_str())).eq(expected));
    }

    #[test]
    fn start_positions_are_read() {
        assert_eq!("end".parse(), Ok(StartAt::End));
        assert_eq!("17".parse(), Ok(StartAt::Offset(17)));
        assert_eq!("@1700000000000".parse(), Ok(StartAt::Time(1_700_000_000_000)));
        for bad in ["-1", "@", "start", ""] {
            assert!(bad.parse::<StartAt>().is_err(), "{bad}");
        }
    }
}
