//! Watches: what the cluster holds of some kinds, kept in memory and current.
//!
//! A watch that is lost keeps what it read last, and says since when. It is read anew as a whole when the API server answers again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt as _};
use promotion_gate_core::gate::Labels;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;

/// How long one request of a watch lasts, in seconds. A connection that died without a word is noticed a little later.
const WATCH_SECONDS: u32 = 60;
/// The first wait after a failure, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// How many of the first lists are read at once.
const LISTS_AT_ONCE: usize = 3;
/// How long a list waits for its turn, and a watch for the lists of others. What gets no answer holds up the others no longer than that.
const FIRST_LISTS: Duration = Duration::from_secs(1);

type NamespaceMetadata = PartialObjectMeta<Namespace>;

/// What is known of one kind.
#[derive(Clone, Debug)]
pub struct View<T> {
    /// The objects by name, as they were read last.
    pub objects: Arc<BTreeMap<String, T>>,
    /// Grows with each change.
    pub revision: u64,
    /// Whether they were read at least once.
    pub is_read: bool,
    /// Whether there are more than are kept.
    pub is_partial: bool,
    /// Why they are not current, if that is so.
    pub lost: Option<Lost>,
}

/// Why what was read is not current.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Since when.
    pub since: Instant,
    /// Why.
    pub why: String,
}

/// A kind that is watched.
#[derive(Debug)]
pub struct Watched<T> {
    view: Mutex<View<T>>,
    /// The most objects.
    most: usize,
    changed: Arc<Notify>,
}

/// The first lists of several watches, which share a few connections. A watch keeps the connection of its list, so that the next list
/// opens another one; at the start, these handshakes take longer than the lists. So watches go on when everything is read.
#[derive(Debug)]
pub struct FirstLists {
    places: Semaphore,
    are_read: watch::Sender<bool>,
}

impl Default for FirstLists {
    fn default() -> FirstLists {
        FirstLists {
            places: Semaphore::new(LISTS_AT_ONCE),
            are_read: watch::Sender::new(false),
        }
    }
}

impl FirstLists {
    /// Everything is read: the watches go on.
    pub fn are_read(&self) {
        self.are_read.send_replace(true);
    }

    /// Waits until a list may be read.
    async fn turn(&self) -> Turn<'_> {
        let place = timeout(FIRST_LISTS, self.places.acquire()).await;
        Turn {
            lists: self,
            place: place.ok().and_then(Result::ok),
        }
    }
}

/// The turn of one list.
struct Turn<'l> {
    lists: &'l FirstLists,
    /// `None` where no other list was done in time.
    place: Option<SemaphorePermit<'l>>,
}

impl Turn<'_> {
    /// The list was read: waits until the watch may go on.
    async fn end(self) {
        drop(self.place);
        let mut are_read = self.lists.are_read.subscribe();
        let _ = timeout(FIRST_LISTS, are_read.wait_for(|are_read| *are_read)).await;
    }
}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNamespace {
    /// Tells it from an earlier one of the same name.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
}

impl<T: Clone + PartialEq> Watched<T> {
    /// Nothing is read yet.
    pub fn new(most: usize, changed: Arc<Notify>) -> Watched<T> {
        let view = View {
            objects: Arc::default(),
            revision: 0,
            is_read: false,
            is_partial: false,
            lost: None,
        };
        Watched {
            view: Mutex::new(view),
            most,
            changed,
        }
    }

    /// What is known now.
    pub fn view(&self) -> View<T> {
        self.lock().clone()
    }

    /// Adds an object that was read before the watch knew it.
    pub fn learn(&self, name: String, object: T) {
        let mut view = self.lock();
        if !view.objects.contains_key(&name) && view.objects.len() < self.most {
            Arc::make_mut(&mut view.objects).insert(name, object);
            view.revision += 1;
            drop(view);
            self.changed.notify_one();
        }
    }

