//! StreamDERPMaps: the relay map at once, and again whenever it has changed. Never ended by this side: its
//! end would end the client's session (tailnet/controllers.go, v2.24.0).

use std::sync::Arc;

use prost::Message;

use super::call::State;
use super::calls::Calls;
use crate::ops::hub::{Subscription, Topic};

impl Calls {
    pub(super) fn stream_maps(&mut self, id: u32) {
        if let (None, Some(address)) = (&self.maps, &self.address) {
            self.maps = Some(self.side.app().hub.subscribe(Topic::DerpMap, address.clone()));
        }
        let map = self.side.app().derp_map.now();
        let Some(call) = self.table.get_mut(&id) else { return };
        let bytes = call.message(&map.proto().encode_to_vec());
        call.state = State::Maps(map);
        self.mux.send(id, &bytes);
    }

    /// The map has changed.
    pub(super) fn map_changed(&mut self) {
        self.maps.iter().for_each(Subscription::acknowledge);
        self.push_maps();
    }

    /// Sends the map to every stream that has an older one and room for it.
    pub(super) fn push_maps(&mut self) {
        if self.maps.is_none() {
            return;
        }
        let map = self.side.app().derp_map.now();
        for (id, call) in &mut self.table {
            let State::Maps(last) = &call.state else { continue };
            if Arc::ptr_eq(last, &map) || self.mux.queued(*id) > 0 {
                continue;
            }
            if **last != *map {
                let bytes = call.message(&map.proto().encode_to_vec());
                self.mux.send(*id, &bytes);
            }
            call.state = State::Maps(Arc::clone(&map));
        }
    }
}
