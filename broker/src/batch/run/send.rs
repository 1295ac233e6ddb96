//! Handing items over to whoever runs them elsewhere: what came together leaves together.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tollgate_protocol::PairsBuf;

use super::{Absent, Item, Run};
use crate::{
    batch::{
        Asks,
        away::Leaving,
        catalog::Entry,
        pending::{Pending, Work},
        remote::{Checked, Common, Remote, Returns, Task},
        slots::Claim,
    },
    tenancy::{BytesPermit, Tenant},
};

/// An item that is handed over, and what it holds.
pub(super) struct Parcel {
    pub item: Item,
    pub payload: Bytes,
    pub metadata: Option<Arc<PairsBuf>>,
    pub bytes: BytesPermit,
}

impl Run {
    /// Hands over items that ask for the recipe of the item before and for nothing else, from the
    /// first on, as far as there is room everywhere. How many.
    pub(super) fn send_alike<'b>(
        &mut self,
        items: &[impl Asks<'b>],
        (entry, remote): (&Arc<Entry>, &Arc<dyn Remote>),
        tenant: &Arc<Tenant>,
        arrived: Instant,
    ) -> usize {
        // Those that wait go first.
        let room = self.own_room();
        if !self.waiting.is_empty() || room == 0 || self.engine.catalog.hooks().is_set() {
            return 0;
        }
        let items = &items[..items.len().min(room)];
        let claim = self.claim(tenant, entry);
        let room = remote.room(&claim, items.len(), &self.mailbox);
        let items = &items[..items.len().min(room)];
        let reserve = entry.result_reserve();
        let total: usize = items.iter().map(|i| i.request().payload.len() + reserve).sum();
        if items.is_empty() {
            return 0;
        }
        let Some(mut all) = tenant.reserve_bytes(total).filter(|all| all.amount() == total) else {
            return 0;
        };
        self.started = true;
        let common = self.away.common(tenant, entry, claim, &self.shared);
        let handed_over = self.now().max(arrived);
        let (timeout, queue_timeout) = (entry.timeout, entry.spec.queue_timeout);
        for item in items {
            let r = item.request();
            let seq = self.tally.read;
            self.tally.item_read(r.id, r.payload.len());
            let task = Task {
                common: common.clone(),
                seq,
                item_id: r.id,
                payload: Bytes::copy_from_slice(r.payload),
                metadata: None,
                timeout,
                once: None,
            };
            let bytes = all.split(r.payload.len() + reserve);
            self.leaves(task, Leaving { arrived, handed_over, queue_timeout, bytes });
        }
        self.away.send(&**remote);
        items.len()
    }

    /// Hands over what waits for the recipe of the oldest, in the order of its coming, as far as there
    /// is room. False when there is none for it.
    pub(super) fn send_waiting(&mut self, remote: &Arc<dyn Remote>) -> bool {
        let first = self.unplaced.front().and_then(|seq| self.waiting.get(seq));
        let Some((tenant, entry)) = first.map(|w| (w.item.tenant.clone(), w.item.entry.clone()))
        else {
            return true;
        };
        let claim = self.claim(&tenant, &entry);
        let wanted = self.unplaced.len().min(self.own_room());
        let room = remote.room(&claim, wanted, &self.mailbox);
        if room == 0 {
            return false;
        }
        self.clock.read();
        let now = self.now();
        for _ in 0..room {
            let Some(seq) = self.unplaced.front() else { break };
            let alike = |item: &Item| {
                Arc::ptr_eq(&item.tenant, &tenant) && Arc::ptr_eq(&item.entry, &entry)
            };
            // Those that gave up meanwhile are not there any more.
            if self.waiting.get(seq).is_some_and(|w| !alike(&w.item)) {
                break;
            }
            let waited = self.waiting.remove(seq);
            self.unplaced.pop_front();
            let Some(mut w) = waited else { continue };
            // It goes on waiting, and no longer than it may in all.
            w.item.queue_timeout = w.give_up.saturating_duration_since(now);
            let (item, payload, metadata, bytes) = (w.item, w.payload, w.metadata, w.bytes);
            self.hand_over(claim, Parcel { item, payload, metadata, bytes });
        }
        self.away.send(&**remote);
        true
    }

    /// Hands an item over, with the next that are [sent](super::super::away::Away::send); or once its
    /// payload was checked.
    pub(super) fn hand_over(&mut self, claim: Claim, parcel: Parcel) {
        let Parcel { item, payload, metadata, bytes } = parcel;
        self.started = true;
        if self.engine.catalog.hooks().is_set() {
            let request = self.hook_request(&item.entry, &item.tenant, item.id, payload.len());
            self.engine.catalog.hooks().on_start(&request);
        }
        let handed_over = self.now().max(item.arrived);
        let Item { seq, id: item_id, timeout, queue_timeout, arrived, .. } = item;
        let task = |common| Task { common, seq, item_id, payload, metadata, timeout, once: None };
        if !item.entry.checks_on_pool(item.payload_len) {
            let common = self.away.common(&item.tenant, &item.entry, claim, &self.shared);
            let known = Leaving { arrived, handed_over, queue_timeout, bytes };
            self.leaves(task(common), known);
            return;
        }
        let common = Common {
            tenant: item.tenant.clone(),
            entry: item.entry.clone(),
            shared: self.shared.clone(),
            claim,
            returns: Arc::new(Returns::default()),
        };
        let turn = self.pool_turn(&item.tenant);
        let call = Checked::new(&self.engine.pool, turn, task(Arc::new(common)));
        let work = Work::Call(Box::pin(call));
        self.wait_for(Pending::new(item, handed_over, work, None, (None, bytes)));
    }

    fn leaves(&mut self, task: Task, known: Leaving) {
        self.is_due(Absent::due_first(&known, task.timeout));
        self.away.leaves(task, known);
    }
}
