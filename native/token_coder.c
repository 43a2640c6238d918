/* The inner loops of the entropy code (evitif/model/entropy_code.py, token_parts.py) and of the choice of how a frame is sent
 * (evitif/pipeline/coded_choice.py), which say what this does and why; a test compares the two. Where this library is not built, Python
 * does the same. No allocation, no state of its own; every array is the caller's.
 */

#include <stdint.h>
#include <string.h>

#define VERSION 4               /* of the functions and of `Tables`; evitif/model/native.py asks for it */
#define PRECISION 24            /* bits of a frequency */
#define GUESS_BITS 10
#define MOST_CLASSES 64
#define ESCAPE_BITS 8
#define MODE_COLUMNS 64         /* of a token that its mode is chosen by */

/* The tables of one step, `Step` and `Tables` in entropy_tables.py. Row mode * sorts + sort is a token's, and its mode is
 * fineness * kinds + kind. */
typedef struct {
    int32_t columns, coefficients, sorts, kinds, modes, blocks, all_blocks, buckets, classes, centres, reach, limit, smooth, marks;
    const int32_t *block_edges;         /* [blocks + 1], columns */
    const int16_t *base, *floor;        /* [rows, columns] */
    const int64_t *expected;            /* [rows, blocks] */
    const int32_t *factors;             /* [rows, coefficients] */
    const int32_t *sizes;               /* [modes], of a step in units of the levels */
    const int8_t *shifts;               /* [2, all_blocks, buckets] */
    const int64_t *mark;                /* [marks] */
    const int32_t *centre;              /* [(classes + 1) * centres] */
    const int32_t *low_bits, *table;    /* [classes + 1] */
    const uint32_t *edges;              /* [tables, 2 * reach + 2], where the symbols' shares of 2^24 begin */
    const uint8_t *guess;               /* [tables, 2^GUESS_BITS], a symbol to look from */
} Tables;

/* rANS, as in symbol_coder.py: a stack of words below a state. */
typedef struct {
    uint64_t state;
    uint32_t *words;
    int64_t count;
} Coder;

int32_t evitif_coder_version(void) { return VERSION; }

static inline void push(Coder *coder, uint32_t low, uint32_t frequency) {
    if (coder->state >> (64 - PRECISION) >= frequency) {
        coder->words[coder->count++] = (uint32_t)coder->state;
        coder->state >>= 32;
    }
    coder->state = (coder->state / frequency) << PRECISION | (low + coder->state % frequency);
}

static inline void push_bits(Coder *coder, uint32_t value, int bits) {
    push(coder, value << (PRECISION - bits), 1u << (PRECISION - bits));
}

static inline void refill(Coder *coder, uint32_t low, uint32_t frequency, uint32_t part) {
    coder->state = (coder->state >> PRECISION) * frequency + (part - low);
    if (coder->state < (uint64_t)1 << 32 && coder->count)
        coder->state = coder->state << 32 | coder->words[--coder->count];
}

static inline int32_t pop(Coder *coder, const uint32_t *edges, const uint8_t *guess) {
    uint32_t part = (uint32_t)coder->state & ((1u << PRECISION) - 1);
    int32_t symbol = guess[part >> (PRECISION - GUESS_BITS)];
    while (edges[symbol + 1] <= part)
        symbol++;
    refill(coder, edges[symbol], edges[symbol + 1] - edges[symbol], part);
    return symbol;
}

static inline uint32_t pop_bits(Coder *coder, int bits) {
    uint32_t part = (uint32_t)coder->state & ((1u << PRECISION) - 1), symbol = part >> (PRECISION - bits);
    refill(coder, symbol << (PRECISION - bits), 1u << (PRECISION - bits), part);
    return symbol;
}

static inline int32_t shift_of(const Tables *t, int64_t row, int block, int64_t seen) {
    int64_t ratio = (seen + t->smooth) * 16 / (t->expected[row * t->blocks + block] + t->smooth);
    int bucket = 0;
    while (bucket < t->marks && t->mark[bucket] <= ratio)
        bucket++;
    int later = row / t->sorts % t->kinds != 0;     /* a difference from what is known */
    return t->shifts[(later * t->all_blocks + block) * t->buckets + bucket];
}

