//! Lists of mailboxes in a header: From, Sender (RFC 5322 3.4, RFC 6532).
//!
//! For judging, not for showing: whoever reads the field must find no other address in it than we do. So the grammar
//! is the strict one. A display name is a phrase (words, quoted strings, dots); an `@` that stands unquoted outside an
//! address makes the whole list unreadable, and so do a lone `<`, an address behind an address, a route, a NUL.
//! Comments may nest and stand between tokens. Linear in the field's length.

use super::address::Address;

/// Calls `found` for every address of a list or group, in order, and answers how many there are. `None`: this is not a
/// list that everybody reads in the same way; some of its addresses may have been told already.
pub fn each(value: &[u8], found: &mut dyn FnMut(&Address)) -> Option<usize> {
    let mut tokens = Tokens { rest: value };
    let mut count = 0_usize;
    let mut in_group = false;
    loop {
        // One mailbox, or nothing, up to a comma, a group's ends, or the end.
        let mut words: Vec<&[u8]> = Vec::new();
        let mut bracketed: Option<Address> = None;
        let end = loop {
            match tokens.next()? {
                Token::Sign(b'<') => {
                    if bracketed.is_some() || words.iter().any(|w| w.contains(&b'@') && !quoted(w))
                    {
                        return None;
                    }
                    bracketed = Some(tokens.address()?);
                }
                Token::Sign(b':') => {
                    if in_group || words.is_empty() || bracketed.is_some() {
                        return None;
                    }
                    if words.iter().any(|w| w.contains(&b'@') && !quoted(w)) {
                        return None;
                    }
                    in_group = true;
                    words.clear();
                }
                token @ (Token::Sign(b',' | b';') | Token::End) => break token,
                Token::Sign(_) => return None,
                Token::Word(word) => {
                    // Nothing stands behind an address in brackets.
                    if bracketed.is_some() {
                        return None;
                    }
                    words.push(word);
                }
            }
        };
        match bracketed {
            Some(address) => {
                found(&address);
                count = count.saturating_add(1);
            }
            None if words.is_empty() => {}
            None => {
                let text = words.concat();
                found(&Address::parse(&text, true)?);
                count = count.saturating_add(1);
            }
        }
        match end {
            Token::Sign(b';') if !in_group => return None,
            Token::Sign(b';') => {
                in_group = false;
                match tokens.next()? {
                    Token::End => return Some(count),
                    Token::Sign(b',') => {}
                    _ => return None,
                }
            }
            Token::End if in_group => return None,
            Token::End => return Some(count),
            _ => {}
        }
    }
}

fn quoted(word: &[u8]) -> bool {
    word.first() == Some(&b'"')
}

enum Token<'a> {
    /// A run of atom characters, dots and `@`; a quoted string with its quotes; a domain literal.
    Word(&'a [u8]),
    /// `<`, `:`, `,`, `;`.
    Sign(u8),
    End,
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// The next token behind space and comments; `None` for what is none.
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip()?;
        let Some(&first) = self.rest.first() else { return Some(Token::End) };
        let length = match first {
            b'<' | b':' | b',' | b';' => {
                self.rest = self.rest.get(1..)?;
                return Some(Token::Sign(first));
            }
            b'"' => string(self.rest)?,
            b'[' => {
                let end = self.rest.iter().position(|b| b"]\r\n\\".contains(b))?;
                if self.rest.get(end) != Some(&b']') {
                    return None;
                }
                end.saturating_add(1)
            }
            _ => self.rest.iter().position(|&b| !is_word(b)).unwrap_or(self.rest.len()),
        };
        if length == 0 {
            return None;
        }
        let (word, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Token::Word(word))
    }

    /// What stands up to `>`, the `<` being taken.
    fn address(&mut self) -> Option<Address> {
        let mut text = Vec::new();
        loop {
            self.skip()?;
            if let Some(rest) = self.rest.strip_prefix(b">") {
                self.rest = rest;
                return Address::parse(&text, true);
            }
            match self.next()? {
                Token::Word(word) => text.extend_from_slice(word),
                // The colon of an address literal is inside its word; a route is refused.
                Token::Sign(_) | Token::End => return None,
            }
        }
    }

    /// Goes over space, folds and comments.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let Some((&first, rest)) = self.rest.split_first() else {
                return (depth == 0).then_some(());
            };
            match first {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'(' => depth = depth.saturating_add(1),
                b')' if depth > 0 => depth = depth.saturating_sub(1),
                b'\\' if depth > 0 => {
                    self.rest = rest.get(1..)?;
                    continue;
                }
                0 => return None,
                _ if depth > 0 => {}
                _ => return Some(()),
            }
            self.rest = rest;
        }
    }
}

