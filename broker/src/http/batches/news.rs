//! What a batch hears of beside its body: that the broker drains, that its tenant has changed, that
//! its client's certificate is about to expire.

use std::{
    future::{self, Future},
    mem,
    pin::Pin,
    task::{Context as Poller, Poll},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tollgate_protocol::Code;

use super::drive::Drive;
use crate::{
    batch::{Ending, Failure},
    broker::Drain,
    tenancy::Changes,
};

/// Resolves when there is news, and gives back what tells of the next.
pub(in crate::http) type News<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Drive {
    /// Does what the broker and the tenant's operator ask for. True if anything was said.
    pub(super) fn heed(&mut self, cx: &mut Poller<'_>) -> bool {
        let mut said = false;
        while let Poll::Ready(changes) = self.changes.as_mut().poll(cx) {
            self.changes = Box::pin(changed(changes));
            self.look_at_tenant();
            said = true;
        }
        if let Poll::Ready(at) = self.expiring.as_mut().poll(cx) {
            self.expiring = Box::pin(future::pending());
            let message = "the certificate is about to expire: come again with a new one";
            self.output.notice("certificate_expiring", at, message);
            said = true;
        }
        while let Poll::Ready(mut drain) = self.drain.as_mut().poll(cx) {
            let now = *drain.borrow_and_update();
            self.drain = Box::pin(drain_changed(drain));
            match now {
                Drain::No => continue,
                Drain::Until(at) if !mem::replace(&mut self.draining, true) => {
                    let message = "the broker is shutting down: running batches may finish";
                    self.output.notice("draining", at, message);
                }
                Drain::Until(_) => {}
                Drain::Over => self.cancel(Ending::DRAINING),
            }
            said = true;
        }
        said
    }

    pub(super) fn look_at_tenant(&mut self) {
        if !self.tenant.may_go_on() {
            let message = "the tenant was suspended or deleted";
            self.fail(Failure::new(Code::Forbidden, message));
        } else if let Some(at) = self.tenant.leaves_at()
            && !mem::replace(&mut self.leaving, true)
        {
            self.output.notice("draining", at, "the tenant is being deleted");
        }
    }
}

/// Resolves when the broker is further on its way out.
pub(in crate::http) async fn drain_changed(
    mut drain: watch::Receiver<Drain>,
) -> watch::Receiver<Drain> {
    if drain.changed().await.is_err() {
        // The broker is gone, and this with it.
        future::pending::<()>().await;
    }
    drain
}

/// Resolves when a certificate that expires then is about to, so long ahead; never without one.
pub(in crate::http) async fn expiring(expires: Option<SystemTime>, ahead: Duration) -> SystemTime {
    /// Wall time is looked at again now and then: clocks are set.
    const LOOK_EVERY: Duration = Duration::from_secs(600);
    let Some(expires) = expires else { return future::pending().await };
    let notice = expires.checked_sub(ahead).unwrap_or(SystemTime::UNIX_EPOCH);
    while let Ok(left) = notice.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
    expires
}

/// Resolves when a tenant changed.
pub(in crate::http) async fn changed(mut changes: Changes) -> Changes {
    changes.changed().await;
    changes
}
