//! Topics: the only file that spells one. A [`Topic`] is parsed once; inside, it is the proof.
//!
//! ```text
//! bw/v1/d/{device}/up/{hello|gone|state|batch|known}     bw/v1/d/{device}/up/need/{transfer}
//! bw/v1/d/{device}/down/{desired|ack|cmd|trust}          bw/v1/d/{device}/down/x/{transfer}/{part}
//! bw/v1/b/hub
//! ```

use core::fmt::{self, Write as _};

use heapless::String;

use crate::id::{DeviceId, TransferId};
use crate::limit::TOPIC_BYTES_MAX;

/// The text of a topic or filter.
pub type TopicText = String<TOPIC_BYTES_MAX>;

/// What the hub subscribes to: everything that devices send up.
pub const HUB_FILTER: &str = "bw/v1/d/+/up/#";

/// What a device sends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpTopic {
    /// Birth.
    Hello,
    /// Last will.
    Gone,
    /// Signed report.
    State,
    /// Signed batch of outbox records.
    Batch,
    /// What it knows of the statements that change what counts.
    Known,
    /// Parts of a transfer that are missing.
    Need(TransferId),
}

/// What comes down to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownTopic {
    /// The whole desired state, retained.
    Desired,
    /// The hub's cumulative acknowledgement.
    Ack,
    /// A command.
    Command,
    /// Statements that change what counts: roots, recalls, checkpoints, epochs.
    Trust,
    /// One part of a transfer: a chunk by its number, or the table of chunk digests.
    Part(TransferId, Part),
}

/// A part of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The digests of all chunks.
    Table,
    /// The chunk with this number.
    Chunk(u16),
}

/// Every topic of Bellwether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// From a device to the hub.
    Up(DeviceId, UpTopic),
    /// From the hub to a device.
    Down(DeviceId, DownTopic),
    /// Reserved for a retained sign of life of the hub; nobody publishes it yet.
    Hub,
}

/// The filter for everything that comes down to `device`.
#[must_use]
pub fn device_filter(device: &DeviceId) -> TopicText {
    text(format_args!("bw/v1/d/{device}/down/#"))
}

impl Topic {
    /// The topic as MQTT spells it.
    #[must_use]
    pub fn text(&self) -> TopicText {
        text(format_args!("{self}"))
    }

    /// Reads a topic.
    #[must_use]
    pub fn parse(topic: &str) -> Option<Self> {
        let rest = topic.strip_prefix("bw/v1/")?;
        if rest == "b/hub" {
            return Some(Self::Hub);
        }
        let (device, rest) = rest.strip_prefix("d/")?.split_once('/')?;
        let device = DeviceId::parse(device).ok()?;
        let (way, rest) = rest.split_once('/')?;
        match way {
            "up" => up(rest).map(|up| Self::Up(device, up)),
            "down" => down(rest).map(|down| Self::Down(device, down)),
            _ => None,
        }
    }
}

fn up(rest: &str) -> Option<UpTopic> {
    match rest {
        "hello" => Some(UpTopic::Hello),
        "gone" => Some(UpTopic::Gone),
        "state" => Some(UpTopic::State),
        "batch" => Some(UpTopic::Batch),
        "known" => Some(UpTopic::Known),
        _ => rest.strip_prefix("need/")?.parse().ok().map(UpTopic::Need),
    }
}

fn down(rest: &str) -> Option<DownTopic> {
    match rest {
        "desired" => Some(DownTopic::Desired),
        "ack" => Some(DownTopic::Ack),
        "cmd" => Some(DownTopic::Command),
        "trust" => Some(DownTopic::Trust),
        _ => {
            let (transfer, part) = rest.strip_prefix("x/")?.split_once('/')?;
            Some(DownTopic::Part(transfer.parse().ok()?, parse_part(part)?))
        }
    }
}

fn parse_part(part: &str) -> Option<Part> {
    if part == "table" {
        return Some(Part::Table);
    }
    let shortest = part == "0" || (part.starts_with(|c: char| c.is_ascii_digit()) && !part.starts_with('0'));
    if shortest { part.parse().ok().map(Part::Chunk) } else { None }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(device, up) => {
                write!(f, "bw/v1/d/{device}/up/")?;
                match up {
                    UpTopic::Hello => f.write_str("hello"),
                    UpTopic::Gone => f.write_str("gone"),
                    UpTopic::State => f.write_str("state"),
                    UpTopic::Batch => f.write_str("batch"),
                    UpTopic::Known => f.write_str("known"),
                    UpTopic::Need(transfer) => write!(f, "need/{transfer}"),
                }
            }
            Self::Down(device, down) => {
                write!(f, "bw/v1/d/{device}/down/")?;
                match down {
                    DownTopic::Desired => f.write_str("desired"),
                    DownTopic::Ack => f.write_str("ack"),
                    DownTopic::Command => f.write_str("cmd"),
                    DownTopic::Trust => f.write_str("trust"),
                    DownTopic::Part(transfer, Part::Table) => write!(f, "x/{transfer}/table"),
                    DownTopic::Part(transfer, Part::Chunk(n)) => write!(f, "x/{transfer}/{n}"),
                }
            }
            Self::Hub => f.write_str("bw/v1/b/hub"),
        }
    }
}

fn text(args: fmt::Arguments<'_>) -> TopicText {
    let mut text = TopicText::new();
    let written = text.write_fmt(args);
    assert!(written.is_ok(), "TOPIC_BYTES_MAX holds the longest topic");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back_as_it_was_written() {
        let device = DeviceId::parse("cam-1_A").unwrap();
        let longest = DeviceId::parse(core::str::from_utf8(&[b'x'; 64]).unwrap()).unwrap();
        let transfer = TransferId(0x0123_4567_89ab_cdef);
        for device in [device, longest] {
            for up in
                [UpTopic::Hello, UpTopic::Gone, UpTopic::State, UpTopic::Batch, UpTopic::Known, UpTopic::Need(transfer)]
            {
                let topic = Topic::Up(device.clone(), up);
                assert_eq!(Topic::parse(&topic.text()), Some(topic));
            }
            let parts = [Part::Table, Part::Chunk(0), Part::Chunk(u16::MAX)].map(|p| DownTopic::Part(transfer, p));
            for down in
                parts.into_iter().chain([DownTopic::Desired, DownTopic::Ack, DownTopic::Command, DownTopic::Trust])
            {
                let topic = Topic::Down(device.clone(), down);
                assert_eq!(Topic::parse(&topic.text()), Some(topic));
            }
        }
        assert_eq!(Topic::parse(&Topic::Hub.text()), Some(Topic::Hub));
    }

    #[test]
    fn what_is_almost_a_topic_is_refused() {
        for bad in [
            "",
            "bw",
            "bw/v1/",
            "bw/v2/b/hub",
            "bw/v1/d//up/hello",
            "bw/v1/d/a/up/",
            "bw/v1/d/a/up/hello/",
            "bw/v1/d/+/up/hello",
            "bw/v1/d/a/down/x/0123456789abcdef/01",
            "bw/v1/d/a/down/x/0123456789abcdef/65536",
            "bw/v1/d/a/down/x/0123456789ABCDEF/1",
            "bw/v1/d/a/down/x/0123456789abcdef/+1",
            "/bw/v1/b/hub",
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}
