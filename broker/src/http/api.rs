//! What every handler may use: the broker's handles, and what the listener was told.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::runtime::Handle;

use super::{auth::Tokens, config::Config, events::Streams, jobs::Readers};
use crate::{
    broker::Services,
    tenancy::{State, Tenant},
};

/// The handles. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api(Arc<Inner>);

pub(super) struct Inner {
    pub services: Arc<Services>,
    /// The runtime of QUIC and the engine: batches run there.
    pub engine: Handle,
    pub tokens: Arc<Tokens>,
    /// Streams of events that are open.
    pub streams: Streams,
    /// Who reads what becomes of jobs.
    pub readers: Readers,
    /// The document that describes the API, as JSON.
    pub openapi: Bytes,
}

impl std::ops::Deref for Api {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    pub(super) fn new(
        services: Arc<Services>,
        engine: Handle,
        tokens: Arc<Tokens>,
        openapi: Bytes,
    ) -> Self {
        let (streams, readers) = (Streams::default(), Readers::default());
        Api(Arc::new(Inner { services, engine, tokens, streams, readers, openapi }))
    }

    /// The settings of the listener.
    pub(super) fn config(&self) -> &Config {
        &self.services.config.http
    }

    /// The tenant of an id, unless it was deleted.
    pub(super) fn tenant(&self, id: &str) -> Option<Arc<Tenant>> {
        self.services.tenants.get(id).filter(|t| t.state() != State::Deleted)
    }

    /// Whether whoever reaches the listener may do everything: it is this machine's own, and
    /// nobody was given a credential.
    pub(super) fn is_open(&self) -> bool {
        !self.config().is_tls() && self.tokens.is_empty()
    }
}
