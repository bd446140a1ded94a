//! The simulated consumer group: cooperative rebalances, as the coordinator and each member see them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kafka::Polled;

/// What the broker checks of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub member: u32,
    pub generation: i32,
}

/// One client, whether or not the coordinator still knows it.
#[derive(Debug)]
struct Client {
    /// Its member id, a new one each time it joins again.
    member: u32,
    /// The generation of its latest assignment; 0 before the first.
    generation: i32,
    /// The coordinator considers it a member.
    counted: bool,
    /// It knows that it is not a member.
    knows: bool,
    /// It has joined the current rebalance.
    joined: bool,
    /// The partitions that it owns, until it releases them.
    owned: BTreeSet<i32>,
    /// The partitions that it must release before it joins again.
    releasing: BTreeSet<i32>,
    events: VecDeque<RebalanceEvent>,
}

/// A rebalance event that is not polled yet.
#[derive(Debug)]
enum RebalanceEvent {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
}

/// The coordinator, and the view of each client.
#[derive(Debug)]
pub struct Group {
    partitions: i32,
    generation: i32,
    rebalancing: bool,
    next_id: u32,
    /// By a number that a client keeps as long as it lives.
    clients: BTreeMap<u32, Client>,
}

impl Group {
    pub fn new(partitions: i32) -> Self {
        Self { partitions, generation: 0, rebalancing: false, next_id: 1, clients: BTreeMap::new() }
    }

    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn join(&mut self) -> u32 {
        let (number, member) = (self.id(), self.id());
        let client = Client {
            member,
            generation: 0,
            counted: true,
            knows: false,
            joined: false,
            owned: BTreeSet::new(),
            releasing: BTreeSet::new(),
            events: VecDeque::new(),
        };
        self.clients.insert(number, client);
        self.call_to_join();
        number
    }

    pub fn leave(&mut self, number: u32) {
        if self.clients.remove(&number).is_some_and(|client| client.counted) {
            self.call_to_join();
        }
    }

    /// The clients that the coordinator considers members.
    pub fn member_ids(&self) -> Vec<u32> {
        self.clients.iter().filter(|(_, client)| client.counted).map(|(&number, _)| number).collect()
    }

    pub fn owned(&self, number: u32) -> BTreeSet<i32> {
        self.clients.get(&number).map(|client| client.owned.clone()).unwrap_or_default()
    }

    /// The coordinator declares the client dead; the client does not know yet.
    pub fn remove(&mut self, number: u32) {
        if let Some(client) = self.clients.get_mut(&number).filter(|client| client.counted) {
            client.counted = false;
            self.call_to_join();
        }
    }

    /// Asks all members to join again.
    pub fn call_to_join(&mut self) {
        if !self.rebalancing {
            self.rebalancing = true;
            self.clients.values_mut().for_each(|client| client.joined = false);
        }
    }

    /// Members join if they can; when all have joined, the next generation begins. Some slow members are removed.
    pub fn progress(&mut self, rng: &mut fastrand::Rng) {
        if !self.rebalancing {
            return;
        }
        for client in self.clients.values_mut().filter(|client| client.counted) {
            client.joined |= client.events.is_empty() && client.releasing.is_empty() && rng.u32(0..4) > 0;
        }
        if self.clients.values().all(|client| !client.counted || client.joined) {
            self.assign(rng);
        }
    }

    fn assign(&mut self, rng: &mut fastrand::Rng) {
        self.rebalancing = false;
        self.generation += 1;
        let mut members = self.member_ids();
        if members.is_empty() {
            return;
        }
        rng.shuffle(&mut members);
        let mut target: BTreeMap<u32, BTreeSet<i32>> = BTreeMap::new();
        for partition in 0..self.partitions {
            let of = members[(partition as usize + usize::from(rng.u32(0..8) == 0)) % members.len()];
            target.entry(of).or_default().insert(partition);
        }
        let taken: BTreeSet<i32> = members.iter().flat_map(|number| self.owned(*number)).collect();
        let mut revoked_any = false;
        for number in members {
            let target = target.remove(&number).unwrap_or_default();
            let client = self.clients.get_mut(&number).expect("a member");
            client.generation = self.generation;
            let revoked: Vec<i32> = client.owned.difference(&target).copied().collect();
            let assigned: Vec<i32> = target.difference(&taken).copied().collect();
            if !revoked.is_empty() {
                revoked_any = true;
                client.releasing.extend(&revoked);
                client.events.push_back(RebalanceEvent::Revoked(revoked));
            }
            if !assigned.is_empty() {
                client.owned.extend(&assigned);
                client.events.push_back(RebalanceEvent::Assigned(assigned));
            }
        }
        if revoked_any {
            self.call_to_join();
        }
    }

    /// The event that the client gets when it polls.
    pub fn poll(&mut self, number: u32) -> Option<Polled> {
        self.discover(number);
        match self.clients.get_mut(&number)?.events.pop_front()? {
            RebalanceEvent::Assigned(partitions) => Some(Polled::Assigned(partitions)),
            RebalanceEvent::Revoked(partitions) => Some(Polled::Revoked(partitions)),
            RebalanceEvent::Lost(partitions) => Some(Polled::Lost(partitions)),
        }
    }

    /// A removed client learns of it with its next heartbeat.
    fn discover(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if client.counted || client.knows {
            return;
        }
        client.knows = true;
        if client.owned.is_empty() {
            self.rejoin(number);
        } else {
            client.releasing = client.owned.clone();
            client.events.push_back(RebalanceEvent::Lost(client.owned.iter().copied().collect()));
        }
    }

    fn rejoin(&mut self, number: u32) {
        let member = self.id();
        let client = self.clients.get_mut(&number).expect("it asks");
        (client.member, client.generation) = (member, 0);
        (client.counted, client.knows, client.joined) = (true, false, false);
        client.events.clear();
        self.call_to_join();
    }

    pub fn release(&mut self, number: u32, partitions: &[i32]) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        for partition in partitions {
            client.owned.remove(partition);
            client.releasing.remove(partition);
        }
        if !client.counted && client.knows && client.owned.is_empty() {
            self.rejoin(number);
        }
    }

    pub fn membership(&self, number: u32) -> Option<Membership> {
        let client = self.clients.get(&number)?;
        let is_member = client.generation > 0 && !client.knows;
        is_member.then_some(Membership { member: client.member, generation: client.generation })
    }

    /// Checks member and generation, and nothing else.
    pub fn accepts(&self, membership: &Membership) -> bool {
        membership.generation == self.generation
            && self.clients.values().any(|client| client.counted && client.member == membership.member)
    }

    /// Whether no rebalance is under way.
    pub fn is_settled(&self) -> bool {
        !self.rebalancing && self.clients.values().all(|client| client.counted && client.events.is_empty())
    }
}