static inline int32_t class_of(const Tables *t, int64_t row, int column, int32_t shift) {
    int64_t at = row * t->columns + column;
    int32_t label = t->base[at] + shift;
    if (label < t->floor[at])
        label = t->floor[at];
    return label > t->classes ? t->classes : label;
}

static inline int16_t level_of(const Tables *t, int32_t step, int32_t predicted, int32_t symbol, int32_t label) {
    if (symbol) {
        int32_t size = symbol < 0 ? -symbol : symbol;
        int32_t centre = t->centre[label * t->centres + (size < t->centres ? size : t->centres - 1)];
        int32_t offset = ((64 * size - centre) * step + 32) >> 6;
        predicted += symbol < 0 ? -offset : offset;
    }
    return (int16_t)(predicted > t->limit ? t->limit : predicted < -t->limit ? -t->limit : predicted);
}

static inline int32_t predicted_of(const Tables *t, int64_t row, int k, const int16_t *reference) {
    return reference ? (t->factors[row * t->coefficients + k] * reference[k] + 128) >> 8 : 0;
}

static inline float cost_of(const Tables *t, const float *cost, int32_t label, int32_t magnitude) {
    int32_t high = magnitude >> t->low_bits[label];
    return cost[label * (t->reach + 1) + (high < t->reach ? high : t->reach)];
}

/* The best mode of a token of this fineness of which an earlier one is known, by its first coefficients (`EntropyCode._modes`). */
static uint8_t mode_of(const Tables *t, const int16_t *levels, int64_t sort, int fineness, const int16_t *reference, const float *cost,
                       float inverse, float thrift) {
    int kept = t->columns < MODE_COLUMNS ? t->columns : MODE_COLUMNS, best = t->modes;
    double least = 0;
    for (int k = 0; k < kept; k++) {
        float rest = (float)levels[k] * inverse - (float)reference[k] * inverse;
        least += rest * rest;
    }
    least -= thrift;
    for (int kind = t->kinds - 1; kind >= 0; kind--) {      /* of two that cost the same the lower one */
        int mode = fineness * t->kinds + kind;
        int64_t row = mode * t->sorts + sort;
        double sum = kind ? 0 : thrift;
        for (int k = 0; k < kept; k++) {
            float share = (float)t->factors[row * t->coefficients + k] * (1.0f / 256);
            float rest = (float)levels[k] * inverse - (float)reference[k] * inverse * share;
            int32_t label = t->base[row * t->columns + k];
            rest = rest < 0 ? -rest : rest;
            int32_t near = label > 0 ? (int32_t)(rest + 0.4f) : 0;
            rest -= (float)near;
            sum += rest * rest + thrift * cost_of(t, cost, label > 0 ? label : 0, near);
        }
        if (sum <= least) {
            least = sum;
            best = mode;
        }
    }
    return (uint8_t)best;
}

/* `EntropyCode.plan_tokens` for the n tokens at `places` of a frame, whose arrays these are. `reference` int16 [tokens, coefficients], read
 * where something is known, or NULL; `finenesses` of each token; `inverses` of the sizes of steps, [modes]. */
