//! BatchUpdateMetadata: what the metadata scripts gave.
//!
//! Agents send a value each time its script has run, changed or not. A value or error that differs
//! from the stored one is written before the answer. One that is the same only moves the instant of
//! its collection, and that is kept in memory (`domain::presence`), shown to watchers, and written
//! when the agent's connection ends: repeated values cost no disk. After a crash the values are as
//! acknowledged, their instants those of the last change; the agent collects all of them anew as soon
//! as it is back.

use super::{DROPPED, Reply, Session, cut, decode, write_report};
use crate::config::limits::{METADATA_KEYS_BYTES, METADATA_VALUE_BYTES};
use crate::domain::Error;
use crate::model::Timestamp;
use crate::ops::hub::Topic;
use crate::store::metadata;
use crate::wire::proto::agent::{BatchUpdateMetadataRequest, BatchUpdateMetadataResponse, Metadata};

struct Value {
    key: String,
    value: String,
    error: String,
}

/// Stores what changed and notes what was collected again. An error here, the key limit of the real
/// server included, would end the agent's session again and again (agent/agent.go reportMetadata, v2.24.0).
pub(super) fn update(session: &Session, body: &[u8], reply: Reply) {
    let request: BatchUpdateMetadataRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let (id, app) = (session.agent, &session.app);
    let stored = match app.store.read(|conn| Ok::<_, Error>(metadata::of_agent(conn, id)?)) {
        Ok(stored) => stored,
        Err(error) => return reply(Err(error)),
    };
    let now = Timestamp::now();
    let (mut changed, mut repeated) = (Vec::new(), false);
    for value in bounded(request.metadata) {
        let Some(stored) = stored.iter().find(|stored| stored.key == value.key) else { continue };
        if stored.collected_at.is_some() && stored.value == value.value && stored.error == value.error {
            app.presence.collected(id, &value.key, now);
            repeated = true;
        } else {
            changed.push(value);
        }
    }
    if changed.is_empty() {
        if repeated {
            app.hub.publish(Topic::AgentMetadata(id));
        }
        return reply(Ok(Vec::new()));
    }
    write_report(session, reply, DROPPED, move |write| {
        for Value { key, value, error } in changed {
            metadata::set_value(write, id, &key, &value, &error, now)?;
        }
        write.publish(Topic::AgentMetadata(id));
        Ok(BatchUpdateMetadataResponse {})
    });
}

/// The updates within the limits; the last of several for one key counts.
fn bounded(updates: Vec<Metadata>) -> Vec<Value> {
    let mut room = METADATA_KEYS_BYTES;
    let mut values: Vec<Value> = Vec::new();
    for update in updates {
        let Some(rest) = room.checked_sub(update.key.len()) else { break };
        room = rest;
        let result = update.result.unwrap_or_default();
        let mut error = result.error;
        if error.len() > METADATA_VALUE_BYTES {
            error = format!("The error of {} bytes is longer than {METADATA_VALUE_BYTES} bytes.", error.len());
        }
        if result.value.len() > METADATA_VALUE_BYTES {
            error = format!("The value of {} bytes was cut to {METADATA_VALUE_BYTES} bytes.", result.value.len());
        }
        let value = Value { key: update.key, value: cut(result.value, METADATA_VALUE_BYTES), error };
        match values.iter_mut().find(|known| known.key == value.key) {
            Some(known) => *known = value,
            None => values.push(value),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::agent::workspace_agent_metadata;

    fn update(key: &str, value: &str, error: &str) -> Metadata {
        let result =
            workspace_agent_metadata::Result { value: value.into(), error: error.into(), ..Default::default() };
        Metadata { key: key.into(), result: Some(result) }
    }

    #[test]
    fn cuts_long_values_and_says_so() {
        let long = "ä".repeat(METADATA_VALUE_BYTES);
        let values = bounded(vec![update("a", &long, ""), update("b", "fine", &long)]);
        let found: Vec<_> = values.iter().map(|value| (value.value.len(), value.error.as_str())).collect();
        assert_eq!(
            found,
            [
                (2_048, "The value of 4096 bytes was cut to 2048 bytes."),
                (4, "The error of 4096 bytes is longer than 2048 bytes."),
            ]
        );
    }

    #[test]
    fn drops_what_goes_beyond_the_key_limit() {
        let key = "k".repeat(METADATA_KEYS_BYTES - 1);
        let values = bounded(vec![update(&key, "1", ""), update("b", "2", ""), update("c", "3", "")]);
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn takes_the_last_value_of_a_key() {
        let values = bounded(vec![update("a", "1", ""), update("a", "2", "")]);
        assert_eq!(values.iter().map(|value| value.value.as_str()).collect::<Vec<_>>(), ["2"]);
    }
}
