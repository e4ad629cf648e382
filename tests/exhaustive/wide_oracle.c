/* The oracle of wide_oracle.py once more, in C: is a code the exact result of an operation, rounded?

   Numbers are whole ones of any length times a power of two; nothing is rounded here.  The functions have the
   names and the steps of the Python ones, which are the definition; the two are compared before each long run. */

#include <assert.h>
#include <stdint.h>

typedef unsigned __int128 wide;

enum { ADD, SUB, MUL, DIV };

/* A format has at most 64 bits and es <= 5, so the scales of values lie within +-62 * 32, those of boundaries within
   +-63 * 32, those of products and quotients within +-124 * 32.  To be compared with a boundary, a result of at most
   128 bits moves by less than 187 * 32 places: 6112 bits.  A sum, moved to the lower of its last bit and the
   boundary's, has less than 62 * 32 + 63 * 32 + 64. */
enum { WORDS = 128 };

typedef struct {
    int words; /* in use; the last one is not 0 */
    uint64_t word[WORDS];
} natural;

typedef struct {
    int negative;
    uint64_t m;
    int e;
} real; /* m * 2**e, or its negative */

typedef struct {
    int nbits, es, max_regime; /* max_regime 0: no bound */
} format;

static int bit_length(uint64_t x) {
    return x == 0 ? 0 : 64 - __builtin_clzll(x);
}

static uint64_t ones(int count) {
    return count >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1;
}

static void trim(natural *x) {
    while (x->words > 0 && x->word[x->words - 1] == 0)
        x->words--;
}

static void set(natural *x, wide value) {
    x->words = 2;
    x->word[0] = (uint64_t)value;
    x->word[1] = (uint64_t)(value >> 64);
    trim(x);
}

static void shift_left(natural *x, int by) {
    int whole = by / 64, part = by % 64, words = x->words + whole + 1;
    assert(by >= 0 && words <= WORDS);
    for (int i = words - 1; i >= 0; i--) {
        uint64_t here = i - whole >= 0 && i - whole < x->words ? x->word[i - whole] : 0;
        uint64_t below = i - whole >= 1 ? x->word[i - whole - 1] : 0;
        x->word[i] = part ? here << part | below >> (64 - part) : here;
    }
    x->words = words;
    trim(x);
}

static int compare(const natural *x, const natural *y) {
    if (x->words != y->words)
        return x->words > y->words ? 1 : -1;
    for (int i = x->words - 1; i >= 0; i--)
        if (x->word[i] != y->word[i])
            return x->word[i] > y->word[i] ? 1 : -1;
    return 0;
}

/* x + y, or x - y where x >= y */
static void combine(natural *sum, const natural *x, const natural *y, int subtract) {
    int words = (x->words > y->words ? x->words : y->words) + 1;
    uint64_t carry = 0;
    assert(words <= WORDS);
    for (int i = 0; i < words; i++) {
        wide left = i < x->words ? x->word[i] : 0, right = i < y->words ? y->word[i] : 0;
        wide total = subtract ? left - right - carry : left + right + carry;
        sum->word[i] = (uint64_t)total;
        carry = (uint64_t)(total >> 64) & 1;
    }
    assert(carry == 0);
    sum->words = words;
    trim(sum);
}

/* Value of a positive code without its sign bit, `width` bits of it. */
static real split(uint64_t body, int width, format f) {
    int bound = f.max_regime ? f.max_regime : width + 1;
    int upper = (int)(body >> (width - 1)) & 1;
    int run = width - bit_length(upper ? body ^ ones(width) : body);
    if (run > bound)
        run = bound;
    int scale = (upper ? run - 1 : -run) * (1 << f.es);
    int rest = width - run - (run < bound);
    if (rest < 0)
        rest = 0;
    uint64_t tail = body & ones(rest);
    if (rest < f.es)
        return (real){0, 1, scale + (int)(tail << (f.es - rest))};
    int fraction = rest - f.es;
    uint64_t m = (uint64_t)1 << fraction | (tail & ones(fraction));
    return (real){0, m, scale + (int)(tail >> fraction) - fraction};
}

/* Value of a code that is not NaR. */
static real value(uint64_t code, format f) {
    if (code == 0)
        return (real){0, 0, 0};
    if (code >> (f.nbits - 1) == 0)
        return split(code, f.nbits - 1, f);
    real x = split((0 - code) & ones(f.nbits), f.nbits - 1, f);
    x.negative = 1;
    return x;
}

/* Sign of numerator / denominator * 2**e - boundary. */
static int sign_of_difference(const natural *numerator, uint64_t denominator, int e, real boundary) {
    natural left = *numerator, right;
    set(&right, (wide)boundary.m * denominator);
    if (e >= boundary.e)
        shift_left(&left, e - boundary.e);
    else
        shift_left(&right, boundary.e - e);
    return compare(&left, &right);
}

/* Whether `code` is +-numerator / denominator * 2**e, rounded by the Posit Standard (2022). */
static int is_rounded(uint64_t code, int negative, const natural *numerator, uint64_t denominator, int e,
                      format f) {
    uint64_t nar = (uint64_t)1 << (f.nbits - 1), maxpos = nar - 1;
    if (numerator->words == 0)
        return code == 0;
    if (code == 0 || code == nar || negative != (code > nar))
        return 0;
    if (negative)
        code = (0 - code) & ones(f.nbits);
    if (code != 1) { /* nothing rounds to 0 */
        int side = sign_of_difference(numerator, denominator, e, split(2 * code - 1, f.nbits, f));
        if (side < 0 || (side == 0 && code % 2 == 1))
            return 0;
    }
    if (code != maxpos) { /* nor beyond maxpos */
        int side = sign_of_difference(numerator, denominator, e, split(2 * code + 1, f.nbits, f));
        if (side > 0 || (side == 0 && code % 2 == 1))
            return 0;
    }
    return 1;
}

static int wrong(int operation, uint64_t a, uint64_t b, uint64_t got, format f) {
    uint64_t nar = (uint64_t)1 << (f.nbits - 1);
    if (a == nar || b == nar || (operation == DIV && b == 0))
        return got != nar;
    real x = value(a, f), y = value(b, f);
    natural numerator;
    if (operation == MUL) {
        set(&numerator, (wide)x.m * y.m);
        return !is_rounded(got, x.negative != y.negative, &numerator, 1, x.e + y.e, f);
    }
    if (operation == DIV) {
        set(&numerator, x.m);
        return !is_rounded(got, x.negative != y.negative, &numerator, y.m, x.e - y.e, f);
    }
    if (operation == SUB)
        y.negative = !y.negative;
    int low = x.e < y.e ? x.e : y.e;
    natural left, right;
    set(&left, x.m);
    shift_left(&left, x.e - low);
    set(&right, y.m);
    shift_left(&right, y.e - low);
    int left_leads = compare(&left, &right) >= 0;
    combine(&numerator, left_leads ? &left : &right, left_leads ? &right : &left, x.negative != y.negative);
    return !is_rounded(got, left_leads ? x.negative : y.negative, &numerator, 1, low, f);
}

/* Note in `verdicts` which results are wrong. */
void check_results(int operation, int64_t count, const uint64_t *a, const uint64_t *b, const uint64_t *got,
                   int nbits, int es, int max_regime, uint8_t *verdicts) {
    format f = {nbits, es, max_regime};
    for (int64_t i = 0; i < count; i++)
        verdicts[i] = (uint8_t)wrong(operation, a[i], b[i], got[i], f);
}
