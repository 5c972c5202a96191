//! The protobuf messages of the agent and tailnet services, and the names of their RPCs.
//!
//! `agent.proto` and `tailnet.proto` beside this file are the truth; the Rust next to them is
//! generated from them, committed, and compared by the test `proto_is_current`. Maps are ordered, so
//! that equal messages have equal bytes.

pub mod methods;

pub use packages::coder::agent::v2 as agent;
pub use packages::coder::tailnet::v2 as tailnet;
pub use packages::google::protobuf as google;

/// Modules nested as the protobuf packages are, because the generated code names other packages by
/// their relative paths.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, rustdoc::all)]
mod packages {
    pub mod coder {
        pub mod agent {
            pub mod v2 {
                include!("agent.rs");
            }
        }
        pub mod tailnet {
            pub mod v2 {
                include!("tailnet.rs");
            }
        }
    }
    pub mod google {
        pub mod protobuf {
            include!("google.rs");
        }
    }
}
