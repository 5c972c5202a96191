//! Who may see whom: the relay map and the nodes of agents. (The coordinator proper comes later.)

pub mod admission;
pub mod derp;
pub mod derp_map;
pub mod keys;
pub mod nodes;
