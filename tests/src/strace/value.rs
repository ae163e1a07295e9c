//! What strace prints of an argument, as a tree.

use std::fmt;

/// How deep lists and structures may lie in one another; strace's own are not deeper
/// than a message in a list of messages with its vectors.
const DEPTH_MAX: usize = 16;

/// Bytes of a string that are shown before the rest is counted.
const SHOWN_MAX: usize = 80;

/// One argument, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub enum Traced {
    /// The bytes of a string, and whether there were more.
    Text(Vec<u8>, bool),
    /// No address.
    Null,
    /// A number, names of flags, an address, what looks like a call: as it was printed,
    /// without what strace says about it.
    Word(String),
    /// A descriptor and what strace says lies behind it.
    Descriptor(String, Vec<u8>),
    /// Values one after the other, in brackets.
    List(Vec<Traced>),
    /// Everything but what is in a list: `~[KILL STOP]`.
    Not(Vec<Traced>),
    /// Members of a structure; those without a name have an empty one.
    Structure(Vec<(String, Traced)>),
    /// A number that stands for several names.
    Either(Vec<Traced>),
    /// What it was when the call began, and what the kernel made of it.
    Change(Box<Traced>, Box<Traced>),
    /// `...`: there was more.
    More,
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traced::Text(bytes, cut) => {
                let shown = &bytes[..bytes.len().min(SHOWN_MAX)];
                write!(f, "\"{}\"", shown.escape_ascii())?;
                match bytes.len() - shown.len() {
                    0 if *cut => f.write_str("..."),
                    0 => Ok(()),
                    more => write!(f, " and {more} bytes"),
                }
            }
            Traced::Null => f.write_str("NULL"),
            Traced::Word(text) => f.write_str(text),
            Traced::Descriptor(word, file) => write!(f, "{word}<{}>", file.escape_ascii()),
            Traced::List(list) => f.debug_list().entries(list).finish(),
            Traced::Not(list) => {
                f.write_str("~")?;
                f.debug_list().entries(list).finish()
            }
            Traced::Structure(members) => {
                f.write_str("{")?;
                for (place, (name, value)) in members.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    let equals = if name.is_empty() { "" } else { "=" };
                    write!(f, "{comma}{name}{equals}{value:?}")?;
                }
                f.write_str("}")
            }
            Traced::Either(names) => {
                for (place, name) in names.iter().enumerate() {
                    write!(f, "{}{name:?}", if place == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Traced::Change(from, to) => write!(f, "{from:?} => {to:?}"),
            Traced::More => f.write_str("..."),
        }
    }
}

/// An argument, with a name where strace gives it one.
pub type Argument = (String, Traced);

/// The arguments up to the bracket that closes them, and what follows it; `None` where
/// it is not there, because the call never came to its end.
///
/// # Errors
/// What is not understood.
pub(super) fn arguments(text: &str) -> Result<(Vec<Argument>, Option<&str>), String> {
    let mut reader = Reader { text, at: 0 };
    let mut found = Vec::new();
    loop {
        reader.spaces();
        match reader.next() {
            None => return Ok((found, None)),
            Some(b')') => return Ok((found, Some(&text[reader.at + 1..]))),
            Some(b',') if !found.is_empty() => reader.at += 1,
            // Of a thread that was killed meanwhile.
            Some(b'<') if reader.takes("<unfinished ...>") => {}
            Some(_) => found.push(reader.member(0)?),
        }
    }
}

