//! Which names say that a secret follows: `password`, `api_key`, `X-Auth-Token`,
//! `AWS_SECRET_ACCESS_KEY`, but not `--password-file` and not `tokenizer`.

use super::Secret;

/// Where a name stands, which decides how much it takes to be telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before `=` or `:`.
    Assignment,
    /// Before `=` in the query of a URL.
    Query,
    /// An option whose value is the next argument.
    Option,
}

/// The longest name that is looked at; of a longer one its end.
pub(super) const NAME_BYTES_MAX: usize = 96;

/// Words of a name that are looked at; of more the last ones.
const WORDS_MAX: usize = 8;

/// Words that are telling wherever they end a name.
const TELLING: &[(&str, Secret)] = &[
    ("password", Secret::Password),
    ("passwords", Secret::Password),
    ("passwd", Secret::Password),
    ("passphrase", Secret::Password),
    ("passcode", Secret::Password),
    ("passwort", Secret::Password),
    ("pass", Secret::Password),
    ("pwd", Secret::Password),
    ("pw", Secret::Password),
    ("psk", Secret::Password),
    ("userpass", Secret::Password),
    ("dbpass", Secret::Password),
    ("userpwd", Secret::Password),
    ("dbpwd", Secret::Password),
    ("secret", Secret::Secret),
    ("secrets", Secret::Secret),
    ("token", Secret::Token),
    ("jwt", Secret::Token),
    ("bearer", Secret::Token),
    ("apikey", Secret::Key),
    ("secretkey", Secret::Key),
    ("accesskey", Secret::Key),
    ("privatekey", Secret::Key),
    ("accountkey", Secret::Key),
    ("sharedaccesskey", Secret::Key),
    ("credential", Secret::Credential),
    ("credentials", Secret::Credential),
    ("creds", Secret::Credential),
    ("authorization", Secret::Authorization),
    ("cookie", Secret::Session),
    ("sessionid", Secret::Session),
    ("phpsessid", Secret::Session),
    ("jsessionid", Secret::Session),
];

/// Endings of words that were written together: `dbpassword`, `authtoken`.
const TELLING_ENDS: &[(&str, Secret)] = &[
    ("password", Secret::Password),
    ("passwd", Secret::Password),
    ("passphrase", Secret::Password),
    ("secret", Secret::Secret),
    ("token", Secret::Token),
    ("apikey", Secret::Key),
    ("secretkey", Secret::Key),
    ("credentials", Secret::Credential),
];

/// Two words that are telling together.
const TELLING_PAIRS: &[(&str, &str, Secret)] = &[
    ("api", "key", Secret::Key),
    ("access", "key", Secret::Key),
    ("secret", "key", Secret::Key),
    ("private", "key", Secret::Key),
    ("auth", "key", Secret::Key),
    ("account", "key", Secret::Key),
    ("encryption", "key", Secret::Key),
    ("signing", "key", Secret::Key),
    ("shared", "key", Secret::Key),
    ("master", "key", Secret::Key),
    ("session", "key", Secret::Key),
    ("license", "key", Secret::Key),
    ("storage", "key", Secret::Key),
    ("app", "key", Secret::Key),
    ("session", "id", Secret::Session),
    ("connect", "sid", Secret::Session),
    ("basic", "auth", Secret::Authorization),
    ("sas", "token", Secret::Token),
];

/// What is telling only in the query of a URL.
const TELLING_IN_QUERIES: &[(&str, Secret)] = &[
    ("key", Secret::Key),
    ("sig", Secret::Signature),
    ("signature", Secret::Signature),
    ("code", Secret::Token),
    ("auth", Secret::Authorization),
    ("session", Secret::Session),
    ("sid", Secret::Session),
    ("otp", Secret::Password),
    ("pin", Secret::Password),
    ("assertion", Secret::Token),
    ("hmac", Secret::Signature),
];

/// Words behind a telling one that change nothing: `password_confirmation`.
const NEUTRAL: &[&str] = &[
    "value",
    "val",
    "string",
    "str",
    "text",
    "plain",
    "plaintext",
    "raw",
    "b",
    "base",
    "encoded",
    "hash",
    "old",
    "new",
    "current",
    "confirm",
    "confirmation",
    "again",
    "admin",
    "root",
    "production",
    "prod",
    "staging",
    "test",
    "live",
    "main",
    "primary",
    "secondary",
    "hex",
];

/// First words of an option that takes no secret: `--ask-pass`, `--generate-token`.
const VERBS: &[&str] = &[
    "no", "ask", "prompt", "skip", "without", "disable", "enable", "allow", "require", "requires",
    "use", "show", "print", "generate", "gen", "reset", "change", "update", "delete", "remove",
    "list", "create", "get", "has", "is", "max", "min", "num", "read", "rotate", "revoke", "check",
];

/// The same word, whatever its case.
pub(super) fn same(word: &[u8], other: &str) -> bool {
    word.eq_ignore_ascii_case(other.as_bytes())
}

/// Whether it is one of these words.
pub(super) fn is_one_of(word: &[u8], list: &[&str]) -> bool {
    list.iter().any(|other| same(word, other))
}

fn find(word: &[u8], list: &[(&str, Secret)]) -> Option<Secret> {
    list.iter().find(|(other, _)| same(word, other)).map(|(_, secret)| *secret)
}

/// The last words of a name: it is taken apart at whatever is no letter, and where a
/// small letter is followed by a large one. Digits are no words.
struct Words<'n> {
    words: [&'n [u8]; WORDS_MAX],
    /// How many there are.
    count: usize,
}

