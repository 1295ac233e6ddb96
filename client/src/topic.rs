//! Topics: a tenant's durable logs. [`Client::topics`] makes and looks at them,
//! [`Client::producer`] appends, [`Client::consumer`] reads.

mod admin;
mod consumer;
mod message;
mod producer;
mod stream;

pub use admin::{
    GroupInfo, GroupPartition, PartitionInfo, Retention, TopicInfo, TopicPage, Topics,
};
pub use consumer::{Consumer, ConsumerBuilder, ConsumerEvent};
pub use message::{Message, Position, ReceivedMessage};
pub use producer::{Appending, Producer, ProducerBuilder};

use crate::client::Client;

impl Client {
    /// Questions about topics and consumer groups, and actions on them.
    pub fn topics(&self) -> Topics {
        Topics::new(self.clone())
    }

    /// Appends to a topic: [`open`](ProducerBuilder::open) begins.
    pub fn producer(&self, topic: impl Into<std::sync::Arc<str>>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// Reads a topic: [`open`](ConsumerBuilder::open) begins.
    pub fn consumer(&self, topic: impl Into<std::sync::Arc<str>>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), topic.into())
    }
}
