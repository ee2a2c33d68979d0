//! The timestamp authorities of a trust root, with their certificates in order.

use rustls_pki_types::CertificateDer;
use sigstore_trust_root::trusted_root::CertChain;
use sigstore_types::{TimeRange, TsaAuthority};

use crate::attest::chain::names_of;

pub(super) fn check_certificates(chain: &CertChain) -> Result<(), String> {
    if chain.certificates.is_empty() {
        return Err("a timestamp authority does not have a certificate".to_owned());
    }
    for entry in &chain.certificates {
        let der = CertificateDer::from(entry.raw_bytes.as_bytes());
        webpki::anchor_from_trusted_cert(&der).map_err(|error| {
            format!("the certificate of a timestamp authority cannot be used: {error}")
        })?;
    }
    Ok(())
}

/// The leaf, intermediates and root of a timestamp authority. The leaf did not issue another certificate of the chain, and no
/// other certificate of the chain issued the root. If that does not identify them, the order of the specification counts: the
/// leaf first, the root last.
pub(super) fn timestamp_authority(
    chain: &CertChain,
    valid_for: Option<TimeRange>,
) -> Option<TsaAuthority> {
    let mut certificates: Vec<_> = chain
        .certificates
        .iter()
        .map(|entry| &entry.raw_bytes)
        .collect();
    let names: Vec<_> = certificates
        .iter()
        .map(|der| names_of(der.as_bytes()))
        .collect::<Option<_>>()
        .unwrap_or_default();
    let at = |found: &dyn Fn(usize) -> bool| {
        let mut places = (0..names.len()).filter(|at| found(*at));
        places.next().filter(|_| places.next().is_none())
    };
    let others = |at: usize| {
        let numbered = names.iter().enumerate();
        numbered.filter(move |(other, _)| *other != at)
    };
    let of = |at: usize| names.get(at);
    let leaf = at(&|at| {
        of(at).is_some_and(|(subject, _)| others(at).all(|(_, (_, issuer))| issuer != subject))
    });
    let root = at(&|at| {
        of(at).is_some_and(|(subject, issuer)| {
            subject == issuer || others(at).all(|(_, (subject, _))| subject != issuer)
        })
    });
    if let (Some(leaf), Some(root)) = (leaf, root)
        && leaf != root
    {
        let rank = |at: usize| match at {
            at if at == leaf => 0,
            at if at == root => 2,
            _ => 1,
        };
        let mut ranked: Vec<_> = certificates.into_iter().enumerate().collect();
        ranked.sort_by_key(|(at, _)| rank(*at));
        certificates = ranked.into_iter().map(|(_, der)| der).collect();
    }
    let (leaf, intermediates, root) = match certificates.as_slice() {
        [] => return None,
        [only] => (only, &[][..], only),
        [leaf, intermediates @ .., root] => (leaf, intermediates, root),
    };
    let intermediates = intermediates.iter().map(|der| (*der).clone()).collect();
    Some(TsaAuthority::new(
        (*leaf).clone(),
        intermediates,
        (*root).clone(),
        valid_for,
    ))
}