    /// Follows a stream of events for ever; `start` begins it anew.
    async fn follow<K, S>(
        &self,
        first: &FirstLists,
        start: impl Fn() -> S,
        keep: impl Fn(K) -> (String, T),
    ) where
        S: Stream<Item = watcher::Result<Event<K>>>,
        K: Debug,
    {
        let mut wait = WAITS.0;
        let mut turn = Some(first.turn().await);
        loop {
            let mut events = pin!(start());
            let (mut listed, mut is_partial) = (BTreeMap::new(), false);
            let failed = loop {
                match events.next().await {
                    Some(Ok(Event::Init)) => (listed, is_partial) = (BTreeMap::new(), false),
                    Some(Ok(Event::InitApply(object))) => match listed.len() < self.most {
                        true => listed.extend([keep(object)]),
                        false => is_partial = true,
                    },
                    Some(Ok(Event::InitDone)) => {
                        wait = WAITS.0;
                        self.replace(std::mem::take(&mut listed), is_partial);
                        if let Some(turn) = turn.take() {
                            turn.end().await;
                        }
                    }
                    Some(Ok(Event::Apply(object))) => {
                        let (name, object) = keep(object);
                        self.change(name, Some(object));
                    }
                    Some(Ok(Event::Delete(object))) => {
                        self.change(keep(object).0, None);
                        if self.lock().is_partial {
                            // There may be room for one that was left out.
                            break None;
                        }
                    }
                    Some(Err(error)) => break Some(explain(&error)),
                    None => break Some("the watch ended".to_owned()),
                }
            };
            match failed {
                Some(why) => self.lose(why),
                None => wait = WAITS.1,
            }
            // Another list may be read meanwhile.
            drop(turn.take());
            sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// The most objects that are kept.
    pub fn most(&self) -> usize {
        self.most
    }

    fn replace(&self, listed: BTreeMap<String, T>, is_partial: bool) {
        let mut view = self.lock();
        if *view.objects != listed || !view.is_read {
            view.objects = Arc::new(listed);
            view.revision += 1;
        }
        (view.is_read, view.is_partial, view.lost) = (true, is_partial, None);
        drop(view);
        self.changed.notify_one();
    }

    /// Takes over one change, as far as there is room.
    fn change(&self, name: String, object: Option<T>) {
        let mut view = self.lock();
        if view.objects.get(&name) == object.as_ref() {
            return;
        }
        if view.objects.len() >= self.most && !view.objects.contains_key(&name) {
            view.is_partial = true;
            drop(view);
            self.changed.notify_one();
            return;
        }
        let objects = Arc::make_mut(&mut view.objects);
        match object {
            Some(object) => objects.insert(name, object),
            None => objects.remove(&name),
        };
        view.revision += 1;
        drop(view);
        self.changed.notify_one();
    }

    fn lose(&self, why: String) {
        let mut view = self.lock();
        let since = view
            .lost
            .as_ref()
            .map_or_else(Instant::now, |lost| lost.since);
        view.lost = Some(Lost { since, why });
        drop(view);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, View<T>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Watches the objects of a kind for ever; its first list is one of `first`.
    pub(crate) async fn watch<T: Clone + PartialEq>(
        &self,
        resource: &ApiResource,
        watched: &Watched<T>,
        first: &FirstLists,
        keep: impl Fn(DynamicObject) -> T,
    ) {
        let api: Api<DynamicObject> = Api::all_with(self.client(), resource);
        let start = || watcher(api.clone(), configuration());
        let keep = |object: DynamicObject| (object.name_any(), keep(object));
        watched.follow(first, start, keep).await;
    }

    /// Watches the namespaces for ever, without their content; their first list is one of `first`.
    pub(crate) async fn watch_namespaces(
        &self,
        watched: &Watched<KnownNamespace>,
        first: &FirstLists,
    ) {
        let api: Api<NamespaceMetadata> = Api::all(self.client());
        let start = || watcher(api.clone(), configuration());
        let keep = |namespace: NamespaceMetadata| (namespace.name_any(), known(namespace));
        watched.follow(first, start, keep).await;
    }

    /// Tells of each change of one object for ever, of its deletion too. A watch that is lost begins anew.
    pub(crate) async fn notify_changes<K>(
        &self,
        api: Api<K>,
        name: &str,
        changed: &Notify,
    ) -> Infallible
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let configuration = configuration().fields(&format!("metadata.name={name}"));
        let mut wait = WAITS.0;
        let mut said = String::new();
        loop {
            let mut events = pin!(watcher(api.clone(), configuration.clone()));
            let failed = loop {
                match events.next().await {
                    Some(Ok(Event::Init | Event::InitApply(_))) => {}
                    Some(Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) => {
                        (wait, said) = (WAITS.0, String::new());
                        changed.notify_one();
                    }
                    Some(Err(error)) => break cause_of(&error),
                    None => break "the watch ended".to_owned(),
                }
            };
            if failed != said {
                tracing::warn!(name, why = failed, "an object cannot be watched");
                said = failed;
            }
            sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// Reads one namespace. `None` if it does not exist.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn namespace_named(&self, name: &str) -> kube::Result<Option<KnownNamespace>> {
        let api: Api<NamespaceMetadata> = Api::all(self.client());
        Ok(api.get_opt(name).await?.map(known))
    }
}

fn known(mut namespace: NamespaceMetadata) -> KnownNamespace {
    KnownNamespace {
        uid: namespace.uid().unwrap_or_default(),
        labels: std::mem::take(namespace.labels_mut()),
    }
}

fn configuration() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Why a watch of one of our kinds failed, with the remedy where it is known.
fn explain(error: &watcher::Error) -> String {
    source(error).map_or_else(|| error.to_string(), super::explain)
}

fn cause_of(error: &watcher::Error) -> String {
    source(error).map_or_else(|| error.to_string(), super::cause)
}

fn source(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    type Happened = watcher::Result<Event<&'static str>>;

    async fn followed(watched: &Watched<()>, lists: &[&[Happened]]) {
        let lists = Mutex::new(lists.iter());
        let start = || {
            let next = lists.lock().unwrap().next();
            let events = next.into_iter().flat_map(|list| list.iter());
            let events: Vec<Happened> = events
                .map(|event| Ok(event.as_ref().unwrap().clone()))
                .collect();
            stream::iter(events).chain(stream::pending())
        };
        let first = FirstLists::default();
        let follow = watched.follow(&first, start, |name: &str| (name.to_owned(), ()));
        // What was sent is taken in long before.
        let _ = tokio::time::timeout(Duration::from_secs(60), follow).await;
    }

    fn listed(names: &[&'static str]) -> Vec<Happened> {
        let names = names.iter().map(|name| Event::InitApply(*name));
        let events = [Event::Init].into_iter().chain(names);
        events.chain([Event::InitDone]).map(Ok).collect()
    }

    fn names(watched: &Watched<()>) -> Vec<String> {
        watched.view().objects.keys().cloned().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn of_more_objects_than_are_kept_the_first_ones_are_read_and_the_rest_is_told() {
        let watched = Watched::new(2, Arc::default());
        followed(&watched, &[&listed(&["a", "b", "c"])]).await;
        let view = watched.view();
        assert!(view.is_read && view.is_partial && view.lost.is_none());
        assert_eq!(names(&watched), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_replica_leaves_out_one_that_is_too_many_and_reads_it_when_there_is_room() {
        let watched = Watched::new(2, Arc::default());
        let mut full = listed(&["a", "b"]);
        full.push(Ok(Event::Apply("c")));
        followed(&watched, &[&full]).await;
        assert!(watched.view().is_partial && watched.view().lost.is_none());
        assert_eq!(names(&watched), ["a", "b"]);
        full.push(Ok(Event::Delete("a")));
        followed(&watched, &[&full, &listed(&["b", "c"])]).await;
        assert!(!watched.view().is_partial);
        assert_eq!(names(&watched), ["b", "c"]);
    }

    /// What a watch knows after a time, where everything is read after another one: `a` is in its list, and `b` comes later.
    async fn known_after(within: Duration, all_read_after: Duration) -> Vec<String> {
        let watched = Watched::new(2, Arc::default());
        let first = FirstLists::default();
        let mut events = listed(&["a"]);
        events.push(Ok(Event::Apply("b")));
        let events = Mutex::new(Some(events));
        let start = || {
            let events = events.lock().unwrap().take().unwrap_or_default();
            stream::iter(events).chain(stream::pending())
        };
        let read = async {
            sleep(all_read_after).await;
            first.are_read();
        };
        let follow = watched.follow(&first, start, |name: &str| (name.to_owned(), ()));
        let _ = timeout(within, async { tokio::join!(follow, read) }).await;
        names(&watched)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_goes_on_once_everything_is_read() {
        let after = Duration::from_millis;
        assert_eq!(known_after(after(200), after(300)).await, ["a"]);
        assert_eq!(known_after(after(400), after(300)).await, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_list_that_fails_is_read_again_without_waiting_for_others() {
        let watched = Watched::new(2, Arc::default());
        let first = FirstLists::default();
        let lists = Mutex::new([vec![], listed(&["a"])].into_iter());
        let start = || {
            let next = lists.lock().unwrap().next();
            stream::iter(next.unwrap_or_default())
        };
        let follow = watched.follow(&first, start, |name: &str| (name.to_owned(), ()));
        let soon = WAITS.0 + Duration::from_millis(100);
        let _ = timeout(soon, follow).await;
        assert_eq!(names(&watched), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_no_answer_holds_up_a_watch_for_a_second_at_most() {
        let (never, after) = (Duration::from_secs(3600), Duration::from_millis);
        assert_eq!(known_after(after(900), never).await, ["a"]);
        assert_eq!(known_after(after(1_100), never).await, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_first_lists_are_read_at_once_and_none_waits_for_ever() {
        let first = FirstLists::default();
        let turns: Vec<_> = stream::iter(0..LISTS_AT_ONCE)
            .then(|_| first.turn())
            .collect()
            .await;
        let began = Instant::now();
        let late = first.turn().await;
        assert_eq!((began.elapsed(), late.place.is_none()), (FIRST_LISTS, true));
        drop(turns);
        assert!(first.turn().await.place.is_some());
    }
}
