//! Who of a group reads what: members, their partitions, and what was delivered and is not
//! acknowledged.
//!
//! Nothing of this is kept but what is acknowledged: after a restart members come again, and what
//! was on its way is delivered again. A partition has one owner; it moves when what its old owner
//! has is acknowledged, or after a while.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    At, Done,
    assign::assign,
    plant::{self, Bug},
    ranges::Ranges,
};

/// The rules of all groups.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long a partition that moves waits for its old owner, in milliseconds.
    pub handover_ms: u64,
    /// How far above its position a group may acknowledge, in offsets.
    pub ahead_max: u64,
    /// How often a message is delivered.
    pub deliveries_max: u32,
}

/// A group while it has members, or had some.
#[derive(Debug, Clone)]
pub struct Group {
    terms: Terms,
    generation: u64,
    next_member: u64,
    members: BTreeMap<u64, Member>,
    parts: Vec<Part>,
    /// When leases are over: time, partition, offset.
    due: BTreeSet<(At, u32, u64)>,
}

#[derive(Debug, Clone)]
struct Member {
    in_flight: usize,
    in_flight_max: usize,
    ack_timeout_ms: u64,
}

#[derive(Debug, Clone, Default)]
struct Part {
    done: Done,
    /// The next offset that was never delivered.
    next: u64,
    leases: BTreeMap<u64, Lease>,
    /// To be delivered again: how often they were.
    again: BTreeMap<u64, u32>,
    /// Delivered as often as may be: to be put aside. And whether that has begun.
    dead: BTreeMap<u64, (u32, bool)>,
    owner: Option<u64>,
    /// Whose it is to be, and when at the latest.
    moves: Option<(Option<u64>, At)>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    member: u64,
    until: At,
    deliveries: u32,
}

/// What a group is like in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub position: u64,
    pub in_flight: u32,
    pub member: Option<u64>,
}

impl Group {
    /// A group that is done with this.
    pub fn new(terms: Terms, done: &[Done]) -> Group {
        let part =
            |done: &Done| Part { done: done.clone(), next: done.position, ..Part::default() };
        Group {
            terms,
            generation: 0,
            next_member: 0,
            members: BTreeMap::new(),
            parts: done.iter().map(part).collect(),
            due: BTreeSet::new(),
        }
    }

    /// Rises whenever members or their partitions change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a member has nothing, and nothing of its partitions is left for it; `end` is where
    /// each ends.
    pub fn is_done(&self, member: u64, end: impl Fn(u32) -> u64) -> bool {
        let has = self.members.get(&member).is_some_and(|who| who.in_flight > 0);
        let left = (0..).zip(&self.parts).any(|(at, part)| {
            let next = part.done.above.end_of(part.next).unwrap_or(part.next);
            part.heir() == Some(member)
                && (!part.again.is_empty() || next.max(part.done.position) < end(at))
        });
        !has && !left
    }

    /// How many messages are to be delivered again.
    pub fn to_deliver(&self) -> usize {
        self.parts.iter().map(|part| part.again.len()).sum()
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// What it is like in each partition.
    pub fn look(&self) -> impl Iterator<Item = Look> + '_ {
        self.parts.iter().map(|part| Look {
            position: part.done.position,
            in_flight: part.leases.len() as u32,
            member: part.owner,
        })
    }

    /// Somebody comes: who it is from now on.
    pub fn join(&mut self, in_flight_max: usize, ack_timeout_ms: u64, now: At) -> u64 {
        let member = self.next_member;
        self.next_member += 1;
        let new = Member { in_flight: 0, in_flight_max: in_flight_max.max(1), ack_timeout_ms };
        self.members.insert(member, new);
        self.share_out(now);
        member
    }

    /// Somebody goes: what it has is delivered again.
    pub fn leave(&mut self, member: u64, now: At) {
        if self.members.remove(&member).is_none() {
            return;
        }
        for at in 0..self.parts.len() {
            self.take_back(at, member);
            let part = &mut self.parts[at];
            if part.owner == Some(member) {
                part.owner = None;
            }
        }
        self.share_out(now);
    }