/// The length of the quoted string at the front, quotes included.
fn string(text: &[u8]) -> Option<usize> {
    let mut octets = text.iter().enumerate().skip(1);
    while let Some((n, &octet)) = octets.next() {
        match octet {
            b'"' => return n.checked_add(1),
            b'\\' => {
                octets.next()?;
            }
            0 => return None,
            _ => {}
        }
    }
    None
}

/// An atom's octet, a dot, or an `@` (RFC 5322 3.2.3, RFC 6532 3.2).
fn is_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet >= 0x80 || b"!#$%&'*+-/=?^_`{|}~.@".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<String>> {
        let mut all = Vec::new();
        let count = each(text.as_bytes(), &mut |a| {
            all.push(String::from_utf8_lossy(a.as_bytes()).into_owned());
        })?;
        assert_eq!(count, all.len());
        Some(all)
    }

    #[test]
    fn every_shape_of_a_list_gives_its_addresses() {
        for (text, addresses) in [
            (" a@b.test", vec!["a@b.test"]),
            ("A B <a@b.test>", vec!["a@b.test"]),
            ("\"x@y.test, \\\" (\" <a@b.test>", vec!["a@b.test"]),
            ("J. Doe (of (x@y.test\\)) z) <a@b.test> (end)", vec!["a@b.test"]),
            ("a@b.test,\r\n\tC <c@d.test>", vec!["a@b.test", "c@d.test"]),
            (", a@b.test, ,", vec!["a@b.test"]),
            ("team: a@b.test, C <c@d.test>;", vec!["a@b.test", "c@d.test"]),
            ("nobody:;", vec![]),
            ("=?utf-8?q?x=40y?= <a@b.test>", vec!["a@b.test"]),
            ("\"a b\"@c.test", vec!["\"a b\"@c.test"]),
            ("<a@[192.0.2.1]>", vec!["a@[192.0.2.1]"]),
            ("a @ b.test", vec!["a@b.test"]),
            ("J\u{fc}rgen <j\u{fc}rgen@b.test>", vec!["j\u{fc}rgen@b.test"]),
            ("", vec![]),
        ] {
            assert_eq!(
                read(text),
                Some(addresses.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_readers_take_differently_is_no_list() {
        for text in [
            "x@y.test <a@b.test>",
            "<x@y.test> <a@b.test>",
            "<a@b.test> x@y.test",
            "<a@b.test> x",
            "<a@b.test",
            "a@b.test>",
            "<@x.test:a@b.test>",
            "<>",
            "a@b.test\0",
            "\"open <a@b.test>",
            "(open <a@b.test>",
            "a b",
            "a@b.test c@d.test",
            "x@y.test: a@b.test;",
            "g: a@b.test",
            "a@b.test;",
            "g: h: a@b.test;;",
            "g: a@b.test; c@d.test",
            "a@b@c.test",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_field_costs_linear_time() {
        for text in ["(".repeat(1 << 20), "a,".repeat(1 << 19), "\"\\\"".repeat(1 << 18)] {
            let _ = each(text.as_bytes(), &mut |_| {});
        }
    }
}