impl<'n> Words<'n> {
    fn of(name: &'n [u8]) -> Words<'n> {
        let mut words = Words { words: [&[]; WORDS_MAX], count: 0 };
        let mut start = 0;
        for (place, byte) in name.iter().enumerate() {
            let follows_small =
                place > start && name.get(place - 1).is_some_and(u8::is_ascii_lowercase);
            if !byte.is_ascii_alphabetic() {
                words.push(name.get(start..place).unwrap_or_default());
                start = place + 1;
            } else if byte.is_ascii_uppercase() && follows_small {
                words.push(name.get(start..place).unwrap_or_default());
                start = place;
            }
        }
        words.push(name.get(start..).unwrap_or_default());
        words
    }

    fn push(&mut self, word: &'n [u8]) {
        if word.is_empty() {
            return;
        }
        if self.count == WORDS_MAX {
            self.words.rotate_left(1);
            self.count -= 1;
        }
        if let Some(place) = self.words.get_mut(self.count) {
            *place = word;
            self.count += 1;
        }
    }

    fn all(&self) -> &[&'n [u8]] {
        self.words.get(..self.count).unwrap_or_default()
    }
}

/// Which secret a value behind this name is, if it is one. `added` are further names
/// that an operator calls telling, see [`super::Rules`].
pub(super) fn telling(name: &[u8], place: Place, added: &[Vec<u8>]) -> Option<Secret> {
    let name = name.get(name.len().saturating_sub(NAME_BYTES_MAX)..).unwrap_or_default();
    if !added.is_empty() && added.iter().any(|word| ends_in(name, word)) {
        return Some(Secret::Word);
    }
    let words = Words::of(name);
    let mut words = words.all();
    if place == Place::Option && words.len() > 1 && is_one_of(words.first()?, VERBS) {
        return None;
    }
    if place == Place::Query
        && let Some(secret) = find(words.last()?, TELLING_IN_QUERIES)
    {
        return Some(secret);
    }
    while let [rest @ .., last] = words
        && !rest.is_empty()
        && is_one_of(last, NEUTRAL)
    {
        words = rest;
    }
    match words {
        [.., before, last] => {
            let pair = TELLING_PAIRS
                .iter()
                .find(|(first, second, _)| same(before, first) && same(last, second));
            pair.map(|(.., secret)| *secret).or_else(|| telling_word(last))
        }
        [last] => telling_word(last),
        [] => None,
    }
}

fn telling_word(word: &[u8]) -> Option<Secret> {
    find(word, TELLING).or_else(|| {
        let ends = |other: &str| {
            let from = word.len().checked_sub(other.len())?;
            word.get(from..).filter(|end| same(end, other))
        };
        TELLING_ENDS.iter().find(|(other, _)| ends(other).is_some()).map(|(_, secret)| *secret)
    })
}

/// Whether the name is this word, or ends with it behind a separator. Case and kind of
/// separator do not matter.
fn ends_in(name: &[u8], word: &[u8]) -> bool {
    let Some(from) = name.len().checked_sub(word.len()) else { return false };
    let is_separator = |byte: u8| !byte.is_ascii_alphanumeric();
    let same = name
        .get(from..)
        .unwrap_or_default()
        .iter()
        .zip(word)
        .all(|(a, b)| a.eq_ignore_ascii_case(b) || (is_separator(*a) && is_separator(*b)));
    same && !word.is_empty() && (from == 0 || name.get(from - 1).is_some_and(|b| is_separator(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(name: &str) -> Option<Secret> {
        telling(name.as_bytes(), Place::Assignment, &[])
    }

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "password",
            "--password",
            "DB_PASSWORD",
            "dbPassword",
            "db.password",
            "PGPASSWORD",
            "MYSQL_PWD",
            "passwd",
            "--pass",
            "password_confirmation",
            "PASSWORD2",
        ] {
            assert_eq!(assigned(name), Some(Secret::Password), "{name}");
        }
        for (name, secret) in [
            ("AWS_SECRET_ACCESS_KEY", Secret::Key),
            ("X-Api-Key", Secret::Key),
            ("apiKey", Secret::Key),
            ("AccountKey", Secret::Key),
            ("secret_key_base", Secret::Key),
            ("client_secret", Secret::Secret),
            ("_authToken", Secret::Token),
            ("X-Vault-Token", Secret::Token),
            ("Proxy-Authorization", Secret::Authorization),
            ("Set-Cookie", Secret::Session),
            ("PHPSESSID", Secret::Session),
        ] {
            assert_eq!(assigned(name), Some(secret), "{name}");
        }
    }

    #[test]
    fn names_that_only_sound_like_it_are_not() {
        for name in [
            "password-file",
            "--password-stdin",
            "PASSWORD_LENGTH",
            "tokenizer",
            "max_tokens",
            "secretName",
            "access_key_id",
            "token_type",
            "key",
            "bypass",
            "compass",
            "keyboard",
            "author",
            "authority",
            "pass_count",
            "cookie_domain",
            "",
        ] {
            assert_eq!(assigned(name), None, "{name}");
        }
        assert_eq!(telling(b"ask-pass", Place::Option, &[]), None);
        assert_eq!(telling(b"key", Place::Query, &[]), Some(Secret::Key));
    }

    #[test]
    fn words_of_the_operator_are_telling_too() {
        let added = [b"badge-number".to_vec()];
        let told = |name: &str| telling(name.as_bytes(), Place::Assignment, &added);
        assert_eq!(told("BADGE_NUMBER"), Some(Secret::Word));
        assert_eq!(told("x.badge-number"), Some(Secret::Word));
        assert_eq!(told("xbadge-number"), None);
        assert_eq!(told("badge-numbers"), None);
    }
}
