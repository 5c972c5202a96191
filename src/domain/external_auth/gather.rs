//! What several providers say, asked at the same time, each on its own threads: none waits for another.

use std::sync::{Arc, Mutex, PoisonError};

use moorline_plugin::schema::Provider;

use super::{Error, Shared, Standing, guess, look, providers, shown, store};
use crate::config::providers::ProviderConfig;
use crate::model::UserId;
use crate::store::external_auth::Link;

type Then<T> = Box<dyn FnOnce(Vec<Option<T>>) + Send>;

/// Parts to come; when the last hand that could give one is gone, `then` gets what there is.
struct Parts<T> {
    got: Vec<Option<T>>,
    then: Option<Then<T>>,
}

impl<T> Drop for Parts<T> {
    fn drop(&mut self) {
        if let Some(then) = self.then.take() {
            then(std::mem::take(&mut self.got));
        }
    }
}

/// The hand that gives part `index`.
struct Hand<T> {
    index: usize,
    parts: Arc<Mutex<Parts<T>>>,
}

impl<T> Hand<T> {
    fn give(self, part: T) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = parts.got.get_mut(self.index) {
            *place = Some(part);
        }
    }
}

/// Has `ask` done for each provider on one of its threads; `then` comes after the last.
fn ask_each<T: Send + 'static>(
    app: &Shared,
    providers: &[Arc<ProviderConfig>],
    ask: impl Fn(&Shared, &Arc<ProviderConfig>, Hand<T>) + Clone + Send + 'static,
    then: impl FnOnce(Vec<Option<T>>) + Send + 'static,
) {
    let got = providers.iter().map(|_| None).collect();
    let parts = Arc::new(Mutex::new(Parts { got, then: Some(Box::new(then)) }));
    for (index, provider) in providers.iter().enumerate() {
        let hand = Hand { index, parts: Arc::clone(&parts) };
        let (app_there, there, ask) = (app.clone(), Arc::clone(provider), ask.clone());
        if app.plugins.submit(provider, move || ask(&app_there, &there, hand)).is_err() {
            log::warn!("provider {} has as many calls waiting as it may have", provider.id);
        }
    }
    // Held until here, so that nothing comes after the last before all were asked.
    drop(parts);
}

/// Has plugins say what they serve, so that [`super::choose`] knows.
pub fn describe_all(app: &Shared, providers: &[Arc<ProviderConfig>], then: impl FnOnce() + Send + 'static) {
    let ask = |app: &Shared, provider: &Arc<ProviderConfig>, hand: Hand<()>| {
        shown(app, provider);
        hand.give(());
    };
    ask_each(app, providers, ask, move |_| then());
}

/// All providers, and all links of a person.
pub struct Overview {
    /// In the order of the configuration.
    pub providers: Vec<(Arc<ProviderConfig>, Provider)>,
    /// With what was found out; `None`: the provider is not configured any more.
    pub links: Vec<(Link, Option<Result<Standing, Error>>)>,
}

/// Looks at all of it; `then` is told on a thread that may wait.
pub fn overview(app: &Shared, user: UserId, then: impl FnOnce(Result<Overview, Error>) + Send + 'static) {
    let links = match app.store.read(|conn| store::of_user(conn, user).map_err(Error::from)) {
        Ok(links) => links,
        Err(error) => return then(Err(error)),
    };
    let providers = providers(app);
    let linked: Vec<String> = links.iter().map(|link| link.provider.clone()).collect();
    let ask = move |app: &Shared, provider: &Arc<ProviderConfig>, hand: Hand<(Provider, Option<_>)>| {
        let shown = shown(app, provider);
        if linked.contains(&provider.id) {
            look(app, provider, user, move |standing| hand.give((shown, Some(standing))));
        } else {
            hand.give((shown, None));
        }
    };
    let all = providers.clone();
    ask_each(app, &providers, ask, move |parts| {
        let mut found: Vec<(Arc<ProviderConfig>, Provider)> = Vec::with_capacity(all.len());
        let mut standings = Vec::new();
        for (provider, part) in all.into_iter().zip(parts) {
            let (shown, standing) = part.unwrap_or_else(|| (guess(&provider), None));
            if let Some(standing) = standing {
                standings.push((provider.id.clone(), standing));
            }
            found.push((provider, shown));
        }
        let with_standing = |link: Link| {
            let at = standings.iter().position(|(id, _)| *id == link.provider);
            let standing = at.map(|at| standings.swap_remove(at).1);
            (link, standing)
        };
        let links = links.into_iter().map(with_standing).collect();
        then(Ok(Overview { providers: found, links }));
    });
}
