//! The fields of the contract's objects. Each is declared once, so readers and schemas use the same names.

/// A field of an object. It has one name in the normal form, and may have aliases that are accepted too.
pub(crate) trait Field: Copy + Ord + 'static {
    /// In the order of the normal form.
    const ALL: &'static [Self];
    /// Names in the normal form, in the same order.
    const NAMES: &'static [&'static str];

    /// The field with this name or alias.
    fn of(name: &str) -> Option<Self>;

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
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    }
}
