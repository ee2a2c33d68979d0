//! What is declared of the variables of an expression, and what the values of its parts can be because of it. A field that no value
//! ever has is a mistake, and `!has(…)` of it would always be true.

use crate::documents::nearest;

/// The most values, with those within them, that are told apart of one part. Of a larger one, nothing is known.
const MAXIMUM_SIZE: usize = 200;
/// The most fields that a message lists.
const MAXIMUM_LISTED: usize = 20;

/// What is declared of a value.
#[derive(Clone, Copy, Debug)]
pub enum Declared {
    /// Nothing: it may have any field.
    Anything,
    /// A text, a time or a number, which has no fields.
    Plain,
    /// A map with any fields, which are plain.
    Labels,
    /// A map with some of these fields and no others, which are plain.
    Record(&'static [&'static str]),
    /// A map with some of these fields and no others.
    Map(&'static [(&'static str, Declared)]),
    /// A list of such values.
    List(&'static Declared),
}

/// What the value of a part can be: one of all that is noted here. Nothing is noted of the items of an empty list.
#[derive(Clone, Default)]
pub(super) struct Possible<'e> {
    anything: bool,
    /// A text, a time, a number or another value without parts.
    single: Single<'e>,
    map: Option<Fields<'e>>,
    /// A list with such items.
    items: Option<Box<Possible<'e>>>,
}

#[derive(Clone, Default)]
enum Single<'e> {
    #[default]
    Never,
    /// One of these texts, which the expression itself or a declaration names.
    Named(Vec<&'e str>),
    Any,
}

/// The fields that a map can have.
#[derive(Clone, Default)]
struct Fields<'e> {
    named: Vec<(&'e str, Possible<'e>)>,
    /// The values of all other fields; `None` if there are no others.
    others: Option<Box<Possible<'e>>>,
}

impl From<Declared> for Possible<'_> {
    fn from(declared: Declared) -> Self {
        let (named, others) = match declared {
            Declared::Anything => return Possible::anything(),
            Declared::Plain => return Possible::single(),
            Declared::List(item) => return Possible::list([Possible::from(*item)]),
            Declared::Labels => (Vec::new(), Some(Box::new(Possible::single()))),
            Declared::Record(names) => {
                let plain = names.iter().map(|name| (*name, Possible::single()));
                (plain.collect(), None)
            }
            Declared::Map(fields) => {
                let fields = fields.iter();
                let fields = fields.map(|(name, field)| (*name, Possible::from(*field)));
                (fields.collect(), None)
            }
        };
        Possible::map(Fields { named, others })
    }
}

