/* One step of the decoder that step.py describes, in int8: each row by itself, every sum in an order of its own.
 *
 * Hidden states, what is attended and what was written last lie within -1 and 1: 126 stands for 1 in all of them. int8
 * cannot say that a number is not finite. So the unit of a row is then NaN, and with it all that is made of the row.
 */

#include <math.h>

#include "functions.h"
#include "product.h"

#define SHARE 32767.0f /* int16 for a weight of 1 */
#define TINY 1.17549435e-38f

/* Sizes are multiples of 32: E of an embedding, H of what is encoded, D of a hidden state, K of a key. */
typedef struct {
    Product ask;             /* [embedded, hidden] -> gates: enter, forget, leave, change */
    Product query;           /* [asked] */
    Product write;           /* [asked, attended, hidden] -> gates */
    Product features;        /* [attended, written, embedded] -> features (E), logit of generating rather than copying */
    Product logits;          /* [features] -> of the frequent tokens */
    const int8_t *inputs;    /* (V, E) what was written last */
    const uint8_t *outputs;  /* (V, E) + 128, what is scored */
    const float *scale;      /* (V) what 1 stands for in it */
    const float *bias;       /* (V) */
    int64_t embedded, encoded, decoder, key, frequent;
} Step;

/* S positions with U different tokens, N of them not frequent. */
typedef struct {
    const int8_t *keys;      /* (S, K) */
    const float *scales;     /* (S) */
    const int8_t *values;    /* (S, H) */
    const float *prior;      /* (S) */
    const int32_t *columns;  /* (S) where the output holds the token of each position */
    const int32_t *distinct; /* (U) the same, each once */
    const int32_t *own;      /* (N) tokens, in the order of their columns */
    int64_t positions, different, tokens;
} Source;

/* Slots, and room to compute as many rows. */
typedef struct {
    int8_t *hidden;    /* (2, slots, D) */
    float *cell;       /* (2, slots, D) */
    Source *sources;   /* (slots) */
    int8_t *rows;      /* (slots, 2 E + 2 D + H) */
    float *numbers;    /* (slots, most outputs of a product but the logits) */
    float *units;      /* (slots) */
    int32_t *excess;   /* (slots) */
    int16_t *shares;   /* (most positions, a multiple of 16) */
    int64_t slots, width; /* of numbers */
} State;

/* Adds 0, or NaN where x is not finite. */
static inline __m512 taint(__m512 sum, __m512 x)
{
    return _mm512_fmadd_ps(x, _mm512_setzero_ps(), sum);
}

/* Hochreiter & Schmidhuber 1997 with a gate for forgetting: gates (4, size) and cell (size) -> both states after them. */
static float recur(const float *gates, int64_t size, float *cell, int8_t *hidden)
{
    __m512 tainted = _mm512_setzero_ps();
    for (int64_t unit = 0; unit < size; unit += 16) {
        const __m512 enter = sigmoid(_mm512_loadu_ps(gates + unit));
        const __m512 forget = sigmoid(_mm512_loadu_ps(gates + size + unit));
        const __m512 leave = sigmoid(_mm512_loadu_ps(gates + 2 * size + unit));
        const __m512 change = hyperbolic_tangent(_mm512_loadu_ps(gates + 3 * size + unit));
        const __m512 kept = _mm512_mul_ps(forget, _mm512_loadu_ps(cell + unit));
        const __m512 state = _mm512_fmadd_ps(enter, change, kept);
        const __m512 said = _mm512_mul_ps(leave, hyperbolic_tangent(state));
        _mm512_storeu_ps(cell + unit, state);
        store_bytes(hidden + unit, _mm512_mul_ps(said, _mm512_set1_ps(UNIT)));
        tainted = taint(tainted, said);
    }
    return _mm512_reduce_add_ps(tainted);
}

/* The largest of some numbers as to their size, at least TINY; NaN if one is not finite. */
static float largest(const float *numbers, int64_t size)
{
    __m512 most = _mm512_set1_ps(TINY), tainted = _mm512_setzero_ps();
    for (int64_t place = 0; place < size; place += 16) {
        const __m512 x = _mm512_loadu_ps(numbers + place);
        most = _mm512_max_ps(most, _mm512_abs_ps(x));
        tainted = taint(tainted, x);
    }
    return _mm512_reduce_max_ps(most) + _mm512_reduce_add_ps(tainted);
}

/* Scores of a source's positions, (S) to `out`. The query (K) is overwritten: by int16, in units of its own. */
static void score(const Source *source, float *query, int64_t size, float *out)
{
    const float steps = size <= 512 ? 32767.0f : 32767.0f * 512 / size; /* so that sums stay within 32 bits */
    const float unit = largest(query, size) / steps;
    int16_t *asked = (int16_t *)query;
    for (int64_t place = 0; place < size; place += 16) {
        const __m512 x = _mm512_div_ps(_mm512_loadu_ps(query + place), _mm512_set1_ps(unit));
        _mm256_storeu_si256((__m256i *)(asked + place), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
    }
    for (int64_t position = 0; position < source->positions; position++) {
        const int8_t *key = source->keys + position * size;
        __m512i sums = _mm512_setzero_si512();
        for (int64_t place = 0; place < size; place += 32) {
            const __m512i words = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(key + place)));
            sums = _mm512_dpwssd_epi32(sums, words, _mm512_loadu_si512(asked + place));
        }
        const float sum = (float)_mm512_reduce_add_epi32(sums);
        out[position] = sum * (source->scales[position] * unit) + source->prior[position];
    }
}

