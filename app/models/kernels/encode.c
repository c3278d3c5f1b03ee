/* The encoder in int8: sources of different lengths, standing end to end, of which no padding is computed.
 *
 * The longest source comes first: those that go on at a step are then its first rows. What is encoded lies within -1 and
 * 1, and is rounded at UNIT. A number that is NaN makes the unit of its position NaN, and with it all that is computed
 * of that position and of those that the recurrence reaches after it.
 *
 * Words come again: half of the positions of some texts hold a token that others hold too. What is computed of a token
 * alone is computed once for each that is distinct.
 *
 * Shapes: B sources, N positions of all of them, M distinct tokens, E embedding, U units of a direction, H = 2 U, K key,
 * R relevance; from E on with zeros up to a multiple of LANES.
 */

#include <math.h>

#include "functions.h"
#include "product.h"

#define TOGETHER 64   /* rows that are multiplied at once: they stay in the cache */
#define COMPARED 9    /* vectors that tell whether another text begins, as in network.py */

/* One direction of a layer. Outputs are the input, forget, cell and output gates of sixteen units, then of the next. */
typedef struct {
    Product input;     /* with the biases of both */
    Product recurrent;
} Direction;

typedef struct {
    int64_t layers, embedding, units, keys, relevance; /* E, U, K; R or 0 */
    int64_t phrase, sentence;                          /* positions of the windows that are compared */
    const Direction *directions;                       /* (layers, 2): forwards and backwards */
    Product encoded, embedded; /* H, E -> K + R: of the keys, and of the relevance's tokens with their bias */
    const Product *compare;    /* (COMPARED) R -> R, the first with the bias */
    const float *begins;       /* (outputs of compare) */
    float begins_bias, compared; /* the number of R, without zeros */
    Product bridge; /* H -> 4 D */
} Encoder;

typedef struct {
    int64_t sources, positions, distinct; /* B, N, M */
    const int64_t *lengths;               /* (B), at least 1 each, the longest first; the sources stand end to end */
    const int64_t *tokens;                /* (N), of the distinct ones */
    const int8_t *embedded;               /* (M, E) */
    const float *units;                   /* (M) what 1 stands for in `embedded` */
} Batch;

typedef struct {
    int8_t *values; /* (N, H): UNIT for 1 */
    int8_t *keys;   /* (N, K) */
    float *scales;  /* (N) what 1 stands for in `keys` */
    float *prior;   /* (N) */
    float *start;   /* (B, outputs of the bridge) */
} Encoded;

/* Room for what is computed on the way. */
typedef struct {
    int64_t *first, *places;       /* (B): where a source begins, where it is read */
    int8_t *outputs[2];            /* (N, H), of the layers by turns but the last */
    float *units[2];               /* (N) what 1 stands for in outputs */
    float *table;                  /* (M or N, 4 U or K + R): of what is read, without what comes before or after */
    int8_t *hidden, *ends;         /* (B, U), (B, H) */
    float *hidden_units, *cell;    /* (B), (B, U) */
    float *gates;                  /* (B, 4 U) */
    float *projected;              /* (TOGETHER, K + R or R) */
    float *small, *sums, *vectors; /* of a source: (S, R) its tokens, (S + 1, R) all before, (COMPARED, R) */
    int8_t *seen;                  /* (COMPARED, TOGETHER, R) */
    float *seen_units;             /* (COMPARED, TOGETHER) */
    int32_t *excess;               /* (TOGETHER or B) */
} Scratch;

