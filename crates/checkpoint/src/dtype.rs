//! The types of a tensor's elements: one table.

use serde::{Deserialize, Serialize};

macro_rules! dtypes {
    ($($name:ident $bits:literal $doc:literal,)*) => {
        /// The type of a tensor's elements, by its name in the safetensors format (safetensors 0.8, `tensor.rs`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[allow(non_camel_case_types)]
        pub enum DType { $(#[doc = $doc] $name,)* }

        impl DType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Bits of one element.
            #[must_use]
            pub fn bits(self) -> u64 {
                match self { $(Self::$name => $bits,)* }
            }

            /// Its name in the safetensors format.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

dtypes! {
    BOOL 8 "A byte that is 0 or 1.",
    F4 4 "Two of them share a byte.",
    F6_E2M3 6 "Four of them share three bytes.",
    F6_E3M2 6 "Four of them share three bytes.",
    U8 8 "An unsigned byte.",
    I8 8 "A signed byte.",
    F8_E5M2 8 "8-bit float, 5 bits of exponent.",
    F8_E4M3 8 "8-bit float, 4 bits of exponent.",
    F8_E8M0 8 "8-bit scale.",
    F8_E4M3FNUZ 8 "8-bit float without infinities and negative zero.",
    F8_E5M2FNUZ 8 "8-bit float without infinities and negative zero.",
    I16 16 "16-bit signed integer.",
    U16 16 "16-bit unsigned integer.",
    F16 16 "IEEE half.",
    BF16 16 "bfloat16.",
    I32 32 "32-bit signed integer.",
    U32 32 "32-bit unsigned integer.",
    F32 32 "IEEE single.",
    C64 64 "Two F32.",
    F64 64 "IEEE double.",
    I64 64 "64-bit signed integer.",
    U64 64 "64-bit unsigned integer.",
}

impl DType {
    /// Bytes of a tensor of this shape; `None` when that is no whole number of bytes, or more than a file can hold.
    #[must_use]
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        let bits = elements(shape)?.checked_mul(self.bits())?;
        (bits % 8 == 0 && bits / 8 <= i64::MAX as u64).then_some(bits / 8)
    }

    /// Finds a type by its safetensors name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }
}

/// Elements of a shape; 1 for a scalar. `None` when they are more than 64 bits count, whatever else is 0.
pub(crate) fn elements(shape: &[u64]) -> Option<u64> {
    // The product without the zeros must fit too: readers multiply in any order.
    let others = shape.iter().filter(|side| **side != 0).try_fold(1_u64, |product, side| product.checked_mul(*side))?;
    Some(if shape.contains(&0) { 0 } else { others })
}
