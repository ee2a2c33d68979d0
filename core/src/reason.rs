//! Why something is said: an id that never changes, with its page of the manual.

/// A reason, as findings, logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Stable id, in kebab case.
    pub id: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: &'static str,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// Makes a constant of each reason, and the table of all of them, so that none is without its page.
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
