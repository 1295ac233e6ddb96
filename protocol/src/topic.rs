//! Topics: appending to them, reading them, and what is asked of them and of consumer groups.

mod ask;
mod consume;
mod group;
mod head;
mod info;
mod produce;

pub use ask::{Retention, TopicAction, TopicAsk};
pub use consume::{
    Ack, Assigned, Committed, ConsumeAccepted, ConsumeOpen, Delivery, Nack, StartAt,
};
pub use group::{GroupAction, GroupAsk, GroupInfo, GroupPartition};
pub use head::{encode_delivery_head, encode_message_head};
pub use info::{Listed, PartitionInfo, TopicInfo};
pub use produce::{
    Acks, Message, ProduceAccepted, ProduceFailed, ProduceOpen, Produced, Producer, Received,
};
