//! What `operation = "produce"` says, and what it has no use for.

use tollgate_protocol::{id::TopicName, limits};

use super::{BadScenario, Check, Load, PAYLOAD_MAX, Payload, Recipe, Sizes, bad, within};
use crate::{pattern::ID_BYTES, scenario::Topic};

/// Members of a group: beyond the partitions they have nothing to do.
const CONSUMERS_MAX: usize = 1_000;
/// What the names of topics end with that the broker makes for dead letters.
const DEAD: &str = ".dead";

impl Load {
    pub(super) fn topic(&self) -> Result<Topic, BadScenario> {
        for (key, given) in [
            ("recipe", self.recipe.is_some()),
            ("recipes", self.recipes.is_some()),
            ("payload", self.payload.is_some()),
            ("check", self.check.is_some()),
            ("priority", self.priority.is_some()),
        ] {
            if given {
                return Err(bad(key, "a message of operation = \"produce\" has none"));
            }
        }
        if let Some(name) = &self.topic {
            TopicName::check(name).map_err(|e| bad("topic", e))?;
            if name.ends_with(DEAD) {
                return Err(bad("topic", format!("{name:?} is for dead letters")));
            }
        }
        if let Some(n) = self.partitions {
            within("partitions", n.into(), limits::TOPIC_PARTITIONS_MAX.into())?;
        }
        let consumers = self.consumers.unwrap_or(1);
        if consumers > CONSUMERS_MAX {
            return Err(bad("consumers", format!("{consumers} is not 0 to {CONSUMERS_MAX}")));
        }
        if consumers > 0 && self.audit_batches.is_some() {
            let problem = "only with consumers = 0: otherwise they have read everything";
            return Err(bad("audit_batches", problem));
        }
        Ok(Topic {
            name: self.topic.clone(),
            partitions: self.partitions,
            consumers,
            audit: self.audit()?,
            keep: self.keep_topic,
        })
    }

    /// Its messages, in the place of a recipe's items.
    pub(super) fn message(&self) -> Result<Recipe, BadScenario> {
        let sizes = self.payload_bytes.clone().unwrap_or(Sizes::Fixed(64));
        if sizes.min() < ID_BYTES as u64 {
            let problem = format!("at least {ID_BYTES}: a message begins with its number");
            return Err(bad("payload_bytes", problem));
        }
        let payload = Payload::Bytes(sizes);
        if payload.max() > PAYLOAD_MAX {
            return Err(bad("payload_bytes", format!("at most {PAYLOAD_MAX}")));
        }
        Ok(Recipe { name: "message".into(), weight: 1, payload, check: Check::Echo })
    }
}