    /// The partitions of a member.
    pub fn assigned(&self, member: u64) -> impl Iterator<Item = u32> + '_ {
        let all = (0..).zip(&self.parts);
        all.filter(move |(_, part)| part.reader() == Some(member)).map(|(at, _)| at)
    }

    /// Gives a member what is to be delivered of a partition, up to `count`: offsets, and how often
    /// they are delivered then. `end` is the partition's end.
    pub fn take(
        &mut self,
        member: u64,
        partition: u32,
        (end, count): (u64, usize),
        now: At,
        out: &mut Vec<(u64, u32)>,
    ) {
        let Some(who) = self.members.get_mut(&member) else { return };
        let Some(part) = self.parts.get_mut(partition as usize) else { return };
        if part.reader() != Some(member) {
            return;
        }
        let room = who.in_flight_max.saturating_sub(who.in_flight).min(count);
        let until = now.saturating_add(who.ack_timeout_ms);
        let ahead = part.done.position.saturating_add(self.terms.ahead_max);
        for _ in 0..room {
            let (offset, deliveries) = match part.again.pop_first() {
                Some((offset, before)) => (offset, before + 1),
                None => {
                    part.next = part.next.max(part.done.position);
                    while let Some(after) = part.done.above.end_of(part.next) {
                        part.next = after;
                    }
                    if part.next >= end.min(ahead) {
                        break;
                    }
                    part.next += 1;
                    (part.next - 1, 1)
                }
            };
            part.leases.insert(offset, Lease { member, until, deliveries });
            self.due.insert((until, partition, offset));
            who.in_flight += 1;
            out.push((offset, deliveries));
        }
    }

    /// A member is done with messages: those of them that it had.
    pub fn ack(&mut self, member: u64, partition: u32, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut acked = Ranges::default();
        if plant::is(Bug::AckUnread) {
            acked.insert(first, last.saturating_add(1));
        }
        for offset in self.end_leases(member, partition, first, last) {
            acked.insert(offset.0, offset.0);
        }
        if let Some(part) = self.parts.get_mut(partition as usize) {
            acked.iter().for_each(|(first, last)| part.done.add(first, last));
        }
        self.settle_moves(partition);
        acked.iter().collect()
    }

    /// A member could not do messages: those that it had are delivered again.
    pub fn nack(&mut self, member: u64, partition: u32, first: u64, last: u64) {
        for (offset, deliveries) in self.end_leases(member, partition, first, last) {
            self.deliver_again(partition, offset, deliveries);
        }
        self.settle_moves(partition);
    }

    /// A member was to be given a message and was not: as if it had not been taken.
    pub fn give_back(&mut self, member: u64, partition: u32, offset: u64) {
        for (offset, deliveries) in self.end_leases(member, partition, offset, offset) {
            let part = &mut self.parts[partition as usize];
            part.again.insert(offset, deliveries - 1);
        }
        self.settle_moves(partition);
    }

    /// A member puts a message aside that it has: whether it had it. It is done once that is kept.
    pub fn put_aside(&mut self, member: u64, partition: u32, offset: u64) -> bool {
        let had = self.end_leases(member, partition, offset, offset);
        for (offset, deliveries) in &had {
            self.parts[partition as usize].dead.insert(*offset, (*deliveries, true));
        }
        self.settle_moves(partition);
        !had.is_empty()
    }

    /// A message was put aside, or does not exist: it is done.
    pub fn done(&mut self, partition: u32, offset: u64) {
        if let Some(part) = self.parts.get_mut(partition as usize) {
            part.dead.remove(&offset);
            part.done.add(offset, offset);
        }
    }

    /// The messages before this one are gone from the partition.
    pub fn trimmed(&mut self, partition: u32, first: u64) {
        let Some(part) = self.parts.get_mut(partition as usize) else { return };
        part.done.skip_to(first);
        part.again = part.again.split_off(&first);
        part.dead = part.dead.split_off(&first);
    }

    /// Ends what has lasted too long. Whether anything changed.
    pub fn on_time(&mut self, now: At) -> bool {
        let mut changed = false;
        while let Some(&(until, partition, offset)) = self.due.first()
            && until <= now
        {
            self.due.pop_first();
            let part = &mut self.parts[partition as usize];
            let Some(lease) = part.leases.remove(&offset) else { continue };
            if let Some(who) = self.members.get_mut(&lease.member) {
                who.in_flight -= 1;
            }
            self.deliver_again(partition, offset, lease.deliveries);
            self.settle_moves(partition);
            changed = true;
        }
        for at in 0..self.parts.len() {
            let part = &self.parts[at];
            let Some((_, until)) = part.moves.filter(|(_, until)| *until <= now) else { continue };
            debug_assert!(until <= now);
            if let Some(old) = part.owner {
                self.take_back(at, old);
            }
            self.settle_moves(at as u32);
            changed = true;
        }
        changed
    }

    /// When time matters next.
    pub fn next_due(&self) -> Option<At> {
        let leases = self.due.first().map(|(until, _, _)| *until);
        let moves = self.parts.iter().filter_map(|part| part.moves.map(|(_, until)| until));
        leases.into_iter().chain(moves).min()
    }

    /// Messages that were delivered as often as may be, up to `count`: each is given once.
    pub fn take_dead(&mut self, count: usize) -> Vec<(u32, u64, u32)> {
        let mut taken = Vec::new();
        for (at, part) in (0..).zip(&mut self.parts) {
            for (offset, (deliveries, begun)) in &mut part.dead {
                if taken.len() >= count {
                    return taken;
                }
                if !std::mem::replace(begun, true) {
                    taken.push((at, *offset, *deliveries));
                }
            }
        }
        taken
    }

    fn deliver_again(&mut self, partition: u32, offset: u64, deliveries: u32) {
        let part = &mut self.parts[partition as usize];
        if part.done.has(offset) {
            return;
        }
        if deliveries >= self.terms.deliveries_max {
            part.dead.insert(offset, (deliveries, false));
        } else {
            part.again.insert(offset, deliveries);
        }
    }

    /// Ends what a member has of a range: the offsets, and how often they were delivered.
    fn end_leases(
        &mut self,
        member: u64,
        partition: u32,
        first: u64,
        last: u64,
    ) -> Vec<(u64, u32)> {
        let Some(part) = self.parts.get_mut(partition as usize) else { return Vec::new() };
        if first > last {
            return Vec::new();
        }
        let had: Vec<(u64, Lease)> = part
            .leases
            .range(first..=last)
            .filter(|(_, lease)| lease.member == member)
            .map(|(offset, lease)| (*offset, *lease))
            .collect();
        for (offset, lease) in &had {
            part.leases.remove(offset);
            self.due.remove(&(lease.until, partition, *offset));
        }
        if let Some(who) = self.members.get_mut(&member) {
            who.in_flight -= had.len();
        }
        had.into_iter().map(|(offset, lease)| (offset, lease.deliveries)).collect()
    }

    /// What a member has of a partition is delivered again. Not its fault alone: it counts as a
    /// delivery all the same, or a message that kills its reader would be delivered for ever.
    fn take_back(&mut self, at: usize, member: u64) {
        let partition = at as u32;
        for (offset, deliveries) in self.end_leases(member, partition, 0, u64::MAX) {
            self.deliver_again(partition, offset, deliveries);
        }
    }

    /// Gives every partition to somebody.
    fn share_out(&mut self, now: At) {
        self.generation += 1;
        let members: Vec<u64> = self.members.keys().copied().collect();
        let has: Vec<Option<u64>> = self.parts.iter().map(Part::heir).collect();
        let then = assign(&has, &members);
        let until = now.saturating_add(self.terms.handover_ms);
        for (at, to) in then.into_iter().enumerate() {
            let part = &mut self.parts[at];
            part.moves = match part.owner {
                owner if owner == to => None,
                None => {
                    part.owner = to;
                    None
                }
                Some(_) => {
                    // Who is to have it has changed, perhaps; until when stays.
                    Some((to, part.moves.map_or(until, |(_, before)| before)))
                }
            };
            if plant::is(Bug::TwoOwners)
                && let Some((to, _)) = part.moves.take()
            {
                part.owner = to;
            }
            self.settle_moves(at as u32);
        }
    }

    /// A partition moves once its old owner has nothing of it.
    fn settle_moves(&mut self, partition: u32) {
        let Some(part) = self.parts.get_mut(partition as usize) else { return };
        let Some((to, _)) = part.moves else { return };
        if !part.leases.values().any(|lease| Some(lease.member) == part.owner) {
            (part.owner, part.moves) = (to, None);
            self.generation += 1;
        }
    }
}

impl Part {
    /// Who may be given more of it.
    fn reader(&self) -> Option<u64> {
        if self.moves.is_some() { None } else { self.owner }
    }

    /// Who has it, or is to have it.
    fn heir(&self) -> Option<u64> {
        self.moves.map_or(self.owner, |(to, _)| to)
    }
}
