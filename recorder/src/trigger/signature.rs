//! Who sent it: a token, or a signature over the body. Everything secret is
//! compared in constant time.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// How far a signed time may be from ours: what Grafana's clock may be wrong by, and
/// how long a message may be replayed.
pub const TIMESTAMP_SKEW_S: i64 = 300;

/// Secrets kept of one file: the new ones and the old ones during a rotation.
pub const SECRETS_MAX: usize = 8;

/// A secret. Nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(bytes.to_vec())
    }

    fn mac(&self) -> Hmac<Sha256> {
        match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            // A key of any length is one (RFC 2104, section 2): there is no such error.
            Err(_) => Hmac::<Sha256>::new(&Default::default()),
        }
    }

    /// Whether `signature` is that of the pieces of a message.
    fn signed(&self, pieces: &[&[u8]], signature: &[u8]) -> bool {
        let mut mac = self.mac();
        for piece in pieces {
            mac.update(piece);
        }
        mac.verify_slice(signature).is_ok()
    }
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// It has no signature or token.
    Missing,
    /// It is none of ours.
    Wrong,
    /// It was signed too long ago, or in the future.
    Old,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unproven::Missing => write!(f, "a token or a signature is needed"),
            Unproven::Wrong => write!(f, "the token or the signature is not the right one"),
            Unproven::Old => {
                write!(f, "the signed time is more than {TIMESTAMP_SKEW_S} s from ours")
            }
        }
    }
}

/// Checks `Authorization: Bearer TOKEN` against any of the tokens.
pub fn bearer(authorization: Option<&[u8]>, tokens: &[Secret]) -> Result<(), Unproven> {
    let said = authorization.ok_or(Unproven::Missing)?;
    let (scheme, token) = said.split_at_checked(7).ok_or(Unproven::Wrong)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Unproven::Wrong);
    }
    // Digests under one key have one length, and are compared in constant time.
    let key = Secret::new(b"recorder");
    let mut mac = key.mac();
    mac.update(token.trim_ascii());
    let said = mac.finalize().into_bytes();
    any(tokens, |known| key.signed(&[&known.0], &said))
}

/// Checks Grafana's `X-Grafana-Alerting-Signature`: HMAC-SHA256 in hexadecimal over
/// the body, or over `timestamp:body` where a time is signed too.
pub fn grafana(
    signature: Option<&[u8]>,
    timestamp: Option<&[u8]>,
    body: &[u8],
    secrets: &[Secret],
    now_s: i64,
) -> Result<(), Unproven> {
    let signature = hexadecimal(signature.ok_or(Unproven::Missing)?).ok_or(Unproven::Wrong)?;
    let Some(timestamp) = timestamp else {
        return any(secrets, |secret| secret.signed(&[body], &signature));
    };
    any(secrets, |secret| secret.signed(&[timestamp, b":", body], &signature))?;
    // Only now: of a time nobody signed there is nothing to say.
    let text = std::str::from_utf8(timestamp).unwrap_or_default();
    let signed_s: i64 = text.trim().parse().map_err(|_| Unproven::Old)?;
    if now_s.abs_diff(signed_s) > TIMESTAMP_SKEW_S.unsigned_abs() {
        return Err(Unproven::Old);
    }
    Ok(())
}

/// Checks PagerDuty's `X-PagerDuty-Signature: v1=<hex>,v1=<hex>`: one for each key
/// while keys are rotated; any that fits is enough.
pub fn pagerduty(
    signatures: Option<&[u8]>,
    body: &[u8],
    secrets: &[Secret],
) -> Result<(), Unproven> {
    let signatures = signatures.ok_or(Unproven::Missing)?;
    let candidates = signatures.split(|byte| *byte == b',').take(SECRETS_MAX);
    for candidate in candidates {
        let Some(digits) = candidate.trim_ascii().strip_prefix(b"v1=") else { continue };
        let Some(signature) = hexadecimal(digits) else { continue };
        if any(secrets, |secret| secret.signed(&[body], &signature)).is_ok() {
            return Ok(());
        }
    }
    Err(Unproven::Wrong)
}

/// Tries every secret, also behind one that fits: the time says nothing.
fn any(secrets: &[Secret], fits: impl Fn(&Secret) -> bool) -> Result<(), Unproven> {
    let fitting = secrets.iter().filter(|secret| fits(secret)).count();
    if fitting > 0 { Ok(()) } else { Err(Unproven::Wrong) }
}

fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digits = std::str::from_utf8(digits.trim_ascii()).ok()?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A short name for any words: the same words have the same one.
pub fn fingerprint(words: &[&str]) -> String {
    let mut digest = Sha256::new();
    for word in words {
        digest.update((word.len() as u64).to_le_bytes());
        digest.update(word.as_bytes());
    }
    let bytes = digest.finalize();
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"status":"firing"}"#;

    /// `openssl dgst -sha256 -hmac KEY` over the same bytes.
    const SIGNED_NEW: &str = "da9524d6b63821d86b1a1c98c2124acc9791abf25d145909702061d110754e68";

    fn secrets(words: &[&str]) -> Vec<Secret> {
        words.iter().map(|word| Secret::new(word.as_bytes())).collect()
    }

    #[test]
    fn a_token_is_one_of_ours_or_none() {
        let tokens = secrets(&["old", "new"]);
        assert_eq!(bearer(Some(b"Bearer new"), &tokens), Ok(()));
        assert_eq!(bearer(Some(b"bearer old "), &tokens), Ok(()));
        assert_eq!(bearer(None, &tokens), Err(Unproven::Missing));
        for wrong in ["Bearer ", "Bearer ne", "Bearer newx", "Basic new", "new", ""] {
            assert_eq!(bearer(Some(wrong.as_bytes()), &tokens), Err(Unproven::Wrong), "{wrong}");
        }
        assert_eq!(bearer(Some(b"Bearer "), &[]), Err(Unproven::Wrong));
    }

    #[test]
    fn a_signature_is_what_another_program_makes_of_the_same_bytes() {
        let known = secrets(&["new"]);
        assert_eq!(grafana(Some(SIGNED_NEW.as_bytes()), None, BODY, &known, 0), Ok(()));
        let header = format!("v1={SIGNED_NEW}");
        assert_eq!(pagerduty(Some(header.as_bytes()), BODY, &known), Ok(()));
    }

    fn sign(secret: &str, pieces: &[&[u8]]) -> String {
        let mut mac = Secret::new(secret.as_bytes()).mac();
        pieces.iter().for_each(|piece| mac.update(piece));
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_changed_body_another_key_and_an_old_time_are_refused() {
        let known = secrets(&["old", "new"]);
        let good = sign("old", &[BODY]);
        let check = |signature: &str, body: &[u8]| {
            grafana(Some(signature.as_bytes()), None, body, &known, 0)
        };
        assert_eq!(check(&good, BODY), Ok(()));
        for place in 0..BODY.len() {
            let mut changed = BODY.to_vec();
            changed[place] ^= 1;
            assert_eq!(check(&good, &changed), Err(Unproven::Wrong));
        }
        assert_eq!(check(&sign("other", &[BODY]), BODY), Err(Unproven::Wrong));
        assert_eq!(check("", BODY), Err(Unproven::Wrong));
        assert_eq!(check(&good[1..], BODY), Err(Unproven::Wrong));
        assert_eq!(grafana(None, None, BODY, &known, 0), Err(Unproven::Missing));

        let timed = sign("new", &[b"1700000000", b":", BODY]);
        let at = |now_s| grafana(Some(timed.as_bytes()), Some(b"1700000000"), BODY, &known, now_s);
        assert_eq!(at(1_700_000_299), Ok(()));
        assert_eq!(at(1_700_000_301), Err(Unproven::Old));
        assert_eq!(at(1_699_999_600), Err(Unproven::Old));
        // A time that was not signed does not make it younger.
        assert_eq!(
            grafana(Some(timed.as_bytes()), Some(b"1700009999"), BODY, &known, 1_700_009_999),
            Err(Unproven::Wrong)
        );
    }

    #[test]
    fn while_keys_are_rotated_any_signature_that_fits_is_enough() {
        let (old, new) = (sign("old", &[BODY]), sign("new", &[BODY]));
        let both = format!("v1={old},v1={new}");
        for known in [secrets(&["old"]), secrets(&["new"]), secrets(&["x", "new"])] {
            assert_eq!(pagerduty(Some(both.as_bytes()), BODY, &known), Ok(()));
        }
        assert_eq!(pagerduty(Some(both.as_bytes()), BODY, &secrets(&["x"])), Err(Unproven::Wrong));
        assert_eq!(pagerduty(None, BODY, &secrets(&["old"])), Err(Unproven::Missing));
        for wrong in ["", "v1=", "v2=00", "v1=zz", &format!("v0={old}"), &old] {
            let known = secrets(&["old"]);
            assert_eq!(pagerduty(Some(wrong.as_bytes()), BODY, &known), Err(Unproven::Wrong));
        }
    }

    #[test]
    fn words_are_not_confused_with_their_neighbours() {
        assert_eq!(fingerprint(&["a", "b"]), fingerprint(&["a", "b"]));
        assert_ne!(fingerprint(&["a", "b"]), fingerprint(&["ab", ""]));
        assert_eq!(fingerprint(&[]).len(), 32);
    }
}