static int64_t most(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static int64_t least(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* The next `size` bytes, on a line of the cache. */
static void *take(char **room, int64_t size)
{
    char *taken = *room;
    *room += (size + 63) / 64 * 64;
    return taken;
}

static Scratch lay_out(const Encoder *encoder, const Batch *batch, char **room)
{
    const int64_t sources = batch->sources, positions = batch->positions, longest = batch->lengths[0];
    const int64_t half = encoder->units, relevance = encoder->relevance, spare = encoder->layers > 1 ? positions : 0;
    const int64_t projected = encoder->encoded.outputs, compared = relevance ? encoder->compare->outputs : 0;
    Scratch scratch;
    scratch.first = take(room, sources * sizeof(int64_t));
    scratch.places = take(room, sources * sizeof(int64_t));
    for (int turn = 0; turn < 2; turn++) {
        scratch.outputs[turn] = take(room, spare * 2 * half);
        scratch.units[turn] = take(room, positions * sizeof(float));
    }
    scratch.table = take(room, most(batch->distinct * most(4 * half, projected), spare * 4 * half) * sizeof(float));
    scratch.hidden = take(room, sources * half);
    scratch.ends = take(room, sources * 2 * half);
    scratch.hidden_units = take(room, sources * sizeof(float));
    scratch.cell = take(room, sources * half * sizeof(float));
    scratch.gates = take(room, sources * 4 * half * sizeof(float));
    scratch.projected = take(room, TOGETHER * most(projected, compared) * sizeof(float));
    scratch.small = take(room, longest * relevance * sizeof(float));
    scratch.sums = take(room, (longest + 1) * relevance * sizeof(float));
    scratch.vectors = take(room, COMPARED * relevance * sizeof(float));
    scratch.seen = take(room, COMPARED * TOGETHER * relevance);
    scratch.seen_units = take(room, COMPARED * TOGETHER * sizeof(float));
    scratch.excess = take(room, most(sources, TOGETHER) * sizeof(int32_t));
    return scratch;
}

/* One row of a recurrence by one step; what 1 stands for in its new state. */
static float turn(const float *gates, int64_t units, float *cell, int8_t *hidden, int8_t *output)
{
    __mmask16 none = 0;
    for (int64_t unit = 0; unit < units; unit += LANES, gates += 4 * LANES) {
        const __m512 input = sigmoid(_mm512_loadu_ps(gates)), forget = sigmoid(_mm512_loadu_ps(gates + LANES));
        const __m512 written = hyperbolic_tangent(_mm512_loadu_ps(gates + 2 * LANES));
        const __m512 shown = sigmoid(_mm512_loadu_ps(gates + 3 * LANES));
        const __m512 kept = _mm512_fmadd_ps(forget, _mm512_loadu_ps(cell + unit), _mm512_mul_ps(input, written));
        _mm512_storeu_ps(cell + unit, kept);
        const __m512 number = _mm512_mul_ps(_mm512_mul_ps(shown, hyperbolic_tangent(kept)), _mm512_set1_ps(UNIT));
        store_bytes(hidden + unit, number);
        none |= _mm512_cmp_ps_mask(number, number, _CMP_UNORD_Q);
    }
    memcpy(output, hidden, units);
    return none ? NAN : 1.0f / UNIT;
}

/* rows (count, inputs) -> the table (count, outputs). */
static void tabulate(
    const Product *product, const int8_t *rows, int64_t count, const float *units, const Scratch *scratch)
{
    const int64_t inputs = product->inputs, outputs = product->outputs;
    for (int64_t row = 0; row < count; row += TOGETHER) {
        const int64_t size = least(count - row, TOGETHER);
        multiply(
            product, rows + row * inputs, size, inputs, units + row, 0, scratch->table + row * outputs, outputs,
            scratch->excess);
    }
}

/* One direction of a layer, with its inputs in the table, at `tokens` of it -> its half of outputs (N, H). The unit of a
 * position turns NaN, or stays. */
static void recur(
    const Encoder *encoder, const Direction *direction, int backwards, const Batch *batch, const Scratch *scratch,
    const int64_t *tokens, int8_t *outputs, float *output_units)
{
    const int64_t units = encoder->units, width = 4 * units, half = backwards ? units : 0;
    memset(scratch->hidden, 0, batch->sources * units);
    memset(scratch->cell, 0, batch->sources * units * sizeof(float));
    for (int64_t row = 0; row < batch->sources; row++)
        scratch->hidden_units[row] = 1.0f / UNIT;
    int64_t rows = batch->sources;
    for (int64_t step = 0; step < batch->lengths[0]; step++) {
        while (batch->lengths[rows - 1] <= step)
            rows--;
        for (int64_t row = 0; row < rows; row++) {
            const int64_t place = scratch->first[row] + (backwards ? batch->lengths[row] - 1 - step : step);
            const float *input = scratch->table + (tokens ? tokens[place] : place) * width;
            memcpy(scratch->gates + row * width, input, width * sizeof(float));
            scratch->places[row] = place;
        }
        multiply(
            &direction->recurrent, scratch->hidden, rows, units, scratch->hidden_units, 1, scratch->gates, width,
            scratch->excess);
        for (int64_t row = 0; row < rows; row++) {
            const int64_t place = scratch->places[row];
            const float unit = turn(
                scratch->gates + row * width, units, scratch->cell + row * units, scratch->hidden + row * units,
                outputs + place * 2 * units + half);
            scratch->hidden_units[row] = unit;
            output_units[place] = isnan(unit) ? unit : output_units[place];
        }
    }
}

/* The sums of R over the positions from `from` to before `to`, divided by `share`. */
static void mean(const float *sums, int64_t size, int64_t from, int64_t to, int64_t share, float *out)
{
    const __m512 factor = _mm512_set1_ps(1.0f / (float)share);
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 end = _mm512_loadu_ps(sums + to * size + place), start = _mm512_loadu_ps(sums + from * size + place);
        _mm512_storeu_ps(out + place, _mm512_mul_ps(_mm512_sub_ps(end, start), factor));
    }
}

/* What tells whether another text begins at a position of `length`, as network.Relevance: (COMPARED, R). */
static void compare(const Encoder *encoder, const Scratch *scratch, int64_t position, int64_t length, float *out)
{
    const int64_t size = encoder->relevance, row = size * sizeof(float);
    const int64_t phrase = encoder->phrase, sentence = encoder->sentence;
    const int64_t near = least(phrase, position), far = least(sentence, position), left = length - position;
    float *after = out + 4 * size, *same = out + 5 * size;
    mean(scratch->sums, size, position - near, position, near, out);
    mean(scratch->sums, size, position - far, position, far, out + size);
    mean(scratch->sums, size, 0, position, position, out + 2 * size);
    mean(scratch->sums, size, position, position + least(phrase, left), phrase, out + 3 * size);
    mean(scratch->sums, size, position, position + least(sentence, left), sentence, after);
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 coming = _mm512_mul_ps(_mm512_loadu_ps(after + place), _mm512_set1_ps(encoder->compared));
        _mm512_storeu_ps(same + place, _mm512_mul_ps(_mm512_loadu_ps(out + size + place), coming));
        _mm512_storeu_ps(same + size + place, _mm512_mul_ps(_mm512_loadu_ps(out + 2 * size + place), coming));
    }
    memcpy(out + 7 * size, scratch->small + (position - 1) * size, row);
    memcpy(out + 8 * size, scratch->small + position * size, row);
}

