//! How reviews are shown: to people, and to programs.

pub(super) mod human;
pub(super) mod json;
