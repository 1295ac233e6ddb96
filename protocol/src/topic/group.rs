//! Consumer groups: what may be asked of them and done to them, and what is known of one.

use super::{
    StartAt,
    ask::{read_limit, read_topic},
};
use crate::{
    codec::{DecodeError, Problem, Reader, Result, put_option, put_str, put_u64},
    limits,
    pairs::Extensions,
};

/// What is asked of groups, or done to them. A group belongs to one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAction<'a> {
    /// 0: one `Group` frame, then `End`.
    Get {
        /// Of which topic.
        topic: &'a str,
        /// Which group.
        group: &'a str,
    },
    /// 1: a `Group` frame each, in the order of topics and names, then `Listed` and `End`.
    List {
        /// Only those of this topic.
        topic: Option<&'a str>,
        /// Where a page before this one ended, as its `Listed` said.
        cursor: Option<&'a str>,
        /// The most groups of one page, up to [`limits::LISTED_MAX`]; 0: 100.
        limit: u32,
    },
    /// 2: forgets a group and its positions; `CONFLICT` while it has members; `Listed` and `End`.
    Delete {
        /// Of which topic.
        topic: &'a str,
        /// Which group.
        group: &'a str,
    },
    /// 3: moves a group's positions; `CONFLICT` while it has members; `Group` and `End`.
    Reset {
        /// Of which topic.
        topic: &'a str,
        /// Which group.
        group: &'a str,
        /// Only in this partition.
        partition: Option<u32>,
        /// To where.
        to: StartAt,
    },
}

fn read_group<'a>(r: &mut Reader<'a>) -> Result<&'a str> {
    r.str("group", limits::GROUP_NAME_BYTES_MAX)
}

impl<'a> GroupAction<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(match r.variant("action")? {
            0 => GroupAction::Get { topic: read_topic(r)?, group: read_group(r)? },
            1 => GroupAction::List {
                topic: r.option("topic", read_topic)?,
                cursor: r.option("cursor", |r| r.str("cursor", limits::CURSOR_BYTES_MAX))?,
                limit: read_limit(r)?,
            },
            2 => GroupAction::Delete { topic: read_topic(r)?, group: read_group(r)? },
            3 => GroupAction::Reset {
                topic: read_topic(r)?,
                group: read_group(r)?,
                partition: r.option("partition", |r| r.u32("partition"))?,
                to: StartAt::read(r)?,
            },
            n => return Err(DecodeError::new("action", Problem::UnknownVariant(n.into()))),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            GroupAction::Get { topic, group } => {
                out.push(0);
                put_str(out, topic);
                put_str(out, group);
            }
            GroupAction::List { topic, cursor, limit } => {
                out.push(1);
                put_option(out, *topic, put_str);
                put_option(out, *cursor, put_str);
                put_u64(out, (*limit).into());
            }
            GroupAction::Delete { topic, group } => {
                out.push(2);
                put_str(out, topic);
                put_str(out, group);
            }
            GroupAction::Reset { topic, group, partition, to } => {
                out.push(3);
                put_str(out, topic);
                put_str(out, group);
                put_option(out, *partition, |out, p| put_u64(out, p.into()));
                to.put(out);
            }
        }
    }
}

/// Asks about consumer groups or acts on them: the first frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupAsk<'a> {
    /// Gateways only: whose groups.
    pub tenant: Option<&'a str>,
    /// What is asked for.
    pub action: GroupAction<'a>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> GroupAsk<'a> {
    /// A question about one's own groups.
    pub fn new(action: GroupAction<'a>) -> Self {
        GroupAsk { tenant: None, action, extensions: Extensions::EMPTY }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(GroupAsk {
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            action: GroupAction::read(r)?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_option(out, self.tenant, put_str);
        self.action.put(out);
        self.extensions.put(out);
    }
}

/// How far a group is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupPartition {
    /// The lowest offset that is not acknowledged.
    pub position: u64,
    /// The offset that the next message of the partition will get.
    pub next: u64,
    /// Messages delivered and not acknowledged.
    pub in_flight: u32,
    /// The member that has it: a number within the group.
    pub member: Option<u64>,
}

impl GroupPartition {
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(GroupPartition {
            position: r.u64("partitions.position")?,
            next: r.u64("partitions.next")?,
            in_flight: r.u32("partitions.in_flight")?,
            member: r.option("partitions.member", |r| r.u64("partitions.member"))?,
        })
    }

    fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.position);
        put_u64(out, self.next);
        put_u64(out, self.in_flight.into());
        put_option(out, self.member, put_u64);
    }
}

/// What the broker knows of one consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo<'a> {
    /// Of which topic.
    pub topic: &'a str,
    /// Its name.
    pub group: &'a str,
    /// Members that are connected.
    pub members: u32,
    /// Rises with every change of its members; 0 when it has had none since the broker's start.
    pub generation: u64,
    /// Every partition, in order.
    pub partitions: Vec<GroupPartition>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> GroupInfo<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(GroupInfo {
            topic: read_topic(r)?,
            group: read_group(r)?,
            members: r.u32("members")?,
            generation: r.u64("generation")?,
            partitions: {
                let n = r.count("partitions", limits::TOPIC_PARTITIONS_MAX as usize)?;
                (0..n).map(|_| GroupPartition::read(r)).collect::<Result<_>>()?
            },
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.topic);
        put_str(out, self.group);
        put_u64(out, self.members.into());
        put_u64(out, self.generation);
        put_u64(out, self.partitions.len() as u64);
        self.partitions.iter().for_each(|p| p.put(out));
        self.extensions.put(out);
    }
}
