//! JSON from elsewhere, counted before it is taken apart.
//!
//! A value takes far more memory than its text: the three bytes of `{},` can become a
//! structure of hundreds. What bounds the length of a text does not bound that; the
//! number of its values does. The nesting has a limit of 128 inside serde_json.

use std::fmt;

use serde::Deserialize;

/// The most values of one text: a message of a thousand alerts has half of it, a
/// snapshot's header with every call and every trigger a quarter.
pub const VALUES_MAX: usize = 65_536;

/// A text that is not taken.
#[derive(Debug)]
pub enum JsonError {
    /// It has more than [`VALUES_MAX`] values.
    TooMany,
    /// It is not JSON, or not what it should be.
    Text(serde_json::Error),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::TooMany => write!(f, "it has more than {VALUES_MAX} values"),
            JsonError::Text(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for JsonError {}

/// Takes a text apart, unless it has too many values.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, JsonError> {
    if values(text) > VALUES_MAX {
        return Err(JsonError::TooMany);
    }
    serde_json::from_slice(text).map_err(JsonError::Text)
}

/// How many values a text has at the most: each but the first is behind a comma or an
/// opening bracket that is not in a string.
fn values(text: &[u8]) -> usize {
    let (mut values, mut is_string, mut is_escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b',' | b'{' | b'[' if !is_string => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_strings_are_one() {
        for (text, count) in [
            ("", 1),
            ("7", 1),
            ("[]", 2),
            ("[1,2]", 3),
            (r#"{"a":[{},{}]}"#, 6),
            (r#""a,[\",{""#, 1),
        ] {
            assert_eq!(values(text.as_bytes()), count, "{text}");
        }
    }

    #[test]
    fn a_text_of_very_many_values_is_refused_before_it_is_taken_apart() {
        let text = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        let parsed = parse::<Vec<u8>>(text(VALUES_MAX).as_bytes());
        assert_eq!(parsed.map(|values| values.len()).ok(), Some(VALUES_MAX - 1));
        let error = parse::<Vec<u8>>(text(VALUES_MAX + 1).as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::TooMany), "{error}");
        assert!(matches!(parse::<u8>(b"{"), Err(JsonError::Text(_))));
    }
}
