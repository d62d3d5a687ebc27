//! Queries that one key answers, whatever the others hold.

/// Integer codes of keys, and queries that score their own key higher than any other by at least
/// ln(keys) + 18, after which all other weights together stay below e^-18.
///
/// A code is the digits of a number, repeated over the width, with minus half its squared length in
/// the last place. A query holds the same digits and 1 there, times a factor: its score of another
/// code falls by half their squared distance. All products are exact in f32 and f16, and because
/// the factor is a power of two, so are their sums.
pub struct Needle {
    d: usize,
    keys: usize,
    base: usize,
    digits: usize,
    factor: f32,
}

impl Needle {
    /// For `keys` codes of width `d` and scores divided by √d.
    ///
    /// # Panics
    /// Below a width of 2, which has no room for the last place.
    pub fn new(keys: usize, d: usize) -> Self {
        assert!(d >= 2, "codes need two places");
        let keys = keys.max(1);
        let holds = |base: usize, digits: usize| {
            (0..digits).try_fold(1_usize, |n, _| n.checked_mul(base)).is_none_or(|n| n >= keys)
        };
        let base = (2..).find(|&base| holds(base, d - 1)).expect("a base as large as the keys");
        let digits = (1..d).find(|&digits| holds(base, digits)).expect("d - 1 digits hold them");
        // Two codes differ in at least one digit, which is there this often.
        let copies = ((d - 1) / digits) as f32;
        let gap = (keys as f32).ln() + 18.0;
        let least = 2.0 * gap * (d as f32).sqrt() / copies;
        let factor = least.log2().ceil().exp2();
        Needle { d, keys, base, digits, factor }
    }

    /// Element `i` of the code of a number, taken modulo the number of keys.
    pub fn key(&self, number: usize, i: usize) -> f32 {
        if i + 1 < self.d {
            return self.digit(number, i);
        }
        let square = |i| self.digit(number, i) * self.digit(number, i);
        -0.5 * (0..i).map(square).sum::<f32>()
    }

    /// Element `i` of the query for that code.
    pub fn query(&self, number: usize, i: usize) -> f32 {
        self.factor * if i + 1 < self.d { self.digit(number, i) } else { 1.0 }
    }

    fn digit(&self, number: usize, i: usize) -> f32 {
        let power = self.base.pow((i % self.digits) as u32);
        let digit = number % self.keys / power % self.base;
        digit as f32 - ((self.base - 1) / 2) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_finds_its_key_by_the_promised_gap() {
        for (keys, d) in [(1, 5), (7, 5), (31, 80), (65, 40), (257, 128), (500, 6), (1501, 64)] {
            let needle = Needle::new(keys, d);
            let row = |number, of: &dyn Fn(usize, usize) -> f32| -> Vec<f64> {
                (0..d).map(|i| f64::from(of(number, i))).collect()
            };
            let codes: Vec<_> = (0..keys).map(|j| row(j, &|j, i| needle.key(j, i))).collect();
            let gap = (keys as f64).ln() + 18.0;
            for target in (0..keys).step_by(7).chain([keys - 1]) {
                let query = row(target, &|j, i| needle.query(j, i));
                let exact = |x: &f64| f64::from(half::f16::from_f64(*x)) == *x;
                assert!(query.iter().chain(&codes[target]).all(exact), "{keys} {d}");
                for code in &codes {
                    let products: Vec<f64> = query.iter().zip(code).map(|(q, k)| q * k).collect();
                    let half = f64::from(needle.factor) / 2.0;
                    assert!(products.iter().all(|p| (p / half).fract() == 0.0), "{keys} {d}");
                    let size: f64 = products.iter().map(|p| p.abs()).sum();
                    assert!(size <= 2048.0 * half && size < 65_504.0, "{keys} {d}: {size}");
                }
                let score = |code: &Vec<f64>| {
                    query.iter().zip(code).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()
                };
                let own = score(&codes[target]);
                let others = codes.iter().enumerate().filter(|(j, _)| *j != target);
                assert!(others.map(|(_, code)| own - score(code)).all(|apart| apart >= gap));
            }
        }
    }
}
