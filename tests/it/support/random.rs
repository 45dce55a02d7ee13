//! Random numbers that a seed repeats on every machine (SplitMix64).

pub struct Random(u64);

/// `count` seeds that are the same every time, unless `LAKEMERGE_TEST_SEED` names the one or `LAKEMERGE_TEST_CASES` says
/// how many.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let first = number("LAKEMERGE_TEST_SEED");
    let count = number("LAKEMERGE_TEST_CASES").unwrap_or(if first.is_some() { 1 } else { count });
    let first = first.unwrap_or_default();
    first..first + count
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed of its own for each process, or the one in `LAKEMERGE_TEST_SEED`; printed, so that a failure can be repeated.
    pub fn fresh_seed(what: &str) -> u64 {
        let seed = number("LAKEMERGE_TEST_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0.into());
        println!("{what}: LAKEMERGE_TEST_SEED={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Below `length`.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// From `least` to `most`, both included.
    pub fn between(&mut self, least: i128, most: i128) -> i128 {
        let any = u128::from(self.next()) << 64 | u128::from(self.next());
        least.wrapping_add_unsigned(any % most.abs_diff(least).saturating_add(1))
    }

    /// From 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.index(i + 1));
        }
    }
}
