//! The seats that signers fill, each distinct signer once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::check::listed;
use super::Group;
use crate::attest::VerifiedSignature;
use crate::gate::distinct::first_of_each;
use crate::gate::seats::{Seats, fill};
use crate::gate::signer::{AcceptedSigner, TrustRoots};

/// Seats for `count` different signers out of `signers`.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) count: usize,
    pub(super) signers: Vec<&'a AcceptedSigner>,
}

impl Wanted<'_> {
    pub(super) fn one(signer: &AcceptedSigner) -> Wanted<'_> {
        Wanted {
            count: 1,
            signers: vec![signer],
        }
    }

    pub(super) fn fits(&self, signature: &VerifiedSignature, roots: &TrustRoots) -> bool {
        let mut signers = self.signers.iter();
        signers.any(|signer| signer.signed(signature, roots).is_ok())
    }

    /// A warning if the signers that one pattern matches can fill all of several seats, so that the other entries need not sign.
    pub(super) fn filled_by_one_pattern(&self) -> Option<String> {
        let count = self.count;
        let mut patterns = self.signers.iter().filter(|_| count > 1);
        let pattern = patterns.find(|signer| signer.only().is_none())?;
        Some(format!(
            "`threshold: {count}` is met by any {count} different signers that {pattern} matches; to require each of several signers, write `allOf`"
        ))
    }
}

/// Why this way to meet the requirement can never succeed: it requires more different signers than its entries can match.
pub(super) fn never_filled(way: &[Wanted<'_>]) -> Option<String> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut bounded = Vec::new();
    for wanted in way {
        let only: Option<Vec<_>> = wanted.signers.iter().map(|signer| signer.only()).collect();
        // The signers that a pattern can match are not bounded.
        let Some(only) = only else { continue };
        let number = |name| {
            let next = numbers.len();
            *numbers.entry(name).or_insert(next)
        };
        let seats = Seats {
            count: wanted.count,
            open_to: only.into_iter().map(number).collect(),
        };
        bounded.push((wanted, seats));
    }
    let seats: Vec<_> = bounded.iter().map(|(_, seats)| seats.clone()).collect();
    let filled = fill(&seats);
    let mut open = bounded.iter().zip(&filled);
    let ((wanted, seats), _) = open.find(|((_, seats), filled)| filled.len() < seats.count)?;
    let asked = seats.count;
    let of = listed(wanted.signers.iter().map(ToString::to_string), 3);
    let noun = if asked == 1 {
        "signer"
    } else {
        "different signers"
    };
    let why = match (asked, seats.open_to.len()) {
        (1, _) => "another entry already requires this signer".to_owned(),
        (_, 1) => "this is only one signer".to_owned(),
        (_, most) => {
            format!("these are at most {most} signers, or another entry requires some of them too")
        }
    };
    Some(format!(
        "this can never be met: it requires {asked} {noun} of {of}, but {why}; a workflow at any ref is one signer, and so is an e-mail address in any spelling and from any issuer"
    ))
}

impl Group<AcceptedSigner> {
    pub(super) fn seats(&self) -> Vec<Wanted<'_>> {
        match self {
            Group::AnyOf { members, threshold } => vec![Wanted {
                count: *threshold,
                signers: members.iter().collect(),
            }],
            Group::AllOf(members) => members.iter().map(Wanted::one).collect(),
        }
    }
}

/// The usable signatures, grouped by distinct signer.
pub(super) struct SignersPresent<'a> {
    pub(super) signatures: &'a [&'a VerifiedSignature],
    roots: &'a TrustRoots,
    /// For each signature, the index of its signer in `names`.
    signer: Vec<usize>,
    /// For each distinct signer, all names under which it signed.
    names: Vec<BTreeSet<String>>,
}

