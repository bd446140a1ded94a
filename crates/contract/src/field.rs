//! The fields of the contract's objects, each declared once, so that what reads them and what describes them to
//! machines know the same names.

/// A field of an object. It has one name in the normal form, and may have others that are understood too.
pub(super) trait Field: Copy + PartialEq + 'static {
    /// In the order of the normal form.
    const ALL: &'static [Self];
    /// The normal form's names, in the same order.
    const NAMES: &'static [&'static str];

    /// The field that has this name, among others maybe.
    fn of(name: &str) -> Option<Self>;

    /// All its names, the normal form's first.
    fn names(self) -> &'static [&'static str];

    /// The normal form's name.
    fn name(self) -> &'static str {
        self.names()[0]
    }
}

/// Declares the fields of one object: `Variant => "name" | "other name",`.
macro_rules! fields {
    ($(#[doc = $meaning:literal])+ $object:ident { $($variant:ident => $name:literal $(| $other:literal)*,)+ }) => {
        $(#[doc = $meaning])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $object {
            $($variant,)+
        }

        impl $crate::field::Field for $object {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            const NAMES: &'static [&'static str] = &[$($name,)+];

            fn of(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $other)* => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn names(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$name $(, $other)*],)+
                }
            }
        }
    };
}
pub(super) use fields;

#[cfg(test)]
mod tests {
    use super::*;

    fields! {
        /// An example.
        Example { One => "one" | "One", Two => "two", }
    }

    #[test]
    fn a_field_is_known_by_each_of_its_names() {
        assert_eq!(Example::NAMES, ["one", "two"]);
        assert_eq!(Example::ALL.iter().map(|field| field.name()).collect::<Vec<_>>(), Example::NAMES);
        assert_eq!(["one", "One", "ONE"].map(Example::of), [Some(Example::One), Some(Example::One), None]);
    }
}
