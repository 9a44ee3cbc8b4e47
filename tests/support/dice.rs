//! Chance that can be seen again: the same seed rolls the same on every machine.

/// A xorshift generator (Marsaglia, 2003).
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeds that are near to each other begin differently: they are spread by the multiplier of
    /// splitmix64, which is odd and so loses nothing.
    pub(crate) fn new(seed: u64) -> Self {
        let spread = (seed | 1 << 63).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self(spread ^ spread >> 31)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    pub(crate) fn one_of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.roll(items.len())]
    }
}
