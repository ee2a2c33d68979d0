//! The gate itself: from a change somebody asked for to one explained verdict.

mod image;
mod promotion;

pub use image::{Digest, DigestError, ImagePattern, ImageReference, PatternError, ReferenceError};
pub use promotion::{Actor, Change, ChangeKind, ImageUse, Operation, Role, Workload};
