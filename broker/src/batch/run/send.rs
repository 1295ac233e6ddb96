//! Handing items over to whoever runs them elsewhere: what came together leaves together.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use bytes::Bytes;
use tollgate_protocol::batch::Request;

use super::{Item, Offered, Run};
use crate::{
    batch::{
        Asks,
        away::Unsent,
        catalog::Entry,
        pending::{Pending, Work},
        remote::{Checked, Common, Returns, Task},
    },
    tenancy::{BytesPermit, Tenant},
};

impl Run {
    /// Takes items that ask for the recipe of the item before and for nothing else, from the first
    /// on, as far as there is room for them here. How many.
    pub(super) fn send_alike<'b>(
        &mut self,
        items: &[impl Asks<'b>],
        entry: &Arc<Entry>,
        tenant: &Arc<Tenant>,
        arrived: Instant,
    ) -> usize {
        let items = &items[..items.len().min(self.room_to_wait())];
        let reserve = entry.result_reserve();
        let total: usize = items.iter().map(|i| i.request().payload.len() + reserve).sum();
        // Room that was waited for is the first one's.
        if items.is_empty() || self.spare.is_some() || self.room.is_some() {
            return 0;
        }
        let Some(mut all) = tenant.reserve_bytes(total).filter(|all| all.amount() == total) else {
            return 0;
        };
        let common = self.away.common(tenant, entry, self.claim(tenant, entry), &self.shared);
        for item in items {
            let r = item.request();
            let bytes = all.split(r.payload.len() + reserve);
            self.goes(r, common.clone(), arrived, bytes);
        }
        // Those of all of them are up together, as they came together.
        self.due_with_last();
        self.place_waiting();
        items.len()
    }

    /// Takes an item, or says that there is no room for it.
    pub(super) fn send_one(
        &mut self,
        request: &Request<'_>,
        entry: &Arc<Entry>,
        tenant: &Arc<Tenant>,
        arrived: Instant,
    ) -> Offered {
        if self.room_to_wait() == 0 {
            return Offered::Full;
        }
        let bytes = self.reserve(tenant, request.payload.len(), entry.result_reserve());
        let Some(bytes) = bytes else { return Offered::Full };
        let common = self.away.common(tenant, entry, self.claim(tenant, entry), &self.shared);
        self.goes(request, common, arrived, bytes);
        self.due_with_last();
        self.place_waiting();
        Offered::Taken
    }

    fn goes(&mut self, r: &Request<'_>, common: Arc<Common>, arrived: Instant, bytes: BytesPermit) {
        let seq = self.tally.read;
        self.tally.item_read(r.id, r.payload.len());
        let task = Task {
            timeout: super::start::timeout(r, &common.entry),
            common,
            key: AtomicUsize::default(),
            seq,
            item_id: r.id,
            payload: Bytes::copy_from_slice(r.payload),
            metadata: (!r.metadata.is_empty()).then(|| Arc::new(r.metadata.to_buf())),
        };
        self.away.goes(Unsent { task, arrived, bytes });
    }

    fn due_with_last(&mut self) {
        if let Some(due) = self.away.last().map(Unsent::due_first) {
            self.is_due(due);
        }
    }

    /// Hands over what is to go, from that at a place on, as far as there is room for its recipe. What
    /// it has in common with others, when there is none.
    pub(super) fn send_waiting(&mut self, common: Arc<Common>, at: usize) -> Option<Arc<Common>> {
        let Some(remote) = common.entry.handler.remote() else { return Some(common) };
        let wanted = self.away.alike(at, self.own_room());
        let room = remote.room(&common.claim, wanted, &self.mailbox);
        if room == 0 {
            return Some(common);
        }
        self.away.bring(at, room);
        self.started = true;
        let checks = common.entry.schema.is_some();
        if self.engine.catalog.hooks().is_set() {
            self.tell_hooks(room);
        }
        if checks {
            (0..room).for_each(|_| self.check_next(&common));
        } else {
            self.away.send(&**remote, room, self.held_until);
        }
        None
    }

    /// Tells the hooks of so many items that they are about to run.
    fn tell_hooks(&self, n: usize) {
        for about in self.away.next_ones(n) {
            let request = self.hook_request(about.entry, about.tenant, about.id, about.payload_len);
            self.engine.catalog.hooks().on_start(&request);
        }
    }

    /// Hands an item over once its payload was checked: it comes back by itself.
    fn check_next(&mut self, common: &Common) {
        let Some(Unsent { mut task, arrived, bytes }) = self.away.take_next() else { return };
        let Common { tenant, entry, shared, claim, .. } = common;
        let item = Item {
            seq: task.seq,
            id: task.item_id,
            tenant: tenant.clone(),
            entry: entry.clone(),
            payload_len: task.payload.len(),
            timeout: task.timeout,
            queue_timeout: entry.spec.queue_timeout,
            arrived,
        };
        task.common = Arc::new(Common {
            tenant: tenant.clone(),
            entry: entry.clone(),
            shared: shared.clone(),
            claim: *claim,
            returns: Arc::new(Returns::default()),
            once: None,
        });
        let turn = self.pool_turn(tenant);
        let work = Work::Call(Box::pin(Checked::new(&self.engine.pool, turn, task)));
        self.wait_for(Pending::new(item, arrived, work, None, (None, bytes)));
    }
}
