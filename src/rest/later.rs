//! Answers that take a while: the worker goes on to the next request, the connection waits on its loop,
//! and whoever finds the answer gives it. The work is not bound to the client: when that goes away, the
//! work is done all the same, and only its answer is thrown away.

use super::envelope::Envelope;
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::config::limits;
use crate::config::providers::ProviderConfig;
use crate::domain::{Error, Fault};
use crate::streams::later::{self, Duty, Instead};

/// The duty to answer a request. Give it, or drop it, on a thread that may wait: dropped before
/// [`Promise::begin`], it refuses (503), and after that it has failed (500).
pub(super) struct Promise {
    envelope: Envelope,
    duty: Duty,
}

impl Promise {
    /// The work on the answer begins.
    pub(super) fn begin(&mut self) {
        self.duty.begin();
    }

    /// Answers.
    pub(super) fn give(self, outcome: Result<Reply, Error>) {
        self.duty.give(self.envelope.reply(outcome).encode(&self.envelope));
    }
}

/// Parks a request: what is returned goes to the edge, and the promise to whoever finds the answer.
pub(super) fn park(call: &Call<'_>) -> Result<(Reply, Promise), Error> {
    let Some(place) = call.service.parked.take((), limits::PARKED_ANSWERS) else {
        return Err(Error::new(Fault::Overloaded, "Too many requests wait for others at present. Try again soon."));
    };
    let envelope = Envelope::of(call).closing();
    let stopgap = {
        let envelope = envelope.clone();
        move |instead: Instead| {
            let sentence = match instead {
                Instead::Refused => "The server has more work of this kind than it can take. Try again soon.",
                Instead::Stopping => "The server is stopping. Try again soon.",
                Instead::Late => "The answer takes too long. Try again soon.",
                Instead::Failed => return envelope.failed().encode(&envelope),
            };
            envelope.reply(Err(Error::new(Fault::Overloaded, sentence))).encode(&envelope)
        }
    };
    let (stream, duty) = later::park(Box::new(stopgap), place);
    Ok((websocket::raw(call, 200, stream), Promise { envelope, duty }))
}

/// Answers with what `work` gives, which runs on one of the threads of `provider`.
pub(super) fn answer(
    call: &Call<'_>,
    provider: &ProviderConfig,
    work: impl FnOnce() -> Result<Reply, Error> + Send + 'static,
) -> Result<Reply, Error> {
    let (reply, mut promise) = park(call)?;
    let job = move || {
        promise.begin();
        promise.give(work());
    };
    if call.service.app.plugins.submit(provider, job).is_err() {
        log::warn!("provider {} has as many calls waiting as it may have", provider.id);
    }
    Ok(reply)
}
