//! Why an approval does not count.

/// Why an approval does not count. Of several, the one with the greatest step is reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gate) struct Excuse {
    pub(super) step: Step,
    pub(in crate::gate) why: String,
}

/// The steps by which an approval is judged, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gate) enum Step {
    Identity,
    Record,
    Environment,
    Scopes,
    UnknownScope,
    Change,
    Age,
    Person,
    Seat,
}

impl Excuse {
    pub(super) fn new(step: Step, why: impl Into<String>) -> Excuse {
        let why = why.into();
        Excuse { step, why }
    }
}
