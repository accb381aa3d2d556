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
# Harder ones: most names that a pilot meets are made of other pieces than those above.
HARD_ONSETS = ("b bl br c ch cl cr d dr dw f fl fr g gl gr gw h j k kl kn kr l m n p ph pl pr qu r rh s sc sch sh sk sl sm sn sp "
               "st str sw t th thr tr tw v vl w wh wr y z zw").split()
HARD_VOWELS = "a e i o u a e i o u a e i o u ae ai au ay ea ee ei eu ia ie io oa oi oo ou ow oy ue y".split()
HARD_CODAS = ("b ch ck d dd ff ft g gg gh k ks l ld lf lk ll lm lt m mb mp n nd ng nk nn nt p pp pt r rd rf rg rk rl rm rn rp "
              "rs rt rth s sh sk sp ss st t th tt tz w x z").split()
TAILS = ("bach berg borough bourne bridge brook bury caster chester church cliff combe cote croft den down end fell firth fleet "
         "gate grove hall haven heath hill holm holt house ing kirk lake land lea ling low marsh minster moor more ness over "
         "park pool port ridge rock shaw shire side stead stoke stone stow thorpe thwaite try vale view ville water way well "
         "wold wood").split()


def coin(r, ends=True):
    """A made-up word of two syllables, in lower case."""
    w = r.pick(ONSETS) + r.pick(VOWELS)
    if r.chance(0.4):
        w += r.pick(CODAS)
    w += r.pick(ONSETS)
    return w + r.pick(ENDS) if ends and r.chance(0.3) else w + r.pick(VOWELS) + r.pick(CODAS)


def syllable(r):
    w = ("" if r.chance(0.12) else r.pick(HARD_ONSETS)) + r.pick(HARD_VOWELS)
    return w + r.pick(HARD_CODAS) if r.chance(0.7) else w


def pieces(r):
    """The two or three parts of a made-up name, in lower case."""
    kind = r.below(10)
    if kind < 4:
        return [syllable(r), r.pick(TAILS)]
    if kind < 6:
        return [coin(r, False), r.pick(TAILS)]
    if kind < 9:
        return [syllable(r), syllable(r)]
    return [syllable(r), r.pick(VOWELS), syllable(r)]


def coin_name(r, plain=0.4):
    return coin(r).capitalize() if r.chance(plain) else "".join(pieces(r)).capitalize()


def alike(r, name):
    """A name that begins or ends as the given one does."""
    cut = r.range(2, max(2, min(len(name) - 2, 5)))
    if r.chance(0.5):
        return name[:cut] + (r.pick(TAILS) if r.chance(0.7) else syllable(r))
    return syllable(r).capitalize() + name[max(cut, len(name) - 6):]


NAMES = ("Ada Alan Alice Amir Anna Ben Bob Carl Chloe Clara Dan David Diana Ella Emma Eric Eva Fatima "
         "Felix Finn Grace Hana Hugo Ida Ines Ivan Jack Jane John Julia Karl Kate Lea Leo Lily Lucas "
         "Maria Mark Max Maya Mia Mila Noah Nina Omar Oscar Paul Peter Rosa Ruth Sam Sara Sofia Tim "
         "Tom Vera Will Yara Zoe Albert Aisha Andrea Anton Arthur Bella Bruno Caroline Cyrus Daisy Dora Elias Emil "
         "Ernest Esther Fiona Frank Frida George Greta Gustav Hannah Harold Helen Ibrahim Isabel Jasper Jenny Jorge Josef "
         "Kevin Kim Laura Lena Louis Lucy Mabel Marco Margaret Matteo Michael Miriam Nora Olga Olivia Pablo Patrick "
         "Pauline Philip Ralph Robert Ronja Rupert Samira Sandra Sergei Sigrid Simon Susan Sven Sylvia Tamara Theo Thomas "
         "Uma Valentin Victoria Vincent Walter William Yvonne Zara").split()

MEN = set("Alan Amir Ben Bob Carl Dan David Eric Felix Finn Hugo Ivan Jack John Karl Leo Lucas Mark Max Noah Omar "
          "Oscar Paul Peter Sam Tim Tom Will Albert Anton Arthur Bruno Cyrus Elias Emil Ernest Frank George Gustav Harold "
          "Ibrahim Jasper Jorge Josef Kevin Louis Marco Matteo Michael Pablo Patrick Philip Ralph Robert Rupert Sergei Simon "
          "Sven Theo Thomas Valentin Vincent Walter William".split())

OBJECTS = ("apples balls beads books bottles boxes buttons cakes candles cards carrots chairs coins "
           "cookies cups eggs flowers forks keys lamps leaves lemons letters marbles nuts onions "
           "oranges pages peaches pencils pens plates plums potatoes roses seeds shells shirts "
           "shoes sheep socks stamps stars stickers stones sweets tickets tomatoes toys trees bells berries blocks bricks "
           "brushes bowls bulbs cakes cans carpets cats chickens clocks coats corks cushions dates dolls dresses drums figs "
           "fishes glasses gloves hammers hens horses jackets kettles knives melons mirrors nails notebooks paintings pans "
           "papers parcels pebbles photos pies pins pumpkins puppets rabbits rings rolls ropes rugs rulers sandwiches scarves "
           "spades sticks strawberries teapots tiles torches towels turnips umbrellas vases watches wheels whistles").split()

CONTAINERS = ("bag bags|basket baskets|box boxes|crate crates|jar jars|shelf shelves|bowl bowls|drawer drawers|pack packs|"
              "tray trays|barrel barrels|bin bins|cupboard cupboards|cabinet cabinets|pot pots|tin tins|tub tubs|"
              "pouch pouches|suitcase suitcases|van vans|room rooms")
CONTAINERS = [tuple(c.split()) for c in CONTAINERS.split("|")]