/// One value that fills the whole text.
///
/// # Errors
/// What is not understood.
pub fn value(text: &str) -> Result<Traced, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.spaces();
    match reader.next() {
        None => Ok(value),
        Some(_) => Err(format!("more than a value: {:?}", &text[reader.at..])),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn takes(&mut self, word: &str) -> bool {
        let takes = self.rest().starts_with(word);
        self.at += if takes { word.len() } else { 0 };
        takes
    }

    fn spaces(&mut self) {
        while self.next() == Some(b' ') {
            self.at += 1;
        }
    }

    /// `name=value`, or a value.
    fn member(&mut self, depth: usize) -> Result<Argument, String> {
        let name =
            self.rest().bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let length = name.count();
        let (name, behind) = self.rest().split_at(length);
        let is_named = length > 0 && behind.starts_with('=') && !behind.starts_with("=>");
        if is_named {
            self.at += length + 1;
        }
        let value = self.value(depth)?;
        Ok((if is_named { name.to_string() } else { String::new() }, value))
    }

    fn value(&mut self, depth: usize) -> Result<Traced, String> {
        if depth > DEPTH_MAX {
            return Err("lists in lists in lists".to_string());
        }
        let value = self.atom(depth)?;
        self.remark()?;
        if self.rest().starts_with(" or ") {
            let mut names = vec![value];
            while self.takes(" or ") {
                names.push(self.atom(depth)?);
            }
            return Ok(Traced::Either(names));
        }
        if self.takes(" => ") || self.takes("=> ") {
            let after = self.atom(depth)?;
            self.remark()?;
            return Ok(Traced::Change(Box::new(value), Box::new(after)));
        }
        Ok(value)
    }

    /// What strace says about a value: `/* 35 vars */`, a time in words.
    fn remark(&mut self) -> Result<(), String> {
        if self.takes(" /* ") {
            let length = self.rest().find("*/").ok_or("a remark without an end")?;
            self.at += length + 2;
        }
        Ok(())
    }

    fn atom(&mut self, depth: usize) -> Result<Traced, String> {
        match self.next() {
            Some(b'"') => self.string(),
            Some(b'@') if self.rest().starts_with("@\"") => {
                self.at += 1;
                // An abstract name begins with a NUL, which strace does not print.
                Ok(match self.string()? {
                    Traced::Text(bytes, cut) => Traced::Text([&b"\0"[..], &bytes].concat(), cut),
                    other => other,
                })
            }
            Some(b'[') => Ok(Traced::List(self.list(depth)?)),
            Some(b'~') if self.rest().starts_with("~[") => {
                self.at += 1;
                Ok(Traced::Not(self.list(depth)?))
            }
            Some(b'{') if self.rest().starts_with("{WIF") => self.wait_status(),
            Some(b'{') => self.structure(depth),
            _ => self.word(),
        }
    }

    fn string(&mut self) -> Result<Traced, String> {
        self.at += 1;
        let length = self.rest().find('"').ok_or("a string without an end")?;
        let inside = &self.rest()[..length];
        self.at += length + 1;
        let cut = self.takes("...");
        Ok(Traced::Text(hexadecimal(inside)?, cut))
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Traced>, String> {
        let found = self.within(b'[', b']', depth)?;
        // Some lists have places: `[0x10]=...`. None of them is met.
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }

    fn structure(&mut self, depth: usize) -> Result<Traced, String> {
        Ok(Traced::Structure(self.within(b'{', b'}', depth)?))
    }

    fn within(&mut self, open: u8, close: u8, depth: usize) -> Result<Vec<Argument>, String> {
        debug_assert_eq!(self.next(), Some(open));
        self.at += 1;
        let mut found = Vec::new();
        loop {
            self.spaces();
            match self.next() {
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(found);
                }
                Some(b',') if !found.is_empty() => self.at += 1,
                Some(_) => found.push(self.member(depth + 1)?),
                None => return Err("a bracket that is not closed".to_string()),
            }
        }
    }

    /// `{WIFEXITED(s) && WEXITSTATUS(s) == 0}`: a word with spaces, and perhaps the event
    /// of a tracer behind it.
    fn wait_status(&mut self) -> Result<Traced, String> {
        let length = self.rest().find('}').ok_or("a bracket that is not closed")? + 1;
        let behind = &self.rest()[length..];
        let event = match behind.starts_with(" | ") {
            true => behind.find([']', ',']).unwrap_or(behind.len()),
            false => 0,
        };
        let word = &self.rest()[..length + event];
        self.at += length + event;
        Ok(Traced::Word(word.to_string()))
    }

    /// Up to what separates values; brackets in it are part of it.
    fn word(&mut self) -> Result<Traced, String> {
        if self.takes("...") {
            return Ok(Traced::More);
        }
        let start = self.at;
        let (mut open, mut quoted) = (0usize, false);
        while let Some(byte) = self.next() {
            match byte {
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'<' if open == 0 && self.rest().starts_with("<\\x") => {
                    return self.descriptor(start);
                }
                b'(' => open += 1,
                b')' if open > 0 => open -= 1,
                b',' | b' ' | b')' | b']' | b'}' if open == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        match &self.text[start..self.at] {
            _ if quoted => Err("a string without an end".to_string()),
            _ if open > 0 => Err("brackets that do not match".to_string()),
            "" => Err(format!("no value: {:?}", self.rest())),
            "NULL" => Ok(Traced::Null),
            word => Ok(Traced::Word(word.to_string())),
        }
    }

    /// `3<...>`, perhaps `(deleted)`.
    fn descriptor(&mut self, start: usize) -> Result<Traced, String> {
        let word = self.text[start..self.at].to_string();
        self.at += 1;
        let length = self.rest().find('>').ok_or("a file without an end")?;
        let mut file = hexadecimal(&self.rest()[..length])?;
        self.at += length + 1;
        if self.takes("(deleted)") {
            file.extend(b" (deleted)");
        }
        Ok(Traced::Descriptor(word, file))
    }
}

/// The bytes of `\x2f\x61`.
fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(|_| "a string not in hex")?;
    if bytes.len() * 4 != text.len() {
        return Err("a string not in hex".to_string());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Traced {
        Traced::Word(text.to_string())
    }

    fn text(bytes: &[u8]) -> Traced {
        Traced::Text(bytes.to_vec(), false)
    }

    fn member(name: &str, value: Traced) -> Argument {
        (name.to_string(), value)
    }

    #[test]
    fn values_are_trees() {
        let structure = r#"{a=[1, {b="\x2c\x29"}], c=f(1, 2) /* f} */, d=NULL, ...}"#;
        let inner = Traced::Structure(vec![member("b", text(b",)"))]);
        let expected = Traced::Structure(vec![
            member("a", Traced::List(vec![word("1"), inner])),
            member("c", word("f(1, 2)")),
            member("d", Traced::Null),
            member("", Traced::More),
        ]);
        assert_eq!(value(structure), Ok(expected));
        assert_eq!(value("~[INT CHLD]"), Ok(Traced::Not(vec![word("INT"), word("CHLD")])));
        assert_eq!(value("[]"), Ok(Traced::List(vec![])));
        assert_eq!(value("S_IFREG|0644"), Ok(word("S_IFREG|0644")));
        let exited = "{WIFEXITED(s) && WEXITSTATUS(s) == 0}";
        assert_eq!(value(&format!("[{exited}]")), Ok(Traced::List(vec![word(exited)])));
    }

    #[test]
    fn strings_are_bytes_and_say_when_they_are_cut() {
        assert_eq!(value(r#""""#), Ok(text(b"")));
        assert_eq!(value(r#""\xff\x00""#), Ok(text(b"\xff\0")));
        assert_eq!(value(r#""\x61"..."#), Ok(Traced::Text(b"a".to_vec(), true)));
        assert_eq!(value(r#"@"\x61""#), Ok(text(b"\0a")));
    }

    #[test]
    fn descriptors_say_what_lies_behind() {
        let file = Traced::Descriptor("3".to_string(), b"/a>".to_vec());
        assert_eq!(value(r"3<\x2f\x61\x3e>"), Ok(file));
        let gone = Traced::Descriptor("3".to_string(), b"/a (deleted)".to_vec());
        assert_eq!(value(r"3<\x2f\x61>(deleted)"), Ok(gone));
        assert_eq!(value("1<<CAP_CHOWN|1<<CAP_KILL"), Ok(word("1<<CAP_CHOWN|1<<CAP_KILL")));
    }

    #[test]
    fn what_the_kernel_changed_has_two_values() {
        let change = Traced::Change(Box::new(word("16")), Box::new(word("28")));
        assert_eq!(value("[16 => 28]"), Ok(Traced::List(vec![change])));
        assert_eq!(value("A or B"), Ok(Traced::Either(vec![word("A"), word("B")])));
    }

    #[test]
    fn arguments_end_at_the_bracket() {
        let (found, rest) = arguments("1, flags=A|B, [2]) = 3").unwrap();
        let expected = [
            member("", word("1")),
            member("flags", word("A|B")),
            member("", Traced::List(vec![word("2")])),
        ];
        assert_eq!((&found[..], rest), (&expected[..], Some(" = 3")));
        assert_eq!(arguments(") = 3"), Ok((vec![], Some(" = 3"))));
        assert_eq!(arguments("1, <unfinished ...>) = ?").unwrap().0, [member("", word("1"))]);
        assert_eq!(arguments("0, "), Ok((vec![member("", word("0"))], None)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["", "[1", "{a=1", "\"", "\"a\"", "\"\\x4\"", "f(1", "1 2", "3<\\x2f", "[1)"] {
            assert!(value(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(value(&deep).is_err());
    }
}
