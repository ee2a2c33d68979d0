use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sigstore_merkle::{verify_consistency_proof, verify_inclusion_proof};
use sigstore_types::Sha256Hash;

use super::{Tally, files_below, folder, read};

/// What inclusion proofs rest on; consistency proofs are for monitors of a log.
#[test]
fn merkle_proofs_hold_and_fail_as_they_should() {
    let Some(folder) = folder("merkle") else {
        return;
    };
    let mut tally = Tally::of("merkle");
    let files = files_below(&folder, "json");
    for file in &files {
        let case: Value = serde_json::from_slice(&read(&folder, file)).unwrap();
        let holds = match case.get("leafHash") {
            Some(_) => inclusion(&case),
            None => consistency(&case),
        };
        let wanted = case["wantErr"] != true;
        tally.expect(file, holds.is_some(), wanted);
    }
    tally.close(files.len());
}

fn hash(value: &Value) -> Option<Sha256Hash> {
    let bytes = STANDARD.decode(value.as_str()?).ok()?;
    Sha256Hash::try_from(bytes.as_slice()).ok()
}

/// Where sizes are equal, roots that are no hashes (`don't care`) are compared all the same.
fn root(value: &Value) -> Option<Sha256Hash> {
    let bytes = STANDARD.decode(value.as_str()?).ok()?;
    hash(value).or_else(|| Some(sigstore_merkle::hash_leaf(&bytes)))
}

fn proof(case: &Value) -> Option<Vec<Sha256Hash>> {
    let proof = case["proof"].as_array().cloned().unwrap_or_default();
    proof.iter().map(hash).collect()
}

fn inclusion(case: &Value) -> Option<()> {
    let number = |name: &str| case[name].as_u64();
    verify_inclusion_proof(
        &hash(&case["leafHash"])?,
        number("leafIdx")?,
        number("treeSize")?,
        &proof(case)?,
        &hash(&case["root"])?,
    )
    .ok()
}

fn consistency(case: &Value) -> Option<()> {
    let (size1, size2) = (case["size1"].as_u64()?, case["size2"].as_u64()?);
    // Nothing is proven by leading from an empty tree to another one.
    if size1 == 0 && size2 != 0 {
        return None;
    }
    verify_consistency_proof(
        size1,
        size2,
        &proof(case)?,
        &root(&case["root1"])?,
        &root(&case["root2"])?,
    )
    .ok()
}