impl<'a> SignersPresent<'a> {
    pub(super) fn new(
        signatures: &'a [&'a VerifiedSignature],
        roots: &'a TrustRoots,
    ) -> SignersPresent<'a> {
        let signers = signatures.iter().map(|signature| signature.signer());
        let first = first_of_each(signers.clone());
        let mut all: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (first, signer) in first.iter().zip(signers) {
            all.entry(*first).or_default().insert(signer.to_string());
        }
        // Sorted by name, so that the order of the signatures does not change the result.
        let mut ordered: Vec<_> = all
            .into_iter()
            .map(|(first, names)| (names, first))
            .collect();
        ordered.sort();
        let places = ordered.iter().enumerate();
        let places: BTreeMap<_, _> = places.map(|(at, (_, first))| (*first, at)).collect();
        let place = |first| places.get(first).copied();
        SignersPresent {
            signatures,
            roots,
            signer: first.iter().filter_map(place).collect(),
            names: ordered.into_iter().map(|(names, _)| names).collect(),
        }
    }

    pub(super) fn take_seats(&self, way: &[Wanted<'a>]) -> Seating<'a> {
        let seats = way.iter().map(|wanted| {
            let made = self.signatures.iter().zip(&self.signer);
            let fits = made.filter(|(signature, _)| wanted.fits(signature, self.roots));
            Seats {
                count: wanted.count,
                open_to: fits.map(|(_, signer)| *signer).collect(),
            }
        });
        let seats: Vec<_> = seats.collect();
        let filled = fill(&seats);
        let wanted = way.iter().map(|wanted| wanted.signers.clone());
        let each = wanted.zip(seats).zip(filled);
        Seating(
            each.map(|((signers, seats), filled)| (signers, seats, filled))
                .collect(),
        )
    }

    pub(super) fn name(&self, signer: usize) -> String {
        let names = self.names.get(signer);
        names.and_then(BTreeSet::first).cloned().unwrap_or_default()
    }
}

/// The seats of one way to meet the requirement: for each, the accepted signers, the candidates, and the candidates assigned.
pub(super) struct Seating<'a>(Vec<(Vec<&'a AcceptedSigner>, Seats, BTreeSet<usize>)>);

impl Seating<'_> {
    pub(super) fn missing(&self) -> usize {
        let missing = self
            .0
            .iter()
            .map(|(_, seats, filled)| seats.count - filled.len());
        missing.fold(0, usize::saturating_add)
    }

    pub(super) fn seated(&self) -> impl Iterator<Item = usize> {
        let seated = self.0.iter().flat_map(|(_, _, filled)| filled);
        seated.copied().collect::<BTreeSet<_>>().into_iter()
    }

    /// The signers that have signed, the names that count as one signer, and the seats that are open.
    pub(super) fn too_few(&self, present: &SignersPresent<'_>) -> String {
        let signed = self.seated().count();
        let all = self.missing().saturating_add(signed);
        let by = listed(self.seated().map(|signer| present.name(signer)), 3);
        let counted = self.seated().filter_map(|signer| present.names.get(signer));
        let as_one = counted
            .filter(|names| names.len() > 1)
            .take(2)
            .map(|names| format!("; {} are one signer", listed(names.iter().cloned(), 3)));
        let as_one: String = as_one.collect();
        let open = self
            .0
            .iter()
            .filter(|(_, seats, filled)| filled.len() < seats.count);
        let open = open.map(|(signers, seats, filled)| {
            let more = seats.count - filled.len();
            let of = listed(signers.iter().map(ToString::to_string), 3);
            let elsewhere = match seats.open_to.len() > filled.len() {
                true => ", other than the signers already counted",
                false => "",
            };
            match signers.as_slice() {
                [_] if seats.count == 1 => format!("{of}{elsewhere}"),
                _ => format!("{more} of {of}{elsewhere}"),
            }
        });
        format!(
            "{signed} of {all} different signers have signed: {by}{as_one}; missing: {}",
            listed(open, 3)
        )
    }
}