/* Scores (S) in place to weights, zero up to `width`, a multiple of 16, and to `shares` as int16. Returns 0 or NaN. */
static float softmax(float *scores, int64_t positions, int64_t width, int16_t *shares)
{
    const int64_t whole = (positions + 15) / 16 * 16;
    for (int64_t place = positions; place < whole; place++)
        scores[place] = -INFINITY;
    __m512 most = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
    for (int64_t place = 0; place < whole; place += 16)
        most = _mm512_max_ps(most, _mm512_loadu_ps(scores + place));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int64_t place = 0; place < whole; place += 16) {
        const __m512 power = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + place), most));
        _mm512_storeu_ps(scores + place, power);
        sums = _mm512_add_ps(sums, power);
    }
    const float sum = _mm512_reduce_add_ps(sums);
    for (int64_t place = 0; place < whole; place += 16) {
        const __m512 weight = _mm512_div_ps(_mm512_loadu_ps(scores + place), _mm512_set1_ps(sum));
        _mm512_storeu_ps(scores + place, weight);
        const __m512i share = _mm512_cvtps_epi32(_mm512_mul_ps(weight, _mm512_set1_ps(SHARE)));
        _mm256_storeu_si256((__m256i *)(shares + place), _mm512_cvtsepi32_epi16(share));
    }
    memset(scores + whole, 0, (width - whole) * sizeof(float));
    return 0 * sum;
}

/* Values weighted by shares -> (H), two positions at once: of an odd number the last is read twice, once for nothing. */
static void attend(const Source *source, const int16_t *shares, int64_t size, int8_t *out)
{
    const __m512 factor = _mm512_set1_ps(1 / SHARE);
    for (int64_t place = 0; place < size; place += 32) {
        __m512i low = _mm512_setzero_si512(), high = low;
        for (int64_t position = 0; position < source->positions; position += 2) {
            const int8_t *one = source->values + position * size + place;
            const int8_t *other = position + 1 < source->positions ? one + size : one;
            int32_t pair;
            memcpy(&pair, shares + position, 4);
            const __m512i weights = _mm512_set1_epi32(pair);
            const __m512i words = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)one));
            const __m512i others = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)other));
            low = _mm512_dpwssd_epi32(low, _mm512_unpacklo_epi16(words, others), weights);
            high = _mm512_dpwssd_epi32(high, _mm512_unpackhi_epi16(words, others), weights);
        }
        low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(low), factor));
        high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(high), factor));
        _mm256_storeu_si256((__m256i *)(out + place), _mm512_cvtsepi16_epi8(_mm512_packs_epi32(low, high)));
    }
}

/* Logits of a source's own tokens. */
static void score_own(const Step *step, const Source *source, const int8_t *features, float unit, float *out)
{
    const int32_t excess = 128 * sum_of(features, step->embedded);
    for (int64_t number = 0; number < source->tokens; number++) {
        const int64_t token = source->own[number];
        const uint8_t *output = step->outputs + token * step->embedded;
        __m256i sums = _mm256_setzero_si256();
        for (int64_t place = 0; place < step->embedded; place += 32)
            sums = _mm256_dpbusd_epi32(
                sums, _mm256_loadu_si256((const __m256i *)(output + place)),
                _mm256_loadu_si256((const __m256i *)(features + place)));
        const int32_t sum = _mm512_reduce_add_epi32(_mm512_zextsi256_si512(sums)) - excess;
        out[number] = (float)sum * (step->scale[token] * unit) + step->bias[token];
    }
}

/* See et al. 2017, eq. 9: what is copied is added to what is generated. */
static void add_copies(const Source *source, const float *attention, float copied, float *scores)
{
    for (int64_t number = 0; number < source->different; number++)
        scores[source->distinct[number]] = expf(scores[source->distinct[number]]);
    for (int64_t position = 0; position < source->positions; position++)
        scores[source->columns[position]] += attention[position] * copied;
    for (int64_t number = 0; number < source->different; number++) {
        float *score = scores + source->distinct[number];
        *score = logf(*score < TINY ? TINY : *score); /* in this order NaN stays NaN */
    }
}

/* A product by itself: rows (count, inputs), units (count) -> out (count, outputs). excess: room for count numbers. */
void precis_multiply(
    const Product *product, int64_t count, const int8_t *rows, const float *units, float *out, int32_t *excess)
{
    multiply(product, rows, count, product->inputs, units, 0, out, product->outputs, excess);
}

