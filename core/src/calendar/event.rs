//! An event of a calendar.

use super::Series;

/// An event of a calendar (`VEVENT`) with its repetitions. Cancelled ones are left out when a calendar is read.
#[derive(Clone, Debug)]
pub struct CalendarEvent {
    /// `UID`.
    pub uid: String,
    /// `SUMMARY`; empty if there is none.
    pub summary: String,
    /// `CATEGORIES`.
    pub categories: Vec<String>,
    /// Whether its `STATUS` is `TENTATIVE`.
    pub is_tentative: bool,
    /// When it takes place. Instances that were changed by themselves are series of their own.
    pub series: Vec<Series>,
}
