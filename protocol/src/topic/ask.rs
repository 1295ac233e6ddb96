//! What may be asked of topics and done to them.

use crate::{
    codec::{DecodeError, Problem, Reader, Result, put_option, put_str, put_u64},
    limits,
    pairs::Extensions,
};

/// How long messages are kept. What is not said is bounded by the tenant's quotas alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Messages older than this go, in milliseconds.
    pub age_ms: Option<u64>,
    /// The oldest messages of a partition go while it holds more than this, in bytes.
    pub bytes: Option<u64>,
}

impl Retention {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Retention {
            age_ms: r.option("retention.age_ms", |r| r.u64("retention.age_ms"))?,
            bytes: r.option("retention.bytes", |r| r.u64("retention.bytes"))?,
        })
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_option(out, self.age_ms, put_u64);
        put_option(out, self.bytes, put_u64);
    }
}

/// What is asked of topics, or done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAction<'a> {
    /// 0: makes a topic; a `Topic` frame, then `End`. `CONFLICT` when there is one of that name.
    Create {
        /// Its name.
        topic: &'a str,
        /// How many partitions, up to [`limits::TOPIC_PARTITIONS_MAX`]; 0: 1.
        partitions: u32,
        /// How long messages are kept.
        retention: Retention,
    },
    /// 1: deletes a topic, its messages and its groups; `Listed` and `End`.
    Delete {
        /// Which topic.
        topic: &'a str,
    },
    /// 2: one `Topic` frame, then `End`.
    Get {
        /// Which topic.
        topic: &'a str,
    },
    /// 3: a `Topic` frame each, in the order of their names, then `Listed` and `End`.
    List {
        /// Where a page before this one ended, as its `Listed` said.
        cursor: Option<&'a str>,
        /// The most topics of one page, up to [`limits::LISTED_MAX`]; 0: 100.
        limit: u32,
    },
    /// 4: changes how long messages are kept; a `Topic` frame, then `End`.
    Update {
        /// Which topic.
        topic: &'a str,
        /// How long messages are kept from now on.
        retention: Retention,
    },
    /// 5: one message by its id: a `Delivery` frame, then `End`.
    GetMessage {
        /// Its id.
        id: [u8; 16],
    },
    /// 6: deletes one message by its id: nobody reads it any more; `Listed` and `End`.
    DeleteMessage {
        /// Its id.
        id: [u8; 16],
    },
}

pub(super) fn read_topic<'a>(r: &mut Reader<'a>) -> Result<&'a str> {
    r.str("topic", limits::TOPIC_NAME_BYTES_MAX)
}

pub(super) fn read_limit(r: &mut Reader<'_>) -> Result<u32> {
    match r.u32("limit")? {
        n if n <= limits::LISTED_MAX => Ok(n),
        n => {
            let problem = Problem::OutOfRange { found: n.into(), max: limits::LISTED_MAX.into() };
            Err(DecodeError::new("limit", problem))
        }
    }
}

impl<'a> TopicAction<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(match r.variant("action")? {
            0 => TopicAction::Create {
                topic: read_topic(r)?,
                partitions: match r.u32("partitions")? {
                    n if n <= limits::TOPIC_PARTITIONS_MAX => n,
                    n => {
                        let max = limits::TOPIC_PARTITIONS_MAX.into();
                        let problem = Problem::OutOfRange { found: n.into(), max };
                        return Err(DecodeError::new("partitions", problem));
                    }
                },
                retention: Retention::read(r)?,
            },
            1 => TopicAction::Delete { topic: read_topic(r)? },
            2 => TopicAction::Get { topic: read_topic(r)? },
            3 => TopicAction::List {
                cursor: r.option("cursor", |r| r.str("cursor", limits::CURSOR_BYTES_MAX))?,
                limit: read_limit(r)?,
            },
            4 => TopicAction::Update { topic: read_topic(r)?, retention: Retention::read(r)? },
            5 => TopicAction::GetMessage { id: r.array("id")? },
            6 => TopicAction::DeleteMessage { id: r.array("id")? },
            n => return Err(DecodeError::new("action", Problem::UnknownVariant(n.into()))),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            TopicAction::Create { topic, partitions, retention } => {
                out.push(0);
                put_str(out, topic);
                put_u64(out, (*partitions).into());
                retention.put(out);
            }
            TopicAction::Delete { topic } => {
                out.push(1);
                put_str(out, topic);
            }
            TopicAction::Get { topic } => {
                out.push(2);
                put_str(out, topic);
            }
            TopicAction::List { cursor, limit } => {
                out.push(3);
                put_option(out, *cursor, put_str);
                put_u64(out, (*limit).into());
            }
            TopicAction::Update { topic, retention } => {
                out.push(4);
                put_str(out, topic);
                retention.put(out);
            }
            TopicAction::GetMessage { id } => {
                out.push(5);
                out.extend_from_slice(id);
            }
            TopicAction::DeleteMessage { id } => {
                out.push(6);
                out.extend_from_slice(id);
            }
        }
    }
}

/// Asks about topics or acts on them: the first frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicAsk<'a> {
    /// Gateways only: whose topics.
    pub tenant: Option<&'a str>,
    /// What is asked for.
    pub action: TopicAction<'a>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> TopicAsk<'a> {
    /// A question about one's own topics.
    pub fn new(action: TopicAction<'a>) -> Self {
        TopicAsk { tenant: None, action, extensions: Extensions::EMPTY }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(TopicAsk {
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            action: TopicAction::read(r)?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_option(out, self.tenant, put_str);
        self.action.put(out);
        self.extensions.put(out);
    }
}
