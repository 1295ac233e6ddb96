//! A dead letter: a message that was put aside, with where it comes from and why.

use tollgate_protocol::{
    PairsBuf,
    id::{GroupName, TopicName},
};

use super::message::{self, Message, New};
use crate::batch::Failure;

/// What is said of a message that is put aside.
pub(super) struct Letter<'a> {
    pub name: &'a TopicName,
    pub group: &'a GroupName,
    /// Its partition and its offset.
    pub place: (u32, u64),
    pub deliveries: u32,
    /// What its last attempt failed with, and which recipe that was.
    pub why: Option<(&'a Failure, Option<&'a str>)>,
}

impl Letter<'_> {
    /// The message, with where it comes from beside its own headers.
    pub(super) fn write(&self, body: &[u8]) -> Option<Vec<u8>> {
        let Message { timestamp, key, headers, payload, .. } = Message::parse(body).ok()?;
        let mut all = PairsBuf::new();
        let (partition, offset) = (self.place.0.to_string(), self.place.1.to_string());
        let deliveries = self.deliveries.to_string();
        // Where it comes from is what it can not be told without: first, as room is bounded.
        let ours = [
            ("tollgate-dead-topic", self.name.as_str()),
            ("tollgate-dead-partition", &partition),
            ("tollgate-dead-offset", &offset),
            ("tollgate-dead-group", self.group.as_str()),
            ("tollgate-dead-deliveries", &deliveries),
        ];
        ours.into_iter().for_each(|(key, value)| all.push_lossy(key, value));
        if let Some((failure, recipe)) = self.why {
            all.push_lossy("tollgate-dead-code", failure.code.name());
            all.push_lossy("tollgate-dead-message", &failure.message);
            if let Some(recipe) = recipe {
                all.push_lossy("tollgate-dead-recipe", recipe);
            }
        }
        headers.iter().for_each(|(key, value)| all.push_lossy(key, value));
        let headers = all.as_pairs();
        Some(message::encode(&New { timestamp, producer: None, key, headers, payload }))
    }
}
