//! What a person sees of an emergency change. Everything that others wrote is shown on one line, without control characters.

use promotion_gate_core::attest::predicate::EmergencyChange;
use promotion_gate_core::gate::{
    EmergencyStatement, EmergencyWord, Enforcement, OpenSeats, OwnWord,
};

use super::about::Outlook;
use crate::cli::render::human::{GREEN, RED, YELLOW};
use crate::text::line;

fn row(name: &str, text: &str) {
    print_line!("  {name:<13} {}", line(text));
}

/// What a declaration says.
pub(super) fn said(said: &EmergencyChange) {
    let url = said.incident.url.as_ref();
    let url = url.map(|url| format!(" ({url})")).unwrap_or_default();
    row("incident", &format!("{}{url}", said.incident.id));
    row("reason", &said.reason);
    row("expires", &format!("{:.0}", said.expires));
    for (name, value) in &said.scopes {
        row("only for", &format!("{name} {value}"));
    }
}

/// What a person signed about a declaration, and whether it counts.
pub(super) fn statement(statement: &EmergencyStatement) {
    let (did, follow_ups) = match &statement.word {
        EmergencyWord::Declared => ("declared".to_owned(), &[][..]),
        EmergencyWord::Agreed => ("agreed".to_owned(), &[][..]),
        EmergencyWord::Rejected => ("rejected".to_owned(), &[][..]),
        EmergencyWord::Closed => ("closed".to_owned(), &[][..]),
        EmergencyWord::Reviewed(verdict, follow_ups) => {
            (format!("reviewed: {}", verdict.id()), follow_ups.as_slice())
        }
    };
    let who = match &statement.person {
        Some(person) => format!("{person} ({})", statement.signer),
        None => statement.signer.clone(),
    };
    let at = match statement.at {
        Some(at) => format!("{at:.0}"),
        None => "no verified time".to_owned(),
    };
    let counts = match &statement.counts {
        Ok(Some(seat)) => format!("{GREEN}counts{GREEN:#}: seat of {}", line(seat)),
        Ok(None) => format!("{GREEN}counts{GREEN:#}"),
        Err(why) => format!("{YELLOW}does not count{YELLOW:#}: {}", line(why)),
    };
    print_line!("  {at} {did} {}  {counts}", line(&who));
    let is_declaration = statement.word == EmergencyWord::Declared;
    for reason in statement.reason.iter().filter(|_| !is_declaration) {
        print_line!("    {}", line(reason));
    }
    for follow_up in follow_ups {
        print_line!("    to do: {}", line(follow_up));
    }
}

/// What an emergency change waives under a policy, who has to agree, and what follows.
pub(super) fn outlook(it: &Outlook) {
    let outlook = &it.outlook;
    let (policy, object) = (line(&outlook.policy), line(&it.object));
    let lax = match it.enforcement {
        Enforcement::Enforce => "",
        Enforcement::Warn | Enforcement::Audit => " (it does not deny)",
    };
    print_line!("Under the policy `{policy}`, for {object}{lax}:");
    if !outlook.denies {
        row(
            "waives",
            "nothing: the policy allows it without an emergency change",
        );
        return;
    }
    match &outlook.refused {
        Some(why) => print_line!("  {RED}{:<13}{RED:#} nothing: {}", "waives", line(why)),
        None => {
            let waived: Vec<_> = outlook.waives.iter().copied().collect();
            row("waives", &waived.join(", "));
            row(
                "waives never",
                "another requirement, a rejection of the digest, a revocation",
            );
        }
    }
    row(
        "at most",
        &format!("{} from the declaration", outlook.maximum_validity),
    );
    row("must agree", &outlook.seats);
    for (name, did) in &outlook.authors {
        row("author", &format!("{name} ({did}) fills no seat"));
    }
    if let Some(why) = &outlook.unknown_author {
        row("author", &format!("at least two people must agree: {why}"));
    }
    if let Some(required) = &outlook.incident {
        let severity = required
            .minimum_severity
            .map(|it| format!(", {it} or more severe"));
        let severity = severity.unwrap_or_default();
        row(
            "incident",
            &format!("must be open by the check `{}`{severity}", required.check),
        );
    }
    row(
        "review",
        &format!(
            "due within {} of the deployment, by a person who had no part in it: was it justified, why, and what has to be done",
            outlook.review_within
        ),
    );
    print_line!("");
}

/// What the person's own signature would do.
pub(super) fn own(policy: &str, own: Option<&OwnWord>) {
    let Some(own) = own else { return };
    match &own.seat {
        Ok(seat) => print_line!(
            "{GREEN}counts{GREEN:#} under policy `{}`: {}",
            line(policy),
            line(seat)
        ),
        Err(why) => print_line!(
            "{YELLOW}would not count{YELLOW:#} under policy `{}`: {}",
            line(policy),
            line(why)
        ),
    }
    match open_seats(&own.open) {
        Some(open) => print_line!("  open then: {}\n", line(&open)),
        None => print_line!("  every seat is filled then\n"),
    }
}

/// The open seats, with the people who may fill them; `None` if all are filled.
pub(super) fn open_seats(seats: &OpenSeats) -> Option<String> {
    if seats.open.is_empty() {
        return None;
    }
    let people = match seats.may_agree.is_empty() {
        true => "no person in the people directory may fill them".to_owned(),
        false => {
            let names: Vec<_> = seats
                .may_agree
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            format!("by {}", names.join(", "))
        }
    };
    Some(format!("{} ({people})", seats.open))
}