/* Logit of another text beginning, from what `compare` became: (outputs of compare). */
static float begins(const Encoder *encoder, const float *compared)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t place = 0; place < encoder->compare->outputs; place += LANES) {
        const __m512 positive = _mm512_max_ps(_mm512_setzero_ps(), _mm512_loadu_ps(compared + place)); /* NaN stays */
        sum = _mm512_fmadd_ps(positive, _mm512_loadu_ps(encoder->begins + place), sum);
    }
    return _mm512_reduce_add_ps(sum) + encoder->begins_bias;
}

/* Of one source, whose tokens and their sums are in `scratch`: prior (length). */
static void survive(const Encoder *encoder, const Scratch *scratch, int64_t length, float *prior)
{
    const int64_t size = encoder->relevance, width = encoder->compare->outputs;
    prior[0] = 0.0f;
    for (int64_t start = 1; start < length; start += TOGETHER) {
        const int64_t count = least(length - start, TOGETHER);
        for (int64_t row = 0; row < count; row++) {
            compare(encoder, scratch, start + row, length, scratch->vectors);
            for (int64_t number = 0; number < COMPARED; number++) {
                const int64_t own = number * TOGETHER + row;
                scratch->seen_units[own] = round_row(scratch->vectors + number * size, size, scratch->seen + own * size);
            }
        }
        for (int64_t number = 0; number < COMPARED; number++)
            multiply(
                encoder->compare + number, scratch->seen + number * TOGETHER * size, count, size,
                scratch->seen_units + number * TOGETHER, number > 0, scratch->projected, width, scratch->excess);
        for (int64_t row = 0; row < count; row++) {
            const float logit = begins(encoder, scratch->projected + row * width);
            const float another = (logit < 0.0f ? 0.0f : logit) + log1pf(expf(-fabsf(logit)));
            prior[start + row] = prior[start + row - 1] - another; /* log of 1 - P = log sigmoid(-logit) */
        }
    }
}

/* Keys of one source, which begins at `first`, and the small vectors of its tokens with their running sums. What the
 * tokens give to both is in the table. */
