//! Q16.16: a number as a 32-bit integer of 65,536ths.
//!
//! Floats enter the kernel through [`Fixed::from_f32`] and nowhere else. It reads the bits of the float
//! and uses integer arithmetic only, so there is no rounding mode, fused operation or wide register
//! that could make two machines disagree. Numbers written as text are taken as the nearest f32 first:
//! vectors are born as f32, and text and binary uploads of one vector must give one state hash.

use crate::error::Rule;

/// A Q16.16 number: `raw / 65536`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fixed(i32);

const FRACTION_BITS: i32 = 16;
const MANTISSA_BITS: i32 = 23;
const EXPONENT_BIAS: i32 = 127;

impl Fixed {
    /// One.
    pub const ONE: Fixed = Fixed(1 << FRACTION_BITS);
    /// Zero.
    pub const ZERO: Fixed = Fixed(0);

    /// Wraps 65,536ths.
    pub const fn from_raw(raw: i32) -> Self {
        Fixed(raw)
    }

    /// The number in 65,536ths.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Converts by rounding to nearest, ties to even, saturating at the ends; NaN and infinities are refused.
    pub const fn from_f32(value: f32) -> Result<Self, Rule> {
        let bits = value.to_bits();
        let negative = bits >> 31 == 1;
        let exponent = (bits >> MANTISSA_BITS & 0xFF).cast_signed();
        let fraction = bits & ((1 << MANTISSA_BITS) - 1);
        if exponent == 0xFF {
            return Err(Rule::NotFinite);
        }
        if exponent == 0 {
            return Ok(Fixed(0)); // Zero and subnormals: far below half of 2^-16.
        }
        let mantissa = (fraction | 1 << MANTISSA_BITS) as u64;
        // value = mantissa * 2^(exponent - bias - 23); wanted: value * 2^16.
        let shift = exponent - EXPONENT_BIAS - MANTISSA_BITS + FRACTION_BITS;
        let magnitude = if shift >= 0 {
            // 24 bits shifted by 9 exceed 31 bits already: saturated, and no shift can overflow u64.
            mantissa << if shift > 9 { 9 } else { shift }
        } else {
            round_shift(mantissa, -shift)
        };
        Ok(Fixed(clamp(magnitude, negative)))
    }

    /// The exact value as a double: 32 bits always fit its 53.
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) / 65_536.0
    }
}

/// `value / 2^shift`, to nearest, ties to even.
const fn round_shift(value: u64, shift: i32) -> u64 {
    if shift > 25 {
        return 0; // 24 bits by 26 or more: under a quarter.
    }
    let floor = value >> shift;
    let rest = value & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    if rest > half || (rest == half && floor & 1 == 1) { floor + 1 } else { floor }
}

const fn clamp(magnitude: u64, negative: bool) -> i32 {
    if negative {
        if magnitude >= 1 << 31 { i32::MIN } else { -(magnitude as i32) }
    } else if magnitude > i32::MAX as u64 {
        i32::MAX
    } else {
        magnitude as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let cases: [(f32, i32); 14] = [
            (0.0, 0),
            (-0.0, 0),
            (1.0, 65_536),
            (-1.0, -65_536),
            (0.1, 6_554),
            (0.5 / 65_536.0, 0),
            (1.5 / 65_536.0, 2),
            (2.5 / 65_536.0, 2),
            (-1.5 / 65_536.0, -2),
            (32_767.998, 2_147_483_520),
            (32_768.0, i32::MAX),
            (-32_768.0, i32::MIN),
            (f32::MAX, i32::MAX),
            (f32::MIN, i32::MIN),
        ];
        for (value, raw) in cases {
            assert_eq!(Fixed::from_f32(value).unwrap().raw(), raw, "{value}");
        }
        assert_eq!(Fixed::from_f32(f32::MIN_POSITIVE).unwrap(), Fixed::ZERO);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Fixed::from_f32(value), Err(Rule::NotFinite));
        }
    }

    proptest! {
        /// Against the host's doubles, where the scaling by 2^16 is exact.
        #[test]
        fn agrees_with_doubles(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let scaled = (f64::from(value) * 65_536.0).round_ties_even();
            prop_assert_eq!(Fixed::from_f32(value).unwrap().raw(), scaled as i32);
        }
    }
}
