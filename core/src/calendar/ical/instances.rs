//! The `VEVENT`s with one `UID`: which description of an event counts, and which instances are described on their own.

use std::collections::{HashMap, HashSet};

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};

use super::super::{CalendarEvent, Exclusion, Series, Zone};
use super::event::{Content, Event, Heading, Instance, Times, exclusions};
use super::value::Moment;
use super::{CalendarProblem, Entry, limit};

/// The events of a file, in its order.
pub(super) fn by_uid(events: Vec<Event>, floating: &Zone) -> Vec<Entry> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for event in events {
        let next = groups.len();
        // Events without an identifier have nothing to do with each other.
        let at = match event.heading.uid.as_str() {
            "" => next,
            uid => *known.entry(uid.to_owned()).or_insert(next),
        };
        if at == next {
            groups.push(Group::default());
        }
        if let Some(group) = groups.get_mut(at) {
            group.add(event);
        }
    }
    let mut repetitions = 0;
    let events = groups.into_iter();
    events
        .flat_map(|group| group.events(floating, &mut repetitions))
        .collect()
}

#[derive(Default)]
struct Group {
    /// The descriptions of the event as a whole.
    whole: Vec<Described>,
    /// The descriptions of each of its instances.
    instances: Vec<Vec<Described>>,
    /// Where in `instances` those of an instance are.
    known: HashMap<(Key, bool), usize>,
    /// What is known of those that cannot be read.
    unreadable: Vec<Entry>,
}

struct Described {
    heading: Heading,
    content: Content,
}

/// What an instance is recognised by, however its time is written.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Instant(Timestamp),
    Date(jiff::civil::Date),
    Local(jiff::civil::DateTime),
}

impl Key {
    fn of(moment: &Moment) -> Key {
        match moment {
            Moment::Date(date) => Key::Date(*date),
            Moment::Local(local) => Key::Local(*local),
            Moment::Zoned(local, zone) => Key::Instant(zone.first(*local)),
        }
    }
}

impl Group {
    fn add(&mut self, event: Event) {
        let Event {
            heading,
            is_unclear,
            content,
        } = event;
        let content = match content {
            Ok(content) => content,
            Err(problem) => {
                let entry = Entry {
                    is_unclear,
                    ..entry(heading, Err(problem))
                };
                return self.unreadable.push(entry);
            }
        };
        let instance = content.instance.as_ref();
        let key = instance.map(|instance| (Key::of(&instance.moment), instance.and_future));
        let described = Described { heading, content };
        let Some(key) = key else {
            return self.whole.push(described);
        };
        let next = self.instances.len();
        let at = *self.known.entry(key).or_insert(next);
        match self.instances.get_mut(at) {
            Some(same) => same.push(described),
            None => self.instances.push(vec![described]),
        }
    }

    fn events(self, floating: &Zone, repetitions: &mut usize) -> Vec<Entry> {
        let whole = newest(self.whole);
        let cancelled = whole.iter().filter(|whole| whole.content.times.is_none());
        let cancelled = cancelled.map(|whole| whole.content.version.sequence).max();
        let mut instances: Vec<_> = self.instances.into_iter().flat_map(newest).collect();
        // An event that is cancelled takes its older instances with it.
        instances.retain(|instance| Some(instance.content.version.sequence) >= cancelled);
        if let [event] = whole.as_slice() {
            remove_left_out(&mut instances, &event.content, floating);
        }
        let mut unreadable = self.unreadable;
        if let Some(event) = whole.first() {
            // Not all makers repeat what an event is about for each of its instances.
            for instance in &mut instances {
                let Heading {
                    summary,
                    categories,
                    ..
                } = &mut instance.heading;
                inherit(summary, categories, &event.heading);
            }
            for entry in &mut unreadable {
                let CalendarEvent {
                    summary,
                    categories,
                    ..
                } = &mut entry.event;
                inherit(summary, categories, &event.heading);
            }
        }
        let mut all: Vec<(Heading, Series)> = Vec::new();
        match whole.as_slice() {
            [event] => match with_instances(event, &instances, floating) {
                Ok(series) => all.extend(series),
                Err(problem) => unreadable.push(entry(event.heading.clone(), Err(problem))),
            },
            // Which of them an instance belongs to is not clear, so none loses it.
            several => all.extend(several.iter().filter_map(|event| event.alone(floating))),
        }
        // Some makers repeat the rules of an event for each of its instances.
        let is_known = !whole.is_empty();
        all.extend(instances.into_iter().filter_map(|instance| {
            let Instance { and_future, .. } = instance.content.instance.as_ref()?;
            let times = instance.content.times.as_ref()?;
            let series = match is_known && !and_future {
                true => times.once(floating),
                false => times.series(floating),
            };
            Some((instance.heading, series))
        }));
        let mut events: Vec<Entry> = Vec::new();
        let mut known: HashMap<Heading, usize> = HashMap::new();
        for (heading, series) in all {
            let more = series.rules.len() + series.dates.len() + series.except.len();
            *repetitions += more;
            if more > 0 && *repetitions > limit::REPETITIONS {
                let most = limit::REPETITIONS;
                let why = format!(
                    "the events have more than {most} rules and dates; export a shorter period"
                );
                unreadable.push(entry(heading, Err(CalendarProblem::new(1, why))));
                continue;
            }
            match known.get(&heading).and_then(|at| events.get_mut(*at)) {
                Some(entry) => entry.event.series.push(series),
                None => {
                    known.insert(heading.clone(), events.len());
                    events.push(entry(heading, Ok(series)));
                }
            }
        }
        events.append(&mut unreadable);
        events
    }
}

