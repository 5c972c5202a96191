//! Every provider's ways, replayed: `recordings/*.json`.

use moorline_plugin::plugin::OfExternalAuth;
use moorline_plugin::testing::{Recording, play};

use super::OAuth;

macro_rules! recordings {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let text = include_str!(concat!("../recordings/", stringify!($name), ".json"));
                let recording = Recording::parse(text).expect("a recording");
                let wrong = play::<OfExternalAuth<OAuth>>(&recording);
                assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            }
        )*
    };
}

recordings! { defaults github gitlab gitea bitbucket azure others device faults }
