//! Reads Rust well enough to check rules: what is code, what is comment, where a
//! function begins and ends. Not a parser; it need not accept only valid Rust.

/// `source` with everything but the wanted parts replaced by spaces. Lines stay
/// where they are, so line numbers hold.
pub(crate) fn keep(source: &str, comments: Comments) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut kept = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, is_wanted) = match piece(&chars, at) {
            Piece::Code(end) => (end, true),
            Piece::Comment(end) => (end, comments == Comments::Kept),
            Piece::Literal(end) => (end, false),
        };
        for &c in &chars[at..end] {
            kept.push(if is_wanted || c == '\n' { c } else { ' ' });
        }
        at = end;
    }
    kept
}

/// Whether [`keep`] keeps comments beside the code. Literals are never kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comments {
    Kept,
    Blanked,
}

/// A function: its name, its first line counted from 1, and how many it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// The functions with a body in `code`, which [`keep`] has cleaned.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("fn ").map(|offset| from + offset) {
        from = at + "fn ".len();
        let is_word_start = !code[..at].chars().next_back().is_some_and(is_word);
        let name: String = code[from..].chars().take_while(|&c| is_word(c)).collect();
        if !is_word_start || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code[from..]) {
            let line = 1 + code[..at].matches('\n').count();
            let lines = 1 + code[at..from + end].matches('\n').count();
            found.push(Function { name, line, lines });
        }
    }
    found
}

/// Where the body of a function ends whose name `code` begins with; none when it
/// ends in a semicolon.
fn body_end(code: &str) -> Option<usize> {
    let mut brackets = 0usize;
    let mut braces = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at),
            '}' => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    None
}

enum Piece {
    Code(usize),
    Comment(usize),
    Literal(usize),
}

fn piece(chars: &[char], at: usize) -> Piece {
    let next = chars.get(at + 1).copied();
    let starts_word = at == 0 || !is_word(chars[at - 1]);
    match chars[at] {
        '/' if next == Some('/') => Piece::Comment(line_end(chars, at)),
        '/' if next == Some('*') => Piece::Comment(block_comment_end(chars, at)),
        '"' => Piece::Literal(string_end(chars, at)),
        'r' | 'b' | 'c' if starts_word => match raw_string_end(chars, at) {
            Some(end) => Piece::Literal(end),
            None => Piece::Code(at + 1),
        },
        '\'' => match char_end(chars, at) {
            Some(end) => Piece::Literal(end),
            None => Piece::Code(at + 1),
        },
        _ => Piece::Code(at + 1),
    }
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |length| at + length)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"..."`, `r#"..."#`, `br"..."`, `cr"..."`; none for anything else,
/// such as `r#type`.
fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(chars[at], 'b' | 'c') {
        at += 1;
    }
    if chars.get(at) != Some(&'r') {
        return None;
    }
    at += 1;
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < chars.len() {
        let closing = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
        if chars[at] == '"' && closing >= hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(chars.len())
}

/// The end of a character literal; none for a lifetime.
fn char_end(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start + 1) == Some(&'\\') {
        // The escaped character may be a quote itself.
        let rest = chars.get(start + 3..)?;
        return rest.iter().position(|&c| c == '\'').map(|length| start + 3 + length + 1);
    }
    (chars.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        keep(source, Comments::Blanked)
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"a "b \" c" d"#), "a          d");
        assert_eq!(code(r##"a r#"b " c"# d"##), "a            d");
        assert_eq!(code(r"a b'\'' d"), "a b     d");
        assert_eq!(code("a '{' d"), "a     d");
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        let source = "fn f<'a>(x: &'a str) -> r#type { 'outer: loop {} }";
        assert_eq!(code(source), source);
    }

    #[test]
    fn comments_can_be_kept() {
        assert_eq!(keep("a // b \"c\"\n\"d\"", Comments::Kept), "a // b \"c\"\n   ");
    }

    #[test]
    fn unfinished_pieces_end_with_the_source() {
        for source in ["\"a", "r#\"a", "/* a", "// a", "'\\", "'", "b", "r#"] {
            assert_eq!(code(source).chars().count(), source.chars().count(), "{source}");
        }
    }

    #[test]
    fn functions_are_measured_from_fn_to_the_closing_brace() {
        let source = "fn a(\n  x: [u8; 4],\n) {\n  if x {}\n}\ntrait T { fn b(&self); fn c() {} }";
        let function = |name: &str, line, lines| Function { name: name.to_owned(), line, lines };
        assert_eq!(functions(source), [function("a", 1, 5), function("c", 6, 1)]);
    }

    #[test]
    fn types_of_functions_and_longer_words_are_no_functions() {
        assert_eq!(functions("type F = fn (u8); let my_fn = 1; my_fn { }"), []);
    }
}
