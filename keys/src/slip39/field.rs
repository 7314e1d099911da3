//! GF(256) with the polynomial of AES, and interpolation in it. No tables and no
//! branches on secret bytes: products are computed bit by bit.

use zeroize::Zeroizing;

fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & 0_u8.wrapping_sub(b & 1);
        let carry = 0_u8.wrapping_sub(a >> 7);
        a = a << 1 ^ carry & 0x1B;
        b >>= 1;
    }
    product
}

/// `a^254`: the inverse of everything but zero.
fn invert(a: u8) -> u8 {
    let squares = (0..7).scan(a, |power, _| {
        *power = multiply(*power, *power);
        Some(*power)
    });
    squares.fold(1, multiply)
}

/// A point: where a share stands, and its bytes.
pub(crate) struct Point<'a> {
    pub(crate) x: u8,
    pub(crate) y: &'a [u8],
}

/// The polynomial's value at `x`, byte by byte.
///
/// # Panics
/// If two points share an x or the lengths differ; the callers have refused both.
pub(crate) fn interpolate(points: &[Point<'_>], x: u8) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(vec![0; points[0].y.len()]);
    for (i, point) in points.iter().enumerate() {
        assert_eq!(point.y.len(), out.len(), "shares of one length");
        let weight = points.iter().enumerate().filter(|(j, _)| *j != i).fold(1, |weight, (_, other)| {
            assert_ne!(point.x, other.x, "distinct positions");
            multiply(weight, multiply(x ^ other.x, invert(point.x ^ other.x)))
        });
        for (sum, &byte) in out.iter_mut().zip(point.y) {
            *sum ^= multiply(weight, byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_a_field() {
        // FIPS 197, section 4.2.
        assert_eq!(multiply(0x57, 0x83), 0xC1);
        assert_eq!(multiply(0x57, 0x13), 0xFE);
        for a in 1..=255 {
            assert_eq!(multiply(a, invert(a)), 1);
            assert_eq!(multiply(a, 0), 0);
        }
    }

    #[test]
    fn a_line_and_a_parabola_are_found_again() {
        for (a, b, c) in [(3, 7, 0), (200, 14, 99), (0, 0, 255)] {
            let value = |x: u8| [a ^ multiply(b, x) ^ multiply(c, multiply(x, x))];
            let ys: Vec<_> = [1, 5, 250].map(value).into();
            let points: Vec<_> = [1, 5, 250].into_iter().zip(&ys).map(|(x, y)| Point { x, y }).collect();
            for x in 0..=255 {
                assert_eq!(interpolate(&points, x)[..], value(x));
            }
        }
    }
}
