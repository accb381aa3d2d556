"""Words and seeded random numbers that the pilot's generators share.

The generator draws from splitmix64 and not from Python's random module, whose
choice() and shuffle() have changed between versions: a seed gives the same
bytes on every machine."""

MASK = (1 << 64) - 1


class Rng:
    """splitmix64 (Steele, Lea and Flood, 2014)."""

    def __init__(self, seed):
        self.s = seed & MASK

    def u64(self):
        self.s = (self.s + 0x9E3779B97F4A7C15) & MASK
        z = self.s
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return (self.u64() * n) >> 64

    def range(self, lo, hi):
        """lo..hi, both ends included."""
        return lo + self.below(hi - lo + 1)

    def pick(self, seq):
        return seq[self.below(len(seq))]

    def chance(self, p):
        return (self.u64() >> 11) * (1.0 / (1 << 53)) < p

    def shuffled(self, seq):
        out = list(seq)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out

    def weighted(self, pairs):
        """pairs: (weight, value)."""
        at = self.below(sum(w for w, _ in pairs))
        for w, v in pairs:
            if at < w:
                return v
            at -= w
        raise AssertionError


ONSETS = "b c d f g h j k l m n p r s t v w z b d k l m n r s t br dr fl gr kr pl sh st tr".split()
VOWELS = "a e i o u a e i o ai ea oo".split()
CODAS = "d g k l m n p r s t l n r s nd rk st".split()
ENDS = "a e i o y".split()


def coin(r, ends=True):
    """A made-up word of two syllables, in lower case."""
    w = r.pick(ONSETS) + r.pick(VOWELS)
    if r.chance(0.4):
        w += r.pick(CODAS)
    w += r.pick(ONSETS)
    return w + r.pick(ENDS) if ends and r.chance(0.3) else w + r.pick(VOWELS) + r.pick(CODAS)


def coin_name(r):
    return coin(r).capitalize()


NAMES = ("Ada Alan Alice Amir Anna Ben Bob Carl Chloe Clara Dan David Diana Ella Emma Eric Eva Fatima "
         "Felix Finn Grace Hana Hugo Ida Ines Ivan Jack Jane John Julia Karl Kate Lea Leo Lily Lucas "
         "Maria Mark Max Maya Mia Mila Noah Nina Omar Oscar Paul Peter Rosa Ruth Sam Sara Sofia Tim "
         "Tom Vera Will Yara Zoe").split()

MEN = set("Alan Amir Ben Bob Carl Dan David Eric Felix Finn Hugo Ivan Jack John Karl Leo Lucas Mark Max Noah Omar "
          "Oscar Paul Peter Sam Tim Tom Will".split())

OBJECTS = ("apples balls beads books bottles boxes buttons cakes candles cards carrots chairs coins "
           "cookies cups eggs flowers forks keys lamps leaves lemons letters marbles nuts onions "
           "oranges pages peaches pears pencils pens plates plums potatoes roses seeds shells shirts "
           "shoes sheep socks stamps stars stickers stones sweets tickets tomatoes toys trees").split()

CONTAINERS = "bag bags|basket baskets|box boxes|crate crates|jar jars|shelf shelves|bowl bowls|drawer drawers|pack packs|tray trays"
CONTAINERS = [tuple(c.split()) for c in CONTAINERS.split("|")]
