//! Names with wildcards, as the rules of table mappings have them.

/// A name with wildcards: `%` is any text, `_` is any one character (DMS, "Wildcards in table mapping").
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Many,
    One,
    Exactly(char),
}

impl Pattern {
    /// Any text at all.
    pub fn any() -> Self {
        Self(vec![Piece::Many])
    }

    /// The text as it stands, if there is no `%` in it: it matches itself. Of names with `_` hardly anyone means another.
    pub fn literal(&self) -> Option<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Exactly(c) => Some(*c),
            Piece::One => Some('_'),
            Piece::Many => None,
        };
        self.0.iter().map(piece).collect()
    }

    /// The same, whatever the case of letters: for [`Self::matches`] with a text in lower case.
    pub fn lowercase(&self) -> Self {
        let lower = |piece: &Piece| match piece {
            Piece::Exactly(c) => c.to_lowercase().map(Piece::Exactly).collect(),
            wildcard => vec![*wildcard],
        };
        Self(self.0.iter().flat_map(lower).collect())
    }

    pub fn exactly(text: &str) -> Self {
        Self(text.chars().map(Piece::Exactly).collect())
    }

    /// `[_]` and `[%]` stand for the characters themselves.
    pub fn like(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let escaped =
                [('_', "_]"), ('%', "%]")].into_iter().find(|(_, tail)| c == '[' && rest.as_str().starts_with(tail));
            pieces.push(match (c, escaped) {
                (_, Some((literal, _))) => {
                    rest.next();
                    rest.next();
                    Piece::Exactly(literal)
                }
                ('%', None) => Piece::Many,
                ('_', None) => Piece::One,
                (c, None) => Piece::Exactly(c),
            });
        }
        Self(pieces)
    }

    /// Goes back only to the last `%`: if the text can be matched at all, it can be so with the earlier ones at their
    /// shortest.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut last_many = None;
        while at < text.len() {
            match self.0.get(piece) {
                Some(Piece::Many) => {
                    last_many = Some((at, piece));
                    piece += 1;
                }
                Some(Piece::One) => (at, piece) = (at + 1, piece + 1),
                Some(Piece::Exactly(c)) if *c == text[at] => (at, piece) = (at + 1, piece + 1),
                _ => {
                    let Some((start, many)) = last_many else { return false };
                    last_many = Some((start + 1, many));
                    (at, piece) = (start + 1, many + 1);
                }
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pattern_matches_as_trying_everything_does(pattern in "[%_ab]{0,6}", name in "[ab]{0,6}") {
            fn tried(pattern: &[char], name: &[char]) -> bool {
                match (pattern.first(), name.first()) {
                    (None, None) => true,
                    (Some('%'), _) => tried(&pattern[1..], name) || !name.is_empty() && tried(pattern, &name[1..]),
                    (Some(p), Some(n)) => (*p == '_' || p == n) && tried(&pattern[1..], &name[1..]),
                    _ => false,
                }
            }
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::like(&pattern).matches(&name), tried(&chars(&pattern), &chars(&name)));
        }
    }
}