/* Slot slots[i] continues from what slot parents[i] held (count): all are read before any is written. */
void precis_reorder(
    const Step *step, const State *state, const int64_t *slots, const int64_t *parents, int64_t count)
{
    const int64_t size = step->decoder;
    for (int layer = 0; layer < 2; layer++) {
        int8_t *const hidden = state->hidden + layer * state->slots * size;
        float *const cell = state->cell + layer * state->slots * size;
        for (int64_t row = 0; row < count; row++) {
            memcpy(state->rows + row * size, hidden + parents[row] * size, size);
            memcpy(state->numbers + row * size, cell + parents[row] * size, size * sizeof(float));
        }
        for (int64_t row = 0; row < count; row++) {
            memcpy(hidden + slots[row] * size, state->rows + row * size, size);
            memcpy(cell + slots[row] * size, state->numbers + row * size, size * sizeof(float));
        }
    }
}

/* Advances the rows in `slots` (count), no two the same, by the tokens that they wrote last.
 *
 * log_probabilities (count, columns): those of frequent tokens, then those of a row's own, then minus infinity; columns
 * is a multiple of 64, and enough for all. attention (count, width): zero beyond a row's own source; width is a multiple
 * of 16. copied (count). */
void precis_step(
    const Step *step, const State *state, const int64_t *slots, const int64_t *tokens, int64_t count,
    float *log_probabilities, int64_t columns, float *attention, int64_t width, float *copied)
{
    const int64_t embedded = step->embedded, encoded = step->encoded, decoder = step->decoder;
    const int64_t stride = 2 * embedded + 2 * decoder + encoded, layer = state->slots * decoder;
    float *const units = state->units, *const numbers = state->numbers;
    /* A row: what was written last, both hidden states with what is attended between them, what was written last. */
    int8_t *const inputs = state->rows, *const asked = inputs + embedded, *const attended = asked + decoder;
    int8_t *const written = attended + encoded, *const again = written + decoder;

    for (int64_t row = 0; row < count; row++) {
        const int8_t *hidden = state->hidden + slots[row] * decoder, *input = step->inputs + tokens[row] * embedded;
        memcpy(inputs + row * stride, input, embedded);
        memcpy(asked + row * stride, hidden, decoder);
        memcpy(written + row * stride, hidden + layer, decoder);
        memcpy(again + row * stride, input, embedded);
        units[row] = 1.0f / UNIT;
    }
    multiply(&step->ask, inputs, count, stride, units, 0, numbers, state->width, state->excess);
    for (int64_t row = 0; row < count; row++) {
        float *cell = state->cell + slots[row] * decoder;
        units[row] += recur(numbers + row * state->width, decoder, cell, asked + row * stride);
    }
    multiply(&step->query, asked, count, stride, units, 0, numbers, state->width, state->excess);
    for (int64_t row = 0; row < count; row++) {
        const Source *source = state->sources + slots[row];
        float *weights = attention + row * width;
        score(source, numbers + row * state->width, step->key, weights);
        units[row] += softmax(weights, source->positions, width, state->shares);
        attend(source, state->shares, encoded, attended + row * stride);
    }
    multiply(&step->write, asked, count, stride, units, 0, numbers, state->width, state->excess);
    for (int64_t row = 0; row < count; row++) {
        float *cell = state->cell + layer + slots[row] * decoder;
        units[row] += recur(numbers + row * state->width, decoder, cell, written + row * stride);
        int8_t *hidden = state->hidden + slots[row] * decoder;
        memcpy(hidden, asked + row * stride, decoder);
        memcpy(hidden + layer, written + row * stride, decoder);
    }
    multiply(&step->features, attended, count, stride, units, 0, numbers, state->width, state->excess);
    for (int64_t row = 0; row < count; row++) {
        const float *features = numbers + row * state->width;
        units[row] = largest(features, embedded) / 127;
        for (int64_t place = 0; place < embedded; place += 16)
            store_bytes(
                inputs + row * stride + place,
                _mm512_div_ps(_mm512_loadu_ps(features + place), _mm512_set1_ps(units[row])));
    }
    multiply(&step->logits, inputs, count, stride, units, 0, log_probabilities, columns, state->excess);
    for (int64_t row = 0; row < count; row++) {
        const Source *source = state->sources + slots[row];
        float *scores = log_probabilities + row * columns;
        const float gate = numbers[row * state->width + embedded];
        const float generated = gate < 0 ? gate - log1pf(expf(gate)) : -log1pf(expf(-gate)); /* log sigmoid(gate) */
        const int64_t every = step->frequent + source->tokens;
        score_own(step, source, inputs + row * stride, units[row], scores + step->frequent);
        for (int64_t column = every; column < columns; column++)
            scores[column] = -INFINITY;
        log_softmax(scores, (every + 63) / 64 * 64, generated);
        copied[row] = expf(generated - gate);
        add_copies(source, attention + row * width, copied[row], scores);
    }
}