static void project(
    const Encoder *encoder, const Batch *batch, const Scratch *scratch, int64_t first, int64_t length, const float *units,
    const Encoded *encoded)
{
    const int64_t wide = 2 * encoder->units, size = encoder->relevance, width = encoder->encoded.outputs;
    float *small = scratch->small, *sums = scratch->sums;
    memset(sums, 0, size * sizeof(float));
    for (int64_t start = first; start < first + length; start += TOGETHER) {
        const int64_t count = least(first + length - start, TOGETHER);
        float *row = scratch->projected;
        for (int64_t place = 0; place < count; place++)
            memcpy(row + place * width, scratch->table + batch->tokens[start + place] * width, width * sizeof(float));
        multiply(
            &encoder->encoded, encoded->values + start * wide, count, wide, units + start, 1, row, width, scratch->excess);
        for (int64_t place = start; place < start + count; place++, row += width, small += size, sums += size) {
            encoded->scales[place] = round_row(row, encoder->keys, encoded->keys + place * encoder->keys);
            for (int64_t unit = 0; unit < size; unit += LANES) {
                const __m512 number = hyperbolic_tangent(_mm512_loadu_ps(row + encoder->keys + unit));
                _mm512_storeu_ps(small + unit, number);
                _mm512_storeu_ps(sums + size + unit, _mm512_add_ps(_mm512_loadu_ps(sums + unit), number));
            }
        }
    }
}

/* Where the decoder starts: tanh of the bridge from the last outputs of both directions. */
static void begin(
    const Encoder *encoder, const Batch *batch, const Scratch *scratch, const float *units, const Encoded *encoded)
{
    const int64_t half = encoder->units, wide = 2 * half, width = encoder->bridge.outputs;
    for (int64_t row = 0; row < batch->sources; row++) {
        const int64_t first = scratch->first[row], last = first + batch->lengths[row] - 1;
        memcpy(scratch->ends + row * wide, encoded->values + last * wide, half);
        memcpy(scratch->ends + row * wide + half, encoded->values + first * wide + half, half);
        scratch->hidden_units[row] = units[first]; /* which every position has reached, should one be NaN */
    }
    multiply(
        &encoder->bridge, scratch->ends, batch->sources, wide, scratch->hidden_units, 0, encoded->start, width,
        scratch->excess);
    for (int64_t place = 0; place < batch->sources * width; place += LANES)
        _mm512_storeu_ps(encoded->start + place, hyperbolic_tangent(_mm512_loadu_ps(encoded->start + place)));
}

/* Bytes that `precis_encode` needs beside its results. */
int64_t precis_encode_room(const Encoder *encoder, const Batch *batch)
{
    char *end = NULL;
    lay_out(encoder, batch, &end);
    return end - (char *)NULL;
}

void precis_encode(const Encoder *encoder, const Batch *batch, const Encoded *encoded, char *room)
{
    const Scratch scratch = lay_out(encoder, batch, &room);
    int64_t first = 0, distinct = batch->distinct;
    for (int64_t row = 0; row < batch->sources; first += batch->lengths[row++])
        scratch.first[row] = first;
    const int8_t *inputs = batch->embedded;
    const float *units = batch->units;
    const int64_t *tokens = batch->tokens;
    for (int64_t layer = 0; layer < encoder->layers; layer++) {
        int8_t *outputs = layer + 1 < encoder->layers ? scratch.outputs[layer % 2] : encoded->values;
        float *output_units = scratch.units[layer % 2];
        for (int64_t place = 0; place < batch->positions; place++)
            output_units[place] = 1.0f / UNIT;
        for (int side = 0; side < 2; side++) {
            const Direction *direction = encoder->directions + 2 * layer + side;
            tabulate(&direction->input, inputs, distinct, units, &scratch);
            recur(encoder, direction, side, batch, &scratch, tokens, outputs, output_units);
        }
        inputs = outputs, units = output_units, distinct = batch->positions, tokens = NULL;
    }
    begin(encoder, batch, &scratch, units, encoded);
    tabulate(&encoder->embedded, batch->embedded, batch->distinct, batch->units, &scratch);
    memset(encoded->prior, 0, batch->positions * sizeof(float));
    for (int64_t row = 0; row < batch->sources; row++) {
        project(encoder, batch, &scratch, scratch.first[row], batch->lengths[row], units, encoded);
        if (encoder->relevance)
            survive(encoder, &scratch, batch->lengths[row], encoded->prior + scratch.first[row]);
    }
}
