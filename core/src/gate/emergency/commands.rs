//! The commands that messages about emergency changes name. They stand here alone: a message names no command that does not exist.

use super::debt::OverdueReview;

/// Whether this version has the command `promotion-gate emergency`.
pub(super) const EXISTS: bool = false;

/// The command that declares an emergency change for an image.
pub(super) fn declare(image: &str, environment: &str) -> String {
    format!(
        "promotion-gate emergency declare {image} --environment {environment} --incident ID --reason TEXT"
    )
}

/// The command that reviews an emergency change.
pub(super) fn review(overdue: &OverdueReview) -> Option<String> {
    EXISTS.then(|| {
        format!(
            "promotion-gate emergency review {} --declaration {}",
            overdue.image, overdue.declaration
        )
    })
}
