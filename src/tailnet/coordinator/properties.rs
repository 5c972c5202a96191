//! Any order of joins, leaves, updates, tunnels and reads, against the model.

use proptest::prelude::*;

use super::model::{AGENTS, Op, PEERS, World};

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let peer = || 0..PEERS;
    // Nothing else is let through by admission and by the rules of who may reach whom.
    let tunnel = || (AGENTS..PEERS, 0..AGENTS);
    let op = prop_oneof![
        4 => peer().prop_map(Op::Join),
        6 => (peer(), 1..4_i32).prop_map(|(peer, version)| Op::Update(peer, version)),
        6 => tunnel().prop_map(|(from, to)| Op::Add(from, to)),
        2 => tunnel().prop_map(|(from, to)| Op::Remove(from, to)),
        2 => (peer(), peer()).prop_map(|(from, to)| Op::Ready(from, to)),
        1 => peer().prop_map(Op::Disconnect),
        2 => peer().prop_map(Op::Lose),
        1 => peer().prop_map(Op::Drop),
        5 => peer().prop_map(Op::Take),
        1 => peer().prop_map(Op::Stale),
        1 => prop_oneof![5..60_u64, 60..1_200_u64].prop_map(Op::Seconds),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn tells_what_the_real_server_tells_and_no_more(ops in ops()) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.finish();
    }
}