/// Removes the instances that a newer description of the event leaves out.
fn remove_left_out(instances: &mut Vec<Described>, event: &Content, floating: &Zone) {
    let Some(times) = &event.times else {
        return;
    };
    let left_out: HashSet<&Exclusion> = times.except.iter().collect();
    instances.retain(|described| {
        let instance = described.content.instance.as_ref();
        let of_instance = instance.map(|instance| {
            let Instance { moment, .. } = instance;
            exclusions(moment, &times.start, floating)
        });
        let mut of_instance = of_instance.into_iter().flatten();
        described.content.version.sequence >= event.version.sequence
            || !of_instance.any(|exclusion| left_out.contains(&exclusion))
    });
}

fn entry(heading: Heading, series: Result<Series, CalendarProblem>) -> Entry {
    let (series, problem) = match series {
        Ok(series) => (vec![series], None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    let event = CalendarEvent {
        uid: heading.uid,
        summary: heading.summary,
        categories: heading.categories,
        is_tentative: heading.is_tentative,
        series,
    };
    Entry {
        event,
        problem,
        is_unclear: false,
    }
}

fn inherit(summary: &mut String, categories: &mut Vec<String>, event: &Heading) {
    if summary.is_empty() {
        summary.clone_from(&event.summary);
    }
    if categories.is_empty() {
        categories.clone_from(&event.categories);
    }
}

impl Described {
    fn alone(&self, floating: &Zone) -> Option<(Heading, Series)> {
        let times = self.content.times.as_ref()?;
        Some((self.heading.clone(), times.series(floating)))
    }
}

/// The newest of descriptions of one thing. All that are equally new, but cancelled ones only if there is no other.
fn newest(mut descriptions: Vec<Described>) -> Vec<Described> {
    let newest = descriptions
        .iter()
        .map(|described| described.content.version)
        .max();
    descriptions.retain(|described| Some(described.content.version) == newest);
    if descriptions
        .iter()
        .any(|described| described.content.times.is_some())
    {
        descriptions.retain(|described| described.content.times.is_some());
    }
    descriptions
}

/// The series of an event without the instances that are described on their own, and with the changes of all later instances.
fn with_instances(
    event: &Described,
    instances: &[Described],
    floating: &Zone,
) -> Result<Vec<(Heading, Series)>, CalendarProblem> {
    let Some(times) = &event.content.times else {
        return Ok(Vec::new());
    };
    let mut series = times.series(floating);
    // The instants from which on the event is another one.
    let mut changes = vec![(Timestamp::MIN, event, SignedDuration::ZERO)];
    for described in instances {
        let Some(Instance { moment, and_future }) = &described.content.instance else {
            continue;
        };
        match and_future {
            false => series
                .except
                .extend(exclusions(moment, &times.start, floating)),
            true => {
                let (at, shift) = change(moment, described, times, &series.zone);
                changes.push((at, described, shift));
            }
        }
        if changes.len() > limit::CHANGES {
            let most = limit::CHANGES;
            let why =
                format!("the event changes `RANGE=THISANDFUTURE` more than {most} times; split it");
            return Err(CalendarProblem::new(described.content.line, why));
        }
    }
    changes.sort_by_key(|(at, _, _)| *at);
    let ends = changes
        .iter()
        .skip(1)
        .map(|(at, _, _)| Some(*at))
        .chain([None]);
    let parts = changes
        .iter()
        .zip(ends)
        .filter_map(|((at, described, shift), end)| {
            let times = described.content.times.as_ref()?;
            let from = (*at > Timestamp::MIN).then_some(*at);
            let mut part = part(&series, from, end);
            part.length = times.length;
            part.shift = *shift;
            Some((described.heading.clone(), part))
        });
    Ok(parts.collect())
}

/// When a change of this and all later instances begins, and by how much it moves them.
fn change(
    moment: &Moment,
    described: &Described,
    of: &Times,
    zone: &Zone,
) -> (Timestamp, SignedDuration) {
    let before = match exclusions(moment, &of.start, zone).first() {
        Some(Exclusion::Date(date)) => date.to_datetime(Time::midnight()),
        _ => moment.local_in(zone),
    };
    let after = described
        .content
        .times
        .as_ref()
        .map(|times| times.start.local_in(zone));
    let shift = after.map_or(SignedDuration::ZERO, |after| after.duration_since(before));
    (zone.first(before), shift)
}

/// The part of a series between two instants, with no more dates than can matter in it.
fn part(series: &Series, from: Option<Timestamp>, before: Option<Timestamp>) -> Series {
    let margin = SignedDuration::from_hours(48);
    let (least, most) = (
        from.map(|from| from.saturating_sub(margin).unwrap_or(Timestamp::MIN)),
        before.map(|before| before.saturating_add(margin).unwrap_or(Timestamp::MAX)),
    );
    let matters =
        |at: Timestamp| least.is_none_or(|least| least <= at) && most.is_none_or(|most| at <= most);
    let dates = series
        .dates
        .iter()
        .filter(|(start, _)| matters(series.zone.first(*start)));
    let except = series.except.iter().filter(|exclusion| match exclusion {
        Exclusion::Instant(at) => matters(*at),
        Exclusion::Date(date) => matters(series.zone.first(date.to_datetime(Time::midnight()))),
    });
    Series {
        zone: series.zone.clone(),
        start: series.start,
        includes_start: series.includes_start,
        length: series.length,
        rules: series.rules.clone(),
        dates: dates.copied().collect(),
        except: except.copied().collect(),
        from,
        before,
        shift: series.shift,
    }
}
