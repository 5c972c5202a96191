//! Many at once: a whole fleet that leaves and comes back costs a message per stream and an update per
//! end of a tunnel, however it is interleaved.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

const AGENTS: usize = 500;
const CLIENTS: usize = 100;
/// Tunnels of each client, to agents spread evenly.
const TUNNELS: usize = 200;

struct Crowd {
    coordinator: Coordinator,
    agents: Vec<Seat>,
    clients: Vec<Seat>,
    /// Letters that the streams got.
    letters: usize,
    /// Messages and updates that they took.
    messages: usize,
    updates: usize,
}

fn id(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

fn node(number: usize) -> Node {
    Node {
        preferred_derp: i32::try_from(number).unwrap(),
        endpoints: vec!["192.0.2.1:41641".into()],
        ..Node::default()
    }
}

impl Crowd {
    fn new() -> Crowd {
        let mut crowd = Crowd {
            coordinator: Coordinator::new(Keys::default()),
            agents: Vec::new(),
            clients: Vec::new(),
            letters: 0,
            messages: 0,
            updates: 0,
        };
        crowd.join_all();
        crowd
    }

    fn effects(&mut self) {
        self.letters += self.coordinator.effects().iter().filter(|effect| matches!(effect, Effect::Mail(_))).count();
    }

    fn join_agent(&mut self, number: usize) -> Seat {
        let seat = self.coordinator.join(id(number), Who::Agent(AgentId(id(number))), Instant::now());
        self.coordinator.update(&seat, node(number)).unwrap();
        self.effects();
        seat
    }

    fn join_client(&mut self, number: usize) -> Seat {
        let seat = self.coordinator.join(id(AGENTS + number), Who::Client, Instant::now());
        for tunnel in 0..TUNNELS {
            self.coordinator.add_tunnel(&seat, id((number * 5 + tunnel) % AGENTS)).unwrap();
        }
        self.coordinator.update(&seat, node(AGENTS + number)).unwrap();
        self.effects();
        seat
    }

    /// All join, agents and clients mixed.
    fn join_all(&mut self) {
        (self.agents, self.clients) = (Vec::new(), Vec::new());
        for number in 0..CLIENTS {
            for agent in 0..AGENTS / CLIENTS {
                let seat = self.join_agent(number * AGENTS / CLIENTS + agent);
                self.agents.push(seat);
            }
            let seat = self.join_client(number);
            self.clients.push(seat);
        }
    }

    fn read(&mut self) {
        for seat in self.agents.iter().chain(&self.clients) {
            for message in self.coordinator.take(seat) {
                self.messages += 1;
                self.updates += message.peer_updates.len();
            }
        }
    }

    /// What was counted since the last time: letters, messages, updates.
    fn counted(&mut self) -> (usize, usize, usize) {
        let counted = (self.letters, self.messages, self.updates);
        (self.letters, self.messages, self.updates) = (0, 0, 0);
        counted
    }
}

const ALL: usize = AGENTS + CLIENTS;
/// Both ends of each tunnel are told of the other.
const ENDS: usize = 2 * CLIENTS * TUNNELS;

#[test]
fn a_crowd_that_joins_costs_an_update_per_end_of_a_tunnel() {
    let mut crowd = Crowd::new();
    crowd.read();
    assert_eq!(crowd.counted(), (ALL, ALL, ENDS));
}

#[test]
fn a_crowd_that_breaks_and_comes_back_at_once_is_told_each_node_once() {
    let mut crowd = Crowd::new();
    crowd.read();
    crowd.counted();
    let now = Instant::now();
    for seat in crowd.clients.clone().iter().chain(&crowd.agents.clone()) {
        crowd.coordinator.lose(seat, now);
        crowd.effects();
    }
    assert_eq!(crowd.coordinator.counts().lost, ALL);
    crowd.counted();
    crowd.join_all();
    crowd.read();
    assert_eq!(crowd.counted(), (ALL, ALL, ENDS));
    assert_eq!(crowd.coordinator.counts(), Counts { agents: AGENTS, clients: CLIENTS, lost: 0, tunnels: ENDS / 2 });
}

#[test]
fn a_crowd_of_newer_streams_is_unseen_by_others() {
    let mut crowd = Crowd::new();
    crowd.read();
    crowd.counted();
    // All clients come again before their older streams have ended.
    for number in 0..CLIENTS {
        crowd.clients[number] = crowd.join_client(number);
    }
    crowd.read();
    assert_eq!(crowd.counted(), (CLIENTS, CLIENTS, ENDS / 2), "they are told, and no agent is");
}

#[test]
fn agents_that_flap_cost_their_partners_one_update() {
    let mut crowd = Crowd::new();
    crowd.read();
    crowd.counted();
    let now = Instant::now();
    for _ in 0..20 {
        for number in 0..AGENTS {
            let seat = crowd.agents[number].clone();
            crowd.coordinator.lose(&seat, now);
            crowd.agents[number] = crowd.join_agent(number);
        }
    }
    // One letter for each client, one for each of the streams of an agent.
    crowd.read();
    assert_eq!(crowd.counted(), (CLIENTS + 20 * AGENTS, ALL, ENDS));
}

#[test]
fn who_does_not_read_holds_no_more_than_its_tunnels() {
    let mut crowd = Crowd::new();
    crowd.read();
    // One agent stops reading while clients come and go, each with a peer id of its own.
    let now = Instant::now();
    for number in 0..5_000 {
        let client = crowd.coordinator.join(Uuid::from_u128(0x10_0000 + number), Who::Client, Instant::now());
        crowd.coordinator.add_tunnel(&client, id(0)).unwrap();
        crowd.coordinator.update(&client, node(7)).unwrap();
        match number % 2 {
            0 => crowd.coordinator.disconnect(&client),
            _ => crowd.coordinator.remove_tunnel(&client, id(0)),
        }
        crowd.coordinator.lose(&client, now);
    }
    let tunnels = crowd.coordinator.partners(id(0)).len();
    let open = crowd.coordinator.peers[&id(0)].seat.as_ref().unwrap();
    assert_eq!(open.inbox.subjects().len(), tunnels);
    crowd.counted();
    let agent = crowd.agents[0].clone();
    assert_eq!(crowd.coordinator.take(&agent), [], "nothing of that is news");
    crowd.coordinator.expire(now + LOST_KEPT);
    assert_eq!(crowd.coordinator.counts().lost, 0);
}
