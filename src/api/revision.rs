//! Digests that name the state of documents.

use sha2::{Digest as _, Sha256};

use super::files::SourceFile;
use super::kinds::Kind;
use super::set::Held;

/// Names the state of each part. A file with people directories or freezes alone is not a part of the policies.
pub(super) fn revision_by_part(sources: &[SourceFile], held: &Held) -> String {
    let holds = |(file, _): &&SourceFile, kinds: &[Kind]| {
        let mut held = held.get(file).into_iter().flatten();
        held.any(|(other, _)| kinds.contains(other))
    };
    let others: [(&str, &[Kind]); 5] = [
        ("people", &[Kind::PeopleDirectory]),
        ("freezes", &[Kind::ChangeFreeze]),
        ("incidents", &[Kind::IncidentCheck]),
        ("settings", &[Kind::GateConfiguration, Kind::TrustRoot]),
        (
            "kept",
            &[
                Kind::Revocation,
                Kind::Rejection,
                Kind::AuthorRecord,
                Kind::VexRecord,
            ],
        ),
    ];
    let is_of_policies = |source: &&SourceFile| {
        let is_of_another = others.iter().any(|(_, kinds)| holds(source, kinds));
        !is_of_another || holds(source, &[Kind::PromotionPolicy])
    };
    let mut parts = revision(sources.iter().filter(is_of_policies));
    for (name, kinds) in others {
        let own: Vec<_> = sources
            .iter()
            .filter(|source| holds(source, kinds))
            .collect();
        if !own.is_empty() {
            parts.push_str(&format!(" {name}:{}", revision(own)));
        }
    }
    parts
}

pub(super) fn revision<'a>(sources: impl IntoIterator<Item = &'a SourceFile>) -> String {
    let mut sorted: Vec<_> = sources.into_iter().collect();
    sorted.sort();
    let mut hash = Sha256::new();
    for (file, bytes) in sorted {
        for part in [file.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    format!("sha256:{}", hex::encode(hash.finalize()))
}