void evitif_plan(const Tables *t, int64_t n, const int64_t *places, const int16_t *levels, const int64_t *sorts, const uint8_t *is_known,
                 const int16_t *reference, const uint8_t *finenesses, const float *first, const float *rounding, const float *cost,
                 const int32_t *most, const float *inverses, float thrift, uint8_t *modes, int32_t *symbols, uint8_t *classes,
                 int16_t *result, float *bits) {
    for (int64_t next = 0; next < n; next++) {
        int64_t i = places[next];
        const int16_t *known = reference && is_known[i] ? reference + i * t->coefficients : NULL, *own = levels + i * t->coefficients;
        int16_t *after = result + i * t->coefficients;
        int32_t *symbol = symbols + i * t->columns;
        uint8_t *class = classes + i * t->columns;
        int plain = finenesses[i] * t->kinds;
        float inverse = inverses[plain];
        modes[i] = known ? mode_of(t, own, sorts[i], finenesses[i], known, cost, inverse, thrift) : (uint8_t)plain;
        int64_t row = (int64_t)modes[i] * t->sorts + sorts[i], seen = 0;
        float sum = 0;
        if (modes[i] == t->modes) {
            memset(symbol, 0, t->columns * sizeof *symbol);
            memset(class, 0, t->columns);
            memcpy(after, known, t->coefficients * sizeof *after);
            bits[i] = 0;
            continue;
        }
        int32_t step = t->sizes[plain];
        for (int block = 0; block < t->blocks; block++) {
            int32_t shift = shift_of(t, row, block, seen), total = 0;
            for (int k = t->block_edges[block]; k < t->block_edges[block + 1]; k++) {
                int32_t label = class_of(t, row, k, shift), predicted = predicted_of(t, row, k, known);
                float rest = (float)(own[k] - predicted) * inverse, wanted = rest < 0 ? -rest : rest;
                int32_t near = 0;
                if (wanted >= first[label]) {
                    near = (int32_t)(wanted + rounding[label]);
                    near = near < 1 ? 1 : near > most[label] ? most[label] : near;
                }
                sum += cost_of(t, cost, label, near);
                total += near;
                class[k] = (uint8_t)label;
                symbol[k] = rest < 0 ? -near : near;
                after[k] = level_of(t, step, predicted, symbol[k], label);
            }
            seen += 64 * (int64_t)total;
        }
        for (int k = t->columns; k < t->coefficients; k++)
            after[k] = level_of(t, step, predicted_of(t, row, k, known), 0, 0);
        bits[i] = sum;
    }
}

static inline int32_t class_at(const Tables *t, const uint8_t *classes, int64_t at) {
    return classes[at] <= t->classes ? classes[at] : 0;         /* there are no others in a plan */
}

/* Put the symbols of the n tokens `places` on the coder's stack, as `PartCoder.pack` orders them. `sorted` int32 [n * columns] is room;
 * the coder's words have room for three of each symbol. */
void evitif_push_tokens(const Tables *t, Coder *coder, int64_t n, const int64_t *places, const int32_t *symbols, const uint8_t *classes,
                        int32_t *sorted) {
    for (int block = t->blocks - 1; block >= 0; block--) {
        int64_t begin[MOST_CLASSES + 1] = {0}, end[MOST_CLASSES + 1];
        int first = t->block_edges[block], last = t->block_edges[block + 1];
        for (int64_t i = 0; i < n; i++)
            for (int k = first; k < last; k++)
                begin[class_at(t, classes, places[i] * t->columns + k) + 1]++;
        begin[1] = 0;       /* class 0 is not coded */
        for (int label = 1; label <= t->classes + 1; label++)
            begin[label] += begin[label - 1];
        memcpy(end, begin, sizeof end);
        for (int64_t i = 0; i < n; i++)
            for (int k = first; k < last; k++) {
                int64_t at = places[i] * t->columns + k;
                int32_t label = class_at(t, classes, at);
                if (label)
                    sorted[end[label]++] = symbols[at];
            }
        for (int label = t->classes; label > 0; label--)        /* how far the outer ones are out */
            for (int64_t at = end[label] - 1; at >= begin[label]; at--) {
                int32_t high = sorted[at] >> t->low_bits[label];
                if (high >= t->reach || high <= -t->reach)
                    push_bits(coder, (uint32_t)((high < 0 ? -high : high) - t->reach), ESCAPE_BITS);
            }
        for (int label = t->classes; label > 0 && t->low_bits[label]; label--)
            for (int64_t at = end[label] - 1; at >= begin[label]; at--)
                push_bits(coder, (uint32_t)sorted[at] & ((1u << t->low_bits[label]) - 1), t->low_bits[label]);
        for (int label = t->classes; label > 0; label--) {
            const uint32_t *edges = t->edges + t->table[label] * (2 * t->reach + 2);
            for (int64_t at = end[label] - 1; at >= begin[label]; at--) {
                int32_t high = sorted[at] >> t->low_bits[label];
                high = (high > t->reach ? t->reach : high < -t->reach ? -t->reach : high) + t->reach;
                push(coder, edges[high], edges[high + 1] - edges[high]);
            }
        }
    }
}

