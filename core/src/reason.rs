//! The reasons of findings and refusals: a stable id with its page of the manual.

/// A reason, as findings, logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Stable id, in kebab case.
    pub id: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to do about it; empty for a reason that is not a problem.
    pub remedy: &'static str,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// Defines a constant for each reason and the table of all of them, so that every reason has its page of the manual.
macro_rules! reasons {
    ($(#[$attribute:meta])* $table:ident: $($name:ident = $id:literal, $means:literal, $remedy:literal;)+) => {
        $(
            #[doc = concat!("`", $id, "`: ", $means)]
            pub const $name: $crate::reason::Reason = $crate::reason::Reason {
                id: $id,
                means: $means,
                remedy: $remedy,
            };
        )+

        $(#[$attribute])*
        pub const $table: &[$crate::reason::Reason] = &[$($name),+];
    };
}

pub(crate) use reasons;
