//! The fields of the contract's objects. Each is declared once, so readers and schemas use the same names.

use std::hash::Hash;

/// A field of an object. It has one name in the normal form, and may have aliases that are accepted too.
pub(crate) trait Field: Copy + Ord + Hash + 'static {
    /// In the order of the normal form.
    const ALL: &'static [Self];
    /// Names in the normal form, in the same order.
    const NAMES: &'static [&'static str];

    /// The field with this name or alias.
    fn of(name: &str) -> Option<Self>;

    /// The field whose name comes first in some JSON, in its quotes and followed by a colon, and the length of all that.
    fn starting(json: &[u8]) -> Option<(Self, usize)>;

    /// Its name in the normal form, then its aliases.
    fn names(self) -> &'static [&'static str];

    /// Its name in the normal form.
    fn name(self) -> &'static str {
        self.names()[0]
    }
}

/// Declares the fields of one object: `Variant => "name" | "alias",`.
macro_rules! fields {
    ($(#[doc = $doc:literal])* $object:ident { $($variant:ident => $name:literal $(| $alias:literal)*,)+ }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $object {
            $($variant,)+
        }

        impl $crate::field::Field for $object {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            const NAMES: &'static [&'static str] = &[$($name,)+];

            fn of(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $alias)* => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn starting(json: &[u8]) -> Option<(Self, usize)> {
                $(
                    if json.starts_with(concat!('"', $name, "\":").as_bytes()) {
                        return Some((Self::$variant, $name.len() + 3));
                    }
                    $(
                        if json.starts_with(concat!('"', $alias, "\":").as_bytes()) {
                            return Some((Self::$variant, $alias.len() + 3));
                        }
                    )*
                )+
                None
            }

            fn names(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$name $(, $alias)*],)+
                }
            }
        }
    };
}
pub(crate) use fields;

#[cfg(test)]
mod tests {
    use super::*;

    fields! {
        /// An example.
        Example { One => "one" | "One", Two => "two", }
    }

    #[test]
    fn finds_a_field_by_each_of_its_names() {
        assert_eq!(Example::NAMES, ["one", "two"]);
        assert_eq!(Example::ALL.iter().map(|field| field.name()).collect::<Vec<_>>(), Example::NAMES);
        assert_eq!(["one", "One", "ONE"].map(Example::of), [Some(Example::One), Some(Example::One), None]);
        let starting = |json: &str| Example::starting(json.as_bytes());
        assert_eq!(starting(r#""One": 1"#), Some((Example::One, 6)));
        assert_eq!(starting(r#""two":"#), Some((Example::Two, 6)));
        assert_eq!([r#""two""#, r#""twos":"#, "two:", r#""two" :"#, ""].map(starting), [None; 5]);
    }
}