/* Take the symbols of n tokens from the coder; their levels int16 [n, coefficients]. `reference` as in `evitif_plan`; `symbols` int32 and
 * `classes` uint8 [n, columns], `seen` int64 [n], `sorted` and `low` int32 [n * columns] are room. */
void evitif_take_tokens(const Tables *t, Coder *coder, int64_t n, const int64_t *sorts, const uint8_t *modes, const int16_t *reference,
                        int32_t *symbols, uint8_t *classes, int64_t *seen, int32_t *sorted, int32_t *low, int16_t *result) {
    memset(seen, 0, n * sizeof *seen);
    for (int block = 0; block < t->blocks; block++) {
        int64_t begin[MOST_CLASSES + 1] = {0}, end[MOST_CLASSES + 1];
        int first = t->block_edges[block], last = t->block_edges[block + 1];
        for (int64_t i = 0; i < n; i++) {
            if (modes[i] == t->modes)
                continue;
            int64_t row = (int64_t)modes[i] * t->sorts + sorts[i];
            int32_t shift = shift_of(t, row, block, seen[i]);
            for (int k = first; k < last; k++) {
                int32_t label = class_of(t, row, k, shift);
                classes[i * t->columns + k] = (uint8_t)label;
                begin[label + 1]++;
            }
        }
        begin[1] = 0;
        for (int label = 1; label <= t->classes + 1; label++)
            begin[label] += begin[label - 1];
        for (int label = 1; label <= t->classes; label++) {
            const uint32_t *edges = t->edges + t->table[label] * (2 * t->reach + 2);
            const uint8_t *guess = t->guess + ((int64_t)t->table[label] << GUESS_BITS);
            for (int64_t at = begin[label]; at < begin[label + 1]; at++)
                sorted[at] = pop(coder, edges, guess) - t->reach;
        }
        /* Low bits come before how far the outer ones are out, but count after it. */
        for (int label = 1; label <= t->classes; label++)
            if (t->low_bits[label])
                for (int64_t at = begin[label]; at < begin[label + 1]; at++)
                    low[at] = (int32_t)pop_bits(coder, t->low_bits[label]);
        for (int label = 1; label <= t->classes; label++)
            for (int64_t at = begin[label]; at < begin[label + 1]; at++) {
                int32_t high = sorted[at];
                if (high >= t->reach || high <= -t->reach) {
                    int32_t more = (int32_t)pop_bits(coder, ESCAPE_BITS);
                    high += high < 0 ? -more : more;
                }
                sorted[at] = t->low_bits[label] ? high * (1 << t->low_bits[label]) + low[at] : high;
            }
        memcpy(end, begin, sizeof end);
        for (int64_t i = 0; i < n; i++) {
            if (modes[i] == t->modes)
                continue;
            int32_t total = 0;
            for (int k = first; k < last; k++) {
                int64_t at = i * t->columns + k;
                int32_t symbol = classes[at] ? sorted[end[classes[at]]++] : 0;
                symbols[at] = symbol;
                total += symbol < 0 ? -symbol : symbol;
            }
            seen[i] += 64 * (int64_t)total;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const int16_t *known = reference ? reference + i * t->coefficients : NULL;
        int16_t *after = result + i * t->coefficients;
        if (modes[i] == t->modes) {
            memcpy(after, known, t->coefficients * sizeof *after);
            continue;
        }
        int64_t row = (int64_t)modes[i] * t->sorts + sorts[i];
        for (int k = 0; k < t->coefficients; k++) {
            int64_t at = i * t->columns + k;
            after[k] = level_of(t, t->sizes[modes[i]], predicted_of(t, row, k, known), k < t->columns ? symbols[at] : 0,
                                k < t->columns ? classes[at] : 0);
        }
    }
}

/* n symbols of one model, edges uint32 [symbols + 1], onto the stack, or from it: for what is not tokens. */
void evitif_push(Coder *coder, int64_t n, const int32_t *symbols, const uint32_t *edges) {
    while (n--)
        push(coder, edges[symbols[n]], edges[symbols[n] + 1] - edges[symbols[n]]);
}

void evitif_take(Coder *coder, int64_t n, int32_t *symbols, const uint32_t *edges) {
    static const uint8_t nowhere[1 << GUESS_BITS];
    for (int64_t i = 0; i < n; i++)
        symbols[i] = pop(coder, edges, nowhere);
}

/* A patch as it would travel at a step, and what those before it take and bring, in the order of their worth. */
typedef struct {
    double worth, bytes, gained, bytes_before, gained_before;
    int64_t patch;
} Worth;

static int goes_before(const Worth *one, const Worth *other) {
    return one->worth > other->worth || (one->worth == other->worth && one->patch < other->patch);
}

static void by_worth(Worth *patches, int64_t n) {       /* Shell's sort: from step to step the order hardly changes */
    static const int64_t gaps[] = {132, 57, 23, 10, 4, 1};
    for (int g = 0; g < 6; g++)
        for (int64_t i = gaps[g]; i < n; i++) {
            Worth moved = patches[i];
            int64_t at = i;
            for (; at >= gaps[g] && goes_before(&moved, &patches[at - gaps[g]]); at -= gaps[g])
                patches[at] = patches[at - gaps[g]];
            patches[at] = moved;
        }
}

static int64_t worth_more(const Worth *patches, int64_t n, double least) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (patches[middle].worth > least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* `CodedChoice._by_price` (evitif/pipeline/coded_choice.py): sizes and again [steps, rows, prices], errors with a last axis of outcomes.
 * `gains` [rows, copies], `missing` [rows, copies + 1, outcomes]; `squares` of the steps' sizes, `ratio` of these to the planned one's;
 * `room` of patches + 1. */
void evitif_by_price(int64_t steps, int64_t n, int64_t rows, int64_t prices, int64_t copies, int64_t outcomes, int64_t unknown,
                     const double *bits, const double *missed, const double *left, const double *scale, const double *ratio,
                     const double *squares, const double *price, const double *gains, const double *missing, Worth *room, double *sizes,
                     double *errors, uint8_t *again) {
    for (int64_t i = 0; i < n; i++)
        room[i].patch = i;
    for (int64_t step = 0; step < steps; step++) {
        for (int64_t i = 0; i < n; i++) {
            int64_t patch = room[i].patch;
            double taken = bits[patch] * scale[step], rest = left[patch] * ratio[step];
            taken = taken > 1 ? taken : 1;
            room[i].gained = missed[patch] > rest ? missed[patch] - rest : 0;
            room[i].bytes = taken / 8;
            room[i].worth = room[i].gained / (squares[step] * taken);
        }
        by_worth(room, n);
        room[0].bytes_before = room[0].gained_before = 0;
        for (int64_t i = 0; i < n; i++) {
            room[i + 1].bytes_before = room[i].bytes_before + room[i].bytes;
            room[i + 1].gained_before = room[i].gained_before + room[i].gained;
        }
        for (int64_t row = 0; row < rows; row++)
            for (int64_t at = 0; at < prices; at++) {
                int64_t cell = (step * rows + row) * prices + at;
                double size = 0, before = room[n].gained_before;
                again[cell] = 0;
                for (int64_t outcome = 0; outcome < outcomes; outcome++)
                    errors[cell * outcomes + outcome] = 0;
                for (int64_t copy = 0; copy <= copies; copy++) {
                    double brought = 0;
                    if (copy < copies) {
                        double gain = gains[row * copies + copy];
                        int64_t taken = gain > 0 ? worth_more(room, n, price[at] / gain) : 0;
                        if (!copy) {
                            taken = taken > unknown ? taken : unknown;
                            size += (double)(n - taken) / 8;
                        }
                        again[cell] |= copy == 1 && taken;
                        size += room[taken].bytes_before;
                        brought = room[taken].gained_before;
                    }
                    for (int64_t outcome = 0; outcome < outcomes; outcome++)
                        errors[cell * outcomes + outcome] += (before - brought) * missing[(row * (copies + 1) + copy) * outcomes + outcome];
                    before = brought;
                }
                sizes[cell] = size;
            }
    }
}
