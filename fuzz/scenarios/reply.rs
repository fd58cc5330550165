//! Replies as a client reads them: any stream, whole, octet by octet and in pieces, gives the same answers and the same
//! fault; what is kept is bounded.

use posthouse::smtp::answer::{LINE_OCTETS, Parsed, Parser, TEXT_OCTETS};

pub fn run(data: &[u8]) {
    let whole = read(data, |_| usize::MAX);
    assert!(whole == read(data, |_| 1));
    let mut state = data.len() as u32 | 1;
    let pieces = read(data, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize % 23 + 1
    });
    assert!(whole == pieces);
}

fn read(stream: &[u8], mut cut: impl FnMut(usize) -> usize) -> Vec<String> {
    let (mut parser, mut buffer, mut story) = (Parser::default(), Vec::new(), Vec::new());
    let mut later = stream;
    loop {
        match parser.next(&buffer) {
            Parsed::Incomplete => {
                assert!(buffer.len() < LINE_OCTETS);
                if later.is_empty() {
                    return story;
                }
                let (now, rest) = later.split_at(cut(later.len()).clamp(1, later.len()));
                buffer.extend_from_slice(now);
                later = rest;
            }
            Parsed::Line { consumed, text, last } => {
                assert!(consumed > 0 && consumed <= buffer.len() && text < consumed);
                buffer.drain(..consumed);
                let answer = parser.answer();
                assert!((200..600).contains(&answer.code()));
                assert!(answer.text().len() <= TEXT_OCTETS);
                assert!(!answer.text().chars().any(|c| c.is_control() && c != '\n'));
                if let Some((class, ..)) = answer.enhanced() {
                    assert_eq!(class, answer.class());
                }
                assert_eq!(parser.is_inside(), !last);
                story.push(format!("{last} {answer}"));
            }
            Parsed::Fault(fault) => {
                story.push(format!("{fault:?}"));
                return story;
            }
        }
    }
}
