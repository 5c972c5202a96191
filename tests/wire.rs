//! The codecs of `moorline::wire`.

mod proto;