impl<'e> Possible<'e> {
    pub(super) fn anything() -> Possible<'e> {
        Possible {
            anything: true,
            ..Possible::default()
        }
    }

    /// A text, a time, a number or another value without parts.
    pub(super) fn single() -> Possible<'e> {
        Possible {
            single: Single::Any,
            ..Possible::default()
        }
    }

    pub(super) fn text(text: &'e str) -> Possible<'e> {
        Possible {
            single: Single::Named(vec![text]),
            ..Possible::default()
        }
    }

    /// A list with these items.
    pub(super) fn list(items: impl IntoIterator<Item = Possible<'e>>) -> Possible<'e> {
        Possible {
            items: Some(Box::new(Possible::one_of(items))),
            ..Possible::default()
        }
    }

    /// A map with these keys and values.
    pub(super) fn map_of(
        entries: impl IntoIterator<Item = (Possible<'e>, Possible<'e>)>,
    ) -> Possible<'e> {
        let maps = entries.into_iter().map(|(key, value)| {
            let fields = match key.names() {
                Some([name]) => Fields {
                    named: vec![(*name, value)],
                    others: None,
                },
                _ => Fields {
                    named: Vec::new(),
                    others: Some(Box::new(value)),
                },
            };
            Possible::map(fields)
        });
        Possible::one_of([Possible::map(Fields::default())].into_iter().chain(maps))
    }

    fn map(fields: Fields<'e>) -> Possible<'e> {
        Possible {
            map: Some(fields),
            ..Possible::default()
        }
    }

    /// What at least one of these can be.
    pub(super) fn one_of(all: impl IntoIterator<Item = Possible<'e>>) -> Possible<'e> {
        let mut one = Possible::default();
        for other in all {
            one.add(other);
            if one.anything || one.size() > MAXIMUM_SIZE {
                return Possible::anything();
            }
        }
        one
    }

    /// The sum of two values: of lists, one with the items of both.
    pub(super) fn sum(both: impl IntoIterator<Item = Possible<'e>>) -> Possible<'e> {
        let mut sum = Possible::one_of(both);
        if let Single::Named(_) = sum.single {
            sum.single = Single::Any;
        }
        sum
    }

    fn add(&mut self, other: Possible<'e>) {
        self.anything |= other.anything;
        self.single.add(other.single);
        match (&mut self.map, other.map) {
            (Some(fields), Some(more)) => fields.add(more),
            (own, more) => *own = own.take().or(more),
        }
        add_boxed(&mut self.items, other.items);
    }

    fn size(&self) -> usize {
        let texts = match &self.single {
            Single::Named(texts) => texts.len(),
            Single::Never | Single::Any => 0,
        };
        let fields = self.map.iter().flat_map(Fields::values);
        let parts = fields.chain(self.items.as_deref());
        1 + texts + parts.map(Possible::size).sum::<usize>()
    }

    /// The texts that it can be, if it is one of those that are named.
    fn names(&self) -> Option<&[&'e str]> {
        match &self.single {
            Single::Named(texts) if self.is_only_single() => Some(texts),
            _ => None,
        }
    }

    fn is_only_single(&self) -> bool {
        let is_single = !matches!(self.single, Single::Never);
        is_single && !self.anything && self.map.is_none() && self.items.is_none()
    }

    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Possible<'e> {
        self.part(self.fields(&[name]).cloned())
    }

    /// The item or the field of this key.
    pub(super) fn at(&self, key: &Possible<'e>) -> Possible<'e> {
        match key.names() {
            Some(names) => self.part(self.fields(names).cloned()),
            None => {
                let fields = self.map.iter().flat_map(Fields::values);
                self.part(fields.chain(self.items.as_deref()).cloned())
            }
        }
    }

    /// What the fields of these names can be.
    fn fields(&self, names: &[&str]) -> impl Iterator<Item = &Possible<'e>> {
        self.map.iter().flat_map(|fields| {
            let named = fields.named.iter();
            let named = named.filter(|(own, _)| names.contains(own));
            let others = fields.others.as_deref();
            named.map(|(_, value)| value).chain(others)
        })
    }

    /// What a loop goes through: the items of a list, or the keys of a map.
    pub(super) fn each(&self) -> Possible<'e> {
        let keys = self.map.as_ref().map(|fields| match fields.others {
            None => Possible {
                single: Single::Named(fields.names()),
                ..Possible::default()
            },
            Some(_) => Possible::single(),
        });
        self.part(keys.into_iter().chain(self.items.as_deref().cloned()))
    }

    /// One of these parts. Nothing is known where there is none: then the expression fails, or is refused already.
    fn part(&self, parts: impl Iterator<Item = Possible<'e>>) -> Possible<'e> {
        let mut parts = parts.peekable();
        match self.anything || parts.peek().is_none() {
            true => Possible::anything(),
            false => Possible::one_of(parts),
        }
    }

    /// Why it never has a field of this name; `None` if it may have it.
    pub(super) fn lacks(&self, name: &str) -> Option<String> {
        self.lacks_all(&[name])
    }

    /// Why it never has what is looked up by this key.
    pub(super) fn lacks_at(&self, key: &Possible<'e>) -> Option<String> {
        self.lacks_all(key.names()?)
    }

    /// Why it never has a field of one of these names.
    fn lacks_all(&self, names: &[&str]) -> Option<String> {
        if self.anything || self.fields(names).next().is_some() {
            return None;
        }
        let name = names.first()?;
        let why = match (&self.map, &self.items, &self.single) {
            (Some(fields), ..) if fields.named.is_empty() => {
                ": this is a map without fields".to_owned()
            }
            (Some(fields), ..) => {
                let known = fields.names();
                let meant = nearest(name, known.iter().copied());
                let meant = meant.map(|meant| format!(", did you mean `{meant}`?"));
                let meant = meant.unwrap_or_default();
                let listed: Vec<_> = known.into_iter().take(MAXIMUM_LISTED).collect();
                format!("{meant}; known are `{}`", listed.join("`, `"))
            }
            (None, Some(_), _) => {
                ": this is a list, which has no fields; ask its items: `list.all(name, condition)`, `list[0]`"
                    .to_owned()
            }
            (None, None, Single::Never) => return None,
            (None, None, _) => {
                ": this is a single value, such as a text, which has no fields".to_owned()
            }
        };
        Some(format!("there is no field `{name:.60}`{why}"))
    }

    /// Why this key is never in it.
    pub(super) fn lacks_member(&self, key: &Possible<'e>) -> Option<String> {
        match &self.items {
            _ if self.is_only_single() => Some(
                "`in` looks in a list or in the keys of a map, and this is a single value; `contains` looks in a text"
                    .to_owned(),
            ),
            Some(_) => None,
            None => self.lacks_at(key),
        }
    }
}

impl<'e> Single<'e> {
    fn add(&mut self, other: Single<'e>) {
        match (&mut *self, other) {
            (_, Single::Never) | (Single::Any, _) => {}
            (Single::Named(texts), Single::Named(more)) => {
                for text in more {
                    if !texts.contains(&text) {
                        texts.push(text);
                    }
                }
            }
            (own, other) => *own = other,
        }
    }
}

impl<'e> Fields<'e> {
    fn add(&mut self, other: Fields<'e>) {
        for (name, value) in other.named {
            match self.named.iter_mut().find(|(own, _)| *own == name) {
                Some((_, own)) => own.add(value),
                None => self.named.push((name, value)),
            }
        }
        add_boxed(&mut self.others, other.others);
    }

    fn names(&self) -> Vec<&'e str> {
        self.named.iter().map(|(name, _)| *name).collect()
    }

    fn values(&self) -> impl Iterator<Item = &Possible<'e>> {
        let named = self.named.iter().map(|(_, value)| value);
        named.chain(self.others.as_deref())
    }
}

fn add_boxed<'e>(one: &mut Option<Box<Possible<'e>>>, other: Option<Box<Possible<'e>>>) {
    match (&mut *one, other) {
        (Some(own), Some(more)) => own.add(*more),
        (None, Some(more)) => *one = Some(more),
        (_, None) => {}
    }
}
