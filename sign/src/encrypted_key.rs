//! Encrypted private keys of cosign: scrypt and NaCl's secretbox, around PKCS#8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use serde::Deserialize;

/// The costs that cosign has used: N = 2^15 at first, 2^16 since version 2.
const COSTS: std::ops::RangeInclusive<u64> = 1 << 14..=1 << 17;

#[derive(Deserialize)]
struct Encrypted {
    kdf: Derivation,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Derivation {
    name: String,
    params: Costs,
    salt: String,
}

#[derive(Deserialize)]
struct Costs {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The key inside. The error never holds the password.
pub(crate) fn decrypt(json: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let odd = || "the encrypted key is not in the form of cosign".to_owned();
    let Encrypted {
        kdf,
        cipher,
        ciphertext,
    } = serde_json::from_slice(json).map_err(|_| odd())?;
    if (kdf.name.as_str(), cipher.name.as_str()) != ("scrypt", "nacl/secretbox") {
        return Err(odd());
    }
    let Costs { n, r, p } = kdf.params;
    // Other costs could take all memory of the machine.
    if !n.is_power_of_two() || !COSTS.contains(&n) || (r, p) != (8, 1) {
        return Err("the encrypted key has other scrypt parameters than keys of cosign".to_owned());
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| odd());
    let (salt, nonce, ciphertext) = (
        bytes(&kdf.salt)?,
        bytes(&cipher.nonce)?,
        bytes(&ciphertext)?,
    );
    let nonce = <[u8; 24]>::try_from(nonce.as_slice()).map_err(|_| odd())?;
    let cost = u8::try_from(n.trailing_zeros()).map_err(|_| odd())?;
    let params = scrypt::Params::new(cost, r, p, 32).map_err(|_| odd())?;
    let mut key = [0; 32];
    scrypt::scrypt(password.as_bytes(), &salt, &params, &mut key).map_err(|_| odd())?;
    XSalsa20Poly1305::new(&key.into())
        .decrypt(&nonce.into(), ciphertext.as_slice())
        .map_err(|_| "the password is wrong, or the key is damaged".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A key as cosign encrypts it.
    pub(crate) fn encrypt(pkcs8: &[u8], password: &str, n: u64) -> Vec<u8> {
        let params = scrypt::Params::new(n.trailing_zeros().try_into().unwrap(), 8, 1, 32).unwrap();
        let mut key = [0; 32];
        scrypt::scrypt(password.as_bytes(), &[7; 32], &params, &mut key).unwrap();
        let cipher = XSalsa20Poly1305::new(&key.into());
        let sealed = cipher.encrypt(&[9; 24].into(), pkcs8).unwrap();
        json!({
            "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": STANDARD.encode([7; 32])},
            "cipher": {"name": "nacl/secretbox", "nonce": STANDARD.encode([9; 24])},
            "ciphertext": STANDARD.encode(sealed),
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn an_encrypted_key_opens_with_its_password_alone() {
        let sealed = encrypt(b"key", "secret", 1 << 14);
        assert_eq!(decrypt(&sealed, "secret").unwrap(), b"key");
        let wrong = decrypt(&sealed, "guess").unwrap_err();
        assert!(
            wrong.contains("password") && !wrong.contains("guess"),
            "{wrong}"
        );
    }

    #[test]
    fn a_key_that_would_take_all_memory_is_refused() {
        let sealed = String::from_utf8(encrypt(b"key", "secret", 1 << 14)).unwrap();
        for (from, to) in [
            ("16384", "1073741824"),
            ("16384", "16385"),
            ("\"r\":8", "\"r\":1000000"),
            ("\"p\":1", "\"p\":1000000"),
        ] {
            let other = sealed.replace(from, to);
            assert_ne!(other, sealed);
            let refused = decrypt(other.as_bytes(), "secret").unwrap_err();
            assert!(refused.contains("parameters"), "{refused}");
        }
    }
}
